"""Bounds on log p(x), and estimators of their gradients.

A bound is a pure function of log importance weights `log_w` [S, K, B] and log mixture weights
`log_pi` [S, B] and returns [B], in nats. With all likelihood weights at 1,

  elbo <= iwae <= iwae_tight     for every set of samples, and
  E[iwae_tight] <= log p(x).

An estimator is called as `estimator(model, x, noise)`; the gradient of the value it returns is its
own estimate of the bound's gradient. One rule gives all of them. With c_k = dL / dlog w_k,
c'_k = dc_k / dlog w_k and g_k = dlog w_k / dz (parameters of all densities frozen), decoder and
prior receive sum_k c_k dlog w_k, and each encoder receives, through its reparameterised z_k:

  reparameterised   the derivative of the bound itself
  stl               c_k g_k              (Roeder et al. 2017)
  dreg              (c_k - c'_k) g_k     (Tucker et al. 2019)

For each bound here c'_k = c_k (1 - w_k), with w the importance weights normalised over the axes
that the bound names; so `dreg` is c_k w_k g_k.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_mmvae import distributions, joint_posteriors
from tf_mmvae.model import Particles

STRATA, SAMPLES = 0, 1  # axes of [S, K, B]


def _normalised_over(*axes):
  """Notes on a bound the axes over which its importance weights compete."""

  def decorate(bound):
    bound.axes = axes
    return bound

  return decorate


@_normalised_over()
def elbo(log_w, log_pi):
  """sum_s pi_s mean_k log w_sk (Shi et al. 2019, eq. 3, stratified). [S, K, B], [S, B] -> [B]."""
  return _mix(tf.reduce_mean(_of_present(log_w, log_pi), SAMPLES), log_pi)


@_normalised_over(SAMPLES)
def iwae(log_w, log_pi):
  """sum_s pi_s log mean_k w_sk: an IWAE bound for each expert (Shi et al. 2019, eq. 5).

  The paper's objective and the authors' `looser`; it does not tend to log p(x) as K grows.
  """
  return _mix(_log_mean_exp(_of_present(log_w, log_pi), SAMPLES), log_pi)


@_normalised_over(STRATA, SAMPLES)
def iwae_tight(log_w, log_pi):
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


def normalised_weights(bound, log_w, log_pi):
  """Importance weights normalised over the axes along which `bound` sums them. -> w [S, K, B]."""
  if not bound.axes:
    return tf.ones_like(log_w)
  log_w = _of_present(log_w, log_pi)
  log_u = log_w + log_pi[:, tf.newaxis] if STRATA in bound.axes else log_w
  return tf.exp(log_u - tf.reduce_logsumexp(log_u, bound.axes, keepdims=True))


def effective_sample_size(log_w):
  """1 / sum_k w_k^2 for weights normalised within a stratum, from 1 to K. [S, K, B] -> [S, B]."""
  return tf.exp(2 * tf.reduce_logsumexp(log_w, SAMPLES) - tf.reduce_logsumexp(2 * log_w, SAMPLES))


def log_weights(particles, likelihood_weights=None, beta=1.):
  """log w = beta (log p(z) - log q(z | x)) + sum_m weight_m log p(x_m | z). -> [S, K, B].

  Only training sets the weights; log w is an importance weight where all of them are 1.

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


class Reparameterised:
  """Plain derivative of the bound through reparameterised samples (Kingma & Welling 2014)."""

  def __init__(self, bound=iwae, likelihood_weights=None, beta=1.):
    """Sets what is estimated.

    Args:
      bound: function (log_w [S, K, B], log_pi [S, B]) -> [B].
      likelihood_weights: {modality: weight} of the training objective, 1 where not named.
      beta: weight of log p(z) - log q(z | x).
    """
    self.bound = bound
    self._weights = {"likelihood_weights": likelihood_weights, "beta": beta}

  def __call__(self, model, x, noise, mask=None, training=False):
    """The bound of each example of x for uniform noise [S, K, B, D]: `Estimate`.

    An example with nothing present has the objective 0 and gives no gradient.
    """
    self._check(model)
    posterior = model.posterior(x, mask, training)
    z = joint_posteriors.stratified_sample(posterior, noise)
    log_pi = joint_posteriors.log_mixture_weights(posterior)
    return self._estimate(model, x, z, posterior, log_pi, mask, training)

  def _check(self, model):
    model.check_names(self._weights["likelihood_weights"] or {}, "likelihood_weights")

  def _estimate(self, model, x, z, posterior, log_pi, mask, training):
    particles = model.score(x, z, posterior, mask, training)
    log_w = log_weights(particles, **self._weights)
    objective = self.bound(log_w, log_pi)
    if mask:
      objective = tf.where(model.any_present(x, mask), objective, 0.)
    return Estimate(objective, particles, log_pi)


class StickingTheLanding(Reparameterised):
  """`stl`: the score of the posterior's own parameters is left out (Roeder et al. 2017).

  Unbiased for `elbo`, and so for `iwae` at K = 1; biased otherwise. It is also what the released
  code of Shi et al. (2019) computes under the name DReG.
  """

  def __call__(self, model, x, noise, mask=None, training=False):
    self._check(model)
    posterior = model.posterior(x, mask, training)
    scale = _GradientScale()
    z = scale.apply(joint_posteriors.stratified_sample(posterior, noise))
    log_pi = joint_posteriors.log_mixture_weights(posterior)
    estimate = self._estimate(
        model, x, z, distributions.stop_gradient(posterior), log_pi, mask, training)
    scale.value = self._encoder_scale(log_weights(estimate.particles, **self._weights), log_pi)
    return estimate

  def _encoder_scale(self, log_w, log_pi):
    """What the encoders' share c_k g_k is multiplied by. -> [S, K, B]."""
    del log_pi
    return tf.ones_like(log_w)


class DoublyReparameterised(StickingTheLanding):
  """`dreg`: doubly reparameterised gradients (Tucker et al. 2019).

  Agrees in expectation with the reparameterised gradient for one expert (S = 1), and for more with
  `elbo` and with `iwae` at K = 1; biased for a stratified mixture otherwise, because a sample drawn
  from one expert is scored by all.
  """

  def _encoder_scale(self, log_w, log_pi):
    return normalised_weights(self.bound, log_w, log_pi)


ESTIMATORS = (Reparameterised, StickingTheLanding, DoublyReparameterised)


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
