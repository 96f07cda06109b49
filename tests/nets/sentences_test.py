import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.nets import sentence_images, sentences

V, L, D = 7, 5, 3
DECODERS = [sentences.RecurrentDecoder, sentences.PositionwiseDecoder]
WORDS = tf.constant([[2, 3, 4, 1, 0], [6, 5, 4, 3, 2]])


def written(decoder, z, words):
  """Logits [N, L, V] by step() for given words."""
  state, word, logits = decoder.start(z), tf.zeros([len(z)], tf.int32), []
  for t in range(L):
    step, state = decoder.step(state, word)
    logits.append(step)
    word = words[:, t]
  return tf.stack(logits, 1)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_encoder_shape(batch_size):
  encoder = sentences.RecurrentEncoder(D, V, 4, 6)
  assert encoder(tf.ones([batch_size, L], tf.int32)).shape == [batch_size, 2 * D]
  assert encoder.embedding.output_dim == 4
  assert encoder.reader.forward_layer.units == 6


def test_encoder_ignores_padding_but_reads_every_word():
  encoder = sentences.RecurrentEncoder(D, V, 4, 6)
  short = encoder(tf.constant([[2, 3, 1]]))
  np.testing.assert_allclose(encoder(tf.constant([[2, 3, 1, 0, 0, 0]])), short, rtol=1e-5)
  for t in range(3):
    changed = np.array([[2, 3, 1]])
    changed[0, t] = 5
    assert np.all(np.abs(encoder(tf.constant(changed)) - short) > 1e-6)
  assert np.all(np.isfinite(encoder(tf.zeros([1, L], tf.int32))))


@pytest.mark.parametrize("network", DECODERS)
@pytest.mark.parametrize("batch", [[], [1], [2, 3]])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_decoder_shape(network, batch, batch_size):
  logits = network(V, L, units=6)(tf.zeros([*batch, batch_size, D]), WORDS[:batch_size])
  assert logits.shape == [*batch, batch_size, L, V]


@pytest.mark.parametrize("network", DECODERS)
def test_steps_equal_teacher_forcing(network):
  decoder = network(V, L, units=6)
  z = tf.random.stateless_normal([2, 3, 2, D], [0, 0])
  forced = decoder(z, WORDS)
  for s, k in np.ndindex(2, 3):
    np.testing.assert_allclose(written(decoder, z[s, k], WORDS), forced[s, k], atol=1e-5)


@pytest.mark.parametrize("network", DECODERS)
def test_every_latent_counts_at_every_word(network):
  decoder = network(V, L, units=6)
  z = tf.random.stateless_normal([4, 2, D], [0, 0])
  logits = np.asarray(decoder(z, WORDS))
  assert np.all(np.abs(logits[1:] - logits[:-1]).max(-1) > 1e-6)


def of_pictures(vocabulary_size, length, units):
  """The decoder of pictures of sentences; `length` is that of its kind."""
  del length, units
  return sentence_images.SentenceImageDecoder(vocabulary_size, 8, 32, (6, 5, 4, 3, 2))


@pytest.mark.parametrize("network", [*DECODERS, of_pictures])
@pytest.mark.parametrize("batch", [[], [2, 3]])
@pytest.mark.parametrize("at", [[0], [3, 4, 8], []])
def test_places_give_the_logits_of_these_alone(network, batch, at):
  decoder = network(V, L, units=6)
  words = tf.random.stateless_uniform([2, decoder.length], [0, 1], 2, V, tf.int32)
  z = tf.random.stateless_normal([*batch, 2, D], [0, 0])
  every = tf.reshape(decoder(z, words), [*batch, 2 * decoder.length, V])
  at = np.array(at, np.int64)
  logits = decoder(z, words, at)
  assert logits.shape == [*batch, len(at), V]
  np.testing.assert_allclose(logits, tf.gather(every, at, axis=-2), rtol=1e-5, atol=1e-5)


def test_recurrent_decoder_remembers_the_first_word():
  decoder = sentences.RecurrentDecoder(V, L, units=6)
  logits = [np.asarray(decoder(tf.ones([1, D]), tf.constant([[word, 3, 4, 5, 6]])))
            for word in [2, 5]]
  changes = np.abs(logits[1] - logits[0]).max(-1)[0]  # [L]
  assert changes[0] == 0
  assert np.all(changes[1:] > 1e-6)


@pytest.mark.parametrize("network, inputs", [
    (sentences.RecurrentEncoder(D, V, 4, 6, name="reader"), [WORDS]),
    (sentences.RecurrentDecoder(V, L, 4, 6, name="writer"), [tf.ones([2, D]), WORDS]),
    (sentences.PositionwiseDecoder(V, L, 6, name="writer"), [tf.ones([2, D]), WORDS])])
def test_config_round_trip(network, inputs):
  network(*inputs)
  copy = type(network).from_config(network.get_config())
  copy(*inputs)
  assert copy.get_config() == network.get_config()
  copy.set_weights(network.get_weights())
  np.testing.assert_array_equal(copy(*inputs), network(*inputs))
