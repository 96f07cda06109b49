"""Estimators that sum over subsets, or weigh otherwise."""


import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracle
from tests.objectives_test import mean_and_error
from tf_mmvae import estimators, joint_posteriors, objectives
from tf_mmvae.estimators import Estimator
from tf_mmvae.objectives import elbo, iwae, iwae_tight

# Subsets of the modalities.


def test_subsets_are_the_same_by_mask_and_by_key():
  """Each once: what gaps make of an example is as if it never had more."""
  exact = oracle.LinearGaussian(3)
  model = exact.model(shift=0.4, joint_posterior=joint_posteriors.ProductOfExperts())
  x, num = exact.sample(1, seed=5), 20_000
  many = {n: tf.repeat(v, num, 0) for n, v in x.items()}
  estimator = estimators.SubsampledEstimator(Estimator(elbo, objectives.reparameterised), 1)
  for present in (["a"], ["a", "c"]):
    mask = {n: tf.fill([num], n in present) for n in x}
    rows = estimator.num_strata(model, many)
    by_mask = estimator(
        model, many, joint_posteriors.uniform_noise([rows, 1, num, 2], [0, 1]), mask).objective
    alone = estimators.SubsampledEstimator(Estimator(elbo, objectives.reparameterised))
    seen = {n: many[n] for n in present}
    by_key = alone(model, seen, joint_posteriors.uniform_noise(
        [alone.num_strata(model, seen), 1, num, 2], [0, 2])).objective
    difference = np.mean(by_mask) - np.mean(by_key)
    error = np.hypot(np.std(by_mask), np.std(by_key)) / np.sqrt(num)
    assert abs(difference) < 4 * error < 0.2
  mask = {n: tf.fill([num], False) for n in x}
  nothing = estimator(model, many, tf.fill([rows, 1, num, 2], 0.3), mask).objective
  np.testing.assert_array_equal(nothing, np.zeros(num))


def test_subsampled_is_the_sum_over_subsets():
  exact = oracle.LinearGaussian(3)
  model = exact.model(shift=0.4, joint_posterior=joint_posteriors.ProductOfExperts())
  x, elbos = exact.sample(4), Estimator(elbo, objectives.reparameterised)
  mask = {"b": np.array([True, False, True, True])}
  x["b"] = tf.where(mask["b"][:, None], x["b"], np.nan)
  subsampled = estimators.SubsampledEstimator(elbos)
  assert subsampled.num_strata(model, x) == 4
  noise = joint_posteriors.uniform_noise([4, 3, 4, 2], [0, 1])
  estimate = subsampled(model, x, noise, mask)
  terms = [elbos(model, x, noise[:1], mask)] + [
      elbos(model, {n: x[n]}, noise[i:i + 1], {n: m for n, m in mask.items() if n == name})
      for i, name in enumerate(x, 1) for n in [name]]
  np.testing.assert_allclose(estimate.objective, sum(t.objective for t in terms), rtol=1e-6)
  np.testing.assert_array_equal(terms[2].objective[1], 0.)
  assert estimate.particles.log_px.keys() == x.keys()
  mixture = exact.model()
  assert subsampled.num_strata(mixture, x) == 6


def test_subsampled_draws_subsets_between_evenly():
  exact = oracle.LinearGaussian(3)
  model = exact.model(joint_posterior=joint_posteriors.ProductOfExperts())
  seen = []

  class Recorder(Estimator):
    def __call__(self, model, x, noise, mask=None, training=False):
      seen.append((list(x), mask))
      return super().__call__(model, x, noise, mask, training)

  num = 3000
  estimator = estimators.SubsampledEstimator(Recorder(elbo), num_random=2)
  x, mask = exact.sample(num), {"a": np.arange(num) > 0}
  rows = estimator.num_strata(model, x)
  assert rows == 1 + 3 + 2 * 2
  estimator(model, x, joint_posteriors.uniform_noise([rows, 1, num, 2], [0, 1]), mask)
  assert [names for names, _ in seen] == [[*"abc"], ["a"], ["b"], ["c"], [*"abc"], [*"abc"]]
  for names, drawn in seen[4:]:
    drawn = np.stack([drawn[n] for n in names])  # [M, B]
    np.testing.assert_array_equal(drawn[:, 1:].sum(0), 2)
    assert not drawn[0, 0]
    assert np.all(np.abs(drawn.mean(1) - 2 / 3) < 4 * np.sqrt(2 / 9 / num))
  assert np.any(seen[4][1]["a"] != seen[5][1]["a"])
  with pytest.raises(ValueError, match="need at least 3 modalities, got \\['a', 'b'\\]: give 0"):
    estimator.num_strata(model, {n: x[n] for n in "ab"})


