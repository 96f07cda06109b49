"""Bounds: against loops, and the exact model's log p(x)."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests import oracle
from tf_mmvae import joint_posteriors, objectives
from tf_mmvae.estimators import Estimator
from tf_mmvae.objectives import elbo, iwae, iwae_tight

ABSENT = -np.inf


# Bounds, by loops.


def elbo_loop(log_w, log_pi):
  return sum(math.exp(log_pi[s]) * sum(log_w[s]) / len(log_w[s])
             for s in range(len(log_pi)) if log_pi[s] != ABSENT)


def iwae_loop(log_w, log_pi):
  return sum(math.exp(log_pi[s]) * log_mean_exp(log_w[s])
             for s in range(len(log_pi)) if log_pi[s] != ABSENT)


def iwae_tight_loop(log_w, log_pi):
  terms = [log_pi[s] + u for s in range(len(log_pi)) if log_pi[s] != ABSENT for u in log_w[s]]
  return log_mean_exp(terms) + math.log(len(terms) / len(log_w[0]))


def log_mean_exp(values):
  greatest = max(values)
  return greatest + math.log(sum(math.exp(u - greatest) for u in values) / len(values))


LOOPS = {elbo: elbo_loop, iwae: iwae_loop, iwae_tight: iwae_tight_loop}


def by_loop(bound, log_w, log_pi):
  """[S, K, B], [S, B] -> [B]."""
  return np.array([LOOPS[bound](log_w[..., b].tolist(), log_pi[..., b].tolist())
                   for b in range(log_w.shape[-1])])


def random_weights(num_components, num_samples, batch_size, spread=3., absent=False):
  """log_w and unequal log_pi; with `absent`, every second stratum but the first is, in turn."""
  rng = np.random.default_rng(5)
  log_w = spread * rng.normal(size=[num_components, num_samples, batch_size])
  pi = rng.dirichlet(np.ones(num_components), size=batch_size).T
  if absent:
    s, b = np.ogrid[:num_components, :batch_size]
    pi = np.where((s + b) % 2 & (s > 0), 0., pi)
  with np.errstate(divide="ignore"):
    return log_w, np.log(pi / pi.sum(0))


def test_every_bound_is_tested():
  assert {b for b in vars(objectives).values() if hasattr(b, "axes")} == set(objectives.BOUNDS)
  assert set(objectives.BOUNDS) == set(LOOPS)


@pytest.mark.parametrize("bound", objectives.BOUNDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 3), (1, 5, 2), (3, 4, 5)])
@pytest.mark.parametrize("absent", [False, True])
def test_bound_by_a_loop(bound, sizes, absent):
  log_w, log_pi = random_weights(*sizes, absent=absent)
  value = bound(tf.constant(log_w), tf.constant(log_pi))
  assert value.shape == sizes[-1:]
  np.testing.assert_allclose(value, by_loop(bound, log_w, log_pi), rtol=1e-12)


@pytest.mark.parametrize("spread", [0., 1e-3, 1., 30., 1e3])
@pytest.mark.parametrize("absent", [False, True])
def test_bounds_are_ordered_for_every_sample(spread, absent):
  log_w, log_pi = random_weights(3, 4, 500, spread, absent)
  least, middle, greatest = (bound(log_w, log_pi) for bound in objectives.BOUNDS)
  slack = 1e-15 + 1e-12 * spread
  assert np.all(least <= middle + slack) and np.all(middle <= greatest + slack)
  if spread == 1e3:
    assert np.all(np.isfinite([least, middle, greatest]))


@pytest.mark.parametrize("bound", objectives.BOUNDS)
@pytest.mark.parametrize("held", [np.nan, np.inf, -np.inf, 1e300])
def test_absent_strata_change_neither_value_nor_gradient(bound, held):
  log_w, log_pi = random_weights(3, 4, 5, absent=True)
  absent = np.broadcast_to((log_pi == ABSENT)[:, None], log_w.shape)
  expected = tf.constant(log_w)
  filled = tf.constant(np.where(absent, held, log_w))
  with tf.GradientTape() as tape:
    tape.watch([expected, filled])
    values = [bound(u, log_pi) for u in [expected, filled]]
  np.testing.assert_array_equal(*values)
  gradients = tape.gradient(values, [expected, filled])
  np.testing.assert_array_equal(*gradients)
  np.testing.assert_array_equal(gradients[1] == 0, absent)
  w = objectives.normalised_weights(bound, filled, log_pi)
  np.testing.assert_array_equal(np.isfinite(w), True)
  np.testing.assert_array_equal(
      np.where(absent, 0, w),
      np.where(absent, 0, objectives.normalised_weights(bound, expected, log_pi)))


@pytest.mark.parametrize("bound", objectives.BOUNDS)
def test_second_derivative_is_c_times_one_minus_w(bound):
  log_w, log_pi = random_weights(2, 3, 1)
  u = tf.constant(np.ravel(log_w))
  with tf.GradientTape() as outer:
    outer.watch(u)
    with tf.GradientTape() as inner:
      inner.watch(u)
      value = bound(tf.reshape(u, [2, 3, 1]), log_pi)
    c = inner.gradient(value, u)
  hessian = outer.jacobian(c, u, unconnected_gradients="zero")
  hessian = np.zeros([6, 6]) if bound is elbo else hessian
  w = np.ravel(objectives.normalised_weights(bound, log_w, log_pi))
  np.testing.assert_allclose(np.diag(hessian), c * (1 - w), atol=1e-12)


def test_weights_are_normalised_over_the_axes_of_the_bound():
  log_w, log_pi = random_weights(2, 3, 4)
  weights = [np.asarray(objectives.normalised_weights(b, log_w, log_pi)) for b in LOOPS]
  np.testing.assert_array_equal(weights[0], 1.)
  np.testing.assert_allclose(weights[1].sum(1), 1.)
  np.testing.assert_allclose(weights[2].sum((0, 1)), 1.)
  w = np.exp(log_w)
  np.testing.assert_allclose(weights[1], w / w.sum(1, keepdims=True))
  w = np.exp(log_w + log_pi[:, None])
  np.testing.assert_allclose(weights[2], w / w.sum((0, 1), keepdims=True))


def test_a_bound_of_another_kind_has_gradients_that_need_no_weights(pair):
  def greatest(log_w, log_pi):
    return tf.reduce_sum(tf.exp(log_pi) * tf.reduce_max(log_w, 1), 0)

  model, x = pair.model(shift=0.4), pair.sample(2)
  noise = joint_posteriors.uniform_noise([2, 3, 2, 2], [2, 3])
  for gradient in (objectives.reparameterised, objectives.stl):
    Estimator(greatest, gradient)(model, x, noise)
  for gradient in (objectives.dreg, objectives.mixture_dreg):
    with pytest.raises(ValueError, match="bound greatest does not say by normalised_over"):
      Estimator(greatest, gradient)(model, x, noise)


def test_effective_sample_size():
  log_w, _ = random_weights(2, 5, 3)
  w = np.exp(log_w) / np.exp(log_w).sum(1, keepdims=True)
  size = objectives.effective_sample_size(log_w)
  np.testing.assert_allclose(size, 1 / np.square(w).sum(1))
  equal, one_hot = np.full([1, 5, 1], -700.), np.array([0., -1e3, -1e3, -1e3, -1e3])[None, :, None]
  np.testing.assert_allclose(objectives.effective_sample_size(equal), [[5.]])
  np.testing.assert_allclose(objectives.effective_sample_size(one_hot), [[1.]])


# Bounds of the exact model.

NUM_RUNS = 4000


@pytest.fixture(scope="module")
def unequal(pair):
  """Two unequal experts and one observation for which the loose bound stays away from log p(x)."""
  return pair.model(shift=0.4), pair.sample(1, seed=5)


@pytest.fixture(scope="module")
def runs(unequal):
  """{K: (log_w [2, K, NUM_RUNS], log_pi)}, one observation with its own noise in each run."""
  model, x = unequal
  x = {name: tf.repeat(values, NUM_RUNS, 0) for name, values in x.items()}
  log_pi = joint_posteriors.log_mixture_weights(model.posterior(x))

  @tf.function(reduce_retracing=True)
  def log_w(noise):
    return objectives.log_weights(model.particles(x, noise))

  return {k: (log_w(joint_posteriors.uniform_noise([2, k, NUM_RUNS, 2], [1, k])), log_pi)
          for k in [1, 5, 30, 300]}


def mean_and_error(values):
  """Mean over the first axis and its standard error."""
  values = np.asarray(values, float)
  return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def test_tight_bound_estimates_the_evidence_without_bias(pair, unequal, runs):
  log_px = pair.log_evidence(unequal[1])[0]
  for log_w, log_pi in runs.values():
    mean, error = mean_and_error(np.exp(iwae_tight(log_w, log_pi) - log_px))
    assert abs(mean - 1) < 4 * error
    mean, error = mean_and_error(iwae_tight(log_w, log_pi))
    assert mean < log_px + 4 * error


def test_tight_bound_alone_tends_to_the_log_evidence(pair, unequal, runs, grid):
  model, x = unequal
  log_px = pair.log_evidence(x)[0]
  gaps, errors = {}, {}
  for bound in objectives.BOUNDS:
    means, errors[bound] = zip(*[mean_and_error(bound(*run)) for run in runs.values()],
                               strict=True)
    gaps[bound] = log_px - np.array(means)
  assert np.all(np.diff(gaps[iwae_tight]) < 0)
  left = gaps[iwae_tight][2] / 10  # at K = 300, as the gap falls with 1 / K
  assert abs(gaps[iwae_tight][3] - left) < 4 * errors[iwae_tight][3] + left
  z, area = grid
  locs, scales = oracle.split_raw(oracle.raw_parameters(model, x))
  densities = [np.exp(oracle.log_prob("normal", z, loc, scale))
               for loc, scale in zip(locs, scales, strict=True)]
  evidence = [(q / sum(densities) * 2 * np.exp(pair.log_joint(x, z))).sum() * area
              for q in densities]  # what mean_k w_sk tends to
  left = gaps[iwae][2] / 10
  assert log_px - np.mean(np.log(evidence)) > 0.03
  assert abs(gaps[iwae][3] - (log_px - np.mean(np.log(evidence)))) < 4 * errors[iwae][3] + left
  assert np.all(np.abs(np.diff(gaps[elbo])) < 4 * np.hypot(errors[elbo][1:], errors[elbo][:-1]))
  assert gaps[elbo][0] > gaps[iwae][3] > gaps[iwae_tight][3]
