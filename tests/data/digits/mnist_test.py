import gzip
import hashlib
import struct

import numpy as np
import pytest

from tests.data.cub.dataset_test import REAL_DATA
from tf_mmvae.data.digits import mnist

NAMES = {("train", 3): "train-images-idx3-ubyte.gz", ("train", 1): "train-labels-idx1-ubyte.gz",
         ("test", 3): "t10k-images-idx3-ubyte.gz", ("test", 1): "t10k-labels-idx1-ubyte.gz"}
NUM = {"train": 60, "test": 30}


def write_idx(path, values):
  """The format as its authors tell it: a magic number, the sides, the bytes."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with gzip.open(path, "wb") as file:
    file.write(struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I",
                                                                    *values.shape))
    file.write(values.astype(np.uint8).tobytes())


def digits(split):
  """A bright bar whose row is the class, over noise that tells the digits apart."""
  rng = np.random.default_rng(list(NUM).index(split))
  labels = np.arange(NUM[split]) % 10
  images = rng.integers(0, 60, [NUM[split], 28, 28])
  for image, label in zip(images, labels, strict=True):
    image[2 * label + 4 : 2 * label + 6, 6:22] = 255
  return images, labels


def write_source(manual_dir):
  for split in NUM:
    images, labels = digits(split)
    write_idx(manual_dir / "mnist" / NAMES[split, 3], images)
    write_idx(manual_dir / "mnist" / NAMES[split, 1], labels)


@pytest.fixture
def source(tmp_path):
  write_source(tmp_path)
  return tmp_path


@pytest.mark.parametrize("split", NUM)
def test_arrays_are_those_of_the_files(source, split):
  images, labels, positions = mnist.arrays(split, source)
  expected, classes = digits(split)
  np.testing.assert_array_equal(images, expected[..., np.newaxis])
  np.testing.assert_array_equal(labels, classes)
  np.testing.assert_array_equal(positions, np.arange(NUM[split]))


def test_parts_of_a_split(source):
  first, rest = (mnist.arrays(f"train[{part}]", source) for part in (":5%", "5%:"))
  assert (len(first[0]), len(rest[0])) == (3, 57)
  whole = mnist.arrays("train", source)
  for i in range(3):
    np.testing.assert_array_equal(np.concatenate([first[i], rest[i]]), whole[i])


def test_a_source_of_digits(source):
  source = mnist.mnist("test", source)
  images, labels = digits("test")
  np.testing.assert_allclose(source.read([3, 7])[..., 0], images[[3, 7]] / 255, rtol=1e-6)
  np.testing.assert_array_equal(source.labels, labels)


@pytest.mark.parametrize("split", ["valid", "train[:0]", "train[7", "train[100:]", None])
def test_no_such_split(source, split):
  with pytest.raises(ValueError, match="data set 'mnist': expected a"):
    mnist.arrays(split, source)


@pytest.mark.parametrize("content, said", [
    (b"not gzip", "is damaged"), (gzip.compress(b""), "is no file of digits"),
    (gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 60, 28, 28) + b"123"), "or cut short"),
    (gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 1, 27, 28) + bytes(756)), "no file of digits"),
    (gzip.compress(struct.pack(">HBB3I", 0, 9, 3, 1, 28, 28) + bytes(784)), "no file of digits"),
    (gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 1, 28, 28) + bytes(784)), "has 1 digits, but")],
    ids=["no gzip", "empty", "cut short", "27 rows", "another kind", "one digit"])  # not the time
def test_damaged_files(source, content, said):
  path = source / "mnist" / NAMES["train", 3]
  path.write_bytes(content)
  with pytest.raises(ValueError, match=said) as error:
    mnist.arrays("train", source)
  assert str(path) in str(error.value) and "again" in str(error.value)


def test_a_file_that_is_cut(source):
  path = source / "mnist" / NAMES["train", 3]
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match="is damaged"):
    mnist.arrays("train", source)


@pytest.mark.skipif(not (REAL_DATA / "mnist").is_dir(), reason="the real digits are not here")
def test_the_real_digits():
  images, labels, _ = mnist.arrays("train", REAL_DATA)
  path = REAL_DATA / "mnist" / NAMES["train", 3]
  content = gzip.decompress(path.read_bytes())
  assert hashlib.md5(content).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
  assert images.tobytes() == content[16:]
  assert np.bincount(labels).tolist() == [
      5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
