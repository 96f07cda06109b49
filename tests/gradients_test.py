"""Gradients: by their rule in NumPy, by TFP, and their bias over many runs."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracle
from tests.objectives_test import by_loop, mean_and_error, random_weights
from tf_mmvae import distributions, joint_posteriors, objectives
from tf_mmvae.estimators import Estimator
from tf_mmvae.objectives import elbo, iwae, iwae_tight


def test_every_gradient_is_tested():
  gradients = {f for f in vars(objectives).values() if inspect.isfunction(f)
               and list(inspect.signature(f).parameters) == [
                   "bound", "beta", "posterior", "z", "score"]}
  assert gradients == set(objectives.GRADIENTS) == {
      objectives.reparameterised, objectives.mixture_dreg, *COEFFICIENTS}


# Gradients by the rule, in NumPy.

STEP = 1e-5


def differences(function, u, axes):
  """Central differences of function(u) -> [..., B] by each entry of u along its first `axes`."""
  result = []
  for index in np.ndindex(u.shape[:axes]):
    step = np.zeros_like(u)
    step[index] = STEP
    result.append((function(u + step) - function(u - step)) / (2 * STEP))
  return np.reshape(result, u.shape[:axes] + np.shape(result[0]))


class Case:
  """One setting of everything an estimator sees, and its answers in NumPy."""

  def __init__(self, num_modalities, family, bound, likelihood_weights=None, beta=1.):
    self.family, self.bound = family, bound
    self.weights = {"likelihood_weights": likelihood_weights, "beta": beta}
    self.exact = oracle.LinearGaussian(num_modalities)
    self.model = self.exact.model(shift=0.4, stretch=1.2, family=family, learn_prior=True)
    self.x = self.exact.sample(2, seed=2)
    self.noise = joint_posteriors.uniform_noise([num_modalities, 3, 2, 2], [2, 0])
    self.raw = oracle.raw_parameters(self.model, self.x)  # [M, B, 2 D]
    self.log_pi = np.full([num_modalities, 2], -np.log(num_modalities))

  def sample(self, raw):
    locs, scales = oracle.split_raw(raw)
    return locs[:, None] + scales[:, None] * oracle.quantile(self.family, self.noise)

  def log_w(self, z, raw):
    """[S, K, B], with the weights."""
    log_px = {n: self.exact.log_joint(self.x, z, [n]) - oracle.log_prob("normal", z, 0., 1.)
              for n in self.exact.names}
    q = sum(np.exp(oracle.log_prob(self.family, z, loc, scale))
            for loc, scale in zip(*oracle.split_raw(raw), strict=True)) / len(raw)
    weights = self.weights["likelihood_weights"] or {}
    return (self.weights["beta"] * (oracle.log_prob(self.family, z, 0., 1.) - np.log(q))
            + sum(weights.get(n, 1.) * nats for n, nats in log_px.items()))

  def value(self, raw):
    return by_loop(self.bound, self.log_w(self.sample(raw), raw), self.log_pi)

  def coefficients(self):
    """c and c' [S, K, B], by differences of the bound."""
    def c(log_w):
      return differences(lambda u: by_loop(self.bound, u, self.log_pi), log_w, 2)

    log_w = self.log_w(self.sample(self.raw), self.raw)
    second = np.zeros_like(log_w)
    for s, k in np.ndindex(log_w.shape[:2]):
      step = np.zeros_like(log_w)
      step[s, k] = 1e-3
      second[s, k] = (c(log_w + step) - c(log_w - step))[s, k] / 2e-3
    return c(log_w), second

  def encoder_gradients(self, coefficient):
    """sum_k coefficient_k g_k through z = T(noise, raw): [M, B, 2 D]."""
    z = self.sample(self.raw)
    g = np.zeros_like(z)
    for d in range(z.shape[-1]):
      step = STEP * np.eye(z.shape[-1])[d]
      g[..., d] = (self.log_w(z + step, self.raw) - self.log_w(z - step, self.raw)) / (2 * STEP)
    by_z = coefficient[..., None] * g
    by_scale = by_z * oracle.quantile(self.family, self.noise)
    by_raw_scale = by_scale.sum(1) / (1 + np.exp(-np.split(self.raw, 2, axis=-1)[1]))
    return np.concatenate([by_z.sum(1), by_raw_scale], axis=-1)


