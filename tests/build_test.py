"""BUILD is what tests/build_file.py makes of the sources, and what it makes is sound."""

import collections
import graphlib
import re
import subprocess
import sys
import tomllib

import pytest

from tests import architecture_test, build_file
from tests.build_file import ROOT, RUNNER


def targets_of(text, root=ROOT):
  """{name: attributes} of a BUILD file, each with its `rule`."""
  targets = {}

  def rule(kind):
    def declare(name, **attributes):
      assert name not in targets, f"two targets {name}"
      targets[name] = {"rule": kind, "srcs": [], "deps": [], "data": [], **attributes}

    return declare

  def glob(include):
    found = {path.relative_to(root).as_posix() for p in include for path in root.glob(p)}
    assert found, f"nothing matches {include}"
    return sorted(found)

  exec(text, {
      **{kind: rule(kind) for kind in ("py_library", "py_binary", "py_test")},
      "package": lambda **_: None, "glob": glob, "load": lambda *_: None,
      "requirement": lambda name: f"@{name}"})
  return targets


def read(path):
  return (ROOT / path).read_text("utf-8")


@pytest.fixture(scope="module")
def targets():
  return targets_of(read("BUILD"))


def test_build_is_up_to_date():
  assert read("BUILD") == build_file.text(), "write it anew: python -m tests.build_file"


def test_every_source_has_one_target(targets):
  owners = collections.Counter(source for target in targets.values()
                               for source in set(target["srcs"]) - {RUNNER})
  files = set(architecture_test.sources()) - {RUNNER}
  assert {path: owners[path] for path in files | set(owners) if owners[path] != 1} == {}


def test_every_file_of_the_package_is_shipped(targets):
  """Stubs, which the lazy packages need, and gin files."""
  held = {file for name, target in targets.items() if name != "repository"
          for file in target["data"]}
  files = {path.relative_to(ROOT).as_posix() for folder in ("tf_mmvae", "gin")
           for path in (ROOT / folder).rglob("*") if path.suffix in (".pyi", ".gin")}
  assert len(files) > 20 and files <= held


def test_every_named_file_exists(targets):
  named = [file for target in targets.values() for file in [*target["srcs"], *target["data"]]]
  assert [file for file in [*named, *build_file.READERS] if not (ROOT / file).exists()] == []


def test_every_dependency_exists(targets):
  requirements = re.findall(r"^[\w-]+", read("requirements.txt"), re.MULTILINE)
  extra = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["test"]
  requirements += [re.match(r"[\w-]+", line).group() for line in extra]
  known = {f":{name}" for name in targets} | {
      "@" + name.replace("_", "-") for name in requirements}
  missing = {name: set(target["deps"]) - known for name, target in targets.items()}
  assert {name: labels for name, labels in missing.items() if labels} == {}


def test_no_target_depends_on_itself(targets):
  graphlib.TopologicalSorter({f":{name}": target["deps"] for name, target in targets.items()}
                             ).prepare()  # raises CycleError


def test_only_tests_depend_on_tests(targets):
  for name, target in targets.items():
    if target["rule"] != "py_test" and not target.get("testonly"):
      assert not [label for label in target["deps"] if targets.get(label[1:], {}).get("testonly")
                  or label.startswith(":tests/")], name


def test_rooms_are_those_of_the_architecture(targets):
  assert set(architecture_test.MAY_IMPORT) <= set(targets)


def test_tests_run_their_own_file(targets):
  tests = {name: t for name, t in targets.items() if t["rule"] == "py_test"}
  assert len(tests) > 20
  for name, target in tests.items():
    assert target["main"] == RUNNER
    assert target["args"] == [f"{name}.py"]
    assert sorted(target["srcs"]) == sorted([RUNNER, f"{name}.py"])
    assert {":tests/conftest", "@pytest"} <= set(target["deps"])


