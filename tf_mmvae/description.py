"""What an object is, in words and numbers as JSON knows them: to tell one experiment from another.

What cannot be told, such as what a lambda does, is left out: equal descriptions do not make equal
objects, but different ones are different.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from tf_mmvae.model import MultimodalVAE


def describe_model(model: MultimodalVAE) -> dict[str, Any]:
  """{name: description} of a model's parts, such as "latent_dim" and "image.likelihood"."""
  found = {"latent_dim": model.latent_dim, "private_dim": model.private_dim,
           "joint_posterior": str(model.joint_posterior),
           "prior": describe(getattr(model.prior, "parts", model.prior))}
  for name, modality in model.modalities.items():
    parts = {"shape": list(modality.spec.shape[1:]), "dtype": modality.spec.dtype.name,
             **modality.parts}
    found |= {f"{name}.{part}": describe(value) for part, value in parts.items()}
  return found


def describe(value: Any) -> Any:
  """A description of an optimizer, a network, a function, or what holds them."""
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, functools.partial):
    given = [*map(describe, value.args),
             *(f"{name}={describe(v)}" for name, v in value.keywords.items())]
    return f"{describe(value.func)}({', '.join(map(str, given))})"
  if inspect.isroutine(value) or inspect.isclass(value):
    return value.__name__
  if isinstance(value, Mapping):
    return {str(key): describe(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [describe(one) for one in value]
  if hasattr(value, "get_config"):
    try:
      config = value.get_config()
    except (NotImplementedError, TypeError):  # a network of the user's that does not say
      config = {}
    config = {name: describe(v) for name, v in config.items() if name not in ("name", "dtype")}
    return {"class": type(value).__name__, **config}
  return type(value).__name__
