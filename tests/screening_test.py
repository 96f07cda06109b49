"""Screened backpropagation against that of all particles."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import oracle, small
from tests.objectives_test import mean_and_error
from tf_mmvae import estimators, joint_posteriors, objectives
from tf_mmvae.estimators import Estimator
from tf_mmvae.model import Particles
from tf_mmvae.objectives import elbo, iwae, iwae_tight
from tf_mmvae.screening import Screening, _best_and_one

BOUNDS = (iwae, iwae_tight)
NUM_SAMPLES = 6


def noise(model, x, num, seed=0, estimator=None):
  """Noise of a screened estimator; what an estimator of all particles takes is the rows before."""
  rows = (estimator or Estimator(screening=Screening())).num_strata(model, x)
  return joint_posteriors.uniform_noise([rows, NUM_SAMPLES, num, model.latent_dim], [4, seed])


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("slice_size", [None, 1, 4, 6, 9])
def test_value_and_particles_are_those_of_all(exact, bound, slice_size, training):
  model, x = exact.model(shift=0.4), exact.sample(4)
  given = noise(model, x, 4)
  estimator = Estimator(bound, screening=Screening(1, slice_size))
  screened = estimator(model, x, given, training=training)
  dense = Estimator(bound)(model, x, given[:-1])
  for found, expected in zip(tf.nest.flatten(screened[:4]), tf.nest.flatten(dense[:4]),
                             strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bound", BOUNDS)
def test_captured_weight(pair, bound):
  model, x = pair.model(shift=0.4), pair.sample(4)
  estimate = Estimator(bound, screening=Screening(2))(
      model, x, noise(model, x, 4), training=True)
  u = np.exp(np.asarray(estimate.log_w, float))  # [S, K, B]
  u = u / u.sum(1, keepdims=True) / 2 if bound is iwae else u.reshape([1, -1, 4]) / u.sum((0, 1))
  np.testing.assert_allclose(
      estimate.captured_weight, np.sort(u, 1)[:, -2:].sum((0, 1)), rtol=1e-4)


def test_the_best_stay_and_one_is_drawn_by_weight():
  c = np.array([[[0.1, 4., 0.3, 0., 2., 0.2]], [[1., 1., 1., 0., 0., 0.]]], np.float32)
  num = 20_000
  choice = (np.arange(num, dtype=np.float32) + 0.5) / num
  places, kept = _best_and_one(tf.repeat(c, num, 1), tf.constant(choice), 2)
  np.testing.assert_array_equal(places[0, :, :2], np.tile([1, 4], [num, 1]))
  np.testing.assert_allclose(kept[0], np.tile([4., 2., 0.6], [num, 1]), rtol=1e-6)
  counts = np.bincount(places[0, :, 2], minlength=6) / num
  np.testing.assert_allclose(counts, [1 / 6, 0, 1 / 2, 0, 0, 1 / 3], atol=1e-4)
  np.testing.assert_allclose(kept[1], np.ones([num, 3]), rtol=1e-6)
  assert all(sorted(row) == [0, 1, 2] for row in np.unique(places[1], axis=0))


def test_no_weight_is_left_for_one_more():
  c = tf.constant([[[0., 1., 0.], [0., 0., 0.]]])
  places, kept = _best_and_one(c, tf.constant([.9, .1]), 1)
  np.testing.assert_array_equal(kept, [[[1., 0.], [0., 0.]]])
  assert np.all((np.asarray(places) >= 0) & (np.asarray(places) < 3))


@pytest.mark.parametrize("best", [0, 2])
def test_particles_without_any_weight(best):
  """All but one, wherever it lies: nothing is drawn that could bring NaN."""
  z = tf.Variable(tf.reshape(tf.range(5.), [1, 5, 1, 1]))

  def weigh(z, posterior, dtype=None):
    del posterior, dtype
    log_w = tf.where(tf.equal(z, float(best)), 3. * z, -float("inf"))[..., 0]
    return Particles(z, log_w, log_w, {}), log_w

  with tf.GradientTape() as tape:
    estimate = Screening(1)(iwae, weigh, tf.convert_to_tensor(z), None, tf.zeros([1, 1]),
                             tf.constant([0.5]), training=True)
  np.testing.assert_allclose(estimate.objective, [3. * best - np.log(5)])
  np.testing.assert_allclose(estimate.captured_weight, [1.])
  np.testing.assert_allclose(estimate.screening_error, [0.])
  expected = 3. * (np.arange(5) == best)
  np.testing.assert_allclose(tf.reshape(tape.gradient(estimate.objective, z), [-1]), expected)


GROUPS, GROUP_SIZE = 60, 2000


def gradients(model, x, estimators_, absent):
  """{name: [GROUPS, ...]} an estimator: means over groups, by every weight of the model."""
  variables = model.trainable_variables
  x = {n: tf.repeat(v, GROUP_SIZE, 0) for n, v in x.items()}
  mask = {n: tf.fill([GROUP_SIZE], n not in absent) for n in x} if absent else {}

  @tf.function
  def of_group(given):
    found = []
    for estimator in estimators_:
      with tf.GradientTape() as tape:
        used = given if estimator._screening else given[:-1]
        objective = tf.reduce_mean(estimator(model, x, used, mask, True).objective)
      found.append([tf.zeros_like(v.value) if g is None else g for g, v in zip(
          tape.gradient(objective, variables), variables, strict=True)])
    return found

  groups = [of_group(noise(model, x, GROUP_SIZE, i)) for i in range(GROUPS)]
  return [{v.path: np.stack([g[e][i] for g in groups]).astype(float)
           for i, v in enumerate(variables)} for e in range(len(estimators_))]


STL, DREG, MIXTURE_DREG = objectives.stl, objectives.dreg, objectives.mixture_dreg


@pytest.mark.parametrize("gradient, bound, num_modalities, num_best, choices", [
    (DREG, iwae, 1, 1, {}),
    (DREG, iwae, 2, 1, {"family": "laplace"}),
    (DREG, iwae_tight, 2, 3, {"beta": 2.}),
    (STL, iwae, 2, 1, {}),
    (STL, iwae_tight, 3, 2, {"absent": ["b"]}),
    (MIXTURE_DREG, iwae, 2, 1, {}),
    (MIXTURE_DREG, iwae, 3, 2, {"absent": ["c"], "likelihood_weights": {"a": 2.}}),
    (MIXTURE_DREG, iwae_tight, 2, 1, {"family": "laplace"}),
    (MIXTURE_DREG, iwae_tight, 3, 3, {}),
    (DREG, iwae_tight, 2, 2, {"sample": joint_posteriors.independent_sample}),
    (objectives.reparameterised, iwae, 2, 1, {})], ids=lambda value: getattr(
        value, "__name__", "-".join(value) if isinstance(value, dict) else str(value)))
def test_unbiased(gradient, bound, num_modalities, num_best, choices):
  """By every weight of encoders, decoders and prior, beside the same gradient of all particles.

  |bias| is below 4 standard errors, and these together below 2 % of the gradient's norm.
  """
  exact = oracle.LinearGaussian(num_modalities)
  choices = dict(choices)
  absent, family = choices.pop("absent", ()), choices.pop("family", "normal")
  model = exact.model(shift=0.4, stretch=1.2, family=family, learn_prior=True)
  dense, screened = gradients(model, exact.sample(1, seed=5), [
      Estimator(bound, gradient, screening=s, **choices) for s in (None, Screening(num_best))],
                              absent)
  for part in ("encoder", "dense", "raw_scale"):  # the oracle's decoders are dense layers
    names = [name for name in dense if part in name]
    bias, error = (np.concatenate([v.ravel() for v in values]) for values in zip(
        *[mean_and_error(screened[name] - dense[name]) for name in names], strict=True))
    norm = np.linalg.norm(np.concatenate([dense[name].mean(0).ravel() for name in names]))
    assert np.any(error > 0), part
    assert np.linalg.norm(error) < 0.02 * norm, part
    assert np.max(np.abs(bias[error > 0]) / error[error > 0]) < 4, part


@pytest.mark.parametrize("bound", BOUNDS)
def test_enough_are_all(pair, bound):
  model, x = pair.model(shift=0.4), pair.sample(3)
  given = noise(model, x, 3)
  num = NUM_SAMPLES * (2 if bound is iwae_tight else 1)
  all_but_one, expected = (
      oracle.encoder_gradients(model, e, x, given if e._screening else given[:-1])
      for e in (Estimator(bound, screening=Screening(num - 1)), Estimator(bound)))
  np.testing.assert_array_equal(all_but_one, expected)


@pytest.mark.parametrize("bound", BOUNDS)
def test_what_is_absent_gives_nothing(pair, bound):
  model, x = pair.model(shift=0.4), pair.sample(3)
  mask = {"a": tf.constant([True, False, False]), "b": tf.constant([True, True, False])}
  x["a"] = tf.where(mask["a"][:, tf.newaxis], x["a"], float("nan"))
  estimator = Estimator(bound, MIXTURE_DREG, screening=Screening(1))
  given = noise(model, x, 3)
  found = oracle.encoder_gradients(model, estimator, x, given, mask)
  assert np.all(np.isfinite(found))
  assert not np.any(found[0, 1:]) and not np.any(found[1, 2])
  assert np.all(np.any(found[0, :1], -1)) and np.all(np.any(found[1, :2], -1))
  assert float(estimator(model, x, given, mask).objective[2]) == 0


def test_over_subsets(exact):
  """Each pass screens by itself, and has the value that it has without."""
  model, x = exact.model(shift=0.4), exact.sample(4)
  screened = estimators.SubsampledEstimator(Estimator(screening=Screening(1)))
  given = noise(model, x, 4, estimator=screened)
  found = screened(model, x, given).objective
  passes, begin, expected = [list(x), *([n] for n in x)], 0, 0.
  for names in passes[:1] if len(x) == 1 else passes:
    rows = given[begin:begin + len(names)]
    expected += Estimator()(model, {n: x[n] for n in names}, rows).objective
    begin += len(names) + 1
  assert begin == len(given)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_total_correlation(exact):
  model, x = exact.model(shift=0.4), exact.sample(4)
  given = noise(model, x, 4)
  screened, dense = (estimators.TotalCorrelationEstimator(
      0.5, iwae, screening=screening)(model, x, rows) for screening, rows in (
          (Screening(1), given), (None, given[:-1])))
  np.testing.assert_allclose(screened.objective, dense.objective, rtol=1e-5)


@pytest.mark.parametrize("bound", BOUNDS)
def test_screening_in_few_bits(pair, bound):
  """What is backpropagated, and what it is counted with, stay float32; weights alone are others."""
  model, x = pair.model(shift=0.4), pair.sample(50)
  given = noise(model, x, 50)
  in_few, in_all = (Estimator(bound, screening=Screening(2, dtype=dtype))
                    for dtype in ("bfloat16", None))
  coarse, fine = (e(model, x, given, training=True) for e in (in_few, in_all))
  assert np.max(fine.screening_error) < 1e-4
  error = np.abs(coarse.log_w - fine.log_w)
  assert 0.01 < error.max() < 2. and coarse.log_w.dtype == tf.float32
  assert np.all(coarse.screening_error <= error.max((0, 1)) + 1e-4)
  assert np.mean(coarse.screening_error) > 0.2 * np.mean(error)
  for estimator in (in_few, in_all):  # what is held out is measured in float32
    np.testing.assert_array_equal(estimator(model, x, given).log_w, fine.log_w)


@pytest.mark.parametrize("kwargs, message", [
    ({"num_best": 0}, "num_best must be a whole number of at least 1, got 0"),
    ({"num_best": 1.5}, "num_best must be a whole number of at least 1, got 1.5"),
    ({"num_best": None}, "num_best must be a whole number of at least 1, got None"),
    ({"dtype": "float16"}, 'dtype of Screening must be "bfloat16", or None for float32, got '),
    ({"slice_size": 0}, "slice_size must be a whole number of at least 1, or None, got 0")])
def test_numbers_that_make_no_sense(kwargs, message):
  with pytest.raises(ValueError, match=message):
    Screening(**kwargs)


def unlike(log_w, log_pi):
  return iwae(log_w, log_pi)


@pytest.mark.parametrize("bound", [elbo, unlike])
def test_a_bound_without_weights_is_refused(bound):
  with pytest.raises(ValueError, match=f"the greatest weights, and in {bound.__name__} none comp"):
    Estimator(bound, screening=Screening())


def with_layer(part, layer):
  """A model that has one more layer in an encoder or decoder of its modality `image`."""
  model = small.model()
  getattr(model.modalities["image"], part).add(layer)
  model.score({n: tf.zeros([1, size]) for n, size in small.SIZES.items()},
              tf.zeros([1, 1, 1, 2]),
              model.posterior({n: tf.zeros([1, s]) for n, s in small.SIZES.items()}))
  return model


@pytest.mark.parametrize("part, layer, message", [
    ("encoder", keras.layers.BatchNormalization, "its encoder computes with statistics of its b"),
    ("decoder", keras.layers.BatchNormalization, "its decoder computes with statistics of its b"),
    ("decoder", lambda: keras.layers.Dropout(0.5), "its decoder draws random numbers in training"),
    ("decoder", lambda: keras.layers.GaussianNoise(0.5), "its decoder draws random numbers in t")])
def test_networks_that_would_weigh_otherwise_are_refused(part, layer, message):
  model, x = with_layer(part, layer()), small.values(4)
  estimator = Estimator(screening=Screening())
  given = noise(model, x, 4)
  with pytest.raises(ValueError, match=f"modality 'image': {message}"):
    estimator(model, x, given, training=True)
  estimator(model, x, given)


def test_dropout_of_encoders_and_of_nothing_is_taken():
  for part, rate in (("encoder", 0.5), ("decoder", 0.)):
    model, x = with_layer(part, keras.layers.Dropout(rate)), small.values(4)
    estimator = Estimator(screening=Screening())
    estimator(model, x, noise(model, x, 4), training=True)
