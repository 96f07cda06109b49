import numpy as np
import pytest

from tf_mmvae import arrays

EXPECTED = r"expected numbers of shape \[3\]"


def saved(path, values):
  np.save(path, values, allow_pickle=True)
  return path


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.uint32, bool])
@pytest.mark.parametrize("asked", [np.float32, np.int32])
def test_numbers_of_any_type(tmp_path, dtype, asked):
  values = np.array([[0, 1, 1]], dtype)
  read = arrays.read(saved(tmp_path / "a.npy", values), [1, 3], asked)
  assert read.dtype == asked
  np.testing.assert_array_equal(read, values.astype(asked))


def test_a_single_number(tmp_path):
  assert arrays.read(saved(tmp_path / "a.npy", np.float32(2)), (), np.float32) == 2


@pytest.mark.parametrize("values, said", [
  (np.zeros(4), rf"is of shape \[4\]: {EXPECTED}"),
  (np.zeros([1, 3]), rf"is of shape \[1, 3\]: {EXPECTED}"),
  (np.float32(1), rf"is of shape \[\]: {EXPECTED}"),
  (np.array([0, np.nan, 0]), f"holds NaN or infinity in float32: {EXPECTED}, all finite"),
  (np.array([0, -np.inf, 0]), f"holds NaN or infinity in float32: {EXPECTED}, all finite"),
  (np.array([0, 1e300, 0]), f"holds NaN or infinity in float32: {EXPECTED}, all finite"),
  (np.array(["a", "b", "c"]), f"holds no numbers: {EXPECTED}"),
  (np.zeros(3, complex), f"holds no numbers: {EXPECTED}"),
  (np.array([None] * 3), "is not an array as np.save writes it"),
])
def test_what_does_not_fit(tmp_path, values, said):
  with pytest.raises(ValueError, match=rf"a.npy {said}$"):
    arrays.read(saved(tmp_path / "a.npy", values), (3,), np.float32)


def test_integers_have_no_nan(tmp_path):
  with pytest.raises(ValueError, match="a.npy holds NaN or infinity in int32: "):
    arrays.read(saved(tmp_path / "a.npy", np.array([0, np.nan, 0])), (3,), np.int32)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_no_file_of_numpy(tmp_path, content):
  (tmp_path / "a.npy").write_bytes(content)
  with pytest.raises(ValueError, match="a.npy is not an array as np.save writes it$"):
    arrays.read(tmp_path / "a.npy", (3,), np.float32)


def test_several_arrays_in_one_file(tmp_path):
  np.savez(tmp_path / "a.npz", np.zeros(3))
  with pytest.raises(ValueError, match=f"a.npz holds no numbers: {EXPECTED}$"):
    arrays.read(tmp_path / "a.npz", (3,), np.float32)


def test_a_large_number_warns_nobody(tmp_path):
  with np.errstate(all="raise"), pytest.raises(ValueError, match="holds NaN or infinity"):
    arrays.read(saved(tmp_path / "a.npy", np.array([1e300])), (1,), np.float32)
