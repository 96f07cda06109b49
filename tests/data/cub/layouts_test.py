"""The two layouts of one source: equal data, and a sentence for whatever is missing or damaged."""

import re
import shutil

import numpy as np
import pytest

from tests.data.cub import dataset_test as cub_test
from tf_mmvae.data import tokenizer
from tf_mmvae.data.cub import dataset as cub
from tf_mmvae.data.cub import layouts

OTHER = "003.Crow"  # a class of neither split


def write_official(authors, manual_dir, reed="cvpr2016_cub"):
  """The official layout of photos that lie in the authors', where no class is in both splits."""
  folder, texts = manual_dir / "CUB_200_2011", manual_dir / reed
  texts.mkdir(parents=True, exist_ok=True)
  source = layouts.read(authors, boxes=True)
  classes = [*source.classes, OTHER]
  photos = [p for of in source.splits.values() for p in of][::-1]
  tables = {name: [] for name in ("images", "image_class_labels", "bounding_boxes")}
  for number, photo in enumerate(photos, 1):  # in the opposite order
    path = photo.name.split("/", 1)[1]
    for place in (folder / "images" / path, texts / "text_c10" / path):
      place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo.path, folder / "images" / path)
    text = (texts / "text_c10" / path).with_suffix(".txt")
    text.write_text("\n".join(photo.captions) + "\n")
    tables["images"].append(f"{number} {path}")
    tables["image_class_labels"].append(f"{number} {classes.index(photo.label) + 1}")
    tables["bounding_boxes"].append(f"{number} {' '.join(map(str, photo.box))}")
  tables["images"].append(f"{len(photos) + 1} {OTHER}/x.jpg")
  tables["image_class_labels"].append(f"{len(photos) + 1} {len(classes)}")
  tables["classes"] = [f"{i} {name}" for i, name in enumerate(classes, 1)]
  for name, lines in tables.items():
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
  for split, file in layouts.CLASS_FILES.items():
    names = sorted({photo.label for photo in source.splits[split]})
    (texts / file).write_text("\n".join(names) + "\n")


@pytest.fixture
def authors(tmp_path):
  """The authors' layout, the first class to train on and the second to test."""
  cub_test.write_source(tmp_path / "authors")
  folder = tmp_path / "authors" / "cub"
  for split, other in (("train", cub_test.CLASSES[1]), ("test", cub_test.CLASSES[0])):
    shutil.rmtree(folder / split / other)
    for file in (layouts.CAPTION_FILES[split], layouts.BOX_FILES[split]):
      lines = (folder / file).read_text().splitlines(True)
      (folder / file).write_text("".join(line for line in lines if other not in line))
  return tmp_path / "authors"


@pytest.fixture
def official(authors, tmp_path):
  write_official(authors, tmp_path / "official")
  return tmp_path / "official"


@pytest.mark.parametrize("crop", [False, True])
def test_both_layouts_give_the_same(authors, official, tmp_path, crop):
  words = tokenizer.Tokenizer(["bird", "train", "test"], length=8)
  sources = [cub.Source(folder, tmp_path / folder.name, crop) for folder in (authors, official)]
  for split in ("train", "test", "train[50%:]"):
    made = [cub_test.whole(cub.examples(source, split, words))
            for source in sources]
    for first, second in zip(*made, strict=True):
      assert first.keys() == second.keys()
      for name in first:
        np.testing.assert_array_equal(first[name], second[name])
  assert len(made[0][1]["caption"]) == 30
  assert (layouts.read(authors, True).splits["test"][1]._replace(path=None)
          == layouts.read(official, True).splits["test"][1]._replace(path=None))


def test_one_source_is_prepared_once_whatever_its_layout(authors, official, tmp_path, monkeypatch):
  first = cub.captions(cub.Source(authors, tmp_path / "data"), "test")
  monkeypatch.setattr(cub, "_read_photo", lambda *args: pytest.fail("prepared again"))
  assert cub.captions(cub.Source(official, tmp_path / "data"), "test") == first


