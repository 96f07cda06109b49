"""Tables of pictures, words and vectors, drawn as one picture."""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIZE, _MARGIN, _INK, _PAPER = 128, 10, (40, 40, 40), (255, 255, 255)


def draw_table(columns):
  """{title: cells, strings or pictures [H, W, C] in [0, 1]} -> uint8 [height, width, 3]."""
  font = ImageFont.load_default(12)
  num_rows = len(next(iter(columns.values())))
  widths = [_SIZE if not isinstance(cells[0], str) else 180 for cells in columns.values()]
  width = sum(widths) + _MARGIN * (len(widths) + 1)
  page = Image.new("RGB", (width, 30 + num_rows * (_SIZE + _MARGIN)), _PAPER)
  pen = ImageDraw.Draw(page)
  left = _MARGIN
  for (title, cells), column_width in zip(columns.items(), widths, strict=True):
    pen.text((left, 8), title, _INK, font)
    for row, cell in enumerate(cells):
      top = 30 + row * (_SIZE + _MARGIN)
      drawn = _words(cell, column_width, font) if isinstance(cell, str) else _picture(cell)
      page.paste(drawn, (left, top))
    left += column_width + _MARGIN
  return np.asarray(page)


def _words(text, width, font):
  """A cell of text, cut where the cell ends."""
  cell = Image.new("RGB", (width, _SIZE), _PAPER)
  ImageDraw.Draw(cell).multiline_text((0, 4), textwrap.fill(text, 29), _INK, font)
  return cell


def _picture(values):
  values = np.asarray(values, np.float32)
  if values.ndim == 1:  # a vector as grey stripes between its extremes
    spread = max(np.ptp(values), 1e-6)
    values = np.tile((values - values.min()) / spread, (len(values), 1))[..., np.newaxis]
  pixels = np.clip(np.asarray(values) * 255 + 0.5, 0, 255).astype(np.uint8)
  if pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  return Image.fromarray(pixels).convert("RGB").resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
