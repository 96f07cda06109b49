"""Screened backpropagation: all particles forward, a few backward.

Normalised importance weights of image models are nearly one-hot, so most particles carry hardly any
gradient. All are weighed without gradients first; the best of them are weighed once more with
gradients, and one that is drawn for all the others ("sum and sample", Liang et al. 2018).
"""

import functools
from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

from tf_mmvae.modality import check_dtype, couples_examples, is_random
from tf_mmvae.model import MultimodalVAE, Particles
from tf_mmvae.objectives import SAMPLES, STRATA, Bound, Estimate, coefficients

tfd = tfp.distributions

Weigh = Callable[..., tuple[Particles, tf.Tensor]]  # see `Screening.__call__`


class Screening:
  """Backpropagates the particles with the greatest coefficients, and one in the others' place.

  With c = dL / dlog w of all particles, the best receive their c; one of the others is drawn in
  proportion to c and receives the sum of theirs. So sum_k c_k f(z_k) keeps its expectation for
  any f, and with it all that a decoder, the prior and z receive. What is made of densities of z
  alone, such as the responsibilities of `mixture_dreg`, stays that of all particles.
  docs/gradients.md derives it.

  Where weights compete within a stratum, particles are chosen in each; where they compete across
  strata, among all. The bound's value and all figures are those of all particles.
  """

  def __init__(self, num_best: int = 3, slice_size: int | None = None, dtype: str | None = None):
    """Sets how many.

    Args:
      num_best: n, particles an example (and stratum) that are backpropagated as they are.
      slice_size: so many particles of a stratum are weighed at once. None is n + 1, which makes the
        first pass no larger than the second.
      dtype: what decoders compute in when all particles are weighed to train, "bfloat16", or None
        for float32. The former is faster, and biased: weights are those of other log w, by
        `Estimate.screening_error`.

    Raises:
      ValueError: if a number is below 1, or for another dtype.
    """
    check_dtype("dtype of Screening", dtype)
    for name, number, also in (("num_best", num_best, ""), ("slice_size", slice_size, ", or None")):
      if not (number is None and also) and not (isinstance(number, int) and number >= 1):
        raise ValueError(f"{name} must be a whole number of at least 1{also}, got {number!r}")
    self._num_best, self._slice_size = num_best, slice_size or num_best + 1
    self._dtype = dtype

  def __str__(self):
    screened = f", screened in {self._dtype}" if self._dtype else ""
    return f"the best {self._num_best} and one more backpropagated{screened}"

  def check_bound(self, bound: Bound) -> None:
    """Raises ValueError for a bound whose particles all weigh the same."""
    if SAMPLES not in getattr(bound, "axes", ()):
      raise ValueError(f"screening takes the particles with the greatest weights, and in "
                       f"{bound.__name__} none compete: take iwae or iwae_tight, or no screening")

  def check_model(self, model: MultimodalVAE) -> None:
    """Raises ValueError for networks that would weigh a particle otherwise the second time."""
    for name, m in model.modalities.items():
      for part, network in (("encoder", m.encoder), ("decoder", m.decoder)):
        if couples_examples(network):
          raise ValueError(
              f"modality '{name}': its {part} computes with statistics of its batch, and screening "
              "weighs a particle among others than it backpropagates it: take such layers out, or "
              "take no screening")
      if is_random(m.decoder):
        raise ValueError(
            f"modality '{name}': its decoder draws random numbers in training, so screening would "
            "weigh a particle otherwise than it backpropagates it: take such layers as Dropout "
            "out, or take no screening")

  def __call__(self, bound: Bound, weigh: Weigh, z: tf.Tensor, posterior: tfd.Distribution,
               log_pi: tf.Tensor, choice: tf.Tensor, training: bool) -> Estimate:
    """Weighs all particles and, in training, some with gradients.

    Args:
      bound: of `objectives`, with c = dL / dlog w.
      weigh: function (z, posterior, dtype=None) -> (`Particles`, log_w), for z [G, N, B, D] of any
        G and N, with decoders that compute in the dtype.
      z: [S, K, B, D], through which gradients flow.
      posterior: the mixture that z is from.
      log_pi: [S, B].
      choice: uniform in (0, 1), [B], draws the one more.
      training: without it there is no gradient, and weights are in float32.

    Returns:
      `Estimate`
    """
    num_rivals = z.shape[1] * (z.shape[0] if STRATA in bound.axes else 1)
    if self._num_best + 1 >= num_rivals:
      particles, log_w = weigh(z, posterior)
      return Estimate(bound(log_w, log_pi), particles, log_pi, log_w)
    particles, log_w = _without_gradient(
        functools.partial(weigh, dtype=self._dtype if training else None), z, posterior,
        self._slice_size)
    if not training:
      return Estimate(bound(log_w, log_pi), particles, log_pi, log_w)
    c = _among_rivals(coefficients(bound, log_w, log_pi), num_rivals)
    places, c = _best_and_one(c, choice, self._num_best)  # [G, B, n + 1]
    chosen, screened = (tf.gather(_among_rivals(values, num_rivals), places, batch_dims=2)
                        for values in (z, log_w))  # [G, B, n + 1, D] and [G, B, n + 1]
    _, again = weigh(tf.transpose(chosen, [0, 2, 1, 3]), posterior)
    again = tf.where(c > 0, tf.transpose(again, [0, 2, 1]), 0.)
    terms = tf.reduce_sum(c * again, [0, 2])  # [B]
    objective = bound(log_w, log_pi) + terms - tf.stop_gradient(terms)
    errors = tf.where(c > 0, tf.abs(again - screened), 0.)
    return Estimate(objective, particles, log_pi, log_w, tf.reduce_sum(c[..., :-1], [0, 2]),
                    tf.reduce_max(errors, [0, 2]))