def test_runner_fails_where_a_test_fails(tmp_path):
  for word, code in (("True", 0), ("False", 1)):
    (tmp_path / f"is_{word}_test.py").write_text(f"def test_it():\n  assert {word}\n")
    run = subprocess.run(
        [sys.executable, ROOT / RUNNER, tmp_path / f"is_{word}_test.py", "-p", "no:cacheprovider",
         "--rootdir", tmp_path], cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == code


# On a small repository.

SMALL = {
    "tf_mmvae/__init__.py": "import lazy_loader",
    "tf_mmvae/__init__.pyi": "from . import nets as nets\nfrom .model import Model as Model",
    "tf_mmvae/model.py": "import math\nimport tensorflow as tf\nfrom tf_mmvae import arrays",
    "tf_mmvae/arrays.py": "def f():\n  import PIL.Image",
    "tf_mmvae/nets/__init__.py": "",
    "tf_mmvae/nets/__init__.pyi": "from .deep import images as images\nfrom ..arrays import f as f",
    "tf_mmvae/nets/deep/images.py": "import keras\nfrom tf_mmvae.nets import sentences",
    "tf_mmvae/nets/sentences.py": "",
    "tf_mmvae/cli/config.py": "import gin\nfrom tf_mmvae.model import Model",
    "gin/parts/a.gin": "from __gin__ import dynamic_registration\nimport tf_mmvae as mm\n",
    "gin/b.gin": 'include "gin/parts/a.gin"\nfrom tf_mmvae.cli import config\nimport keras\n',
    "tools/train.py": "from tf_mmvae.cli import config",
    "benchmarks/step.py": "from tests import small",
    "tests/bazel_runner.py": "import pytest",
    "tests/build_file.py": "import re",
    "tests/build_test.py": "from tests import build_file",
    "tests/conftest.py": "import numpy",
    "tests/small.py": "from tf_mmvae import Model",
    "tests/nets/images_test.py": "from tests.small import x\nX = 'tests.nets.two'",
    "tests/nets/two.py": "import scipy\nfrom tests.nets import images_test",
    "tests/model_test.py": "from tests.nets.images_test import y\nX = 'tests.nets.gone'",
    "pyproject.toml": "[project]",
}


@pytest.fixture
def small(tmp_path):
  """{name: attributes} of the targets of a small repository."""
  for path, source in SMALL.items():
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(source)
  return targets_of(build_file.text(tmp_path), tmp_path)


@pytest.mark.parametrize(("name", "deps"), [
    ("model", [":arrays", ":tf"]),
    ("arrays", ["@pillow"]),
    ("nets", [":arrays", "@keras"]),  # its stub imports too
    ("tf_mmvae", [":model", ":nets", "@lazy-loader"]),  # as its stub says
    ("cli", [":gin_files", ":model", "@gin-config"]),  # whoever imports gin reads gin files
    ("gin_files", [":cli", ":tf_mmvae", "@keras"]),
    ("tools/train", [":cli"]),
    ("benchmarks/step", [":tests/small"]),
    ("tests/conftest", ["@numpy"]),
    ("tests/small", [":tf_mmvae"]),
    ("tests/build_file", [":repository"]),
    ("repository", [":tools/train"]),  # which its readers start
    ("tests/build_test", [":tests/build_file", ":tests/conftest", "@pytest"]),
    ("tests/nets/images_test", [":tests/conftest", ":tests/small", "@pytest", "@scipy"]),
    ("tests/model_test", [":tests/conftest", ":tests/nets/images_test", "@pytest"]),
])
def test_deps_are_the_imports(small, name, deps):
  assert small[name]["deps"] == deps


def test_files_of_targets(small):
  assert small["nets"]["srcs"] == [
      "tf_mmvae/nets/__init__.py", "tf_mmvae/nets/deep/images.py", "tf_mmvae/nets/sentences.py"]
  assert small["nets"]["data"] == ["tf_mmvae/nets/__init__.pyi"]
  assert small["gin_files"]["data"] == ["gin/b.gin", "gin/parts/a.gin"]
  assert small["tests/nets/images_test"]["data"] == ["pyproject.toml", "tests/nets/two.py"]
  assert small["tests/model_test"]["data"] == ["pyproject.toml"]
  assert set(small["repository"]["data"]) == set(SMALL)
  assert not small["tools/train"].get("testonly") and small["benchmarks/step"]["testonly"]


def test_a_circle_is_found(small):
  with pytest.raises(graphlib.CycleError):
    test_no_target_depends_on_itself(small)  # cli reads gin files, and one of them names cli
