import numpy as np
import pytest
import scipy.io

from tests.data.digits import mnist_test
from tf_mmvae.data.digits import svhn

NUM = {"train": 80, "test": 40}


def numbers(split):
  rng = np.random.default_rng(10 + list(NUM).index(split))
  return (rng.integers(0, 256, [32, 32, 3, NUM[split]], np.uint8),
          rng.permutation(np.arange(NUM[split]) % 10 + 1).astype(np.uint8)[:, np.newaxis])


def write_source(manual_dir):
  """House numbers in the official format: X [32, 32, 3, N], y [N, 1] in which 10 is digit 0."""
  (manual_dir / "svhn").mkdir(parents=True)
  for split in NUM:
    images, labels = numbers(split)
    scipy.io.savemat(manual_dir / "svhn" / f"{split}_32x32.mat", {"X": images, "y": labels},
                     do_compression=True)


@pytest.fixture
def source(tmp_path):
  mnist_test.write_source(tmp_path)
  write_source(tmp_path)
  return tmp_path


@pytest.mark.parametrize("split", NUM)
def test_numbers_are_those_of_the_file(source, split):
  found = svhn.svhn(split, source)
  images, labels = numbers(split)
  assert set(found.labels) == set(range(10))
  np.testing.assert_array_equal(found.labels == 0, labels[:, 0] == 10)
  np.testing.assert_array_equal(found.labels[found.labels > 0], labels[labels < 10])
  for i in range(NUM[split]):
    np.testing.assert_allclose(found.read([i])[0], images[:, :, :, i] / 255, rtol=1e-6)


def test_parts_of_a_split(source):
  found = svhn.svhn("train[75%:]", source)
  np.testing.assert_array_equal(found.labels, numbers("train")[1][60:, 0] % 10)
  np.testing.assert_allclose(
      found.read([0, 19]), np.moveaxis(numbers("train")[0], -1, 0)[[60, 79]] / 255, rtol=1e-6)


def test_pairs_are_of_one_class(source):
  data = svhn.mnist_svhn("train", source, num_permutations=3)
  assert data.num_examples == 3 * 60  # 6 digits of each class in MNIST, 8 here
  ((x, y, mask),) = data.batches(1000)
  assert mask == {}
  images, classes = mnist_test.digits("train")
  np.testing.assert_array_equal(classes[y["mnist_index"]], y["digit"])
  np.testing.assert_array_equal(numbers("train")[1][y["svhn_index"], 0] % 10, y["digit"])
  np.testing.assert_allclose(x["mnist"][..., 0], images[y["mnist_index"]] / 255, rtol=1e-6)
  assert x["svhn"].shape == [180, 32, 32, 3]
  assert svhn.mnist_svhn("test", source, num_permutations=1, max_per_class=2).num_examples == 20


@pytest.mark.parametrize("content, said", [
    ({"X": np.zeros([32, 32, 3, 4], np.uint8)}, "no file of house numbers"),
    ({"X": np.zeros([4, 32, 32, 3], np.uint8), "y": np.ones([4, 1])}, r"got X of uint8 \[4, 32"),
    ({"X": np.zeros([32, 32, 3, 4]), "y": np.ones([4, 1])}, "got X of float64"),
    ({"X": np.zeros([32, 32, 3, 4], np.uint8), "y": np.zeros([4, 1])}, "y from 0 to 0"),
    ({"X": np.zeros([32, 32, 3, 3], np.uint8), "y": np.ones([4, 1])}, r"expected X of bytes .*4\]"),
    (b"MATLAB", "no file of house numbers"), (b"", "no file of house numbers"),
    (b"\x89HDF\r\n\x1a\n" + bytes(600), "no file of house numbers")])
def test_damaged_files(source, content, said):
  path = source / "svhn" / "train_32x32.mat"
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    scipy.io.savemat(path, content)
  with pytest.raises(ValueError, match=said) as error:
    svhn.svhn("train", source)
  assert str(path) in str(error.value)


def test_a_file_that_is_cut(source):
  path = source / "svhn" / "train_32x32.mat"
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(ValueError, match="or damaged .*: fetch it again"):
    svhn.svhn("train", source)
