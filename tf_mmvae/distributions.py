"""Families of distributions: raw network outputs in, `tfd.Distribution` out.

A latent family maps raw parameters [..., 2 D] to a distribution with batch [...] and event [D].
A likelihood maps a decoder and latents [..., B, D] to a distribution with batch [..., B] whose
event is one observation. Log-densities are in nats.
"""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

MIN_SCALE = 1e-6

Scale = Callable[[tf.Tensor], tf.Tensor]  # raw [..., D] -> positive [..., D]
Family = Callable[..., tfd.Distribution]  # raw [..., 2 D] -> batch [...], event [D]
Likelihood = Callable[..., tfd.Distribution]  # decoder, z [..., B, D] -> batch [..., B]


def softplus_scale(raw: tf.Tensor) -> tf.Tensor:
  """Positive scales, each free: softplus(raw) + 1e-6. [..., D] -> [..., D]."""
  return tf.nn.softplus(raw) + MIN_SCALE


def softmax_scale(raw: tf.Tensor) -> tf.Tensor:
  """Scales that sum to D, so that none can grow but at the others' cost. [..., D] -> [..., D].

  Source: the MNIST-SVHN model of Shi et al. (2019).
  """
  return tf.nn.softmax(raw) * tf.cast(tf.shape(raw)[-1], raw.dtype) + MIN_SCALE


def laplace(raw: tf.Tensor, scale: Scale = softplus_scale) -> tfd.Distribution:
  """Laplace over [D] from raw (location, scale) [..., 2 D]; `scale` maps raw scales to positive."""
  loc, raw_scale = tf.split(raw, 2, axis=-1)
  return tfd.Independent(tfd.Laplace(loc, scale(raw_scale)), 1)


def normal(raw: tf.Tensor, scale: Scale = softplus_scale) -> tfd.Distribution:
  """Gaussian with diagonal covariance over [D] from raw (location, scale) [..., 2 D]."""
  loc, raw_scale = tf.split(raw, 2, axis=-1)
  return tfd.Independent(tfd.Normal(loc, scale(raw_scale)), 1)


def stop_gradient(distribution: tfd.Distribution) -> tfd.Distribution:
  """The same distribution with its parameters frozen."""
  return tf.nest.map_structure(tf.stop_gradient, distribution, expand_composites=True)


