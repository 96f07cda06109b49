"""Metrics of a model on a data set, kept as JSON."""

import json
import math
import os


class Evaluation:
  """Measures a model by named metrics on a held-out data set."""

  def __init__(self, dataset, metrics):
    """Sets what is measured.

    Args:
      dataset: held-out examples.
      metrics: {name: function (model, dataset) -> {figure: (value, standard error, number)}}.
    """
    self._dataset, self._metrics = dataset, metrics

  def what(self):
    """What is measured on what, in words."""
    return (f"{', '.join(self._metrics) or 'no metric'} on {self._dataset.name}, "
            f"{self._dataset.num_examples:,} examples")

  def check(self, model):
    """Raises the ValueError of a metric that finds the model unfit for it, before all the work."""
    for metric in self._metrics.values():
      if hasattr(metric, "check"):
        metric.check(model)

  def __call__(self, model, results_dir):
    """{name: {figure: (value, standard error, number)}}.

    Writes `name`.json into `results_dir` for each metric: {figure: {"value", "stderr", "n"}}, with
    null for what is not finite.
    """
    os.makedirs(results_dir, exist_ok=True)
    results = {}
    for name, metric in self._metrics.items():
      results[name] = metric(model, self._dataset)
      figures = {figure: {"value": _finite(value), "stderr": _finite(error), "n": int(num)}
                 for figure, (value, error, num) in results[name].items()}
      path = os.path.join(results_dir, f"{name}.json")
      with open(f"{path}.unfinished", "w", encoding="utf-8") as file:
        json.dump(figures, file, indent=2, allow_nan=False)
      os.replace(f"{path}.unfinished", path)
    return results


def table(results):
  """The figures of an `Evaluation` as lines of text."""
  lines = []
  for metric, figures in results.items():
    lines.append(f"{metric}:")
    width = max(map(len, figures), default=0)
    lines += [f"  {figure:<{width}}  {value:10.4g} +- {error:.2g}  (n = {num})"
              for figure, (value, error, num) in figures.items()]
  return "\n".join(lines)


def _finite(value):
  """A number that JSON knows, or None."""
  return float(value) if math.isfinite(value) else None
