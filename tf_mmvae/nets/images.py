"""Convolutional networks for pictures whose sides are multiples of a power of two."""

import keras


class ConvEncoder(keras.Model):
  """Pictures [B, H, W, C] -> raw parameters [B, 2 D] by 4x4 convolutions of stride 2 and one head.

  With filters (64, 128, 256, 512) these are the picture networks of Shi et al. (2019) for CUB.
  """

  def __init__(self, latent_dim, filters, **kwargs):
    super().__init__(**kwargs)
    self._config = {"latent_dim": latent_dim, "filters": tuple(filters)}
    self.body = keras.Sequential(
        [keras.layers.Conv2D(n, 4, 2, "same", activation="relu") for n in filters]
        + [keras.layers.Flatten()])
    self.head = keras.layers.Dense(2 * latent_dim)

  def call(self, x, training=False):
    return self.head(self.body(x, training=training))

  def get_config(self):
    return {**super().get_config(), **self._config}


class ConvDecoder(keras.Model):
  """Latents [N, D] -> pictures [N, *shape] in [0, 1] by transposed convolutions of stride 2.

  `filters` run from the smallest picture to the largest; one more layer makes the picture itself.
  """

  def __init__(self, shape, filters, **kwargs):
    super().__init__(**kwargs)
    self._config = {"shape": tuple(shape), "filters": tuple(filters)}
    height, width, channels = shape
    step = 2 ** len(filters)
    if height % step or width % step:
      raise ValueError(f"ConvDecoder: {len(filters)} layers of stride 2 need sides that are "
                       f"multiples of {step}, got {height}x{width}")
    first = (height // step, width // step, filters[0])
    self.body = keras.Sequential(
        [keras.layers.Dense(first[0] * first[1] * first[2], activation="relu"),
         keras.layers.Reshape(first)]
        + [keras.layers.Conv2DTranspose(n, 4, 2, "same", activation="relu") for n in filters[1:]]
        + [keras.layers.Conv2DTranspose(channels, 4, 2, "same", activation="sigmoid")])

  def call(self, z, training=False):
    return self.body(z, training=training)

  def get_config(self):
    return {**super().get_config(), **self._config}


class PatchDecoder(keras.Model):
  """Latents [N, D] -> pictures [N, *shape] in [0, 1]; the last layer paints a patch for each cell.

  Like `ConvDecoder`, but the widest layer stops at pictures `patch` times smaller than the result,
  which costs less; the borders of the patches can be seen.
  """

  def __init__(self, shape, filters, patch=4, **kwargs):
    super().__init__(**kwargs)
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

  def call(self, z, training=False):
    return self.body(z, training=training)

  def get_config(self):
    return {**super().get_config(), **self._config}
