"""What an evaluation left in a run's directory, and has not to be measured again."""

import hashlib
import json
import math
import pathlib
import re

from absl import logging
from PIL import Image

from tf_mmvae.run_dir import replacing

_STATE = "report.json"
_PACKAGE = pathlib.Path(__file__).parents[1]


class Results:
  """The findings of metrics in a directory.

    METRIC.json         {figure: {"value", "stderr", "n"}}, and a "note" where there is one; null
                        stands for what is not finite
    METRIC_TITLE.png    its pictures
    report.json         {"step": of the weights, "metrics": {METRIC: entry}}: what else the report
                        needs

  An entry holds the metric's `title`, `examples` in words, `weights` and `data` (hashes), `key` (of
  all that the figures depend on), `seconds`, `peak_mib`, `tables`, `pictures` (with `file` in place
  of pixels), `remarks` and `better` {figure: "high" or "low"}; or an `error` in place of these.
  """

  def __init__(self, directory):
    self._directory = pathlib.Path(directory)
    self._step = None
    self.entries = self._read_entries()

  def is_current(self, metric, key):
    """Whether the findings of a metric are there, and are those of `key`."""
    return self.entries.get(metric, {}).get("key") == key

  def begin(self, weights, step):
    """Drops what was found with other weights than those of a step, and what failed."""
    self._step = step
    others = {metric: entry for metric, entry in self.entries.items()
              if entry["weights"] != weights or "error" in entry}
    for metric, entry in others.items():
      del self.entries[metric]
      for file in [f"{metric}.json", *(p["file"] for p in entry.get("pictures", []))]:
        (self._directory / file).unlink(missing_ok=True)
    if others:
      self._write_state()

  def figures(self, metric):
    """{figure: {"value", "stderr", "n"}} of a metric; {} where there are none."""
    path = self._directory / f"{metric}.json"
    return _read_json(path) if path.is_file() else {}

  def write(self, metric, findings, **entry):
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
    self._put(metric, entry)

  def write_error(self, metric, said, **entry):
    """Keeps that a metric could not be measured; older figures go."""
    (self._directory / f"{metric}.json").unlink(missing_ok=True)
    self._put(metric, {**entry, "error": said})

  def _put(self, metric, entry):
    self.entries[metric] = entry
    self._write_state()

  def _write_state(self):
    self._write_json(_STATE, {"step": self._step, "metrics": self.entries})

  def _read_entries(self):
    try:
      entries = dict(_read_json(self._directory / _STATE)["metrics"])
    except FileNotFoundError:
      return {}
    except (ValueError, KeyError, TypeError) as error:
      logging.warning("%s cannot be read (%s): everything is measured anew",
                      self._directory / _STATE, error)
      return {}
    return {metric: entry for metric, entry in entries.items() if self._is_whole(metric, entry)}

  def _is_whole(self, metric, entry):
    """Whether an entry and its files have all that a report shows; says so where they have not."""
    try:
      figures = {} if "error" in entry else _read_json(self._directory / f"{metric}.json")
      _check(entry, figures)
      for picture in entry.get("pictures", []):
        with Image.open(self._directory / picture["file"]) as image:
          image.verify()
      return True
    except (AttributeError, KeyError, OSError, SyntaxError, TypeError, ValueError) as error:
      logging.warning("%s: what %s has of it is damaged, or of an older version (%s): it is left "
                      "out until it is measured anew", metric, self._directory, error)
      return False

  def _draw(self, metric, picture):
    name = f"{metric}_{re.sub(r'[^a-z0-9]+', '_', picture.title.lower()).strip('_')}.png"
    with replacing(self._directory / name) as path:
      Image.fromarray(picture.pixels).save(path, "PNG")
    return name

  def _write_json(self, name, value):
    self._directory.mkdir(parents=True, exist_ok=True)
    with replacing(self._directory / name) as path, open(path, "w", encoding="utf-8") as file:
      json.dump(value, file, indent=2, allow_nan=False)


def key(*parts):
  """A hash of strings, and of the package's own sources: other code may find other figures."""
  digest = hashlib.sha256("\0".join(parts).encode())
  for path in sorted(_PACKAGE.rglob("*.py")):
    digest.update(path.read_bytes())
  return digest.hexdigest()


def check_figures(figures):
  """Raises an error unless these are {figure: {"value", "stderr", "n"}}."""
  for found in figures.values():
    numbers = [found["value"], found["stderr"], found["n"]]
    if not all(isinstance(number, float | int | None) for number in numbers):
      raise TypeError("no number")


def _check(entry, figures):
  """Raises an error unless an entry and its figures have all that a report shows."""
  texts = [entry[name] for name in ("title", "examples", "weights", "key")]
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
