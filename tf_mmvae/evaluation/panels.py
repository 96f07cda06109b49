"""Pictures of what a model does: examples, their translations, and samples from the prior."""

import os
import textwrap

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from tf_mmvae.evaluation import translation

_SIZE, _MARGIN, _INK, _PAPER = 128, 10, (40, 40, 40), (255, 255, 255)


class Panel:
  """A table of examples: each modality as it is, then decoded from each, itself among them.

  Below it stand samples from the prior, decoded to every modality.
  """

  def __init__(self, dataset, tokenizers=None, num_examples=6, num_samples=3, seed=0):
    """Sets what is shown.

    Args:
      dataset: examples, of which some are shown, evenly spread.
      tokenizers: {modality: object with `decode`} of those in words; others are pictures
        [H, W, C] in [0, 1].
      num_examples: rows of each table.
      num_samples: pictures for one source; sentences get one.
      seed: of the latent samples.
    """
    self._tokenizers = tokenizers or {}
    self._num_samples, self._seed = num_samples, seed
    positions = np.linspace(0, dataset.num_examples - 1, num_examples).astype(int)
    self._x, _ = next(iter(dataset.subset(positions).batches(num_examples)))
    self._num_examples = num_examples

  def __call__(self, model):
    """{"translations", "prior": uint8 [H, W, 3]}."""
    seeds = [tf.constant([self._seed, i], tf.int64) for i in range(self._num_samples)]
    columns = {name: self._cells(name, x) for name, x in self._x.items()}
    for source, x in self._x.items():
      drawn = [self._decode(model, translation.sample_posterior(model, {source: x}, s))
               for s in seeds]
      for target in model.modalities:
        repeats = 1 if target in self._tokenizers else len(seeds)
        for i in range(repeats):
          number = f" ({i + 1})" if repeats > 1 else ""
          columns[f"{source} > {target}{number}"] = self._cells(target, drawn[i][target])
    z = translation.sample_prior(model, self._num_examples, seeds[0])
    prior = {name: self._cells(name, value) for name, value in self._decode(model, z).items()}
    return {"translations": draw_table(columns), "prior": draw_table(prior)}

  def write(self, model, directory):
    """Writes the panels as PNG files into a directory and returns their paths."""
    os.makedirs(directory, exist_ok=True)
    paths = []
    for name, picture in self(model).items():
      paths.append(os.path.join(directory, f"{name}.png"))
      Image.fromarray(picture).save(paths[-1])
    return paths

  def _decode(self, model, z):
    return translation.decode(model, z)

  def _cells(self, name, values):
    if name in self._tokenizers:
      sentences = np.asarray(self._tokenizers[name].decode(values))
      return [sentence.decode("utf-8", "replace") for sentence in sentences]
    return list(np.asarray(values))


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
