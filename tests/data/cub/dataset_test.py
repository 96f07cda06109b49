import os
import pathlib
import shutil

import numpy as np
import pytest
from absl import logging
from PIL import Image

from tf_mmvae.data import tokenizer
from tf_mmvae.data.cub import dataset as cub
from tf_mmvae.data.cub import layouts

NUM_PHOTOS = {"train": 6, "test": 2}  # of each class
CLASSES = ["001.Albatross", "002.Auk"]
COLOURS = [(200, 30, 30), (30, 30, 200)]
ROOT = pathlib.Path(__file__).parents[3]
REAL_DATA = pathlib.Path(os.environ.get("TF_MMVAE_TEST_DATA", ROOT.parent / "shared" / "data"))


def write_source(manual_dir, word="bird"):
  """Photos of one colour a class; their captions name split, class, photo and caption."""
  for split, num_photos in NUM_PHOTOS.items():
    captions, boxes = [], []
    for name, colour in zip(CLASSES, COLOURS, strict=True):
      folder = manual_dir / "cub" / split / name
      folder.mkdir(parents=True)
      for photo in range(num_photos):
        Image.new("RGB", (90, 60), colour).save(folder / f"{photo}.jpg", quality=95)
        captions += [f"{word} {split} {name} {photo} {i}"
                     for i in range(layouts.CAPTIONS_PER_PHOTO)]
        boxes.append(f"{name}/{photo}.jpg 30.5 20 20 30")
    (manual_dir / "cub" / layouts.CAPTION_FILES[split]).write_text("\n".join(captions) + "\n")
    (manual_dir / "cub" / layouts.BOX_FILES[split]).write_text("\n".join(boxes) + "\n")


@pytest.fixture
def folder(tmp_path):
  write_source(tmp_path / "manual")
  return tmp_path / "manual"


@pytest.fixture
def words():
  return tokenizer.Tokenizer(["bird", "train", "test"], length=8)


def whole(data):
  ((x, y, _),) = list(data.batches(100_000))
  return (
    {name: value.numpy() for name, value in x.items()},
    {name: value.numpy() for name, value in y.items()},
  )


def file_names(source, split):
  return cub.photos(source, split)["file_name"].tolist()


def test_photos_meet_their_captions(folder, words, tmp_path):
  source = cub.Source(folder, tmp_path / "data")
  for split, num_photos in NUM_PHOTOS.items():
    data = cub.examples(source, split, words)
    x, y = whole(data)
    expected = [
      f"bird {split} {name} {photo} {i}"
      for name in CLASSES
      for photo in range(num_photos)
      for i in range(layouts.CAPTIONS_PER_PHOTO)
    ]
    assert data.num_examples == len(expected)
    assert [caption.decode() for caption in y["caption"]] == expected
    assert cub.captions(source, split) == expected
    assert y["class"].tolist() == [CLASSES.index(caption.split()[2]) for caption in expected]
    assert y["image_index"].tolist() == np.repeat(np.arange(2 * num_photos), 10).tolist()
    colours = np.array(COLOURS)[y["class"]][:, None, None] / 255.0
    assert x["image"].shape == (len(expected), 64, 64, 3)
    np.testing.assert_allclose(x["image"], np.broadcast_to(colours, x["image"].shape), atol=0.02)
    np.testing.assert_array_equal(x["sentence"], words.encode(expected))


def test_captions_follow_the_order_of_paths(folder, tmp_path):
  # By file name alone, 0.jpg of the second class would come before 1.jpg of the first.
  names = file_names(cub.Source(folder, tmp_path / "data"), "train")
  assert names == [f"train/{c}/{i}.jpg".encode() for c in CLASSES for i in range(6)]


def test_default_folder_is_the_manual_folder_of_tfds(words, tmp_path):
  write_source(tmp_path / "downloads" / "manual")
  assert cub.examples(cub.Source(data_dir=tmp_path), "test", words).num_examples == 40


def test_another_source_is_another_data_set(folder, tmp_path):
  data_dir = tmp_path / "data"
  first = cub.captions(cub.Source(folder, data_dir), "test")
  write_source(tmp_path / "other", word="fish")
  other = cub.Source(tmp_path / "other", data_dir)
  assert cub.captions(other, "test")[0].startswith("fish")
  assert cub.captions(cub.Source(folder, data_dir), "test") == first
  assert len(list((data_dir / "cub").iterdir())) == 2
  photos = folder / "cub" / "test"
  (photos / CLASSES[1] / "1.jpg").rename(photos / CLASSES[0] / "9.jpg")
  cub.captions(cub.Source(folder, data_dir), "test")
  assert len(list((data_dir / "cub").iterdir())) == 3


