"""What several runs measured, side by side: a column for runs that differ in their seed alone."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tf_mmvae.reports import comparable, html, results
from tf_mmvae.reports.settings import Settings

_NOTHING: Mapping[str, str] = MappingProxyType({})
_SEEDS = ("SEED", "seed")
_MOST = 15  # rows of settings that are shown at once
_LEGEND = (
    "After ± stands the standard deviation over the seeds of a column. With one seed the figure's "
    "own standard error stands in, which leaves out what another seed would change.",
    "{} marks the best of a row where it is better than the second best by more than "
    "2 sqrt(s1² + s2²), with s the standard deviation over seeds, or the standard error if that is "
    "larger. Rows in which no direction is better have no mark.")


class Metric(NamedTuple):
  """What one metric found in one run."""

  figures: dict[str, dict[str, Any]]  # {figure: {"value", "stderr", "n"}, and a "note" or none}
  units: Mapping[str, str] = _NOTHING  # {figure: its unit}, in the order of the tables with units
  better: Mapping[str, str] = _NOTHING  # {figure: "high" or "low"}
  data: str | None = None  # fingerprint of what it was measured on


class Run(NamedTuple):
  """What one run was set by and what it found: `Run(name, *read(folder))`."""

  name: str
  settings: Settings | None  # None where they are not recorded
  metrics: dict[str, Metric]
  step: int | None = None  # of the weights; None where no report says it


class Comparison(NamedTuple):
  """Tables of several runs, a column a group of runs that differ in their seed alone."""

  columns: list[str]  # headings
  settings: list[tuple[str, list[html.Cell]]]  # what differs
  figures: dict[str, list[tuple[str, list[html.Cell]]]]  # {metric: [(figure, cells)]}
  others: dict[str, list[tuple[str, list[html.Cell]]]]  # of those that stand in no table
  remarks: list[str]  # sentences

  def text(self) -> str:
    """As lines for a terminal, without `others`."""
    lines = _lines("Settings that differ", self.columns, self.settings[:_MOST])
    if self.settings[_MOST:]:
      lines.append(f"  and {len(self.settings) - _MOST} more, on the page")
    for metric, rows in self.figures.items():
      lines += ["", *_lines(metric, self.columns, rows)]
    num = sum(map(len, self.others.values()))
    lines += [""] + ([f"And {num} figures more, on the page."] if num else [])
    return "\n".join([*lines, *self.remarks, *self._legend("*")])

  def html(self) -> str:
    """As a page."""
    parts = [self._table(self.settings[:_MOST], "Settings that differ"),
             self._more(self.settings[_MOST:], "Settings that differ")]
    parts += [f"<p>{html.escape(remark)}</p>" for remark in self.remarks]
    for metric, rows in self.figures.items():
      parts += [f"<h2>{html.escape(metric)}</h2>", self._table(rows, "figure"),
                self._more(self.others[metric], "figure")]
    parts += [f'<p class="quiet">{html.escape(line)}</p>' for line in self._legend("Bold")]
    parts.append('<p class="quiet">Point at a figure for what each of its runs has.</p>')
    return html.page("Comparison of runs", '<div class="hints">' + "\n".join(parts) + "</div>")

  def _table(self, rows, corner):
    return html.table(self.columns, rows, corner) if rows else ""

  def _more(self, rows, corner):
    return rows and (f"<details><summary>{len(rows)} more</summary>{self._table(rows, corner)}"
                     "</details>") or ""

  def _legend(self, mark):
    return [line.format(mark) for line in _LEGEND]


def read(folder: str | os.PathLike) -> tuple[Settings | None, dict[str, Metric], int | None]:
  """(settings, {name: Metric}, step) of what `Evaluation` wrote into a folder.

  Settings are None where nothing says them, and have `metrics` of those alone of which it was
  recorded; the step of the weights is None where no report says it.

  Raises:
    FileNotFoundError: if there are no results.
    ValueError: for a file that is damaged.
  """
  names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
  found = {name.removesuffix(".json"): _read(os.path.join(folder, name))
           for name in names if name.endswith(".json")}
  report = found.pop("report", {})
  if not found:
    raise FileNotFoundError(f"no results in {folder}")
  try:
    of_metrics = report.get("metrics", {})
    for figures in found.values():
      results.check_figures(figures)
    metrics = {name: Metric(figures, *_said(of_metrics.get(name, {})))
               for name, figures in found.items()}
    order = sorted(metrics, key=[*of_metrics, *metrics].index)
    step = report.get("step")
    if not isinstance(step, int | None) or not all(
        isinstance(metric.data, str | None) for metric in metrics.values()):
      raise TypeError("no step, or no fingerprint")
    return _settings(report), {name: metrics[name] for name in order}, step
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(f"the results in {folder} are not as they were written") from error


def _settings(report):
  of_run = report.get("settings")
  if of_run is None:
    return None
  of_metrics = {name: entry["settings"] for name, entry in report["metrics"].items()
                if entry.get("settings") is not None}
  return results.as_settings(of_run, of_metrics)


def _read(path):
  try:
    with open(path, encoding="utf-8") as file:
      return json.load(file)
  except ValueError as error:
    raise ValueError(f"{path} is damaged") from error


def _said(report):
  units = {figure: table.get("unit", "") for table in report.get("tables", ())
           for row in table["rows"].values() for figure in row if figure is not None}
  return units, dict(report.get("better", {})), report.get("data")


def compare(runs: Sequence[Run]) -> Comparison:
  """Puts runs side by side."""
  groups = _groups(runs)
  metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))
  figures, others, kept_apart, unrecorded = {}, {}, {}, {}
  for name in metrics:
    found = [run.metrics[name] for run in runs if name in run.metrics]
    units = {figure: unit for metric in found for figure, unit in metric.units.items()}
    better = _agreed(found)
    reasons = comparable.reasons(groups, name, units)
    if unsaid := comparable.unrecorded(groups, name):
      unrecorded.setdefault(tuple(unsaid), []).append(name)
    figures[name], others[name] = [], []
    for figure in dict.fromkeys([*units, *(f for metric in found for f in metric.figures)]):
      columns = [_Column.of(group, name, figure) for group in groups]
      best = None if unsaid or figure in reasons else _best(columns, better.get(figure))
      unit = units.get(figure, "")
      cells = [column.cell(unit, i == best) for i, column in enumerate(columns)]
      place = figures if figure in units or not units else others
      place[name].append((f"{figure}, {unit}" if unit not in ("", "%") else figure, cells))
    for reason in dict.fromkeys(reasons.values()):
      which = [figure for figure in reasons if reasons[figure] == reason]
      every = len(which) == len(figures[name] + others[name])
      kept_apart.setdefault(reason, []).append(name if every else f"{name} ({_listed(which)})")
  remarks = [f"Not to be compared: {', '.join(of)}: {reason}." for reason, of in kept_apart.items()]
  remarks += [f"What was set for {', '.join(of)} is not recorded in {_listed(unsaid)}: see that it "
              "was measured alike. Nothing of it is marked." for unsaid, of in unrecorded.items()]
  without = [run.name for run in runs if not any(m.better for m in run.metrics.values())]
  if without:
    remarks.append(f"Nothing of {_listed(without)} is marked: the results there do not say which "
                   "direction is better. Measure it again.")
  return Comparison([_heading(group) for group in groups], _differing(groups), figures, others,
                    remarks)


def _groups(runs):
  """Lists of runs that differ in their seed alone.

  A seed that comes again begins another list, and so does one that is not recorded.
  """
  groups = {}
  for run in runs:
    same = run.settings and repr(sorted(
        (k, repr(v)) for k, v in run.settings.run.items() if k not in _SEEDS))
    group = next(i for i in range(len(runs)) if _seed(run) not in map(
        _seed, groups.get((same, i), [])))
    groups.setdefault((same, group), []).append(run)
  return list(groups.values())


def _seed(run):
  """As text."""
  if run.settings is None:
    return "?"
  return str(next((run.settings.run[name] for name in _SEEDS if name in run.settings.run), "–"))


def _heading(group):
  first, *others = [run.name for run in group]
  return f"{first} … {others[-1]}, {len(group)} seeds" if others else f"{first}, 1 seed"


def _differing(groups):
  """Rows of what differs between groups, the runs' seeds and steps first."""
  seeds = [", ".join(map(_seed, group)) for group in groups]
  steps = [", ".join(f"{run.step:,}" if run.step is not None else "–" for run in group)
           for group in groups]
  rows = [("SEED", seeds)]
  if any(run.step is not None for group in groups for run in group):
    rows.append(("weights after step", steps))
  settings = [group[0].settings and group[0].settings.run for group in groups]
  names = sorted({name for one in settings if one is not None for name in one} - {*_SEEDS},
                 key=lambda name: ("." in name, name))
  for name in names:
    values = ["?" if one is None else str(one.get(name, "–")) for one in settings]
    if len(set(values) - {"?"}) > 1:
      rows.append((name, values))
  return [(name, [html.Cell(value, words=True) for value in values]) for name, values in rows]


