"""Where data lie: the folders of the user's own files and of what is prepared or downloaded."""

import os
import pathlib

import tensorflow_datasets as tfds


def data_dir_or_default(data_dir: str | os.PathLike | None) -> pathlib.Path:
  """The folder of prepared data sets; None is that of tensorflow-datasets."""
  return pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def manual_dir_or_default(manual_dir: str | os.PathLike | None,
                          data_dir: str | os.PathLike | None) -> pathlib.Path:
  """The folder of files that the user put down; None is `<data_dir>/downloads/manual`."""
  default = data_dir_or_default(data_dir) / "downloads" / "manual"
  return pathlib.Path(manual_dir or default).expanduser()
