"""Caltech-UCSD Birds with captions: photographs (CUB-200-2011) and the sentences of Reed et al.

Their files lie below `manual_dir` in one of the two layouts of `layouts`.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from tf_mmvae.data import folders
from tf_mmvae.data.cub import layouts
from tf_mmvae.data.examples import Examples, images_with_captions
from tf_mmvae.data.quiet import quiet
from tf_mmvae.data.tokenizer import Tokenizer

IMAGE_SIZE = 64
BOX_MARGIN = 0.05  # on either side, of the longer side of the box


class Source:
  """The birds of a folder: their layout, read once, and the data set, prepared on disk.

  Attributes:
    layout: the `layouts.Layout` of the files, with boxes for `crop`.
    key: a short text that differs where photos, captions, boxes or `crop` differ.
    data_dir: where prepared data are kept.
  """

  def __init__(
    self,
    manual_dir: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    crop: bool = False,
  ):
    """Reads the layout and prepares the data set, unless it is there already.

    Args:
      manual_dir: the folder of the files, see `layouts`; None for `<data_dir>/downloads/manual`.
      data_dir: where the prepared data set is kept; None for the folder of TFDS.
      crop: cut each photo to its bird before resizing, instead of resizing the whole photo.

    Raises:
      FileNotFoundError: photos, captions, lists or, for `crop`, bounding boxes are missing.
      ValueError: a file of the source is damaged.
    """
    manual_dir = folders.manual_dir_or_default(manual_dir, data_dir)
    self.layout = layouts.read(manual_dir, crop)
    self.key = f"{self.layout.fingerprint()}-{'bird' if crop else 'photo'}"
    self.data_dir = folders.data_dir_or_default(data_dir)
    # TFDS reuses what it prepared under a name, whatever the source: another source, another name.
    config = CubConfig(name=self.key, layout=self.layout)
    with quiet():
      self._builder = Cub(config=config, data_dir=self.data_dir)
      try:
        self._builder.download_and_prepare(
          download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
        )
      except OSError:
        if not self._builder.data_path.exists():
          raise
        self._builder = Cub(config=config, data_dir=self.data_dir)  # prepared by another process

  def load(self, split: str, features: Sequence[str]) -> dict[str, np.ndarray]:
    """{feature: array [N, ...]} of a split, in the order of the file names.

    Raises:
      ValueError: `split` is no split.
    """
    try:
      num_photos = self._builder.info.splits[split].num_examples
    except (AttributeError, KeyError, TypeError, ValueError):
      num_photos = 0
    if num_photos == 0:
      raise ValueError(f"cub has no photos in split {split!r}: give 'train', 'test' or a part such "
                       "as 'train[:95%]'")
    wanted = tfds.decode.PartialDecoding(dict.fromkeys({*features, "file_name"}, True))
    with quiet():
      birds = tfds.as_numpy(self._builder.as_dataset(split=split, batch_size=-1, decoders=wanted))
    order = np.argsort(birds["file_name"])
    logging.debug("cub: %d photos in '%s', from %s", num_photos, split, self._builder.data_dir)
    return {feature: birds[feature][order] for feature in features}

  def pictures(self, size: int) -> Iterator[np.ndarray]:
    """Each photo of the layout in turn, uint8 [size, size, 3]: cut to its bird for `crop`.

    Raises:
      ValueError: a photo is damaged.
    """
    for photos_of_split in self.layout.splits.values():
      for photo in photos_of_split:
        yield _read_photo(photo.path, photo.box, size)


def examples(
  source: Source, split: str, tokenizer: Tokenizer, augment: Callable | None = None
) -> Examples:
  """Pairs of a bird and one of its ten captions; the photos are in the order of their paths.

  Args:
    source: `Source`.
    split: a TFDS split, such as "train", "test" or "train[:95%]".
    tokenizer: a `Tokenizer`; L is its length.
    augment: change to the shuffled batches; see `Examples` and `augmentation`.

  Returns:
    `Examples` with x = {"image": float32 [B, 64, 64, 3], "sentence": int32 [B, L]} and
    y = {"class": int32 [B], "image_index": int32 [B], "caption": string [B]}.

  Raises:
    ValueError: `split` is no split.
  """
  birds = source.load(split, ["image", "captions", "class"])
  labels = {"class": birds["class"]}
  return images_with_captions(
    "cub", birds["image"], birds["captions"].tolist(), labels, tokenizer, augment
  )


def photos(source: Source, split: str) -> dict[str, np.ndarray]:
  """The photos of a split in the order of their paths; arguments and errors of `examples`.

  Returns:
    {"image": uint8 [N, 64, 64, 3], "captions": strings [N, 10], "class": int [N],
    "file_name": strings [N], <split>/<class>/<file> as in `layouts.Photo`}.
  """
  return source.load(split, ["image", "captions", "class", "file_name"])


def captions(source: Source, split: str = "train") -> list[str]:
  """The captions of a split, strings in the order of `examples`; raises what that does."""
  return [caption.decode() for caption in source.load(split, ["captions"])["captions"].ravel()]


@dataclasses.dataclass
class CubConfig(tfds.core.BuilderConfig):
  """One source of the data set: where its files are."""

  layout: layouts.Layout | None = None


class Cub(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Photos of birds, uint8 [64, 64, 3], with ten captions each; `examples` is the way in."""

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f"Put into `cub/` {layouts.AUTHORS}, or beside it {layouts.OFFICIAL}."
  )

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description="Caltech-UCSD Birds 200-2011 with the captions of Reed et al. (2016).",
      features=tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3)),
        "captions": tfds.features.Sequence(
          tfds.features.Text(), length=layouts.CAPTIONS_PER_PHOTO),
        "class": tfds.features.ClassLabel(names=self.builder_config.layout.classes),
        "file_name": tfds.features.Text(),
      }),
    )

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in self.builder_config.layout.splits}

  def _generate_examples(self, split):
    for photo in self.builder_config.layout.splits[split]:
      yield photo.name, {
        "image": _read_photo(photo.path, photo.box),
        "captions": list(photo.captions),
        "class": photo.label,
        "file_name": photo.name,
      }


def _read_photo(path, box, size=IMAGE_SIZE):
  """uint8 [size, size, 3]; with a box, of the square around it."""
  try:
    with Image.open(path) as image:
      image = image.convert("RGB")
  except (OSError, SyntaxError, ValueError) as error:
    raise ValueError(f"{path} is not a readable photo: {error}") from error
  region = (0, 0, *image.size) if box is None else _square_around(box, *image.size)
  return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=region))


def _square_around(box, photo_width, photo_height):
  """(left, top, right, bottom) of a square with a margin, as far as the photo has room for it."""
  x, y, width, height = box
  side = max(width, height, 1.0) * (1.0 + 2.0 * BOX_MARGIN)
  left, right = _span(x + width / 2.0, side, photo_width)
  top, bottom = _span(y + height / 2.0, side, photo_height)
  return left, top, right, bottom


def _span(centre, length, limit):
  """An interval of `length` around `centre`, shifted or cut to lie in [0, limit]."""
  length = min(length, limit)
  start = min(max(centre - length / 2.0, 0.0), limit - length)
  return start, min(start + length, limit)
