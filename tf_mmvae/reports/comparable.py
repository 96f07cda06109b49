"""Which figures of several runs are not to be compared, and why."""

import re

# Settings of a metric that change nothing of what it estimates.
_NO_MATTER = ("seed", "batch_size", "num_examples", "estimator")
_IN_NATS = re.compile(r"(^|/)(elbo|iwae|iwae_tight|objective|log_\w+)(/|$)")


def reasons(groups, name, units):
  """Why figures of one metric are not to be compared between groups of runs.

  They are where the test data are the same, the metric was set alike, and a figure is over as many
  observations; likelihoods also need the same family and scale, and an objective its own settings.

  Args:
    groups: lists of `comparison.Run`; those of one list differ in SEED alone.
    name: of the metric.
    units: {figure: unit}; figures in "nats" are likelihoods, and those of the bounds' names.

  Returns:
    {figure: what keeps it from being compared}
  """
  groups = [[run for run in group if name in run.metrics] for group in groups]
  groups = [group for group in groups if group]
  settings = [group[0].settings for group in groups]
  metrics = [[run.metrics[name] for run in group] for group in groups]
  figures = dict.fromkeys(f for group in metrics for metric in group for f in metric.figures)
  if _differ({metric.data for metric in group} for group in metrics):
    return dict.fromkeys(figures, "the test data differ")
  if differing := _differing([_metric_settings(one, name) for one in settings]):
    return dict.fromkeys(figures, f"it was set otherwise ({differing})")
  scales = _differing([_likelihood_settings(one) for one in settings]) or ", ".join(
      f for f in figures if {"b", "scale"} & set(f.split("/"))
      and _differ(_all(metrics, f, "value")))
  objectives = _differing([_objective_settings(one) for one in settings])
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


def _all(metrics, figure, key):
  """What each group that has a figure holds of it, a set over its runs."""
  found = [{metric.figures[figure][key] for metric in group if figure in metric.figures}
           for group in metrics]
  return [values for values in found if values]


def _metric_settings(settings, name):
  metrics = _resolved(settings, settings.get("evaluate.Evaluation.metrics"))
  reference = metrics.get(name) if isinstance(metrics, dict) else None
  return {key: value for key, value in _bound(settings, reference).items()
          if key.rsplit(".", 1)[1] not in _NO_MATTER}


def _likelihood_settings(settings):
  found = {}
  for key in settings:
    if key.endswith("Modality.likelihood"):
      found |= {key: _resolved(settings, settings[key]), **_bound(settings, settings[key])}
  return found


def _objective_settings(settings):
  estimator = settings.get("train.train.estimator")
  return {"estimator": _resolved(settings, estimator), **{
      key: value for key, value in _bound(settings, estimator).items()
      if not key.endswith(".gradient")}}


def _bound(settings, reference):
  """{name: value} of what is set of the function that a reference names, in any scope."""
  selector = str(_resolved(settings, reference)).strip("@()").split("/")[-1]
  return {key: _resolved(settings, value) for key, value in settings.items()
          if key.split("/")[-1].rpartition(".")[0] == selector}


def _resolved(settings, value):
  while isinstance(value, str) and value.startswith("%") and value[1:] in settings:
    value = settings[value[1:]]
  return value


def _differing(settings):
  """What is not the same in all, as text; empty if nothing is."""
  names = sorted({name for one in settings for name in one})
  return "; ".join(f"{name}: {', '.join(str(one.get(name, '–')) for one in settings)}"
                   for name in names if _differ(repr(one.get(name)) for one in settings))


def _differ(values):
  values = list(values)
  return any(value != values[0] for value in values[1:])
