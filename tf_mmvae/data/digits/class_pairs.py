"""Examples of one class from several sources, each example an index into every source."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_mmvae.data.examples import Examples, on_cpu


class Labelled(NamedTuple):
  """Observations with a class each, read by position."""

  labels: np.ndarray  # int [N]
  read: Callable  # positions int [B] -> observations [B, ...], in TensorFlow ops


def of_array(images: np.ndarray, labels: np.ndarray) -> Labelled:
  """`Labelled` pictures, float32 in [0, 1], of uint8 [N, H, W, C]."""
  images = on_cpu(images, tf.uint8)
  return Labelled(labels, lambda i: tf.cast(tf.gather(images, i), tf.float32) / 255.0)


def match(labels: Sequence[np.ndarray], num_permutations: int, max_per_class: int,
          seed: int) -> np.ndarray:
  """Indices of examples whose members are all of one class.

  As Shi et al. (2019) pair MNIST and SVHN: of every class each source gives its first n members,
  n the least of all sources and `max_per_class`, and each of `num_permutations` random orders makes
  n examples of them. Within an order no two sources give their members of the same number, so
  sources that hold the same observations never meet themselves, as long as n >= M.

  Args:
    labels: of M sources, a list of int [N_m].
    num_permutations: examples that each member is in.
    max_per_class: members of a class at most.
    seed: a whole number of at least 0.

  Returns:
    int32 [M, P], in the order of the classes.

  Raises:
    ValueError: no class is in all sources, or a number is below 1.
  """
  for name, number in (("num_permutations", num_permutations), ("max_per_class", max_per_class)):
    if not isinstance(number, int) or number < 1:
      raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")
  rng = np.random.default_rng(seed)
  matched = []
  for label in sorted(set.intersection(*(set(np.unique(of_one)) for of_one in labels))):
    members = [np.flatnonzero(of_one == label) for of_one in labels]
    num = min(max_per_class, *map(len, members))
    for _ in range(num_permutations):
      order = rng.permutation(num)
      matched.append([of_one[np.roll(order, m)] for m, of_one in enumerate(members)])
  if not matched:
    raise ValueError("no class is in all of the sources that are to be paired")
  return np.concatenate(matched, axis=1).astype(np.int32)


def pairs(name: str, sources: Mapping[str, Labelled], num_permutations: int = 1,
          max_per_class: int = 10000, seed: int = 0, label: str = "digit") -> Examples:
  """Examples of observations of one class, one from each source; see `match`.

  Args:
    name: the data set's name, for messages.
    sources: {modality: Labelled}.
    num_permutations: examples that each observation is in.
    max_per_class: observations of a class at most.
    seed: of the pairing.
    label: the class's name in y.

  Returns:
    `Examples` with x = {modality: what its source reads} and y = {label: int32 [B],
    "<modality>_index": int32 [B]}. All examples share the sources' memory.
  """
  labels = [np.asarray(source.labels) for source in sources.values()]
  indices = match(labels, num_permutations, max_per_class, seed)
  classes = on_cpu(labels[0][indices[0]], tf.int32)  # [P]
  indices = on_cpu(indices)

  def read(i):
    of_sources = dict(zip(sources, tf.unstack(tf.gather(indices, i, axis=1)), strict=True))
    x = {modality: source.read(of_sources[modality]) for modality, source in sources.items()}
    y = {f"{modality}_index": index for modality, index in of_sources.items()}
    return x, {label: tf.gather(classes, i), **y}

  return Examples(name, classes.shape[0], read)
