"""Observations from files and text, as a model reads them, and back: pictures, words, arrays."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tf_mmvae import arrays, pictures
from tf_mmvae.modality import Modality
from tf_mmvae.views.drawing import Cell
from tf_mmvae.views.viewers import Viewer


class Source(NamedTuple):
  """Where an observation comes from."""

  name: str  # fit for a file's name
  value: str  # the path of a file, or the text


def kind_of(modality: Modality, tokenizers: Mapping[str, Any],
            viewers: Mapping[str, Viewer] | None = None) -> "Kind":
  """What handles the observations of a modality: `Words`, `Pictures` or `Arrays`.

  Words are those with a tokenizer in {modality: tokenizer}; pictures are float [H, W, 1 or 3].
  Arrays with a viewer in {modality: viewer} are shown by it; see `viewers`.
  """
  shape = tuple(modality.spec.shape[1:])
  if modality.name in tokenizers:
    return Words(tokenizers[modality.name])
  if modality.spec.dtype.is_floating and len(shape) == 3 and shape[2] in (1, 3):
    return Pictures(shape)
  viewer = (viewers or {}).get(modality.name)
  return Arrays(shape, modality.spec.dtype.as_numpy_dtype, viewer)


class Words:
  """Sentences of word ids [L], told in text; `@file.txt` holds one a line."""

  suffix = None  # they need no file

  def __init__(self, tokenizer: Any):
    """`tokenizer`: object with `encode`, `decode`, `split`, `words` and `length`."""
    self._tokenizer = tokenizer

  def sources(self, value: str) -> list[Source]:
    """[Source] of a text, or of each line of `@file.txt` that is not blank.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it holds no text.
    """
    if not value.startswith("@"):
      return [Source(file_name(value), value)]
    path = pathlib.Path(value[1:]).expanduser()
    try:
      lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
      raise ValueError(f"{path} is not text in UTF-8: save it as such") from error
    found = [Source(f"{file_name(path.stem)}-{number:04d}", line)
             for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
      raise ValueError(f"{path} holds no text: expected one sentence a line")
    return found

  def read(self, text: str) -> np.ndarray:
    """Word ids, int32 [L]; raises ValueError for a text without words."""
    if not self._tokenizer.split(text):
      raise ValueError("the text is empty: give at least a word")
    return self._tokenizer.encode(text).numpy()

  def note(self, text: str) -> str:
    """What of a text the model does not see, as a sentence, or ""."""
    words, read = self._tokenizer.split(text), self._tokenizer.length - 1
    unknown = [f"'{word}'" for word in dict.fromkeys(words) if word not in self._tokenizer.words]
    said = [f"it does not know {', '.join(unknown)}"] if unknown else []
    said += [f"it reads the first {read} words of {len(words)}"] if len(words) > read else []
    return " and ".join(said)

  def cell(self, ids: np.ndarray, given: bool = False) -> str:
    """As `drawing.draw_table` takes it."""
    del given
    return self._tokenizer.decode(ids).numpy().decode("utf-8", "replace")


class _Files:
  """Observations that are files, each given by its path, or all of a folder and those below."""

  def sources(self, value):
    """[Source] of a file, or of the files of a folder, sorted; hidden ones are passed over.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the folder holds none.
    """
    path = pathlib.Path(value).expanduser()
    if path.is_file():
      return [Source(file_name(path.stem), str(path))]
    if not path.exists():
      raise FileNotFoundError(2, "No such file or directory", str(path))
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in self.suffixes
                   and not any(part[0] == "." for part in file.relative_to(path).parts))
    if not files:
      raise ValueError(f"{path} holds no files of {', '.join(self.suffixes)}")
    return [Source(file_name("_".join(file.relative_to(path).with_suffix("").parts)), str(file))
            for file in files]

  def note(self, path):
    """Nothing: all of a file is seen."""
    del path
    return ""

  def cell(self, observation, given=False):
    """As `drawing.draw_table` takes it."""
    del given
    return observation


class Pictures(_Files):
  """Pictures [H, W, C] in [0, 1]; files of any size and mode."""

  suffix = ".png"
  suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

  def __init__(self, shape: Sequence[int]):
    self._height, self._width, self._channels = shape

  def read(self, path: str) -> np.ndarray:
    """float32 [H, W, C]: the whole picture, turned as its EXIF data say and resized by Lanczos.

    Raises:
      ValueError: if the file is no picture, or damaged.
    """
    return pictures.read(path, (self._height, self._width, self._channels)).astype(np.float32) / 255

  def save(self, observation: np.ndarray, path: str) -> None:
    """Writes a picture as PNG."""
    pixels = np.clip(observation * 255 + 0.5, 0, 255).astype(np.uint8)
    Image.fromarray(pixels if self._channels == 3 else pixels[..., 0]).save(path)


class Arrays(_Files):
  """Arrays of numbers, such as vectors; files of NumPy."""

  suffix = ".npy"
  suffixes = (".npy",)

  def __init__(self, shape: Sequence[int], dtype: type, viewer: Viewer | None = None):
    self._shape, self._dtype, self._viewer = shape, dtype, viewer

  def read(self, path: str) -> np.ndarray:
    """An array of the modality's shape; raises ValueError for another, or one with NaN."""
    return arrays.read(path, self._shape, self._dtype)

  def save(self, observation: np.ndarray, path: str) -> None:
    """Writes an array."""
    np.save(path, observation)

  def cell(self, observation: np.ndarray, given: bool = False) -> Cell:
    """As `drawing.draw_table` takes it: a float vector is drawn, others are written.

    A viewer decides for itself; `given` tells it that this is data, and not what a model made.
    """
    if self._viewer:
      return self._viewer(observation[np.newaxis], given)[0]
    if observation.ndim == 1 and observation.dtype.kind == "f":
      return observation
    return np.array2string(observation, precision=3, threshold=20)


Kind = Words | Pictures | Arrays


def file_name(text: str) -> str:
  """A text as part of a file's name: letters, numbers, dots and dashes, at most 60."""
  return re.sub(r"[^\w.]+", "-", text).strip("-.")[:60] or "text"