def test_a_prepared_data_set_is_used_again(folder, tmp_path, monkeypatch):
  first = cub.captions(cub.Source(folder, tmp_path / "data"), "test")
  shutil.copytree(folder, tmp_path / "moved")
  monkeypatch.setattr(cub, "_read_photo", lambda *args: pytest.fail("prepared again"))
  assert cub.captions(cub.Source(tmp_path / "moved", tmp_path / "data"), "test") == first


def test_another_process_may_prepare_it_meanwhile(folder, tmp_path, monkeypatch):
  read_photo = cub._read_photo

  def overtaken(*args):
    monkeypatch.setattr(cub, "_read_photo", read_photo)
    cub.captions(cub.Source(folder, tmp_path / "data"), "test")
    return read_photo(*args)

  monkeypatch.setattr(cub, "_read_photo", overtaken)
  assert len(cub.captions(cub.Source(folder, tmp_path / "data"), "test")) == 40


def test_crop(folder, words, tmp_path):
  # A white bird in the box, on the red of the background.
  for path in folder.glob("cub/*/*/*.jpg"):
    image = Image.new("RGB", (90, 60), (200, 30, 30))
    image.paste((255, 255, 255), (30, 20, 50, 50))
    image.save(path, quality=95)
  white = {}
  for crop in (False, True):
    x, _ = whole(cub.examples(cub.Source(folder, tmp_path / "data", crop), "test", words))
    white[crop] = np.mean(x["image"][0, :, :, 1] > 0.5)
  assert white[False] == pytest.approx(20 * 30 / (90 * 60), abs=0.02)
  assert white[True] == pytest.approx(20 * 30 / 33**2, abs=0.03)


@pytest.mark.parametrize(
  "box, expected",
  [
    ((40, 40, 20, 10), (39, 34, 61, 56)),  # room on all sides
    ((0, 40, 20, 10), (0, 34, 22, 56)),  # at the left edge
    ((80, 80, 20, 20), (78, 78, 100, 100)),  # in the corner
    ((0, 0, 100, 50), (0, 0, 100, 80)),  # larger than the photo
  ],
)
def test_square_around(box, expected):
  height = 80 if box[2] == 100 else 100
  assert cub._square_around(box, 100, height) == pytest.approx(expected)


