"""The oracle's closed forms by a second route: sums over a grid of latents."""

import numpy as np
import tensorflow as tf

from tests import oracle


def densities(exact, x, names, grid):
  """p(x_names, z) on the grid times its area, [G, B]."""
  z, area = grid
  return np.exp(exact.log_joint(x, z, names)) * area


def test_log_evidence(exact, grid):
  x = exact.sample(3)
  for names in [exact.names, exact.names[:1], exact.names[-1:]]:
    expected = np.log(densities(exact, x, names, grid).sum(0))
    np.testing.assert_allclose(exact.log_evidence(x, names), expected, rtol=1e-9)


def test_posterior(exact, grid):
  x = exact.sample(3)
  z = grid[0][:, 0]
  for names in [exact.names, exact.names[:1]]:
    weights = densities(exact, x, names, grid)
    weights = weights / weights.sum(0)
    mean, covariance = exact.posterior(x, names)
    np.testing.assert_allclose(mean, weights.T @ z, atol=1e-9)
    for b in range(3):
      errors = z - mean[b]
      np.testing.assert_allclose(covariance, (weights[:, b, None] * errors).T @ errors, atol=1e-9)


def test_conditional_is_the_ratio_of_evidences(exact):
  x = exact.sample(3)
  for name in exact.names[1:]:
    expected = exact.log_evidence(x, ["a", name]) - exact.log_evidence(x, ["a"])
    np.testing.assert_allclose(exact.log_conditional(x, [name], ["a"]), expected, rtol=1e-9)


def test_experts_are_the_posteriors_of_single_modalities(exact):
  x, model = exact.sample(3), exact.model()
  for name, modality in model.modalities.items():
    q = modality.posterior(x[name])
    mean, covariance = exact.posterior(x, [name])
    np.testing.assert_allclose(q.mean(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        covariance, np.diag(np.square(q.stddev()[0])), rtol=1e-4, atol=1e-5)


def test_model_has_the_exact_joint_density(exact):
  x, model = exact.sample(4), exact.model()
  z = tf.random.stateless_normal([1, 2, 4, 2], [0, 1])
  particles = model.score(x, z, model.posterior(x))
  nats = particles.log_pz + sum(particles.log_px.values())
  np.testing.assert_allclose(nats, exact.log_joint(x, np.asarray(z)), rtol=1e-4)


def test_quantiles():
  np.testing.assert_allclose(oracle.quantile("normal", [0.5, 0.975]), [0, 1.959964], rtol=1e-6)
  p = np.array([0.1, 0.5, 0.9])
  u = oracle.quantile("laplace", p)
  np.testing.assert_allclose(np.where(u < 0, np.exp(u) / 2, 1 - np.exp(-u) / 2), p)
