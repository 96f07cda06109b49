"""Networks for sentences of word ids [B, L]; id 0 is padding.

A sentence decoder offers `decoder(z [..., B, D], words [..., B, L]) -> logits [..., B, L, V]`,
where the logits at t may depend on words before t alone. With places `at` [n] among the B L words
of words [B, L] it gives [..., n, V]: what is not asked for is not projected to the vocabulary. For
writing it offers `start(z [N, D]) -> state` and `step(state, word [N]) -> (logits [N, V], state)`,
`word` being the one before (0 at first).
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tf_mmvae.nets.sizes import check_latent_dim


class RecurrentEncoder(keras.Model):
  """Sentences [B, L] -> raw parameters [B, 2 D]: a GRU each way, the maximum over words, a head.

  Raises ValueError unless latent_dim is a whole number of at least 1.
  """

  def __init__(self, latent_dim: int, vocabulary_size: int, embedding_dim: int = 64,
               units: int = 128, **kwargs: Any):
    super().__init__(**kwargs)
    check_latent_dim("RecurrentEncoder", latent_dim)
    self._config = {"latent_dim": latent_dim, "vocabulary_size": vocabulary_size,
                    "embedding_dim": embedding_dim, "units": units}
    self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim)
    self.reader = keras.layers.Bidirectional(keras.layers.GRU(units, return_sequences=True))
    self.head = keras.layers.Dense(2 * latent_dim)

  def call(self, words: tf.Tensor, training: bool = False) -> tf.Tensor:
    seen = ops.not_equal(words, 0)  # [B, L]
    states = self.reader(self.embedding(words), mask=seen, training=training)  # [B, L, 2 units]
    states = ops.where(seen[..., None], states, -1.)  # -1 is the least a GRU can say
    return self.head(ops.max(states, axis=1))

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}


class RecurrentDecoder(keras.Model):
  """Writes a word given z and the words before it.

  A GRU reads the words once a sentence; z enters after it, by scaling and shifting the GRU's state.
  So K latents for one sentence cost K small dense layers and not K recurrent passes.
  """

  def __init__(self, vocabulary_size: int, length: int = 32, embedding_dim: int = 64,
               units: int = 128, **kwargs: Any):
    super().__init__(**kwargs)
    self.length = length
    self._config = {"vocabulary_size": vocabulary_size, "length": length,
                    "embedding_dim": embedding_dim, "units": units}
    self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim)
    self.writer = keras.layers.GRU(units, return_sequences=True)
    self.heard = keras.layers.Dense(2 * units, "relu")
    self.told = keras.layers.Dense(2 * units)
    self.hidden = keras.layers.Dense(2 * units, "relu")
    self.head = keras.layers.Dense(vocabulary_size)

  def call(self, z: tf.Tensor, words: tf.Tensor, at: tf.Tensor | None = None,
           training: bool = False) -> tf.Tensor:
    flat = ops.reshape(words, [-1, self.length])
    before = ops.pad(flat[:, :-1], [[0, 0], [1, 0]])
    states = self.writer(self.embedding(before), training=training)  # [N, L, units]
    told = self.told(self.heard(z))  # [..., B, 2 units]
    if at is None:
      states = ops.reshape(states, [*ops.shape(words), self.writer.units])
      return self._logits(states, told[..., None, :])
    states = ops.take(ops.reshape(states, [-1, self.writer.units]), at, axis=0)  # [n, units]
    return self._logits(states, ops.take(told, at // self.length, axis=-2))

  def _logits(self, states, told):
    scale, shift = ops.split(ops.cast(told, states.dtype), 2, axis=-1)
    return self.head(self.hidden(ops.relu(states * (1. + scale) + shift)))

  def start(self, z: tf.Tensor) -> tuple:
    return self.told(self.heard(z)), ops.zeros([ops.shape(z)[0], self.writer.units])

  def step(self, state: tuple, word: tf.Tensor) -> tuple[tf.Tensor, tuple]:
    told, memory = state
    output, (memory,) = self.writer.cell(self.embedding(word), [memory])
    return self._logits(output, told), (told, memory)

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}


def rows_at(rows: tf.Tensor, at: tf.Tensor | None, shape: Sequence[int | tf.Tensor]) -> tf.Tensor:
  """Rows [N, L, H] of all words as [..., B, L, H], or those at the places `at` as [..., n, H].

  shape: [..., B], that of the latents without D.
  """
  length, size = rows.shape[1:]
  if at is None:
    return ops.reshape(rows, [*shape, length, size])
  return ops.take(ops.reshape(rows, [*shape[:-1], -1, size]), at, axis=-2)


class Positionwise(keras.Model):
  """A sentence decoder that predicts the word at each position by itself.

  The logits come from `call(z)`; writing reads them position by position.
  """

  def start(self, z: tf.Tensor) -> tuple:
    return self(z, training=False), 0

  def step(self, state: tuple, word: tf.Tensor) -> tuple[tf.Tensor, tuple]:
    del word
    logits, t = state
    return logits[:, t], (logits, t + 1)


class PositionwiseDecoder(Positionwise):
  """Predicts the word at each position by itself, as the sentence net of Shi et al. (2019) does.

  Kept to compare with: words agree with z, but not with one another.
  """

  def __init__(self, vocabulary_size: int, length: int = 32, units: int = 128, **kwargs: Any):
    super().__init__(**kwargs)
    self.length = length
    self._config = {"vocabulary_size": vocabulary_size, "length": length, "units": units}
    self.body = keras.Sequential(
        [keras.layers.Dense(2 * units, "relu"), keras.layers.Dense(length * units, "relu")])
    self.units = units
    self.head = keras.layers.Dense(vocabulary_size)

  def call(self, z: tf.Tensor, words: tf.Tensor | None = None, at: tf.Tensor | None = None,
           training: bool = False) -> tf.Tensor:
    del words
    states = self.body(ops.reshape(z, [-1, z.shape[-1]]), training=training)
    states = ops.reshape(states, [-1, self.length, self.units])
    return self.head(rows_at(states, at, ops.shape(z)[:-1]))

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}
