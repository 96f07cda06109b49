import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.nets import images, sentence_images, transposed


def outputs_and_gradients(layer, x):
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = layer(x, training=True)
    loss = tf.reduce_sum(y * tf.random.stateless_normal(y.shape, [0, 1]))
  return [y, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])]


@pytest.mark.parametrize("settings", [{}, {"use_bias": False, "activation": "sigmoid"}])
@pytest.mark.parametrize("filters, shape", [(1, [2, 1, 3, 5]), (3, [1, 4, 2, 7])])
def test_it_is_a_transposed_convolution(filters, shape, settings):
  x = tf.random.stateless_normal(shape, [0, 0])
  plain = keras.layers.Conv2DTranspose(filters, 4, 2, "same", **settings)
  thin = transposed.ThinConv2DTranspose(filters, **settings)
  for layer in (plain, thin):
    layer(x)
  rng = np.random.default_rng(0)
  plain.set_weights([rng.normal(size=w.shape) for w in plain.get_weights()])
  thin.set_weights(plain.get_weights())
  found, expected = (outputs_and_gradients(layer, x) for layer in (thin, plain))
  assert len(found) == len(expected) == 3 + settings.get("use_bias", True)
  for of_thin, of_plain in zip(found, expected, strict=True):
    np.testing.assert_allclose(of_thin, of_plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network, thin", [
    (lambda: images.ConvDecoder((8, 8, 3), (4, 2)), True),
    (lambda: images.ConvDecoder((8, 8, 5), (4, 2)), False),
    (lambda: images.ConvDecoder((8, 8, 3), (4, 2), kernel_size=3), False),
    (lambda: sentence_images.SentenceImageDecoder(7, 8, 32, (6, 5, 4, 3, 2)), True)])
def test_decoders_end_with_it_where_they_can(network, thin):
  found = [isinstance(layer, transposed.ThinConv2DTranspose)
           for layer in network()._flatten_layers()]
  assert sum(found) == thin


def test_no_pictures():
  layer = transposed.ThinConv2DTranspose(3)
  layer(tf.zeros([1, 4, 5, 8]))
  run = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec([None, 4, 5, 8])])
  assert run(tf.zeros([0, 4, 5, 8])).shape == (0, 8, 10, 3)
