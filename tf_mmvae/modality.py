"""A modality: one kind of observation with its own encoder and decoder."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tf_mmvae import distributions
from tf_mmvae.batch import zeros_where_absent

tfd = tfp.distributions


class Modality(keras.layers.Layer):
  """Encoder, decoder, posterior family and likelihood under one name.

  Networks map tensors to tensors; this class makes distributions of them.
  """

  def __init__(self, name: str, shape: Sequence[int], encoder: keras.layers.Layer,
               decoder: keras.layers.Layer, likelihood: distributions.Likelihood,
               posterior: distributions.Family = distributions.laplace, dtype: str = "float32",
               train_dtype: str | None = None):
    """Joins the parts.

    Args:
      name: key of this modality in `x`.
      shape: of one observation, such as (64, 64, 3), or (32,) for a sentence.
      encoder: network [B, *shape] -> raw parameters [B, 2 D] of the expert.
      decoder: network of the likelihood; most map [N, D] -> [N, *shape]. One that shares weights
        with the encoder has a method `tie(encoder)`, which is called here.
      likelihood: function (decoder, z [..., B, D]) -> `tfd.Distribution`, batch [..., B], event
        `shape`.
      posterior: family of the expert, function raw [B, 2 D] -> `tfd.Distribution`.
      dtype: of an observation: "float32", or "int32" for word ids.
      train_dtype: what convolutions and dense layers compute in while they train, "bfloat16", or
        None for float32. Weights and densities are float32 always.

    Raises:
      ValueError: for another `train_dtype`.
    """
    super().__init__(name=name)
    check_dtype("train_dtype", train_dtype)
    self.spec = tf.TensorSpec([None, *shape], dtype, name=name)
    self.encoder = encoder
    self.decoder = decoder
    self._likelihood = likelihood
    self._posterior = posterior
    self.train_dtype = train_dtype
    if hasattr(decoder, "tie"):
      decoder.tie(encoder)

  @property
  def parts(self) -> dict[str, Any]:
    """{name: network, function or dtype} of what it is made of."""
    return {"encoder": self.encoder, "decoder": self.decoder, "likelihood": self._likelihood,
            "posterior": self._posterior, "train_dtype": self.train_dtype}

  def check(self, x: tf.Tensor) -> tf.Tensor:
    """x as a tensor; raises ValueError unless it is a batch of this modality's observations."""
    x = tf.convert_to_tensor(x)
    expected, got = self.spec.shape.as_list()[1:], list(x.shape[1:])
    if got != expected:
      raise ValueError(f"modality '{self.name}': expected observations of shape {expected}, got "
                       f"{got}: make its shape and that of the data agree")
    if self.spec.dtype.is_floating != x.dtype.is_floating:
      advice = ("divide pictures of 0 to 255 by 255, and make other numbers floats"
                if self.spec.dtype.is_floating else "give whole numbers, such as word ids")
      raise ValueError(f"modality '{self.name}': expected {self.spec.dtype.name}, got "
                       f"{x.dtype.name}: {advice}")
    return x

  def build(self, input_shape: Any = None) -> None:
    """Creates every variable by scoring one observation of zeros."""
    del input_shape
    x = tf.zeros([1, *self.spec.shape[1:]], self.spec.dtype)
    self.log_likelihood(x, self.posterior(x).mean())
    self.built = True

  def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
    """What the mean of q(z | x_m) is decoded to, its mode. x [B, *shape] -> [B, *shape]."""
    return self.likelihood(self.posterior(x, training).mean(), training).mode()

  def get_config(self) -> dict:
    """Raises TypeError: functions cannot be written down."""
    raise TypeError("a Modality holds functions, which Keras cannot write down: make it anew")

  def posterior(self, x: tf.Tensor, training: bool = False,
                mask: tf.Tensor | None = None) -> tfd.Distribution:
    """The expert q(z | x_m). x [B, *shape], mask bool [B] -> batch [B], event [D].

    Absent observations never reach the encoder: what they hold cannot reach a gradient. Batch
    statistics count zeros in their place.
    """
    x = self._observed(x, mask)
    return self._posterior(self._in_mode(self.encoder, training)(x))

  def likelihood(self, z: tf.Tensor, training: bool = False) -> tfd.Distribution:
    """p(x_m | z). z [..., B, D] -> `tfd.Distribution`, batch [..., B], event one observation."""
    made = self._likelihood(self._in_mode(self.decoder, training), z)
    expected = self.spec.shape[1:]
    if not isinstance(made, tfd.Distribution) or not made.event_shape.is_compatible_with(expected):
      got = getattr(made, "event_shape", type(made).__name__)
      raise ValueError(f"modality '{self.name}': expected a likelihood of observations of shape "
                       f"{expected.as_list()}, got {got}: make its shape and that of the decoder "
                       "agree, and have the likelihood's event be one observation")
    return made

  def _in_mode(self, network, training):
    return _InMode(network, training, self.train_dtype if training else None)

  def log_likelihood(self, x: tf.Tensor, z: tf.Tensor, training: bool = False,
                     mask: tf.Tensor | None = None) -> tf.Tensor:
    """log p(x_m | z) in nats, 0 where absent. x [B, *shape], z [..., B, D] -> [..., B].

    In training a decoder that couples examples sees particles z [S, K, B, D] a stratum at a time,
    each with the statistics of its own K B latents, as in the released code of Shi et al. (2019).
    """
    x = self._observed(x, mask)
    if training and z.shape.rank == 4 and couples_examples(self.decoder):
      log_px = tf.stack([self.likelihood(stratum, training).log_prob(x)
                         for stratum in tf.unstack(z)])  # [S, K, B]
    else:
      log_px = self.likelihood(z, training).log_prob(x)
    return log_px if mask is None else tf.where(mask, log_px, 0.)

  def _observed(self, x, mask):
    """x, checked, with zeros where it is absent."""
    x = self.check(x)
    return x if mask is None else zeros_where_absent(x, mask)


