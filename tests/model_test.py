import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import oracle
from tf_mmvae import distributions, joint_posteriors, objectives
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior, expert_dim
from tf_mmvae.nets import images, sentences

B, K = 4, 3
MASK = {"a": np.array([1, 1, 0, 0], bool), "b": np.array([1, 0, 1, 0], bool)}  # c: all


@pytest.fixture(scope="module")
def trio():
  exact = oracle.LinearGaussian(3)
  return exact.model(shift=0.3), exact.sample(B)


def noise_of(num_components, batch_size=B):
  return joint_posteriors.uniform_noise([num_components, K, batch_size, 2], [0, 7])


def only(values, *names):
  return {name: values[name] for name in names}


def log_w(particles):
  return np.asarray(particles.log_pz - particles.log_qz + sum(particles.log_px.values()))


# The prior.


@pytest.mark.parametrize("family", list(oracle.FAMILIES))
@pytest.mark.parametrize("learn_scale", [False, True])
def test_prior_starts_at_mean_zero_and_scale_one(family, learn_scale):
  prior = Prior(3, oracle.FAMILIES[family], learn_scale)
  p, z = prior.distribution(), tf.random.stateless_normal([5, 3], [0, 0])
  assert (p.batch_shape, p.event_shape) == ([], [3])
  np.testing.assert_allclose(
      p.log_prob(z), oracle.log_prob(family, np.asarray(z), 0., 1.), rtol=1e-5)


def test_prior_scales_sum_to_the_latent_dim():
  prior = Prior(4)
  prior.raw_scale.assign([-1., 0., 2., 5.])
  scale = prior.distribution().distribution.scale
  np.testing.assert_allclose(tf.reduce_sum(scale), 4 + 4e-6, rtol=1e-6)
  assert np.all(np.diff(scale) > 0)


@pytest.mark.parametrize("learn_prior", [False, True])
def test_learnt_prior_moves_and_fixed_one_does_not(pair, learn_prior):
  model, x = pair.model(learn_prior=learn_prior), pair.sample(B)
  trained = [v.path for v in model.trainable_variables]
  assert ("prior/raw_scale" in trained) == learn_prior
  with tf.GradientTape() as tape:
    particles = model.particles(x, noise_of(2))
    loss = -tf.reduce_mean(particles.log_pz)
  gradients = tape.gradient(loss, model.trainable_variables)
  before = model.prior.raw_scale.numpy()
  keras.optimizers.SGD(0.1).apply_gradients(
      (g, v) for g, v in zip(gradients, model.trainable_variables, strict=True) if g is not None)
  assert np.all(before != model.prior.raw_scale) == learn_prior
  if learn_prior:
    z = np.reshape(particles.z, [-1, 2])  # d log p(z) / d scale_d = z_d^2 - 1 at scales 1
    by_scale = -(z**2 - 1).mean(0)
    expected = by_scale - by_scale.mean()  # through 2 softmax(raw) at raw = 0
    np.testing.assert_allclose(before - model.prior.raw_scale, 0.1 * expected, rtol=1e-3)


# Names and missing modalities.


def named(*names):
  return [Modality(name, (3,), keras.layers.Dense(4), keras.layers.Dense(3),
                   distributions.normal_likelihood) for name in names]


@pytest.mark.parametrize("names", [["a", "a"], []])
def test_modalities_need_names_of_their_own(names):
  with pytest.raises(ValueError, match="names of their own, and be at least one; got"):
    MultimodalVAE(named(*names), Prior(2))


class OneTooMany(joint_posteriors.MixtureOfExperts):
  """Says that there is one component more than it makes."""

  def num_components(self, num_modalities):
    return num_modalities + 1


def test_a_rule_that_miscounts_its_components_is_refused():
  with pytest.raises(ValueError) as error:
    MultimodalVAE(named("a", "b"), Prior(2), OneTooMany())
  assert str(error.value) == (
      "joint_posterior 'mixture_of_experts' made 2 components of 2 modalities, but its "
      "num_components says 3: make its subsets and its __call__ agree")


@pytest.mark.parametrize("names", [["a", "z"], []])
def test_unknown_modalities_and_none_are_refused(trio, names):
  model, x = trio
  with pytest.raises(ValueError) as error:
    model.posterior({name: x["a"] for name in names})
  assert str(error.value) == (
      f"expected some of the modalities ['a', 'b', 'c'], got {names}")


def test_unknown_modality_in_the_mask_is_refused(trio):
  model, x = trio
  with pytest.raises(ValueError) as error:
    model.posterior({"a": x["a"]}, {"z": MASK["a"]})
  assert str(error.value) == (
      "mask for ['z'], but the model's modalities are ['a', 'b', 'c']: correct the name, or "
      "add the modality")


