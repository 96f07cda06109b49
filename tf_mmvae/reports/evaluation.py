"""Metrics of a model on a data set, one after the other, kept as JSON."""

import hashlib
import re
import resource
import time

import numpy as np
from absl import logging

from tf_mmvae.metrics.findings import Findings
from tf_mmvae.reports import html, results


class Evaluation:
  """Measures a model by named metrics on held-out data."""

  def __init__(self, dataset, metrics, max_examples=None):
    """Sets what is measured.

    Args:
      dataset: held-out examples.
      metrics: {name: function (model, dataset) -> `Findings`, or figures {name: (value, standard
        error, number)} alone}. One may have a `title`, and a method `check(model)` that raises a
        ValueError for a model that it is not fit for.
      max_examples: how many of the examples, evenly spread; None takes all.

    Raises:
      ValueError: if max_examples is below 1, or a metric is no function or its name no file's.
    """
    _check_metrics(metrics)
    if max_examples is not None and (not isinstance(max_examples, int) or max_examples < 1):
      raise ValueError(
          f"max_examples must be a whole number of at least 1, or None, got {max_examples!r}")
    self.dataset, self._metrics = dataset.spread(max_examples), metrics

  def what(self):
    """What is measured on what, in words."""
    return (f"{', '.join(self._metrics) or 'no metric'} on {self.dataset.name}, "
            f"{self.dataset.num_examples:,} examples")

  def check(self, model):
    """Raises the ValueError of a metric that finds the model unfit for it, before all the work."""
    for metric in self._metrics.values():
      if hasattr(metric, "check"):
        metric.check(model)

  def __call__(self, model, directory, settings=None, step=None):
    """Measures what has not been measured in the same way before; returns `Results`.

    What is in the directory already stays if weights, data, settings and the package are the same,
    so that an evaluation goes on where it was stopped. A metric that fails is noted, and the others
    are measured.

    Args:
      model: `MultimodalVAE`.
      directory: for `Results`.
      settings: {metric: text that changes with what its figures depend on besides}.
      step: after which the model has these weights, for the record.
    """
    found = results.Results(directory)
    weights, data = _digest(model), self.dataset.fingerprint()
    found.begin(weights, step)
    examples = f"{self.dataset.name}, {self.dataset.num_examples:,} examples"
    for name, metric in self._metrics.items():
      key = results.key(data, (settings or {}).get(name, ""))
      title = getattr(metric, "title", name.replace("_", " ").capitalize())
      entry = {"title": title, "examples": examples, "weights": weights, "data": data, "key": key}
      if found.is_current(name, key):
        logging.info("Measured before: %s", name)
        continue
      logging.info("Measuring %s", name)
      started = time.monotonic()
      try:
        if hasattr(metric, "check"):
          metric.check(model)
        findings = _as_findings(metric(model, self.dataset))
      except Exception as error:  # whatever it is, the others can be measured
        _note(found, name, error, entry)
        continue
      peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
      try:
        found.write(name, findings, **entry, seconds=time.monotonic() - started, peak_mib=peak)
      except (AttributeError, TypeError, ValueError) as error:  # on a full disk no other is kept
        _note(found, name, error, entry)
    return found


def _check_metrics(metrics):
  if not isinstance(metrics, dict):
    raise ValueError(f"metrics must be {{name: metric}}, got {metrics!r}")
  for name, metric in metrics.items():
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w. -]*", name) or name == "report":
      raise ValueError(f"{name!r} cannot name a metric, whose figures go into a file of this name: "
                       "take letters, digits, '_' and '-', and not 'report'")
    if isinstance(metric, type):
      raise ValueError(f"metric '{name}' is the class {metric.__name__}: in a gin file give it "
                       "with () after its name")
    if not callable(metric):
      raise ValueError(f"metric '{name}' must be a function (model, dataset), got {metric!r}")


def _note(found, name, error, entry):
  """Keeps in `Results` why a metric has no figures."""
  if not isinstance(error, ValueError | OSError):
    logging.error("%s failed", name, exc_info=error)
  said = str(error) or type(error).__name__
  if isinstance(error, KeyError):
    said = f"there is no {said}: look at the labels and modalities that it is set to use"
  found.write_error(name, said, **entry)


def _as_findings(found):
  if isinstance(found, Findings):
    return found
  if isinstance(found, dict):
    return Findings(found)
  raise ValueError(f"it returned {type(found).__name__} in place of Findings, or of figures "
                   "{name: (value, standard error, number)}")


def table(found):
  """What `Results` hold, as lines of text."""
  lines = []
  for metric, entry in found.entries.items():
    figures = found.figures(metric)
    lines.append(f"{metric}:")
    if "error" in entry:
      lines.append(f"  not measured: {entry['error']}")
      continue
    tables = [t for t in entry["tables"] if not t["detail"]]
    for of_one in tables:
      lines += _in_columns(of_one, figures)
    if not tables:
      width = max(map(len, figures), default=0)
      lines += [f"  {name:<{width}}  {_said(figure):>14}  (n = {figure['n']})"
                for name, figure in figures.items()]
    lines += [f"  {remark}" for remark in entry["remarks"]]
  return "\n".join(lines)


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


def _digest(model):
  """A hash of a model's weights."""
  digest = hashlib.sha256()
  for weight in model.weights:
    digest.update(np.ascontiguousarray(weight).tobytes())
  return digest.hexdigest()
