import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import distributions_test
from tf_mmvae import distributions, inference
from tf_mmvae.generation import decoding as generation
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior
from tf_mmvae.nets import sentences

WORDS, LENGTH = distributions_test.WORDS, distributions_test.LENGTH
MEAN, SCALE = 0.3, 0.8  # of the expert of every number
SENTENCES = distributions_test.every_sentence()
X = {"number": tf.constant([[2.]])}


@pytest.fixture(scope="module")
def model():
  """A number and a sentence with one latent dimension, so that integrals over z are sums."""
  number = Modality(
      "number", (1,), keras.Sequential([keras.layers.Dense(2)]),
      keras.Sequential([keras.layers.Dense(1)]), distributions.normal_likelihood,
      posterior=distributions.normal)
  sentence = Modality(
      "sentence", (LENGTH,), sentences.RecurrentEncoder(1, WORDS, 2, 3),
      sentences.RecurrentDecoder(WORDS, LENGTH, 2, 3), distributions.sentence_likelihood,
      posterior=distributions.normal, dtype="int32")
  model = MultimodalVAE([number, sentence], Prior(1, distributions.normal))
  raw_scale = np.log(np.expm1(SCALE - distributions.MIN_SCALE))
  number.encoder.set_weights([np.zeros([1, 2]), np.array([MEAN, raw_scale])])
  rng = np.random.default_rng(0)
  weights = [rng.normal(size=w.shape, scale=0.3) for w in sentence.decoder.get_weights()]
  weights[-1] = np.array([0., 0., 0.3, 0.2])  # a word is likelier than the end, but words differ
  sentence.decoder.set_weights(weights)
  return model


def exact(model):
  """log p(words | x) of every sentence under the expert, by a sum over a grid of z."""
  grid = np.linspace(MEAN - 8 * SCALE, MEAN + 8 * SCALE, 801)
  density = np.exp(-0.5 * ((grid - MEAN) / SCALE)**2)
  z = tf.constant(grid[:, np.newaxis, np.newaxis], tf.float32)  # [801, 1, 1]
  log_px = model.modalities["sentence"].likelihood(
      tf.repeat(z, len(SENTENCES), axis=1)).log_prob(SENTENCES)
  return np.log(density / density.sum() @ np.exp(np.asarray(log_px, float)))


def as_rows(words):
  return [tuple(row) for row in np.asarray(words)]


def test_log_predictive_by_a_loop(model):
  modality, z = model.modalities["sentence"], tf.random.stateless_normal([5, 1], [0, 1])
  nats = generation.log_predictive(model, "sentence", SENTENCES, z)
  for words, found in zip(SENTENCES, nats, strict=True):
    of_each = [distributions_test.sentence_log_prob(modality.decoder, one, words) for one in z]
    np.testing.assert_allclose(found, np.log(np.mean(np.exp(of_each))), rtol=1e-4)


def test_log_predictive_of_numbers(model):
  modality, z = model.modalities["number"], tf.random.stateless_normal([5, 1], [0, 1])
  x = tf.constant([[-1.], [0.], [3.]])
  means = np.asarray(modality.decoder(z))[:, 0]
  densities = np.exp(-0.5 * (np.asarray(x) - means)**2) / np.sqrt(2 * np.pi)  # [3, 5]
  np.testing.assert_allclose(
      generation.log_predictive(model, "number", x, z), np.log(densities.mean(1)), rtol=1e-4)


def test_captions_have_their_probability_given_x(model):
  """A beam that holds every sentence: all of them come, as likely as a sum over z says."""
  num = 4000
  words, nats = tf.function(lambda x: generation.captions(
      model, x, "sentence", len(SENTENCES), [0, 1], "beam", len(SENTENCES) + 3, num))(X)
  expected = dict(zip(as_rows(SENTENCES), np.exp(exact(model)), strict=True))
  assert set(as_rows(words)) == set(expected) and len(words) == len(expected)
  assert np.all(np.diff(nats) <= 0)
  found = np.exp(np.asarray(nats, float))
  assert abs(found.sum() - 1) < 1e-4
  of_row = np.array([expected[row] for row in as_rows(words)])
  assert np.std(of_row) > 0.03
  assert np.all(np.abs(found - of_row) < 4 * np.sqrt(of_row * (1 - of_row) / num))


