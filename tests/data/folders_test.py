import pathlib

import pytest
import tensorflow_datasets as tfds

from tf_mmvae.data import folders


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setattr(tfds.core.constants, "DATA_DIR", "~/prepared")
  return tmp_path


@pytest.mark.parametrize("given, found", [
    (None, "prepared"), ("", "prepared"), ("~/data", "data"), (pathlib.Path("~/data"), "data")])
def test_data(home, given, found):
  assert folders.data_dir_or_default(given) == home / found


@pytest.mark.parametrize("manual_dir, data_dir, found", [
    (None, None, "prepared/downloads/manual"), (None, "~/data", "data/downloads/manual"),
    ("~/mine", None, "mine"), ("~/mine", "~/data", "mine")])
def test_the_files_of_the_user(home, manual_dir, data_dir, found):
  assert folders.manual_dir_or_default(manual_dir, data_dir) == home / found


def test_what_is_given_is_kept():
  assert folders.data_dir_or_default("/a") == pathlib.Path("/a")
  assert folders.manual_dir_or_default("b", "/a") == pathlib.Path("b")
