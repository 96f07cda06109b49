"""Fully connected networks, for vectors and small pictures."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mmvae.nets.sizes import check_latent_dim, check_shape


class DenseEncoder(keras.Model):
  """Observations [B, ...] -> raw parameters [B, 2 D] by dense layers and one head.

  With units (400,) it is the MNIST network of Shi et al. (2019). `kernel_initializer` is a name of
  Keras, or a dict of `class_name` and `config`.

  Raises ValueError unless latent_dim is a whole number of at least 1.
  """

  def __init__(self, latent_dim: int, units: Sequence[int] = (400,),
               activation: str | None = "relu", kernel_initializer: str | dict = "glorot_uniform",
               **kwargs: Any):
    super().__init__(**kwargs)
    check_latent_dim("DenseEncoder", latent_dim)
    self._config = {"latent_dim": latent_dim, "units": tuple(units), "activation": activation,
                    "kernel_initializer": kernel_initializer}
    initial = {"kernel_initializer": kernel_initializer}
    self.body = keras.Sequential(
        [keras.layers.Flatten()]
        + [keras.layers.Dense(n, activation, **initial) for n in units])
    self.head = keras.layers.Dense(2 * latent_dim, **initial)

  def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
    return self.head(self.body(x, training=training))

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}


class DenseDecoder(keras.Model):
  """Latents [N, D] -> observations [N, *shape] by dense layers.

  `final_activation` is that of the observation: "sigmoid" for pictures in [0, 1], None for vectors.

  Raises ValueError unless shape is a tuple of whole numbers of at least 1.
  """

  def __init__(self, shape: Sequence[int], units: Sequence[int] = (400,),
               activation: str | None = "relu", final_activation: str | None = None,
               kernel_initializer: str | dict = "glorot_uniform", **kwargs: Any):
    super().__init__(**kwargs)
    check_shape("DenseDecoder", shape, example=(28, 28, 1))
    self._config = {"shape": tuple(shape), "units": tuple(units), "activation": activation,
                    "final_activation": final_activation,
                    "kernel_initializer": kernel_initializer}
    initial = {"kernel_initializer": kernel_initializer}
    self.body = keras.Sequential(
        [keras.layers.Dense(n, activation, **initial) for n in units]
        + [keras.layers.Dense(math.prod(shape), final_activation, **initial),
           keras.layers.Reshape(tuple(shape))])

  def call(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
    return self.body(z, training=training)

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}
