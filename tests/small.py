"""A model of dense nets and data of a few numbers, which train in a second."""

import keras
import numpy as np
import tensorflow as tf

from tf_mmvae import distributions, estimators, objectives
from tf_mmvae.data.examples import Examples
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

SIZES = {"image": 3, "sentence": 2}  # of an observation
LATENT_DIM = 2
NUM_EXAMPLES = 10


def model(batch_norm=False, synchronized=False, train_dtype=None):
  """A `MultimodalVAE` of two modalities."""
  parts = []
  for name, size in SIZES.items():
    norm = [keras.layers.BatchNormalization(synchronized=synchronized)] if batch_norm else []
    encoder = keras.Sequential(
        [keras.layers.Dense(4, "tanh"), *norm, keras.layers.Dense(2 * LATENT_DIM)])
    decoder = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(size)])
    parts.append(Modality(name, (size,), encoder, decoder, distributions.laplace_likelihood,
                          train_dtype=train_dtype))
  return MultimodalVAE(parts, Prior(LATENT_DIM))


def estimator(screening=None):
  """The loose bound with a likelihood weight, so that the objective is not the bound."""
  return estimators.Estimator(objectives.iwae, likelihood_weights={"sentence": 3.},
                              screening=screening)


def values(batch_size=NUM_EXAMPLES, seed=0):
  """x {name: float32 [B, size]}."""
  rng = np.random.default_rng(seed)
  return {name: rng.normal(size=[batch_size, size]).astype(np.float32)
          for name, size in SIZES.items()}


def examples(x=None, augment=None):
  """`Examples` of x."""
  x = values() if x is None else x
  x = {name: tf.constant(value) for name, value in x.items()}
  num = len(next(iter(x.values())))
  return Examples(
      "small", num, lambda i: ({name: tf.gather(v, i) for name, v in x.items()}, {"index": i}),
      augment)


class Copy(keras.layers.Layer):
  """x [B, D] -> raw parameters of an expert at x of almost no width."""

  def call(self, x, training=False):
    x = tf.cast(x, tf.float32)
    return tf.concat([x, tf.fill(tf.shape(x), -15.)], -1)


class Say(keras.layers.Layer):
  """z [N, D] -> itself, or always zeros."""

  def __init__(self, useless=False):
    super().__init__()
    self._useless = useless

  def call(self, z, training=False):
    return tf.zeros_like(z) if self._useless else z
