import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.nets import dense


def test_every_network_is_tested():
  networks = {c for c in vars(dense).values()
              if isinstance(c, type) and issubclass(c, keras.Model)}
  assert networks == {dense.DenseEncoder, dense.DenseDecoder}


@pytest.mark.parametrize("shape", [(7,), (28, 28, 1)])
@pytest.mark.parametrize("units", [(), (3,), (4, 3)])
def test_shapes_and_layers(shape, units):
  size = int(np.prod(shape))
  encoder, decoder = dense.DenseEncoder(5, units), dense.DenseDecoder(shape, units[::-1])
  assert encoder(tf.zeros([2, *shape])).shape == [2, 10]
  assert decoder(tf.zeros([2, 5])).shape == [2, *shape]
  for network, sizes in (encoder, [size, *units, 10]), (decoder, [5, *units[::-1], size]):
    kernels = [tuple(v.shape) for v in network.variables if v.name == "kernel"]
    assert kernels == list(zip(sizes, sizes[1:], strict=False))


def test_against_numpy():
  encoder = dense.DenseEncoder(1, (4,), "elu")
  x = np.random.default_rng(0).normal(size=[3, 2, 2]).astype(np.float32)
  raw = encoder(x)
  first, bias, head, head_bias = encoder.get_weights()
  before = x.reshape([3, 4]) @ first + bias
  hidden = np.where(before > 0, before, np.exp(before) - 1)
  np.testing.assert_allclose(raw, hidden @ head + head_bias, rtol=1e-5)


def test_what_a_decoder_may_say():
  z = 100 * tf.random.stateless_normal([50, 2], [0, 0])
  free = np.asarray(dense.DenseDecoder((6,))(z))
  assert free.min() < 0 and free.max() > 1
  bounded = np.asarray(dense.DenseDecoder((6,), final_activation="sigmoid")(z))
  assert 0 <= bounded.min() < bounded.max() <= 1


@pytest.mark.parametrize("network", [
    dense.DenseEncoder(5, (4, 3), "elu", "he_normal"),
    dense.DenseDecoder((2, 3), (4, 3), "elu", "sigmoid", "he_normal")])
def test_config_rebuilds_the_network(network):
  again = type(network).from_config(network.get_config())
  x = tf.random.stateless_normal([2, 5], [0, 0])
  network(x), again(x)
  again.set_weights(network.get_weights())
  np.testing.assert_array_equal(network(x), again(x))
