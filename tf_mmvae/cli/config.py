"""The gin configuration of a run: read, checked, and compared with what a run was trained by."""

import contextlib
import difflib
import functools
import importlib.util  # noqa: F401 (gin's dynamic registration expects it to be loaded)
import inspect
import logging as std_logging
import os
import re
import sys

from absl import flags, logging

from tf_mmvae.cli import mistakes
from tf_mmvae.cli.bindings import bindings, name_of

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Arguments of `Experiment` that an interrupted run may be given anew.
_MAY_DIFFER = ("num_steps", "log_every", "evaluate_every", "checkpoint_every",
               "examples_per_chunk", "jit_compile", "data_service")
_PATHS = ("RUN_DIR", "DATA_DIR", "MANUAL_DIR")


def define(values, run_dir=True):
  """Defines the flags of a configuration in `FlagValues`; with `run_dir` also that of the run."""
  flags.DEFINE_multi_string("gin_file", [], "A gin file; given again, the later one wins.",
                            flag_values=values)
  flags.DEFINE_multi_string(
      "gin_param", [], "A gin binding such as 'BATCH_SIZE = 32'; repeatable.", flag_values=values)
  if run_dir:
    flags.DEFINE_string("run_dir", None, "The run's directory. Default: runs/ and the gin file's "
                        "name.", flag_values=values)
  flags.DEFINE_string("data_dir", None, "Where tensorflow-datasets keeps prepared data sets. "
                      "Default: its own, ~/tensorflow_datasets.", flag_values=values)
  flags.DEFINE_string("manual_dir", None, "Where data lies that you fetched yourself. "
                      "Default: DATA_DIR/downloads/manual.", flag_values=values)


