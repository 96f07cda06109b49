import inspect
import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracle
from tf_mmvae import distributions, joint_posteriors
from tf_mmvae.nets import sentences

FAMILIES = [distributions.laplace, distributions.normal]
SCALES = [distributions.softplus_scale, distributions.softmax_scale]
LIKELIHOODS = [distributions.laplace_likelihood, distributions.normal_likelihood,
               distributions.sentence_likelihood]
DECODERS = [sentences.RecurrentDecoder, sentences.PositionwiseDecoder]
WORDS, LENGTH = 4, 3  # padding, end and two words
PAD, END = distributions.SentenceDistribution.PAD, distributions.SentenceDistribution.END


def test_every_family_scale_and_likelihood_is_tested():
  others = {"stop_gradient", "fold", "sample_categorical"}
  functions = {name for name, f in vars(distributions).items()
               if inspect.isfunction(f) and not name.startswith("_")}
  assert functions - others == {f.__name__ for f in FAMILIES + SCALES + LIKELIHOODS}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [1, 5])
def test_scales_are_positive_and_finite(scale, size):
  raw = tf.constant([-1e3, -50., 0., 50., 1e3])[:, tf.newaxis] * tf.linspace(0.5, 1., size)
  assert np.all(scale(raw) > 0)
  assert np.all(np.isfinite(scale(raw)))


def test_softplus_scale_is_free_and_softmax_scales_sum_to_their_number():
  raw = tf.random.stateless_normal([7, 3], [0, 1])
  np.testing.assert_allclose(
      distributions.softplus_scale(raw), np.log1p(np.exp(raw)) + 1e-6, rtol=1e-5)
  np.testing.assert_allclose(
      tf.reduce_sum(distributions.softmax_scale(raw), -1), 3 + 3e-6, rtol=1e-6)
  np.testing.assert_allclose(
      distributions.softmax_scale(tf.constant([0., np.log(3.)])), [0.5, 1.5], rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [[1], [4], [2, 3]])
def test_family_log_prob(family, shape):
  raw, z = (tf.random.stateless_normal(shape + [d], [0, d]) for d in [6, 3])
  q = family(raw)
  assert (q.batch_shape, q.event_shape) == (shape, [3])
  loc, scale = oracle.split_raw(raw)
  np.testing.assert_allclose(
      q.log_prob(z), oracle.log_prob(family.__name__, np.asarray(z), loc, scale), rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_stop_gradient_freezes_parameters_alone(family):
  raws = [tf.random.stateless_normal([4, 6], [0, i]) for i in range(2)]
  z = tf.ones([4, 3])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch([raws, z])
    q = joint_posteriors.MixtureOfExperts()([family(raw) for raw in raws], family(raws[0][0]))
    frozen = distributions.stop_gradient(q)
    free_nats, frozen_nats = q.log_prob(z), frozen.log_prob(z)
  np.testing.assert_array_equal(free_nats, frozen_nats)
  assert tape.gradient(frozen_nats, raws) == [None, None]
  assert None not in tape.gradient(free_nats, raws)
  np.testing.assert_array_equal(tape.gradient(frozen_nats, z), tape.gradient(free_nats, z))


@pytest.mark.parametrize("batch", [[1], [4], [2, 3, 4]])
def test_fold(batch):
  z = tf.random.stateless_normal(batch + [3], [0, 0])
  kernel = tf.random.stateless_normal([3, 10], [0, 1])
  outputs = distributions.fold(lambda z: tf.reshape(z @ kernel, [-1, 2, 5]), z)
  np.testing.assert_allclose(
      outputs, tf.reshape(tf.tensordot(z, kernel, 1), batch + [2, 5]), rtol=1e-5)


@pytest.mark.parametrize("likelihood, family, default", [
    (distributions.laplace_likelihood, "laplace", 0.75),
    (distributions.normal_likelihood, "normal", 1.)])
@pytest.mark.parametrize("options", [{}, {"scale": 0.1}])
def test_location_likelihood(likelihood, family, default, options):
  z, x = tf.random.stateless_normal([2, 3, 4, 5], [0, 0]), tf.ones([4, 2, 3])
  decoder = keras.Sequential([keras.layers.Dense(6), keras.layers.Reshape([2, 3])])
  p = likelihood(decoder, z, **options)
  assert (p.batch_shape, p.event_shape) == ([2, 3, 4], [2, 3])
  mean = tf.reshape(decoder.layers[0](z), [2, 3, 4, 6])
  np.testing.assert_allclose(p.mean(), tf.reshape(mean, [2, 3, 4, 2, 3]), rtol=1e-5)
  expected = oracle.log_prob(family, 1., np.asarray(mean), options.get("scale", default))
  np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-4)


