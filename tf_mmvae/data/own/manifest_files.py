"""The files of manifests, CSV and JSON lines, as headers and rows of cells."""

import collections
import csv
import io
import json
import pathlib
from typing import Any, NamedTuple


class Problem(NamedTuple):
  """One thing that is wrong with a manifest."""

  row: int | None  # the line of the file at which it begins
  column: str | None  # the header
  text: str


class Table(NamedTuple):
  """What a file holds."""

  headers: list[str]
  header_row: int | None  # its line, if it has one
  rows: list[tuple[int, dict[str, Any]]]  # (the line at which it begins, {header: cell})
  problems: list[Problem]


_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read(path: pathlib.Path) -> Table:
  """The `Table` of a manifest, .csv, .jsonl or .ndjson; lines that are blank at its end are none.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no text in UTF-8, or its name ends otherwise.
  """
  readers = {".csv": _read_csv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}
  if path.is_dir():
    raise ValueError(f"{path} is a folder: give the manifest in it, a .csv or .jsonl file")
  if path.suffix.lower() not in readers:
    path.stat()  # one that is missing says so first
    raise ValueError(f"{path} is no manifest: expected a .csv of commas or a .jsonl, one JSON "
                     "object a line; save the table as one of these")
  content = path.read_bytes()
  if content.startswith((b"\xff\xfe", b"\xfe\xff")):
    raise ValueError(f"{path} is text in UTF-16: save it in UTF-8")
  if b"\0" in content:
    raise ValueError(f"{path} is no text: expected a table in UTF-8")
  try:
    text = content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    line = content[:error.start].count(b"\n") + 1
    raise ValueError(f"{path}, line {line}: not UTF-8 (byte {content[error.start]:#04x}): save the "
                     "file in UTF-8") from error
  if not text.strip():
    raise ValueError(f"{path} is empty: expected a line of headers and a row an example")
  return readers[path.suffix.lower()](path, text)


def _read_csv(path, text):
  problems, records = [], []
  lines = csv.reader(io.StringIO(text.rstrip("\r\n \t") + "\n", newline=""), strict=True)
  while True:
    begins = lines.line_num + 1
    try:
      records.append((begins, next(lines)))
    except StopIteration:
      break
    except csv.Error as error:
      said = ("a quote that opens here is never closed" if "end of data" in str(error) else
              f"{error}: put cells with commas or quotes into quotes, and double these")
      problems.append(Problem(begins, None, said))
      if not records:
        raise ValueError(f"{path}, line {begins}: {said}") from error
  while not records[0][1]:  # blank lines before the headers
    records.pop(0)
  header_row, headers = records.pop(0)
  headers = [header.strip() for header in headers]
  for separator, name in _SEPARATORS.items():
    if len(headers) == 1 and separator in headers[0]:
      raise ValueError(f"{path} is separated by {name}: save it with commas")
  for header in _repeated(filter(None, headers)):
    problems.append(Problem(header_row, header, "two columns have this header: rename one"))
  rows = []
  for number, cells in records:
    if cells and len(cells) != len(headers):  # a blank line is an empty row
      problems.append(Problem(number, None, f"{_count(len(cells), 'cell')}, but "
                              f"{_count(len(headers), 'header')}: look for a comma that is missing "
                              "or wants quotes"))
    else:
      # Of two columns with one header the first counts.
      rows.append((number, dict(reversed([*zip(headers, cells, strict=False)]))))
  return Table([*filter(None, headers)], header_row, rows, problems)


def _read_json_lines(path, text):
  del path
  problems, rows, headers = [], [], {}
  for number, line in enumerate(text.rstrip().split("\n"), 1):
    repeated = []

    def as_dict(pairs, repeated=repeated):
      repeated += _repeated(key for key, _ in pairs)
      return dict(pairs)

    try:
      row = json.loads(line, object_pairs_hook=as_dict) if line.strip() else {}
    except (json.JSONDecodeError, RecursionError) as error:
      said = f"{error.msg} at character {error.pos + 1}" if hasattr(error, "msg") else "too deep"
      problems.append(Problem(number, None, f"no JSON: {said}"))
      continue
    if not isinstance(row, dict):
      problems.append(Problem(number, None, 'expected one object a line, such as {"image": "1.jpg"}'
                              f", got {line:.40}"))
      continue
    problems += [Problem(number, key, "this row has it twice: take one out") for key in repeated]
    headers.update(dict.fromkeys(row))
    rows.append((number, row))
  return Table(list(headers), None, rows, problems)


def _repeated(names):
  return [name for name, count in collections.Counter(names).items() if count > 1]


def _count(number, what):
  return f"{number} {what}" + ("" if number == 1 else "s")
