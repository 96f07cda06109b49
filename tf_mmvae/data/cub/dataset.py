"""Caltech-UCSD Birds with captions: photographs (CUB-200-2011) and the sentences of Reed et al.

Their files lie below `manual_dir` in one of the two layouts of `cub_layouts`.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from tf_mmvae.data import folders
from tf_mmvae.data.cub import layouts
from tf_mmvae.data.examples import images_with_captions
from tf_mmvae.data.quiet import quiet

IMAGE_SIZE = 64
BOX_MARGIN = 0.05  # on either side, of the longer side of the box


def examples(split, tokenizer, manual_dir=None, data_dir=None, crop=False, augment=None):
  """Pairs of a bird and one of its ten captions; the photos are in the order of their paths.

  Args:
    split: a TFDS split, such as "train", "test" or "train[:95%]".
    tokenizer: a `Tokenizer`; L is its length.
    manual_dir: the folder of the files, see `cub_layouts`; None for
      `<data_dir>/downloads/manual`.
    data_dir: where the prepared data set is kept; None for the folder of TFDS.
    crop: cut each photo to its bird before resizing, instead of resizing the whole photo.
    augment: change to the shuffled batches; see `Examples` and `augmentation`.

  Returns:
    `Examples` with x = {"image": float32 [B, 64, 64, 3], "sentence": int32 [B, L]} and
    y = {"class": int32 [B], "image_index": int32 [B], "caption": string [B]}.

  Raises:
    FileNotFoundError: photos, captions, lists or, for `crop`, bounding boxes are missing.
    ValueError: `split` is no split, or a file of the source is damaged.
  """
  builder = _prepared(manual_dir, data_dir, crop)
  birds = _load(builder, split, ["image", "captions", "class"])
  logging.debug("cub: %d photos in '%s', from %s", len(birds["image"]), split, builder.data_dir)
  labels = {"class": birds["class"]}
  return images_with_captions(
    "cub", birds["image"], birds["captions"].tolist(), labels, tokenizer, augment
  )


def photos(split, manual_dir=None, data_dir=None, crop=False):
  """The photos of a split in the order of their paths; arguments and errors of `examples`.

  Returns:
    {"image": uint8 [N, 64, 64, 3], "captions": strings [N, 10], "class": int [N],
    "file_name": strings [N], <split>/<class>/<file> as in `layouts.Photo`}.
  """
  return _load(_prepared(manual_dir, data_dir, crop), split,
               ["image", "captions", "class", "file_name"])


def captions(split="train", manual_dir=None, data_dir=None, crop=False):
  """The captions of a split, strings in the order of `examples`; raises what that does."""
  birds = _load(_prepared(manual_dir, data_dir, crop), split, ["captions"])
  return [caption.decode() for caption in birds["captions"].reshape([-1])]


def layout(manual_dir=None, data_dir=None, crop=False):
  """The `Layout` of the files, with boxes for `crop`; arguments and errors of `examples`."""
  return layouts.read(folders.manual_dir_or_default(manual_dir, data_dir), crop)


def pictures(source, size):
  """Each photo of a `Layout` in turn, uint8 [size, size, 3]: cut to its bird where it has a box.

  Raises:
    ValueError: a photo is damaged.
  """
  for photos_of_split in source.splits.values():
    for photo in photos_of_split:
      yield _read_photo(photo.path, photo.box, size)


@dataclasses.dataclass
class CubConfig(tfds.core.BuilderConfig):
  """One source of the data set: where its files are, and whether photos are cropped."""

  layout: layouts.Layout | None = None
  crop: bool = False


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


def _prepared(manual_dir, data_dir, crop):
  """The builder of the source in `manual_dir`, its data set prepared."""
  source = layout(manual_dir, data_dir, crop)
  manual_dir = folders.manual_dir_or_default(manual_dir, data_dir)
  data_dir = folders.data_dir_or_default(data_dir)
  # TFDS reuses what it prepared under a name, whatever the source: another source, another name.
  name = f"{source.fingerprint()}-{'bird' if crop else 'photo'}"
  config = CubConfig(name=name, layout=source, crop=crop)
  with quiet():
    builder = Cub(config=config, data_dir=data_dir)
    try:
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
      )
    except OSError:
      if not builder.data_path.exists():
        raise
      builder = Cub(config=config, data_dir=data_dir)  # another process prepared it meanwhile
  return builder


def _load(builder, split, features):
  """{feature: array [N, ...]} of a split, in the order of the file names."""
  try:
    num_photos = builder.info.splits[split].num_examples
  except (AttributeError, KeyError, TypeError, ValueError):
    num_photos = 0
  if num_photos == 0:
    raise ValueError(
      f"cub has no photos in split {split!r}: give 'train', 'test' or a part such as 'train[:95%]'"
    )
  wanted = tfds.decode.PartialDecoding(dict.fromkeys({*features, "file_name"}, True))
  with quiet():
    birds = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, decoders=wanted))
  order = np.argsort(birds["file_name"])
  return {feature: birds[feature][order] for feature in features}


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
