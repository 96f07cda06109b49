"""Gaps: data sets of which single examples lack a modality, made from complete ones."""

import zlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tf_mmvae.batch import COMPLETE
from tf_mmvae.data.examples import Examples, on_cpu


def with_gaps(examples: Examples, missing: Mapping[str, float], seed: int = 0,
              complete_only: bool = False, complete_times: int = 1) -> Examples:
  """Takes modalities away from examples at random.

  Whether an example lacks a modality depends on (seed, modality, position) alone: the same for
  every length of the data set, every step of a run and every other modality; a larger share takes
  more away and gives nothing back. `y` stays as it is, and `augment` applies as before.

  Args:
    examples: `Examples`; what it lacks already stays absent.
    missing: {modality: probability in [0, 1] that an example lacks it}, each by itself.
    seed: a whole number of at least 0.
    complete_only: leave out every example with a gap, instead of keeping what it has: the
      baseline that trains on complete examples of the same draw.
    complete_times: how often an epoch has each complete example. Where few are complete, batches
      otherwise hold few that tell how the modalities go together.

  Returns:
    `Examples` with a mask of each modality in `missing`; complete ones have none.

  Raises:
    ValueError: an unknown modality, a share outside [0, 1], a seed below 0, a number of times below
      1, or nothing is left.
  """
  _check(examples, missing, seed)
  if not isinstance(complete_times, int) or complete_times < 1:
    raise ValueError(f"data set '{examples.name}': complete_times must be a whole number of at "
                     f"least 1, got {complete_times!r}")
  present = {
    name: _uniform(seed, name, examples.num_examples) >= share for name, share in missing.items()
  }
  tables = {name: on_cpu(values) for name, values in present.items()}

  def read(i):
    batch = examples.read(i)
    kept = {name: tf.gather(table, i) & batch.present(name) for name, table in tables.items()}
    return batch._replace(mask={**batch.mask, **kept})

  made = Examples(examples.name, examples.num_examples, read, examples.augment)
  if complete_only:
    return complete(made)
  if not np.any(_presence(made, any)):
    raise ValueError(f"data set '{made.name}': gaps of {missing} leave no example anything")
  if complete_times == 1:
    return made
  again = np.tile(np.flatnonzero(_presence(made, all)), complete_times - 1)
  return made.subset(np.concatenate([np.arange(made.num_examples), again]))


def complete(examples: Examples) -> Examples:
  """The examples that lack nothing, in their order: `Examples` without masks.

  Raises:
    ValueError: there are none.
  """
  indices = np.flatnonzero(_presence(examples, all))
  if not indices.size:
    raise ValueError(f"data set '{examples.name}': no example is complete: take less away")
  chosen = examples.subset(indices)
  return Examples(chosen.name, chosen.num_examples,
                  lambda i: chosen.read(i)._replace(mask=COMPLETE), chosen.augment)


def _check(examples, missing, seed):
  names = sorted(examples.batches(1).element_spec.x)
  if unknown := sorted(set(missing) - set(names)):
    raise ValueError(
      f"data set '{examples.name}': gaps in {unknown}, but the modalities are {names}: "
      "correct the name"
    )
  for name, share in missing.items():
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
      raise ValueError(
        f"data set '{examples.name}': the share of '{name}' that is missing must be in [0, 1], "
        f"got {share!r}"
      )
  if not isinstance(seed, int) or seed < 0:
    raise ValueError(
      f"data set '{examples.name}': the seed of gaps must be a whole number of at least 0, "
      f"got {seed!r}"
    )


def _uniform(seed, name, num):
  """[num] in [0, 1), a function of its arguments whose first values do not depend on `num`."""
  return np.random.default_rng((seed, zlib.crc32(name.encode()))).random(num)


def _presence(examples, quantifier):
  """Which examples have all of their modalities, or any: bool [N]."""
  spec = examples.batches(1).element_spec
  always_there = set(spec.x) - set(spec.mask)
  if not spec.mask or quantifier is any and always_there:
    return np.ones(examples.num_examples, bool)
  # Only the masks are read: what else `read` computes is pruned.
  positions = tf.data.Dataset.range(examples.num_examples).batch(4096)
  masks = list(positions.map(lambda i: examples.read(i).mask).as_numpy_iterator())
  columns = [np.concatenate([mask[name] for mask in masks]) for name in spec.mask]
  return np.logical_or.reduce(columns) if quantifier is any else np.logical_and.reduce(columns)
