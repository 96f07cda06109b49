"""Panels of what a model does: reconstructions, translations, and samples from the prior."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_mmvae import inference
from tf_mmvae.batch import Dataset
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.run_dir import replacing
from tf_mmvae.views.drawing import Cell, draw_table
from tf_mmvae.views.viewers import Viewer


class Panel:
  """Tables of the same few examples, a row each, as pictures and in words.

    SOURCE_reconstructed  an example beside what is decoded from it
    SOURCE_to_TARGET      for every pair of modalities: the source beside several samples
    prior                 samples from the prior, decoded to every modality

  What is decoded is the most probable observation given one latent sample: sentences are greedy.
  How a modality is shown follows from its kind: words where it has a tokenizer, what its viewer
  makes of it where it has one, the numbers themselves for other integers, else pictures [H, W, C]
  in [0, 1] and bars for vectors [N].
  What an example lacks, and what would be made of that, is an empty cell.
  """

  def __init__(self, dataset: Dataset, tokenizers: Mapping[str, Any] | None = None,
               num_examples: int = 6, num_samples: int = 3, seed: int = 0,
               viewers: Mapping[str, Viewer] | None = None):
    """Sets what is shown.

    Args:
      dataset: examples, of which some are shown, evenly spread.
      tokenizers: {modality: object with `decode`} of those in words.
      num_examples: rows of each table.
      num_samples: samples of the target for one source.
      seed: of the latent samples.
      viewers: {modality: function as in `viewers`} of those that something else is shown for.
    """
    self._tokenizers, self._viewers = tokenizers or {}, viewers or {}
    self._num_samples, self._seed = num_samples, seed
    positions = np.linspace(0, dataset.num_examples - 1, num_examples).astype(int)
    batch = next(iter(dataset.subset(positions).batches(num_examples)))
    self._x = batch.x
    self._present = {name: batch.present(name).numpy() for name in self._x}
    self._draw = tf.function(self._draw_all)  # traced once a model

  def check(self, model: MultimodalVAE) -> None:
    """Raises ValueError for tokenizers or viewers of modalities that the model does not have."""
    model.check_names(self._tokenizers, "Panel's tokenizers")
    model.check_names(self._viewers, "Panel's viewers")

  def __call__(self, model: MultimodalVAE) -> dict[str, Any]:
    """{"panels/NAME": uint8 [H, W, 3]}, and {"text/NAME": Markdown} where words were decoded."""
    values = {}
    for name, (given, made) in self._tables(*self._decode(model)).items():
      values[f"panels/{name}"] = _picture(given, made)
      if any(_in_words(cells) for samples in made.values() for cells in samples):
        values[f"text/{name}"] = _markdown(given, made)
    return values

  def write(self, model: MultimodalVAE, directory: str) -> list[str]:
    """Writes the panels as PNG files into a directory and returns their paths.

    One more, `translations`, shows at one glance what is made of each example, from one sample.
    """
    os.makedirs(directory, exist_ok=True)
    decoded, prior = self._decode(model)
    overview = {f"{s} > {t}": samples[:1] for (s, t), samples in decoded.items()}
    tables = {"translations": (self._shown(), overview), **self._tables(decoded, prior)}
    paths = []
    for name, (given, made) in tables.items():
      paths.append(os.path.join(directory, f"{name}.png"))
      with replacing(paths[-1]) as unfinished:
        Image.fromarray(_picture(given, made)).save(unfinished, "PNG")
    return paths

  def _draw_all(self, model, x):
    """{target: [M K + 1, N, *shape]}: K samples from each of M sources, and one from the prior."""
    seeds = [tf.constant([self._seed, i], tf.int64) for i in range(self._num_samples)]
    z = [inference.sample_posterior(model, {source: x[source]}, seed)
         for source in x for seed in seeds]
    z.append(inference.sample_prior(model, tf.shape(z[0])[0], seeds[0]))
    return inference.decode(model, tf.stack(z))

  def _decode(self, model):
    """{(source, target): K lists of cells}, and {target: one list of cells} from the prior."""
    cells = {target: [self._cells(target, v) for v in values]
             for target, values in self._draw(model, self._x).items()}
    num = self._num_samples
    decoded = {
        (source, target): [self._of_present(source, c) for c in of_target[i * num:(i + 1) * num]]
        for i, source in enumerate(self._x) for target, of_target in cells.items()}
    return decoded, {target: of_target[-1:] for target, of_target in cells.items()}

  def _shown(self):
    return {name: self._of_present(name, self._cells(name, x, given=True))
            for name, x in self._x.items()}

  def _cells(self, name, values, given=False):
    return as_cells(values, self._tokenizers.get(name), self._viewers.get(name), given)

  def _of_present(self, name, cells):
    """The cells, None where their example lacks a modality."""
    return [c if here else None for c, here in zip(cells, self._present[name], strict=True)]

  def _tables(self, decoded, prior):
    """{name: (what is given {title: cells}, what was made of it {title: lists of cells})}."""
    shown, tables = self._shown(), {}
    for (source, target), samples in decoded.items():
      given = {source: shown[source]}
      if source == target:
        tables[f"{source}_reconstructed"] = given, {"reconstructed": samples[:1]}
      else:
        tables[f"{source}_to_{target}"] = given, {target: samples}
    return {**tables, "prior": ({}, prior)}


def _picture(given, made):
  """Samples in words stand below one another in one column, others in a column each."""
  columns = {}
  for title, samples in made.items():
    if _in_words(samples[0]) and len(samples) > 1:
      samples = [[None if row[0] is None else
                  "\n".join(f"{i + 1}. {said}" for i, said in enumerate(row))
                  for row in zip(*samples, strict=True)]]
    columns.update(_numbered(title, samples))
  return draw_table({**_rows(columns), **given, **columns}, given)


def _markdown(given, made):
  columns = {k: v for title, samples in made.items() for k, v in _numbered(title, samples).items()}
  return as_markdown({**_rows(columns), **given, **columns})


def _numbered(title, samples):
  """{title and number: cells}; one list of cells needs no number."""
  if len(samples) == 1:
    return {title: samples[0]}
  return {f"{title} {i + 1}": cells for i, cells in enumerate(samples)}


def _rows(columns):
  return {"#": [str(i + 1) for i in range(len(next(iter(columns.values()))))]}


def _in_words(cells):
  return any(isinstance(cell, str) for cell in cells)


def as_cells(values: tf.Tensor | np.ndarray, tokenizer: Any = None, viewer: Viewer | None = None,
             given: bool = False) -> Sequence[Cell]:
  """A batch of observations [N, ...] as N cells of `drawing.draw_table`, by their kind.

  `given` says that they are data, and not what a model made.
  """
  if tokenizer:
    return [sentence.decode("utf-8", "replace") for sentence in tokenizer.decode(values).numpy()]
  values = np.asarray(values)
  if viewer:
    return viewer(values, given)
  if values.dtype.kind != "f":
    return [" ".join(map(str, numbers.flat)) for numbers in values]
  return list(values)


def as_markdown(columns: Mapping[str, Sequence[Cell]]) -> str:
  """The columns in words of a table as Markdown; letters that mean something there are escaped."""
  columns = {title: cells for title, cells in columns.items() if _in_words(cells)}
  rows = [columns, ["---"] * len(columns), *zip(*columns.values(), strict=True)]
  return "\n".join("| " + " | ".join(_escape(said or "") for said in row) + " |" for row in rows)


def _escape(text):
  text = " ".join(text.split())
  return re.sub(r"[\\`*_{}\[\]<>&|#~]", lambda letter: f"&#{ord(letter.group())};", text)
