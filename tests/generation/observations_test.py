import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_mmvae.data.tokenizer import Tokenizer
from tf_mmvae.generation import observations
from tf_mmvae.generation.observations import Arrays, Pictures, Source, Words

LENGTH = 6


class Stub:
  """As much of a modality as decides what its observations are."""

  def __init__(self, name, shape, dtype="float32"):
    self.name, self.spec = name, tf.TensorSpec([None, *shape], dtype)


@pytest.fixture(scope="module")
def words():
  return Words(Tokenizer(["a", "red", "bird", "."], LENGTH))


def test_the_modality_decides(words):
  def kind(*spec):
    return type(observations.kind_of(Stub(*spec), {"said": words._tokenizer}))

  assert kind("said", (LENGTH,), "int32") is Words
  assert kind("seen", (8, 4, 3)) is Pictures and kind("sound", (8, 4, 1)) is Pictures
  for spec in [("vector", (5,)), ("said too", (LENGTH,), "int32"), ("seen", (8, 4, 5)),
               ("matrix", (3, 4)), ("seen", (8, 4, 3), "int32")]:
    assert kind(*spec) is Arrays


# Words.


def test_a_text(words):
  assert words.sources("A red bird.") == [Source("A-red-bird", "A red bird.")]
  ids = words.read("A red bird.")
  assert (ids.dtype, ids.tolist()) == (np.int32, [3, 4, 5, 6, 1, 0])
  assert words.cell(ids) == "a red bird."


@pytest.mark.parametrize("content", [
    b"a red bird.\n\n a bird\n", b"\xef\xbb\xbfa red bird.\n\n a bird",
    b"a red bird.\r\n\t\r\n a bird"])
def test_a_file_of_texts(words, tmp_path, content):
  path = tmp_path / "my birds.txt"
  path.write_bytes(content)
  assert words.sources(f"@{path}") == [
      Source("my-birds-0001", "a red bird."), Source("my-birds-0003", " a bird")]


@pytest.mark.parametrize("content, said", [
    (b"", "holds no text: expected one sentence a line"),
    (b"\n \n", "holds no text: expected one sentence a line"),
    (b"\xff\xfe\x00a", "is not text in UTF-8: save it as such")])
def test_files_without_texts(words, tmp_path, content, said):
  (tmp_path / "texts").write_bytes(content)
  with pytest.raises(ValueError, match=f"texts {said}$"):
    words.sources(f"@{tmp_path / 'texts'}")


def test_a_file_that_is_missing(words, tmp_path):
  with pytest.raises(FileNotFoundError):
    words.sources(f"@{tmp_path / 'none.txt'}")


@pytest.mark.parametrize("text", ["", " \t", "\u200b"])
def test_an_empty_text(words, text):
  with pytest.raises(ValueError, match="^the text is empty: give at least a word$"):
    words.read(text)


@pytest.mark.parametrize("text, note", [
    ("a red bird.", ""),
    ("A Blue bird, blue", "it does not know 'blue', ','"),
    ("a a a a a", ""),
    ("a a a a a a", "it reads the first 5 words of 6"),
    ("a a a a a new bird", "it does not know 'new' and it reads the first 5 words of 7")])
def test_what_the_model_does_not_see(words, text, note):
  assert words.note(text) == note


