import inspect

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracle
from tf_mmvae import distributions, joint_posteriors

tfd = tfp.distributions

FUSIONS = [joint_posteriors.MixtureOfExperts(), joint_posteriors.ProductOfExperts(),
           joint_posteriors.MixtureOfProducts()]
FAMILIES = list(oracle.FAMILIES)
MASK = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]], bool)  # [M, B], for M = 3
NOTHING = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0]], bool)
B, D = 3, 3


WITHOUT_PRIOR = joint_posteriors.ProductOfExperts(prior_expert=False)
EACH = [*FUSIONS, WITHOUT_PRIOR]


def raw_experts(num_experts):
  return tf.random.stateless_normal([num_experts, B, 2 * D], [0, 4])


def prior_of(family):
  return oracle.FAMILIES[family](tf.constant([0.3, 0., -0.2, 0.5, 1., 0.]))


def fused(family, num_experts, mask=None, fusion=FUSIONS[0]):
  raw = raw_experts(num_experts)
  experts = [oracle.FAMILIES[family](r) for r in tf.unstack(raw)]
  return fusion(experts, prior_of(family), mask), *oracle.split_raw(raw)


def test_every_fusion_is_tested():
  rules = {rule for rule in vars(joint_posteriors).values()
           if inspect.isclass(rule) and issubclass(rule, joint_posteriors.FusionRule)
           and not inspect.isabstract(rule)}
  assert rules == {type(rule) for rule in FUSIONS}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_experts", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_mixture_log_prob_by_a_loop(family, num_experts, masked):
  mask = MASK[:num_experts] | (num_experts == 1) if masked else np.ones([num_experts, B], bool)
  q, locs, scales = fused(family, num_experts, mask if masked else None)
  assert (q.batch_shape, q.event_shape) == ([B], [D])
  with np.errstate(divide="ignore"):
    log_pi = np.log(mask / mask.sum(0))  # [S, B]
  np.testing.assert_allclose(joint_posteriors.log_mixture_weights(q), log_pi, rtol=1e-6)
  z = tf.random.stateless_normal([2, 4, B, D], [0, 5])
  nats, of_components = q.log_prob(z), joint_posteriors.component_log_prob(q, z)
  assert nats.shape == [2, 4, B]
  assert joint_posteriors.num_components(q) == of_components.shape[-1] == num_experts
  for s, k, b in np.ndindex(2, 4, B):
    one = np.asarray(z[s, k, b], float)
    expected = oracle.mixture_log_prob(family, one, locs[:, b], scales[:, b], log_pi[:, b])
    np.testing.assert_allclose(nats[s, k, b], expected, rtol=1e-4)
    np.testing.assert_allclose(
        of_components[s, k, b], oracle.log_prob(family, one, locs[:, b], scales[:, b]), rtol=1e-4)


def grid_of_two(q, b):
  """log q of an example with its third dimension at 0, on a grid [N, 2], and log prior-like."""
  axis = np.linspace(-4., 4., 60)
  z = np.stack([*np.meshgrid(axis, axis), np.zeros([60, 60])], -1).reshape(-1, 1, D)
  return tf.constant(np.repeat(z, B, 1), tf.float32), q.log_prob(
      tf.constant(np.repeat(z, B, 1), tf.float32))[:, b]


def product_log_prob(z, families_of_factors):
  """Of the normalised product of Gaussians with (loc, scale) [D] each, by completing squares."""
  precision = sum(1 / scale**2 for _, scale in families_of_factors)
  mean = sum(loc / scale**2 for loc, scale in families_of_factors) / precision
  return oracle.log_prob("normal", z, mean, precision**-0.5)


def test_product_is_proportional_to_the_densities_multiplied():
  for prior_expert in [True, False]:
    q, locs, scales = fused("normal", 3, MASK, FUSIONS[1] if prior_expert else WITHOUT_PRIOR)
    for b in range(B):
      z, nats = grid_of_two(q, b)
      z = np.asarray(z[:, b], float)
      total = sum(oracle.log_prob("normal", z, locs[m, b], scales[m, b])
                  for m in range(3) if MASK[m, b])
      total = total + prior_expert * np.asarray(prior_of("normal").log_prob(z), float)
      difference = total - nats
      np.testing.assert_allclose(difference, difference[0], rtol=1e-3, atol=2e-3)


def test_product_is_a_density():
  q, _, _ = fused("normal", 3, MASK, joint_posteriors.ProductOfExperts())
  part = q.components_distribution.distribution  # batch [B, 1, D]
  axis = tf.linspace(-12., 12., 20001)[:, None, None, None]
  mass = tf.reduce_sum(part.prob(axis), 0) * 24. / 20000.
  np.testing.assert_allclose(mass, np.ones([B, 1, D]), rtol=1e-4)


