"""Every network: a size that makes no sense is named, and a config makes the network again."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae import nets
from tf_mmvae.nets.transposed import ThinConv2DTranspose

SMALL = {
    nets.DenseEncoder: {"latent_dim": 3, "units": (5, 4), "activation": "elu",
                        "kernel_initializer": "he_normal"},
    nets.DenseDecoder: {"shape": (2, 3), "units": (5,), "activation": "elu",
                        "final_activation": "sigmoid", "kernel_initializer": "he_normal"},
    nets.ConvEncoder: {"latent_dim": 3, "filters": (2, 4), "kernel_size": 3, "hidden_units": 5,
                       "kernel_initializer": "he_normal"},
    nets.ConvDecoder: {"shape": (6, 7, 1), "filters": (4, 2), "kernel_size": 3, "shared_bias": True,
                       "final_activation": None, "kernel_initializer": "he_normal"},
    nets.PatchDecoder: {"shape": (8, 8, 3), "filters": (4, 2), "patch": 2},
    nets.SentenceImageEncoder: {"latent_dim": 3, "vocabulary_size": 9, "embedding_dim": 32,
                                "filters": (2, 3, 4, 5, 6)},
    nets.SentenceImageDecoder: {"vocabulary_size": 9, "length": 8, "embedding_dim": 32,
                                "filters": (6, 5, 4, 3, 2)},
    nets.RecurrentEncoder: {"latent_dim": 3, "vocabulary_size": 9, "embedding_dim": 4, "units": 5},
    nets.RecurrentDecoder: {"vocabulary_size": 9, "length": 8, "embedding_dim": 4, "units": 5},
    nets.PositionwiseDecoder: {"vocabulary_size": 9, "length": 8, "units": 5}}


def test_every_network_is_here():
  assert {getattr(nets, name) for name in nets.__all__} - {nets.Extractor} == set(SMALL)


def inputs(network, settings):
  """What a network takes, for 2 examples."""
  words = tf.constant(np.random.default_rng(0).integers(1, 9, [2, 8]), tf.int32)
  z = tf.random.stateless_normal([2, 3], [0, 0])
  if "latent_dim" not in settings:
    return [z, words] if isinstance(network, nets.RecurrentDecoder) else [z]
  return [words] if "vocabulary_size" in settings else [
      tf.random.stateless_normal([2, 6, 6, 1], [0, 0])]


@pytest.mark.parametrize("kind", SMALL)
def test_a_config_makes_the_network_again(kind):
  """By way of JSON, as Keras keeps it."""
  network = kind(name="small", **SMALL[kind])
  config = network.get_config()
  assert config.items() >= SMALL[kind].items() and config["name"] == "small"
  again = kind.from_config(json.loads(json.dumps(config)))
  assert again.get_config() == config
  given = inputs(network, SMALL[kind])
  network(*given), again(*given)
  again.set_weights(network.get_weights())
  np.testing.assert_array_equal(network(*given), again(*given))


def test_a_config_makes_the_thin_layer_again():
  layer = ThinConv2DTranspose(2, activation="relu", kernel_initializer="he_normal")
  again = keras.layers.deserialize(
      json.loads(json.dumps(keras.layers.serialize(layer))),
      custom_objects={"ThinConv2DTranspose": ThinConv2DTranspose})
  x = tf.random.stateless_normal([1, 3, 3, 4], [0, 0])
  layer(x), again(x)
  again.set_weights(layer.get_weights())
  np.testing.assert_array_equal(layer(x, training=True), again(x, training=True))
  assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("latent_dim", [0, -1, 2.0, "3", None, True, (3,)])
@pytest.mark.parametrize("kind", [kind for kind in SMALL if "latent_dim" in SMALL[kind]])
def test_latent_dims_that_make_no_sense(kind, latent_dim):
  said = f"{kind.__name__}: latent_dim must be a whole number of at least 1, got {latent_dim!r}"
  with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
    kind(**{**SMALL[kind], "latent_dim": latent_dim})


@pytest.mark.parametrize("shape", [12, "ab", (), (0, 8, 3), (8, -8, 3), (8.0, 8, 3), (8, True, 3),
                                   (None, 8, 3), None])
@pytest.mark.parametrize("kind", [kind for kind in SMALL if "shape" in SMALL[kind]])
def test_shapes_that_make_no_sense(kind, shape):
  said = f"^{kind.__name__}: shape must be a tuple of whole numbers of at least 1, such as "
  with pytest.raises(ValueError, match=f"{said}.*, got {re.escape(repr(shape))}$"):
    kind(**{**SMALL[kind], "shape": shape})


@pytest.mark.parametrize("kind", [nets.ConvDecoder, nets.PatchDecoder])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8, 3)])
def test_pictures_have_three_sides(kind, shape):
  with pytest.raises(ValueError, match=r"such as \(64, 64, 3\), got "):
    kind(**{**SMALL[kind], "shape": shape})