def test_loose_and_tight_bound_are_one_for_one_expert():
  exact = oracle.LinearGaussian(1)
  model, x = exact.model(shift=0.4), exact.sample(2)
  noise = joint_posteriors.uniform_noise([1, 5, 2, 2], [2, 4])
  for gradient in objectives.GRADIENTS:
    loose, tight = (oracle.encoder_gradients(model, Estimator(bound, gradient), x, noise)
                    for bound in [iwae, iwae_tight])
    np.testing.assert_allclose(loose, tight, rtol=1e-4, atol=1e-6)


# The total correlation objective.


def total_correlation(alpha, **choices):
  """A model, its data with gaps, and the estimator."""
  exact = oracle.LinearGaussian(3)
  model = exact.model(
      shift=0.4, joint_posterior=joint_posteriors.ProductOfExperts(prior_expert=False))
  x, mask = exact.sample(4), {"b": np.array([True, False, True, True])}
  x["b"] = tf.where(mask["b"][:, None], x["b"], np.nan)
  return model, x, mask, estimators.TotalCorrelationEstimator(alpha, **choices)


def test_total_correlation_by_hand():
  """The objective as the paper has it, its KL terms exact."""
  alpha, beta = 0.7, 2.
  model, x, mask, estimator = total_correlation(alpha, beta=beta)
  noise = joint_posteriors.uniform_noise([1, 20_000, 4, 2], [0, 1])
  values = estimator(model, x, noise, mask)
  q = model.posterior(x, mask).components_distribution  # batch [B, 1]
  q = tfp.distributions.Independent(tfp.distributions.Normal(
      q.distribution.loc[:, 0], q.distribution.scale[:, 0]), 1)
  for b in range(4):
    names = [n for n in x if n != "b" or mask["b"][b]]
    kl = {n: q.kl_divergence(model.modalities[n].posterior(x[n]))[b] for n in names}
    log_px = sum(np.mean(values.particles.log_px[n][:, :, b]) for n in names)
    expected = (len(names) - alpha) / len(names) * log_px - beta * (
        (1 - alpha) * q.kl_divergence(model.prior.distribution())[b]
        + alpha * sum(kl.values()) / len(names))
    spread = np.std(values.log_w[..., b]) / np.sqrt(20_000)
    assert abs(values.objective[b] - expected) < 4 * spread < 0.2


def test_total_correlation_without_alpha_is_the_elbo():
  model, x, mask, estimator = total_correlation(0.)
  noise = joint_posteriors.uniform_noise([1, 3, 4, 2], [0, 1])
  plain = Estimator(elbo, objectives.reparameterised)(model, x, noise, mask)
  np.testing.assert_allclose(
      estimator(model, x, noise, mask).objective, plain.objective, rtol=1e-6)
  with pytest.raises(ValueError, match="alpha must be in \\[0, 1\\], got 2"):
    estimators.TotalCorrelationEstimator(2)


def test_total_correlation_by_other_gradients():
  """The experts inside the objective keep their parameters where the posterior's are frozen."""
  num = 50_000
  exact = oracle.LinearGaussian(2)
  model = exact.model(shift=0.4, stretch=1.2,
                      joint_posterior=joint_posteriors.ProductOfExperts(prior_expert=False))
  x = {n: tf.repeat(v, num, 0) for n, v in exact.sample(1, seed=5).items()}
  noise = joint_posteriors.uniform_noise([1, 2, num, 2], [3, 0])
  plain, other = (np.moveaxis(oracle.encoder_gradients(
      model, estimators.TotalCorrelationEstimator(0.7, gradient=g), x, noise), 1, 0)
                  for g in [objectives.reparameterised, objectives.stl])
  bias, error = mean_and_error(other - plain)
  assert np.linalg.norm(error) < 0.02 * np.linalg.norm(plain.mean(0))
  assert np.max(np.abs(bias) / error) < 4


def test_a_bound_that_is_no_value_an_example(pair):
  model, x = pair.model(), pair.sample(3)
  noise = joint_posteriors.uniform_noise([2, 4, 3, 2], [0, 1])
  estimator = estimators.Estimator(lambda log_w, log_pi: tf.reduce_mean(log_w, 1),
                                   objectives.reparameterised)
  with pytest.raises(ValueError, match=r"^the bound <lambda> must return \[B\], one value an exam"):
    estimator(model, x, noise)