def test_the_fingerprint_changes_with_the_source(official):
  before = layouts.read(official, True).fingerprint()
  assert layouts.read(official, False).fingerprint() != before
  changes = [("CUB_200_2011/bounding_boxes.txt", "30.5", "30.25"),
             ("cvpr2016_cub/text_c10/001.Albatross/0.txt", "bird", "fish"),
             ("CUB_200_2011/classes.txt", "003.Crow", "003.Raven")]
  for file, old, new in changes:
    text = (official / file).read_text()
    (official / file).write_text(text.replace(old, new, 1))
    if "Raven" in new:  # of neither split
      with pytest.raises(ValueError, match="but images.txt has it in 003.Crow/x.jpg"):
        layouts.read(official, True)
    else:
      assert layouts.read(official, True).fingerprint() != before
    (official / file).write_text(text)
  assert layouts.read(official, True).fingerprint() == before


@pytest.mark.parametrize("reed", layouts.REED_FOLDERS)
def test_where_the_captions_may_lie(authors, tmp_path, reed):
  write_official(authors, tmp_path / "official", reed)
  assert {split: len(photos) for split, photos in
          layouts.read(tmp_path / "official").splits.items()} == {"train": 6, "test": 2}


def test_of_two_layouts_the_authors_is_used_and_it_is_said(authors, caplog):
  write_official(authors, authors)
  for _ in range(2):
    assert layouts.read(authors).folder == authors / "cub"
  said = [record.getMessage() for record in caplog.records]
  assert said == [f"cub: there are two layouts: {authors / 'cub'} is used, and not "
                  f"{authors / 'CUB_200_2011'}"]
  shutil.rmtree(authors / "cub" / "train")  # what is there in part is named, not passed over
  with pytest.raises(FileNotFoundError, match=r"cub has no train/<class>/\*.jpg: put there the"):
    layouts.read(authors)
  shutil.rmtree(authors / "cub")
  assert layouts.read(authors).folder == authors / "CUB_200_2011"


