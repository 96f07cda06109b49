"""Metrics of a model on a data set, one after the other, kept as JSON."""

import hashlib
import json
import os
import re
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from absl import logging

from tf_mmvae.metrics.findings import Findings
from tf_mmvae.reports import results
from tf_mmvae.reports.settings import Settings

Metric = Callable[[Any, Any], Findings | dict[str, tuple[float, float, int]]]


class Evaluation:
  """Measures a model by named metrics on held-out data."""

  def __init__(self, dataset: Any, metrics: dict[str, Metric], max_examples: int | None = None):
    """Sets what is measured.

    Args:
      dataset: `Examples` that were held out.
      metrics: {name: function (model, dataset) -> `Findings`, or figures {name: (value, standard
        error, number)} alone}. One may have a `title`, and a method `check(model)` that raises a
        ValueError for a model that it is not fit for.
      max_examples: how many of the examples, evenly spread; None takes all.

    Raises:
      ValueError: if max_examples is below 1, or a metric is no function or its name no file's.
    """
    check_metrics(metrics)
    if max_examples is not None and (not isinstance(max_examples, int) or max_examples < 1):
      raise ValueError(
          f"max_examples must be a whole number of at least 1, or None, got {max_examples!r}")
    self.dataset, self._metrics = dataset.spread(max_examples), metrics

  def what(self) -> str:
    """What is measured on what, in words."""
    return (f"{', '.join(self._metrics) or 'no metric'} on {self.dataset.name}, "
            f"{self.dataset.num_examples:,} examples")

  def check(self, model: keras.Model) -> None:
    """Raises the ValueError of a metric that finds the model unfit for it, before all the work."""
    for metric in self._metrics.values():
      if hasattr(metric, "check"):
        metric.check(model)

  def __call__(self, model: keras.Model, directory: str | os.PathLike,
               settings: Settings | None = None, step: int | None = None) -> results.Results:
    """Measures what has not been measured in the same way before.

    What is in the directory already stays if weights, data, settings and the package are the same,
    so that an evaluation goes on where it was stopped. A metric that fails is noted, and the others
    are measured.

    Args:
      model: `MultimodalVAE`.
      directory: for `Results`.
      settings: what was set. Where nobody knows it, None, or of a metric that `settings.metrics`
        leaves out, all is measured anew.
      step: after which the model has these weights, for the record.

    Raises:
      ValueError: if a setting cannot be kept as JSON.
    """
    if settings is not None:
      settings = settings.as_json()
    found = results.Results(directory)
    weights, data = _digest(model), self.dataset.fingerprint()
    found.begin(weights, step, settings)
    examples = f"{self.dataset.name}, {self.dataset.num_examples:,} examples"
    for name, metric in self._metrics.items():
      of_metric = settings and settings.metrics.get(name)
      key = None if of_metric is None else results.key(
          data, json.dumps([of_metric, settings.references.get(name), settings.model],
                           sort_keys=True))
      title = getattr(metric, "title", name.replace("_", " ").capitalize())
      entry = {"title": title, "examples": examples, "weights": weights, "data": data,
               "settings": of_metric, "key": key}
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


def evaluate(model: keras.Model, dataset: Any, metrics: dict[str, Metric],
             directory: str | os.PathLike | None = None,
             max_examples: int | None = None) -> results.Results:
  """Measures a model, whoever trained it.

    found = evaluate(model, dataset, {"held_out": HeldOut(Estimator(), num_samples=10)})
    print(found)
    found["held_out"]["elbo"].value  # nats

  Args:
    model, dataset, metrics, max_examples: see `Evaluation`.
    directory: for the files of `Results`. None leaves nothing on disk; the figures are in memory,
      and pictures are gone.

  Raises:
    ValueError: see `Evaluation`.
  """
  evaluation = Evaluation(dataset, metrics, max_examples)
  if directory is not None:
    return evaluation(model, directory)
  with tempfile.TemporaryDirectory() as folder:
    return evaluation(model, folder)


def table(found: results.Results) -> str:
  """What `Results` hold, as lines of text."""
  return str(found)


def check_metrics(metrics: Mapping[str, Metric]) -> None:
  """Raises ValueError for what is no {name: metric}, or a name that cannot be a file's."""
  if not isinstance(metrics, dict):
    raise ValueError(f"metrics must be {{name: metric}}, got {metrics!r}")
  for name, metric in metrics.items():
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w. -]*", name) or name == "report":
      raise ValueError(f"{name!r} cannot name a metric, whose figures go into a file of this name: "
                       "take letters, digits, '_' and '-', and not 'report'")
    if isinstance(metric, type):
      raise ValueError(f"metric '{name}' is the class {metric.__name__}: give an instance, "
                       f"{metric.__name__}()")
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
  if isinstance(found, dict) and all(isinstance(name, str) for name in found):
    return Findings(found)
  raise ValueError(f"it returned {type(found).__name__} in place of Findings, or of figures "
                   "{name: (value, standard error, number)}")


def _digest(model):
  """A hash of a model's weights."""
  digest = hashlib.sha256()
  for weight in model.weights:
    digest.update(np.ascontiguousarray(weight).tobytes())
  return digest.hexdigest()
