"""What an evaluation left in a run's directory, and has not to be measured again."""

import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from absl import logging
from PIL import Image

from tf_mmvae.metrics.findings import Findings, Picture
from tf_mmvae.reports import html
from tf_mmvae.reports.settings import Settings
from tf_mmvae.run_dir import replacing

_STATE = "report.json"
_OF_RUN = ("run", "likelihoods", "objective")  # the parts of `Settings` in it
_PACKAGE = pathlib.Path(__file__).parents[1]


class Figure(NamedTuple):
  """A figure of a metric."""

  value: float  # NaN where it is not finite
  stderr: float  # standard error; NaN where there is none
  n: int  # of observations


class Results(Mapping[str, dict[str, Figure]]):
  """The findings of metrics in a directory.

  A mapping {metric: {figure: `Figure`}}; that of a metric that failed raises its ValueError. As
  text it is a table, which names the examples where metrics were measured on several data sets. The
  directory holds

    METRIC.json         {figure: {"value", "stderr", "n"}}, and a "note" where there is one; null
                        stands for what is not finite
    METRIC_TITLE.png    its pictures
    report.json         {"step": of the weights, "settings": {"run", "likelihoods", "objective"} of
                        `Settings`, or null, "metrics": {METRIC: entry}}: what else the report needs

  An entry holds the metric's `title`, `examples` in words, `weights` and `data` (hashes),
  `settings` (its own, or null), `key` (of all that the figures depend on; null where that is not
  known), `seconds`, `peak_mib`, `tables`, `pictures` (with `file` in place of pixels), `remarks`
  and `better` {figure: "high" or "low"}; or an `error` in place of these.
  """

  def __init__(self, directory: str | os.PathLike):
    self._directory = pathlib.Path(directory)
    self._step = None
    self._figures: dict[str, dict[str, dict[str, Any]]] = {}
    self._settings, self.entries = self._read_state()

  def __getitem__(self, metric: str) -> dict[str, Figure]:
    if metric not in self.entries:
      raise KeyError(f"there is no metric {metric!r}: those measured are {list(self.entries)}")
    if "error" in self.entries[metric]:
      raise ValueError(f"metric '{metric}' was not measured: {self.entries[metric]['error']}")
    return {name: Figure(*(math.nan if found[key] is None else found[key]
                           for key in ("value", "stderr")), found["n"])
            for name, found in self._figures[metric].items()}

  def __contains__(self, metric: object) -> bool:
    return metric in self.entries

  def __iter__(self) -> Iterator[str]:
    return iter(self.entries)

  def __len__(self) -> int:
    return len(self.entries)

  def __str__(self) -> str:
    lines, several = [], len({entry["examples"] for entry in self.entries.values()}) > 1
    for metric, entry in self.entries.items():
      of = f" ({entry['examples']})" if several else ""
      lines += [f"{metric}{of}:", *_as_lines(entry, self.figures(metric))]
    return "\n".join(lines)

  def is_current(self, metric: str, key: str | None) -> bool:
    """Whether the findings of a metric are there, and are those of `key`; None is no key."""
    return key is not None and self.entries.get(metric, {}).get("key") == key

  def begin(self, weights: str, step: int | None, settings: Settings | None) -> None:
    """Drops what failed, and what was found with other weights or other likelihoods.

    Args:
      weights: a hash of them.
      step: after which the model has them.
      settings: where they are not known, those stand under which other metrics were measured.
    """
    before, of_run = self._settings, settings and {
        part: dict(getattr(settings, part)) for part in _OF_RUN}
    same = None in (before, of_run) or before["likelihoods"] == of_run["likelihoods"]
    others = {metric: entry for metric, entry in self.entries.items()
              if entry["weights"] != weights or "error" in entry or not same}
    for metric, entry in others.items():
      del self.entries[metric]
      self._figures.pop(metric, None)
      for file in [f"{metric}.json", *(p["file"] for p in entry.get("pictures", []))]:
        (self._directory / file).unlink(missing_ok=True)
    self._step = step
    if of_run or not self.entries:
      self._settings = of_run
    if others or self._settings != before:
      self._write_state()

  def figures(self, metric: str) -> dict[str, dict[str, Any]]:
    """{figure: {"value", "stderr", "n"}} of a metric; {} where there are none."""
    return self._figures.get(metric, {})

  def write(self, metric: str, findings: Findings, **entry: Any) -> None:
    """Keeps findings; each file appears whole, and the entry last.

    Raises:
      ValueError: if a table names a figure that is not there.
    """
    figures = {name: _as_json(figure, findings.notes.get(name))
               for name, figure in findings.figures.items()}
    self._write_json(f"{metric}.json", figures)
    pictures = [{"title": p.title, "about": p.about, "file": self._draw(metric, p)}
                for p in findings.pictures]
    entry |= {"tables": [table._asdict() for table in findings.tables], "pictures": pictures,
              "remarks": list(findings.remarks), "better": {
                  figure: of_one.better[column] for of_one in findings.tables
                  for row in of_one.rows.values()
                  for column, figure in zip(of_one.columns, row, strict=True)
                  if figure and column in of_one.better}}
    _check(entry, figures)
    self._put(metric, entry, figures)

  def write_error(self, metric: str, said: str, **entry: Any) -> None:
    """Keeps that a metric could not be measured; older figures go."""
    (self._directory / f"{metric}.json").unlink(missing_ok=True)
    self._put(metric, {**entry, "error": said}, {})

  def _put(self, metric, entry, figures):
    self.entries[metric], self._figures[metric] = entry, figures
    self._write_state()

  def _write_state(self):
    self._write_json(_STATE, {
        "step": self._step, "settings": self._settings, "metrics": self.entries})

  def _read_state(self):
    """(settings of the run or None, {metric: entry}) as far as they are whole."""
    try:
      state = _read_json(self._directory / _STATE)
      settings, entries = state["settings"], dict(state["metrics"])
      if settings is not None:
        as_settings(settings, {})
    except FileNotFoundError:
      return None, {}
    except (ValueError, KeyError, TypeError) as error:
      logging.warning("%s is damaged, or of an older version (%s): everything is measured anew",
                      self._directory / _STATE, error)
      return None, {}
    return settings, {
        metric: entry for metric, entry in entries.items() if self._is_whole(metric, entry)}

  def _is_whole(self, metric, entry):
    """Whether an entry and its files have all that a report shows; says so where they have not."""
    try:
      figures = {} if "error" in entry else _read_json(self._directory / f"{metric}.json")
      _check(entry, figures)
      for picture in entry.get("pictures", []):
        with Image.open(self._directory / picture["file"]) as image:
          image.verify()
      self._figures[metric] = figures
      return True
    except (AttributeError, KeyError, OSError, SyntaxError, TypeError, ValueError) as error:
      logging.warning("%s: what %s has of it is damaged, or of an older version (%s): it is left "
                      "out until it is measured anew", metric, self._directory, error)
      return False

  def _draw(self, metric: str, picture: Picture) -> str:
    name = f"{metric}_{re.sub(r'[^a-z0-9]+', '_', picture.title.lower()).strip('_')}.png"
    with replacing(self._directory / name) as path:
      Image.fromarray(picture.pixels).save(path, "PNG")
    return name

  def _write_json(self, name, value):
    self._directory.mkdir(parents=True, exist_ok=True)
    with replacing(self._directory / name) as path, open(path, "w", encoding="utf-8") as file:
      json.dump(value, file, indent=2, allow_nan=False)


