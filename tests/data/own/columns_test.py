import numpy as np
import pytest

from tf_mmvae.data.own import columns


def saved(path, values):
  np.save(path, values)
  return path


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, bool])
def test_vectors_of_any_numbers(tmp_path, dtype):
  values = np.array([0, 1, 1], dtype)
  read = columns.Vector(3).read(saved(tmp_path / "a.npy", values))
  assert read.dtype == np.float32
  np.testing.assert_array_equal(read, values.astype(np.float32))


@pytest.mark.parametrize("values, said", [
  (np.zeros(4), r"is of shape \[4\]: expected numbers of shape \[3\]"),
  (np.array([0, np.nan, 0]), r"holds NaN or infinity in float32: expected numbers of shape \[3\]"),
])
def test_what_is_no_vector(tmp_path, values, said):
  with pytest.raises(ValueError, match=rf"a.npy {said}"):
    columns.Vector(3).read(saved(tmp_path / "a.npy", values))


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (0, 64, 3), (64.0, 64, 3), (True, 1, 3)])
def test_bad_shapes(shape):
  with pytest.raises(ValueError, match="the shape of a picture must be"):
    columns.Picture(shape)


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", True])
def test_bad_sizes(size):
  with pytest.raises(ValueError, match="the size of a vector must be a whole number of at least 1"):
    columns.Vector(size)
