"""Exact answers to test against: a linear-Gaussian model of several modalities, in NumPy float64.

z ~ N(0, I), x_m = W_m z + b_m + N(0, s_m^2 I). The columns of each W_m are orthogonal, so the
posterior of a single modality has a diagonal covariance, as experts have.
"""

import statistics

import keras
import numpy as np
import tensorflow as tf

from tf_mmvae import distributions
from tf_mmvae.batch import COMPLETE
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

SIZES = {"a": 2, "b": 3, "c": 4}  # of an observation
FAMILIES = {"normal": distributions.normal, "laplace": distributions.laplace}


class LinearGaussian:
  """The exact model of the first `num_modalities` of a, b and c, and networks that equal it.

  With `private_dim` each modality has that many dimensions of its own after the shared ones.
  """

  def __init__(self, num_modalities, latent_dim=2, seed=0, private_dim=0):
    rng = np.random.default_rng(seed)
    self.latent_dim, self.private_dim = latent_dim, private_dim
    self.names = list(SIZES)[:num_modalities]
    self.weights, self.means, self.scales, self.seen = {}, {}, {}, {}
    shared = latent_dim - num_modalities * private_dim
    for i, name in enumerate(self.names):
      first = shared + i * private_dim
      seen = [*range(shared), *range(first, first + private_dim)]
      basis, _ = np.linalg.qr(rng.normal(size=[SIZES[name], len(seen)]))
      self.seen[name], self.weights[name] = seen, np.zeros([SIZES[name], latent_dim])
      self.weights[name][:, seen] = basis * rng.uniform(0.5, 1.5, len(seen))  # [size, D]
      self.means[name] = rng.normal(size=SIZES[name])
      self.scales[name] = rng.uniform(0.5, 1.)

  def sample(self, batch_size, seed=0):
    """Observations x of the model, {name: [B, size]}, float32."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=[batch_size, self.latent_dim])
    x = {}
    for name in self.names:
      noise = self.scales[name] * rng.normal(size=[batch_size, SIZES[name]])
      x[name] = tf.constant(z @ self.weights[name].T + self.means[name] + noise, tf.float32)
    return x

  def _joined(self, names):
    """W [N, D], b [N] and noise variances [N] of the observations of `names` side by side."""
    return (np.concatenate([self.weights[n] for n in names]),
            np.concatenate([self.means[n] for n in names]),
            np.concatenate([np.full(SIZES[n], self.scales[n]**2) for n in names]))

  def log_evidence(self, x, names=None):
    """log p(x_names), [B]."""
    names = names or self.names
    weights, mean, variances = self._joined(names)
    return gaussian_log_prob(_side_by_side(x, names), mean,
                             weights @ weights.T + np.diag(variances))

  def posterior(self, x, names):
    """p(z | x_names): mean [B, D] and covariance [D, D]."""
    weights, mean, variances = self._joined(names)
    precision = np.eye(self.latent_dim) + weights.T @ (weights / variances[:, None])
    covariance = np.linalg.inv(precision)
    return (_side_by_side(x, names) - mean) / variances @ weights @ covariance, covariance

  def log_conditional(self, x, names, given):
    """log p(x_names | x_given) by the predictive distribution, [B]."""
    z_mean, z_covariance = self.posterior(x, given)
    weights, mean, variances = self._joined(names)
    return gaussian_log_prob(_side_by_side(x, names), z_mean @ weights.T + mean,
                             weights @ z_covariance @ weights.T + np.diag(variances))

  def log_joint(self, x, z, names=None):
    """log p(x_names, z) with a Gaussian prior, for z [..., B, D]. -> [..., B]."""
    total = log_prob("normal", z, 0., 1.)
    for name in names or self.names:
      mean = z @ self.weights[name].T + self.means[name]
      total = total + log_prob("normal", np.asarray(x[name], float), mean, self.scales[name])
    return total

  def model(self, shift=0., stretch=1., family="normal", learn_prior=False,
            joint_posterior=None, prior_in_experts=True):
    """The same model as a `MultimodalVAE`, its experts the exact p(z | x_m) but for two knobs.

    Args:
      shift: added to the experts' locations, and taken off those of every second one.
      stretch: factor of the experts' scales.
      family: of experts and prior; the likelihoods stay Gaussian. "laplace-normal" is of experts in
        turn, and of the prior the first.
      learn_prior: whether the prior's scales are learnt.
      joint_posterior: fusion rule.
      prior_in_experts: without it experts are p(x_m | z) as a density of z: their product with the
        prior is the exact posterior of all.
    """
    families = family.split("-")
    model = MultimodalVAE(
        [self._modality(n, FAMILIES[families[i % len(families)]])
         for i, n in enumerate(self.names)],
        Prior(self.latent_dim, FAMILIES[families[0]], learn_prior), joint_posterior,
        self.private_dim)
    for i, (name, modality) in enumerate(model.modalities.items()):
      modality.encoder.set_weights(
          self._encoder_weights(name, shift * (-1)**i, stretch, prior_in_experts))
      modality.decoder.set_weights([self.weights[name].T[self.seen[name]], self.means[name]])
    return model

  def _modality(self, name, family):
    return Modality(
        name, (SIZES[name],), Encoder(2 * len(self.seen[name])), keras.layers.Dense(SIZES[name]),
        lambda decoder, z: distributions.normal_likelihood(decoder, z, self.scales[name]), family)

  def _encoder_weights(self, name, shift, stretch, with_prior):
    weights = self.weights[name][:, self.seen[name]]
    covariance = np.linalg.inv(
        with_prior * np.eye(weights.shape[1]) + weights.T @ weights / self.scales[name]**2)
    gain = weights @ covariance / self.scales[name]**2  # [size, D]
    raw_scale = np.log(np.expm1(stretch * np.sqrt(np.diag(covariance))))
    return [np.concatenate([gain, np.zeros_like(gain)], axis=1),
            np.concatenate([shift - self.means[name] @ gain, raw_scale])]


class Encoder(keras.layers.Dense):
  """A linear encoder; `offset` is added to the raw parameters, to differentiate by them."""

  offset = 0.

  def call(self, x, training=False):
    return super().call(x) + self.offset


def raw_parameters(model, x):
  """Raw parameters of the experts, [M, B, 2 D]."""
  return np.stack([m.encoder(x[m.name]) for m in model.present(x)]).astype(float)


def encoder_gradients(model, estimator, x, noise, mask=COMPLETE):
  """Gradients of each example's objective by each expert's raw parameters, [M, B, 2 D]."""
  encoders = [m.encoder for m in model.present(x)]
  offsets = [tf.zeros([noise.shape[2], 2 * model.latent_dim]) for _ in encoders]

  @tf.function
  def gradients(offsets, noise):
    with tf.GradientTape() as tape:
      tape.watch(offsets)
      for encoder, offset in zip(encoders, offsets, strict=True):
        encoder.offset = offset
      objective = estimator(model, x, noise, mask, training=True).objective
    return tape.gradient(objective, offsets)

  try:
    return np.stack(gradients(offsets, noise)).astype(float)
  finally:
    for encoder in encoders:
      encoder.offset = 0.


def split_raw(raw):
  """Locations and scales [..., D] of raw parameters [..., 2 D], by softplus."""
  loc, raw_scale = np.split(np.asarray(raw, float), 2, axis=-1)
  return loc, np.log1p(np.exp(raw_scale)) + distributions.MIN_SCALE


def log_prob(family, x, loc, scale):
  """Log-density of independent dimensions, summed over the last axis."""
  u = (x - loc) / scale
  nats = {"normal": -0.5 * u**2 - 0.5 * np.log(2 * np.pi), "laplace": -np.abs(u) - np.log(2.)}
  return (nats[family] - np.log(scale)).sum(-1)


def mixture_log_prob(family, z, locs, scales, log_pi):
  """log sum_s pi_s q_s(z) for one z [D] by a loop; locs and scales [S, D], log_pi [S]."""
  density = 0.
  for loc, scale, weight in zip(locs, scales, np.exp(log_pi), strict=True):
    if weight > 0:
      density += weight * np.exp(log_prob(family, z, loc, scale))
  return np.log(density)


def quantile(family, p):
  """Inverse distribution function at location 0 and scale 1."""
  p = np.asarray(p, float)
  if family == "normal":
    return np.vectorize(statistics.NormalDist().inv_cdf)(p)
  return np.where(p < 0.5, np.log(2 * p), -np.log(2 * (1 - p)))


def gaussian_log_prob(x, mean, covariance):
  """log N(x; mean, covariance) with a full covariance. x [B, N] -> [B]."""
  error = x - mean
  maha = np.einsum("bi,ij,bj->b", error, np.linalg.inv(covariance), error)
  return -0.5 * (maha + np.linalg.slogdet(2 * np.pi * covariance)[1])


def _side_by_side(x, names):
  return np.concatenate([np.asarray(x[n], float) for n in names], axis=1)
