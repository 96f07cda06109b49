"""Picture files of any size and mode as arrays of one shape."""

import os

import numpy as np
from PIL import Image, ImageOps


def read(path: str | os.PathLike, shape: tuple[int, int, int]) -> np.ndarray:
  """A whole picture, turned as its EXIF data say, on white where transparent, resized by Lanczos.

  Args:
    path: of a file that Pillow reads.
    shape: (H, W, C) of the result; C = 1 for grey, 3 for colours.

  Returns:
    uint8 [H, W, C].

  Raises:
    ValueError: if the file is no picture, or damaged.
  """
  height, width, channels = shape
  try:
    with Image.open(path) as image:
      image = _opaque(ImageOps.exif_transpose(image)).convert("RGB" if channels == 3 else "L")
  except Exception as error:  # Pillow's decoders raise a score of kinds for damaged files
    reason = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"{path} is not a readable picture: {reason}") from error
  image = image.resize((width, height), Image.Resampling.LANCZOS)
  return np.asarray(image, np.uint8).reshape([height, width, channels])


def size(path: str | os.PathLike) -> tuple[int, int]:
  """(width, height) of a picture as its file has it, in pixels."""
  with Image.open(path) as image:
    return image.size


def _opaque(image):
  """The same picture on white, with 8 bits a channel."""
  if image.mode.startswith("I"):  # 16 bits of grey, which PIL would cut off at 255
    return Image.fromarray((np.asarray(image).clip(0, 65535) / 257 + 0.5).astype(np.uint8))
  if not image.has_transparency_data:
    return image
  image = image.convert("RGBA")
  return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
