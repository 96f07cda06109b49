"""Which figures of several runs are not to be compared, and why."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from tf_mmvae.reports.comparison import Run

# Settings of a metric that change nothing of what it estimates.
_NO_MATTER = ("seed", "batch_size", "num_examples", "estimator")
_IN_NATS = re.compile(r"(^|/)(elbo|iwae|iwae_tight|objective|log_\w+)(/|$)")


def reasons(groups: Sequence[Sequence["Run"]], name: str,
            units: Mapping[str, str]) -> dict[str, str]:
  """Why figures of one metric are not to be compared between groups of runs.

  They are where the test data are the same, the metric was set alike, and a figure is over as many
  observations; likelihoods also need the same family and scale, and an objective its own settings.
  Of settings that are not recorded nothing is said here; see `unrecorded`.

  Args:
    groups: lists of `comparison.Run`; those of one list differ in their seed alone.
    name: of the metric.
    units: {figure: unit}; figures in "nats" are likelihoods, and those of the bounds' names.

  Returns:
    {figure: what keeps it from being compared}
  """
  groups = _having(groups, name)
  recorded = [[run for run in group if _is_recorded(run, name)] for group in groups]
  metrics = [[run.metrics[name] for run in group] for group in groups]
  figures = dict.fromkeys(f for group in metrics for metric in group for f in metric.figures)
  if _differ({metric.data for metric in group} for group in metrics):
    return dict.fromkeys(figures, "the test data differ")
  if differing := _differing(recorded, lambda run: _metric_settings(run, name)):
    return dict.fromkeys(figures, f"it was set otherwise ({differing})")
  scales = _differing(recorded, lambda run: run.settings.likelihoods) or ", ".join(
      f for f in figures if {"b", "scale"} & set(f.split("/"))
      and _differ(_all(metrics, f, "value")))
  objectives = _differing(recorded, lambda run: run.settings.objective)
  found = {}
  for figure in figures:
    in_nats = units.get(figure) == "nats" or _IN_NATS.search(figure)
    if _differ(_all(metrics, figure, "n")):
      found[figure] = "the numbers n of observations differ"
    elif in_nats and scales:
      found[figure] = f"likelihoods compare at one family and scale alone ({scales})"
    elif objectives and "objective" in figure.split("/"):
      found[figure] = f"the objectives differ ({objectives})"
  return found


def unrecorded(groups: Sequence[Sequence["Run"]], name: str) -> list[str]:
  """Names of runs of which nobody knows how a metric was set, where there are groups to compare."""
  groups = _having(groups, name)
  return [run.name for group in groups for run in group
          if len(groups) > 1 and not _is_recorded(run, name)]


def _having(groups, name):
  groups = [[run for run in group if name in run.metrics] for group in groups]
  return [group for group in groups if group]


def _is_recorded(run, name):
  return run.settings is not None and name in run.settings.metrics


def _metric_settings(run, name):
  return {key: value for key, value in run.settings.metrics[name].items()
          if key.split(".")[-1] not in _NO_MATTER}


def _all(metrics, figure, key):
  """What each group that has a figure holds of it, a set over its runs."""
  found = [{metric.figures[figure][key] for metric in group if figure in metric.figures}
           for group in metrics]
  return [values for values in found if values]


def _differing(groups, settings_of):
  """What is not the same in all runs, as text, once for a group that agrees; empty if nothing is.

  settings_of: function of a run.
  """
  settings = []
  for group in groups:
    found = [settings_of(run) for run in group]
    settings += [one for i, one in enumerate(found) if one not in found[:i]]
  names = sorted({name for one in settings for name in one})
  return "; ".join(f"{name}: {', '.join(str(one.get(name, '–')) for one in settings)}"
                   for name in names if _differ(repr(one.get(name)) for one in settings))


def _differ(values):
  values = list(values)
  return any(value != values[0] for value in values[1:])
