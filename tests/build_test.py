"""BUILD against the sources: every file has one target, and deps are what the files import."""

import collections
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from tests import architecture_test

ROOT = pathlib.Path(__file__).resolve().parents[1]

# What is imported under another name than it is installed, or has a target of ours.
EXTERNAL = {"absl": "absl-py", "PIL": "pillow", "gin": "gin-config", "google": "protobuf",
            "sklearn": "scikit-learn",
            "tensorflow": ":tf", "tensorflow_probability": ":tfp",
            "tensorflow_datasets": ":tfds"}
RUNNER = "tests/bazel_runner.py"


def targets_of(text):
  """{name: attributes} of a BUILD file, each with its `rule`."""
  targets = {}

  def rule(kind):
    def declare(name, **attributes):
      assert name not in targets, f"two targets {name}"
      targets[name] = {"rule": kind, "srcs": [], "deps": [], "data": [], **attributes}

    return declare

  def glob(include, exclude=()):
    found = {path.relative_to(ROOT).as_posix() for p in include for path in ROOT.glob(p)}
    return sorted(found - {path.relative_to(ROOT).as_posix() for p in exclude
                           for path in ROOT.glob(p)})

  rules = ("py_library", "py_binary", "py_test", "filegroup")
  exec(text, {
      **{kind: rule(kind) for kind in rules}, "package": lambda **_: None, "glob": glob,
      "load": lambda *_: None, "requirement": lambda name: f"@{name}"})
  return targets


def owners_of(targets):
  """{file: its targets}; the runner, which is in all tests, left out."""
  owners = collections.defaultdict(list)
  for name, target in targets.items():
    if target["rule"] != "filegroup":
      for source in set(target["srcs"]) - {RUNNER}:
        owners[source].append(f":{name}")
  return owners


def imports_of(path, source):
  """Modules that a Python file imports, or a gin file."""
  if path.endswith(".gin"):
    found = re.findall(r"^(?:from (\S+) )?import (\S+)", source, re.MULTILINE)
    return {f"{start}.{name}".strip(".") for start, name in found if start != "__gin__"}
  return architecture_test.imported_modules(path, source)


def dependency(path, module, owners):
  """The label of the target that holds a module, or None where it needs none."""
  parts = module.split(".")
  for folder in ("", "tools/"):  # tools import one another by their bare names
    for length in range(len(parts), 0, -1):
      file = folder + "/".join(parts[:length]) + ".py"
      if file in owners:
        return owners[file][0]
  if parts[0] in sys.stdlib_module_names or parts[0] in ("tf_mmvae", "tests"):
    return None
  label = EXTERNAL.get(parts[0], parts[0].replace("_", "-"))
  return label if label.startswith(":") else f"@{label}"


def expected_deps(name, target, owners, read):
  """The labels that a target's files need."""
  needed = {":testing", "@pytest"} if target["rule"] == "py_test" else set()
  gin_files = [file for file in target["data"] if file.endswith(".gin")]
  for path in [*target["srcs"], *gin_files]:
    for module in imports_of(path, read(path)):
      needed.add(dependency(path, module, owners))
  # A script that a test starts may import that test, beside which it then lies.
  of_tests = {label for label in needed if label and label.startswith(":tests/")}
  return needed - of_tests - {None, f":{name}"}


def read(path):
  return (ROOT / path).read_text("utf-8")


@pytest.fixture(scope="module")
def targets():
  return targets_of(read("BUILD"))


def wrong_deps(targets, read):
  """Sentences about each target whose deps are not its imports."""
  owners, wrong = owners_of(targets), []
  for name, target in targets.items():
    if not target["srcs"] or target["rule"] == "filegroup":
      continue
    expected, deps = expected_deps(name, target, owners, read), target["deps"]
    if set(deps) != expected or len(set(deps)) < len(deps):
      wrong.append(f"{name}: missing {sorted(expected - set(deps))}, "
                   f"superfluous {sorted(set(deps) - expected)}, of {sorted(expected)}")
  return wrong


