"""Street View House Numbers (Netzer et al. 2011) from the official files, and MNIST-SVHN."""

import os
import zlib

import numpy as np
import scipy.io

from tf_mmvae.data.digits import class_pairs, mnist, official_files
from tf_mmvae.data.examples import Examples

_FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


def mnist_svhn(split: str, manual_dir: str | os.PathLike | None = None,
               data_dir: str | os.PathLike | None = None, num_permutations: int = 30,
               max_per_class: int = 10000, seed: int = 0) -> Examples:
  """Pairs of an MNIST digit and a house number of its class, as Shi et al. (2019) make them.

  Args:
    split: a TFDS split, taken of either data set, such as "train[5%:]"; "train" makes the paper's
      1,682,040 pairs, "test" its 300,000.
    manual_dir: the folder that holds `mnist/` and `svhn/`; what it lacks is downloaded.
    data_dir: where downloads are kept; None for the folder of tensorflow-datasets.
    num_permutations: pairs that each digit is in.
    max_per_class: digits of a class at most.
    seed: of the pairing.

  Returns:
    `Examples` with x = {"mnist": float32 [B, 28, 28, 1], "svhn": float32 [B, 32, 32, 3]}, both in
    [0, 1], and y = {"digit": int32 [B], "mnist_index", "svhn_index": int32 [B]}.

  Raises:
    FileNotFoundError: a file is neither there nor to be had.
    ValueError: a damaged file, or no such split.
  """
  sources = {"mnist": mnist.mnist(split, manual_dir, data_dir),
             "svhn": svhn(split, manual_dir, data_dir)}
  return class_pairs.pairs("mnist_svhn", sources, num_permutations, max_per_class, seed)


def svhn(split: str, manual_dir: str | os.PathLike | None = None,
         data_dir: str | os.PathLike | None = None) -> class_pairs.Labelled:
  """House numbers, float32 [32, 32, 3] in [0, 1], as `class_pairs.Labelled`, by their digit.

  Args:
    split: a TFDS split, such as "train[5%:]" or "test".
    manual_dir: the folder that holds `svhn/` with train_32x32.mat and test_32x32.mat; where it does
      not, they are downloaded.
    data_dir: where downloads are kept; None for the folder of tensorflow-datasets.

  Raises:
    FileNotFoundError: a file is neither there nor to be had.
    ValueError: a damaged file, or no such split.
  """
  part = official_files.part_of("svhn", split, _FILES)
  name = _FILES[part]
  path = official_files.find("svhn", "svhn_cropped", [name], manual_dir, data_dir)[name]
  images, labels = _read_mat(path)
  positions = official_files.positions("svhn", split, part, len(images))
  return class_pairs.of_array(images[positions], labels[positions])


def _read_mat(path):
  """uint8 [N, 32, 32, 3] and int32 [N] of X [32, 32, 3, N] and y [N, 1], in which 10 is digit 0."""
  try:
    content = scipy.io.loadmat(path)
    images, labels = content["X"], content["y"].reshape([-1]).astype(np.int32)
  except (OSError, EOFError, KeyError, ValueError, TypeError, NotImplementedError, zlib.error,
          scipy.io.matlab.MatReadError) as error:
    raise ValueError(f"{path} is no file of house numbers, or damaged ({error}): fetch it "
                     "again") from error
  shape = (32, 32, 3, len(labels))
  if images.dtype != np.uint8 or images.shape != shape or not np.all((labels > 0) & (labels < 11)):
    raise ValueError(
        f"{path}: expected X of bytes {list(shape)} and y from 1 to 10, got X of "
        f"{images.dtype} {list(images.shape)} and y from {labels.min()} to {labels.max()}")
  return np.ascontiguousarray(np.moveaxis(images, -1, 0)), labels % 10