def test_wrong_shape_is_refused(trio):
  model, x = trio
  with pytest.raises(ValueError, match=r"'b': expected observations of shape \[3\], got \[2\]"):
    model.posterior({"b": x["a"]})


# What a keras.Model promises.


def test_keras_saving_of_the_whole_is_refused(trio, tmp_path):
  with pytest.raises(TypeError, match="^a MultimodalVAE is made anew by the function that made it"):
    trio[0].get_config()
  with pytest.raises(TypeError, match="^a MultimodalVAE is made anew by the function that made it"):
    trio[0].save(tmp_path / "model.keras")
  for part, name in ((trio[0].prior, "Prior"), (trio[0].modalities["a"], "Modality")):
    with pytest.raises(TypeError, match=f"^a {name} holds functions, which Keras cannot write"):
      part.get_config()


@pytest.mark.parametrize("name", ["compile", "fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_keras_training_is_refused(trio, name):
  method = getattr(trio[0], name)
  with pytest.raises(TypeError) as error:
    method("adam")
  assert str(error.value) == (
      "a MultimodalVAE has no loss that Keras could compile and fit: train it by "
      "Experiment(...).run(path), or by training.train")


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_a_call_decodes_the_mean_of_the_posterior(names):
  """The mean of a mixture of exact posteriors is the mean of their means."""
  exact = oracle.LinearGaussian(3)
  model, x = exact.model(), only(exact.sample(B), *names)
  z = np.mean([exact.posterior(x, [name])[0] for name in names], axis=0)
  for found in (model(x), model.predict(x, verbose=0)):
    assert list(found) == exact.names
    for name, value in found.items():
      expected = z @ exact.weights[name].T + exact.means[name]
      np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


def test_a_call_writes_sentences():
  model = image_and_sentence(0)
  found = model({"image": tf.ones([B, 4, 4, 3])})
  assert found["sentence"].dtype == tf.int32
  assert {name: value.shape for name, value in found.items()} == {
      "image": (B, 4, 4, 3), "sentence": (B, 5)}


def test_a_call_in_training_reaches_the_networks():
  norm = keras.layers.BatchNormalization()
  (modality,) = named("a")
  modality.encoder = keras.Sequential([norm, modality.encoder])
  model = MultimodalVAE([modality], Prior(2))
  for training in (False, True):
    model({"a": tf.fill([B, 3], 5.)}, training=training)
    assert np.all(norm.moving_mean > 0) == training


def test_a_prior_called_is_its_log_density():
  prior, z = Prior(3, oracle.FAMILIES["normal"]), tf.random.stateless_normal([5, 3], [0, 0])
  np.testing.assert_allclose(
      prior(z), oracle.log_prob("normal", np.asarray(z), 0., 1.), rtol=1e-5)


def test_the_summary_counts_the_weights_of_each_part():
  model, lines = image_and_sentence(0), []
  model.summary(print_fn=lines.append, line_length=80)
  text = "".join(lines)
  parts = [model.prior, *model.modalities.values()]
  for part in parts:
    count = sum(int(np.prod(w.shape)) for w in part.weights)
    assert count == part.count_params() > 0
    (row,) = [line for line in text.splitlines() if line[1:].strip().startswith(part.name)]
    assert f" {count:,} " in row
  total = sum(int(np.prod(w.shape)) for w in model.weights)
  assert f"Total params: {total:,} " in text and total == sum(p.count_params() for p in parts)
  assert model.layers == parts


def test_keras_keeps_the_weights(tmp_path):
  model, other = image_and_sentence(0), image_and_sentence(1)
  model.save_weights(tmp_path / "a.weights.h5")
  other.load_weights(tmp_path / "a.weights.h5")
  for v, expected in zip(other.weights, model.weights, strict=True):
    np.testing.assert_array_equal(v, expected)


@pytest.mark.parametrize("names", ["a", "c", "ab", "bc", "abc"])
def test_subset_of_keys_is_the_mask_with_the_others_absent(trio, names):
  model, x = trio
  noise = noise_of(3)
  rows = ["abc".index(name) for name in names]
  mask = {name: np.full(B, name in names) for name in "abc"}
  masked = model.particles(x, noise, mask)
  subset = model.particles(only(x, *names), tf.gather(noise, rows))
  assert model.num_components(only(x, *names)) == len(names)
  for everything, part in zip(masked[:3], subset[:3], strict=True):
    np.testing.assert_allclose(tf.gather(everything, rows), part, rtol=1e-4, atol=1e-5)
  for name in "abc":
    expected = subset.log_px[name] if name in names else tf.zeros([len(names), K, B])
    np.testing.assert_allclose(tf.gather(masked.log_px[name], rows), expected, rtol=1e-4)


def test_mask_says_it_for_single_examples(trio):
  model, x = trio
  noise = noise_of(3)
  masked = model.particles(x, noise, MASK)
  for b in range(B):
    names = [name for name in "abc" if MASK.get(name, np.full(B, True))[b]]
    rows = ["abc".index(name) for name in names]
    alone = model.particles(
        {name: x[name][b:b + 1] for name in names}, tf.gather(noise, rows)[:, :, b:b + 1])
    np.testing.assert_allclose(log_w(masked)[rows, :, b:b + 1], log_w(alone), rtol=1e-4, atol=1e-4)


def test_absent_values_reach_neither_values_nor_gradients(trio):
  model, x = trio
  results = []
  for held in [0., np.nan]:
    x_held = {**x, **{n: tf.where(m[:, None], x[n], held) for n, m in MASK.items()}}
    with tf.GradientTape() as tape:
      particles = model.particles(x_held, noise_of(3), MASK)
      loss = tf.reduce_sum(particles.log_pz - particles.log_qz) + tf.add_n(
          [tf.reduce_sum(nats) for nats in particles.log_px.values()])
    results.append([loss, *tape.gradient(loss, model.trainable_variables)])
  for expected, result in zip(*results, strict=True):
    assert np.all(np.isfinite(result))
    np.testing.assert_array_equal(result, expected)


def test_order_of_the_modalities_orders_the_strata_alone(trio):
  model, x = trio
  turned = MultimodalVAE(list(model.modalities.values())[::-1], model.prior)
  noise = noise_of(3)
  np.testing.assert_allclose(
      log_w(turned.particles(x, noise[::-1])), log_w(model.particles(x, noise))[::-1],
      rtol=1e-4, atol=1e-4)


# Particles.


@pytest.mark.parametrize("batch_size", [1, B])
def test_particles_are_samples_and_their_densities(exact, batch_size):
  model, x = exact.model(shift=0.3), exact.sample(batch_size)
  num_components = len(exact.names)
  particles = model.particles(x, noise_of(num_components, batch_size))
  z = np.asarray(particles.z, float)
  assert z.shape == (num_components, K, batch_size, 2)
  locs, scales = oracle.split_raw(oracle.raw_parameters(model, x))
  np.testing.assert_allclose(
      particles.log_pz, oracle.log_prob("normal", z, 0., 1.), rtol=1e-4)
  np.testing.assert_allclose(
      sum(particles.log_px.values()), exact.log_joint(x, z) - oracle.log_prob("normal", z, 0., 1.),
      rtol=1e-4)
  log_pi = np.full(num_components, -np.log(num_components))
  expected = [oracle.mixture_log_prob("normal", z[s, k, b], locs[:, b], scales[:, b], log_pi)
              for s, k, b in np.ndindex(z.shape[:3])]
  np.testing.assert_allclose(np.ravel(particles.log_qz), expected, rtol=1e-4)


def test_exact_expert_alone_has_constant_weights():
  exact = oracle.LinearGaussian(1)
  x = exact.sample(B)
  expected = np.broadcast_to(exact.log_evidence(x), [1, K, B])
  np.testing.assert_allclose(
      log_w(exact.model().particles(x, noise_of(1))), expected, rtol=1e-4)


def test_score_of_given_latents_is_that_of_particles(trio):
  model, x = trio
  particles = model.particles(x, noise_of(3), MASK)
  again = model.score(x, particles.z, model.posterior(x, MASK), MASK)
  np.testing.assert_array_equal(log_w(again), log_w(particles))


def test_likelihoods_of_every_modality(trio):
  model, _ = trio
  likelihoods = model.likelihoods(tf.zeros([2, B, 2]))
  assert {n: p.batch_shape + p.event_shape for n, p in likelihoods.items()} == {
      n: [2, B, size] for n, size in oracle.SIZES.items()}


def test_particles_in_a_graph_of_unknown_batch(trio):
  model, x = trio

  @tf.function(input_signature=[
      {n: tf.TensorSpec([None, size]) for n, size in oracle.SIZES.items()},
      tf.TensorSpec([3, K, None, 2]), {n: tf.TensorSpec([None], tf.bool) for n in MASK}])
  def run(x, noise, mask):
    return model.particles(x, noise, mask)

  mask = {n: tf.constant(m) for n, m in MASK.items()}
  np.testing.assert_allclose(log_w(run(x, noise_of(3), mask)),
                             log_w(model.particles(x, noise_of(3), mask)), rtol=1e-4)


# Checkpoints.


def image_and_sentence(seed):
  """A model with every kind of part; its values depend on the seed."""
  model = MultimodalVAE(
      [Modality("image", (4, 4, 3), images.ConvEncoder(2, [2, 3]),
                images.ConvDecoder((4, 4, 3), [3, 2]), distributions.laplace_likelihood),
       Modality("sentence", (5,), sentences.RecurrentEncoder(2, 7, 3, 4),
                sentences.RecurrentDecoder(7, 5, 3, 4), distributions.sentence_likelihood,
                dtype="int32")], Prior(2))
  rng = np.random.default_rng(seed)
  model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
  return model


def test_checkpoint_holds_every_variable_and_restores_it(tmp_path):
  model, fresh = image_and_sentence(0), image_and_sentence(1)
  path = tf.train.Checkpoint(model=model).save(str(tmp_path / "model"))
  held = [shape for name, shape in tf.train.list_variables(path) if name.startswith("model/")]
  assert sorted(held) == sorted(list(v.shape) for v in model.weights)
  assert len(held) > 20
  tf.train.Checkpoint(model=fresh).restore(path).assert_consumed()
  for v, expected in zip(fresh.weights, model.weights, strict=True):
    np.testing.assert_array_equal(v, expected)


@pytest.mark.parametrize("latent_dim", [0, -1, 1.5])
def test_a_latent_size_below_one_is_refused(latent_dim):
  with pytest.raises(ValueError, match="^latent_dim must be a whole number of at least 1, got"):
    Prior(latent_dim)


# Private latents.


@pytest.fixture(scope="module")
def private():
  """One shared dimension and one of each modality."""
  return oracle.LinearGaussian(2, latent_dim=3, private_dim=1)


def test_private_experts_are_exact_posteriors(private):
  """Also of the other's private dimension, which they leave to the prior."""
  model, x = private.model(), private.sample(4)
  for name in private.names:
    q = model.posterior(only(x, name))
    mean, covariance = private.posterior(x, [name])
    np.testing.assert_allclose(q.mean(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(q.variance()[0], np.diag(covariance), rtol=1e-4)
    log_w = objectives.log_weights(model.particles(only(x, name), uniform([1, 5, 4, 3])))
    log_px = private.log_evidence(x, [name])
    np.testing.assert_allclose(log_w, np.broadcast_to(log_px, [1, 5, 4]), rtol=1e-4)


def test_private_tight_bound_is_unbiased(private):
  num = 20_000
  one = private.sample(1, seed=5)
  x = {name: tf.repeat(value, num, 0) for name, value in one.items()}
  model = private.model(shift=0.3)
  log_pi = joint_posteriors.log_mixture_weights(model.posterior(x))
  log_w = objectives.log_weights(model.particles(x, uniform([2, 5, num, 3])))
  ratio = np.exp(objectives.iwae_tight(log_w, log_pi) - private.log_evidence(one)[0])
  assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(num) < 0.02


def test_a_modality_does_not_see_the_private_latents_of_others(private):
  model, z = private.model(), np.zeros([1, 3], np.float32)
  for name, dims in {"a": [0, 1], "b": [0, 2]}.items():
    before = model.likelihood(name, z).mean()
    changed = [bool(np.any(model.likelihood(name, z + np.eye(3, dtype=np.float32)[d]).mean()
                           != before)) for d in range(3)]
    assert changed == [d in dims for d in range(3)]


def test_private_latents_are_of_mixtures_of_experts_alone(private):
  for rule in (joint_posteriors.ProductOfExperts(), joint_posteriors.MixtureOfProducts(),
               joint_posteriors.ProductOfExperts(prior_expert=False)):
    with pytest.raises(ValueError, match="private latents are joined by MixtureOfExperts alone"):
      private.model(joint_posterior=rule)


def test_dimensions_that_do_not_add_up():
  assert expert_dim(10, 3, 2) == 7 and expert_dim(10, 0, 2) == 10
  for private_dim in (-1, 5):
    with pytest.raises(ValueError) as error:
      expert_dim(10, private_dim, 2)
    assert str(error.value) == (
        "private_dim must be at least 0 and leave some of the 10 latent dimensions to share among "
        f"2 modalities, got {private_dim}")
  parts = list(oracle.LinearGaussian(2).model().modalities.values())
  with pytest.raises(ValueError) as error:
    MultimodalVAE(parts, Prior(5))
  assert str(error.value) == (
      "modality 'a': expected an encoder of 5 latent dimensions, got 2: make its latent_dim and "
      "that of the prior agree")


def uniform(shape):
  return joint_posteriors.uniform_noise(shape, [0, 7])