# Sentences.


def every_sentence(length=LENGTH):
  """All sentences of WORDS ids, padded after their end; [N, L]."""
  sentences = []
  for ids in itertools.product(range(1, WORDS), repeat=length):
    end = ids.index(END) if END in ids else length
    sentences.append(ids[:end + 1] + (PAD,) * (length - end - 1))
  return np.unique(np.array(sentences, np.int32), axis=0)


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request):
  """A tiny decoder with weights large enough for words to matter."""
  decoder = request.param(WORDS, length=LENGTH, units=4)
  decoder(tf.zeros([1, 2]), tf.zeros([1, LENGTH], tf.int32))
  rng = np.random.default_rng(0)
  decoder.set_weights([rng.normal(size=w.shape) for w in decoder.get_weights()])
  return decoder


def latents(*batch):
  return tf.random.stateless_normal([*batch, 2], [0, 3])


def sentence_log_prob(decoder, z, words):
  """log p(words | z) for one z [D] and one sentence [L], by a loop over step()."""
  state, word, nats = decoder.start(z[tf.newaxis]), tf.zeros([1], tf.int32), 0.
  for target in words:
    logits, state = decoder.step(state, word)
    weights = np.exp(np.asarray(logits[0], float))
    weights[PAD] = 0.
    nats += np.log(weights[target] / weights.sum())
    if target == END:
      return nats
    word = tf.constant([target])
  return nats


def test_sentence_log_prob_by_a_loop(decoder):
  words = every_sentence()
  z = latents(2, 3, len(words))
  nats = distributions.sentence_likelihood(decoder, z).log_prob(words)
  assert nats.shape == [2, 3, len(words)]
  for s, k, b in [(0, 0, 0), (1, 2, 3), (0, 2, 7), (1, 0, 14), (1, 1, 10)]:
    expected = sentence_log_prob(decoder, z[s, k, b], words[b])
    np.testing.assert_allclose(nats[s, k, b], expected, rtol=1e-4, atol=1e-5)


class _AsksFor:
  """A decoder that keeps the places of words that it was asked for."""

  def __init__(self, decoder):
    self._decoder, self.length, self.at = decoder, decoder.length, None

  def __call__(self, z, words, at):
    self.at = at
    return self._decoder(z, words, at)


def test_padding_is_not_projected_to_the_vocabulary(decoder):
  asks = _AsksFor(decoder)
  words = tf.constant([[2, END, PAD], [PAD] * LENGTH, [3, 2, 3]])
  distributions.sentence_likelihood(asks, latents(2, 3)).log_prob(words)
  np.testing.assert_array_equal(asks.at, [0, 1, 6, 7, 8])


