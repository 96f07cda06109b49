"""Arrays of numbers in files of NumPy."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def read(path: str | os.PathLike, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
  """An array that `np.save` wrote.

  Args:
    path: of the file.
    shape: that it must have.
    dtype: of the result.

  Raises:
    ValueError: if the file is none, or holds other shapes, no numbers, or NaN or infinity in
      `dtype`.
  """
  try:
    values = np.load(path, allow_pickle=False)
  except Exception as error:  # of many kinds, for a header that is none
    raise ValueError(f"{path} is not an array as np.save writes it") from error
  expected = f"expected numbers of shape {list(shape)}"
  if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
    raise ValueError(f"{path} holds no numbers: {expected}")
  if values.shape != tuple(shape):
    raise ValueError(f"{path} is of shape {list(values.shape)}: {expected}")
  with np.errstate(over="ignore", invalid="ignore"):
    found = values.astype(dtype)
  if not np.all(np.isfinite(values) & np.isfinite(found)):  # integers have no NaN
    raise ValueError(f"{path} holds NaN or infinity in {np.dtype(dtype)}: {expected}, all finite")
  return found
