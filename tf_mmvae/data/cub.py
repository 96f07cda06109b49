"""Caltech-UCSD Birds with captions: photographs (CUB-200-2011) and the sentences of Reed et al.

The files are laid out as in the MMVAE authors' cub.zip, below `<manual_dir>/cub`:

  train/<class>/*.jpg  text_trainvalclasses.txt  [train_bounding_boxes.txt]
  test/<class>/*.jpg   text_testclasses.txt      [test_bounding_boxes.txt]

A caption file has ten lines a photo, in path order. A box file has lines `path x y width height`,
the path below `train/` or `test/`, the numbers in pixels.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from tf_mmvae.data import examples

IMAGE_SIZE = 64
CAPTIONS_PER_PHOTO = 10
BOX_MARGIN = 0.05  # on either side, of the longer side of the box

_CAPTION_FILES = {"train": "text_trainvalclasses.txt", "test": "text_testclasses.txt"}
_BOX_FILES = {"train": "train_bounding_boxes.txt", "test": "test_bounding_boxes.txt"}
_ORIGIN = (
  "the CUB-200-2011 photographs of Caltech and the captions of Reed et al. (2016), in the layout "
  "of the MMVAE authors' cub.zip (train/<class>/*.jpg, test/<class>/*.jpg, "
  "text_trainvalclasses.txt, text_testclasses.txt)"
)


def cub(split, tokenizer, manual_dir=None, data_dir=None, crop=False, augment=None):
  """Pairs of a bird and one of its ten captions; the photos are in the order of their paths.

  Args:
    split: a TFDS split, such as "train", "test" or "train[:95%]".
    tokenizer: a `Tokenizer`; L is its length.
    manual_dir: the folder that holds `cub/`; None for `<data_dir>/downloads/manual`.
    data_dir: where the prepared data set is kept; None for the folder of TFDS.
    crop: cut each photo to its bird before resizing, instead of resizing the whole photo.
    augment: change to the shuffled batches; see `Examples` and `augmentation`.

  Returns:
    `Examples` with x = {"image": float32 [B, 64, 64, 3], "sentence": int32 [B, L]} and
    y = {"class": int32 [B], "image_index": int32 [B], "caption": string [B]}.

  Raises:
    FileNotFoundError: photos, captions or, for `crop`, bounding boxes are missing.
    ValueError: `split` is no split, or a file of the source is damaged.
  """
  builder = _prepared(manual_dir, data_dir, crop)
  birds = _load(builder, split, ["image", "captions", "class"])
  logging.debug("cub: %d photos in '%s', from %s", len(birds["image"]), split, builder.data_dir)
  labels = {"class": birds["class"]}
  return examples.images_with_captions(
    "cub", birds["image"], birds["captions"].tolist(), labels, tokenizer, augment
  )


def photos(split, manual_dir=None, data_dir=None, crop=False):
  """{"image": uint8 [N, 64, 64, 3], "captions": strings [N, 10], "class": int [N]} of a split.

  The photos are in the order of their paths; arguments and errors are those of `cub`.
  """
  return _load(_prepared(manual_dir, data_dir, crop), split, ["image", "captions", "class"])


def captions(split="train", manual_dir=None, data_dir=None, crop=False):
  """The captions of a split as a list of strings, in the order of `cub`; raises what it raises."""
  birds = _load(_prepared(manual_dir, data_dir, crop), split, ["captions"])
  return [caption.decode() for caption in birds["captions"].reshape([-1])]


@dataclasses.dataclass
class CubConfig(tfds.core.BuilderConfig):
  """One source of the data set: the folder of its files, and whether photos are cropped."""

  folder: pathlib.Path | None = None
  crop: bool = False


class Cub(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Photos of birds, uint8 [64, 64, 3], with ten captions each; `cub` is the way in."""

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put into `cub/` {_ORIGIN}."

  def _info(self):
    folder = self.builder_config.folder
    photos = [photo for split in _CAPTION_FILES for photo in _photos(folder, split)]
    return tfds.core.DatasetInfo(
      builder=self,
      description="Caltech-UCSD Birds 200-2011 with the captions of Reed et al. (2016).",
      features=tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3)),
        "captions": tfds.features.Sequence(tfds.features.Text(), length=CAPTIONS_PER_PHOTO),
        "class": tfds.features.ClassLabel(names=sorted({photo.parent.name for photo in photos})),
        "file_name": tfds.features.Text(),
      }),
    )

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in _CAPTION_FILES}

  def _generate_examples(self, split):
    folder = self.builder_config.folder
    photos = _photos(folder, split)
    sentences = _read_captions(folder / _CAPTION_FILES[split], len(photos))
    boxes = _read_boxes(folder / _BOX_FILES[split]) if self.builder_config.crop else None
    for photo, of_photo in zip(photos, sentences, strict=True):
      box = None
      if boxes is not None:
        path = photo.relative_to(folder / split).as_posix()
        if path not in boxes:
          raise ValueError(f"{folder / _BOX_FILES[split]} has no box for {path}")
        box = boxes[path]
      file_name = photo.relative_to(folder).as_posix()
      yield file_name, {
        "image": _read_photo(photo, box),
        "captions": of_photo,
        "class": photo.parent.name,
        "file_name": file_name,
      }


