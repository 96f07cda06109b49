"""Who may import whom, read off the sources: each rule, and a source that breaks it."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = "tf_mmvae"

# The rooms of the package in which each room may import from, besides itself.
_CORE = ["batch", "distributions", "modality", "joint_posteriors", "model", "objectives",
         "screening", "estimators"]
_MODEL = _CORE[:5]
MAY_IMPORT = {
    "batch": [],
    "distributions": [],
    "modality": _CORE[:2],
    "joint_posteriors": ["distributions"],
    "model": _CORE[:4],
    "objectives": _CORE[:5],
    "screening": _CORE[:6],
    "estimators": _CORE[:7],
    "inference": _MODEL,
    "run_dir": [],
    "pictures": [],
    "arrays": [],
    "nets": [],
    "data": ["batch", "pictures", "arrays"],
    "training": [*_CORE, "run_dir"],
    "serving": [*_MODEL, "inference"],
    "views": [*_MODEL, "inference", "run_dir"],
    "metrics": [*_CORE, "inference", "views"],
    "reports": ["metrics", "run_dir"],
    "generation": [*_MODEL, "inference", "views", "pictures", "arrays"],
    "description": _MODEL,
    "run": [*_MODEL, "inference", "run_dir", "data", "training", "serving", "views",
            "reports"],
    "experiment": [*_CORE, "description", "run", "run_dir", "data", "training", "serving", "views",
                   "metrics", "reports"],
    "cli": [*_MODEL, "inference", "run_dir", "data", "training", "views", "reports", "generation",
            "run", "experiment"],
    "__main__": ["cli"],
}
WITH_GIN = "cli"  # the one room that imports gin
# What a room may use, where that is restricted.
ONLY_OUTSIDE = {"nets": {"keras", "tensorflow"}}
NEVER_OUTSIDE = {"data": {"keras", "tensorflow_probability"}}
MAX_LINES = 400
# Rooms whose functions are not public.
NOT_ANNOTATED = {"cli"}
# What a text outside of cli/ has no words for.
COMMAND_LINE = ("--run_dir", "--manual_dir", "--data_dir", "--gin", "gin_param", ".gin", "tools/")
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "base", "common", "misc"}


def imported_modules(path, source):
  """Modules that a source imports, in full; `from a import b` gives a.b, whatever b is."""
  package = list(pathlib.PurePath(path).parent.parts)
  modules = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      modules |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      above = package[:len(package) - node.level + 1] if node.level else []
      module = ".".join([*above, *([node.module] if node.module else [])])
      modules |= {f"{module}.{alias.name}" for alias in node.names}
  return modules


def room_of(parts):
  """The room of a module of the package by its parts: ("tf_mmvae", "nets", "images") -> "nets"."""
  return parts[1] if len(parts) > 1 else ""


def violations(path, source):
  """What a file of the repository breaks, as sentences. path: from the root, with slashes."""
  pure = pathlib.PurePosixPath(path)
  inside = pure.parts[0] == PACKAGE
  found = []
  if pure.stem in EMPTY_NAMES:
    found.append(f"'{pure.stem}' does not say what is in it")
  if not inside and pure.parts[0] != "tests" and "gin" in _tops(path, source):
    found.append(f"gin belongs into {PACKAGE}/{WITH_GIN}/")
  if not inside or pure.name == "__init__.py" and len(pure.parts) == 2:
    return found
  room = room_of(pure.with_suffix("").parts)
  if room not in MAY_IMPORT:
    return [*found, f"'{room}' is a room without arrows: add it to MAY_IMPORT"]
  if len(source.splitlines()) > MAX_LINES:
    found.append(f"has more than {MAX_LINES} lines")
  if room not in NOT_ANNOTATED:
    found += [f"{what} has no annotation" for what in unannotated(source)]
  for module in sorted(imported_modules(path, source)):
    top, other = module.split(".")[0], room_of(module.split("."))
    if top == PACKAGE and other not in ("", room, *MAY_IMPORT[room]):
      found.append(f"{room} may not import {module}")
    elif top in ("tests", "tools") or top == "gin" and room != WITH_GIN:
      found.append(f"the package may not import {module}")
    elif top in NEVER_OUTSIDE.get(room, ()):
      found.append(f"{room} may not import {module}")
    elif (room in ONLY_OUTSIDE and top not in ONLY_OUTSIDE[room] | {PACKAGE}
          and top not in sys.stdlib_module_names
          and (pure.name, top) != ("__init__.py", "lazy_loader")):
      found.append(f"{room} may import {sorted(ONLY_OUTSIDE[room])} alone, not {module}")
  return found


def unannotated(source):
  """What public functions and methods of a source leave without annotation: "f: x", "C.g: return".

  Names that begin with an underscore are not public, but for `__init__` and `__call__`.
  """
  found = []
  for scope in [ast.parse(source), *_public(ast.parse(source).body, ast.ClassDef)]:
    of_class = f"{scope.name}." if isinstance(scope, ast.ClassDef) else ""
    for function in _public(scope.body, ast.FunctionDef | ast.AsyncFunctionDef):
      arguments = function.args
      given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
      is_static = any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
      given = given[1:] if of_class and not is_static else given
      missing = [argument.arg for argument in given if argument.annotation is None]
      if function.returns is None and function.name != "__init__":
        missing.append("return")
      found += [f"{of_class}{function.name}: {name}" for name in missing]
  return found


def _public(body, kind):
  return [node for node in body if isinstance(node, kind)
          and (not node.name.startswith("_") or node.name in ("__init__", "__call__"))]


def _tops(path, source):
  return {module.split(".")[0] for module in imported_modules(path, source)}


def sources():
  """{path from the root: source} of every Python file of the repository."""
  folders = [PACKAGE, "tools", "tests", "benchmarks"]
  return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
          for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


def test_the_repository_keeps_the_rules():
  found = [f"{path}: {what}" for path, source in sources().items()
           for what in violations(path, source)]
  assert not found, "\n".join(found)


def test_every_room_exists():
  rooms = {room_of(pathlib.PurePosixPath(path).with_suffix("").parts)
           for path in sources() if path.startswith(f"{PACKAGE}/")} - {"__init__"}
  assert rooms == set(MAY_IMPORT)


def test_the_arrows_have_no_circle():
  order = list(MAY_IMPORT)
  for room, others in MAY_IMPORT.items():
    assert all(order.index(other) < order.index(room) for other in others), room


def words_of_the_command_line(source):
  """The texts of a source, docstrings too, that name a flag, a command or a gin file."""
  texts = [node.value for node in ast.walk(ast.parse(source))
           if isinstance(node, ast.Constant) and isinstance(node.value, str)]
  # A run of the command line keeps config.gin, whatever it is called by.
  return [text for text in texts
          if any(word in text.replace("config.gin", "") for word in COMMAND_LINE)]


def test_the_package_speaks_python():
  found = [f"{path}: {text}" for path, source in sources().items()
           if path.startswith(f"{PACKAGE}/") and not path.startswith(f"{PACKAGE}/cli/")
           for text in words_of_the_command_line(source)]
  assert not found, "\n".join(found)
  for word in COMMAND_LINE:
    assert words_of_the_command_line(f"raise ValueError(f'{{x}} is none: give another {word}')")
    assert words_of_the_command_line(f'"""Reads config.gin, or what {word} names."""')
  assert not words_of_the_command_line("x = 'give another run_dir'  # as --run_dir\n'config.gin'")


@pytest.mark.parametrize(("path", "source"), [
    ("tf_mmvae/nets/images.py", "import tensorflow_probability as tfp"),
    ("tf_mmvae/nets/images.py", "from tf_mmvae import distributions"),
    ("tf_mmvae/nets/images.py", "from .. import distributions"),
    ("tf_mmvae/nets/images.py", "import lazy_loader"),
    ("tf_mmvae/nets/__init__.py", "import lazy_loaders"),
    ("tf_mmvae/batch.py", "from tf_mmvae import distributions"),
    ("tf_mmvae/data/cub.py", "import keras"),
    ("tf_mmvae/data/cub.py", "from keras import ops"),
    ("tf_mmvae/pictures.py", "from tf_mmvae.data import columns"),
    ("tf_mmvae/arrays.py", "from tf_mmvae import pictures"),
    ("tf_mmvae/serving/saved_model.py", "from tf_mmvae import pictures"),
    ("tf_mmvae/training/trainer.py", "from tf_mmvae import arrays"),
    ("tf_mmvae/data/cub.py", "from tf_mmvae.run_dir import RunDir"),
    ("tf_mmvae/data/cub.py", "def f():\n  from tf_mmvae import model"),
    ("tf_mmvae/distributions.py", "from tf_mmvae import modality"),
    ("tf_mmvae/distributions.py", "from . import joint_posteriors"),
    ("tf_mmvae/modality.py", "import tf_mmvae.joint_posteriors"),
    ("tf_mmvae/joint_posteriors.py", "from tf_mmvae.modality import Modality"),
    ("tf_mmvae/model.py", "from tf_mmvae import objectives"),
    ("tf_mmvae/objectives.py", "from tf_mmvae.training.trainer import Trainer"),
    ("tf_mmvae/objectives.py", "from tf_mmvae.run_dir import RunDir"),
    ("tf_mmvae/run_dir.py", "from tf_mmvae import model"),
    ("tf_mmvae/training/trainer.py", "from tf_mmvae.views import panels"),
    ("tf_mmvae/training/trainer.py", "from tf_mmvae.data import examples"),
    ("tf_mmvae/training/trainer.py", "from ..nets import images"),
    ("tf_mmvae/views/panels.py", "from tf_mmvae.serving import saved_model"),
    ("tf_mmvae/views/panels.py", "from tf_mmvae.data import tokenizer"),
    ("tf_mmvae/serving/saved_model.py", "from tf_mmvae.training import checkpoints"),
    ("tf_mmvae/serving/saved_model.py", "from tf_mmvae.metrics import means"),
    ("tf_mmvae/model.py", "import gin"),
    ("tf_mmvae/training/train.py", "from gin import config_parser"),
    ("benchmarks/step.py", "import gin"),
    ("tools/train.py", "import gin"),
    ("tf_mmvae/experiment.py", "import gin"),
    ("tf_mmvae/experiment.py", "from tf_mmvae.cli import config"),
    ("tf_mmvae/run.py", "from tf_mmvae.experiment import Experiment"),
    ("tf_mmvae/model.py", "from tests import oracle"),
    ("tf_mmvae/model.py", "import tools.experiment"),
    ("tf_mmvae/model.py", "x = 0\n" * (MAX_LINES + 1)),
    ("tf_mmvae/model.py", "def f(x) -> int:\n  return x"),
    ("tf_mmvae/model.py", "def f(x: int):\n  return x"),
    ("tf_mmvae/model.py", "def f(*, x) -> int:\n  return x"),
    ("tf_mmvae/model.py", "class C:\n  def __init__(self, x):\n    self.x = x"),
    ("tf_mmvae/model.py", "class C:\n  def __call__(self):\n    return 1"),
    ("tf_mmvae/model.py", "class C:\n  @staticmethod\n  def f(x) -> int:\n    return x"),
    ("tf_mmvae/later.py", "def f():\n  return 1"),
    ("tf_mmvae/utils.py", ""),
    ("tf_mmvae/nets/base.py", ""),
    ("tests/helpers.py", ""),
    ("tools/common.py", ""),
    ("tf_mmvae/plots/curves.py", ""),
])
def test_each_rule_can_fail(path, source):
  assert violations(path, source)


@pytest.mark.parametrize(("path", "source"), [
    ("tf_mmvae/nets/images.py", "import math\nimport keras\nfrom tf_mmvae.nets import sentences"),
    ("tf_mmvae/nets/__init__.py", "import lazy_loader"),
    ("tf_mmvae/data/cub.py", "import tensorflow_datasets as tfds\nfrom . import examples"),
    ("tf_mmvae/data/examples.py", "from tf_mmvae.batch import Batch"),
    ("tf_mmvae/data/columns.py", "from tf_mmvae import arrays, pictures"),
    ("tf_mmvae/generation/observations.py", "from tf_mmvae import arrays, pictures"),
    ("tf_mmvae/model.py", "from tf_mmvae import distributions, joint_posteriors, modality"),
    ("tf_mmvae/objectives.py", "from tf_mmvae.model import Particles"),
    ("tf_mmvae/training/train.py", "from tf_mmvae.run_dir import RunDir\nimport keras"),
    ("tf_mmvae/serving/saved_model.py", "from tf_mmvae import joint_posteriors"),
    ("tf_mmvae/model.py", "x = 0\n" * MAX_LINES),
    ("tf_mmvae/model.py", "def f(x: int, *args, **kwargs) -> int:\n  return g(lambda y: y)"),
    ("tf_mmvae/model.py", "class C:\n  def __init__(self, x: int):\n    def f(y):\n      pass"),
    ("tf_mmvae/model.py", "def _f(x):\n  pass\nclass _C:\n  def f(self):\n    pass"),
    ("tf_mmvae/model.py", "class C:\n  @classmethod\n  def f(cls, x: int) -> int:\n    pass"),
    ("tf_mmvae/cli/train.py", "def f(x):\n  return x"),
    ("tf_mmvae/cli/train.py", "import gin\nfrom tf_mmvae.experiment import Experiment"),
    ("tf_mmvae/cli/main.py", "import tf_mmvae"),
    ("tests/gin_files_test.py", "import gin"),
])
def test_what_the_rules_allow(path, source):
  assert violations(path, source) == []
