"""What the tools share: flags, the gin configuration of a run, and one sentence for a mistake.

TensorFlow is imported only once the flags are read, so that `--help` answers at once.
"""

import contextlib
import difflib
import importlib.util  # noqa: F401 (gin's dynamic registration expects it to be loaded)
import inspect
import json
import logging as std_logging
import os
import re
import shlex
import sys

import mistakes
from absl import app, flags, logging

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

flags.DEFINE_multi_string("gin_file", [], "A gin file; given again, the later one wins.")
flags.DEFINE_multi_string("gin_param", [], "A gin binding such as 'BATCH_SIZE = 32'; repeatable.")
flags.DEFINE_string("run_dir", None, "The run's directory. Default: runs/ and the gin file's name.")
flags.DEFINE_string("data_dir", None, "Where tensorflow-datasets keeps prepared data sets. "
                    "Default: its own, ~/tensorflow_datasets.")
flags.DEFINE_string("manual_dir", None, "Where data lies that you fetched yourself. "
                    "Default: DATA_DIR/downloads/manual.")

# Arguments of `train` that an interrupted run may be given anew.
_MAY_DIFFER = ("num_steps", "log_every", "evaluate_every", "checkpoint_every",
               "examples_per_chunk", "jit_compile", "data_service")
_PATHS = ("RUN_DIR", "DATA_DIR", "MANUAL_DIR")


def run(main):
  """Runs `main()` after the flags are parsed; a user's mistake ends in one sentence and code 1.

  A `main` that has parameters is given the arguments that are no flags.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

  def guarded(argv):
    if len(argv) > 1 and not inspect.signature(main).parameters:
      sys.exit(f"{argv[0]}: expected flags alone, got '{argv[1]}'")
    if logging.get_verbosity() >= logging.DEBUG:
      return main(*argv[1:])
    logging.get_absl_handler().addFilter(_is_ours)
    logging.get_absl_handler().setFormatter(std_logging.Formatter("%(message)s"))
    try:
      return main(*argv[1:])
    except KeyboardInterrupt:  # outside training, which saves first
      print("stopped by SIGINT: the same command goes on from what is saved")
      return sys.exit(130)
    except Exception as error:
      if not isinstance(error, mistakes.kinds()):
        raise
      return sys.exit(f"{argv[0]}: {mistakes.sentence(error)}\n"
                      "(--verbosity=1 shows where it came from)")

  if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(line_buffering=True)  # a log file tells what a terminal does
  for flag in flags.FLAGS.get_key_flags_for_module(sys.modules[__name__]):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help shows those of the tool
  app.run(guarded)


def _is_ours(record):
  """Passes this project's notes, and others' warnings but for two that say nothing to a user."""
  if "tf_mmvae" in record.pathname:
    return True
  # gin complains of each search path that lacks a file; TFDS of its own deprecations.
  silent = record.filename == "resource_reader.py" or "tensorflow_datasets" in record.pathname
  return record.levelno >= std_logging.WARNING and not silent


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


def load(run_dir, from_run, after=()):
  """Reads the configuration: gin files, then bindings; the flags' paths are macros in it.

  Args:
    run_dir: `RunDir`, the value of RUN_DIR.
    from_run: whether the run's saved configuration comes first.
    after: gin files that come after those of the flags, and before the bindings.

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
  gin.add_config_file_search_path(ROOT)
  flag = flags.FLAGS
  paths = {"RUN_DIR": run_dir.path, "DATA_DIR": flag.data_dir, "MANUAL_DIR": flag.manual_dir}
  used = set()  # macros, in whatever was read, though a later binding took its place
  if from_run:
    _parse(gin.parse_config, run_dir.read_config(), run_dir.config)
    used |= _macros_set()
  for file in [*flag.gin_file, *after]:
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


def load_model(run_dir):
  """The model of a run with its best weights: (model, steps trained).

  Raises:
    FileNotFoundError: if the run has no checkpoint.
  """
  import gin

  from tf_mmvae.model import MultimodalVAE
  from tf_mmvae.training import checkpoints
  model = gin.get_configurable(MultimodalVAE)()
  return model, checkpoints.restore_model(model, run_dir)


def value_of(macro, default):
  """What a macro stands for, its references made; the default where no file or flag sets it."""
  import gin
  return gin.get_configurable(f"{macro}/gin.macro")() if macro in _macros_set() else default


def settings(metrics):
  """{metric: text of all bindings that its figures may depend on}.

  These are the bindings of what it refers to, and of what the model does, directly or not.

  Args:
    metrics: the macro that names them, METRICS or AT_END.
  """
  given = bindings(config_text())
  return {metric: "\n".join(_reached(f"{reference} @model.MultimodalVAE()", given))
          for metric, reference in given.get(("", metrics, ""), {}).items()}


def _reached(text, given):
  """A text, and the lines of the bindings that its references and macros lead to, sorted.

  A reference without a scope takes that of whoever makes it, so bindings of every scope count.
  """
  lines, new = {text}, [text]
  while new:
    references = {of for line in new for of in re.findall(r"[@%]((?:[\w.]+/)*)([\w.]+)", line)}
    new = {f"{name_of(key)} = {value!r}" for key, value in given.items()
           for scope, name in references
           if key[1] == name and (not scope or scope.startswith(key[0] and f"{key[0]}/"))} - lines
    lines |= new
  return sorted(lines)


def changed_model(run_dir):
  """Sentences about a model that is configured otherwise than the run trained it."""
  then, now = (set(_reached("@model.MultimodalVAE()", given)) for given in (
      bindings(run_dir.read_config()), bindings(config_text())))
  if then == now:
    return []
  return ["The model is configured otherwise than it was trained: "
          f"{'; '.join(sorted(then - now)) or 'nothing'} then, "
          f"{'; '.join(sorted(now - then)) or 'nothing'} now."]


