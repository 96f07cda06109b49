"""Convolutional networks for pictures."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mmvae.nets.sizes import check_latent_dim, check_shape
from tf_mmvae.nets.transposed import MOST_FILTERS, ThinConv2DTranspose


class ConvEncoder(keras.Model):
  """Pictures [B, H, W, C] -> raw parameters [B, 2 D] by convolutions of stride 2 and one head.

  With filters (64, 128, 256, 512) these are the picture networks of Shi et al. (2019) for CUB, with
  (32, 64, 128) those for SVHN. `hidden_units` is the width of a dense layer before the head, or
  None. `kernel_initializer` is a name of Keras, or a dict of `class_name` and `config`.

  Raises ValueError unless latent_dim is a whole number of at least 1.
  """

  def __init__(self, latent_dim: int, filters: Sequence[int], kernel_size: int = 4,
               hidden_units: int | None = None, kernel_initializer: str | dict = "glorot_uniform",
               **kwargs: Any):
    super().__init__(**kwargs)
    check_latent_dim("ConvEncoder", latent_dim)
    self._config = {"latent_dim": latent_dim, "filters": tuple(filters),
                    "kernel_size": kernel_size, "hidden_units": hidden_units,
                    "kernel_initializer": kernel_initializer}
    kinds = {"activation": "relu", "kernel_initializer": kernel_initializer}
    self.body = keras.Sequential(
        [keras.layers.Conv2D(n, kernel_size, 2, "same", **kinds) for n in filters]
        + [keras.layers.Flatten()]
        + [keras.layers.Dense(n, **kinds) for n in [hidden_units] if n])
    self.head = keras.layers.Dense(2 * latent_dim, kernel_initializer=kernel_initializer)

  def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
    return self.head(self.body(x, training=training))

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}


class ConvDecoder(keras.Model):
  """Latents [N, D] -> pictures [N, *shape] by transposed convolutions of stride 2.

  `filters` run from the smallest picture to the largest; one more layer makes the picture itself.
  A side is half the next one's, rounded up; an odd one needs an odd `kernel_size`.
  The first layer has a bias for each number that it makes or, with `shared_bias`, one a filter, as
  Shi et al. (2019) have it. `final_activation` "sigmoid" keeps pictures in [0, 1], None lets them
  be any numbers. `kernel_initializer` as in `ConvEncoder`.

  Raises ValueError unless shape is a tuple of whole numbers of at least 1, or
  where an even kernel_size does not lead to its sides.
  """

  def __init__(self, shape: Sequence[int], filters: Sequence[int], kernel_size: int = 4,
               shared_bias: bool = False, final_activation: str | None = "sigmoid",
               kernel_initializer: str | dict = "glorot_uniform", **kwargs: Any):
    super().__init__(**kwargs)
    check_shape("ConvDecoder", shape, example=(64, 64, 3), rank=3)
    self._config = {"shape": tuple(shape), "filters": tuple(filters), "kernel_size": kernel_size,
                    "shared_bias": shared_bias, "final_activation": final_activation,
                    "kernel_initializer": kernel_initializer}
    *sides, channels = shape
    step = 2 ** len(filters)
    if kernel_size % 2 == 0 and any(side % step for side in sides):
      raise ValueError(f"ConvDecoder: {len(filters)} layers of stride 2 need sides that are "
                       f"multiples of {step}, got {sides[0]}x{sides[1]}: give other sides, or an "
                       "odd kernel_size")
    sizes = [[-(-side // 2**n) for side in sides] for n in range(len(filters), -1, -1)]
    first = (*sizes[0], filters[0])
    kinds = {"activation": "relu", "kernel_initializer": kernel_initializer}
    transposed = keras.layers.Conv2DTranspose
    if shared_bias:
      start = [keras.layers.Reshape((1, 1, -1)), transposed(first[2], first[:2], **kinds)]
    else:
      start = [keras.layers.Dense(first[0] * first[1] * first[2], **kinds),
               keras.layers.Reshape(first)]
    layers = [transposed(n, kernel_size, 2, "same", self._padding(size), **kinds)
              for n, size in zip([*filters[1:], channels], sizes[1:], strict=True)]
    if kernel_size == 4 and channels <= MOST_FILTERS:
      layers[-1] = ThinConv2DTranspose(channels, **kinds)
    layers[-1].activation = keras.activations.get(final_activation)
    self.body = keras.Sequential(start + layers)

  def _padding(self, size):
    """What makes an odd kernel end at these sides and not one pixel before."""
    return None if self._config["kernel_size"] % 2 == 0 else [1 - side % 2 for side in size]

  def call(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
    return self.body(z, training=training)

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}


class PatchDecoder(keras.Model):
  """Latents [N, D] -> pictures [N, *shape] in [0, 1]; the last layer paints a patch for each cell.

  Like `ConvDecoder`, but the widest layer stops at pictures `patch` times smaller than the result,
  which costs less; the borders of the patches can be seen.

  Raises ValueError unless shape is a tuple of whole numbers of at least 1, or
  where the layers do not lead to its sides.
  """

  def __init__(self, shape: Sequence[int], filters: Sequence[int], patch: int = 4, **kwargs: Any):
    super().__init__(**kwargs)
    check_shape("PatchDecoder", shape, example=(64, 64, 3), rank=3)
    self._config = {"shape": tuple(shape), "filters": tuple(filters), "patch": patch}
    height, width, channels = shape
    step = patch * 2 ** (len(filters) - 1)
    if height % step or width % step:
      raise ValueError(f"PatchDecoder: {len(filters)} layers and patches of {patch} need sides "
                       f"that are multiples of {step}, got {height}x{width}")
    first = (height // step, width // step, filters[0])
    cells = (height // patch, width // patch)
    self.body = keras.Sequential(
        [keras.layers.Dense(first[0] * first[1] * first[2], activation="relu"),
         keras.layers.Reshape(first)]
        + [keras.layers.Conv2DTranspose(n, 4, 2, "same", activation="relu") for n in filters[1:]]
        + [keras.layers.Dense(patch * patch * channels, activation="sigmoid"),
           keras.layers.Reshape((*cells, patch, patch, channels)),
           keras.layers.Permute((1, 3, 2, 4, 5)),
           keras.layers.Reshape(tuple(shape))])

  def call(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
    return self.body(z, training=training)

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}
