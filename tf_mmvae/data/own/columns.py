"""Kinds of columns in a manifest: pictures, texts and vectors, each a modality of an example."""

import os

import numpy as np

from tf_mmvae import arrays, pictures


class Picture:
  """Paths of pictures of any size and mode; each is read as a whole and resized.

  Args:
    shape: (H, W, C) of an observation; C = 1 for grey, 3 for colours.
    column: the column's header; None for the modality's name.

  Raises:
    ValueError: for another shape.
  """

  of_files = True

  def __init__(self, shape: tuple[int, int, int] = (64, 64, 3), column: str | None = None):
    if len(shape) != 3 or not all(map(_is_size, shape)) or shape[2] not in (1, 3):
      raise ValueError("the shape of a picture must be (height, width, channels) with 1 or 3 "
                       f"channels, got {shape!r}")
    self.shape, self.column = tuple(shape), column

  def __str__(self):
    return "picture {}x{}x{}".format(*self.shape)

  def read(self, path: str | os.PathLike) -> np.ndarray:
    """uint8 [H, W, C]; raises ValueError if the file is no picture, or damaged."""
    return pictures.read(path, self.shape)


class Text:
  """Texts as they stand in the cells; one without a visible character is missing.

  Args:
    column: the column's header; None for the modality's name.
  """

  of_files = False

  def __init__(self, column: str | None = None):
    self.column = column

  def __str__(self):
    return "text"


class Vector:
  """Paths of vectors in files that `np.save` wrote.

  Args:
    size: how many numbers a vector has.
    column: the column's header; None for the modality's name.

  Raises:
    ValueError: for a size below 1.
  """

  of_files = True

  def __init__(self, size: int, column: str | None = None):
    if not _is_size(size):
      raise ValueError(f"the size of a vector must be a whole number of at least 1, got {size!r}")
    self.shape, self.column = (size,), column

  def __str__(self):
    return f"vector of {self.shape[0]}"

  def read(self, path: str | os.PathLike) -> np.ndarray:
    """float32 [size]; raises ValueError for other shapes, for NaN and infinity."""
    return arrays.read(path, self.shape, np.float32)


def _is_size(value):
  return isinstance(value, int) and not isinstance(value, bool) and value >= 1