def sample_categorical(logits: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Draws an index for each row of logits [..., N]: int32 [...]. seed: int [2], stateless.

  By the Gumbel-max trick, because the draws of `tf.random.stateless_categorical` differ with the
  number of threads.
  """
  tiny = 2.0**-25
  uniform = tf.maximum(tf.random.stateless_uniform(tf.shape(logits), seed, alg="philox"), tiny)
  return tf.argmax(logits - tf.math.log(-tf.math.log(uniform)), axis=-1, output_type=tf.int32)


def fold(network: Callable[[tf.Tensor], tf.Tensor], z: tf.Tensor) -> tf.Tensor:
  """Applies a network made for [N, D] to z [..., D]; returns [..., *output]."""
  outputs = network(tf.reshape(z, [-1, z.shape[-1]]))
  return tf.reshape(outputs, tf.concat([tf.shape(z)[:-1], tf.shape(outputs)[1:]], axis=0))


def _location_likelihood(family, decoder, z, scale):
  if not scale > 0:
    raise ValueError(f"the scale of a likelihood must be above 0, got {scale}")
  mean = fold(decoder, z)
  return tfd.Independent(
      family(mean, tf.constant(scale, mean.dtype)), mean.shape.rank - z.shape.rank + 1)


def laplace_likelihood(decoder: Callable[..., tf.Tensor], z: tf.Tensor,
                       scale: float = 0.75) -> tfd.Distribution:
  """Laplace of fixed scale b around the decoder's output, independent over an observation.

  Its log-density is at most -size log(2 b) nats, so values compare at equal b alone.
  """
  return _location_likelihood(tfd.Laplace, decoder, z, scale)


def normal_likelihood(decoder: Callable[..., tf.Tensor], z: tf.Tensor,
                      scale: float = 1.0) -> tfd.Distribution:
  """Gaussian of fixed standard deviation around the decoder's output."""
  return _location_likelihood(tfd.Normal, decoder, z, scale)


def sentence_likelihood(decoder: Callable[..., tf.Tensor], z: tf.Tensor) -> "SentenceDistribution":
  """Words of a sentence given z, as far as its end; see `SentenceDistribution`."""
  return SentenceDistribution(decoder, z)


class SentenceDistribution(tfd.Distribution):
  """Sentences of word ids [L], written word by word by a sentence decoder.

  `log_prob` is teacher-forced and sums log p(word_t | words_<t, z) up to and with the end token;
  padding after it has probability 1. `sample`, `mode` (greedy) and `beam` decode in the graph. A
  sentence that reaches L words is cut there.

  The decoder offers `decoder(z [..., B, D], words [B, L], at [n]) -> logits [..., n, V]` of those
  of the B L words whose places are `at`, so that padding costs nothing, and for writing
  `start(z [N, D]) -> state` and `step(state, word [N]) -> (logits [N, V], state)`, where each
  tensor of a state has N rows; logits at t see the words before t alone. Ids 0 and 1 are padding
  and end; padding is never written before an end.
  """

  PAD, END = 0, 1

  def __init__(self, decoder: Callable[..., tf.Tensor], z: tf.Tensor, validate_args: bool = False,
               allow_nan_stats: bool = True, name: str = "SentenceDistribution"):
    parameters = dict(locals())
    self._decoder, self._z = decoder, z
    super().__init__(
        dtype=tf.int32, reparameterization_type=tfd.NOT_REPARAMETERIZED,
        validate_args=validate_args, allow_nan_stats=allow_nan_stats, parameters=parameters,
        name=name)

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  def _batch_shape(self):
    return self._z.shape[:-1]

  def _batch_shape_tensor(self):
    return tf.shape(self._z)[:-1]

  def _event_shape(self):
    return tf.TensorShape([self._decoder.length])

  def _event_shape_tensor(self):
    return tf.constant([self._decoder.length])

  def _log_prob(self, words):
    batch, length = tf.shape(self._z)[:-1], self._decoder.length
    if words.shape.rank == 2:
      words = tf.broadcast_to(words, [batch[-1], length])
      return tf.reshape(self._log_prob_of_batch(self._z, words), batch)
    batch = tf.broadcast_dynamic_shape(batch, tf.shape(words)[:-1])
    z, words = (tf.reshape(tf.broadcast_to(t, tf.concat([batch, [n]], 0)), [-1, n])
                for t, n in ((self._z, self._z.shape[-1]), (words, length)))
    return tf.reshape(self._log_prob_of_batch(z, words), batch)

  def _log_prob_of_batch(self, z, words):
    """z [..., B, D], words [B, L] -> nats [R, B]: an example's sentence meets all its latents."""
    num, length = tf.unstack(tf.shape(words))
    flat = tf.reshape(words, [-1])
    at = tf.where(tf.not_equal(flat, self.PAD))[:, 0]  # [n]
    logits = _without_padding(self._decoder(z, words, at))  # [..., n, V]
    logits = tf.reshape(logits, [-1, tf.shape(at)[0], logits.shape[-1]])
    chosen = tf.broadcast_to(tf.gather(flat, at), tf.shape(logits)[:-1])
    nats = -tf.nn.sparse_softmax_cross_entropy_with_logits(chosen, logits)  # [R, n]
    example = at // tf.cast(length, at.dtype)
    return tf.transpose(tf.math.unsorted_segment_sum(tf.transpose(nats), example, num))

  def _sample_n(self, n, seed=None):
    seeds = tfp.random.split_seed(seed, n=self._decoder.length)
    z = tf.repeat(self._z[tf.newaxis], n, axis=0)

    def draw(t, logits):
      return sample_categorical(logits, tf.gather(seeds, t))

    return self._write(z, draw)

  def _mode(self):
    return self._write(self._z, lambda t, logits: tf.argmax(logits, -1, output_type=tf.int32))

  def beam(self, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The most probable sentences that a beam search finds, in the order of their probability.

    Sentences are compared by log p(words | z) itself, whatever their length; one that has ended
    keeps its place among the others. A size of 1 is `mode`; one that holds every sentence is exact.

    Args:
      size: an int, how many sentences are kept for each z at every word.

    Returns:
      words: int32 [..., size, L].
      log_prob: nats [..., size], equal to `log_prob` of the words; -inf where there are fewer
        sentences than `size`, and their words mean nothing.

    Raises:
      ValueError: if size is below 1.
    """
    if size < 1:
      raise ValueError(f"the size of a beam must be at least 1, got {size}")
    flat = tf.reshape(self._z, [-1, self._z.shape[-1]])
    num = tf.shape(flat)[0]
    state = self._decoder.start(tf.repeat(flat, size, axis=0))  # of [num * size], as all below
    word = tf.zeros([num * size], tf.int32)
    words, ended = tf.zeros([num * size, 0], tf.int32), tf.zeros_like(word, tf.bool)
    first = tf.where(tf.equal(tf.range(size), 0), 0., -float("inf"))  # the others are copies of it
    nats = tf.tile(first[tf.newaxis], [num, 1])  # [num, size]
    for _ in range(self._decoder.length):
      logits, state = self._decoder.step(state, word)
      nats, parent, word = self._best_words(nats, logits, ended)
      words = tf.concat([tf.gather(words, parent), word[:, tf.newaxis]], -1)
      ended = tf.gather(ended, parent) | tf.equal(word, self.END)
      state = tf.nest.map_structure(  # a decoder may count words in an int
          lambda part, rows=parent: tf.gather(part, rows) if tf.is_tensor(part) else part, state)
    batch = tf.shape(self._z)[:-1]
    return (tf.reshape(words, tf.concat([batch, [size, self._decoder.length]], 0)),
            tf.reshape(nats, tf.concat([batch, [size]], 0)))

  def _best_words(self, nats, logits, ended):
    """The best continuations of beams: nats [num, size], rows they continue and words, flat."""
    size, vocabulary_size = nats.shape[-1], logits.shape[-1]
    padding = tf.equal(tf.range(vocabulary_size), self.PAD)
    of_word = tf.where(padding, -float("inf"), tf.nn.log_softmax(_without_padding(logits)))
    of_word = tf.where(ended[:, tf.newaxis], tf.where(padding, 0., -float("inf")), of_word)
    total = nats[..., tf.newaxis] + tf.reshape(of_word, [-1, size, vocabulary_size])
    nats, best = tf.math.top_k(tf.reshape(total, [-1, size * vocabulary_size]), size)
    parent = best // vocabulary_size + size * tf.range(tf.shape(best)[0])[:, tf.newaxis]
    return nats, tf.reshape(parent, [-1]), tf.reshape(best % vocabulary_size, [-1])

  def _write(self, z, choose):
    """z [..., D] -> words [..., L], the word at t chosen by `choose(t, logits [N, V]) -> [N]`."""
    flat = tf.reshape(z, [-1, z.shape[-1]])
    word = tf.zeros([tf.shape(flat)[0]], tf.int32)
    state, ended, words = self._decoder.start(flat), tf.zeros_like(word, tf.bool), []
    for t in range(self._decoder.length):
      logits, state = self._decoder.step(state, word)
      word = tf.where(ended, self.PAD, choose(t, _without_padding(logits)))
      ended = ended | tf.equal(word, self.END)
      words.append(word)
    return tf.reshape(tf.stack(words, -1), tf.concat([tf.shape(z)[:-1], [len(words)]], 0))


def _without_padding(logits):
  """Takes the padding id out of the choice. [..., V] -> [..., V]."""
  pad = tf.one_hot(SentenceDistribution.PAD, logits.shape[-1], dtype=logits.dtype)
  return logits - 1e9 * pad
