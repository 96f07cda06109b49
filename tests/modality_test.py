import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import oracle, small
from tf_mmvae import distributions
from tf_mmvae.modality import Modality, computing_in, couples_examples, views_of
from tf_mmvae.nets import images, sentence_images, sentences
from tf_mmvae.nets.transposed import ThinConv2DTranspose

PRESENT = np.array([True, False, True, False])


def image(name="svhn", shape=(32, 32, 3)):
  return Modality(name, shape, images.ConvEncoder(2, [2]), images.ConvDecoder(shape, [2]),
                  distributions.laplace_likelihood)


def sentence():
  return Modality("sentence", (5,), sentences.RecurrentEncoder(2, 7, 3, 4),
                  sentences.RecurrentDecoder(7, 5, 3, 4), distributions.sentence_likelihood,
                  distributions.normal, dtype="int32")


class Recorder(keras.layers.Layer):
  """A network of either kind that records its `training` argument."""

  def __init__(self, size):
    super().__init__()
    self.size, self.modes = size, []

  def call(self, inputs, training=None):
    self.modes.append(training)
    return tf.repeat(inputs[:, :1], self.size, axis=1)


def test_check_names_the_modality_and_both_shapes():
  with pytest.raises(ValueError) as error:
    image().check(tf.zeros([2, 28, 28, 1]))
  assert str(error.value) == ("modality 'svhn': expected observations of shape [32, 32, 3], "
                              "got [28, 28, 1]: make its shape and that of the data agree")
  for shape in [[32, 32], [28, 32, 3], [32, 28, 3], [32, 32, 1], [1, 32, 32, 3]]:
    with pytest.raises(ValueError, match=re.escape(f"shape [32, 32, 3], got {shape}")):
      image().posterior(tf.zeros([2, *shape]))
  image().check(tf.zeros([1, 32, 32, 3]))


@pytest.mark.parametrize("modality, x, got", [
    (image(), tf.zeros([1, 32, 32, 3], tf.uint8), "expected float32, got uint8: "
     "divide pictures of 0 to 255 by 255, and make other numbers floats"),
    (sentence(), tf.zeros([1, 5]), "expected int32, got float32: give whole numbers, such as word "
     "ids")])
def test_check_names_both_types(modality, x, got):
  with pytest.raises(ValueError) as error:
    modality.check(x)
  assert str(error.value) == f"modality '{modality.name}': {got}"


@pytest.mark.parametrize("modality", [image(shape=(4, 6, 3)), sentence()])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_shapes(modality, batch_size):
  x = tf.ones([batch_size, *modality.spec.shape[1:]], modality.spec.dtype)
  q = modality.posterior(x)
  assert (q.batch_shape, q.event_shape) == ([batch_size], [2])
  for batch in [[batch_size], [2, 5, batch_size]]:
    z = tf.zeros([*batch, 2])
    p = modality.likelihood(z)
    assert (p.batch_shape, p.event_shape) == (batch, modality.spec.shape[1:])
    assert modality.log_likelihood(x, z).shape == batch


@pytest.mark.parametrize("modality", [image, sentence])
def test_a_call_reconstructs(modality):
  """Also as the first thing that is asked of a modality."""
  made = modality()
  x = tf.ones([2, *made.spec.shape[1:]], made.spec.dtype)
  found = made(x)
  assert (found.shape, found.dtype) == (x.shape, x.dtype)
  np.testing.assert_array_equal(found, made.likelihood(made.posterior(x).mean()).mode())
  assert made.built and made.count_params() == sum(
      int(np.prod(w.shape)) for w in [*made.encoder.weights, *made.decoder.weights])


@pytest.mark.parametrize("modality", [image, sentence])
def test_build_creates_every_variable(modality):
  made = modality()
  made.build()
  variables = [v.path for v in made.weights]
  x = tf.ones([2, *made.spec.shape[1:]], made.spec.dtype)
  made.log_likelihood(x, made.posterior(x).mean())
  assert variables == [v.path for v in made.weights] != []


def test_a_call_decodes_the_mean_of_the_expert(pair):
  x = pair.sample(4)
  found = pair.model().modalities["b"](x["b"])
  z, _ = pair.posterior(x, ["b"])
  np.testing.assert_allclose(
      found, z @ pair.weights["b"].T + pair.means["b"], rtol=1e-4, atol=1e-4)


