import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.data.augmentation import crops_and_flips

SIZE = 8


def ramps(num):
  """Pictures whose red is the column's place in [0, 1] and whose green is the row's."""
  place = np.linspace(0, 1, SIZE, dtype=np.float32)
  red, green = np.meshgrid(place, place)
  one = np.stack([red, green, 0 * red], -1)
  return tf.constant(np.tile(one, (num, 1, 1, 1)))


def changed(num, seed=(0, 0), **kwargs):
  return crops_and_flips({"image": ramps(num)}, seeds(num, seed), **kwargs)["image"].numpy()


def seeds(num, seed=(0, 0)):
  """Of so many examples, the first of which has `seed`."""
  return tf.constant([[seed[0], seed[1] + i] for i in range(num)], tf.int64)


def test_a_whole_picture_is_mirrored_or_left_alone():
  pictures, same = changed(400, min_side=1.0), ramps(1)[0].numpy()
  mirrored = np.array([np.allclose(p, same[:, ::-1], atol=1e-5) for p in pictures])
  alone = np.array([np.allclose(p, same, atol=1e-5) for p in pictures])
  assert np.all(mirrored ^ alone)
  assert 150 < mirrored.sum() < 250


def test_parts_are_straight_squares_within_the_picture():
  pictures = changed(500, min_side=0.5)
  red, green = pictures[..., 0], pictures[..., 1]
  np.testing.assert_allclose(red, np.tile(red[:, :1], (1, SIZE, 1)), atol=1e-5)
  np.testing.assert_allclose(green, np.tile(green[:, :, :1], (1, 1, SIZE)), atol=1e-5)
  width, height = red[:, 0, -1] - red[:, 0, 0], green[:, -1, 0] - green[:, 0, 0]
  np.testing.assert_allclose(np.abs(width), height, atol=1e-5)  # never upside down
  assert 0.5 <= height.min() < 0.52 and 0.98 < height.max() <= 1
  top, left = green[:, 0, 0], np.minimum(red[:, 0, 0], red[:, 0, -1])
  for first in (top, left):
    share = first / (1 - height)  # 0 at one end, 1 at the other
    assert share.min() > -1e-4 and share.max() < 1 + 1e-4
    assert abs(share.mean() - 0.5) < 0.06
  assert abs(np.corrcoef(top, left / (1 - height))[0, 1]) < 0.6
  assert pictures.min() >= 0 and pictures.max() <= 1


def test_the_seed_decides():
  np.testing.assert_array_equal(changed(4, (1, 2)), changed(4, (1, 2)))
  assert not np.array_equal(changed(4, (1, 2)), changed(4, (1, 3)))
  assert not np.array_equal(changed(4, (1, 2)), changed(4, (2, 2)))
  np.testing.assert_array_equal(changed(4)[2:], changed(2, (0, 2)))  # by its own seed alone
  different = changed(4)
  assert not np.allclose(different[0], different[1])


def test_only_the_modality_named():
  x = {"image": ramps(2), "sentence": tf.constant([[1], [2]])}
  out = crops_and_flips(x, seeds(2))
  assert out["sentence"] is x["sentence"] and out["image"].shape == x["image"].shape
  same = crops_and_flips(x, seeds(2), modality="photo")
  assert same["image"] is x["image"]


@pytest.mark.parametrize("min_side", [0.0, 1.1, -1.0])
def test_parts_must_be_parts(min_side):
  with pytest.raises(ValueError, match="min_side must be above 0 and at most 1, got"):
    changed(1, min_side=min_side)