def test_deps_are_the_imports(targets):
  wrong = wrong_deps(targets, read)
  assert not wrong, "\n".join(wrong)


def test_every_source_has_one_target(targets):
  owners = owners_of(targets)
  files = {path for path, source in architecture_test.sources().items()
           if source or not path.endswith("__init__.py")} - {RUNNER}
  assert {path: owners[path] for path in files if len(owners[path]) != 1} == {}


def test_every_named_file_exists(targets):
  named = [file for target in targets.values() for file in [*target["srcs"], *target["data"]]]
  assert [file for file in named if not file.startswith(":") and not (ROOT / file).exists()] == []


def test_every_dependency_exists(targets):
  requirements = re.findall(r"^[\w-]+", read("requirements.txt"), re.MULTILINE)
  extra = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["test"]
  requirements += [re.match(r"[\w-]+", line).group() for line in extra]
  known = {f":{name}" for name in targets} | {
      "@" + name.replace("_", "-") for name in requirements}
  for name, target in targets.items():
    assert set(target["deps"]) <= known, name


def test_rooms_are_those_of_the_architecture(targets):
  assert set(architecture_test.MAY_IMPORT) <= set(targets)


def test_tests_run_their_own_file(targets):
  tests = {name: t for name, t in targets.items() if t["rule"] == "py_test"}
  assert len(tests) > 20
  for name, target in tests.items():
    assert target["main"] == RUNNER
    assert target["args"] == [f"{name}.py"]
    assert sorted(target["srcs"]) == sorted([RUNNER, f"{name}.py"])


def test_runner_fails_where_a_test_fails(tmp_path):
  for word, code in (("True", 0), ("False", 1)):
    (tmp_path / f"is_{word}_test.py").write_text(f"def test_it():\n  assert {word}\n")
    run = subprocess.run(
        [sys.executable, ROOT / RUNNER, tmp_path / f"is_{word}_test.py", "-p", "no:cacheprovider",
         "--rootdir", tmp_path], cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == code


FAKE_BUILD = """
load("@rules_python//python:defs.bzl", "py_library")
py_library(name = "model", srcs = ["tf_mmvae/model.py"], deps = [{deps}])
py_library(name = "nets", srcs = ["tf_mmvae/nets/images.py"], deps = [requirement("keras")])
py_library(name = "experiment", srcs = ["tools/experiment.py"], data = ["gin/a.gin"],
           deps = [":nets", requirement("gin-config")])
"""
FAKE_SOURCES = {
    "tf_mmvae/model.py": "import tensorflow as tf\nfrom tf_mmvae.nets.images import ConvEncoder",
    "tf_mmvae/nets/images.py": "import math\nimport keras",
    "tools/experiment.py": "def load():\n  import gin",
    "gin/a.gin": "from __gin__ import dynamic_registration\nfrom tf_mmvae.nets import images\n"}


@pytest.mark.parametrize(("deps", "wrong"), [
    ('":tf", ":nets"', 0),
    ('":tf"', 1),
    ('":nets"', 1),
    ('":tf", ":nets", requirement("keras")', 1),
    ('":tf", ":nets", ":nets"', 1),
])
def test_wrong_deps_are_found(deps, wrong):
  found = wrong_deps(targets_of(FAKE_BUILD.format(deps=deps)), FAKE_SOURCES.get)
  assert len(found) == wrong, found


def test_a_gin_file_needs_what_it_names():
  sources = {**FAKE_SOURCES, "gin/a.gin": "from tf_mmvae import model\nimport keras\n"}
  (found,) = wrong_deps(targets_of(FAKE_BUILD.format(deps='":tf", ":nets"')), sources.get)
  assert found.startswith("experiment: missing [':model', '@keras'], superfluous [':nets']")