def test_a_call_in_training_reaches_both_networks():
  modality = Modality("m", (3,), Recorder(4), Recorder(3), distributions.normal_likelihood)
  modality.build()
  for training in (False, True):
    modality(tf.zeros([1, 3]), training=training)
    assert modality.encoder.modes[-1] == modality.decoder.modes[-1] == training


def test_posterior_is_of_the_encoder_and_the_family(pair):
  x = pair.sample(4)["b"]
  for family, expected in [("normal", distributions.normal), ("laplace", distributions.laplace)]:
    modality = pair.model(family=family).modalities["b"]
    z = tf.ones([4, 2])
    np.testing.assert_array_equal(
        modality.posterior(x).log_prob(z), expected(modality.encoder(x)).log_prob(z))


def test_default_posterior_is_laplace():
  q = image(shape=(2, 2, 1)).posterior(tf.zeros([1, 2, 2, 1]))
  assert type(q.distribution).__name__ == "Laplace"


def test_log_likelihood_is_zero_where_absent(pair):
  modality, x = pair.model().modalities["a"], pair.sample(4)["a"]
  z = tf.random.stateless_normal([3, 4, 2], [0, 0])
  nats = modality.log_likelihood(x, z)
  masked = modality.log_likelihood(x, z, mask=PRESENT)
  np.testing.assert_array_equal(masked, np.where(PRESENT, nats, 0.))
  expected = oracle.log_prob(
      "normal", np.asarray(x), np.asarray(z) @ pair.weights["a"].T + pair.means["a"],
      pair.scales["a"])
  np.testing.assert_allclose(nats, expected, rtol=1e-4)


@pytest.mark.parametrize("absent", [np.nan, np.inf, 1e30])
def test_absent_values_reach_neither_values_nor_gradients(pair, absent):
  modality, x = pair.model().modalities["a"], pair.sample(4)["a"]
  z = tf.random.stateless_normal([3, 4, 2], [0, 0])
  results = []
  for held in [0., absent]:
    with tf.GradientTape() as tape:
      q = modality.posterior(tf.where(PRESENT[:, None], x, held), mask=PRESENT)
      nats = modality.log_likelihood(tf.where(PRESENT[:, None], x, held), z, mask=PRESENT)
      loss = tf.reduce_sum(tf.where(PRESENT, q.log_prob(tf.ones([4, 2])), 0.) + nats)
    results.append([loss, *tape.gradient(loss, modality.trainable_variables)])
  for expected, result in zip(*results, strict=True):
    assert np.all(np.isfinite(result))
    np.testing.assert_array_equal(result, expected)


def test_absent_sentences_may_hold_anything():
  modality, mask = sentence(), np.array([True, False])
  words, z = np.array([[2, 3, 1, 0, 0], [6, 6, 6, 6, 6]], np.int32), tf.zeros([2, 2])
  results = []
  for held in [0, 999]:
    words[1] = held
    nats = modality.log_likelihood(tf.constant(words), z, mask=mask)
    results.append([nats, modality.posterior(tf.constant(words), mask=mask).mean()])
  np.testing.assert_array_equal(results[0][0], results[1][0])
  np.testing.assert_array_equal(results[0][1], results[1][1])
  assert results[0][0][1] == 0


@pytest.mark.parametrize("training", [False, True])
def test_training_reaches_the_networks(training):
  modality = Modality("m", (3,), Recorder(4), Recorder(3), distributions.normal_likelihood)
  modality.posterior(tf.zeros([1, 3]), training)
  modality.likelihood(tf.zeros([1, 2]), training)
  modality.log_likelihood(tf.zeros([1, 3]), tf.zeros([1, 2]), training)
  assert (modality.encoder.modes, modality.decoder.modes) == ([training], [training] * 2)


def test_batch_statistics_couple_examples():
  dense, norm = keras.layers.Dense(3), keras.layers.BatchNormalization()
  marked = keras.layers.Dense(3)
  marked.couples_examples = True
  assert not couples_examples(dense) and not couples_examples(keras.Sequential([dense]))
  assert couples_examples(norm) and couples_examples(marked)
  assert couples_examples(keras.Sequential([dense, keras.Sequential([norm])]))


class CountingDense(keras.layers.Layer):
  """A dense network [N, D] -> [N, size] that counts its calls; batch normalisation at choice."""

  def __init__(self, size, batch_norm):
    super().__init__()
    self.num_calls = 0
    norm = [keras.layers.BatchNormalization(momentum=0.9)] if batch_norm else []
    self.body = keras.Sequential([keras.layers.Dense(4), *norm, keras.layers.Dense(size)])
    self.body(tf.zeros([1, 2]))

  def call(self, z, training=False):
    self.num_calls += 1
    return self.body(z, training=training)


