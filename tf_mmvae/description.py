"""What an object is, in words and numbers as JSON knows them: to tell one experiment from another.

What cannot be told, such as what a lambda does, is left out: equal descriptions do not make equal
objects, but different ones are different.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from tf_mmvae.estimators import Estimator, SubsampledEstimator
from tf_mmvae.model import MultimodalVAE


def describe(what: Any) -> Any:
  """A description of a model ({name: value}), an estimator, optimizer, network or function."""
  if isinstance(what, MultimodalVAE):
    return _of_model(what)
  if isinstance(what, (Estimator, SubsampledEstimator)):
    return str(what)
  return _described(what)


def _of_model(model):
  found = {"latent_dim": model.latent_dim, "joint_posterior": str(model.joint_posterior)}
  for name, modality in model.modalities.items():
    parts = {"shape": list(modality.spec.shape[1:]), "dtype": modality.spec.dtype.name,
             **modality.parts}
    found |= {f"{name}.{part}": _described(value) for part, value in parts.items()}
  return found


def _described(value):
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, functools.partial):
    given = [*map(_described, value.args),
             *(f"{name}={_described(v)}" for name, v in value.keywords.items())]
    return f"{_described(value.func)}({', '.join(map(str, given))})"
  if inspect.isroutine(value) or inspect.isclass(value):
    return value.__name__
  if isinstance(value, Mapping):
    return {str(key): _described(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_described(one) for one in value]
  if hasattr(value, "get_config"):
    try:
      config = value.get_config()
    except (NotImplementedError, TypeError):  # a network of the user's that does not say
      config = {}
    config = {name: _described(v) for name, v in config.items() if name not in ("name", "dtype")}
    return {"class": type(value).__name__, **config}
  return type(value).__name__
