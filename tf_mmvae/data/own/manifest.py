"""Manifests: tables of a user's own examples, read and checked as a whole.

One row is an example and one column a modality: the path of a picture or of a vector, from the
manifest's folder, or a text. A cell that is empty is a modality that the example lacks.
"""

import concurrent.futures
import difflib
import os
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from tf_mmvae.data.own import manifest_files, manifest_splits
from tf_mmvae.data.own.columns import Picture, Text, Vector
from tf_mmvae.data.own.manifest_files import Problem

SPLITS = manifest_splits.SPLITS
KINDS = (Picture, Text, Vector)
MAX_SHOWN = 50


class Problems(ValueError):
  """All that is wrong with a manifest. `report` has a line for each problem, the first ones."""

  def __init__(self, path: str | os.PathLike, problems: Sequence[Problem]):
    """`problems`: [Problem]."""
    def place(problem):
      if not problem.row:
        return ""
      column = f", column '{problem.column}'" if problem.column else ""
      return f"row {problem.row}{column}: "

    problems = sorted(problems, key=lambda problem: problem.row or 10**18)
    count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
    lines = [f"{path} has {count} (rows are numbered as lines of the file, the first is 1):"]
    lines += [f"  {place(problem)}{problem.text}" for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
      lines.append(f"  and {len(problems) - MAX_SHOWN:,} more")
    self.report = "\n".join(lines)
    super().__init__(self.report)


class Manifest:
  """The rows of a manifest.

  Attributes:
    path: of the manifest.
    columns: {modality: kind of column}; see `columns`.
    num_rows: N, without those that have none of the modalities.
    num_left_out: how many these are.
    rows: int64 [N], the line of the file at which each row begins; the file's first is 1.
    cells: {modality: N strings}; "" is missing.
    splits: N strings, each of `SPLITS`.
    groups: int64 [N]; rows of one number show the same picture or vector, or share what the group
      column says, and are in one split where splits are drawn.
    labels: int64 [N], -1 where there is none, or None without a column of labels.
    label_names: the labels that are not numbers, in the order of theirs.
    headers: the columns of the file, used or not.
    files: {modality: {cell: (bytes, time of the last change in ns)}}.
    problems: [Problem] found so far; while there are any, the other attributes may be cut short.
  """

  def __init__(self, path: str | os.PathLike, columns: dict[str, Picture | Text | Vector],
               label: str | None = None, split_column: str | None = None,
               fractions: Mapping[str, float] | None = None, group_column: str | None = None,
               seed: int = 0):
    """Reads a manifest and notes what is wrong with it, but does not open the files that it names.

    Args:
      path: of a .csv, .jsonl or .ndjson in UTF-8. CSV has commas, and a first line of headers.
      columns: {modality: kind of column}.
      label: header of the labels, whole numbers of at least 0 or names; None for none.
      split_column: header of the column that says "train", "validation" or "test"; None draws.
      fractions: {"validation": share, "test": share} of the groups to draw; the others train.
      group_column: header of what rows have in common that must not be torn apart, or None.
      seed: of the draw. The split of a group depends on its files or text and on this alone.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no manifest at all, or an argument is wrong.
    """
    if not (columns and isinstance(columns, dict)
            and all(isinstance(kind, KINDS) for kind in columns.values())):
      raise ValueError("a manifest needs columns {modality: kind}, such as "
                       '{"image": Picture(), "sentence": Text()}, got '
                       f"{columns!r}")
    fractions = manifest_splits.check_fractions(fractions) if split_column is None else {}
    self.path, self.columns = pathlib.Path(path), dict(columns)
    table = manifest_files.read(self.path)
    self.headers, self.problems = table.headers, list(table.problems)
    headers = {name: kind.column or name for name, kind in columns.items()}
    wanted = [*headers.values(), *filter(None, (label, split_column, group_column))]
    for header in dict.fromkeys(wanted):
      if header not in table.headers and table.headers:
        self._note(table.header_row, None, _no_column(header, table.headers))
    self.cells = {name: [text if is_visible(text) else "" for text in
                         self._texts(table.rows, header)] for name, header in headers.items()}
    rows = self._rows_with_something(table, set(filter(None, (label, split_column, group_column))))
    self.rows = np.array([number for number, _ in rows], np.int64)
    self.num_rows = len(self.rows)
    if not self.num_rows and not self.problems:
      self._note(None, None, "it has no rows: give one an example")
    self.files = {name: self._stat(name, headers[name])
                  for name, kind in columns.items() if kind.of_files}
    self.labels, self.label_names = None, []
    if label is not None:
      self.labels, self.label_names = _as_numbers(
          self._texts(rows, label, (str, int), "a text or a whole number"))
    shared = self._texts(rows, group_column, (str, int)) if group_column else None
    keys = manifest_splits.group_keys(self.cells, list(self.files), shared)
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    self.groups = np.array([numbers[key] for key in keys], np.int64)
    self.splits = (manifest_splits.draw(keys, fractions, seed) if split_column is None
                   else self._given_splits(self._texts(rows, split_column), split_column))
    if self.num_rows:
      self._find_empty_splits("raise its share in fractions, or add rows" if split_column is None
                              else f"mark some in column '{split_column}'")

  def check_files(self) -> None:
    """Reads every file of the manifest once and adds what is wrong with them to `problems`."""
    for name, kind in self.columns.items():
      if not kind.of_files:
        continue
      cells = list(self.files[name])
      with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(lambda cell, kind=kind: self._problem_of(kind, cell), cells)
        wrong = {cell: text for cell, text in zip(cells, said, strict=True) if text}
      self._note_cells(name, kind.column or name, wrong)

  def raise_problems(self) -> None:
    """Raises `Problems` if there are any."""
    if self.problems:
      raise Problems(self.path, self.problems)

  def file(self, cell: str) -> pathlib.Path:
    """The path of the file that a cell names."""
    return self.path.parent / cell

  def of_split(self, split: str) -> np.ndarray:
    """The positions of the rows of a split, int64, in the order of the manifest."""
    return np.flatnonzero(np.array(self.splits) == split)

  def gaps(self, split: str) -> list[str]:
    """The modalities that some row of the split lacks, a list."""
    rows = self.of_split(split)
    return [name for name, cells in self.cells.items() if not all(cells[i] for i in rows)]

  def _note(self, row, column, text):
    self.problems.append(Problem(row and int(row), column, text))

  def _note_cells(self, name, header, wrong):
    """Notes {cell: what is wrong with it} at the first row that has it."""
    first, count = {}, dict.fromkeys(wrong, 0)
    for row, cell in zip(self.rows, self.cells[name], strict=True):
      if cell in wrong:
        first.setdefault(cell, row)
        count[cell] += 1
    for cell, text in wrong.items():
      more = f" (in {count[cell]:,} rows)" if count[cell] > 1 else ""
      self._note(first[cell], header, text + more)

  def _texts(self, rows, header, kinds=str, expected="a text in quotes"):
    """The cells under a header as texts without space at their ends; notes those of other kinds."""
    found = []
    for number, cells in rows:
      value = cells.get(header)
      if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
        self._note(number, header, f"expected {expected}, got {value!r:.60}")
        value = None
      found.append("" if value is None else str(value).strip())
    return found

  def _stat(self, name, header):
    """{cell: (bytes, time)} of the files that are there; notes those that are not."""
    found, wrong = {}, {}
    for cell in dict.fromkeys(filter(None, self.cells[name])):
      try:
        if self.file(cell).is_dir():
          wrong[cell] = f"{cell} is a folder: give the path of a file"
          continue
        stat = self.file(cell).stat()
      except (OSError, ValueError) as error:  # a zero byte is a ValueError
        if isinstance(error, PermissionError):
          wrong[cell] = f"no permission to read {cell}"
        else:
          wrong[cell] = f"no file {cell:.200} in {self.path.parent}"
        continue
      found[cell] = stat.st_size, stat.st_mtime_ns
    self._note_cells(name, header, wrong)
    return found

  def _problem_of(self, kind, cell):
    try:
      kind.read(self.file(cell))
    except ValueError as error:
      return str(error).replace(str(self.file(cell)), cell)
    return None

  def _rows_with_something(self, table, reserved):
    """The rows that have a modality, to which `cells` is cut; notes those that have nothing at all.

    A row may have what is no modality here: its columns are left out, and so is the row.
    """
    kept, self.num_left_out = [], 0
    for i, (number, cells) in enumerate(table.rows):
      if any(texts[i] for texts in self.cells.values()):
        kept.append(i)
      elif not any(is_visible(str(value or "")) for header, value in cells.items()
                   if header not in reserved):
        self._note(number, None, f"nothing in {_or(list(self.cells))}: fill a cell, or take the "
                   "row out")
      else:
        self.num_left_out += 1
    self.cells = {name: [texts[i] for i in kept] for name, texts in self.cells.items()}
    return [table.rows[i] for i in kept]

  def _given_splits(self, texts, header):
    found = []
    for row, text in zip(self.rows, texts, strict=True):
      split = manifest_splits.named(text)
      if split is None:
        self._note(row, header, f"expected {_or(SPLITS)}, got '{text}'")
      found.append(split or "")
    return found

  def _find_empty_splits(self, remedy):
    for split in SPLITS:
      rows = self.of_split(split)
      if not len(rows):
        self._note(None, None, f"no rows in split '{split}': {remedy}")
      for name, kind in self.columns.items():
        there = not len(rows) or any(self.cells[name][i] for i in rows)
        if not there and (kind.column or name) in self.headers:
          self._note(None, None, f"no row of split '{split}' has '{name}'")


def is_visible(text: str) -> bool:
  """Whether a text has a character that can be seen."""
  return any(unicodedata.category(c)[0] not in "ZC" and c != "\N{REPLACEMENT CHARACTER}"
             for c in text)


def _no_column(header, headers):
  close = difflib.get_close_matches(header, headers, 1)
  meant = f" (did you mean '{close[0]}'?)" if close else ""
  shown = ", ".join(f"'{name}'" for name in headers[:20])
  return f"no column '{header}'{meant}: the columns are {shown or 'none'}"


def _as_numbers(texts):
  """Labels as numbers, int64 [N], -1 where there is none; and their names if they are no numbers.

  Whole numbers of at least 0 are taken as they are, if all labels are such; names are counted from
  0 in the order of the alphabet.
  """
  given = [text for text in texts if text]
  if all(text.isascii() and text.isdecimal() and int(text) < 2**31 for text in given):
    return np.array([int(text) if text else -1 for text in texts], np.int64), []
  names = sorted(set(given))
  numbers = {"": -1, **{name: number for number, name in enumerate(names)}}
  return np.array([numbers[text] for text in texts], np.int64), names


def _or(names):
  return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