def test_compiled_sentences_differ_by_rounding_alone(decoder):
  @tf.function
  def run(z, words):
    with tf.GradientTape() as tape:
      tape.watch(z)
      nats = distributions.sentence_likelihood(decoder, z).log_prob(words)
    return nats, tape.gradient(nats, z)

  z, words = latents(2, 3, 4), tf.constant(every_sentence()[:4])
  assert np.any(words == PAD)
  for found, expected in zip(tf.function(run, jit_compile=True)(z, words), run(z, words),
                             strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_probabilities_of_all_sentences_sum_to_one(decoder):
  words = every_sentence()
  assert len(words) == 15
  z = tf.repeat(latents(5, 1), len(words), axis=1)
  nats = distributions.sentence_likelihood(decoder, z).log_prob(words)
  np.testing.assert_allclose(tf.reduce_sum(tf.exp(nats), -1), np.ones(5), rtol=1e-5)


def test_logits_of_a_word_do_not_see_it_or_what_follows(decoder):
  words = tf.constant([[2, 3, 2]])
  logits = decoder(latents(1), words)
  for t in range(LENGTH):
    changed = np.array(words)
    changed[:, t:] = 5 - changed[:, t:]
    np.testing.assert_allclose(
        decoder(latents(1), changed)[:, :t + 1], logits[:, :t + 1], rtol=1e-6)


def test_recurrent_decoder_sees_the_words_before_and_positionwise_does_not():
  first, second = tf.constant([[2, 2, 2]]), tf.constant([[3, 2, 2]])
  for network, sees in zip(DECODERS, [True, False], strict=True):
    decoder = network(WORDS, length=LENGTH, units=4)
    logits = [np.asarray(decoder(latents(1), words))[:, 1:] for words in [first, second]]
    assert np.allclose(*logits) != sees


def test_samples_follow_log_prob(decoder):
  words, z = every_sentence(), latents(1)
  num_samples = 4000
  p = distributions.sentence_likelihood(decoder, z)
  drawn = tf.function(lambda: p.sample(num_samples, seed=[0, 1]))()
  assert drawn.shape == [num_samples, 1, LENGTH]
  found, counts = np.unique(np.asarray(drawn[:, 0]), axis=0, return_counts=True)
  counts_of = {tuple(ids): count for ids, count in zip(found, counts, strict=True)}
  assert set(counts_of) <= {tuple(ids) for ids in words}
  observed = np.array([counts_of.get(tuple(ids), 0) for ids in words])
  expected = num_samples * np.exp(
      distributions.sentence_likelihood(decoder, tf.repeat(z, len(words), 0)).log_prob(words))
  often = expected > 5
  observed = np.append(observed[often], observed[~often].sum())
  expected = np.append(expected[often], expected[~often].sum())
  chi_square, freedom = np.sum((observed - expected)**2 / expected), len(expected) - 1
  assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_each_latent_writes_its_own_sentences(decoder):
  z = latents(2, 3)
  p = distributions.sentence_likelihood(decoder, z)
  drawn = p.sample(2000, seed=[0, 2])  # [2000, 2, 3, L]
  observed = tf.reduce_mean(tf.one_hot(drawn[..., 0], WORDS), 0)[..., 1:]
  logits = decoder(tf.reshape(z, [6, 2]), tf.zeros([6, LENGTH], tf.int32))[:, 0, 1:]
  expected = np.reshape(tf.nn.softmax(logits), [2, 3, WORDS - 1])
  errors = np.sqrt(expected * (1 - expected) / 2000)
  assert np.all(np.abs(observed - expected) < 4 * errors)


def test_samples_are_scored_like_their_parts(decoder):
  p = distributions.sentence_likelihood(decoder, latents(2, 3))
  drawn = p.sample(4, seed=[0, 3])  # [4, 2, 3, L]
  nats = p.log_prob(drawn)
  assert nats.shape == [4, 2, 3]
  for n, s in np.ndindex(4, 2):
    part = distributions.sentence_likelihood(decoder, latents(2, 3)[s]).log_prob(drawn[n, s])
    np.testing.assert_allclose(nats[n, s], part, rtol=1e-5)


def test_same_seed_same_sentences_in_eager_and_graph_mode(decoder):
  p = distributions.sentence_likelihood(decoder, latents(5))
  eager, again, other = (p.sample(100, seed=[0, seed]) for seed in [1, 1, 2])
  np.testing.assert_array_equal(eager, again)
  np.testing.assert_array_equal(eager, tf.function(lambda: p.sample(100, seed=[0, 1]))())
  assert np.any(eager != other)


def test_mode_is_greedy(decoder):
  z = latents(20)
  mode = np.asarray(distributions.sentence_likelihood(decoder, z).mode())
  for b in range(20):
    state, word = decoder.start(z[b:b + 1]), tf.zeros([1], tf.int32)
    for t in range(LENGTH):
      logits, state = decoder.step(state, word)
      word = 1 + tf.argmax(logits[:, 1:], -1, output_type=tf.int32)
      assert mode[b, t] == word[0]
      if word[0] == END:
        assert np.all(mode[b, t + 1:] == PAD)
        break


def test_a_beam_of_one_is_greedy(decoder):
  p = distributions.sentence_likelihood(decoder, latents(2, 10))
  words, nats = p.beam(1)
  np.testing.assert_array_equal(words[..., 0, :], p.mode())
  np.testing.assert_allclose(nats[..., 0], p.log_prob(p.mode()), rtol=1e-5)


def test_a_beam_that_holds_every_sentence_is_an_exhaustive_search(decoder):
  words = every_sentence()
  for z in latents(20):
    p = distributions.sentence_likelihood(decoder, tf.repeat(z[tf.newaxis], len(words), 0))
    expected = np.asarray(p.log_prob(words))
    found, nats = distributions.sentence_likelihood(decoder, z).beam(len(words) + 3)
    order = np.argsort(-expected)
    np.testing.assert_array_equal(found[:len(words)], words[order])
    np.testing.assert_allclose(nats[:len(words)], expected[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(nats[len(words):], [-np.inf] * 3)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_beams_are_scored_as_log_prob_scores_them(decoder, size):
  """And stand in order, each once, in a graph of unknown batch."""
  z = latents(2, 3, 5)

  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2])])
  def run(z):
    return distributions.sentence_likelihood(decoder, z).beam(size)

  words, nats = run(z)
  assert (words.shape, nats.shape) == ([2, 3, 5, size, LENGTH], [2, 3, 5, size])
  expected = distributions.sentence_likelihood(
      decoder, tf.repeat(z[..., tf.newaxis, :], size, -2)).log_prob(words)
  np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-5)
  assert np.all(np.diff(nats) <= 0)
  allowed = {tuple(ids) for ids in every_sentence()}
  for beams in np.reshape(words, [-1, size, LENGTH]):
    found = {tuple(ids) for ids in beams}
    assert len(found) == size and found <= allowed