def test_crop_needs_boxes(folder, words, tmp_path):
  boxes = folder / "cub" / "test_bounding_boxes.txt"
  text = boxes.read_text()
  boxes.write_text(text.replace("002.Auk/1.jpg", "002.Auk/7.jpg"))
  with pytest.raises(ValueError, match="test_bounding_boxes.txt has no box for 002.Auk/1.jpg"):
    cub.Source(folder, tmp_path / "data", crop=True)
  boxes.write_text(text.replace("30.5 20", "30.5"))
  with pytest.raises(ValueError, match="expected `path x y width height`, got '001.Albatross/0.jp"):
    cub.Source(folder, tmp_path / "data", crop=True)
  boxes.unlink()
  with pytest.raises(FileNotFoundError, match="has no test_bounding_boxes.txt, which crop=True"):
    cub.Source(folder, tmp_path / "data", crop=True)
  source = cub.Source(folder, tmp_path / "data")
  assert cub.examples(source, "train", words).num_examples == 120


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_photos_of_other_modes(folder, words, tmp_path, mode):
  path = folder / "cub" / "test" / CLASSES[0] / "0.jpg"
  image = Image.new("RGB", (50, 40), (204, 204, 204)).convert(mode)
  image.save(path, "JPEG" if mode in ("L", "CMYK") else "PNG")
  x, _ = whole(cub.examples(cub.Source(folder, tmp_path / "data"), "test", words))
  np.testing.assert_allclose(x["image"][0], np.full([64, 64, 3], 0.8), atol=0.03)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_photo_is_named(folder, tmp_path, damage):
  path = folder / "cub" / "train" / CLASSES[1] / "3.jpg"
  content = path.read_bytes()
  path.write_bytes({"truncated": content[: len(content) // 2], "text": b"no", "empty": b""}[damage])
  with pytest.raises(ValueError, match=r"^\S+002.Auk/3.jpg is not a readable photo: [^\n]+$"):
    cub.Source(folder, tmp_path / "data")
  assert not list((tmp_path / "data").glob("cub/*/1.0.0"))


@pytest.mark.parametrize("missing", ["", "cub", "cub/train", "cub/test", "cub/test/*/*.jpg"])
def test_missing_photos(folder, tmp_path, missing):
  for path in [folder / missing] if "*" not in missing else folder.glob(missing):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  with pytest.raises(FileNotFoundError) as error:
    cub.Source(folder, tmp_path / "data")
  message = str(error.value)
  for part in (f"{folder / 'cub'} has no ", "/<class>/*.jpg", "Reed", "cub.zip", "toy_birds"):
    assert part in message
  assert "\n" not in message
  assert not (tmp_path / "data").exists()


def test_missing_captions(folder, tmp_path):
  (folder / "cub" / "text_testclasses.txt").unlink()
  with pytest.raises(FileNotFoundError, match="cub has no text_testclasses.txt: put there"):
    cub.Source(folder, tmp_path / "data")


@pytest.mark.parametrize("change, found", [(lambda t: t + "one more\n", 121), (lambda t: "", 0)])
def test_a_wrong_number_of_captions(folder, tmp_path, change, found):
  path = folder / "cub" / "text_trainvalclasses.txt"
  path.write_text(change(path.read_text()))
  message = f"text_trainvalclasses.txt has {found} lines, expected 120: 10 for each of 12 photos"
  with pytest.raises(ValueError, match=message):
    cub.Source(folder, tmp_path / "data")


@pytest.mark.parametrize("split", ["valid", "train[5", "train[:0]", "", None, ["train"]])
def test_bad_split(folder, words, tmp_path, split):
  source = cub.Source(folder, tmp_path / "data")
  with pytest.raises(ValueError, match="cub has no photos in split .*: give 'train'"):
    cub.examples(source, split, words)


def test_slices_are_disjoint(folder, tmp_path):
  source = cub.Source(folder, tmp_path / "data")
  first, second, both = [
    file_names(source, split)
    for split in ("train[:50%]", "train[50%:]", "train+test")
  ]
  assert len(first) == len(second) == 6
  assert set(first).isdisjoint(second)
  assert len(both) == len(set(both)) == 16
  assert both == sorted(both)


def test_odd_bytes_and_hidden_files(folder, tmp_path):
  path = folder / "cub" / "text_testclasses.txt"
  path.write_bytes(path.read_bytes().replace(b"\n", b"\xa0\xff\x85\x0c\n", 3))
  (folder / "cub" / "test" / CLASSES[0] / "._0.jpg").write_bytes(b"")
  captions = cub.captions(cub.Source(folder, tmp_path / "data"), "test")
  assert len(captions) == 40
  assert captions[0].startswith("bird test 001.Albatross 0 0")


def test_quiet(folder, words, tmp_path, capfd, caplog):
  before = logging.get_verbosity()
  logging.set_verbosity(logging.DEBUG)
  try:
    cub.examples(cub.Source(folder, tmp_path / "data"), "test", words)
    assert logging.get_verbosity() == logging.DEBUG
  finally:
    logging.set_verbosity(before)
  of_cub = [r.getMessage() for r in caplog.records if r.getMessage().startswith("cub: ")]
  assert len(of_cub) == 1 and of_cub[0].startswith("cub: 4 photos in 'test', from ")
  assert not [r for r in caplog.records if r.levelname != "DEBUG"]
  out, err = capfd.readouterr()
  assert out == ""
  assert "examples" not in err and "splits" not in err  # the words of progress bars


@pytest.mark.skipif(not (REAL_DATA / "cub").is_dir(), reason="no photographs of birds here")
def test_real_birds(tmp_path):
  source = cub.Source(REAL_DATA, tmp_path)
  captions = cub.captions(source, "train")
  words = tokenizer.run_tokenizer(lambda: captions)
  assert words.vocabulary_size > 300
  data = [cub.examples(source, split, words)
          for split in ("train", "train[:75%]", "train[75%:]")]
  train, some, rest = [whole(pairs.subset(range(0, pairs.num_examples, 10))) for pairs in data]
  (x, y), classes = train, set(train[1]["class"])
  assert y["caption"].tolist() == [caption.encode() for caption in captions[::10]]
  assert len(some[1]["class"]) + len(rest[1]["class"]) == len(y["class"])
  assert set(some[1]["class"]) == set(rest[1]["class"]) == classes
  assert np.mean(x["sentence"] == tokenizer.UNKNOWN) < 0.01
  assert 0.2 < x["image"].mean() < 0.8 and x["image"].std() > 0.1
