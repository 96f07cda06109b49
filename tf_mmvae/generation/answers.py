"""What a model said, written down: tables to look at, files, and JSON lines."""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from tf_mmvae.generation.observations import Kind
from tf_mmvae.views.drawing import Cell, draw_table

ROWS_A_PAGE = 10  # an interpolation of 8 points and its ends


class Answers:
  """Writes into one directory, as it goes:

    <title>-table.png, <title>-table-2.png, ...   10 rows a page
    <title>.jsonl            an observation a line: facts, modality, and text or file
    <name>.png, <name>.npy   each observation that is not words

  What is there under these names is replaced, but for the files that the model was given.
  """

  def __init__(self, directory: str, title: str, kinds: Mapping[str, Kind],
               given: Sequence[str] = ()):
    """`kinds`: {modality: a kind of `observations`}; `given`: paths that stay as they are."""
    os.makedirs(directory, exist_ok=True)
    self._directory, self._title, self._kinds = directory, title, kinds
    self._given = {os.path.realpath(os.path.expanduser(path)) for path in given}
    self._rows, self._pages = [], []
    self._lines, self._begun = self._free(f"{title}.jsonl"), False

  def keep(self, modality: str, observation: np.ndarray, name: str, **facts) -> Cell:
    """Writes one observation [*shape] of a modality down; returns it as a cell of a table."""
    kind = self._kinds[modality]
    said = {**facts, "modality": modality}
    if kind.suffix:
      path = self._free(name + kind.suffix)
      kind.save(observation, path)
      said["file"] = os.path.basename(path)
    else:
      said["text"] = kind.cell(observation)
    with open(self._lines, "a" if self._begun else "w", encoding="utf-8") as file:
      file.write(json.dumps(said, ensure_ascii=False) + "\n")
    self._begun = True
    return kind.cell(observation)

  def row(self, cells: Mapping[str, Cell]) -> None:
    """Adds a row {title: cell} to the table; all rows have the same titles."""
    self._rows.append(cells)
    if len(self._rows) == ROWS_A_PAGE:
      self._draw()

  def finish(self) -> list[str]:
    """Writes what is left; returns the paths of the pages and of the JSON lines, where any are."""
    if self._rows:
      self._draw()
    return self._pages + [self._lines] * self._begun

  def _draw(self):
    number = f"-{len(self._pages) + 1}" if self._pages else ""
    path = self._free(f"{self._title}-table{number}.png")
    columns = {title: [row[title] for row in self._rows] for title in self._rows[0]}
    given = [title for title in columns if title.startswith("given ")]
    Image.fromarray(draw_table(columns, given)).save(path)
    self._pages.append(path)
    self._rows = []

  def _free(self, name):
    path = os.path.join(self._directory, name)
    if os.path.realpath(path) in self._given:
      raise ValueError(f"{path} is an input and would be overwritten: give another directory")
    return path
