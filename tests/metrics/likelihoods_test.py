"""Estimates of log-likelihoods against the exact linear-Gaussian model and loops in NumPy."""

import itertools
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracle, small
from tf_mmvae import distributions, joint_posteriors
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics import likelihoods
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

ROUNDING = 1e-4  # of log-densities in float32


def examples(x, labels=None, mask=None):
  """x {name: [N, ...]} as a data set."""
  num_examples = len(next(iter(x.values())))
  return Examples("exact", num_examples, lambda i: tuple(
      {n: tf.gather(v, i) for n, v in of.items()} for of in (x, labels or {}, mask or {})))


def copies(exact, num=200):
  """One example many times, so that the standard error is that of the samples alone."""
  x = exact.sample(1)
  return x, examples({name: tf.repeat(value, num, axis=0) for name, value in x.items()})


def measured(model, x, num_samples=4, batch_size=200, **settings):
  """Figures of `Likelihoods`."""
  data = x if isinstance(x, Examples) else examples(x)
  metric = likelihoods.Likelihoods(
      num_samples, batch_size=batch_size, num_latents=10**5, **settings)
  return metric(model, data).figures


def assert_near(figures, figure, expected):
  value, error, _ = figures[figure]
  assert abs(value - expected) < 3 * error + ROUNDING, (figure, value, error, expected)


def shift_encoder(model, name, shift):
  encoder = model.modalities[name].encoder
  weights, bias = encoder.get_weights()
  bias[:model.latent_dim] += shift
  encoder.set_weights([weights, bias])


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_exact_posteriors_give_exact_values(num_modalities):
  exact = oracle.LinearGaussian(num_modalities)
  x, data = copies(exact)
  figures = measured(exact.model(), data, 1000)
  names, every = exact.names, "+".join(exact.names)
  assert_near(figures, "joint/iwae_tight", exact.log_evidence(x)[0])
  for m in names:
    for sources in [every, *names]:
      assert_near(figures, f"log_p_{m}/from_{sources}", exact.log_evidence(x, [m])[0])
    assert figures[f"log_p_{m}/from_{m}"][1] < ROUNDING  # no variance where q is the posterior
    np.testing.assert_allclose(figures[f"log_p_{m}/from_{m}/ess"][0], 1000, rtol=1e-3)
  for m, n in itertools.permutations(names, 2):
    conditional = exact.log_conditional(x, [m], [n])[0]
    assert_near(figures, f"predictive/{m}_given_{n}", conditional)
    assert_near(figures, f"ratio/{m}_given_{n}", conditional)
  assert max(error for figure, (_, error, _) in figures.items() if "/ess" not in figure
             and not figure.endswith("/z") and "elbo" not in figure) < 0.05
  value, error, _ = figures["log_p_a/from_b"]  # no estimate of a conditional
  assert abs(value - exact.log_conditional(x, ["a"], ["b"])[0]) > 20 * error


def test_wrong_encoder_leaves_bounds_below(pair):
  """The encoder of b alone is wrong, so that what uses that of a alone stays exact."""
  x, data = copies(pair)
  model = pair.model()
  shift_encoder(model, "b", 1.5)
  figures = measured(model, data, 1)
  for name, source in [("a", "b"), ("b", "b")]:
    value, error, _ = figures[f"log_p_{name}/from_{source}"]
    assert value < pair.log_evidence(x, [name])[0] - 5 * error
  for bound in ("elbo", "iwae", "iwae_tight"):
    value, error, _ = figures[f"joint/{bound}"]
    assert value < pair.log_evidence(x)[0] - 5 * error
  conditional = pair.log_conditional(x, ["a"], ["b"])[0]
  assert abs(figures["predictive/a_given_b"][0] - conditional) > 0.5  # it trusts q(z | x_b)
  assert_near(figures, "log_p_a/from_a", pair.log_evidence(x, ["a"])[0])
  better = measured(model, data, 1000)
  conditional_error = abs(better["predictive/a_given_b"][0] - conditional)
  assert abs(better["ratio/a_given_b"][0] - conditional) < 0.1 < 0.5 < conditional_error


