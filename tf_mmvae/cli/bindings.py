"""What a gin configuration says, read as text: its bindings, and which of them a part leads to."""

import re


class _Macro(str):
  """%NAME"""


class _Reference(str):
  """@scope/module.Name, with () where it is called."""


class _AsText:
  """Reads references and macros of a gin file as text."""

  def configurable_reference(self, scoped_name, evaluate):
    return _Reference(f"@{scoped_name}" + ("()" if evaluate else ""))

  def macro(self, name):
    return _Macro(f"%{name}")


def bindings(text):
  """{(scope, selector, argument): value} of a configuration; macros have the argument ''."""
  from gin import config_parser
  return {(s.scope or "", s.selector, s.arg_name or ""): s.value
          for s in config_parser.ConfigParser(text, _AsText())
          if isinstance(s, config_parser.BindingStatement)}


def name_of(key):
  """A key of `bindings` as a gin file writes it."""
  scope, selector, argument = key
  return (scope + "/" if scope else "") + selector + ("." + argument if argument else "")


def reached(value, given):
  """{name: value} of the bindings that a value's references and macros lead to, resolved.

  A reference without a scope takes that of whoever makes it, so bindings of every scope count.

  Args:
    value: of a binding, or text such as "@mm.MultimodalVAE()".
    given: `bindings` of the whole configuration.
  """
  found, new = {}, [value]
  while new:
    references = {of for one in new for of in re.findall(r"[@%]((?:[\w.]+/)*)([\w.]+)", str(one))}
    keys = {key for key in given for scope, name in references
            if key[1] == name and (not scope or scope.startswith(key[0] and f"{key[0]}/"))}
    new = [given[key] for key in keys - found.keys()]
    found |= {key: resolved(given[key], given) for key in keys}
  return {name_of(key): found[key] for key in sorted(found) if key[2]}


def resolved(value, given):
  """A value with what its macros stand for in their place; references stay text."""
  if isinstance(value, _Macro):
    key = ("", value[1:], "")
    return resolved(given[key], given) if key in given else str(value)
  if isinstance(value, _Reference):
    return str(value)
  if isinstance(value, dict):
    return {resolved(k, given): resolved(v, given) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [resolved(one, given) for one in value]
  return value
