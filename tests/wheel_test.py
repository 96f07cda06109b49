"""What `pip install .` brings: the package with its gin files and stubs, and the command."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests import runs

SOURCES = ["tf_mmvae", "gin", "pyproject.toml", "setup.py", "requirements.txt", "README.md",
           "LICENSE"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """A folder that holds what the wheel does."""
  source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("made")
  for name in SOURCES:
    copy = shutil.copytree if (runs.ROOT / name).is_dir() else shutil.copy
    copy(runs.ROOT / name, source / name)
  subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
                  "--no-index", "-w", made, source], check=True, timeout=120)
  (wheel,) = made.glob("*.whl")
  with zipfile.ZipFile(wheel) as file:
    file.extractall(made / "site")
  return made / "site"


def test_every_file_comes_along(installed):
  """gin files below the package, and never as a package `gin`, which is gin-config's."""
  kinds = (".py", ".pyi", ".typed")
  expected = {path.relative_to(runs.ROOT).as_posix() for path in (runs.ROOT / "tf_mmvae").rglob("*")
              if path.suffix in kinds or path.name == "py.typed"}
  expected |= {f"tf_mmvae/{path.relative_to(runs.ROOT).as_posix()}"
               for path in (runs.ROOT / "gin").rglob("*.gin")}
  found = {path.relative_to(installed).as_posix() for path in installed.rglob("*")
           if path.is_file()}
  info = {name for name in found if name.split("/")[0].endswith(".dist-info")}
  assert found - info == expected
  (points,) = installed.glob("*.dist-info/entry_points.txt")
  assert points.read_text().split() == [
      "[console_scripts]", "tf-mmvae", "=", "tf_mmvae.cli.main:main"]


def test_gin_files_are_found_from_any_folder(installed, tmp_path):
  """Those of the package, with what they include; the mistake shows that all were read."""
  done = subprocess.run(
      [sys.executable, "-c", "from tf_mmvae.cli.main import main; main()", "train",
       "--gin_file=gin/toy_birds_tiny.gin", "--gin_param=NUM_STEPZ = 3"],
      cwd=tmp_path, text=True, capture_output=True, timeout=120,
      env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"})
  assert done.returncode == 1
  assert "nothing uses the macro NUM_STEPZ: look for a misspelt name, or take it out (did you " in (
      done.stderr)
  assert os.listdir(tmp_path) == []


def test_a_gin_file_of_the_folder_comes_first(installed, tmp_path):
  (tmp_path / "gin").mkdir()
  (tmp_path / "gin" / "toy_birds_tiny.gin").write_text("MINE = 3\n")
  done = subprocess.run(
      [sys.executable, "-c", "from tf_mmvae.cli.main import main; main()", "train",
       "--gin_file=gin/toy_birds_tiny.gin"],
      cwd=tmp_path, text=True, capture_output=True, timeout=120,
      env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"})
  assert done.returncode == 1 and "nothing uses the macro MINE" in done.stderr
