"""MNIST digits blended over crops of photographs: MNIST-M and PolyMNIST, made when they are read.

Photographs lie below `<manual_dir>/photos`, as `train/*.jpg` and `test/*.jpg`. Nothing is kept for
each digit but the place of its crop.
"""

import os

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_mmvae.data import folders
from tf_mmvae.data.digits import class_pairs, mnist
from tf_mmvae.data.examples import Examples, on_cpu


def mnist_photo(split: str, manual_dir: str | os.PathLike | None = None,
                data_dir: str | os.PathLike | None = None, num_permutations: int = 1,
                max_per_class: int = 10000, seed: int = 0) -> Examples:
  """Pairs of an MNIST digit and another of its class over a photograph, as in MNIST-M.

  MNIST-M (Ganin et al. 2016) blends a digit and a patch of a photograph of BSDS500 by the absolute
  difference in each channel. Here the digit is amid 32 x 32, as large as a picture of SVHN, for
  which it can stand in.

  Args:
    split: a TFDS split of MNIST, such as "train[5%:]"; digits of "train" are over photographs of
      `photos/train`, those of "test" over `photos/test`.
    manual_dir: the folder that holds `photos/`, and `mnist/` unless that is to be downloaded.
    data_dir: where downloads are kept; None for the folder of tensorflow-datasets.
    num_permutations: pairs that each digit is in.
    max_per_class: digits of a class at most.
    seed: of the crops and the pairing.

  Returns:
    `Examples` with x = {"mnist": float32 [B, 28, 28, 1], "photo": float32 [B, 32, 32, 3]}, both in
    [0, 1], and y = {"digit": int32 [B], "mnist_index", "photo_index": int32 [B]}.

  Raises:
    FileNotFoundError: photographs or files of MNIST are missing.
    ValueError: a damaged file, or no such split.
  """
  images, labels, positions = mnist.arrays(split, manual_dir, data_dir)
  backgrounds = photos(split.partition("[")[0], manual_dir, data_dir)
  sources = {
    "mnist": class_pairs.of_array(images, labels),
    "photo": _over_crops(images, labels, positions, backgrounds, 32, seed),
  }
  return class_pairs.pairs("mnist_photo", sources, num_permutations, max_per_class, seed)


def polymnist(split: str, num_views: int = 5, manual_dir: str | os.PathLike | None = None,
              data_dir: str | os.PathLike | None = None, num_permutations: int = 1,
              max_per_class: int = 10000, seed: int = 0) -> Examples:
  """PolyMNIST (Sutter et al. 2021): digits of one class, each over a photograph of its view's own.

  A digit is a stencil of the pixels above one half, which inverts the colours of a random crop of
  the photograph. View v has the v-th photograph of `photos/train`, in every split.

  Args:
    split: a TFDS split of MNIST, such as "train[5%:]".
    num_views: M.
    manual_dir: as in `mnist_photo`.
    data_dir: as in `mnist_photo`.
    num_permutations: examples that each digit is in.
    max_per_class: digits of a class at most.
    seed: of the crops and the matching.

  Returns:
    `Examples` with x = {"view0": float32 [B, 28, 28, 3] in [0, 1], "view1": ...} and
    y = {"digit": int32 [B], "view0_index": int32 [B], ...}.

  Raises:
    FileNotFoundError: photographs or files of MNIST are missing.
    ValueError: a damaged file, no such split, or fewer photographs than views.
  """
  images, labels, positions = mnist.arrays(split, manual_dir, data_dir)
  stencils = np.where(images > 127, np.uint8(255), np.uint8(0))
  backgrounds = photos("train", manual_dir, data_dir)
  if not 1 <= num_views <= len(backgrounds):
    raise ValueError(f"data set 'polymnist': expected 1 to {len(backgrounds)} views, as there are "
                     f"photographs, got {num_views}")
  sources = {
    f"view{v}": _over_crops(stencils, labels, positions, backgrounds[v : v + 1], 28,
                          seed + 1000 * v)
    for v in range(num_views)
  }
  return class_pairs.pairs("polymnist", sources, num_permutations, max_per_class, seed)


def _over_crops(digits, labels, positions, backgrounds, size, seed):
  """`Labelled` pictures |crop - digit|, float32 [size, size, 3].

  The crop of a digit depends on the seed and its position in the whole data set alone.
  """
  margin = (size - digits.shape[1]) // 2
  digits = on_cpu(digits)  # uint8 [N, h, w, 1]
  pixels = on_cpu(np.concatenate([photo.reshape([-1, 3]) for photo in backgrounds]))  # uint8 [P, 3]
  heights, widths = np.array([photo.shape[:2] for photo in backgrounds]).T
  begins = np.cumsum(heights * widths) - heights * widths
  u = np.random.default_rng(seed).random([positions.max() + 1, 3])[positions]
  which = (u[:, 0] * len(backgrounds)).astype(np.int32)
  tops = (u[:, 1] * (heights[which] - size + 1)).astype(np.int32)
  lefts = (u[:, 2] * (widths[which] - size + 1)).astype(np.int32)
  corners = on_cpu((begins[which] + tops * widths[which] + lefts).astype(np.int32))  # [N]
  widths = on_cpu(widths[which].astype(np.int32))  # [N], of a digit's photograph
  line = tf.range(size)

  def read(i):
    corner, width = tf.gather(corners, i), tf.gather(widths, i)
    place = (corner[:, tf.newaxis, tf.newaxis]
             + width[:, tf.newaxis, tf.newaxis] * line[:, tf.newaxis] + line)  # [B, size, size]
    crop = tf.cast(tf.gather(pixels, place), tf.float32)  # [B, size, size, 3]
    digit = tf.cast(tf.gather(digits, i), tf.float32)
    around = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
    return tf.abs(crop - tf.pad(digit, around)) / 255.0

  return class_pairs.Labelled(labels, read)


def photos(part: str, manual_dir: str | os.PathLike | None = None,
           data_dir: str | os.PathLike | None = None) -> list[np.ndarray]:
  """Photographs in the order of their names: a list of uint8 [H, W, 3].

  Args:
    part: "train" or "test".
    manual_dir: as in `mnist_photo`.
    data_dir: as in `mnist_photo`.

  Raises:
    FileNotFoundError: there are none.
    ValueError: a damaged file, or a photograph smaller than 32 x 32.
  """
  folder = folders.manual_dir_or_default(manual_dir, data_dir) / "photos" / part
  paths = sorted(path for path in folder.glob("*.jpg") if path.name[0] != ".")
  if not paths:
    raise FileNotFoundError(
      f"{folder} has no *.jpg: put photographs there, such as those of BSDS500, and give the "
      "folder above photos/ as manual_dir")
  found = []
  for path in paths:
    try:
      with Image.open(path) as image:
        found.append(np.asarray(image.convert("RGB")))
    except (OSError, SyntaxError, ValueError) as error:
      raise ValueError(f"{path} is not a readable photograph: {error}") from error
    if min(found[-1].shape[:2]) < 32:
      raise ValueError(f"{path} is smaller than 32 x 32 pixels: take it out, or give a larger one")
  return found