def test_mixture_of_products_by_a_loop():
  q, locs, scales = fused("normal", 3, MASK, joint_posteriors.MixtureOfProducts())
  subsets = [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]
  z = tf.random.stateless_normal([4, B, D], [0, 5])
  log_pi = joint_posteriors.log_mixture_weights(q)
  for b in range(B):
    present = [all(MASK[m, b] for m in s) for s in subsets]
    np.testing.assert_array_equal(np.isfinite(log_pi[:, b]), present)
    np.testing.assert_allclose(np.exp(log_pi[:, b]), np.array(present) / sum(present), rtol=1e-6)
    for k in range(4):
      density = [np.exp(product_log_prob(np.asarray(z[k, b], float),
                                         [(locs[m, b], scales[m, b]) for m in s]))
                 for s, p in zip(subsets, present, strict=True) if p]
      np.testing.assert_allclose(q.log_prob(z)[k, b], np.log(np.mean(density)), rtol=1e-4)


def test_num_components():
  for num_experts in [1, 2, 3, 4]:
    counts = [joint_posteriors.num_components(fused("normal", num_experts, None, f)[0])
              for f in EACH]
    assert counts == [num_experts, 1, 2**num_experts - 1, 1]
    assert counts == [f.num_components(num_experts) for f in EACH]


def test_which_rules_multiply():
  assert [rule.multiplies for rule in EACH] == [False, True, True, True]


@pytest.mark.parametrize("fusion", EACH, ids=str)
def test_components_are_of_the_subsets_that_the_rule_names(fusion):
  """In their order, and each as if there were no other modality."""
  q, _, _ = fused("normal", 3, None, fusion)
  experts = [oracle.FAMILIES["normal"](r) for r in tf.unstack(raw_experts(3))]
  z = tf.random.stateless_normal([2, B, D], [0, 5])
  of_components = joint_posteriors.component_log_prob(q, z)
  subsets = fusion.subsets(3)
  assert len(subsets) == of_components.shape[-1]
  for s, subset in enumerate(subsets):
    alone = fusion([experts[m] for m in subset], prior_of("normal"))
    last = joint_posteriors.component_log_prob(alone, z)[..., -1]
    np.testing.assert_allclose(of_components[..., s], last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", EACH)
def test_absent_expert_is_as_one_left_out(fusion):
  q, _, _ = fused("normal", 3, MASK, fusion)
  experts = [oracle.FAMILIES["normal"](r) for r in tf.unstack(raw_experts(3))]
  z = tf.random.stateless_normal([2, B, D], [0, 5])
  for b in range(B):
    alone = fusion([e for e, seen in zip(experts, MASK[:, b], strict=True) if seen],
                   prior_of("normal"))
    np.testing.assert_allclose(q.log_prob(z)[:, b], alone.log_prob(z)[:, b], rtol=1e-5)


@pytest.mark.parametrize("fusion", EACH)
def test_absent_expert_receives_no_gradient(fusion):
  raws = tf.unstack(raw_experts(3))
  with tf.GradientTape() as tape:
    tape.watch(raws)
    q = fusion([distributions.normal(r) for r in raws], prior_of("normal"), MASK)
    noise = joint_posteriors.uniform_noise(
        [joint_posteriors.num_components(q), 4, B, D], [0, 1])
    z, log_pi = joint_posteriors.stratified_sample(q, noise)
    values = tf.where(log_pi[:, None] > -np.inf, q.log_prob(tf.stop_gradient(z)) + z[..., 0], 0.)
  gradients = np.stack(tape.gradient(values, raws))  # [M, B, 2 D]
  np.testing.assert_array_equal(np.any(gradients, -1), MASK)


@pytest.mark.parametrize("fusion, families", [
    *[(fusion, ["normal"] * 3) for fusion in EACH], (FUSIONS[0], ["laplace"] * 3),
    (FUSIONS[0], ["laplace", "normal", "laplace"])])
def test_an_example_with_nothing_has_the_prior(fusion, families):
  prior = prior_of(families[1])
  experts = [oracle.FAMILIES[f](r)
             for f, r in zip(families, tf.unstack(raw_experts(3)), strict=True)]
  q, seen = fusion(experts, prior, NOTHING), fusion(experts, prior)
  z = tf.random.stateless_normal([5, B, D], [0, 5])
  np.testing.assert_allclose(q.log_prob(z)[:, 1], prior.log_prob(z)[:, 1], rtol=1e-4)
  np.testing.assert_allclose(q.log_prob(z)[:, 0], seen.log_prob(z)[:, 0], rtol=1e-5)
  noise = joint_posteriors.uniform_noise([1, 20_000, B, D], [0, 1])
  drawn = joint_posteriors.independent_sample(q, noise)[0][0, :, 1]
  np.testing.assert_allclose(
      np.mean(drawn, 0), prior.mean(), atol=4 * np.max(prior.stddev()) / np.sqrt(20_000))


def test_nothing_and_no_expert_of_the_priors_family():
  """The prior's location and scale, as near as the experts' family comes."""
  experts = [distributions.laplace(r) for r in tf.unstack(raw_experts(2))]
  q = joint_posteriors.MixtureOfExperts()(experts, prior_of("normal"), np.zeros([2, B], bool))
  z = tf.random.stateless_normal([5, B, D], [0, 5])
  prior = prior_of("normal").distribution
  expected = oracle.log_prob("laplace", np.asarray(z, float), prior.loc, prior.scale)
  np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-5)


