"""Samples of the posteriors against the model's own and each other."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests import oracle
from tf_mmvae import joint_posteriors
from tf_mmvae.metrics import importance_samples
from tf_mmvae.metrics.importance_samples import Sampler

RULES = {"moe": joint_posteriors.MixtureOfExperts(), "poe": joint_posteriors.ProductOfExperts(),
         "mopoe": joint_posteriors.MixtureOfProducts()}
COMPONENTS = {"moe": 3, "poe": 1, "mopoe": 7}
K, B = 30, 5


@pytest.fixture(scope="module")
def exact():
  return oracle.LinearGaussian(3)


@pytest.fixture(scope="module", params=RULES)
def rule(request):
  return request.param


@pytest.fixture(scope="module")
def model(exact, rule):
  return exact.model(shift=0.3, joint_posterior=RULES[rule])


@pytest.fixture(scope="module")
def whole(exact, model):
  """All samples at once."""
  x = exact.sample(B)
  return Sampler(model, x, K, 10**6)(x, [3, 4])


def assert_equal(found, expected, **tolerance):
  assert list(found) == list(expected)
  for sources in found:
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found[sources],
        expected[sources])


def test_samples_are_of_the_posterior_of_their_sources(exact, model, whole, rule):
  """Scored by the model itself; each modality alone takes its own stratum of the noise."""
  x = exact.sample(B)
  noise = joint_posteriors.uniform_noise([max(COMPONENTS[rule], 3), K, B, 2], [3, 4])
  assert list(whole) == ["a+b+c", "a", "b", "c"]
  for m, (sources, scored) in enumerate(whole.items(), -1):
    given = {name: x[name] for name in sources.split("+")}
    strata = slice(m, m + 1) if m >= 0 else slice(0, COMPONENTS[rule])
    posterior = model.posterior(given)
    z, log_pi = joint_posteriors.stratified_sample(posterior, noise[strata])
    particles = model.score(x, z, posterior)
    np.testing.assert_allclose(scored.log_pi, log_pi, atol=1e-6)
    np.testing.assert_allclose(
        scored.log_ratio, particles.log_pz - particles.log_qz, rtol=1e-4, atol=1e-4)
    assert list(scored.log_px) == ["a", "b", "c"]
    for name, log_px in scored.log_px.items():
      np.testing.assert_allclose(log_px, particles.log_px[name], rtol=1e-4, atol=1e-4)


def test_weights_hold_the_likelihoods_of_the_names_alone(whole):
  scored = whole["a+b+c"]
  found = scored.log_weights(["a", "c"])
  np.testing.assert_allclose(
      found, scored.log_ratio + scored.log_px["a"] + scored.log_px["c"], rtol=1e-12)
  assert found.dtype == tf.float64


@pytest.mark.parametrize("num_latents", [1, 97])
def test_few_latents_at_once_change_nothing(exact, model, whole, num_latents):
  x = exact.sample(B)
  chunks = Sampler(model, x, K, num_latents)(x, [3, 4])
  assert_equal(chunks, whole, rtol=1e-5, atol=1e-5)


def test_sharing_samples_changes_nothing_but_the_number_of_decodes(exact, model, whole, rule):
  x = exact.sample(B)
  shared = Sampler(model, x, K, 10**6)
  with mock.patch.object(importance_samples, "_shares", return_value=False):
    apart = Sampler(model, x, K, 10**6)
  assert_equal(apart(x, [3, 4]), whole, rtol=1e-5, atol=1e-5)
  assert apart._num_decoded == COMPONENTS[rule] + 3
  assert shared._num_decoded == {"moe": 3, "poe": 4, "mopoe": 7}[rule]


def test_mixtures_that_list_the_experts_otherwise_share_nothing():
  class Turned(joint_posteriors.MixtureOfExperts):
    """The first expert, and then the others from the last on."""

    def subsets(self, num_modalities):
      alone = super().subsets(num_modalities)
      return [*alone[:1], *alone[:0:-1]]

    def __call__(self, experts, prior, mask=None):
      return super().__call__([*experts[:1], *experts[:0:-1]], prior, mask)

  exact = oracle.LinearGaussian(3)
  x, noise = exact.sample(B), joint_posteriors.uniform_noise([3, K, B, 2], [3, 4])
  model = exact.model(joint_posterior=Turned())
  sampler = Sampler(model, x, K, 10**6)
  assert sampler._num_decoded == 6
  posterior = model.posterior({"b": x["b"]})
  z, _ = joint_posteriors.stratified_sample(posterior, noise[1:2])
  expected = model.score(x, z, posterior)
  np.testing.assert_allclose(sampler(x, [3, 4])["b"].log_px["a"], expected.log_px["a"], rtol=1e-4)


def test_no_more_latents_are_decoded_at_once_than_asked():
  exact = oracle.LinearGaussian(2)
  model, x, sizes = exact.model(), exact.sample(B), []
  sampler = Sampler(model, x, K, 47)
  score = sampler._score
  sampler._score = lambda x, noise: sizes.append(noise.shape[1]) or score(x, noise)
  sampler(x, [0, 0])
  assert sizes == [4] * 7 + [2]  # 4 x 2 strata x 5 examples = 40


def test_batches_of_two_sizes_are_traced_once():
  exact = oracle.LinearGaussian(2)
  model, x = exact.model(), exact.sample(B)
  with mock.patch.object(importance_samples, "_score", wraps=importance_samples._score) as score:
    sampler = Sampler(model, x, 7, 12)
    for size in (B, 2):
      of_all = sampler({name: value[:size] for name, value in x.items()}, [0, 0])["a+b"]
      assert of_all.log_ratio.shape == [2, 7, size]
  assert score.call_count == 1


def test_one_modality():
  exact = oracle.LinearGaussian(1)
  model, x = exact.model(), exact.sample(B)
  scored = Sampler(model, x, K, 10**6)(x, [0, 0])
  assert list(scored) == ["a"]
  expected = np.broadcast_to(exact.log_evidence(x), [1, K, B])
  np.testing.assert_allclose(scored["a"].log_weights(["a"]), expected, rtol=1e-4)