def _without_gradient(weigh, z, posterior, size):
  """`weigh` of all particles z [S, K, B, D], so many of each stratum at once."""
  num_slices, others = divmod(z.shape[1] - 1, size)

  def weighed(z):
    particles, log_w = weigh(z, posterior)
    return particles._replace(z=()), log_w

  found = weighed(z[:, :others + 1])
  if num_slices:
    # Slices of one shape, which XLA wants.
    slices = tf.reshape(z[:, others + 1:], tf.concat([[-1, num_slices, size], tf.shape(z)[2:]], 0))

    def add(i, arrays):
      values = tf.nest.flatten(weighed(slices[:, i]))
      return i + 1, [a.write(i, value) for a, value in zip(arrays, values, strict=True)]

    arrays = [tf.TensorArray(value.dtype, num_slices) for value in tf.nest.flatten(found)]
    _, arrays = tf.while_loop(lambda i, _: i < num_slices, add, (0, arrays), parallel_iterations=1)
    found = tf.nest.map_structure(
        lambda first, a: tf.concat([first, _joined(a.stack())], 1), found,
        tf.nest.pack_sequence_as(found, arrays))
  particles, log_w = tf.nest.map_structure(tf.stop_gradient, found)
  return particles._replace(z=z), log_w


def _joined(values):
  """[slices, S, size, B] -> [S, slices size, B]."""
  values = tf.transpose(values, [1, 0, 2, 3])
  return tf.reshape(values, tf.concat([tf.shape(values)[:1], [-1], tf.shape(values)[3:]], 0))


def _among_rivals(values, num_rivals):
  """[S, K, B, ...] -> [G, B, N, ...]: of each example the N particles that compete."""
  values = tf.reshape(values, tf.concat([[-1, num_rivals], tf.shape(values)[2:]], 0))
  return tf.einsum("gnb...->gbn...", values)


def _best_and_one(c, choice, num_best):
  """The n greatest of coefficients, and one of the others with the sum of theirs.

  Args:
    c: [G, B, N], none below 0.
    choice: uniform in (0, 1), [B].
    num_best: n, below N.

  Returns:
    places: int32 [G, B, n + 1].
    coefficients: [G, B, n + 1].
  """
  best, places = tf.math.top_k(c, num_best)
  taken = tf.reduce_any(tf.one_hot(places, c.shape[-1], True, False, dtype=tf.bool), -2)
  rest = tf.where(taken, 0., c)
  below = tf.cumsum(rest, axis=-1)
  # Where the first place is reached at which the sum passes the noise, that place has a weight.
  reached = below >= choice[:, tf.newaxis] * below[..., -1:]
  drawn = tf.argmax(reached, -1, tf.int32)[..., tf.newaxis]
  return tf.concat([places, drawn], -1), tf.concat([best, below[..., -1:]], -1)