@pytest.mark.parametrize("fusion", EACH[1:])
def test_products_of_laplace_experts_are_refused(fusion):
  with pytest.raises(ValueError) as error:
    fused("laplace", 2, None, fusion)
  assert str(error.value) == (
      "a product of Laplace experts has no closed form: give modalities and prior the family "
      "normal, or join them by MixtureOfExperts")


def test_a_laplace_prior_is_no_factor():
  experts = [distributions.normal(r) for r in tf.unstack(raw_experts(2))]
  with pytest.raises(ValueError, match="Laplace"):
    joint_posteriors.ProductOfExperts()(experts, prior_of("laplace"))
  assert WITHOUT_PRIOR(experts, prior_of("laplace")).batch_shape == [B]


def mixed():
  """A Laplace and a Gaussian expert: the mixture, families, locations and scales."""
  raw, families = raw_experts(2), ["laplace", "normal"]
  experts = [oracle.FAMILIES[f](r) for f, r in zip(families, tf.unstack(raw), strict=True)]
  return (joint_posteriors.MixtureOfExperts()(experts, prior_of("laplace"), MASK[:2] | True),
          families, *oracle.split_raw(raw))


def test_experts_of_different_families_by_a_loop():
  q, families, locs, scales = mixed()
  z = tf.random.stateless_normal([4, B, D], [0, 5])
  expected = [np.exp(oracle.log_prob(f, np.asarray(z, float), loc, scale))
              for f, loc, scale in zip(families, locs, scales, strict=True)]
  np.testing.assert_allclose(q.log_prob(z), np.log(np.mean(expected, 0)), rtol=1e-4)
  np.testing.assert_allclose(joint_posteriors.component_log_prob(q, z),
                             np.log(np.stack(expected, -1)), rtol=1e-4)
  noise = joint_posteriors.uniform_noise([2, 5, B, D], [0, 3])
  drawn, log_pi = joint_posteriors.stratified_sample(q, noise)
  np.testing.assert_allclose(log_pi, np.full([2, B], np.log(0.5)), rtol=1e-6)
  for s in range(2):
    np.testing.assert_allclose(
        drawn[s], locs[s] + scales[s] * oracle.quantile(families[s], noise[s]),
        rtol=1e-4, atol=1e-5)


def test_a_mixture_of_families_can_be_frozen():
  raws = [tf.zeros([B, 2 * D]), tf.ones([B, 2 * D])]
  with tf.GradientTape() as tape:
    tape.watch(raws)
    q = joint_posteriors.MixtureOfExperts()(
        [distributions.laplace(raws[0]), distributions.normal(raws[1])], prior_of("normal"))
    nats = distributions.stop_gradient(q).log_prob(tf.zeros([B, D]))
  assert tape.gradient(nats, raws) == [None, None]
  np.testing.assert_array_equal(nats, q.log_prob(tf.zeros([B, D])))


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("fusion", [FUSIONS[0], FUSIONS[2]])
def test_independent_samples_are_of_the_mixture(fusion, mask):
  """Their first dimension's distribution function, against the mixture's own."""
  q, _, _ = fused("normal", 3, mask, fusion)
  noise = joint_posteriors.uniform_noise([4, 25_000, B, D], [0, 2])
  z, log_pi = joint_posteriors.independent_sample(q, noise)
  assert z.shape == [1, 100_000, B, D]
  np.testing.assert_array_equal(log_pi, np.zeros([1, B]))
  pi = np.exp(joint_posteriors.log_mixture_weights(q))  # [S, B]
  parts = q.components_distribution.distribution  # batch [B, S, D]
  for point in [-1., 0., 0.7]:
    below = np.einsum("sb,bsd->bd", pi, parts.cdf(point))
    share = np.mean(z[0] < point, 0)
    assert np.all(np.abs(share - below) < 4 * np.sqrt(below * (1 - below) / 100_000))
  product = np.mean(z[0, :, :, 0] * z[0, :, :, 1], 0)  # dimensions go together by the component
  means = parts.mean()
  expected = np.einsum("sb,bs->b", pi, means[..., 0] * means[..., 1])
  assert np.all(np.abs(product - expected) < 5 * np.std(z[0, :, :, 0] * z[0, :, :, 1], 0) / 316)


