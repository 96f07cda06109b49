"""Where the photographs of birds lie, in either of two layouts, and their captions and boxes.

The MMVAE authors' cub.zip, below `<manual_dir>/cub`:

  train/<class>/*.jpg  text_trainvalclasses.txt  [train_bounding_boxes.txt]
  test/<class>/*.jpg   text_testclasses.txt      [test_bounding_boxes.txt]

A caption file has ten lines a photo, in path order. A box file has lines `path x y width height`,
the path below `train/` or `test/`, the numbers in pixels.

The official one: Caltech's CUB_200_2011.tgz, unpacked in `<manual_dir>`, and of Reed et al.'s
cvpr2016_cub.tar.gz these, in any of `<manual_dir>/{cvpr2016_cub,cub,.,CUB_200_2011}`:

  text_c10/<class>/<photo>.txt  trainvalclasses.txt  testclasses.txt

A caption file has ten lines, and the other two the names of the classes of either split.

Where `cub/` holds anything of the authors' layout it is used, and CUB_200_2011 else.
"""

import functools
import hashlib
import pathlib
from typing import NamedTuple

from absl import logging

CAPTIONS_PER_PHOTO = 10
CAPTION_FILES = {"train": "text_trainvalclasses.txt", "test": "text_testclasses.txt"}
BOX_FILES = {"train": "train_bounding_boxes.txt", "test": "test_bounding_boxes.txt"}
CLASS_FILES = {"train": "trainvalclasses.txt", "test": "testclasses.txt"}
REED_FOLDERS = ("cvpr2016_cub", "cub", ".", "CUB_200_2011")

AUTHORS = (
  "the CUB-200-2011 photographs of Caltech and the captions of Reed et al. (2016), in the layout "
  "of the MMVAE authors' cub.zip (train/<class>/*.jpg, test/<class>/*.jpg, "
  "text_trainvalclasses.txt, text_testclasses.txt)"
)
OFFICIAL = (
  "Caltech's CUB_200_2011.tgz and Reed's cvpr2016_cub (text_c10/, trainvalclasses.txt, "
  "testclasses.txt), unpacked"
)
_ELSE = "use the data set toy_birds, which needs no files"


class Photo(NamedTuple):
  """One photograph and what is known of it."""

  name: str  # <split>/<class>/<file>, whatever the layout
  path: pathlib.Path
  label: str  # its class, such as 001.Black_footed_Albatross
  captions: tuple  # strings, ten
  box: tuple | None  # x, y, width, height of the bird in pixels; None unless boxes were asked for


class Layout(NamedTuple):
  """All photographs of a source: {split: photos in the order of their names}."""

  folder: pathlib.Path
  splits: dict

  @property
  def classes(self) -> list[str]:
    """The names of the classes, sorted."""
    return sorted({photo.label for photos in self.splits.values() for photo in photos})

  def fingerprint(self) -> str:
    """16 digits that change with any name, size of a file, caption or box; not with the layout."""
    digest = hashlib.sha256()
    for photos in self.splits.values():
      for photo in photos:
        for part in (photo.name, photo.path.stat().st_size, photo.label, photo.captions, photo.box):
          digest.update(f"{part!r}\n".encode())
    return digest.hexdigest()[:16]


def read(manual_dir: pathlib.Path, boxes: bool = False) -> Layout:
  """The `Layout` of the photographs in a folder.

  Args:
    manual_dir: the folder, as a `pathlib.Path`.
    boxes: whether bounding boxes are read; then every photo needs one.

  Raises:
    FileNotFoundError: photos, captions, lists or boxes are missing.
    ValueError: a file is damaged, or files contradict one another.
  """
  authors, official = manual_dir / "cub", manual_dir / "CUB_200_2011"
  marks = ("train", "test", *CAPTION_FILES.values())
  if any((authors / mark).exists() for mark in marks) or not official.is_dir():
    if official.is_dir():
      _say_which(authors, official)
    return _authors(authors, boxes)
  return _official(official, boxes)