def test_neither_layout(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    layouts.read(tmp_path)
  for part in (f"{tmp_path}/cub has no train/", "cub.zip", f"into {tmp_path} Caltech's",
               "CUB_200_2011.tgz", "cvpr2016_cub", "or give the manual_dir that",
               "or use the data set toy_birds, which needs no files"):
    assert part in str(error.value)


@pytest.mark.parametrize("missing, said", [
    ("CUB_200_2011/images.txt", r"CUB_200_2011 has no images.txt: put into \S+official Caltech's"),
    ("CUB_200_2011/image_class_labels.txt", "CUB_200_2011 has no image_class_labels.txt: put into"),
    ("CUB_200_2011/classes.txt", "CUB_200_2011 has no classes.txt: put into "),
    ("CUB_200_2011/bounding_boxes.txt", "CUB_200_2011 has no bounding_boxes.txt, which crop=True "
     "needs: take it from Caltech's CUB_200_2011.tgz, or set crop=False"),
    ("CUB_200_2011/images/002.Auk/1.jpg",
     "CUB_200_2011 has no images/002.Auk/1.jpg, which images.txt names: put into"),
    ("cvpr2016_cub/text_c10/002.Auk/1.txt",
     "text_c10 has no 002.Auk/1.txt: put there the captions of that photo"),
    ("cvpr2016_cub/text_c10", r"no text_c10 beside \S+CUB_200_2011 \(looked in \S+cvpr2016_cub, "
     r"\S+cub, \S+official, \S+CUB_200_2011\): put there cvpr2016_cub of Reed"),
    ("cvpr2016_cub/trainvalclasses.txt", "no trainvalclasses.txt beside "),
    ("cvpr2016_cub/testclasses.txt", "no testclasses.txt beside "),
])
def test_what_is_missing(official, missing, said):
  path = official / missing
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  with pytest.raises(FileNotFoundError, match=said) as error:
    layouts.read(official, boxes=True)
  assert "\n" not in str(error.value)


ONE = "cvpr2016_cub/text_c10/001.Albatross/3.txt"


@pytest.mark.parametrize("file, change, said", [
    (ONE, lambda b: b + b"one more\n", "3.txt has 11 captions, expected 10, one a line: take the"),
    (ONE, lambda b: b.split(b"\n", 1)[1], "3.txt has 9 captions, expected 10"),
    (ONE, lambda b: b.replace(b"bird train 001.Albatross 3 4", b" ", 1), "has 9 captions"),
    (ONE, lambda b: b"", "3.txt has 0 captions"),
    (ONE, lambda b: b.decode().encode("utf-16"), "3.txt is not text in UTF-8: save it as such"),
    ("CUB_200_2011/images.txt", lambda b: b.replace(b"1 ", b"one ", 1),
     "images.txt: expected `image_id path`, each number once, got 'one 00"),
    ("CUB_200_2011/images.txt", lambda b: b + b.split(b"\n")[0],
     "images.txt: expected `image_id path`, each number once, got '1 00"),
    ("CUB_200_2011/images.txt", lambda b: b"9 003.Crow/x.jpg\n",
     "images.txt has no photo of a class of trainvalclasses.txt"),
    ("CUB_200_2011/image_class_labels.txt", lambda b: b.split(b"\n", 1)[1],
     "image_class_labels.txt and classes.txt give image 1 the class None, but"),
    ("CUB_200_2011/classes.txt", lambda b: b.replace(b"002.Auk", b"002.Awk"),
     "testclasses.txt names '002.Auk', which is not in "),
    ("CUB_200_2011/bounding_boxes.txt", lambda b: b.replace(b"30.5", b"wide", 1),
     "bounding_boxes.txt: expected `image_id x y width height`, got '1 wide"),
    ("CUB_200_2011/bounding_boxes.txt", lambda b: b.split(b"\n", 1)[1],
     "bounding_boxes.txt has no box for image 1: add its line, or set crop=False"),
    ("cvpr2016_cub/testclasses.txt", lambda b: b"\n", "testclasses.txt names no class: take it"),
    ("cvpr2016_cub/testclasses.txt", lambda b: b + b"001.Albatross\n",
     "testclasses.txt names 001.Albatross, and so does trainvalclasses.txt"),
])
def test_what_is_damaged(official, file, change, said):
  before = (official / file).read_bytes()
  (official / file).write_bytes(change(before))
  assert (official / file).read_bytes() != before
  with pytest.raises(ValueError, match=re.escape(said)) as error:
    layouts.read(official, boxes=True)
  assert "\n" not in str(error.value)


def test_blank_lines_ends_of_lines_and_odd_bytes_are_no_damage(official):
  before = layouts.read(official, boxes=True)
  for path in official.rglob("*.txt"):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n \r\n")
  assert layouts.read(official, boxes=True).fingerprint() == before.fingerprint()
  path = official / ONE
  path.write_bytes(path.read_bytes().replace(b" 3 ", b" \x85\xff\x0c ", 3))
  captions = [p for p in layouts.read(official).splits["train"] if p.path.stem == "3"][0][3]
  assert len(captions) == 10 and captions[9] == "bird train 001.Albatross 3 9"


@pytest.mark.skipif(not (cub_test.REAL_DATA / "cub").is_dir(), reason="no photographs of birds")
def test_real_birds_in_both_layouts(tmp_path):
  """Real photos, captions and boxes of a few classes, which are in one split each."""
  source = layouts.read(cub_test.REAL_DATA, boxes=True)
  keep = dict(zip(source.classes[:4], ["train", "test"] * 2, strict=True))
  for split, photos in source.splits.items():
    photos = [photo for photo in photos if keep.get(photo.label) == split]
    folder = tmp_path / "authors" / "cub"
    for photo in photos:
      (folder / photo.name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(photo.path, folder / photo.name)
    (folder / layouts.CAPTION_FILES[split]).write_text(
        "".join(f"{line}\n" for photo in photos for line in photo.captions))
    (folder / layouts.BOX_FILES[split]).write_text("".join(
        f"{photo.name.split('/', 1)[1]} {' '.join(map(str, photo.box))}\n" for photo in photos))
  write_official(tmp_path / "authors", tmp_path / "official")
  first, second = (cub.photos(cub.Source(tmp_path / name, tmp_path / name, crop=True), "test")
                   for name in ("authors", "official"))
  for name in first:
    np.testing.assert_array_equal(first[name], second[name])
  assert len(first["image"]) > 10