@pytest.mark.parametrize("decoding", generation.DECODINGS)
def test_captions_differ_and_stand_in_order(model, decoding):
  def ask(seed):
    return generation.captions(model, X, "sentence", 3, seed, decoding, 3)

  words, nats = ask([0, 1])
  assert len(set(as_rows(words))) == len(words) == len(nats) and 1 <= len(words) <= 3
  assert set(as_rows(words)) <= set(as_rows(SENTENCES))
  assert np.all(np.diff(nats) <= 0)
  again, nats_again = ask([0, 1])
  np.testing.assert_array_equal(words, again)
  np.testing.assert_array_equal(nats, nats_again)
  assert np.any(nats[0] != ask([0, 2])[1][0])


def test_the_best_captions_come_first(model):
  """Of the same 8 written, 3 are the first of 4, and each has the score that others would have."""
  words, nats = generation.captions(model, X, "sentence", 4, [0, 1], "sampled")
  assert len(words) == 4
  fewer, _ = generation.captions(model, X, "sentence", 3, [0, 1], "sampled")
  np.testing.assert_array_equal(fewer, words[:3])
  of_rank = tf.random.experimental.stateless_fold_in([0, 1], 2)
  z = inference.samples_of_posterior(model, X, 32, of_rank)[:, 0]
  expected = generation.log_predictive(model, "sentence", words, z)
  np.testing.assert_allclose(nats, expected, rtol=1e-5)
  written = generation.translate(model, X, "sentence", 8, [0, 1], decoding="sampled")
  left = set(as_rows(written)) - set(as_rows(words))
  worse = generation.log_predictive(model, "sentence", tf.constant(list(left)), z)
  assert np.all(worse < nats[-1])


def test_decodings(model):
  z = tf.random.stateless_normal([40, 1], [0, 1])
  p = model.modalities["sentence"].likelihood(z)
  greedy, sampled, again, other, beam = (
      generation.decode(model, z, [0, seed], decoding=decoding, beam_size=4)
      for decoding, seed in [("greedy", 1), ("sampled", 1), ("sampled", 1), ("sampled", 2),
                             ("beam", 1)])
  for decoded in (greedy, sampled, beam):
    assert list(decoded) == ["number", "sentence"]
    np.testing.assert_array_equal(decoded["number"], model.modalities["number"].decoder(z))
    assert decoded["sentence"].shape == [40, LENGTH]
  np.testing.assert_array_equal(greedy["sentence"], p.mode())
  np.testing.assert_array_equal(sampled["sentence"], again["sentence"])
  assert np.any(sampled["sentence"] != other["sentence"])
  np.testing.assert_array_equal(beam["sentence"], p.beam(4)[0][:, 0])
  assert np.any(beam["sentence"] != greedy["sentence"])
  assert list(generation.decode(model, z, [0, 1], ["number"])) == ["number"]


def test_translations_come_from_samples_of_the_posterior(model):
  seed = [0, 3]
  numbers = generation.translate(model, X, "number", 3, seed)
  z = inference.samples_of_posterior(model, X, 3, seed)[:, 0]
  np.testing.assert_array_equal(numbers, model.modalities["number"].decoder(z))
  assert len(np.unique(numbers)) == 3
  assert generation.translate(model, X, "sentence", 3, seed, decoding="beam").shape == [3, LENGTH]


def test_a_line_between_means(exact_pair):
  model, x, y = exact_pair
  z = np.asarray(generation.interpolate(model, {"a": x["a"]}, y, 5))
  experts = [m.posterior(y[name]).mean() for name, m in model.modalities.items()]
  start, end = model.modalities["a"].posterior(x["a"]).mean()[0], (experts[0] + experts[1])[0] / 2
  for share, point in zip([0., 0.25, 0.5, 0.75, 1.], z, strict=True):
    np.testing.assert_allclose(point, (1 - share) * start + share * end, rtol=1e-5, atol=1e-6)


@pytest.fixture
def exact_pair(pair):
  return pair.model(), pair.sample(1, seed=0), pair.sample(1, seed=1)


def test_mistakes(model):
  z = tf.zeros([1, 1])
  with pytest.raises(ValueError, match="^expected a decoding of greedy, sampled, beam, got 'best'"):
    generation.decode(model, z, [0, 1], decoding="best")
  with pytest.raises(ValueError, match="^expected a decoding of greedy, sampled, beam, got 'best'"):
    generation.captions(model, X, "sentence", 1, [0, 1], "best")
  with pytest.raises(ValueError, match="^the size of a beam must be at least 1, got 0"):
    generation.captions(model, X, "sentence", 1, [0, 1], "beam", 0)
  with pytest.raises(ValueError, match="^a line has at least its 2 ends, got 1 points"):
    generation.interpolate(model, X, X, 1)
