"""The sentence networks that Shi et al. (2019) released with their model of CUB's photographs.

A sentence of L words is a picture of one channel, a row for each word and a column for each
dimension of the words' embedding; convolutions read it and write it.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tf_mmvae.nets.sentences import Positionwise, rows_at
from tf_mmvae.nets.sizes import check_latent_dim
from tf_mmvae.nets.transposed import ThinConv2DTranspose

_STRIDES = ((2, 2), (2, 2), (2, 2), (1, 2), (1, 2))  # of the encoder; words, then embedding
_HEIGHT, _WIDTH = 8, 32  # products of the strides
_MOMENTUM, _EPSILON = 0.9, 1e-5  # PyTorch's, which calls this momentum 0.1


def _kernels():
  """Initial kernels of PyTorch: uniform in +-1 / sqrt(fan in)."""
  return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def _embedding(vocabulary_size, embedding_dim):
  return keras.layers.Embedding(
      vocabulary_size, embedding_dim, embeddings_initializer=keras.initializers.RandomNormal(0, 1))


def _normalised(layer, filters, strides):
  """A convolution that halves or doubles the sides of stride 2, batch normalisation, ReLU."""
  kernel = tuple(4 if stride == 2 else 1 for stride in strides)
  return [layer(filters, kernel, strides, "same", use_bias=False, kernel_initializer=_kernels()),
          *_normalisation()]


def _normalisation():
  return [keras.layers.BatchNormalization(
      momentum=_MOMENTUM, epsilon=_EPSILON, synchronized=True), keras.layers.ReLU()]


def _check(name, filters, embedding_dim, length=_HEIGHT):
  if len(filters) != len(_STRIDES):
    raise ValueError(f"{name}: expected {len(_STRIDES)} filters, got {tuple(filters)}")
  if length % _HEIGHT or embedding_dim % _WIDTH:
    raise ValueError(
        f"{name}: the number of words must be a multiple of {_HEIGHT} and embedding_dim one of "
        f"{_WIDTH}, got {length} and {embedding_dim}")


class SentenceImageEncoder(keras.Model):
  """Sentences [B, L] -> raw parameters [B, 2 D] by convolutions with batch normalisation.

  Three layers of 4x4 halve words and embedding, two of 1x4 the embedding alone; then a head
  without a bias. With L = 32 and the values here it is the network of Shi et al. (2019). Padding is
  read like any word.
  """

  def __init__(self, latent_dim: int, vocabulary_size: int, embedding_dim: int = 128,
               filters: Sequence[int] = (32, 64, 128, 128, 128), **kwargs: Any):
    """Makes the layers.

    Raises ValueError unless latent_dim is a whole number of at least 1, there are five filters, and
    embedding_dim is a multiple of 32.
    """
    super().__init__(**kwargs)
    check_latent_dim("SentenceImageEncoder", latent_dim)
    _check("SentenceImageEncoder", filters, embedding_dim)
    self._config = {"latent_dim": latent_dim, "vocabulary_size": vocabulary_size,
                    "embedding_dim": embedding_dim, "filters": tuple(filters)}
    self.embedding = _embedding(vocabulary_size, embedding_dim)
    self.body = keras.Sequential(
        [layer for n, strides in zip(filters, _STRIDES, strict=True)
         for layer in _normalised(keras.layers.Conv2D, n, strides)]
        + [keras.layers.Flatten()])
    self.head = keras.layers.Dense(2 * latent_dim, use_bias=False, kernel_initializer=_kernels())

  def call(self, words: tf.Tensor, training: bool = False) -> tf.Tensor:
    _check("SentenceImageEncoder", self._config["filters"], self._config["embedding_dim"],
           words.shape[1])
    picture = self.embedding(words)[..., None]  # [B, L, E, 1]
    return self.head(self.body(picture, training=training))

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}


class SentenceImageDecoder(Positionwise):
  """Predicts the word at each position by itself: the mirror image of `SentenceImageEncoder`.

  Each row of the picture that it writes is compared with the embedding of every word, by a product
  and a bias a word. `tie` makes the embedding that of the encoder. What it makes of an example in
  training depends on all latents of the call, through the batch normalisation.
  """

  def __init__(self, vocabulary_size: int, length: int = 32, embedding_dim: int = 128,
               filters: Sequence[int] = (128, 128, 128, 64, 32), **kwargs: Any):
    """Raises ValueError for other than five filters, or sides that five layers cannot double to."""
    super().__init__(**kwargs)
    _check("SentenceImageDecoder", filters, embedding_dim, length)
    self.length = length
    self._config = {"vocabulary_size": vocabulary_size, "length": length,
                    "embedding_dim": embedding_dim, "filters": tuple(filters)}
    self.embedding = None
    first = (length // _HEIGHT, embedding_dim // _WIDTH)
    transposed = keras.layers.Conv2DTranspose
    self.body = keras.Sequential(
        [keras.layers.Reshape((1, 1, -1)),
         transposed(filters[0], first, use_bias=False, kernel_initializer=_kernels()),
         *_normalisation()]
        + [layer for n, strides in zip(filters[1:], _STRIDES[:0:-1], strict=True)
           for layer in _normalised(transposed, n, strides)]
        + [ThinConv2DTranspose(1, activation="relu", use_bias=False, kernel_initializer=_kernels()),
           keras.layers.Reshape((length, embedding_dim))])

  def tie(self, encoder: keras.layers.Layer) -> None:
    """Shares the encoder's embedding from now on; comes before the first call.

    Raises:
      ValueError: if the encoder has none of this size.
    """
    size = self._config["vocabulary_size"], self._config["embedding_dim"]
    embedding = getattr(encoder, "embedding", None)
    found = embedding and (embedding.input_dim, embedding.output_dim)
    if found != size:
      raise ValueError(f"SentenceImageDecoder: expected an encoder with an embedding of {size[0]} "
                       f"words in {size[1]} dimensions, got {found or 'none'}")
    self.embedding = embedding

  def build(self, z_shape: Any, words_shape: Any = None, at_shape: Any = None) -> None:
    del z_shape, words_shape, at_shape
    if self.embedding is None:
      self.embedding = _embedding(
          self._config["vocabulary_size"], self._config["embedding_dim"])
    self.embedding.build()
    limit = self._config["embedding_dim"] ** -0.5
    self.bias = self.add_weight(
        shape=[self._config["vocabulary_size"]], name="bias",
        initializer=keras.initializers.RandomUniform(-limit, limit))
    self.built = True

  def call(self, z: tf.Tensor, words: tf.Tensor | None = None, at: tf.Tensor | None = None,
           training: bool = False) -> tf.Tensor:
    del words
    rows = self.body(ops.reshape(z, [-1, z.shape[-1]]), training=training)  # [N, L, E]
    rows = rows_at(rows, at, ops.shape(z)[:-1])
    return ops.matmul(rows, ops.transpose(self.embedding.embeddings)) + self.bias

  def get_config(self) -> dict:
    return {**super().get_config(), **self._config}