# Pictures: left half red, right half blue, drawn in every way that a file may hold them.

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(mode="RGB", left=RED, right=BLUE, size=(40, 20)):
  image = Image.new(mode, size, left)
  image.paste(right, (size[0] // 2, 0, *size))
  return image


def palette_with_transparency():
  image = halves().quantize(4)
  image.info["transparency"] = image.getpixel((39, 0))  # the blue half
  return image


def turned():
  """Stored lying on its side, and EXIF says so."""
  image = halves().transpose(Image.Transpose.ROTATE_90)
  exif = Image.Exif()
  exif[0x0112] = 6  # turn it clockwise to see it
  return image, {"exif": exif}


def sixteen_bits():
  return Image.fromarray(np.repeat([[0] * 20 + [32896] * 20], 20, 0).astype(np.uint16))


CASES = {
    "rgb.png": (halves(), {}, RED, BLUE),
    "rgb.jpg": (halves(), {"quality": 95}, RED, BLUE),
    "rgb.gif": (halves().quantize(4), {}, RED, BLUE),
    "cmyk.jpg": (halves().convert("CMYK"), {"quality": 95}, RED, BLUE),
    "grey.png": (halves("L", 0, 128), {}, (0, 0, 0), (128,) * 3),
    "bits.png": (halves("1", 0, 1), {}, (0, 0, 0), (255,) * 3),
    "rgba.png": (halves("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)), {}, RED, (255,) * 3),
    "half.png": (halves("RGBA", (255, 0, 0, 255), (0, 0, 0, 127)), {}, RED, (128,) * 3),
    "la.png": (halves("LA", (0, 255), (0, 0)), {}, (0, 0, 0), (255,) * 3),
    "palette.png": (palette_with_transparency(), {}, RED, (255,) * 3),
    "deep.png": (sixteen_bits(), {}, (0, 0, 0), (128,) * 3),
    "turned.jpg": (*turned(), RED, BLUE),
}


@pytest.mark.parametrize("name", CASES)
def test_pictures_of_every_mode(tmp_path, name):
  image, options, left, right = CASES[name]
  image.save(tmp_path / name, **options)
  picture = Pictures((8, 8, 3)).read(tmp_path / name)
  assert (picture.shape, picture.dtype) == ((8, 8, 3), np.float32)
  for half, colour in ((picture[:, :2], left), (picture[:, -2:], right)):
    np.testing.assert_allclose(255 * half, np.broadcast_to(colour, half.shape), atol=9)


def test_a_picture_becomes_grey_where_the_model_sees_grey(tmp_path):
  halves("RGB", (255, 255, 255), (0, 0, 0)).save(tmp_path / "a.png")
  picture = Pictures((4, 8, 1)).read(tmp_path / "a.png")
  assert picture.shape == (4, 8, 1)
  np.testing.assert_allclose(picture[:, [0, -1], 0], [[1, 0]] * 4, atol=0.02)


def test_pictures_are_resized_as_training_resizes_them(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, [37, 50, 3], np.uint8)
  Image.fromarray(pixels).save(tmp_path / "a.png")
  resized = Image.fromarray(pixels).resize((12, 9), Image.Resampling.LANCZOS)
  np.testing.assert_array_equal(
      Pictures((9, 12, 3)).read(tmp_path / "a.png"), np.float32(resized) / 255)


def cut_jpeg():
  file = io.BytesIO()
  halves().save(file, "jpeg")
  return file.getvalue()[:-100]


@pytest.mark.parametrize("content", [b"", b"no picture", cut_jpeg()])
def test_damaged_pictures(tmp_path, content):
  (tmp_path / "a.jpg").write_bytes(content)
  with pytest.raises(ValueError, match="a.jpg is not a readable picture: "):
    Pictures((4, 4, 3)).read(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_saved_as_they_are(tmp_path, channels):
  kind = Pictures((4, 5, channels))
  picture = np.random.default_rng(0).integers(0, 256, [4, 5, channels]).astype(np.float32) / 255
  kind.save(picture, tmp_path / "a.png")
  np.testing.assert_allclose(kind.read(tmp_path / "a.png"), picture, atol=1e-6)
  kind.save(picture * 1000 - 500, tmp_path / "b.png")
  assert set(np.unique(kind.read(tmp_path / "b.png"))) <= {0., 1.}


# Arrays.


def test_arrays(tmp_path):
  kind = Arrays((3,), np.float32)
  np.save(tmp_path / "a.npy", np.array([1, 2, 3]))
  values = kind.read(tmp_path / "a.npy")
  assert (values.dtype, values.tolist()) == (np.float32, [1, 2, 3])
  np.testing.assert_array_equal(kind.cell(values), values)
  kind.save(values, tmp_path / "b.npy")
  np.testing.assert_array_equal(kind.read(tmp_path / "b.npy"), values)
  assert Arrays((2,), np.int32).cell(np.array([3, 4])) == "[3 4]"
  assert Arrays((1, 2), np.float32).cell(np.array([[0.5, 1]])) == "[[0.5 1. ]]"


def test_a_viewer_shows_arrays_alone(words):
  """It sees a batch of one; what is read and saved are numbers all the same."""
  viewers = {name: lambda values, given: [f"{values.tolist()} {given}"] for name in "abc"}
  kind = observations.kind_of(Stub("a", (2,)), {}, viewers)
  vector = np.array([1, 2], np.float32)
  assert kind.cell(vector) == "[[1.0, 2.0]] False"
  assert kind.cell(vector, given=True) == "[[1.0, 2.0]] True"
  assert kind.suffix == ".npy"
  assert observations.kind_of(Stub("d", (2,)), {}, viewers).cell(vector) is vector
  said = observations.kind_of(Stub("b", (LENGTH,), "int32"), {"b": words._tokenizer}, viewers)
  assert said.cell(words.read("a bird"), given=True) == "a bird"
  picture = np.zeros([2, 2, 3])
  assert observations.kind_of(Stub("c", (2, 2, 3)), {}, viewers).cell(picture, True) is picture


@pytest.mark.parametrize("array, said", [
    (np.zeros(4), r"is of shape \[4\]: expected numbers of shape \[3\]"),
    (np.array([0, np.nan, 0]), "holds NaN or infinity in float32: "),
    (np.array(["a", "b", "c"]), "holds no numbers: ")])
def test_arrays_that_do_not_fit(tmp_path, array, said):
  np.save(tmp_path / "a.npy", array)
  with pytest.raises(ValueError, match=f"a.npy {said}"):
    Arrays((3,), np.float32).read(tmp_path / "a.npy")


# Folders.


def test_a_folder_and_those_below(tmp_path):
  for name in ["b.JPG", "a b.png", "below/c.jpeg", ".hidden.png", ".git/d.png", "notes.txt",
               "e.npy"]:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
  kind = Pictures((4, 4, 3))
  assert kind.sources(str(tmp_path)) == [
      Source(name, str(tmp_path / path))
      for name, path in [("a-b", "a b.png"), ("b", "b.JPG"), ("below_c", "below/c.jpeg")]]
  (source,) = Arrays((3,), np.float32).sources(str(tmp_path))
  assert source == Source("e", str(tmp_path / "e.npy"))
  assert kind.sources(source.value) == [source]  # a single file is what it is called
  assert kind.note(source.value) == ""


def test_folders_and_files_that_are_not_there(tmp_path, monkeypatch):
  kind = Pictures((4, 4, 3))
  with pytest.raises(ValueError, match="holds no files of .png, .jpg, "):
    kind.sources(str(tmp_path))
  with pytest.raises(FileNotFoundError) as error:
    kind.sources(str(tmp_path / "none.png"))
  assert error.value.filename == str(tmp_path / "none.png")
  monkeypatch.setenv("HOME", str(tmp_path))
  pathlib.Path(tmp_path / "a.png").write_bytes(b"")
  assert kind.sources("~/a.png") == [Source("a", str(tmp_path / "a.png"))]


@pytest.mark.parametrize("text, name", [
    ("A small, red bird.", "A-small-red-bird"), ("../../etc/passwd", "etc-passwd"),
    ("!?", "text"), ("x" * 100, "x" * 60), ("Vögel 3.5", "Vögel-3.5")])
def test_names_of_files(text, name):
  assert observations.file_name(text) == name
