"""The commands: their help, their flags, and what is said of a word that is none of them."""

import importlib
import inspect
import os
import re
import subprocess
import sys

import pytest

import tf_mmvae
from tests import runs
from tf_mmvae.cli import main

OF_CONFIG = {"gin_file", "gin_param", "data_dir", "manual_dir"}
FLAGS = {
    "train": OF_CONFIG | {"run_dir"},
    "evaluate": OF_CONFIG | {"run_dir"},
    "compare": {"out"},
    "generate": OF_CONFIG | {"run_dir", "given", "to", "num", "decoding", "beam_size", "seed",
                              "out"},
    "describe-data": OF_CONFIG | {"out"},
}
HEAVY = "{'tensorflow', 'keras', 'tensorflow_probability', 'numpy'}"


def call(*args):
  """`tf-mmvae`, or what is given, in this process: (exit code, what it ends with)."""
  with pytest.raises(SystemExit) as stop:
    main.main(["/somewhere/tf-mmvae", *args])
  return (1, stop.value.code) if isinstance(stop.value.code, str) else (stop.value.code, "")


@pytest.mark.parametrize("command", FLAGS)
def test_help_lists_the_flags_that_a_command_takes_and_no_others(command, capsys):
  assert call(command, "--help") == (0, "")
  printed = capsys.readouterr().out
  listed = set(re.findall(r"^  --(\w+): \S", printed, re.M))
  assert listed == FLAGS[command] | {"verbosity"}
  module = importlib.import_module(f"tf_mmvae.cli.{command.replace('-', '_')}")
  assert inspect.cleandoc(module.__doc__) in printed
  assert main.COMMANDS.keys() == FLAGS.keys()


@pytest.mark.parametrize("command", FLAGS)
@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_of_a_tool_is_quick(command, flag):
  """In a clone whose packages are those of the requirements: the tool finds the package itself."""
  name = command.replace("-", "_")
  script = ("import runpy, sys\n"
            f"sys.argv = ['tools/{name}.py', '{flag}']\n"
            "try:\n"
            f"  runpy.run_path('tools/{name}.py', run_name='__main__')\n"
            "finally:\n"
            "  print('package', sys.modules['tf_mmvae'].__file__)\n"
            f"  print('loaded', sorted({HEAVY} & set(sys.modules)))\n")
  done = subprocess.run([sys.executable, "-c", script], cwd=runs.ROOT, text=True,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
  *said, package, loaded = done.stdout.splitlines()
  assert done.returncode == 0 and loaded == "loaded []", done.stdout
  assert package == f"package {runs.ROOT}/tf_mmvae/__init__.py"
  assert any(line.strip().startswith(f"python tools/{name}.py ") for line in said), done.stdout


def test_the_command_alone_lists_the_commands(capsys):
  assert call() == (2, "") and call("--help") == (0, "")
  first, second = capsys.readouterr().out.split("Variational")[1:]
  assert first == second
  for command, what in main.COMMANDS.items():
    assert re.search(rf"^  {command} +{re.escape(what)}$", first, re.M)


def test_version(capsys):
  assert call("--version") == (0, "")
  assert capsys.readouterr().out == f"tf_mmvae {tf_mmvae.__version__}\n"


@pytest.mark.parametrize("args, sentence", [
    (["trian"], "tf-mmvae: no command 'trian' (did you mean train?): give one of train, evaluate, "
     "compare, generate, describe-data"),
    (["birds"], "tf-mmvae: no command 'birds': give one of train, evaluate, compare, generate, "
     "describe-data"),
    (["train", "--gin_fle=a"], "tf-mmvae train: no flag --gin_fle (did you mean --gin_file?): see "
     "tf-mmvae train --help"),
    (["compare", "a", "b", "--run_dir=a"], "tf-mmvae compare: no flag --run_dir: see tf-mmvae "
     "compare --help"),
    (["generate", "--num=many"], "tf-mmvae generate: flag --num=many: invalid literal for int() "
     "with base 10: 'many': see tf-mmvae generate --help"),
    (["train", "a.gin"], "tf-mmvae train: expected flags alone, got 'a.gin'"),
    (["evaluate"], "tf-mmvae evaluate: give --run_dir, the directory of a trained run\n"
     "(--verbosity=1 shows where it came from)")])
def test_mistakes(args, sentence):
  assert call(*args) == (1, sentence)


def test_as_a_module():
  done = subprocess.run([sys.executable, "-m", "tf_mmvae", "train", "--gin_fle=a"], cwd=runs.ROOT,
                        text=True, capture_output=True, timeout=60)
  assert done.returncode == 1
  assert done.stderr.startswith("python -m tf_mmvae train: no flag --gin_fle (did you mean ")


@pytest.mark.parametrize("program, command, expected", [
    ("tf-mmvae", "tf-mmvae train", "{bin}/tf-mmvae describe-data"),
    ("python -m tf_mmvae", "python -m tf_mmvae train", "{bin}/python -m tf_mmvae describe-data"),
    (None, "tools/train.py", "{bin}/python tools/describe_data.py"),
    (None, "/a b/tools/train.py", "{bin}/python '/a b/tools/describe_data.py'")])
def test_advice_is_of_the_way_that_a_command_was_called(program, command, expected):
  found = main.Invocation(program, command).of("describe-data")
  folder = os.path.dirname(sys.executable)
  inside = folder.startswith(os.getcwd() + os.sep)
  assert found == expected.format(bin=os.path.relpath(folder) if inside else folder)
