"""What of a configuration figures depend on, resolved, as `reports.settings` keeps it."""

from tf_mmvae.cli.bindings import bindings, name_of, reached, resolved
from tf_mmvae.cli.config import config_text

_MODEL = "@mm.MultimodalVAE()"
_NOT_OF_THE_VALUE = ("gradient", "screening")  # they change how an objective is learnt


def settings():
  """The `reports.settings.Settings` of the configuration that is loaded."""
  from tf_mmvae.reports.settings import Settings
  given = bindings(config_text())
  metrics, references = {}, {}
  for metric, reference in _metrics(given):
    selector = str(reference).strip("@()").split("/")[-1]
    every = reached(reference, given)
    metrics[metric] = {name: value for name, value in every.items()
                       if name.split("/")[-1].rpartition(".")[0] == selector}
    references[metric] = {name: value for name, value in every.items()
                          if name not in metrics[metric]}
  likelihoods = {}
  for key, value in given.items():
    if key[2] == "likelihood":
      likelihoods |= {name_of(key): resolved(value, given), **reached(value, given)}
  objective = {name: value for name, value in reached("%ESTIMATOR", given).items()
               if name.rsplit(".", 1)[-1] not in _NOT_OF_THE_VALUE and "Screening" not in name}
  return Settings(
      run={name_of(key): _as_json(value) for key, value in given.items()}, metrics=metrics,
      references=references, model=reached(_MODEL, given), likelihoods=likelihoods,
      objective={"estimator": resolved(given.get(("", "ESTIMATOR", "")), given), **objective})


def _metrics(given):
  """(name, reference) of all metrics that the configuration lists."""
  for macro in ("METRICS", "AT_END"):
    listed = resolved(given.get(("", macro, "")), given)
    yield from listed.items() if isinstance(listed, dict) else ()


def _as_json(value):
  """A value as JSON knows it; macros and references are text."""
  return resolved(value, {})


def changed_model(run):
  """Sentences about a model that is configured otherwise than the run trained it."""
  then, now = ({f"{name} = {value!r}" for name, value in reached(_MODEL, given).items()}
               for given in (bindings(run.read_config()), bindings(config_text())))
  if then == now:
    return []
  return ["The model is configured otherwise than it was trained: "
          f"{'; '.join(sorted(then - now)) or 'nothing'} then, "
          f"{'; '.join(sorted(now - then)) or 'nothing'} now."]


def has_viewers():
  """Whether what the model makes is shown as a picture of the data set."""
  return bool(bindings(config_text()).get(("", "VIEWERS", "")))
