import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.nets import images


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("shape, filters", [
    ((64, 64, 3), [2, 3, 4, 5]), ((32, 16, 1), [2, 3]), ((8, 8, 3), [4])])
def test_shapes(batch_size, shape, filters):
  raw = images.ConvEncoder(5, filters)(tf.zeros([batch_size, *shape]))
  assert raw.shape == [batch_size, 10]
  pictures = images.ConvDecoder(shape, filters[::-1])(tf.zeros([batch_size, 5]))
  assert pictures.shape == [batch_size, *shape]


def test_pictures_are_in_the_unit_interval():
  z = 100 * tf.random.stateless_normal([20, 2], [0, 0])
  pictures = np.asarray(images.ConvDecoder((8, 8, 3), [4])(z))
  assert 0 <= pictures.min() < pictures.max() <= 1


def test_layers_are_as_many_as_the_filters():
  encoder, decoder = images.ConvEncoder(2, [2, 3]), images.ConvDecoder((8, 8, 3), [3, 2])
  encoder(tf.zeros([1, 8, 8, 3]))
  decoder(tf.zeros([1, 2]))
  kernels = [tuple(v.shape) for v in encoder.variables if v.name == "kernel"]
  assert kernels == [(4, 4, 3, 2), (4, 4, 2, 3), (2 * 2 * 3, 4)]
  kernels = [tuple(v.shape) for v in decoder.variables if v.name == "kernel"]
  assert kernels == [(2, 2 * 2 * 3), (4, 4, 2, 3), (4, 4, 3, 2)]


@pytest.mark.parametrize("shape", [(30, 32, 3), (32, 30, 3)])
def test_decoder_refuses_sides_that_do_not_fit(shape):
  with pytest.raises(ValueError) as error:
    images.ConvDecoder(shape, [2, 2, 2])
  assert str(error.value) == ("ConvDecoder: 3 layers of stride 2 need sides that are multiples of "
                              f"8, got {shape[0]}x{shape[1]}")


@pytest.mark.parametrize("network, z_or_x", [
    (images.ConvEncoder(2, [2, 3], name="reader"), tf.zeros([1, 8, 8, 3])),
    (images.ConvDecoder((8, 8, 3), [3, 2], name="painter"), tf.zeros([1, 2]))])
def test_config_round_trip(network, z_or_x):
  network(z_or_x)
  copy = type(network).from_config(network.get_config())
  copy(z_or_x)
  assert copy.get_config() == network.get_config()
  copy.set_weights(network.get_weights())
  np.testing.assert_array_equal(copy(z_or_x + 1), network(z_or_x + 1))