def test_independent_samples_of_one_component_are_its_stratified_ones():
  q, _, _ = fused("laplace", 1)
  noise = joint_posteriors.uniform_noise([1, 5, B, D], [0, 2])
  np.testing.assert_array_equal(joint_posteriors.independent_sample(q, noise)[0],
                                joint_posteriors.stratified_sample(q, noise)[0])


def test_independent_samples_of_extreme_noise_are_finite():
  q, _, _ = fused("normal", 3, MASK)
  for p in [2.**-25, 0.5, 1 / 3, 2 / 3, 1 - 2.**-23]:
    z, _ = joint_posteriors.independent_sample(q, tf.fill([1, 1, B, D], p))
    assert np.all(np.isfinite(z))


@pytest.mark.parametrize("family", FAMILIES)
def test_stratified_sample_comes_from_its_component(family):
  num_samples = 20_000
  q, locs, scales = fused(family, 2)
  z = np.asarray(joint_posteriors.stratified_sample(
      q, joint_posteriors.uniform_noise([2, num_samples, B, D], [0, 2]))[0], float)
  assert z.shape == (2, num_samples, B, D)
  variance, kurtosis = {"normal": (1., 3.), "laplace": (2., 6.)}[family]
  u = (z - locs[:, None]) / (scales[:, None] * np.sqrt(variance))  # mean 0, variance 1
  root = np.sqrt(num_samples)
  assert np.all(np.abs(u.mean(1)) < 4 / root)
  assert np.all(np.abs((u**2).mean(1) - 1) < 4 * np.sqrt(kurtosis - 1) / root)


@pytest.mark.parametrize("family", FAMILIES)
def test_stratified_sample_is_the_quantile_function(family):
  q, locs, scales = fused(family, 2)
  noise = joint_posteriors.uniform_noise([2, 5, B, D], [0, 3])
  expected = locs[:, None] + scales[:, None] * oracle.quantile(family, noise)
  z, _ = joint_posteriors.stratified_sample(q, noise)
  np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [tfd.Laplace, tfd.Normal])
def test_stratified_sample_is_reparameterised(family):
  loc, scale = tf.random.stateless_uniform([2, 2, B, D], [0, 1], 0.5, 1.5)
  noise = joint_posteriors.uniform_noise([2, 1, B, D], [0, 3])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch([loc, scale])
    q = joint_posteriors.MixtureOfExperts()(
        [tfd.Independent(family(*parameters), 1)
         for parameters in zip(tf.unstack(loc), tf.unstack(scale), strict=True)],
        prior_of("normal"))
    z = joint_posteriors.stratified_sample(q, noise)[0][:, 0]
  np.testing.assert_allclose(tape.gradient(z, loc), np.ones([2, B, D]), rtol=1e-6)
  np.testing.assert_allclose(tape.gradient(z, scale), (z - loc) / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [[1, 4, B, D], [2, 4, 1, D], [2, 4, B, 1], [2, B, D]])
def test_noise_is_not_stretched_to_fit(shape):
  q, _, _ = fused("normal", 2)
  with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
    joint_posteriors.stratified_sample(q, tf.fill(shape, 0.5))


def test_uniform_noise():
  noise = joint_posteriors.uniform_noise([1000, 1000], [0, 1])
  assert noise.dtype == tf.float32
  assert np.all((noise > 0) & (noise < 1))
  root = np.sqrt(noise.shape.num_elements())
  assert abs(np.mean(noise, dtype=float) - 1 / 2) < 4 / np.sqrt(12) / root
  assert abs(np.mean(np.square(noise), dtype=float) - 1 / 3) < 4 * np.sqrt(4 / 45) / root
  graph = tf.function(lambda: joint_posteriors.uniform_noise([1000, 1000], [0, 1]))()
  np.testing.assert_array_equal(noise, graph)
  assert np.any(noise != joint_posteriors.uniform_noise([1000, 1000], [0, 2]))


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_of_extreme_noise_are_finite(family):
  q, _, _ = fused(family, 1)
  for p in [2.**-25, 1 - 2.**-23]:  # the least and the greatest of uniform_noise
    z, _ = joint_posteriors.stratified_sample(q, tf.fill([1, 1, B, D], p))
    assert np.all(np.isfinite(z))
    assert np.all(np.isfinite(q.log_prob(z)))


def test_zero_noise_is_lifted(monkeypatch):
  monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, *_, **__: tf.zeros(shape))
  assert np.all(joint_posteriors.uniform_noise([4], [0, 0]) > 0)
