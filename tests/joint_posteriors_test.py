import inspect

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracle
from tf_mmvae import distributions, joint_posteriors

tfd = tfp.distributions

FUSIONS = [joint_posteriors.mixture_of_experts]
FAMILIES = list(oracle.FAMILIES)
MASK = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]], bool)  # [M, B], for M = 3
B, D = 3, 3


def raw_experts(num_experts):
  return tf.random.stateless_normal([num_experts, B, 2 * D], [0, 4])


def fused(family, num_experts, mask=None):
  raw = raw_experts(num_experts)
  experts = [oracle.FAMILIES[family](r) for r in tf.unstack(raw)]
  return joint_posteriors.mixture_of_experts(experts, mask), *oracle.split_raw(raw)


def test_every_fusion_is_tested():
  others = {"log_mixture_weights", "stratified_sample", "uniform_noise"}
  functions = {name for name, f in vars(joint_posteriors).items()
               if inspect.isfunction(f) and not name.startswith("_")}
  assert functions - others == {f.__name__ for f in FUSIONS}


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
  nats = q.log_prob(z)
  assert nats.shape == [2, 4, B]
  for s, k, b in np.ndindex(2, 4, B):
    expected = oracle.mixture_log_prob(
        family, np.asarray(z[s, k, b], float), locs[:, b], scales[:, b], log_pi[:, b])
    np.testing.assert_allclose(nats[s, k, b], expected, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_absent_expert_is_as_one_left_out(family):
  q, _, _ = fused(family, 3, MASK)
  experts = [oracle.FAMILIES[family](r) for r in tf.unstack(raw_experts(3))]
  z = tf.random.stateless_normal([2, B, D], [0, 5])
  for b in range(B):
    alone = joint_posteriors.mixture_of_experts(
        [e for e, seen in zip(experts, MASK[:, b], strict=True) if seen])
    np.testing.assert_allclose(q.log_prob(z)[:, b], alone.log_prob(z)[:, b], rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_absent_expert_receives_no_gradient(family):
  raws = tf.unstack(raw_experts(3))
  noise = joint_posteriors.uniform_noise([3, 4, B, D], [0, 1])
  with tf.GradientTape() as tape:
    tape.watch(raws)
    q = joint_posteriors.mixture_of_experts([oracle.FAMILIES[family](r) for r in raws], MASK)
    z = tf.stop_gradient(joint_posteriors.stratified_sample(q, noise))
    nats = q.log_prob(z)
  gradients = np.stack(tape.gradient(nats, raws))  # [M, B, 2 D]
  np.testing.assert_array_equal(np.any(gradients, -1), MASK)


def test_families_do_not_mix():
  raw = tf.zeros([B, 2 * D])
  with pytest.raises(ValueError) as error:
    joint_posteriors.mixture_of_experts([distributions.laplace(raw), distributions.normal(raw)])
  assert str(error.value) == (
      "experts of one mixture must be of one family, got ['Laplace', 'Normal']")


@pytest.mark.parametrize("family", FAMILIES)
def test_stratified_sample_comes_from_its_component(family):
  num_samples = 20_000
  q, locs, scales = fused(family, 2)
  z = np.asarray(joint_posteriors.stratified_sample(
      q, joint_posteriors.uniform_noise([2, num_samples, B, D], [0, 2])), float)
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
  z = joint_posteriors.stratified_sample(q, noise)
  np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [tfd.Laplace, tfd.Normal])
def test_stratified_sample_is_reparameterised(family):
  loc, scale = tf.random.stateless_uniform([2, 2, B, D], [0, 1], 0.5, 1.5)
  noise = joint_posteriors.uniform_noise([2, 1, B, D], [0, 3])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch([loc, scale])
    q = joint_posteriors.mixture_of_experts(
        [tfd.Independent(family(*parameters), 1)
         for parameters in zip(tf.unstack(loc), tf.unstack(scale), strict=True)])
    z = joint_posteriors.stratified_sample(q, noise)[:, 0]
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
    z = joint_posteriors.stratified_sample(q, tf.fill([1, 1, B, D], p))
    assert np.all(np.isfinite(z))
    assert np.all(np.isfinite(q.log_prob(z)))


def test_zero_noise_is_lifted(monkeypatch):
  monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, *_, **__: tf.zeros(shape))
  assert np.all(joint_posteriors.uniform_noise([4], [0, 0]) > 0)