def note_data(run_dir):
  """Keeps which data a run begins with, in data.json, unless it is there already."""
  if os.path.exists(run_dir.data):
    return
  from tf_mmvae.run_dir import replacing
  with replacing(run_dir.data) as path, open(path, "w", encoding="utf-8") as file:
    json.dump(_data(), file, indent=2)


def changed_data(run_dir):
  """Sentences about those data that are others than a run began with."""
  if not os.path.exists(run_dir.data):
    return []
  try:
    with open(run_dir.data, encoding="utf-8") as file:
      before = json.load(file)
    return [_changed(split, before[split], now) for split, now in _data().items()
            if before.get(split, now) != now]
  except (AttributeError, KeyError, TypeError, ValueError):
    return [f"{run_dir.data} is damaged: it cannot be told whether the data are those that the run "
            "began with."]


def _changed(split, then, now):
  contents = " of other contents" if then["num_examples"] == now["num_examples"] else ""
  return (f"The {split} data are others than those that the run began with: "
          f"{then['num_examples']:,} examples of {then['name']} then, "
          f"{now['num_examples']:,} of {now['name']} now{contents}.")


def _data():
  """{split: what tells its data apart} of the data sets in use."""
  found = {}
  for split, macro in (("training", "TRAIN_DATA"), ("held-out", "VALIDATION_DATA"),
                       ("test", "TEST_DATA")):
    data = value_of(macro, None)
    if data is not None:
      found[split] = {"name": data.name, "num_examples": data.num_examples,
                      "fingerprint": data.fingerprint()}
  return found


def next_commands(run_dir):
  """Commands that look at a run that is trained: a list of lines."""
  folder = os.path.dirname(sys.executable)
  python, tensorboard = (os.path.join(os.path.relpath(folder) if folder.startswith(os.getcwd())
                                      else folder, name) for name in ("python", "tensorboard"))
  where = "".join(f" {shlex.quote(f'--{name}={flags.FLAGS[name].value}')}"
                  for name in ("data_dir", "manual_dir") if flags.FLAGS[name].value)
  run = shlex.quote(f"--run_dir={run_dir.path}")
  # What it makes is shown as a picture of the data set where there is a viewer.
  of_viewers = where if bindings(config_text()).get(("", "VIEWERS", "")) else ""
  return [f"{python} tools/evaluate.py {run}{where}",
          f"{python} tools/generate.py {run}{of_viewers}",
          f"{tensorboard} --logdir {shlex.quote(run_dir.events)}"]


def config_text():
  """The whole configuration without the paths, which are no part of an experiment."""
  import gin
  # gin breaks a long line after the equals sign.
  return re.sub(rf"^({'|'.join(_PATHS)}) = (\\\n)?.*\n", "", gin.config_str(), flags=re.M)


def knobs():
  """{name: value} of the macros that are numbers, strings or bools."""
  return {macro: value for (_, macro, argument), value in bindings(config_text()).items()
          if not argument and isinstance(value, bool | int | float | str)
          and not str(value).startswith(("@", "%"))}


def refuse_another_config(run_dir):
  """Raises ValueError if the run has a checkpoint made with another configuration.

  Without a checkpoint there is nothing to go on with, and the present configuration takes over.
  """
  from tf_mmvae.training import checkpoints
  if not os.path.exists(run_dir.config):
    return
  old = bindings(run_dir.read_config())
  new = bindings(config_text())
  free = {key for key in old.keys() | new.keys() if key[2] in _MAY_DIFFER}
  macros = {str(both[key])[1:] for both in (old, new) for key in free & both.keys()}
  differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)
                     and key not in free and (key[2] or key[1] not in macros))
  if differing and checkpoints.steps(run_dir.checkpoints):
    said = "; ".join(f"{name_of(key)}: {old.get(key, 'not set')} there, "
                     f"{new.get(key, 'not set')} now" for key in differing[:5])
    said += f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
    raise ValueError(f"{run_dir.path} is a run of another configuration ({said}): give the same "
                     "one, or another --run_dir")
  if differing and os.path.exists(run_dir.vocabulary):
    os.remove(run_dir.vocabulary)  # counted for the other configuration


def refuse_unused_bindings(typed_alone=False):
  """Raises ValueError for a binding that nothing asks for, such as one of a misspelt scope.

  A binding is asked for if its function has been called, or is handed to another by reference. What
  a gin file says of a function that is not used at all is left over from a choice that a later file
  changed: that is noted and passed over. With `typed_alone` only --gin_param is looked at.
  """
  import gin
  given = bindings(config_text())
  asked = list(bindings(gin.operative_config_str()))
  for reference in re.findall(r"@([\w./]+)", str(list(given.values()))):
    scope, _, selector = reference.rpartition("/")
    asked += [(scope, selector, argument) for _, _, argument in given if argument]
  in_use = {selector for _, selector, _ in asked}
  typed = bindings("\n".join(flags.FLAGS.gin_param))
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


def name_of(key):
  """A key of `bindings` as a gin file writes it."""
  scope, selector, argument = key
  return (scope + "/" if scope else "") + selector + ("." + argument if argument else "")


class _AsText:
  """Reads references and macros of a gin file as text."""

  def configurable_reference(self, scoped_name, evaluate):
    return f"@{scoped_name}" + ("()" if evaluate else "")

  def macro(self, name):
    return f"%{name}"


def bindings(text):
  """{(scope, selector, argument): value} of a configuration; macros have the argument ''."""
  from gin import config_parser
  return {(s.scope or "", s.selector, s.arg_name or ""): s.value
          for s in config_parser.ConfigParser(text, _AsText())
          if isinstance(s, config_parser.BindingStatement)}
