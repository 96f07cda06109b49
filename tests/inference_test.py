import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracle
from tf_mmvae import inference, joint_posteriors
from tf_mmvae.model import MultimodalVAE, Prior

tfd = tfp.distributions
NUM = 4000
WEIGHTS = np.array([0.2, 0., 0.8])


class Weighted(joint_posteriors.MixtureOfExperts):
  """A joint posterior whose second expert is absent."""

  def __call__(self, experts, prior, mask=None):
    logits = tf.math.log(tf.constant(WEIGHTS[:len(experts)], tf.float32))
    logits = tf.tile(logits[tf.newaxis], [tf.shape(experts[0].mean())[0], 1])
    components = tf.nest.map_structure(
        lambda *p: tf.stack(p, axis=1), *experts, expand_composites=True)
    return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), components)


@pytest.fixture(scope="module")
def drawn():
  """NUM samples for one x of a model with experts far apart: each expert's distance in its own
  standard deviations [M, NUM, D]."""
  exact = oracle.LinearGaussian(3)
  apart = exact.model(shift=100.)
  model = MultimodalVAE(list(apart.modalities.values()), Prior(2), Weighted())
  for name, shift in {"a": -100., "b": 0., "c": 100.}.items():
    model.modalities[name].encoder.set_weights(exact._encoder_weights(name, shift, 1., True))
  x = {name: tf.repeat(value, NUM, axis=0) for name, value in exact.sample(1).items()}
  z = inference.sample_posterior(model, x, [3, 4])
  experts = [m.posterior(x[name]) for name, m in model.modalities.items()]
  return np.stack([(z - q.mean()) / q.stddev() for q in experts])


def chosen(drawn):
  return np.argmin(np.abs(drawn).max(-1), axis=0)


def test_components_are_chosen_by_weight(drawn):
  counts = np.bincount(chosen(drawn), minlength=3)
  assert counts[1] == 0
  assert abs(counts[0] - 0.2 * NUM) < 4 * np.sqrt(0.2 * 0.8 * NUM)


def test_samples_follow_the_chosen_component(drawn):
  """Chi-square over 16 bins of equal probability: also that the choice tells nothing of them."""
  for component in (0, 2):
    u = drawn[component][chosen(drawn) == component]
    ranks = 0.5 * (1 + tf.math.erf(tf.constant(u / np.sqrt(2)))).numpy()
    for of_dim in ranks.T:
      counts = np.bincount((of_dim * 16).astype(int), minlength=16)
      expected = len(of_dim) / 16
      assert np.sum((counts - expected)**2 / expected) < 44.3  # 1 in 10,000 by chance


def test_seed_and_example_decide(pair):
  model, x = pair.model(), pair.sample(1)
  x = {name: tf.repeat(value, 5, axis=0) for name, value in x.items()}
  z = inference.sample_posterior(model, x, [0, 1])
  assert z.shape == [5, 2]
  np.testing.assert_array_equal(z, inference.sample_posterior(model, x, [0, 1]))
  assert np.all(z != inference.sample_posterior(model, x, [0, 2]))
  assert len(np.unique(z)) == 10


def test_many_samples_of_one_example(pair):
  """Each independent, of the joint posterior; the first of one is `sample_posterior`'s."""
  model, x = pair.model(), pair.sample(2)
  z = np.asarray(inference.samples_of_posterior(model, x, NUM, [0, 1]))
  assert z.shape == (NUM, 2, 2)
  posterior = model.posterior(x)
  errors = 4 * np.asarray(posterior.stddev()) / np.sqrt(NUM)
  assert np.all(np.abs(z.mean(0) - posterior.mean()) < errors)
  assert len(np.unique(z)) > 0.99 * z.size
  np.testing.assert_array_equal(
      inference.samples_of_posterior(model, x, 1, [0, 1])[0],
      inference.sample_posterior(model, x, [0, 1]))


def test_sample_prior(pair):
  model = pair.model()
  z = inference.sample_prior(model, NUM, tf.constant([0, 1], tf.int64))
  np.testing.assert_array_equal(z, inference.sample_prior(model, NUM, [0, 1]))
  np.testing.assert_allclose(np.mean(z, 0), [0, 0], atol=4 / np.sqrt(NUM))
  np.testing.assert_allclose(np.std(z, 0), [1, 1], atol=4 / np.sqrt(2 * NUM))


def test_decode_gives_modes_of_the_modalities_named(exact):
  model = exact.model()
  z = tf.random.stateless_normal([3, 2], [0, 1])
  everything = inference.decode(model, z)
  assert list(everything) == exact.names
  for name in exact.names:
    expected = np.asarray(z, float) @ exact.weights[name].T + exact.means[name]
    np.testing.assert_allclose(everything[name], expected, rtol=1e-4, atol=1e-5)
  assert list(inference.decode(model, z, ["a"])) == ["a"]
  assert inference.decode(model, z, []) == {}


