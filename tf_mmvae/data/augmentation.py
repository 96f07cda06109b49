"""Changes to training examples that leave what they mean as it is."""

import tensorflow as tf


def crops_and_flips(x: dict[str, tf.Tensor], seeds: tf.Tensor, modality: str = "image",
                    min_side: float = 0.85) -> dict[str, tf.Tensor]:
  """Cuts a part out of each picture, enlarges it to the full size, and mirrors every other one.

  Args:
    x: {modality: [B, ...]}; a batch without the modality is left as it is.
    seeds: int64 [B, 2], of each example; they decide everything random.
    modality: the pictures to change, float32 [B, H, W, C].
    min_side: the least side of a part as a share of the picture's, above 0 and at most 1.

  Returns:
    x with those pictures changed.

  Raises:
    ValueError: `min_side` is outside (0, 1].
  """
  if not 0 < min_side <= 1:
    raise ValueError(f"crops_and_flips: min_side must be above 0 and at most 1, got {min_side}")
  if modality not in x:
    return x
  images = x[modality]
  batch_size = tf.shape(images)[0]
  drawn = tf.map_fn(
    lambda seed: tf.random.stateless_uniform([4], seed, alg="philox"),
    seeds, fn_output_signature=tf.float32,
  )
  side, place_y, place_x, mirror = tf.unstack(drawn, axis=-1)  # [B] each
  side = min_side + (1.0 - min_side) * side
  top, left = place_y * (1.0 - side), place_x * (1.0 - side)
  right = left + side
  is_mirrored = mirror < 0.5
  boxes = [
    top, tf.where(is_mirrored, right, left), top + side, tf.where(is_mirrored, left, right)
  ]
  changed = tf.image.crop_and_resize(
    images, tf.stack(boxes, -1), tf.range(batch_size), tf.shape(images)[1:3]
  )
  return {**x, modality: tf.ensure_shape(changed, images.shape)}
