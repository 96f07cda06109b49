"""Means with their standard errors."""

import numpy as np
from numpy.typing import ArrayLike

from tf_mmvae.metrics.findings import Figure


def mean_and_error(values: ArrayLike, groups: ArrayLike | None = None) -> Figure:
  """(mean, standard error, number of values) of values [N].

  Args:
    values: one an example.
    groups: int [N] or None; examples of one group, such as the captions of one picture, are not
      independent of one another, so that the error is that of a mean over groups (Liang and Zeger
      1986, for a mean).

  Returns:
    The error is NaN for a single example or group; so is the mean of no values.
  """
  values = np.asarray(values, np.float64)
  if not values.size:
    return float("nan"), float("nan"), 0
  _, groups = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
  num_groups = groups.max() + 1
  deviations = np.bincount(groups, values - values.mean())  # a sum each
  error = float("nan")
  if num_groups > 1:
    variance = np.sum(deviations**2) * num_groups / (num_groups - 1)
    error = float(np.sqrt(variance) / len(values))
  return float(values.mean()), error, len(values)
