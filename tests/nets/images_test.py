import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.nets import images


def test_every_network_is_tested():
  networks = {c for c in vars(images).values()
              if isinstance(c, type) and issubclass(c, keras.Model)}
  assert networks == {images.ConvEncoder, images.ConvDecoder, images.PatchDecoder}


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("shape, filters", [
    ((64, 64, 3), [2, 3, 4, 5]), ((32, 16, 1), [2, 3]), ((8, 8, 3), [4])])
def test_shapes(batch_size, shape, filters):
  raw = images.ConvEncoder(5, filters)(tf.zeros([batch_size, *shape]))
  assert raw.shape == [batch_size, 10]
  pictures = images.ConvDecoder(shape, filters[::-1])(tf.zeros([batch_size, 5]))
  assert pictures.shape == [batch_size, *shape]
  pictures = images.PatchDecoder(shape, filters[-1:], 2)(tf.zeros([batch_size, 5]))
  assert pictures.shape == [batch_size, *shape]


@pytest.mark.parametrize("network", [images.ConvDecoder, images.PatchDecoder])
def test_pictures_are_in_the_unit_interval(network):
  z = 100 * tf.random.stateless_normal([20, 2], [0, 0])
  pictures = np.asarray(network((8, 8, 3), [4])(z))
  assert 0 <= pictures.min() < pictures.max() <= 1


@pytest.mark.parametrize("shape, sides", [
    ((28, 28, 3), [(4, 4), (7, 7), (14, 14), (28, 28)]),
    ((31, 18, 1), [(4, 3), (8, 5), (16, 9), (31, 18)])])
def test_odd_kernels_make_sides_that_do_not_halve(shape, sides):
  """The same sides on the way up as on the way down."""
  encoder = images.ConvEncoder(2, [2, 3, 4], kernel_size=3)
  encoder(tf.zeros([1, *shape]))
  decoder = images.ConvDecoder(shape, [4, 3, 2], kernel_size=3)
  assert decoder(tf.zeros([5, 2])).shape == [5, *shape]
  down = [layer.output.shape[1:3] for layer in encoder.body.layers[:3]]
  up = [layer.output.shape[1:3] for layer in decoder.body.layers if len(layer.output.shape) == 4]
  assert (down, up) == (sides[2::-1], sides)
  with pytest.raises(ValueError, match=f"got {shape[0]}x{shape[1]}: give other"):
    images.ConvDecoder(shape, [4, 3, 2])


def test_a_decoder_may_make_any_numbers():
  decoder = images.ConvDecoder((8, 8, 3), [4], final_activation=None)
  values = np.asarray(decoder(100 * tf.random.stateless_normal([20, 2], [0, 0])))
  assert values.min() < 0 and values.max() > 1


def test_hidden_units_are_a_layer_before_the_head():
  encoder = images.ConvEncoder(2, [3], hidden_units=5)
  encoder(tf.zeros([1, 8, 8, 3]))
  kernels = [tuple(v.shape) for v in encoder.variables if v.name == "kernel"]
  assert kernels == [(4, 4, 3, 3), (4 * 4 * 3, 5), (5, 4)]


def test_layers_are_as_many_as_the_filters():
  encoder, decoder = images.ConvEncoder(2, [2, 3]), images.ConvDecoder((8, 8, 3), [3, 2])
  encoder(tf.zeros([1, 8, 8, 3]))
  decoder(tf.zeros([1, 2]))
  kernels = [tuple(v.shape) for v in encoder.variables if v.name == "kernel"]
  assert kernels == [(4, 4, 3, 2), (4, 4, 2, 3), (2 * 2 * 3, 4)]
  kernels = [tuple(v.shape) for v in decoder.variables if v.name == "kernel"]
  assert kernels == [(2, 2 * 2 * 3), (4, 4, 2, 3), (4, 4, 3, 2)]


