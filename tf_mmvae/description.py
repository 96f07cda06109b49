"""What an object is, in words and numbers as JSON knows them: to tell one experiment from another.

What cannot be told, such as what a lambda does, is left out: equal descriptions do not make equal
objects, but different ones are different.
"""

import functools
import hashlib
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


def describe_words(tokenizer: Any) -> str:
  """What tells a tokenizer's words from others: their number, and a hash."""
  words = getattr(tokenizer, "words", ())
  digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
  return f"{len(words)} words, {digest}"


def check_tokenizers(tokenizers: Mapping[str, Any], description: Mapping[str, Any]) -> None:
  """Raises ValueError for words that are not those of a described experiment."""
  for name, tokenizer in tokenizers.items():
    before, now = description.get(f"tokenizer.{name}"), describe_words(tokenizer)
    if description and before != now:
      raise ValueError(f"the tokenizer of '{name}' is not the one that the run was trained with "
                       f"({before or 'none'} there, {now} now): give that one")


def describe(value: Any) -> Any:
  """A description of an optimizer, a network, a function, or what holds them."""
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, functools.partial):
    given = [*map(describe, value.args),
             *(f"{name}={describe(v)}" for name, v in value.keywords.items())]
    return f"{describe(value.func)}({', '.join(map(str, given))})"
  if inspect.isfunction(value) and not str(value.__module__).startswith("tf_mmvae."):
    return f"{value.__name__}, {_digest(value)}"  # of the user's own, which may change
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


def _digest(function):
  """Eight digits that change with the numbers and names that a function uses."""
  inside = inspect.getclosurevars(function).nonlocals
  told = [_of_code(function.__code__), describe(inside), describe(function.__defaults__),
          describe(function.__kwdefaults__)]
  return hashlib.sha256(repr(told).encode()).hexdigest()[:8]


def _of_code(code):
  """Names and constants of a function and those inside it."""
  return [code.co_names,
          [_of_code(one) if inspect.iscode(one) else one for one in code.co_consts]]
