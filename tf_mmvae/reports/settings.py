"""What figures depend on besides weights and data."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Settings(NamedTuple):
  """What was set, {name: value}, each value one that JSON knows and no reference to another.

  Names are those of whoever sets them: "image/mm.Modality.likelihood" or "num_samples". The last
  part of a name, after its last dot, is that of an argument.
  """

  run: Mapping[str, Any] = _NOTHING  # all of the run, its seed as "SEED" or "seed"
  metrics: Mapping[str, Mapping[str, Any]] = _NOTHING  # {metric: its own}
  references: Mapping[str, Mapping[str, Any]] = _NOTHING  # {metric: of what it refers to}
  model: Mapping[str, Any] = _NOTHING  # of the model, on which every figure depends
  likelihoods: Mapping[str, Any] = _NOTHING  # families and scales; nats compare where they agree
  objective: Mapping[str, Any] = _NOTHING  # of the objective, less what changes gradients alone

  def text(self) -> str:
    """All of the run as lines "name = value", names without a dot first."""
    lines = []
    for name in sorted(self.run, key=lambda name: ("." in name, name)):
      value = self.run[name]
      is_name = isinstance(value, str) and value[:1] in ("@", "%")
      lines.append(f"{name} = {value if is_name else repr(value)}")
    return "\n".join(lines)

  def as_json(self) -> "Settings":
    """The same as it is read back from a file: tuples are lists.

    Raises:
      ValueError: for a value that JSON does not know.
    """
    return Settings(*({name: _as_json(field, name, value) for name, value in of_field.items()}
                      for field, of_field in self._asdict().items()))


def _as_json(field, name, value):
  if isinstance(value, Mapping):
    return {str(key): _as_json(field, f"{name}: {key}", inner) for key, inner in value.items()}
  try:
    return json.loads(json.dumps(value, allow_nan=False))
  except (TypeError, ValueError) as error:
    raise ValueError(f"settings of the {field}, '{name}': {value!r} cannot be kept ({error}): give "
                     "numbers, text, True, False or None, or lists and dicts of these") from error