def test_synergy_where_the_other_encoder_is_better(pair):
  model, x = pair.model(), pair.sample(40)
  shift_encoder(model, "a", 6.)
  found = likelihoods.Likelihoods(20)(model, examples(x))
  value, error, num = found.figures["synergy/a"]
  expected = found.figures["log_p_a/from_a+b"][0] - found.figures["log_p_a/from_a"][0]
  np.testing.assert_allclose(value, expected, rtol=1e-9)
  assert value > 5 * error and num == 40
  np.testing.assert_allclose(found.figures["synergy/a/z"], (value / error, 1., 40))
  assert any(remark.startswith("Synergy for a: ") for remark in found.remarks)


def test_no_synergy_where_a_product_is_led_astray(pair):
  """The expert of a is exact; the product with one that is not explains x_a worse."""
  model, x = pair.model(joint_posterior=joint_posteriors.ProductOfExperts()), pair.sample(40)
  shift_encoder(model, "b", 4.)
  found = likelihoods.Likelihoods(20)(model, examples(x))
  value, error, _ = found.figures["synergy/a"]
  assert value < -5 * error
  assert found.figures["synergy/a/z"][0] < -5
  assert any(remark.startswith("No synergy for a: ") for remark in found.remarks)


def test_synergy_is_paired_by_example(pair):
  """Its error is that of the differences: far below those of the two means."""
  figures = measured(pair.model(), pair.sample(50), 500)
  assert figures["synergy/a"][1] < 0.05 * figures["log_p_a/from_a"][1]


def test_synergy_of_disjoint_experts_is_not_rounding(pair):
  """Where the other expert is nowhere near, samples and density are those of the own."""
  model = pair.model()
  shift_encoder(model, "b", 40.)
  found = likelihoods.Likelihoods(5)(model, examples(pair.sample(20)))
  assert abs(found.figures["synergy/a"][0]) < 1e-9
  assert any(remark.startswith("Synergy for a is open: ") for remark in found.remarks)


@pytest.mark.parametrize("family", ["laplace", "laplace-normal"])
def test_a_loop_over_examples_and_samples(pair, family):
  """M = 2, K = 3, in float64 and without logarithms of sums."""
  x, num_samples, batch_size = pair.sample(2), 3, 2
  model = pair.model(shift=0.3, stretch=1.2, family=family)
  figures = measured(model, x, num_samples, seed=7, batch_size=batch_size)
  families = (family.split("-") * 2)[:2]
  raw = oracle.raw_parameters(model, x)
  locs, scales = oracle.split_raw(raw)  # [M, B, D]
  noise = joint_posteriors.uniform_noise([2, num_samples, batch_size, 2], [7, 0]).numpy()
  expected = {}
  for b in range(batch_size):
    of_one = {name: value[b:b + 1] for name, value in x.items()}
    z = [[locs[s, b] + scales[s, b] * oracle.quantile(families[s], noise[s, k, b])
          for k in range(num_samples)] for s in range(2)]

    def density(z, names, of_one=of_one):
      """p(x_names | z)"""
      joint = pair.log_joint(of_one, z[None, None], names)[0, 0]
      return np.exp(joint - oracle.log_prob("normal", z, 0., 1.))

    def prior(z):
      return np.exp(oracle.log_prob(families[0], z, 0., 1.))

    def expert(s, z, b=b):
      return np.exp(oracle.log_prob(families[s], z, locs[s, b], scales[s, b]))

    def keep(figure, weights):
      expected.setdefault(figure, []).append(np.log(sum(weights) / num_samples))
      expected.setdefault(f"{figure}/ess", []).append(
          sum(weights)**2 / sum(w**2 for w in weights))
      return expected[figure][-1]

    def joint(names, z=z, density=density):
      return [0.5 * prior(v) * density(v, names) / (0.5 * expert(0, v) + 0.5 * expert(1, v))
              for of in z for v in of]

    for m in "ab":
      keep(f"log_p_{m}/from_a+b", joint([m]))
      for s, n in enumerate("ab"):
        keep(f"log_p_{m}/from_{n}", [prior(v) * density(v, [m]) / expert(s, v) for v in z[s]])
        if n != m:
          keep(f"predictive/{m}_given_{n}", [density(v, [m]) for v in z[s]])
          keep(f"ratio/{m}_given_{n}", joint(["a", "b"]))
          expected[f"ratio/{m}_given_{n}"][-1] -= np.log(sum(joint([n])) / num_samples)
    keep("joint/iwae_tight", joint(["a", "b"]))
  assert len(expected) == 22
  for figure, values in expected.items():
    error = np.std(values, ddof=1) / np.sqrt(batch_size)
    np.testing.assert_allclose(
        figures[figure], (np.mean(values), error, batch_size), rtol=1e-3, atol=1e-4,
        err_msg=figure)