@pytest.mark.parametrize("size", [0, -1])
def test_a_beam_of_none_is_refused(decoder, size):
  with pytest.raises(ValueError, match="^the size of a beam must be at least 1, got"):
    distributions.sentence_likelihood(decoder, latents(1)).beam(size)


def test_sentence_distribution_in_a_graph_of_unknown_batch(decoder):
  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2]),
                                tf.TensorSpec([None, LENGTH], tf.int32)])
  def run(z, words):
    p = distributions.sentence_likelihood(decoder, z)
    return p.log_prob(words), p.sample(2, seed=[0, 0]), p.mode()

  for batch in [1, 4]:
    z, words = latents(2, 3, batch), every_sentence()[:batch]
    nats, drawn, mode = run(z, words)
    assert (drawn.shape, mode.shape) == ([2, 2, 3, batch, LENGTH], [2, 3, batch, LENGTH])
    np.testing.assert_allclose(
        nats, distributions.sentence_likelihood(decoder, z).log_prob(words), rtol=1e-5)


def test_sentence_gradients_are_finite_and_padding_adds_none(decoder):
  z = latents(1)
  with tf.GradientTape() as tape:
    tape.watch(z)
    nats = distributions.sentence_likelihood(decoder, z).log_prob(tf.constant([[PAD] * LENGTH]))
  np.testing.assert_array_equal(nats, [0.])
  np.testing.assert_array_equal(tape.gradient(nats, z), np.zeros([1, 2]))
  variables = decoder.trainable_variables
  with tf.GradientTape() as tape:
    nats = distributions.sentence_likelihood(decoder, z).log_prob(tf.constant([[2, END, PAD]]))
  assert all(np.all(np.isfinite(tf.convert_to_tensor(g)))
             for g in tape.gradient(nats, variables) if g is not None)


def test_sentence_distribution_is_a_distribution(decoder):
  p = distributions.sentence_likelihood(decoder, latents(2, 5))
  assert isinstance(p, tfp.distributions.Distribution)
  assert (p.dtype, p.batch_shape, p.event_shape) == (tf.int32, [2, 5], [LENGTH])


def test_sample_categorical_follows_the_logits_and_never_the_impossible():
  num = 20000
  probabilities = np.array([0.1, 0., 0.6, 0.3])
  with np.errstate(divide="ignore"):
    logits = tf.constant(np.tile(np.log(probabilities), [num, 1]), tf.float32)
  drawn = distributions.sample_categorical(logits, [0, 5])
  counts = np.bincount(drawn, minlength=4)
  assert counts[1] == 0
  assert np.all(np.abs(counts - num * probabilities)
                <= 4 * np.sqrt(num * probabilities * (1 - probabilities)))
  np.testing.assert_array_equal(
      drawn, tf.function(distributions.sample_categorical)(logits, tf.constant([0, 5])))
  assert np.any(drawn != distributions.sample_categorical(logits, [0, 6]))


def test_categorical_draws_do_not_depend_on_the_number_of_threads():
  code = """if True:
    import sys
    import numpy as np
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
    from tf_mmvae import distributions
    logits = tf.zeros([5000, 7])
    print(",".join(map(str, np.asarray(distributions.sample_categorical(logits, [1, 2])))))
  """
  drawn = {subprocess.run([sys.executable, "-c", code, threads], check=True, text=True,
                          capture_output=True).stdout.strip() for threads in ("1", "3")}
  assert len(drawn) == 1 and len(drawn.pop().split(",")) == 5000


@pytest.mark.parametrize("scale", [0., -1., float("nan")])
def test_a_scale_that_is_not_positive_is_refused(scale):
  for likelihood in (distributions.laplace_likelihood, distributions.normal_likelihood):
    with pytest.raises(ValueError, match="^the scale of a likelihood must be above 0, got"):
      likelihood(lambda z: z, tf.zeros([1, 2]), scale)