@functools.cache  # once for a source
def _say_which(used, other):
  logging.warning("cub: there are two layouts: %s is used, and not %s", used, other)


def _missing(folder, name):
  """The error of a file, or of all photos, that a folder lacks."""
  manual_dir = folder.parent
  if folder.name == "cub":
    advice = f"put there {AUTHORS}, or into {manual_dir} {OFFICIAL}"
  else:
    advice = f"put into {manual_dir} {OFFICIAL}, or into {manual_dir / 'cub'} {AUTHORS}"
  return FileNotFoundError(
    f"{folder} has no {name}: {advice}, or give the manual_dir that has them, or {_ELSE}"
  )


def _authors(folder, with_boxes):
  splits = {}
  for split, file in CAPTION_FILES.items():
    paths = sorted(p for p in (folder / split).glob("*/*.jpg") if p.name[0] != ".")
    if not paths:
      raise _missing(folder, f"{split}/<class>/*.jpg")
    if not (folder / file).is_file():
      raise _missing(folder, file)
    captions, boxes = _captions_of_all(folder / file, len(paths)), {}
    names = [path.relative_to(folder / split).as_posix() for path in paths]
    if with_boxes:
      box_file = folder / BOX_FILES[split]
      if not box_file.is_file():
        raise FileNotFoundError(
          f"{folder} has no {box_file.name}, which crop=True needs: write it, a line "
          "`path x y width height` a photo, or set crop=False"
        )
      boxes = _boxes(box_file, "path x y width height")
      _check_boxes(box_file, boxes, names)
    splits[split] = [
      Photo(f"{split}/{name}", path, path.parent.name, said, boxes.get(name))
      for name, path, said in zip(names, paths, captions, strict=True)
    ]
  return Layout(folder, splits)


def _official(folder, with_boxes):
  paths = _table(folder, "images.txt", "image_id path")
  labels = _table(folder, "image_class_labels.txt", "image_id class_id")
  names = _table(folder, "classes.txt", "class_id name")
  text_dir = _of_reed(folder, "text_c10")
  split_of = _splits_of_classes(folder, set(names.values()))
  boxes = {}
  if with_boxes:
    if not (folder / "bounding_boxes.txt").is_file():
      raise FileNotFoundError(
        f"{folder} has no bounding_boxes.txt, which crop=True needs: take it from Caltech's "
        "CUB_200_2011.tgz, or set crop=False"
      )
    boxes = _boxes(folder / "bounding_boxes.txt", "image_id x y width height")
  splits, left_out = {split: [] for split in CLASS_FILES}, 0
  for number, path in paths.items():
    label = names.get(labels.get(number))
    if label != path.rpartition("/")[0]:
      raise ValueError(
        f"{folder / 'image_class_labels.txt'} and classes.txt give image {number} the class "
        f"{label}, but images.txt has it in {path}: take all three from Caltech's CUB_200_2011.tgz"
      )
    if label not in split_of:
      left_out += 1
      continue
    photo, said = folder / "images" / path, text_dir / pathlib.PurePath(path).with_suffix(".txt")
    if not photo.is_file():
      raise _missing(folder, f"images/{path}, which images.txt names")
    if with_boxes and number not in boxes:
      _check_boxes(folder / "bounding_boxes.txt", boxes, [number])
    split = split_of[label]
    splits[split].append(
      Photo(f"{split}/{path}", photo, label, _captions_of_one(said), boxes.get(number))
    )
  for split, photos in splits.items():
    if not photos:
      raise ValueError(f"{folder / 'images.txt'} has no photo of a class of {CLASS_FILES[split]}: "
                       "take both files from the official archives")
    photos.sort(key=lambda photo: photo.path)  # as the authors' layout has them
  if left_out:
    logging.debug("cub: %d photos are of classes in neither split", left_out)
  return Layout(folder, splits)