def test_private_latents_of_the_target_are_of_the_prior():
  exact = oracle.LinearGaussian(2, latent_dim=3, private_dim=1)
  model, x = exact.model(), exact.sample(1)
  z = np.asarray(inference.samples_of_posterior(model, {"a": x["a"]}, NUM, [0, 1]))[:, 0]
  mean, covariance = exact.posterior(x, ["a"])
  assert np.all(np.abs(z.mean(0) - mean[0]) < 4 * np.sqrt(np.diag(covariance) / NUM))
  assert abs(z[:, 2].std() - 1) < 4 / np.sqrt(2 * NUM) and abs(z[:, 1].std() - 1) > 0.1
  decoded = inference.decode(model, z)
  for name, dims in {"a": [0, 1], "b": [0, 2]}.items():
    expected = z[:, dims] @ exact.weights[name][:, dims].T + exact.means[name]
    np.testing.assert_allclose(decoded[name], expected, rtol=1e-4, atol=1e-5)


# KL.

LOC, SCALE, PRIOR = np.array([[0., 1., -2.], [0.3, 0., 4.]]), np.array([1., 0.1, 2.]), 1.3
FAMILIES = {"normal": tfd.Normal, "laplace": tfd.Laplace}


def by_quadrature(of_q, of_p):
  """KL(q || p) in nats by the rectangle rule, [2, 3]."""
  z = np.linspace(-60, 60, 1_200_001)
  found = np.zeros(LOC.shape)
  for i, j in np.ndindex(LOC.shape):
    log_q = oracle.log_prob(of_q, z[:, None], LOC[i, j], SCALE[j])
    log_p = oracle.log_prob(of_p, z[:, None], 0., PRIOR)
    found[i, j] = np.sum(np.exp(log_q) * (log_q - log_p)) * (z[1] - z[0])
  return found


@pytest.mark.parametrize("of_q", FAMILIES)
@pytest.mark.parametrize("of_p", FAMILIES)
def test_kl_against_quadrature(of_q, of_p):
  """By the formula for two of one family, else from samples: 4 standard errors of spread 5."""
  q = FAMILIES[of_q](tf.constant(LOC, tf.float32), tf.constant(SCALE, tf.float32))
  p = FAMILIES[of_p](tf.zeros(3), PRIOR)
  num = 100_000
  found = inference.kl_per_dimension(q, p, num).numpy()
  error = 1e-4 if of_q == of_p else 4 * 5 / np.sqrt(num)
  np.testing.assert_allclose(found, by_quadrature(of_q, of_p), rtol=1e-4, atol=error)
  again = inference.kl_per_dimension(q, p, num).numpy()
  np.testing.assert_array_equal(found, again)
  other = inference.kl_per_dimension(q, p, num, seed=1).numpy()
  assert np.array_equal(found, other) == (of_q == of_p)


def test_means_and_kl_of_each_expert(pair):
  """Of the exact posteriors from a standard Gaussian."""
  x = pair.sample(3)
  found = inference.means_and_kl(pair.model(), x)
  assert list(found) == pair.names
  for name, (means, kl) in found.items():
    mean, covariance = pair.posterior(x, [name])
    variance = np.diag(covariance)
    np.testing.assert_allclose(means, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        kl, (mean**2 + variance - 1 - np.log(variance)) / 2, rtol=1e-4, atol=1e-5)


def test_samples_of_what_each_example_has(pair):
  """Of q(z | a) where b is absent, whatever stands in its place, and of the prior for nothing."""
  model, one = pair.model(), pair.sample(1)
  x = {name: tf.repeat(value, 3 * NUM, axis=0) for name, value in one.items()}
  rows = np.repeat(range(3), NUM)
  mask = {"a": tf.constant(rows != 2), "b": tf.constant(rows == 0)}
  x["b"] = tf.where(mask["b"][:, None], x["b"], float("nan"))
  z = np.asarray(inference.sample_posterior(model, x, [0, 1], mask)).reshape([3, NUM, 2])
  expected = [model.posterior(one), model.posterior({"a": one["a"]})]
  expected = [(q.mean()[0], q.stddev()[0]) for q in expected] + [(np.zeros(2), np.ones(2))]
  for found, (mean, stddev) in zip(z, expected, strict=True):
    assert np.all(np.abs(found.mean(0) - mean) < 4 * np.asarray(stddev) / np.sqrt(NUM))
    np.testing.assert_allclose(found.std(0), stddev, rtol=0.1)