@contextlib.contextmanager
def _no_chatter():
  """Keeps what C++ libraries print while they load off the terminal; exceptions still come."""
  sys.stderr.flush()
  terminal = os.dup(2)
  with open(os.devnull, "w", encoding="utf-8") as nowhere:
    os.dup2(nowhere.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(terminal, 2)
    os.close(terminal)


def make_strategy():
  """The strategy of the processes of TF_CONFIG, or of the local devices; comes before `load`."""
  with _no_chatter():
    from tf_mmvae.training import workers
  return workers.make_strategy()


def load(run, flag, from_run):
  """Reads the configuration: gin files, then bindings; the flags' paths are macros in it.

  Args:
    run: `RunDir`, whose path is the value of RUN_DIR; None without a run.
    flag: object with `gin_file`, `gin_param`, `data_dir` and `manual_dir`.
    from_run: whether the run's saved configuration comes first.

  Raises:
    FileNotFoundError: if it should and the run has none.
    ValueError: for a macro without a value or a use, a word where True or False belongs, or what
      gin finds wrong.
  """
  import gin
  with _no_chatter():
    import tensorflow as tf
    import tensorflow_probability as tfp
    tfp.distributions  # noqa: B018 (it is loaded when it is named)
    tf.config.list_logical_devices()
  if logging.get_verbosity() < logging.DEBUG:
    tf.get_logger().setLevel(std_logging.ERROR)
  _search()
  paths = {"RUN_DIR": run and run.path, "DATA_DIR": flag.data_dir, "MANUAL_DIR": flag.manual_dir}
  used = set()  # macros, in whatever was read, though a later binding took its place
  if from_run:
    _parse(gin.parse_config, run.read_config(), run.config)
    used |= _macros_set()
  for file in flag.gin_file:
    _parse(gin.parse_config_file, file, file)
    used |= _macros_used()
  for name, path in paths.items():
    gin.parse_config(f"{name} = {path and os.path.abspath(os.path.expanduser(path))!r}")
  for binding in flag.gin_param:
    imports = "".join(re.findall(r"^(?:from|import) .*\n", gin.config_str(), re.M))
    _parse(gin.parse_config, imports + binding, f"--gin_param={binding!r}")
    used |= _macros_used()
  for name in sorted(_macros_used() - _macros_set() - set(_PATHS)):
    raise ValueError(f"macro {name} is used but has no value: set it in a gin file, or by "
                     f"--gin_param='{name} = ...'{_meant(name, _macros_set())}")
  for name in sorted(_macros_set() - used):
    raise ValueError(f"nothing uses the macro {name}: look for a misspelt name, or take it "
                     f"out{_meant(name, used)}")
  _refuse_words_for_bools()
  gin.finalize()


@functools.cache
def _search():
  """Has gin look for files in the present folder, then among those of this package.

  They lie in the package where it is installed, and beside it in a clone.
  """
  import gin
  for folder in (PACKAGE, os.path.dirname(PACKAGE)):
    gin.add_config_file_search_path(folder)


def _parse(parse, given, source):
  try:
    parse(given)
  except Exception as error:  # whatever gin, or a module that it imports, makes of a mistake
    raise mistakes.in_gin(error, source) from error


def _refuse_words_for_bools():
  """Raises ValueError for the likes of "False": any word would count as True.

  And for a macro that leads to itself.
  """
  import gin
  given = bindings(config_text())
  for key, value in given.items():
    name = (_, selector, argument) = key
    seen = set()
    while str(value).startswith("%"):
      if value in seen:
        raise ValueError(f"the macro {value[1:]} stands for itself: give it a value")
      seen.add(value)
      name = ("", value[1:], "")
      value = given.get(name)
    if not argument or not isinstance(value, str) or value.startswith("@"):
      continue
    made = gin.get_configurable(selector)
    made = made.__init__ if inspect.isclass(made) else made  # Keras has a __new__ of any arguments
    parameter = inspect.signature(made).parameters.get(argument)
    if parameter and isinstance(parameter.default, bool):
      raise ValueError(f"{name_of(name)} must be True or False, without quotes, got {value!r}")


def _macros_used():
  return set(re.findall(r"%([A-Za-z_]\w*)", config_text()))


def _macros_set():
  return {name for _, name, argument in bindings(config_text()) if not argument}


def _meant(name, names):
  close = difflib.get_close_matches(name, names, 1)
  return f" (did you mean {close[0]}?)" if close else ""


def value_of(macro, default=None):
  """What a macro stands for, its references made; the default where no file or flag sets it."""
  import gin
  return gin.get_configurable(f"{macro}/gin.macro")() if macro in _macros_set() else default


def config_text():
  """The whole configuration without the paths, which are no part of an experiment."""
  import gin
  # gin breaks a long line after the equals sign.
  return re.sub(rf"^({'|'.join(_PATHS)}) = (\\\n)?.*\n", "", gin.config_str(), flags=re.M)


def refuse_another_config(run):
  """Raises ValueError if the run has a checkpoint made with another configuration.

  Without a checkpoint there is nothing to resume, and the present configuration takes over.
  """
  from tf_mmvae.training import checkpoints
  if not os.path.exists(run.config):
    return
  old = bindings(run.read_config())
  new = bindings(config_text())
  free = {key for key in old.keys() | new.keys() if key[2] in _MAY_DIFFER}
  macros = {str(both[key])[1:] for both in (old, new) for key in free & both.keys()}
  differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)
                     and key not in free and (key[2] or key[1] not in macros))
  if differing and checkpoints.steps(run.checkpoints):
    said = "; ".join(f"{name_of(key)}: {old.get(key, 'not set')} there, "
                     f"{new.get(key, 'not set')} now" for key in differing[:5])
    said += f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
    raise ValueError(f"{run.path} is a run of another configuration ({said}): give the same "
                     "one, or another --run_dir")
  if differing and os.path.exists(run.vocabulary):
    os.remove(run.vocabulary)  # counted for the other configuration


def refuse_unused_bindings(typed, typed_alone=False):
  """Raises ValueError for a binding that nothing asks for, such as one of a misspelt scope.

  A binding is asked for if its function has been called, or is handed to another by reference. What
  a gin file says of a function that is not used at all is left over from a choice that a later file
  changed: that is noted and passed over.

  Args:
    typed: the bindings of --gin_param, a list of strings.
    typed_alone: looks at these alone.
  """
  import gin
  given = bindings(config_text())
  asked = list(bindings(gin.operative_config_str()))
  for reference in re.findall(r"@([\w./]+)", str(list(given.values()))):
    scope, _, selector = reference.rpartition("/")
    asked += [(scope, selector, argument) for _, _, argument in given if argument]
  in_use = {selector for _, selector, _ in asked}
  typed = bindings("\n".join(typed))
  left_over = []
  for key in given:
    scope, selector, argument = key
    if not argument or typed_alone and key not in typed:  # `load` has looked at macros
      continue
    if any((selector, argument) == (name, of) and f"{inner}/".startswith(scope and f"{scope}/")
           for inner, name, of in asked):
      continue
    if selector in in_use or key in typed:
      raise ValueError(f"nothing uses the binding {name_of(key)}: look for a misspelt name or "
                       "scope, or take it out")
    left_over.append(name_of(key))
  if left_over:
    logging.info("Set in gin files, not used here: %s", ", ".join(left_over))
