"""Densities of latents that are known: those of the exact linear-Gaussian model."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.mixture import GaussianMixture

from tests import oracle
from tf_mmvae import joint_posteriors
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics import densities
from tf_mmvae.metrics.densities import AggregatePosterior, PriorSource, fitted_mixture

PRODUCT = joint_posteriors.ProductOfExperts()


def data(exact, num, seed=0, mask=None, copies=1):
  x = {name: tf.repeat(v, copies, 0) for name, v in exact.sample(num, seed).items()}
  mask = {name: tf.constant(np.array(has, bool)) for name, has in (mask or {}).items()}
  return Examples("exact", num * copies, lambda i: (
      {name: tf.gather(v, i) for name, v in x.items()}, {"index": i // copies},
      {name: tf.gather(has, i) for name, has in mask.items()}))


def exact_model(exact, **settings):
  """The product of its experts and the prior is the exact posterior: on average, the prior."""
  return exact.model(joint_posterior=PRODUCT, prior_in_experts=False, **settings)


def fitted(dataset, **settings):
  return AggregatePosterior(dataset, **{"candidates": (1, 2), "num_examples": 2000,
                                        "num_held_out": 500, "batch_size": 500, **settings})


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_an_exact_model_gains_nothing(num_modalities):
  """The aggregate of exact posteriors is the prior, N(0, I), of entropy D/2 log(2 pi e)."""
  exact = oracle.LinearGaussian(num_modalities)
  model, test = exact_model(exact), data(exact, 1000, 1)
  found = fitted(data(exact, 3000))(model, test)
  value, error, num = found.figures["prior"]
  assert num == 1000 and abs(value + np.log(2 * np.pi * np.e)) < 4 * error
  gain, error, _ = found.figures["gain"]
  assert abs(gain) < 0.02 and error < 0.01
  assert found.figures["components"][0] == 1 and found.figures["components"][2] == 2000


def test_a_shifted_aggregate_is_found():
  """Experts moved by 3: z ~ N(3, C) exactly, and the gain is the KL from the prior."""
  exact = oracle.LinearGaussian(1)
  model = exact.model(shift=3.)
  found = fitted(data(exact, 3000))(model, data(exact, 1000, 1))
  gain, error, _ = found.figures["gain"]
  assert abs(gain - 9.) < 0.02 + 4 * error  # |3|^2 / 2 of two dimensions, where C = I
  np.testing.assert_allclose(
      found.figures["fitted"][0] - found.figures["prior"][0], gain, atol=1e-5)


def test_log_prob_is_a_density_of_z_not_of_units_of_the_prior(grid):
  points, area = grid
  exact = oracle.LinearGaussian(2)
  model = exact.model(shift=1., learn_prior=True)
  model.prior.raw_scale.assign([0., 1.5])
  density = fitted(data(exact, 600), num_examples=400)
  nats = density.log_prob(model, points[:, 0])
  np.testing.assert_allclose(np.sum(np.exp(nats)) * area, 1., atol=1e-3)
  z = density.sample(model, 4000, 0)
  mean = np.sum(points[:, 0] * np.exp(nats)[:, None], 0) * area
  spread = np.sum((points[:, 0] - mean)**2 * np.exp(nats)[:, None], 0) * area
  assert np.all(np.abs(z.mean(0) - mean) < 4 * np.sqrt(spread / 4000))
  np.testing.assert_allclose(z.var(0), spread, rtol=0.1)
  assert z.dtype == np.float32 and z.shape == (4000, 2)
  latents, _ = density._encode(model, data(exact, 2000, 1), 5)
  np.testing.assert_allclose(z.std(0), latents.std(0), rtol=0.15)


def test_two_experts_apart_are_two_components():
  exact = oracle.LinearGaussian(2)
  model = exact.model(shift=6., stretch=0.1)  # one moved up, the other down
  found = fitted(data(exact, 1500), candidates=(1, 2, 3), num_examples=1000)
  z = found.sample(model, 2000, 0)
  up = np.mean(z[:, 0] > 0)
  assert abs(up - 0.5) < 4 * 0.5 / np.sqrt(1000)
  assert found(model, data(exact, 50, 1)).figures["components"][0] >= 2
  assert abs(np.mean(z[:1000, 0] > 0) - up) < 0.08  # not in the order of the components


def test_samples_follow_the_seed_alone():
  exact = oracle.LinearGaussian(2)
  model, density = exact.model(), fitted(data(exact, 200))
  for source in (density, PriorSource()):
    z = source.sample(model, 20, 1)
    np.testing.assert_array_equal(z, source.sample(model, 20, 1))
    assert not np.any(z == source.sample(model, 20, 2)) and z.shape == (20, 2)
    assert z.dtype == np.float32


def test_the_prior_is_that_of_the_model():
  model = oracle.LinearGaussian(2).model(learn_prior=True)
  model.prior.raw_scale.assign([0., 2.])
  z = PriorSource().sample(model, 5000, 0)
  np.testing.assert_allclose(z.std(0), model.prior.distribution().stddev(), rtol=0.05)


def test_it_is_fitted_once_a_model(monkeypatch):
  calls = []
  really = densities.fitted_mixture
  monkeypatch.setattr(
      densities, "fitted_mixture", lambda *args: calls.append(1) or really(*args))
  exact = oracle.LinearGaussian(2)
  one, other, density = exact.model(), exact.model(shift=5.), fitted(data(exact, 300))
  for model in (one, other, one):
    density.sample(model, 5, 0)
  density(one, data(exact, 10))
  assert len(calls) == 2
  assert np.abs(density.log_prob(one, np.zeros([1, 2]))
                - density.log_prob(other, np.zeros([1, 2]))) > 0.1


@pytest.mark.parametrize("num, family", [
    (1, "normal"), (1, "laplace-normal"), (2, "laplace"), (10, "laplace")])
def test_few_examples(num, family):
  exact = oracle.LinearGaussian(2)
  model, density = exact.model(family=family), AggregatePosterior(data(exact, num))
  assert np.all(np.isfinite(density.sample(model, 30, 0)))
  found = density(model, data(exact, 1))
  assert np.isfinite(found.figures["fitted"][0]) and np.isnan(found.figures["fitted"][1])
  assert np.abs(found.figures["gain"][0]) < 20  # no spike on the few that it saw
  assert found.figures["components"][2] == num - num // 6


def test_absent_modalities_and_empty_examples():
  """Only a is there in the first, only b in the second half; the last has nothing."""
  exact = oracle.LinearGaussian(2)
  model = exact.model(shift=50.)  # a goes up, b down
  mask = {"a": [1] * 10 + [0] * 11, "b": [0] * 10 + [1] * 10 + [0]}
  dataset = data(exact, 21, mask=mask)
  density = fitted(dataset, candidates=(2,), num_held_out=0)
  assert density(model, dataset).figures["prior"][2] == 20
  assert density(model, dataset).figures["components"][2] == 20
  z = density.sample(model, 1000, 0)
  assert np.all(np.abs(z) > 40) and abs(np.mean(z > 0) - 0.5) < 0.07
  nothing = data(exact, 3, mask={"a": [0] * 3, "b": [0] * 3})
  found = density(model, nothing)
  assert found.figures == {} and len(found.remarks) == 1
  with pytest.raises(ValueError, match="nothing to encode"):
    fitted(nothing).sample(model, 1, 0)


def test_errors_are_over_groups():
  exact = oracle.LinearGaussian(1)
  model = exact.model(shift=1., stretch=1e-3)  # copies have almost equal samples
  density = fitted(data(exact, 300), groups="index")
  error = density(model, data(exact, 50, 1, copies=8)).figures["gain"][1]
  expected = fitted(data(exact, 300))(model, data(exact, 50, 1)).figures["gain"][1]
  np.testing.assert_allclose(error, expected, rtol=0.02)


def test_the_choice_is_by_held_out_points():
  """Each candidate and floor fitted by the library; the best by its mean log-density."""
  rng = np.random.default_rng(0)
  points = rng.normal(size=[60, 3]) + 4 * rng.integers(0, 2, [60, 1])
  held_out = rng.normal(size=[40, 3]) + 4 * rng.integers(0, 2, [40, 1])
  best = max((GaussianMixture(num, reg_covar=floor, random_state=0, max_iter=200).fit(points)
              for num in (1, 2, 4) for floor in densities.FLOORS),
             key=lambda mixture: mixture.score(held_out))
  found = fitted_mixture(points, held_out, (1, 2, 4))
  assert found.n_components == best.n_components > 1
  np.testing.assert_allclose(found.score(held_out), best.score(held_out), rtol=1e-6)


def test_more_components_than_a_fifth_of_the_points_are_not_tried(monkeypatch):
  tried = []
  really = densities.GaussianMixture
  monkeypatch.setattr(densities, "GaussianMixture",
                      lambda num, **settings: tried.append(num) or really(num, **settings))
  points = np.arange(4)[np.arange(40) % 4, None] * 100. + np.arange(40)[:, None] % 7
  fitted_mixture(points, points + 0.5, (1, 2, 8, 9))
  assert sorted(set(tried)) == [1, 2, 8]
  tried.clear()
  fitted_mixture(points, points[:0], (1, 2))
  assert tried == [1]


def test_fewer_points_than_dimensions():
  points = np.random.default_rng(0).laplace(size=[40, 64])
  mixture = fitted_mixture(points[:20], points[20:])
  assert np.isfinite(mixture.score(points)) and mixture.n_components == 1
  assert mixture.score(points[20:]) > -64 * 2.3  # of N(0, 2 I) it would be -64 * 1.8
