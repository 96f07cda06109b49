"""Transposed convolutions that make few channels."""

from typing import Any

import keras
import tensorflow as tf

# Rows of the kernel by what they are of: [tap, side]. See `_spread`.
_TAPS = ((2, 3), (0, 1))
MOST_FILTERS = 4


class ThinConv2DTranspose(keras.layers.Conv2DTranspose):
  """`Conv2DTranspose(filters, 4, 2, "same")` for few filters: the same function, sooner made.

  On processors a transposed convolution takes as long for 1 filter as for 16. Forwards this is a
  plain convolution of 2x2 to 4 filters a filter, whose numbers become pixels, in training;
  backwards it is as ever. docs/speed.md has figures.
  """

  def __init__(self, filters: int, **kwargs: Any):
    super().__init__(filters, 4, 2, "same", **kwargs)

  def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
    if not training:  # for no pictures TensorFlow's convolution has another shape, and an export
      return super().call(x)  # is best of what every runtime knows
    bias = self.bias if self.use_bias else tf.zeros([self.filters])
    y = _spread(x, tf.convert_to_tensor(self.kernel), tf.cast(bias, x.dtype))
    return y if self.activation is None else self.activation(y)

  def get_config(self) -> dict:
    fixed = ("kernel_size", "strides", "padding")
    return {name: value for name, value in super().get_config().items() if name not in fixed}


@tf.custom_gradient
def _spread(x, kernel, bias):
  """x [N, H, W, C], kernel [4, 4, F, C], bias [F] -> [N, 2 H, 2 W, F].

  Pixel 2 i - 1 + a of a side is made of cells i - 1 and i, by rows _TAPS[0][a] and _TAPS[1][a] of
  the kernel.
  """
  filters, channels = kernel.shape[2:]
  taps = tf.gather(tf.gather(kernel, _TAPS, axis=0), _TAPS, axis=2)  # [2, a, 2, b, F, C]
  taps = tf.reshape(tf.transpose(taps, [0, 2, 5, 1, 3, 4]), [2, 2, channels, 4 * filters])
  cells = tf.nn.conv2d(x, taps, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])
  # Here the convolution adds it on its way; of few channels it takes long.
  pixels = tf.nn.depth_to_space(tf.nn.bias_add(cells, tf.tile(bias, [4])), 2)

  def gradient(dy):
    return tf.nn.conv2d(dy, kernel, 2, "SAME"), tf.raw_ops.Conv2DBackpropFilter(
        input=dy, filter_sizes=tf.shape(kernel), out_backprop=x, strides=[1, 2, 2, 1],
        padding="SAME"), tf.reduce_sum(dy, [0, 1, 2])

  return pixels[:, 1:-1, 1:-1], gradient