def _of_reed(folder, name):
  """The path of something of Reed's, wherever it lies."""
  places = [folder.parent / place / name for place in REED_FOLDERS]
  for place in places:
    if place.exists():
      return place
  looked = ", ".join(str(place.parent) for place in places)
  raise FileNotFoundError(
    f"no {name} beside {folder} (looked in {looked}): put there cvpr2016_cub of Reed et al. "
    f"(2016), which has it, or {_ELSE}"
  )


def _splits_of_classes(folder, known):
  """{class: split}."""
  split_of = {}
  for split, file in CLASS_FILES.items():
    path = _of_reed(folder, file)
    names = {line.strip() for line in _lines(path) if line.strip()}
    if not names or not names <= known:
      unknown = f"'{min(names - known)}', which is not in {folder / 'classes.txt'}" if names else (
        "no class")
      raise ValueError(f"{path} names {unknown}: take it from Reed's cvpr2016_cub, a class a line")
    both = sorted(name for name in names if name in split_of)
    if both:
      raise ValueError(
        f"{path} names {both[0]}, and so does {CLASS_FILES['train']}: no class may be in both"
      )
    split_of.update(dict.fromkeys(names, split))
  return split_of


def _table(folder, file, columns):
  """{number: text} of a file with two columns."""
  if not (folder / file).is_file():
    raise _missing(folder, file)
  found = {}
  for line in _lines(folder / file):
    if not line.strip():
      continue
    number, _, text = line.strip().partition(" ")
    if not number.isdigit() or not text.strip() or number in found:
      raise ValueError(f"{folder / file}: expected `{columns}`, each number once, got '{line}'")
    found[number] = text.strip()
  return found


def _lines(path):
  """The lines of a text file, whatever its bytes; ends of lines are \\n or \\r\\n."""
  content = path.read_bytes()
  if b"\0" in content:
    raise ValueError(f"{path} is not text in UTF-8: save it as such")
  text = content.decode("utf-8-sig", errors="replace").removesuffix("\n")
  return [line.removesuffix("\r") for line in text.split("\n")] if text else []


def _captions_of_all(path, num_photos):
  lines = _lines(path)
  if len(lines) != num_photos * CAPTIONS_PER_PHOTO:
    raise ValueError(
      f"{path} has {len(lines)} lines, expected {num_photos * CAPTIONS_PER_PHOTO}: "
      f"{CAPTIONS_PER_PHOTO} for each of {num_photos} photos"
    )
  return [
    tuple(lines[first : first + CAPTIONS_PER_PHOTO])
    for first in range(0, len(lines), CAPTIONS_PER_PHOTO)
  ]


def _captions_of_one(path):
  """The ten captions of a photo; blank lines are none."""
  if not path.is_file():
    raise FileNotFoundError(
      f"{path.parents[1]} has no {path.parent.name}/{path.name}: put there the captions of that "
      "photo, from Reed's cvpr2016_cub"
    )
  captions = tuple(line for line in _lines(path) if line.strip())
  if len(captions) != CAPTIONS_PER_PHOTO:
    raise ValueError(
      f"{path} has {len(captions)} captions, expected {CAPTIONS_PER_PHOTO}, one a line: take the "
      "file from Reed's cvpr2016_cub, or make them ten"
    )
  return captions


def _boxes(path, columns):
  """{first column: (x, y, width, height)}."""
  boxes = {}
  for line in _lines(path):
    if not line.strip():
      continue
    try:
      photo, *box = line.rsplit(maxsplit=4)
      x, y, width, height = map(float, box)
    except ValueError as error:
      raise ValueError(f"{path}: expected `{columns}`, got '{line}'") from error
    boxes[photo.strip()] = (x, y, width, height)
  return boxes


def _check_boxes(path, boxes, names):
  for name in names:
    if name not in boxes:
      what = f"image {name}" if name.isdigit() else name
      raise ValueError(f"{path} has no box for {what}: add its line, or set crop=False")
