"""Bounds on log p(x), and their gradients.

A bound is a pure function of log importance weights `log_w` [S, K, B] and log mixture weights
`log_pi` [S, B] and returns [B], in nats.

  elbo <= iwae <= iwae_tight     for every set of samples, and
  E[iwae_tight] <= log p(x)      with beta and all likelihood weights at 1.

An estimator (`estimators`) holds one of each: the gradient of the value that it returns is an
estimate of the bound's own, by one of these. With c_k = dL / dlog w_k, c'_k = dc_k / dlog w_k
and g_k = dlog w_k / dz (parameters of all densities frozen), decoder and prior receive
sum_k c_k dlog w_k, and each encoder receives, through its reparameterised z_k:

  reparameterised   the derivative of the bound itself
  stl               c_k g_k                   (Roeder et al. 2017)
  dreg              (c_k - beta c'_k) g_k     (Tucker et al. 2019)
  mixture_dreg      as `dreg`, for samples drawn from one expert and scored by all; see there

For each bound here c'_k = c_k (1 - w_k), with w the importance weights normalised over the axes
that the bound names. docs/gradients.md derives all of this.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tf_mmvae import distributions, joint_posteriors
from tf_mmvae.model import Particles

tfd = tfp.distributions

STRATA, SAMPLES = 0, 1  # axes of [S, K, B]

Bound = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # log_w [S, K, B], log_pi [S, B] -> [B]


def normalised_over(*axes: int) -> Callable[[Bound], Bound]:
  """Notes on a bound the axes over which its importance weights w compete: c' = c (1 - w).

  `dreg` and `mixture_dreg` go by it; a bound that has no such weights is for the other gradients.
  """

  def decorate(bound):
    bound.axes = axes
    return bound

  return decorate


@normalised_over()
def elbo(log_w: tf.Tensor, log_pi: tf.Tensor) -> tf.Tensor:
  """sum_s pi_s mean_k log w_sk (Shi et al. 2019, eq. 3, stratified). [S, K, B], [S, B] -> [B]."""
  return _mix(tf.reduce_mean(_of_present(log_w, log_pi), SAMPLES), log_pi)


@normalised_over(SAMPLES)
def iwae(log_w: tf.Tensor, log_pi: tf.Tensor) -> tf.Tensor:
  """sum_s pi_s log mean_k w_sk: an IWAE bound for each expert (Shi et al. 2019, eq. 5).

  The paper's objective and the authors' `looser`; it does not tend to log p(x) as K grows.
  """
  return _mix(_log_mean_exp(_of_present(log_w, log_pi), SAMPLES), log_pi)


@normalised_over(STRATA, SAMPLES)
def iwae_tight(log_w: tf.Tensor, log_pi: tf.Tensor) -> tf.Tensor:
  """log sum_s pi_s mean_k w_sk: one IWAE bound of the mixture (Shi et al. 2019, eq. 4, stratified).

  Tends to log p(x) as K grows.
  """
  log_means = _log_mean_exp(_of_present(log_w, log_pi), SAMPLES)
  return tf.reduce_logsumexp(log_means + log_pi, STRATA)


BOUNDS = (elbo, iwae, iwae_tight)


def _of_present(log_w, log_pi):
  """log_w, 0 in absent strata whatever they hold: no NaN of theirs reaches a gradient."""
  return tf.where((log_pi > -float("inf"))[:, tf.newaxis], log_w, 0.)


def _mix(values, log_pi):
  """sum_s pi_s values_s. [S, B], [S, B] -> [B]."""
  return tf.reduce_sum(tf.exp(log_pi) * values, STRATA)


def _log_mean_exp(log_w, axis):
  count = tf.cast(tf.shape(log_w)[axis], log_w.dtype)
  return tf.reduce_logsumexp(log_w, axis) - tf.math.log(count)


def normalised_weights(bound: Bound, log_w: tf.Tensor, log_pi: tf.Tensor) -> tf.Tensor:
  """Importance weights normalised over the axes along which `bound` sums them. -> w [S, K, B]."""
  if not hasattr(bound, "axes"):
    raise ValueError(f"bound {bound.__name__} does not say by normalised_over which weights "
                     "compete: use the gradient reparameterised or stl")
  if not bound.axes:
    return tf.ones_like(log_w)
  log_w = _of_present(log_w, log_pi)
  log_u = log_w + log_pi[:, tf.newaxis] if STRATA in bound.axes else log_w
  return tf.exp(log_u - tf.reduce_logsumexp(log_u, bound.axes, keepdims=True))


def coefficients(bound: Bound, log_w: tf.Tensor, log_pi: tf.Tensor) -> tf.Tensor:
  """c = dL / dlog w of a bound. -> [S, K, B], 0 in absent strata."""
  c = normalised_weights(bound, log_w, log_pi)
  if SAMPLES not in bound.axes:
    c /= tf.cast(tf.shape(log_w)[SAMPLES], log_w.dtype)
  return c if STRATA in bound.axes else tf.exp(log_pi)[:, tf.newaxis] * c


def effective_sample_size(log_w: tf.Tensor) -> tf.Tensor:
  """1 / sum_k w_k^2 for weights normalised within a stratum, from 1 to K. [S, K, B] -> [S, B]."""
  return tf.exp(2 * tf.reduce_logsumexp(log_w, SAMPLES) - tf.reduce_logsumexp(2 * log_w, SAMPLES))


def log_weights(particles: Particles, likelihood_weights: Mapping[str, float] | None = None,
                beta: float = 1.) -> tf.Tensor:
  """log w = beta (log p(z) - log q(z | x)) + sum_m weight_m log p(x_m | z). -> [S, K, B].

  Only training sets the weights; log w is an importance weight where they and beta are 1.

  Args:
    particles: `Particles`.
    likelihood_weights: {modality: weight}, 1 where not named.
    beta: of Higgins et al. (2017).
  """
  weights = likelihood_weights or {}
  return beta * (particles.log_pz - particles.log_qz) + sum(
      weights.get(name, 1.) * log_px for name, log_px in particles.log_px.items())


class Estimate(NamedTuple):
  """What an estimator returns."""

  objective: tf.Tensor  # [B], nats; its gradient is the estimator's own
  particles: Particles
  log_pi: tf.Tensor  # [S, B]
  log_w: tf.Tensor  # [S, K, B], with the objective's weights
  captured_weight: tf.Tensor | float = 1.  # [B], share of the particles backpropagated as they are
  screening_error: tf.Tensor | float = 0.  # [B], nats, between log w when screened and afterwards


Score = Callable[[tf.Tensor, tfd.Distribution], Estimate]  # z [S, K, B, D] and what it is from
Gradient = Callable[[Bound, float, tfd.Distribution, tf.Tensor, Score], Estimate]


def reparameterised(bound: Bound, beta: float, posterior: tfd.Distribution, z: tf.Tensor,
                    score: Score) -> Estimate:
  """Plain derivative of the bound through reparameterised samples (Kingma & Welling 2014).

  Every gradient here is such a function.

  Args:
    bound: whose gradient it is.
    beta: as in `log_weights`.
    posterior: the mixture that z is from, batch [B], event [D].
    z: reparameterised samples [S, K, B, D].
    score: function (z, posterior) -> `Estimate`.

  Returns:
    `Estimate`
  """
  del bound, beta
  return score(z, posterior)


def stl(bound: Bound, beta: float, posterior: tfd.Distribution, z: tf.Tensor,
        score: Score) -> Estimate:
  """The score of the posterior's own parameters is left out (Roeder et al. 2017).

  Unbiased for `elbo`, and so for `iwae` at K = 1; biased otherwise. It is also what the released
  code of Shi et al. (2019) computes under the name DReG.
  """
  del bound, beta
  return score(z, distributions.stop_gradient(posterior))


def dreg(bound: Bound, beta: float, posterior: tfd.Distribution, z: tf.Tensor,
         score: Score) -> Estimate:
  """Doubly reparameterised gradients (Tucker et al. 2019).

  Agrees in expectation with the reparameterised gradient for one component (S = 1), for independent
  samples of a mixture, with `elbo`, and with `iwae` at K = 1; biased for a stratified mixture
  otherwise, because a sample drawn from one component is scored by all.
  """
  scale = _GradientScale()
  estimate = score(scale.apply(z), distributions.stop_gradient(posterior))
  w = normalised_weights(bound, estimate.log_w, estimate.log_pi)
  scale.value = 1. - beta * (1. - w)
  return estimate


def mixture_dreg(bound: Bound, beta: float, posterior: tfd.Distribution, z: tf.Tensor,
                 score: Score) -> Estimate:
  """Doubly reparameterised gradients of stratified mixtures: unbiased for every bound.

  With r_m(z) = pi_m q_m(z) / q(z) and e_k = c_k - pi_s / K, a sample z_k of component s gives

    (c_k - beta r_s c'_k) g_k - beta e_k dr_s / dz      through z_k, and
    - beta e_k r_m dlog q_m(z_k)                        to every other component m, z_k frozen.

  It takes no second decode, is `dreg` where S = 1, `stl` for `elbo`, and has no variance where q is
  the posterior. docs/gradients.md derives it.
  """
  if z.shape[0] < joint_posteriors.num_components(posterior):  # independent samples: r = 1
    return dreg(bound, beta, posterior, z, score)
  frozen = distributions.stop_gradient(posterior)
  scale = _GradientScale()
  estimate = score(scale.apply(z), frozen)
  w = normalised_weights(bound, estimate.log_w, estimate.log_pi)
  c = coefficients(bound, estimate.log_w, estimate.log_pi)
  even = coefficients(elbo, estimate.log_w, estimate.log_pi)  # pi_s / K
  e = tf.stop_gradient(c - even)[..., tf.newaxis]  # [S, K, B, 1]
  log_pi = tf.transpose(estimate.log_pi)  # [B, S]
  r = tf.nn.softmax(log_pi + joint_posteriors.component_log_prob(frozen, z))  # [S, K, B, S]
  own = tf.eye(z.shape[0])[:, tf.newaxis, tf.newaxis]  # [S, 1, 1, S]
  scale.value = 1. - beta * tf.reduce_sum(own * r, -1) * (1. - w)
  log_q = joint_posteriors.component_log_prob(posterior, tf.stop_gradient(z))
  terms = e * (own * r + (1. - own) * tf.stop_gradient(r) * log_q)
  terms = -beta * tf.reduce_sum(terms, [0, 1, 3])  # [B]
  return estimate._replace(objective=estimate.objective + (terms - tf.stop_gradient(terms)))


GRADIENTS = (reparameterised, stl, dreg, mixture_dreg)


class _GradientScale:
  """Passes z on; multiplies its gradient by `value` [S, K, B], known only once z is scored."""

  def __init__(self):
    self.value = None

  @property
  def apply(self):
    @tf.custom_gradient
    def identity(z):
      return tf.identity(z), lambda dz: dz * tf.stop_gradient(self.value)[..., tf.newaxis]

    return identity