def _prepared(manual_dir, data_dir, crop):
  """The builder of the source in `manual_dir`, its data set prepared."""
  data_dir = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
  manual_dir = pathlib.Path(manual_dir or data_dir / "downloads" / "manual").expanduser()
  folder = manual_dir / "cub"
  _check_present(folder, crop)
  # TFDS reuses what it prepared under a name, whatever the source: another source, another name.
  name = f"{_fingerprint(folder)}-{'bird' if crop else 'photo'}"
  config = CubConfig(name=name, folder=folder, crop=crop)
  with _quiet():
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


def _check_present(folder, crop):
  for split, file in _CAPTION_FILES.items():
    missing = None
    if not _photos(folder, split):
      missing = f"{split}/<class>/*.jpg"
    elif not (folder / file).is_file():
      missing = file
    if missing:
      raise FileNotFoundError(
        f"{folder} has no {missing}: put there {_ORIGIN}, or use the data set toy_birds "
        "(gin/toy_birds.gin), which needs no files"
      )
    if crop and not (folder / _BOX_FILES[split]).is_file():
      raise FileNotFoundError(
        f"{folder} has no {_BOX_FILES[split]}, which crop=True needs: write it, a line "
        "`path x y width height` a photo, or set crop=False"
      )


def _fingerprint(folder):
  digest = hashlib.sha256()
  for split in _CAPTION_FILES:
    for photo in _photos(folder, split):
      digest.update(os.fsencode(photo.relative_to(folder)) + b" %d\n" % photo.stat().st_size)
    for path in (folder / _CAPTION_FILES[split], folder / _BOX_FILES[split]):
      content = path.read_bytes() if path.is_file() else b""
      digest.update(b"%d\n" % len(content) + content)
  return digest.hexdigest()[:16]


@contextlib.contextmanager
def _quiet():
  """Keeps TFDS from printing bars and announcements."""
  tfds.disable_progress_bar()
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    logging.set_verbosity(verbosity)


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
  wanted = tfds.decode.PartialDecoding(dict.fromkeys([*features, "file_name"], True))
  with _quiet():
    birds = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, decoders=wanted))
  order = np.argsort(birds["file_name"])
  return {feature: birds[feature][order] for feature in features}


def _photos(folder, split):
  """The photos in the order of their captions: by class, then by file name."""
  return sorted(path for path in (folder / split).glob("*/*.jpg") if path.name[0] != ".")


def _read_captions(path, num_photos):
  text = path.read_text("utf-8", errors="replace").removesuffix("\n")
  lines = text.split("\n") if text else []
  if len(lines) != num_photos * CAPTIONS_PER_PHOTO:
    raise ValueError(
      f"{path} has {len(lines)} lines, expected {num_photos * CAPTIONS_PER_PHOTO}: "
      f"{CAPTIONS_PER_PHOTO} for each of {num_photos} photos"
    )
  return [
    lines[first : first + CAPTIONS_PER_PHOTO] for first in range(0, len(lines), CAPTIONS_PER_PHOTO)
  ]


def _read_boxes(path):
  """{path of a photo: (x, y, width, height)}."""
  boxes = {}
  for line in path.read_text("utf-8").splitlines():
    try:
      photo, *box = line.rsplit(maxsplit=4)
      x, y, width, height = map(float, box)
    except ValueError as error:
      raise ValueError(f"{path}: expected `path x y width height`, got '{line}'") from error
    boxes[photo] = (x, y, width, height)
  return boxes


def _read_photo(path, box):
  """uint8 [64, 64, 3]; with a box, of the square around it."""
  try:
    with Image.open(path) as image:
      image = image.convert("RGB")
  except (OSError, SyntaxError, ValueError) as error:
    raise ValueError(f"{path} is not a readable photo: {error}") from error
  region = (0, 0, *image.size) if box is None else _square_around(box, *image.size)
  size = (IMAGE_SIZE, IMAGE_SIZE)
  return np.asarray(image.resize(size, Image.Resampling.LANCZOS, box=region))


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