def key(*parts: str) -> str:
  """A hash of strings, and of the package's own sources: other code may find other figures."""
  digest = hashlib.sha256("\0".join(parts).encode())
  for path in sorted(_PACKAGE.rglob("*.py")):
    digest.update(path.read_bytes())
  return digest.hexdigest()


def as_settings(of_run: Mapping[str, Any], of_metrics: Mapping[str, Any]) -> Settings:
  """The `Settings` of what report.json holds; those of the model are not kept.

  Raises:
    KeyError, TypeError: if they are not as they were written.
  """
  parts = {part: of_run[part] for part in _OF_RUN}
  if not all(isinstance(part, dict) for part in (*parts.values(), *of_metrics.values())):
    raise TypeError("no settings")
  return Settings(**parts, metrics=of_metrics)


def check_figures(figures: Mapping[str, Any]) -> None:
  """Raises an error unless these are {figure: {"value", "stderr", "n"}}."""
  for found in figures.values():
    numbers = [found["value"], found["stderr"], found["n"]]
    if not all(isinstance(number, float | int | None) for number in numbers):
      raise TypeError("no number")


def _check(entry, figures):
  """Raises an error unless an entry and its figures have all that a report shows."""
  if not isinstance(entry["settings"], dict | None) or not isinstance(entry["key"], str | None):
    raise TypeError("no settings, or no key")
  texts = [entry[name] for name in ("title", "examples", "weights")]
  if "error" in entry:
    texts.append(entry["error"])
  else:
    check_figures(figures)
    for table in entry["tables"]:
      texts += [table["title"], table["unit"], table["about"], *table["columns"]]
      for cell in (cell for cells in table["rows"].values() for cell in cells):
        if cell is not None and cell not in figures:
          raise ValueError(f"table '{table['title']}' has no figure {cell}")
      bool(table["detail"])
    for picture in entry["pictures"]:
      texts += [picture["title"], picture["about"], picture["file"]]
    texts += entry["remarks"]
  if not all(isinstance(text, str) for text in texts):
    raise TypeError("no text")


def _read_json(path):
  with open(path, encoding="utf-8") as file:
    return json.load(file)


def _as_json(figure, note):
  value, error, num = figure
  found = {"value": _finite(value), "stderr": _finite(error), "n": int(num)}
  return {**found, "note": note} if note else found


def _finite(value):
  """A number that JSON knows, or None."""
  return float(value) if math.isfinite(value) else None


def _as_lines(entry, figures):
  """What a metric found, as lines of text."""
  if "error" in entry:
    return [f"  not measured: {entry['error']}"]
  tables = [t for t in entry["tables"] if not t["detail"]]
  lines = [line for of_one in tables for line in _in_columns(of_one, figures)]
  if not tables:
    width = max(map(len, figures), default=0)
    lines = [f"  {name:<{width}}  {_said(figure):>14}  (n = {figure['n']})"
             for name, figure in figures.items()]
  return lines + [f"  {remark}" for remark in entry["remarks"]]


def _in_columns(of_one, figures):
  """A table of `Results` as lines, with the notes on its figures below."""
  unit = of_one["unit"]
  rows = [["", *of_one["columns"]]]
  for name, cells in of_one["rows"].items():
    rows.append([name, *("" if cell is None else _said(figures[cell], unit) for cell in cells)])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  shown = {cell for cells in of_one["rows"].values() for cell in cells if cell}
  notes = {figures[cell]["note"] for cell in shown if "note" in figures[cell]}
  return [f"  {of_one['title']}{f', {unit}' if unit not in ('', '%') else ''}",
          *("    " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows),
          *(f"    * {note}" for note in sorted(notes))]


def _said(figure, unit=""):
  said = html.figure(figure["value"], figure["stderr"], unit)
  return said + (" *" if "note" in figure else "")
