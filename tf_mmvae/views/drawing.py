"""Tables of pictures, words and vectors, drawn as one picture."""

import textwrap
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Cell = str | np.ndarray | Image.Image | None  # as `draw_table` takes it

_SIZE, _MARGIN, _GAP = 128, 10, 3  # pixels
_FONT, _LETTERS = 16, 30  # pixels, and letters of a line
_INK, _BARS, _PAPER, _GIVEN = (40, 40, 40), (70, 110, 170), (255, 255, 255), (226, 234, 246)


def draw_table(columns: Mapping[str, Sequence[Cell]], given: Collection[str] = ()) -> np.ndarray:
  """Draws a table whose rows are as high, and columns as wide, as what they hold.

  Args:
    columns: {title: cells}. A cell is a string, whose lines are wrapped; a picture [H, W, C] in
      [0, 1]; a vector [N], drawn as bars with its least and largest value below; a `PIL.Image`,
      taken as it is; or None, which leaves it empty.
    given: titles of the columns that stand on blue ground: what the others were made from.

  Returns:
    uint8 [height, width, 3].
  """
  grounds = [_GIVEN if title in given else _PAPER for title in columns]
  table = [[_words(title, ground), *(draw_cell(cell, ground) for cell in cells)]
           for (title, cells), ground in zip(columns.items(), grounds, strict=True)]
  widths = [max(cell.width for cell in column) + _MARGIN for column in table]
  heights = [max(cell.height for cell in row) + _MARGIN for row in zip(*table, strict=True)]
  page = Image.new("RGB", (sum(widths), sum(heights)), _PAPER)
  left = 0
  for column, width, ground in zip(table, widths, grounds, strict=True):
    page.paste(ground, (left, 0, left + width, page.height))
    top = 0
    for cell, height in zip(column, heights, strict=True):
      page.paste(cell, (left + _MARGIN // 2, top + _MARGIN // 2))
      top += height
    left += width
  return np.asarray(page)


def draw_cell(cell: Cell, ground: tuple[int, int, int] = _PAPER) -> Image.Image:
  """A string, a picture, a vector or None, as in `draw_table`, as a `PIL.Image`."""
  if isinstance(cell, Image.Image):
    return cell
  if cell is None or isinstance(cell, str):
    return _words(cell or "", ground)
  cell = np.nan_to_num(np.asarray(cell, np.float32))
  return _bars(cell, ground) if cell.ndim == 1 else _picture(cell)


def draw_tile(cell: Cell, size: int) -> np.ndarray:
  """A cell in a square: uint8 [size, size, 3]. Words are small, and cut where the square ends."""
  ground = _GIVEN if isinstance(cell, str) else _PAPER
  tile = Image.new("RGB", (size, size), ground)
  if isinstance(cell, str):
    font = ImageFont.load_default(10)
    ImageDraw.Draw(tile).multiline_text((2, 0), textwrap.fill(cell, size // 5), _INK, font)
  else:
    drawn = draw_cell(cell)
    drawn.thumbnail((size, size))
    tile.paste(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
  return np.asarray(tile)


def draw_strip(cells: Sequence[Cell], size: int) -> Image.Image:
  """Cells side by side, as a `PIL.Image` of tiles of `size` pixels."""
  strip = Image.new("RGB", ((size + _GAP) * len(cells) - _GAP, size), _PAPER)
  for i, cell in enumerate(cells):
    strip.paste(Image.fromarray(draw_tile(cell, size)), (i * (size + _GAP), 0))
  return strip


def draw_bars(values: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray],
              height: int = 140) -> np.ndarray:
  """Vectors as bars from 0, below one another at one scale, with whiskers and numbered columns.

  Args:
    values: {title: float [N]}, at least 0.
    errors: {title: float [N]}; whiskers are 2 of them long each way, and none where NaN.
    height: pixels of the largest.

  Returns:
    uint8 [height, width, 3].
  """
  font, small = ImageFont.load_default(_FONT), ImageFont.load_default(11)
  highest = max(np.max(v + 2 * np.nan_to_num(errors[title])) for title, v in values.items())
  scale = height / max(highest, 1e-30)
  num = max(len(v) for v in values.values())
  left, step = 60, min(max(1200 // num, 6), 30)
  row = height + 3 * _FONT + _MARGIN
  page = Image.new("RGB", (left + step * num + _MARGIN, row * len(values)), _PAPER)
  pen = ImageDraw.Draw(page)
  for i, (title, bars) in enumerate(values.items()):
    pen.text((4, i * row), title, _INK, font)
    zero = i * row + height + _FONT + _MARGIN
    for level in (0., highest / 2, highest):
      y = zero - level * scale
      pen.line((left, y, page.width, y), (220, 220, 220))
      pen.text((4, y - 6), f"{level:.3g}", _INK, small)
    for d, (value, error) in enumerate(zip(bars, errors[title], strict=True)):
      x = left + d * step
      pen.rectangle((x + 2, zero - value * scale, x + step - 2, zero), _BARS)
      if np.isfinite(error):
        ends = [zero - max(value + sign * error, 0.) * scale for sign in (2, -2)]
        pen.line((x + step // 2, ends[0], x + step // 2, ends[1]), _INK)
      if d % -(-18 // step) == 0:
        pen.text((x + 2, zero + 2), str(d), _INK, small)
  return np.asarray(page)


def draw_words(text: str, letters: int, size: int) -> Image.Image:
  """Text in lines of so many letters and of a size in pixels, as a `PIL.Image`."""
  return _words(text, _PAPER, letters, size)


def _words(text, ground, letters=_LETTERS, size=_FONT):
  """Text in lines; the cell is as large as it needs."""
  font = ImageFont.load_default(size)
  text = "\n".join(textwrap.fill(line, letters) for line in text.splitlines())
  measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
  _, _, right, bottom = measure.multiline_textbbox((0, 0), text, font)
  cell = Image.new("RGB", (int(right) + 2, int(bottom) + 4), ground)
  ImageDraw.Draw(cell).multiline_text((0, 0), text, _INK, font)
  return cell


def _picture(values):
  """[H, W, C] with its longer side of 128 pixels; grey unless C is 3."""
  if values.shape[-1] != 3:
    values = np.repeat(values.mean(-1, keepdims=True), 3, axis=-1)
  pixels = Image.fromarray(np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8))
  scale = _SIZE / max(pixels.size)
  size = [max(round(side * scale), 1) for side in pixels.size]
  return pixels.resize(size, Image.Resampling.BICUBIC)


def _bars(values, ground):
  """[N] as bars from 0, and its extremes in words."""
  low, high = min(values.min(), 0.), max(values.max(), 0.)
  cell = Image.new("RGB", (2 * _SIZE, _SIZE), ground)
  pen, bottom = ImageDraw.Draw(cell), _SIZE - _FONT - 4
  levels = (high - values) / max(high - low, 1e-30) * (bottom - 1)
  zero = high / max(high - low, 1e-30) * (bottom - 1)
  edges = np.linspace(0, cell.width, len(values) + 1)
  for left, right, level in zip(edges, edges[1:], levels, strict=False):
    pen.rectangle((left, min(level, zero), max(right - 2, left), max(level, zero)), _BARS)
  said = f"from {values.min():.3g} to {values.max():.3g}"
  pen.text((0, bottom), said, _INK, ImageFont.load_default(_FONT))
  return cell
