"""The command `tf-mmvae`, which `python -m tf_mmvae` and the scripts of tools/ are as well.

TensorFlow is imported only once the flags are read, so that `--help` answers at once.
"""

import difflib
import importlib
import inspect
import logging as std_logging
import os
import sys
import textwrap

from absl import flags, logging

import tf_mmvae
from tf_mmvae.cli import mistakes
from tf_mmvae.cli.invocation import Invocation

COMMANDS = {
    "train": "trains as a gin file says, or resumes, and exports",
    "evaluate": "measures a trained run, and writes a report",
    "compare": "puts what several runs measured side by side",
    "generate": "asks a trained run for translations, samples and interpolations",
    "describe-data": "checks and describes your own data, and suggests scales and weights",
}


def main(argv=None):
  """Runs `tf-mmvae COMMAND ...`; ends the process with an exit code.

  Args:
    argv: the program's name and its arguments; None takes those of the process.
  """
  program, *args = sys.argv if argv is None else argv
  name = os.path.basename(program)
  program = "python -m tf_mmvae" if name == "__main__.py" else name
  if not args or args[0] in ("--help", "-h", "help"):
    print(_usage(program))
    sys.exit(0 if args else 2)
  if args[0] == "--version":
    print(f"tf_mmvae {tf_mmvae.__version__}")
    sys.exit(0)
  command, *args = args
  if command not in COMMANDS:
    close = difflib.get_close_matches(command, COMMANDS, 1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    sys.exit(f"{program}: no command '{command}'{meant}: give one of {', '.join(COMMANDS)}")
  run(command, args, Invocation(program, f"{program} {command}"))


def run_tool(path, argv=None):
  """Runs the command that a script of tools/ is named for."""
  script, *args = sys.argv if argv is None else argv
  command = os.path.splitext(os.path.basename(path))[0].replace("_", "-")
  run(command, args, Invocation(None, script))


def run(command, args, invocation):
  """Runs one command; a user's mistake ends in one sentence and code 1.

  Args:
    command: of `COMMANDS`.
    args: list of strings.
    invocation: `Invocation`, how the command was called.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  module = importlib.import_module(f"tf_mmvae.cli.{command.replace('-', '_')}")
  values = _flags(module)
  if any(arg.split("=")[0] in ("--help", "-h", "-help", "--helpfull") for arg in args):
    print(_help(module, values, command, invocation))
    sys.exit(0)
  program = invocation.command
  try:
    _, *others = values([program, *args])
  except flags.UnrecognizedFlagError as error:
    close = difflib.get_close_matches(error.flagname, values, 1)
    meant = f" (did you mean --{close[0]}?)" if close else ""
    sys.exit(f"{program}: no flag --{error.flagname}{meant}: see {program} --help")
  except flags.Error as error:
    sys.exit(f"{program}: {error}: see {program} --help")
  if others and len(inspect.signature(module.main).parameters) < 3:
    sys.exit(f"{program}: expected flags alone, got '{others[0]}'")
  if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(line_buffering=True)  # a log file tells what a terminal does
  _log(values.verbosity)
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # libraries look at flags of theirs
  try:
    module.main(values, invocation, *others)
  except KeyboardInterrupt:  # outside training, which saves first
    print("stopped by SIGINT: run it again to resume from what is saved")
    sys.exit(130)
  except Exception as error:
    if logging.get_verbosity() >= logging.DEBUG or not isinstance(error, mistakes.kinds()):
      raise
    sys.exit(f"{program}: {mistakes.sentence(error)}\n(--verbosity=1 shows where it came from)")


def _flags(module):
  """The `FlagValues` of a command, its own and --verbosity."""
  values = flags.FlagValues()
  values.set_gnu_getopt(True)  # flags may come after other arguments
  module.define(values)
  flags.DEFINE_integer("verbosity", 0, "1 shows where an error came from; -1 hides notes.",
                       flag_values=values)
  return values


def _log(verbosity):
  logging.use_absl_handler()
  logging.set_verbosity(verbosity)
  handler = logging.get_absl_handler()
  if verbosity < logging.DEBUG and _is_ours not in handler.filters:
    handler.addFilter(_is_ours)
    handler.setFormatter(std_logging.Formatter("%(message)s"))


def _is_ours(record):
  """Passes this project's notes, and others' warnings but for two that say nothing to a user."""
  if "tf_mmvae" in record.pathname:
    return True
  # gin complains of each search path that lacks a file; TFDS of its own deprecations.
  silent = record.filename == "resource_reader.py" or "tensorflow_datasets" in record.pathname
  return record.levelno >= std_logging.WARNING and not silent


def _usage(program):
  width = max(map(len, COMMANDS))
  lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
  return "\n".join([
      "Variational mixture-of-experts autoencoders for several modalities.", "",
      f"  {program} COMMAND [FLAGS]", "", *lines, "",
      f"{program} COMMAND --help is a command's manual; {program} --version says which this is."])


def _help(module, values, command, invocation):
  called = f"{'' if invocation.program else 'python '}{invocation.command}"
  lines = [inspect.cleandoc(module.__doc__).replace(f"tf-mmvae {command}", called), ""]
  for name in sorted(values):
    flag = values[name]
    if flag.short_name == name:
      continue
    default = "" if flag.default in (None, [], "") else f" (default: {flag.default})"
    about = flag.help.split(";\n")[0]  # absl adds that a flag may be repeated
    lines += textwrap.wrap(f"--{name}: {about}{default}", 96, initial_indent="  ",
                           subsequent_indent="      ")
  return "\n".join(lines)