COEFFICIENTS = {
    objectives.stl: lambda c, second, beta: c,
    objectives.dreg: lambda c, second, beta: c - beta * second,
}
CASES = [(m, "normal", bound) for m in [1, 2] for bound in objectives.BOUNDS] + [
    (3, "normal", iwae, {"a": 3., "c": 0.5}, 0.5), (2, "normal", iwae_tight, {"b": 3.}, 2.),
    (2, "laplace", iwae), (2, "laplace", iwae_tight)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-"
                f"{case[2].__name__}" + "-weighted" * (len(case) > 3))
def case(request):
  return Case(*request.param)


def test_value_and_reparameterised_gradient(case):
  estimator = Estimator(case.bound, objectives.reparameterised, **case.weights)
  estimate = estimator(case.model, case.x, case.noise)
  np.testing.assert_allclose(estimate.objective, case.value(case.raw), rtol=1e-4)
  np.testing.assert_allclose(estimate.log_pi, case.log_pi, rtol=1e-6)
  expected = np.zeros_like(case.raw)
  for m, d in np.ndindex(len(case.raw), case.raw.shape[-1]):
    step = np.zeros_like(case.raw)
    step[m, :, d] = STEP
    expected[m, :, d] = (case.value(case.raw + step) - case.value(case.raw - step)) / (2 * STEP)
  gradients = oracle.encoder_gradients(case.model, estimator, case.x, case.noise)
  np.testing.assert_allclose(gradients, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gradient", COEFFICIENTS)
def test_encoder_gradients_by_the_rule(case, gradient):
  expected = case.encoder_gradients(COEFFICIENTS[gradient](
      *case.coefficients(), case.weights["beta"]))
  gradients = oracle.encoder_gradients(
      case.model, Estimator(case.bound, gradient, **case.weights), case.x, case.noise)
  np.testing.assert_allclose(gradients, expected, rtol=1e-3, atol=1e-4)


def test_estimators_share_values_and_the_gradients_of_decoders_and_prior(case):
  variables = [v for v in case.model.trainable_variables if "encoder" not in v.path]
  values, gradients = [], []
  for gradient in objectives.GRADIENTS:
    with tf.GradientTape() as tape:
      estimate = Estimator(case.bound, gradient, **case.weights)(case.model, case.x, case.noise)
    values.append(tf.nest.flatten(estimate))
    gradients.append(tape.gradient(estimate.objective, variables))
  assert len(variables) == 2 * len(case.exact.names) + 1
  for other in [1, 2, 3]:
    for expected, value in zip(values[0], values[other], strict=True):
      np.testing.assert_array_equal(value, expected)
    for expected, gradient in zip(gradients[0], gradients[other], strict=True):
      assert np.any(expected)
      np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_weights_and_beta_enter_log_weights_alone(case):
  weighted = Estimator(case.bound, objectives.reparameterised, {"a": 3.}, beta=2.)
  particles = weighted(case.model, case.x, case.noise).particles
  plain = case.model.particles(case.x, case.noise)
  tf.nest.map_structure(np.testing.assert_array_equal, particles, plain)
  log_px = plain.log_px.values()
  np.testing.assert_allclose(
      objectives.log_weights(plain), plain.log_pz - plain.log_qz + sum(log_px), rtol=1e-5)
  np.testing.assert_allclose(
      objectives.log_weights(plain, {"a": 3.}, 2.) - objectives.log_weights(plain),
      plain.log_pz - plain.log_qz + 2 * plain.log_px["a"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gradient", objectives.GRADIENTS)
def test_unknown_likelihood_weight_is_refused(pair, gradient):
  noise = tf.fill([2, 1, 1, 2], 0.5)
  with pytest.raises(ValueError) as error:
    Estimator(iwae, gradient, {"a": 1., "z": 1.})(pair.model(), pair.sample(1), noise)
  assert str(error.value) == (
      "likelihood_weights for ['z'], but the model's modalities are ['a', 'b']: correct the "
      "name, or add the modality")


@pytest.mark.parametrize("bound", objectives.BOUNDS)
@pytest.mark.parametrize("gradient", objectives.GRADIENTS)
def test_absent_modalities_change_nothing(pair, bound, gradient):
  model, x = pair.model(shift=0.4, learn_prior=True), pair.sample(3)
  noise = joint_posteriors.uniform_noise([2, 3, 3, 2], [2, 1])
  mask = {"b": np.array([True, False, True])}
  results = []
  for held in [0., np.nan]:
    x_held = {**x, "b": tf.where(mask["b"][:, None], x["b"], held)}
    with tf.GradientTape() as tape:
      estimate = Estimator(bound, gradient)(model, x_held, noise, mask)
    results.append([estimate.objective, *tape.gradient(
        estimate.objective, model.trainable_variables)])
  for expected, result in zip(*results, strict=True):
    assert np.all(np.isfinite(result))
    np.testing.assert_array_equal(result, expected)
  by_raw = oracle.encoder_gradients(model, Estimator(bound, gradient), x_held, noise, mask)
  alone = oracle.encoder_gradients(
      model, Estimator(bound, gradient), {"a": x["a"][1:2]}, noise[:1, :, 1:2])
  np.testing.assert_allclose(by_raw[0, 1], alone[0, 0], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(by_raw[1, 1], 0.)


@pytest.mark.parametrize("bound", objectives.BOUNDS)
@pytest.mark.parametrize("gradient", objectives.GRADIENTS)
def test_an_example_with_nothing_present_gives_nothing(pair, bound, gradient):
  model, x = pair.model(shift=0.4, learn_prior=True), pair.sample(3)
  noise = joint_posteriors.uniform_noise([2, 3, 3, 2], [2, 4])
  nothing = np.array([True, False, True])
  x = {name: tf.where(nothing[:, None], value, np.nan) for name, value in x.items()}
  with tf.GradientTape() as tape:
    objective = Estimator(bound, gradient)(model, x, noise, {"a": nothing, "b": nothing}).objective
  gradients = tape.gradient(objective, model.trainable_variables)
  others = [0, 2]
  with tf.GradientTape() as tape:
    alone = Estimator(bound, gradient)(
        model, {name: tf.gather(value, others) for name, value in x.items()},
        tf.gather(noise, others, axis=2)).objective
  np.testing.assert_allclose(objective, [alone[0], 0., alone[1]], rtol=1e-6)
  for got, expected in zip(gradients, tape.gradient(alone, model.trainable_variables), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", objectives.BOUNDS)
def test_order_of_the_modalities_does_not_matter(bound):
  exact = oracle.LinearGaussian(3)
  model, x = exact.model(shift=0.4), exact.sample(2)
  turned = type(model)(list(model.modalities.values())[::-1], model.prior)
  noise = joint_posteriors.uniform_noise([3, 4, 2, 2], [2, 2])
  values = [Estimator(bound, objectives.reparameterised)(m, x, n).objective
            for m, n in [(model, noise), (turned, noise[::-1])]]
  np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize("gradient", objectives.GRADIENTS)
def test_gradient_is_the_same_in_a_graph(pair, gradient):
  model, x = pair.model(shift=0.4), pair.sample(2)
  noise = joint_posteriors.uniform_noise([2, 3, 2, 2], [2, 3])
  call = Estimator(iwae_tight, gradient)
  in_graph = tf.function(lambda: call(model, x, noise).objective)
  gradients = []
  for objective in [lambda: call(model, x, noise).objective, in_graph]:
    with tf.GradientTape() as tape:
      value = objective()
    gradients.append(tape.gradient(value, model.trainable_variables))
  for eager, graph in zip(*gradients, strict=True):
    np.testing.assert_allclose(graph, eager, rtol=1e-4, atol=1e-5)


def test_dreg_by_tfp_for_one_expert():
  exact = oracle.LinearGaussian(1)
  model, x = exact.model(shift=0.4, stretch=1.2), exact.sample(3)
  raw = tf.constant(oracle.raw_parameters(model, x)[0], tf.float32)
  drawn = []

  def log_joint(z):  # [K, B, D] -> [K, B]
    drawn.append(z)
    p = model.score(x, z[tf.newaxis], model.posterior(x))
    return (p.log_pz + p.log_px["a"])[0]

  with tf.GradientTape() as tape:
    tape.watch(raw)
    loss = tfp.vi.monte_carlo_variational_loss(
        log_joint, distributions.normal(raw), importance_sample_size=5, seed=[0, 1],
        gradient_estimator=tfp.vi.GradientEstimators.DOUBLY_REPARAMETERIZED,
        stopped_surrogate_posterior=distributions.stop_gradient(distributions.normal(raw)))
  noise = distributions.normal(raw).distribution.cdf(drawn[0])[tf.newaxis]
  dreg = Estimator(iwae, objectives.dreg)
  np.testing.assert_allclose(dreg(model, x, noise).objective, -loss, rtol=1e-4)
  np.testing.assert_allclose(
      oracle.encoder_gradients(model, dreg, x, noise)[0], -tape.gradient(loss, raw),
      rtol=1e-3, atol=1e-4)


# Bias: estimates against reparameterised ones over many runs.

NUM_GRADIENTS = 100_000


def bias_in_errors(gradient, bound, num_modalities, num_samples, family="normal",
                   joint_posterior=None, absent=(), **choices):
  """Greatest |bias| in standard errors; these are below 2 % of the gradient's norm."""
  exact = oracle.LinearGaussian(num_modalities)
  model = exact.model(shift=0.4, stretch=1.2, family=family, learn_prior=True,
                      joint_posterior=joint_posterior)
  model.prior.raw_scale.assign([0.3, -0.3])
  x = {n: tf.repeat(v, NUM_GRADIENTS, 0) for n, v in exact.sample(1, seed=5).items()}
  mask = {n: tf.fill([NUM_GRADIENTS], n not in absent) for n in x} if absent else {}
  noise = joint_posteriors.uniform_noise(
      [model.num_components(x), num_samples, NUM_GRADIENTS, 2], [3, 0])
  target, estimate = (
      np.moveaxis(oracle.encoder_gradients(model, Estimator(bound, g, **choices), x, noise, mask),
                  1, 0) for g in [objectives.reparameterised, gradient])
  bias, error = mean_and_error(estimate - target)
  assert np.linalg.norm(error) < 0.02 * np.linalg.norm(target.mean(0))
  return np.max(np.abs(bias[error > 0]) / error[error > 0], initial=0.)


DREG, MIXTURE_DREG = objectives.dreg, objectives.mixture_dreg
MOPOE = {"joint_posterior": joint_posteriors.MixtureOfProducts()}
INDEPENDENT = {"sample": joint_posteriors.independent_sample}


@pytest.mark.parametrize("gradient, bound, num_modalities, num_samples, choices", [
    (DREG, iwae, 1, 1, {}),
    (DREG, iwae, 1, 5, {}),
    (DREG, iwae, 1, 5, {"family": "laplace"}),
    (DREG, iwae, 1, 5, {"beta": 0.5}),
    (DREG, iwae, 2, 1, {}),
    (DREG, iwae, 2, 1, {"family": "laplace"}),
    (DREG, elbo, 2, 5, {}),
    (DREG, iwae_tight, 2, 5, INDEPENDENT),
    (DREG, iwae_tight, 2, 5, {"family": "laplace", "beta": 2., **INDEPENDENT}),
    (DREG, iwae_tight, 3, 2, {"absent": ["b"], **INDEPENDENT}),
    (MIXTURE_DREG, elbo, 2, 5, {"beta": 2.}),
    (MIXTURE_DREG, iwae, 2, 1, {}),
    (MIXTURE_DREG, iwae, 2, 5, {}),
    (MIXTURE_DREG, iwae, 2, 5, {"beta": 0.5, "likelihood_weights": {"a": 2.}}),
    (MIXTURE_DREG, iwae, 3, 5, {"family": "laplace"}),
    (MIXTURE_DREG, iwae, 3, 5, {"absent": ["b"]}),
    (MIXTURE_DREG, iwae, 2, 5, MOPOE),
    (MIXTURE_DREG, iwae_tight, 2, 1, {"family": "laplace"}),
    (MIXTURE_DREG, iwae_tight, 2, 5, {"beta": 2.}),
    (MIXTURE_DREG, iwae_tight, 3, 5, {"family": "laplace", "absent": ["c"]}),
    (MIXTURE_DREG, iwae_tight, 2, 5, MOPOE),
    (MIXTURE_DREG, iwae_tight, 2, 5, INDEPENDENT),
    (MIXTURE_DREG, iwae, 2, 5, {"family": "laplace-normal"}),
    (DREG, iwae_tight, 2, 5, {"family": "laplace-normal", **INDEPENDENT}),
    (objectives.stl, elbo, 1, 5, {}),
    (objectives.stl, elbo, 2, 5, {})], ids=lambda value: getattr(
        value, "__name__", "-".join(value) if isinstance(value, dict) else str(value)))
def test_unbiased(gradient, bound, num_modalities, num_samples, choices):
  assert bias_in_errors(gradient, bound, num_modalities, num_samples, **choices) < 4


@pytest.mark.parametrize("gradient, bound, num_modalities, num_samples", [
    (DREG, iwae, 2, 5), (DREG, iwae_tight, 2, 1), (objectives.stl, iwae, 1, 5)])
def test_biased(gradient, bound, num_modalities, num_samples):
  """As documented; also says that test_unbiased would see such a bias."""
  assert bias_in_errors(gradient, bound, num_modalities, num_samples) > 8


@pytest.mark.parametrize("bound", objectives.BOUNDS)
def test_coefficients_are_the_derivative_of_the_bound(bound):
  log_w, log_pi = random_weights(3, 4, 5, absent=True)
  log_w = tf.constant(log_w)
  with tf.GradientTape() as tape:
    tape.watch(log_w)
    value = bound(log_w, log_pi)
  np.testing.assert_allclose(
      objectives.coefficients(bound, log_w, log_pi), tape.gradient(value, log_w), rtol=1e-10)


def test_mixture_dreg_is_dreg_for_one_component():
  exact = oracle.LinearGaussian(1)
  model, x = exact.model(shift=0.4), exact.sample(2)
  noise = joint_posteriors.uniform_noise([1, 5, 2, 2], [2, 4])
  one, other = (oracle.encoder_gradients(model, Estimator(iwae, g, beta=2.), x, noise)
                for g in [DREG, MIXTURE_DREG])
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_mixture_dreg_is_stl_for_the_elbo(pair):
  model, x = pair.model(shift=0.4), pair.sample(2)
  noise = joint_posteriors.uniform_noise([2, 5, 2, 2], [2, 4])
  one, other = (oracle.encoder_gradients(model, Estimator(elbo, g, beta=2.), x, noise)
                for g in [objectives.stl, MIXTURE_DREG])
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", objectives.BOUNDS)
def test_mixture_dreg_has_no_variance_at_the_posterior(bound):
  """Observations that say nothing of z: prior, experts and posterior are one."""
  exact = oracle.LinearGaussian(2)
  for weights in exact.weights.values():
    weights[:] = 0.
  model, x = exact.model(), exact.sample(50)
  noise = joint_posteriors.uniform_noise([2, 5, 50, 2], [2, 4])
  plain, dreg = (oracle.encoder_gradients(model, Estimator(bound, g), x, noise)
                 for g in [objectives.reparameterised, MIXTURE_DREG])
  np.testing.assert_allclose(dreg, np.zeros_like(dreg), atol=1e-5)
  assert plain.std() > 0.05