def test_poe_of_exact_experts():
  exact = oracle.LinearGaussian(2)
  x, data = copies(exact)
  figures = measured(exact.model(
      joint_posterior=joint_posteriors.ProductOfExperts(), prior_in_experts=False), data, 1000)
  value, error, _ = figures["joint/iwae_tight"]
  assert error < ROUNDING
  np.testing.assert_allclose(value, exact.log_evidence(x)[0], atol=ROUNDING)
  np.testing.assert_allclose(figures["joint/iwae_tight/ess"][0], 1000, rtol=1e-3)
  for m, n in itertools.permutations("ab"):
    for sources in ("a+b", "a", "b"):
      assert_near(figures, f"log_p_{m}/from_{sources}", exact.log_evidence(x, [m])[0])
    assert_near(figures, f"predictive/{m}_given_{n}", exact.log_conditional(x, [m], [n])[0])
    assert_near(figures, f"ratio/{m}_given_{n}", exact.log_conditional(x, [m], [n])[0])


def test_mixture_of_products_of_exact_experts():
  exact = oracle.LinearGaussian(3)
  x, data = copies(exact)
  figures = measured(exact.model(joint_posterior=joint_posteriors.MixtureOfProducts()), data, 300)
  assert_near(figures, "joint/iwae_tight", exact.log_evidence(x)[0])
  for m, sources in itertools.product("abc", ["a+b+c", "a", "b", "c"]):
    assert_near(figures, f"log_p_{m}/from_{sources}", exact.log_evidence(x, [m])[0])


def test_order_of_the_joint_bounds_and_range_of_effective_sample_sizes(pair):
  figures = measured(pair.model(shift=1.), pair.sample(20), 10)
  elbo, iwae, tight = (figures[f"joint/{b}"][0] for b in ("elbo", "iwae", "iwae_tight"))
  assert elbo < iwae < tight
  sizes = {f: v for f, (v, _, _) in figures.items() if f.endswith("/ess")}
  assert len(sizes) == 6 + 1 + 4
  for figure, size in sizes.items():
    strata = 2 if "a+b" in figure or "joint" in figure or "ratio" in figure else 1
    assert 1 <= size <= 10 * strata, figure
  one = measured(pair.model(), pair.sample(20), 1, num_examples=50)
  assert one["log_p_a/from_a"][2] == 20
  np.testing.assert_allclose(one["log_p_a/from_a/ess"][:2], (1, 0), atol=1e-9)


def test_effective_sample_size_of_uneven_components():
  """Weights pi_s w_sk of all samples compete; an absent component has none."""
  log_w = np.random.default_rng(0).normal(size=[3, 4, 2])
  pi = np.array([[0.9, 0.5], [0.1, 0.5], [0., 0.]])
  weights = (pi[:, None] * np.exp(log_w)).reshape([12, 2])
  with np.errstate(divide="ignore"):
    found = likelihoods._effective_sample_size(tf.constant(log_w), tf.constant(np.log(pi)))
  np.testing.assert_allclose(found, weights.sum(0)**2 / (weights**2).sum(0), rtol=1e-9)