class _Column(NamedTuple):
  """A figure of a group: over seeds, or the figure of the one run."""

  value: float = float("nan")
  spread: float = float("nan")
  error: float = float("nan")
  note: str = ""

  @classmethod
  def of(cls, group, metric, figure):
    runs = [(run, run.metrics[metric].figures[figure]) for run in group
            if metric in run.metrics and figure in run.metrics[metric].figures]
    if not runs:
      return cls()
    values, errors = (np.array([found[key] for _, found in runs], np.float64)  # None is NaN
                      for key in ("value", "stderr"))
    error = errors.mean()
    spread = values.std(ddof=1) if len(runs) > 1 else error
    return cls(values.mean(), spread, max(spread, error), "; ".join(_note(*one) for one in runs))

  def cell(self, unit, best):
    return html.Cell(html.figure(self.value, self.spread, unit), best, self.note)


def _note(run, found):
  said = html.figure(found["value"], found["stderr"])
  more = f" ({found['note']})" if found.get("note") else ""
  return f"{run.name}: {said}, n = {found['n']}{more}"


def _agreed(metrics):
  """{figure: "high" or "low"} as all runs that have it say."""
  return {figure: side for metric in metrics for figure, side in metric.better.items()
          if all(other.better.get(figure) == side for other in metrics if figure in other.figures)}


def _best(columns, better):
  """Which column is the best by more than two errors of its difference; None if none is."""
  sign = {"high": 1, "low": -1}.get(better)
  ranked = sorted((i for i, column in enumerate(columns) if not math.isnan(column.value)),
                  key=lambda i: -(sign or 1) * columns[i].value)
  if sign is None or len(ranked) < 2:
    return None
  first, second = (columns[i] for i in ranked[:2])
  apart = abs(first.value - second.value) > 2 * math.hypot(first.error, second.error)
  return ranked[0] if apart else None


def _listed(names, most=4):
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more


def _lines(title, columns, rows):
  """A table as lines of text."""
  cells = [[("*" if cell.best else "") + _short(cell.text) for cell in row] for _, row in rows]
  widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
  first = max(len(title), *(2 + len(name) for name, _ in rows))
  names = [title, *(f"  {name}" for name, _ in rows)]
  return [f"{name:<{first}}" + "".join(f"  {text:>{width}}" for text, width in zip(
      line, widths, strict=True)) for name, line in zip(names, [columns, *cells], strict=True)]


def _short(text, most=30):
  return text if len(text) <= most else text[:most - 1] + "…"
