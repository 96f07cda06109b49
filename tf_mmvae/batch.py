"""A batch: what data sets yield, and what training, metrics and views take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

COMPLETE: Mapping[str, tf.Tensor] = {}  # the mask of a batch that lacks nothing


class Batch(NamedTuple):
  """B examples: observations, labels and the like, and which example has what."""

  x: Mapping[str, tf.Tensor]  # {modality: [B, ...]}; one without a key is missing for all
  y: Mapping[str, tf.Tensor] = {}  # {name: [B, ...]}
  mask: Mapping[str, tf.Tensor] = COMPLETE  # {modality: bool [B]}; one without a key is complete

  def present(self, name: str) -> tf.Tensor:
    """Which examples have a modality of x: bool [B]."""
    if name in self.mask:
      return tf.convert_to_tensor(self.mask[name])
    return tf.fill(tf.shape(self.x[name])[:1], True)


class Dataset(Protocol):
  """What metrics and views ask of a data set; `data.Examples` has it."""

  name: str
  num_examples: int

  def batches(self, batch_size: int) -> tf.data.Dataset:
    """Every example once, in order, as `Batch`es."""

  def shuffled_batches(self, batch_size: int, seed: int) -> tf.data.Dataset:
    """`Batch`es without end, every example once an epoch."""

  def subset(self, indices: Sequence[int]) -> Dataset:
    """The examples at indices."""

  def spread(self, num: int | None) -> Dataset:
    """At most so many of the examples, evenly spread."""


def zeros_where_absent(x: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
  """x [B, ...] with zeros where present [B] is false, so that what was there reaches nothing."""
  present = tf.reshape(present, [-1] + [1] * (x.shape.rank - 1))
  return tf.where(present, x, tf.zeros_like(x))