def views_of(num: int, modality: Callable[..., Modality], name: str = "view") -> list[Modality]:
  """Modalities `view0`, `view1` and so on: alike but for their names and weights.

  Args:
    num: how many, M.
    modality: function (name) -> `Modality`.
    name: what their names begin with.

  Raises:
    ValueError: if num is below 1.
  """
  if not isinstance(num, int) or num < 1:
    raise ValueError(f"the number of views must be a whole number of at least 1, got {num!r}")
  return [modality(name=f"{name}{v}") for v in range(num)]


def couples_examples(network: keras.layers.Layer) -> bool:
  """Whether what a network makes of an example in training depends on the others of its batch.

  Batch normalisation does so, and any layer that says so by a true attribute `couples_examples`.
  """
  return bool(_coupling_layers(network))


def is_synchronized(network: keras.layers.Layer) -> bool:
  """Whether layers that couple examples do so over all devices, by a true `synchronized`."""
  return all(getattr(layer, "synchronized", False) for layer in _coupling_layers(network))


def _coupling_layers(network):
  # Keras has no public way to walk through all layers.
  return [layer for layer in network._flatten_layers()
          if isinstance(layer, keras.layers.BatchNormalization)
          or getattr(layer, "couples_examples", False)]


def is_random(network: keras.layers.Layer) -> bool:
  """Whether a network draws random numbers in training, as dropout and noise layers of Keras do."""
  return any(getattr(layer, name, 0) for layer in network._flatten_layers()
             for name in ("rate", "dropout", "recurrent_dropout", "stddev"))


def check_dtype(name: str, dtype: str | None) -> None:
  """Raises ValueError for a dtype that networks cannot be told to compute in."""
  if dtype not in (None, "bfloat16"):  # float16 would need its gradients scaled
    raise ValueError(f'{name} must be "bfloat16", or None for float32, got {dtype!r}')


@contextlib.contextmanager
def computing_in(dtype: str | None, networks: Iterable[keras.layers.Layer]) -> Iterator[None]:
  """Inside, products of convolutions and dense layers are in a dtype; None changes nothing.

  Weights stay as they are, and biases are added in float32. It counts when a function is traced,
  in one thread at a time.
  """
  kinds = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv2DTranspose)
  layers = [layer for network in networks for layer in network._flatten_layers()
            if isinstance(layer, kinds)] if dtype else []
  before = [layer.dtype_policy for layer in layers]
  # TensorFlow adds up a bias' gradient in its dtype: in few bits 1 + ... + 1 stops at 256.
  biases = [layer.bias for layer in layers if getattr(layer, "bias", None) is not None]
  for layer in layers:
    layer.dtype_policy = f"mixed_{dtype}"
  for bias in biases:
    bias._autocast = False  # Keras has no public way
  try:
    yield
  finally:
    for layer, policy in zip(layers, before, strict=True):
      layer.dtype_policy = policy
    for bias in biases:
      bias._autocast = True


class _InMode:
  """A network with its `training` argument set, and the dtype that it computes in; float32 out."""

  def __init__(self, network, training, dtype):
    self._network, self._training, self._dtype = network, training, dtype

  def __call__(self, *inputs):
    with computing_in(self._dtype, [self._network]):
      return tf.cast(self._network(*inputs, training=self._training), tf.float32)

  def __getattr__(self, name):
    return getattr(self._network, name)
