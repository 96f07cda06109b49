"""MNIST: handwritten digits (LeCun, Cortes and Burges), from the official files."""

import gzip
import os
import zlib

import numpy as np

from tf_mmvae.data.digits import official_files
from tf_mmvae.data.digits.class_pairs import Labelled, of_array

_FILES = {"train": "train-{}-ubyte.gz", "test": "t10k-{}-ubyte.gz"}


def mnist(split: str, manual_dir: str | os.PathLike | None = None,
          data_dir: str | os.PathLike | None = None) -> Labelled:
  """Digits, float32 [28, 28, 1] in [0, 1], as `class_pairs.Labelled`; arguments as in `arrays`."""
  images, labels, _ = arrays(split, manual_dir, data_dir)
  return of_array(images, labels)


def arrays(split: str, manual_dir: str | os.PathLike | None = None,
           data_dir: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Digits of a split, in the order of the files.

  Args:
    split: a TFDS split, such as "train[5%:]" or "test".
    manual_dir: the folder that holds `mnist/` with the official files (train-images-idx3-ubyte.gz
      and so on); where it does not, they are downloaded.
    data_dir: where downloads are kept; None for the folder of tensorflow-datasets.

  Returns:
    images: uint8 [N, 28, 28, 1].
    labels: int32 [N].
    positions: int64 [N] in the whole of "train" or "test".

  Raises:
    FileNotFoundError: a file is neither there nor to be had.
    ValueError: a damaged file, or no such split.
  """
  part = official_files.part_of("mnist", split, _FILES)
  names = [_FILES[part].format(kind) for kind in ("images-idx3", "labels-idx1")]
  paths = official_files.find("mnist", "mnist", names, manual_dir, data_dir)
  images, labels = (_read_idx(paths[name], shape)
                    for name, shape in zip(names, [(28, 28), ()], strict=True))
  if len(images) != len(labels):
    raise ValueError(f"{paths[names[0]]} has {len(images)} digits, but {paths[names[1]]} "
                     f"{len(labels)} labels: fetch them again")
  positions = official_files.positions("mnist", split, part, len(images))
  return images[positions, ..., np.newaxis], labels[positions].astype(np.int32), positions


def _read_idx(path, shape):
  """uint8 [N, *shape]: after 00 00 08 and the rank, each side in four bytes, then the values."""
  try:
    with gzip.open(path) as file:
      content = file.read()
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f"{path} is damaged ({error}): fetch it again") from error
  end = 4 + 4 * (1 + len(shape))
  sides = np.frombuffer(content[4:end].ljust(end - 4), ">u4")
  values = content[end:]
  if (content[:4] != bytes([0, 0, 8, len(sides)]) or tuple(sides[1:]) != shape
      or len(values) != np.prod(sides, dtype=np.int64)):
    raise ValueError(f"{path} is no file of {'digits' if shape else 'labels'} in the format of "
                     "MNIST, or cut short: fetch it again")
  return np.frombuffer(values, np.uint8).reshape(sides)