def test_errors_are_over_groups(pair):
  """Exact encoders, so that only the examples vary: each three times, in batches that cut them."""
  x = pair.sample(6)
  thrice = {name: tf.repeat(value, 3, axis=0) for name, value in x.items()}
  data = examples(thrice, {"picture": tf.range(18) // 3})
  evidence = pair.log_evidence(x, ["a"])
  expected = evidence.mean(), evidence.std(ddof=1) / np.sqrt(6), 18
  grouped = measured(pair.model(), data, batch_size=4, groups="picture")["log_p_a/from_a"]
  np.testing.assert_allclose(grouped, expected, rtol=1e-4)
  alone = measured(pair.model(), data, batch_size=4)["log_p_a/from_a"]
  assert alone[1] < 0.7 * grouped[1]


def test_gaps_count_only_where_all_that_is_concerned_is_there(pair):
  """By one example with both, two with a alone, three with b, two with nothing; NaN elsewhere."""
  x = pair.sample(8)
  mask = {"a": np.arange(8) < 3, "b": (np.arange(8) == 0) | (np.arange(8) // 3 == 1)}
  broken = {name: tf.where(mask[name][:, None], x[name], float("nan")) for name in x}
  data = examples(broken, {"index": tf.range(8)}, mask)
  figures = measured(pair.model(), data, 2000, batch_size=3, groups="index")
  for name, num in (("a", 3), ("b", 4)):
    value, error, found = figures[f"log_p_{name}/from_{name}"]
    exact = pair.log_evidence(x, [name])[mask[name]]
    np.testing.assert_allclose(value, exact.mean(), rtol=1e-4)
    np.testing.assert_allclose(error, exact.std(ddof=1) / np.sqrt(num), rtol=1e-3)
    assert found == num
  first = {name: value[:1] for name, value in x.items()}
  for figure, expected in {
      "joint/iwae_tight": pair.log_evidence(first), "log_p_a/from_b": pair.log_evidence(first, "a"),
      "log_p_b/from_a+b": pair.log_evidence(first, "b"), "synergy/a": [0.],
      "predictive/a_given_b": pair.log_conditional(first, "a", "b"),
      "ratio/b_given_a": pair.log_conditional(first, "b", "a")}.items():
    value, error, num = figures[figure]
    np.testing.assert_allclose(value, expected[0], atol=0.1, err_msg=figure)
    assert num == 1 and np.isnan(error)


def test_nothing_that_is_complete_has_no_mean(pair):
  mask = {"a": np.arange(4) < 2, "b": np.arange(4) >= 2}
  found = likelihoods.Likelihoods(3)(pair.model(), examples(pair.sample(4), mask=mask))
  value, error, num = found.figures["synergy/a"]
  assert np.isnan(value) and np.isnan(error) and num == 0
  assert found.figures["log_p_b/from_b"][2] == 2


@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_one_example_has_no_standard_error(num_modalities):
  exact = oracle.LinearGaussian(num_modalities)
  found = likelihoods.Likelihoods(3)(exact.model(), examples(exact.sample(1)))
  for figure, (value, error, num) in found.figures.items():
    assert num == 1
    if figure.endswith("/z"):
      assert np.isnan(value)
    else:
      assert np.isfinite(value), figure
    fixed = figure.split("/")[0] in ("scale", "size", "ceiling")
    assert error == 0 if fixed else np.isnan(error), figure
  opened = [remark for remark in found.remarks if " is open: " in remark]
  assert len(opened) == (num_modalities if num_modalities > 1 else 0)


def test_data_without_one_of_the_modalities():
  exact = oracle.LinearGaussian(3)
  x = {name: value for name, value in exact.sample(6).items() if name != "b"}
  figures = measured(exact.model(), x)
  assert "log_p_c/from_a+c" in figures and not any("b" in f.split("/")[-1] for f in figures
                                                   if f.startswith(("log_p", "ratio")))
  np.testing.assert_allclose(
      figures["log_p_c/from_c"][0], exact.log_evidence(x, ["c"]).mean(), rtol=1e-4)


def test_order_of_the_data_is_not_that_of_the_model():
  """Modalities that come in another order than the model's keep their own experts."""
  exact = oracle.LinearGaussian(2)
  model = exact.model()
  model.modalities = dict(reversed(model.modalities.items()))
  x = exact.sample(6)
  figures = measured(model, x)
  for name in "ab":
    np.testing.assert_allclose(
        figures[f"log_p_{name}/from_{name}"][0], exact.log_evidence(x, [name]).mean(), rtol=1e-4)
  assert "joint/iwae" in figures and "log_p_a/from_b+a" in figures


def test_some_examples_evenly_spread(pair):
  x = pair.sample(9)
  value, _, num = measured(pair.model(), x, num_examples=3)["log_p_b/from_b"]
  np.testing.assert_allclose(value, pair.log_evidence(x, ["b"])[[0, 4, 8]].mean(), rtol=1e-4)
  assert num == 3


def test_batches_and_seeds_have_noise_of_their_own(pair):
  _, data = copies(pair, 4)
  model = pair.model(shift=0.5)

  def found(batch_size, seed=0):
    return measured(model, data, 2, batch_size, seed=seed)["joint/elbo"]

  assert found(1)[1] > 1e-3  # equal noise in the batches would give equal values
  first = found(4)
  assert first[1] > 1e-3
  assert first == found(4) != found(4, seed=1)


@pytest.mark.parametrize("num_samples, expected", [(1, 32), (250, 32), (1000, 8), (9000, 1)])
def test_many_samples_are_of_fewer_examples_at_once(pair, num_samples, expected):
  data = examples(pair.sample(3))
  metric = likelihoods.Likelihoods(num_samples)
  with mock.patch.object(data, "batches", side_effect=StopIteration) as batches, \
      pytest.raises(StopIteration):
    metric(pair.model(), data)
  batches.assert_called_once_with(expected)


def test_at_least_one_sample():
  with pytest.raises(ValueError, match="num_samples must be a whole number of at least 1, got 0"):
    likelihoods.Likelihoods(0)


def test_ceilings_of_laplace_and_gaussian_likelihoods(pair):
  for model in (small.model(), pair.model()):
    for name, modality in model.modalities.items():
      found = likelihoods.ceiling(model, name)
      likelihood = model.likelihood(name, tf.zeros([1, model.latent_dim]))
      np.testing.assert_allclose(
          found[f"ceiling/{name}"][0], likelihood.log_prob(likelihood.mode())[0], rtol=1e-5)
      assert found[f"size/{name}"] == (modality.spec.shape[1], 0., 1)
  np.testing.assert_allclose(
      likelihoods.ceiling(small.model(), "image")["ceiling/image"], (-3 * np.log(1.5), 0., 1))
  assert likelihoods.ceiling(small.model(), "image")["scale/image"] == (0.75, 0., 1)
  np.testing.assert_allclose(
      likelihoods.ceiling(pair.model(), "b")["scale/b"][0], pair.scales["b"], rtol=1e-6)


def of_likelihood(likelihood, dtype="float32"):
  modality = Modality("a", (3,), keras.layers.Dense(4), keras.layers.Dense(3), likelihood,
                      dtype=dtype)
  modality._posterior = lambda raw: distributions.laplace(tf.zeros([len(raw), 4]))
  return MultimodalVAE([modality], Prior(2))


def test_ceilings_of_other_likelihoods():
  tfd = tfp.distributions
  free = of_likelihood(lambda decoder, z: tfd.Independent(
      tfd.Laplace(distributions.fold(decoder, z), 1. + z[..., :1]**2), 1))
  assert likelihoods.ceiling(free, "a") == {}
  logistic = of_likelihood(lambda decoder, z: tfd.Independent(
      tfd.Logistic(distributions.fold(decoder, z), 1.), 1))
  assert likelihoods.ceiling(logistic, "a") == {}
  counts = of_likelihood(lambda decoder, z: tfd.Independent(
      tfd.Categorical(logits=tf.repeat(distributions.fold(decoder, z)[..., None], 5, -1)), 1),
                         "int32")
  assert likelihoods.ceiling(counts, "a") == {"ceiling/a": (0., 0., 1)}