def test_a_shared_bias_is_one_a_filter():
  plain = images.ConvDecoder((16, 8, 3), [3, 2])
  shared = images.ConvDecoder((16, 8, 3), [3, 2], shared_bias=True)
  z = tf.random.stateless_normal([5, 2], [0, 0])
  plain(z)
  assert shared(z).shape == [5, 16, 8, 3]
  kernel, bias, *others = shared.get_weights()
  assert (kernel.shape, bias.shape) == ((4, 2, 3, 2), (3,))
  bias = np.array([1., -1., 2.])
  shared.set_weights([kernel, bias, *others])
  plain.set_weights([np.transpose(kernel, [3, 0, 1, 2]).reshape([2, -1]), np.tile(bias, 8),
                     *others])
  np.testing.assert_allclose(shared(z), plain(z), rtol=1e-5)


def test_initial_kernels_may_be_those_of_pytorch():
  """Uniform in +-1 / sqrt(fan in), and no two layers begin with the same."""
  initial = {"class_name": "VarianceScaling",
             "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}}
  encoder = images.ConvEncoder(64, [16, 16, 16], kernel_initializer=initial)
  decoder = images.ConvDecoder(
      (32, 32, 1), [16, 16, 16], shared_bias=True, kernel_initializer=initial)
  encoder(tf.zeros([1, 32, 32, 3]))
  decoder(tf.zeros([1, 64]))
  for network in (encoder, decoder):
    kernels = [np.asarray(v) for v in network.variables if v.name == "kernel"]
    assert len(kernels) == 4
    for kernel in kernels:
      largest = np.prod(kernel.shape[:-1]) ** -0.5  # a transposed kernel ends in (out, in)
      assert 0.95 * largest < np.abs(kernel).max() <= largest
    assert np.abs(kernels[1] - kernels[2]).max() > 0.01


def test_each_cell_paints_its_patch():
  decoder = images.PatchDecoder((4, 6, 3), [5], patch=2)
  decoder(tf.zeros([1, 2]))
  kernel = np.random.default_rng(0).normal(size=[5, 2 * 2 * 3])
  for row, column in np.ndindex(2, 3):
    cells = np.zeros([2, 3, 5])
    cells[row, column, 1] = 1.
    decoder.set_weights([np.zeros([2, cells.size]), cells.ravel(), kernel, np.zeros(12)])
    expected = np.full([4, 6, 3], 0.5)
    patch = 1 / (1 + np.exp(-kernel[1].reshape([2, 2, 3])))
    expected[2 * row:2 * row + 2, 2 * column:2 * column + 2] = patch
    np.testing.assert_allclose(decoder(tf.zeros([1, 2]))[0], expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(30, 32, 3), (32, 30, 3)])
def test_decoder_refuses_sides_that_do_not_fit(shape):
  with pytest.raises(ValueError) as error:
    images.ConvDecoder(shape, [2, 2, 2])
  assert str(error.value) == ("ConvDecoder: 3 layers of stride 2 need sides that are multiples of "
                              f"8, got {shape[0]}x{shape[1]}: give other sides, or an odd "
                              "kernel_size")
  with pytest.raises(ValueError, match=f"multiples of 8, got {shape[0]}x{shape[1]}"):
    images.PatchDecoder(shape, [2, 2], 4)


@pytest.mark.parametrize("network, z_or_x", [
    (images.ConvEncoder(2, [2, 3], name="reader"), tf.zeros([1, 8, 8, 3])),
    (images.ConvDecoder((8, 8, 3), [3, 2], name="painter"), tf.zeros([1, 2])),
    (images.ConvEncoder(2, [2, 3], 3, 4, "he_normal"), tf.zeros([1, 8, 8, 3])),
    (images.ConvDecoder((7, 8, 3), [3, 2], 3, True, None, "he_normal"), tf.zeros([1, 2])),
    (images.PatchDecoder((8, 8, 3), [3, 2], 2, name="painter"), tf.zeros([1, 2]))])
def test_config_round_trip(network, z_or_x):
  network(z_or_x)
  copy = type(network).from_config(network.get_config())
  copy(z_or_x)
  assert copy.get_config() == network.get_config()
  copy.set_weights(network.get_weights())
  np.testing.assert_array_equal(copy(z_or_x + 1), network(z_or_x + 1))