def strata(seed=0):
  """x [B, 3] and z [S, K, B, 2], the strata far from one another."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=[3, 5, 4, 2]) + np.array([0., 3., -8.])[:, None, None, None]
  return tf.constant(rng.normal(size=[4, 3]), tf.float32), tf.constant(z, tf.float32)


def dense(batch_norm):
  keras.utils.set_random_seed(0)
  return Modality("m", (3,), keras.layers.Dense(4), CountingDense(3, batch_norm),
                  distributions.normal_likelihood)


def test_batch_statistics_are_of_one_stratum():
  x, z = strata()
  modality, reference = dense(True), dense(True)
  nats = modality.log_likelihood(x, z, training=True)
  norm = reference.decoder.body.layers[1]
  mean, variance = np.zeros(4), np.ones(4)
  for s in range(3):
    hidden = reference.decoder.body.layers[0](tf.reshape(z[s], [-1, 2])).numpy()
    mean, variance = (0.9 * mean + 0.1 * hidden.mean(0), 0.9 * variance + 0.1 * hidden.var(0))
    means = reference.decoder.body.layers[2](
        (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + norm.epsilon)).numpy()
    expected = oracle.log_prob("normal", x.numpy(), means.reshape([5, 4, 3]), np.ones(3))
    np.testing.assert_allclose(nats[s], expected, rtol=1e-4)
  assert modality.decoder.num_calls == 3
  moved = modality.decoder.body.layers[1]
  np.testing.assert_allclose(moved.moving_mean, mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(moved.moving_variance, variance, rtol=1e-4)
  masked = dense(True).log_likelihood(x, z, training=True, mask=PRESENT)
  np.testing.assert_array_equal(masked, np.where(PRESENT, nats, 0.))


@pytest.mark.parametrize("batch_norm, training, num_calls", [
    (False, True, 1), (False, False, 1), (True, False, 1), (True, True, 3)])
def test_strata_are_decoded_at_once_where_statistics_are_not_theirs(
    batch_norm, training, num_calls):
  modality, (x, z) = dense(batch_norm), strata()
  nats = modality.log_likelihood(x, z, training)
  assert modality.decoder.num_calls == num_calls
  at_once = dense(batch_norm).likelihood(z, training).log_prob(x)
  assert np.allclose(nats, at_once, rtol=1e-5) == (num_calls == 1)


def test_strata_are_separate_in_a_graph_and_for_gradients():
  modality, reference, (x, z) = dense(True), dense(True), strata()

  @tf.function
  def gradients(z):
    with tf.GradientTape() as tape:
      nats = tf.reduce_sum(modality.log_likelihood(x, z, training=True))
    return tape.gradient(nats, [v.value for v in modality.decoder.trainable_variables])

  with tf.GradientTape() as tape:
    nats = sum(tf.reduce_sum(reference.likelihood(z[s], training=True).log_prob(x))
               for s in range(3))
  expected = tape.gradient(nats, [v.value for v in reference.decoder.trainable_variables])
  for found, gradient in zip(gradients(z), expected, strict=True):
    np.testing.assert_allclose(found, gradient, rtol=1e-3, atol=1e-2)
  for v, w in zip(modality.decoder.variables, reference.decoder.variables, strict=True):
    np.testing.assert_allclose(v, w, rtol=1e-5, err_msg=v.name)


def test_a_decoder_that_shares_weights_is_tied():
  encoder = sentence_images.SentenceImageEncoder(2, 7, 32)
  decoder = sentence_images.SentenceImageDecoder(7, 8, 32)
  modality = Modality("sentence", (8,), encoder, decoder, distributions.sentence_likelihood,
                      dtype="int32")
  assert decoder.embedding is encoder.embedding
  words = tf.ones([2, 8], tf.int32)
  modality.log_likelihood(words, modality.posterior(words).mean())
  assert sum("embeddings" in v.name for v in modality.variables) == 1


def test_views_are_alike_but_for_names_and_weights():
  made = views_of(3, lambda name: image(name))
  assert [modality.name for modality in made] == ["view0", "view1", "view2"]
  x = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0])
  locations = [modality.posterior(x).distribution.loc for modality in made]
  assert np.all(np.abs(locations[0] - locations[1]) > 0)
  assert [m.name for m in views_of(2, lambda name: image(name), "side")] == ["side0", "side1"]


@pytest.mark.parametrize("num", [0, -1, 2.5, None])
def test_a_number_of_views_that_makes_no_sense(num):
  with pytest.raises(ValueError, match="the number of views must be a whole number of at least 1"):
    views_of(num, image)


def test_another_dtype_is_refused():
  with pytest.raises(ValueError, match='^train_dtype must be "bfloat16", or None for float32, '):
    small.model(train_dtype=8)


def test_training_in_few_bits():
  """Bodies alone, in training alone; weights, posterior and likelihood stay float32."""
  coarse, fine = (small.model(train_dtype=dtype) for dtype in ("bfloat16", None))
  coarse.set_weights(fine.get_weights())
  x, z = small.values(5), tf.ones([1, 2, 5, small.LATENT_DIM])
  for training in (True, False):
    for name, modality in coarse.modalities.items():
      other = fine.modalities[name]
      pairs = [(m.posterior(x[name], training).distribution.loc,
                m.log_likelihood(x[name], z, training)) for m in (modality, other)]
      for found, expected in zip(*pairs, strict=True):
        assert found.dtype == tf.float32
        assert np.any(found != expected) == training
        np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.05)
  with tf.GradientTape() as tape:
    objective = small.estimator()(coarse, x, tf.fill([2, 3, 5, 2], 0.3), training=True).objective
  gradients = tape.gradient(objective, coarse.trainable_variables)
  assert {g.dtype for g in gradients} == {v.value.dtype for v in coarse.variables} == {tf.float32}
  assert all(np.any(g) and np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("layer", [
    keras.layers.Dense(2), keras.layers.Conv2D(2, 3), keras.layers.Conv2DTranspose(2, 3),
    ThinConv2DTranspose(2)], ids=lambda layer: layer.name)
def test_gradients_of_biases_in_few_bits(layer):
  """A long sum of small terms, which would stop growing at 256 of them."""
  network = keras.Sequential([layer])
  x = tf.random.stateless_normal([8, 24, 24, 1], [0, 0])
  network(x)
  with computing_in("bfloat16", [network]), tf.GradientTape() as tape:
    y = tf.cast(network(x, training=True), tf.float32)
    loss = tf.reduce_sum(y)
  found = tape.gradient(loss, layer.bias.value)
  np.testing.assert_allclose(found, 2 * [np.prod(y.shape[:-1])], rtol=0.01)


@pytest.mark.parametrize("encoder, decoder", [
    (sentences.RecurrentEncoder(4, 9, units=5), sentences.RecurrentDecoder(9, 8, units=5)),
    (sentences.RecurrentEncoder(4, 9, units=5), sentences.PositionwiseDecoder(9, 8, units=5)),
    (sentence_images.SentenceImageEncoder(4, 9, 32, 5 * (4,)),
     sentence_images.SentenceImageDecoder(9, 8, 32, 5 * (4,)))],
    ids=["recurrent", "positionwise", "pictures of sentences"])
def test_sentences_in_few_bits(encoder, decoder):
  fine, coarse = (Modality("sentence", (8,), encoder, decoder, distributions.sentence_likelihood,
                           dtype="int32", train_dtype=dtype) for dtype in (None, "bfloat16"))
  words = tf.constant([[3, 4, 5, 1, 0, 0, 0, 0], [8, 1, 0, 0, 0, 0, 0, 0]])
  z = tf.random.stateless_uniform([1, 2, 2, 4], [0, 1], -1., 1.)
  found, expected = (m.log_likelihood(words, z, training=True) for m in (coarse, fine))
  assert found.dtype == tf.float32 and np.any(found != expected)
  np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.05)
  found, expected = (m.posterior(words, True).distribution.loc for m in (coarse, fine))
  np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("likelihood, got", [
    (distributions.normal_likelihood, r"\(1,\)"), (lambda decoder, z: z, "EagerTensor|Tensor")])
def test_a_likelihood_of_another_shape_is_refused(likelihood, got):
  """It would broadcast, and count one number as all."""
  modality = Modality("a", (4,), keras.layers.Dense(4), keras.layers.Dense(1), likelihood)
  with pytest.raises(ValueError, match=r"^modality 'a': expected a likelihood of observations of "
                     rf"shape \[4\], got ({got}): make its shape and that of the decoder agree"):
    modality.log_likelihood(tf.zeros([2, 4]), tf.zeros([2, 2]))
