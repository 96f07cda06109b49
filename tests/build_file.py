"""Writes BUILD anew, from the files and what they import.

  python -m tests.build_file

One library a room of tf_mmvae, one binary a tool or benchmark, one test a test file.
"""

import ast
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tests.architecture_test import PACKAGE, imported_modules

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUNNER = "tests/bazel_runner.py"

# What is imported under another name than it is installed, or has a target of ours.
EXTERNAL = {
    "PIL": ["@pillow"], "absl": ["@absl-py"], "gin": [":gin_files", "@gin-config"],
    "google": ["@protobuf"], "sklearn": ["@scikit-learn"], "tensorflow": [":tf"],
    "tensorflow_datasets": [":tfds"], "tensorflow_probability": [":tfp"]}

# `open_run` asks the command line for its runs, and that depends on the package: a circle.
LEFT_OUT = {f":{PACKAGE}": {":cli"}}

# Files that read others of the repository by their paths, or start the tools.
READERS = ("benchmarks/input.py", "benchmarks/soak.py", "tests/architecture_test.py",
           "tests/build_file.py", "tests/runs.py")
REPOSITORY = ("*.md", "*.toml", "*.txt", "BUILD", "benchmarks/*.py", "docs/**/*.md", "gin/**/*.gin",
              "tests/**/*.py", f"{PACKAGE}/**/*.gin", f"{PACKAGE}/**/*.py", f"{PACKAGE}/**/*.pyi",
              "tools/*.py")

HEADER = '''\
# Written by `python -m tests.build_file` from what the files import; tests/build_test.py compares.
# tests/architecture_test.py checks the arrows that it draws.

load("@pypi//:requirements.bzl", "requirement")
load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])

# What these packages need at run time without saying so.

py_library(
    name = "tf",
    deps = [
        requirement("tensorboard"),
        requirement("tensorflow"),
    ],
)

py_library(
    name = "tfp",
    deps = [
        requirement("tensorflow-probability"),
        requirement("tf-keras"),
    ],
)

py_library(
    name = "tfds",
    deps = [
        requirement("importlib-resources"),
        requirement("tensorflow-datasets"),
    ],
)
'''


class Glob(NamedTuple):
  """Patterns in place of a list of files."""

  patterns: Sequence[str]


class Target(NamedTuple):
  """A rule of BUILD; srcs and data: a list of files, or a `Glob`."""

  rule: str
  name: str
  srcs: Sequence[str] | Glob = ()
  data: Sequence[str] | Glob = ()
  main: str = ""
  args: Sequence[str] = ()
  testonly: bool = False
  deps: Sequence[str] = ()  # besides those of the imports


def text(root=ROOT):
  """The whole file. root: of the repository."""
  targets = [*_rooms(root), *_scripts(root), *_tests(root)]
  owners = {file: f":{target.name}" for target in targets
            for file in _files(target.srcs, root) if file != RUNNER}
  return "\n".join([HEADER, *(_rule(target, _deps(target, owners, root)) for target in targets)])


def _rooms(root):
  """Libraries: a root file or a folder of the package, the package itself, and the gin files."""
  for path in sorted((root / PACKAGE).iterdir()):
    name = path.relative_to(root).as_posix()
    if path.name == "__init__.py":
      yield Target("py_library", PACKAGE, [name], _matching([f"{name}i"], root))
    elif path.suffix == ".py":
      yield Target("py_library", path.stem, [name])
    elif sources := _matching([f"{name}/**/*.py"], root):
      yield Target("py_library", path.name, sources, _matching([f"{name}/**/*.pyi"], root))
  yield Target("py_library", "gin_files",
               data=_matching(["gin/**/*.gin", f"{PACKAGE}/**/*.gin"], root))


def _scripts(root):
  for path in _files(Glob(["benchmarks/*.py", "tools/*.py"]), root):
    yield Target("py_binary", path.removesuffix(".py"), [path], main=path,
                 testonly=path.startswith("benchmarks/"))


def _tests(root):
  """A test a test file, a library any other that they use, and the repository for its readers."""
  for path in _files(Glob(["tests/**/*.py"]), root):
    name = path.removesuffix(".py")
    if name.endswith("_test"):
      data = ["pyproject.toml", *_started(path, root)]
      yield Target("py_test", name, [path, RUNNER], data, RUNNER, [path], deps=[":tests/conftest"])
    elif path != RUNNER:
      yield Target("py_library", name, [path], testonly=True)
  yield Target("py_library", "repository", data=_matching(REPOSITORY, root), testonly=True,
               deps=[f":{target.name}" for target in _scripts(root) if not target.testonly])


def _started(path, root):
  """Files of tests that a test starts as modules, by their names."""
  strings = {node.value for node in ast.walk(ast.parse((root / path).read_text("utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)}
  files = {string.replace(".", "/") + ".py" for string in strings if string.startswith("tests.")}
  return sorted(file for file in files if (root / file).is_file())


def _deps(target, owners, root):
  """The labels that a target's files need."""
  needed = set(target.deps)
  of_target = [] if target.name == "repository" else [
      *_files(target.srcs, root), *_files(target.data, root)]
  for path in of_target:
    needed |= {label for module in _imports(path, (root / path).read_text("utf-8"))
               for label in _labels(module, owners)}
    if path in READERS:
      needed.add(":repository")
  own = f":{target.name}"
  return sorted(needed - {own} - LEFT_OUT.get(own, set()))


def _imports(path, source):
  """Modules that a file imports."""
  if path.endswith(".toml"):
    return set()
  if path.endswith(".gin"):
    found = re.findall(r"^(?:from (\S+) )?import (\S+)", source, re.MULTILINE)
    return {f"{start}.{name}".strip(".") for start, name in found if start != "__gin__"}
  return imported_modules(path, source)


def _labels(module, owners):
  """Of the target that holds a module, or of what is installed; none of the standard library."""
  parts = module.split(".")
  for length in range(len(parts), 0, -1):
    for file in (f"{'/'.join(parts[:length])}{end}" for end in (".py", "/__init__.py")):
      if file in owners:
        return [owners[file]]
  if parts[0] in sys.stdlib_module_names:
    return []
  return EXTERNAL.get(parts[0], [f"@{parts[0].replace('_', '-')}"])


def _matching(patterns, root):
  """A `Glob` of those patterns that match anything; () if none does."""
  patterns = [pattern for pattern in patterns if any(root.glob(pattern))]
  return Glob(patterns) if patterns else ()


def _files(given, root):
  if not isinstance(given, Glob):
    return given
  return sorted({path.relative_to(root).as_posix()
                 for pattern in given.patterns for path in root.glob(pattern)})


def _rule(target, deps):
  """A target as BUILD has it."""
  attributes = {"name": f'"{target.name}"', "testonly": target.testonly and "True",
                "srcs": _listed(target.srcs), "args": _listed(target.args),
                "data": _listed(target.data), "main": target.main and f'"{target.main}"',
                "deps": _listed(deps)}
  lines = [f"    {name} = {value},\n" for name, value in attributes.items() if value]
  return f"{target.rule}(\n{''.join(lines)})\n"


def _listed(values):
  if isinstance(values, Glob):
    return f"glob({_listed(values.patterns)})"
  said = [f'requirement("{value[1:]}")' if value[0] == "@" else f'"{value}"' for value in values]
  if sum(map(len, said)) + 2 * len(said) < 86:
    return f"[{', '.join(said)}]" if said else ""
  return "[\n" + "".join(f"        {one},\n" for one in said) + "    ]"


if __name__ == "__main__":
  (ROOT / "BUILD").write_text(text(), "utf-8")
