"""Examples of arrays that are already in memory, split at random where that is asked for."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mmvae.data.examples import Examples, on_cpu


def from_arrays(
  x: Mapping[str, Any],
  labels: Mapping[str, Any] | None = None,
  mask: Mapping[str, Any] | None = None,
  name: str = "arrays",
  fractions: Sequence[float] | None = None,
  seed: int = 0,
) -> Examples | tuple[Examples, ...]:
  """Examples of NumPy arrays, or of whatever `np.asarray` makes arrays of.

  Floats become float32 and whole numbers int32. Nothing is scaled: pictures of whole numbers from 0
  to 255 are for the caller to divide by 255, as most likelihoods want floats in [0, 1].

  Args:
    x: {modality: [N, ...]}, floats, or whole numbers such as word ids.
    labels: {label: [N]}, whole numbers, truth values (int32 as well), floats or strings; they
      become `y`.
    mask: {modality: bool [N]}, which examples have it. A modality that is not named is there for
      all. An absent observation may hold anything, NaN too.
    name: the data set's name, for messages.
    fractions: numbers above 0 that sum to 1, such as (0.8, 0.1, 0.1), for as many parts. Every
      example is in one of them, drawn at random; the sizes are by the largest remainder.
    seed: of that draw, a whole number of at least 0.

  Returns:
    `Examples`, with a mask of each modality that some example lacks. With `fractions` a tuple of
    them, each in the order of the arrays; all share the arrays' memory.

  Raises:
    ValueError: there is no modality or no example, or nothing is present; lengths differ; an array
      is of another kind, or a number does not fit float32 or int32; a present observation holds NaN
      or infinity; the mask is not bool [N] of a modality; or a part would be empty.
  """
  arrays = {argument: _arrays(name, argument, {} if values is None else values)
            for argument, values in (("x", x), ("labels", labels), ("mask", mask))}
  num_examples = _num_examples(name, arrays)
  present = _present(name, arrays["mask"], arrays["x"], num_examples)
  held = {}
  for key, values in arrays["x"].items():
    held[key] = on_cpu(_observations(f"data set '{name}': x['{key}']", values, present.get(key)))
  tables = {key: on_cpu(values) for key, values in present.items()}
  y = {key: on_cpu(_labels(f"data set '{name}': labels['{key}']", values))
       for key, values in arrays["labels"].items()}

  def read(i):
    observations = {key: tf.gather(values, i) for key, values in held.items()}
    for key, values in observations.items():
      if values.dtype == tf.uint8:  # held in a byte each
        observations[key] = tf.cast(values, tf.int32)
    return (observations, {key: tf.gather(values, i) for key, values in y.items()},
            {key: tf.gather(values, i) for key, values in tables.items()})

  examples = Examples(name, num_examples, read)
  if fractions is None:
    return examples
  return tuple(examples.subset(rows) for rows in _parts(name, num_examples, fractions, seed))


def _arrays(name, argument, values):
  """{key: array [N, ...]} of an argument."""
  if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
    raise ValueError(f"data set '{name}': {argument} must be a dict of arrays by name, got "
                     f"{type(values).__name__}")
  return {key: _array(f"data set '{name}': {argument}['{key}']", value)
          for key, value in values.items()}


def _array(what, values):
  """Values as an array [N, ...]."""
  if np.ma.is_masked(values):
    raise ValueError(f"{what} is an array with masked numbers: fill them, and say by mask which "
                     "observations are absent")
  try:
    values = np.asarray(values)
  except Exception as error:  # of as many kinds as there are classes
    raise ValueError(f"{what} is no array ({' '.join(str(error).split())}): expected observations "
                     "of one shape") from error
  if not values.ndim:
    raise ValueError(f"{what} is no array [N, ...], but a single {type(values[()]).__name__}: give "
                     "a row for each example")
  return values


def _num_examples(name, arrays):
  if not arrays["x"]:
    raise ValueError(f"data set '{name}': x has no modality: give at least one array")
  lengths = {f"{argument}['{key}']": len(values)
             for argument, of_argument in arrays.items() for key, values in of_argument.items()}
  if len(set(lengths.values())) > 1:
    said = ", ".join(f"{length} in {key}" for key, length in lengths.items())
    raise ValueError(f"data set '{name}': expected a row for each example in every array, got "
                     f"{said} rows")
  return next(iter(lengths.values()))


def _present(name, mask, x, num_examples):
  """{modality: bool [N]} of those that some example lacks."""
  if unknown := sorted(set(mask) - set(x)):
    raise ValueError(f"data set '{name}': a mask of {unknown}, but the modalities are {sorted(x)}: "
                     "correct the name")
  for key, values in mask.items():
    if values.dtype != bool or values.ndim != 1:
      raise ValueError(f"data set '{name}': mask['{key}'] must be bool [{num_examples}], true "
                       f"where an example has it, got {values.dtype} {list(values.shape)}")
  if num_examples and len(mask) == len(x) and not np.any(list(mask.values())):
    raise ValueError(f"data set '{name}': no example has anything: mask must be true where an "
                     "example has the modality")
  return {key: values for key, values in mask.items() if not values.all()}


def _observations(what, values, present):
  """float32, int32 or uint8 [N, ...]; present: bool [N] or None."""
  if values.dtype.kind == "f":
    return _checked(what, values, np.float32, present)
  if values.dtype.kind in "iu":
    return values if values.dtype == np.uint8 else _checked(what, values, np.int32, present)
  advice = {
    "b": "give 0. and 1. as floats",
    "U": "make sentences word ids by the encode of a Tokenizer",
  }
  raise ValueError(f"{what} is of dtype {values.dtype}, expected floats or whole numbers: "
                   f"{advice.get(values.dtype.kind, 'convert them')}")


def _labels(what, values):
  """float32, int32 or strings [N]."""
  if values.ndim != 1:
    raise ValueError(f"{what} must be of shape [N], one label an example, got "
                     f"{list(values.shape)}")
  if values.dtype.kind in "SUT" or all(isinstance(label, (str, bytes)) for label in values):
    return values.astype(object)
  if values.dtype.kind == "f":
    return _checked(what, values, np.float32, present=np.isfinite(values))
  if values.dtype.kind in "biu":
    return _checked(what, values, np.int32)
  raise ValueError(f"{what} is of dtype {values.dtype}, expected numbers or strings: convert them")


def _checked(what, values, dtype, present=None):
  """Numbers [N, ...] in another dtype; those present [N] must be finite and fit into it."""
  with np.errstate(over="ignore", invalid="ignore"):
    converted = values.astype(dtype, copy=False)
  if dtype == np.float32:
    wrong = ~np.isfinite(converted)
  else:
    limits = np.iinfo(dtype)
    wrong = (values < limits.min) | (values > limits.max)
  wrong = wrong.any(axis=tuple(range(1, values.ndim)))  # [N]
  if present is not None:
    wrong &= present
  if not wrong.any():
    return converted
  row = int(wrong.argmax())
  if dtype == np.float32 and not np.all(np.isfinite(values[row])):
    raise ValueError(f"{what}[{row}] holds NaN or infinity: give finite numbers, or say by mask "
                     "that it is absent")
  raise ValueError(f"{what}[{row}] holds a number that does not fit {np.dtype(dtype)}: "
                   "give smaller ones")


def _parts(name, num_examples, fractions, seed):
  """The rows of each part, int64 in rising order."""
  said = (f"data set '{name}': fractions must be numbers above 0 that sum to 1, such as "
          f"(0.8, 0.1, 0.1), got {fractions!r}")
  try:
    shares = [float(share) for share in fractions]
  except (TypeError, ValueError) as error:
    raise ValueError(said) from error
  if not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
    raise ValueError(said)
  if not isinstance(seed, int) or seed < 0:
    raise ValueError(f"data set '{name}': seed must be a whole number of at least 0, got {seed!r}")
  sizes = _sizes(num_examples, shares)
  if not all(sizes):
    raise ValueError(f"data set '{name}': fractions {fractions!r} of {num_examples} examples make "
                     f"parts of {sizes}: expected at least one in each")
  order = np.random.default_rng(seed).permutation(num_examples)
  return [np.sort(rows) for rows in np.split(order, np.cumsum(sizes)[:-1])]


def _sizes(num, shares):
  """How many of `num` each share has, by the largest remainder; of equal ones the first."""
  quotas = [num * share / sum(shares) for share in shares]
  sizes = [math.floor(quota) for quota in quotas]
  by_remainder = sorted(range(len(sizes)), key=lambda part: sizes[part] - quotas[part])
  for part in by_remainder[:num - sum(sizes)]:
    sizes[part] += 1
  return sizes
