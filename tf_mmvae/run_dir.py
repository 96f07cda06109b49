"""Names inside the directory of one run, and who may write there."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator

from absl import logging

FORMAT = 3  # of a run's files; a change that makes older runs unreadable raises it
_FIRST = "# tf_mmvae run, format {}\n"
_LAST = "# The end.\n"


class RunDir:
  """The directory that one run writes.

    config.gin       the whole configuration, saved before step 0
    vocabulary.txt   the words of its sentences, where it has any
    data.json        which data it began with
    checkpoints/     the last few, and the best in checkpoints/best/
    events/          TensorBoard
    results/         figures, pictures and report.html
    judges/          classifiers that judge what it makes
    export/1/        SavedModel
    generated/       what the model was asked for
    lock             held by the process that trains

  Raises:
    ValueError: if the path is that of a file.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = os.path.abspath(os.path.expanduser(path))
    if os.path.isfile(self.path):
      raise ValueError(f"{self.path} is a file: give a directory as run_dir")
    self.config = os.path.join(self.path, "config.gin")
    self.vocabulary = os.path.join(self.path, "vocabulary.txt")
    self.data = os.path.join(self.path, "data.json")
    self.checkpoints = os.path.join(self.path, "checkpoints")
    self.best = os.path.join(self.checkpoints, "best")
    self.events = os.path.join(self.path, "events")
    self.results = os.path.join(self.path, "results")
    self.export = os.path.join(self.path, "export", "1")
    self.lock = os.path.join(self.path, "lock")

  def write_config(self, text):
    """Saves the configuration so that a reader sees the old file or the new one, whole."""
    os.makedirs(self.path, exist_ok=True)
    if os.path.exists(self.config) and self.read_config() == text:
      return
    with replacing(self.config) as path, open(path, "w", encoding="utf-8") as file:
      file.write(_FIRST.format(FORMAT) + text + _LAST)

  def read_config(self) -> str:
    """The text of the configuration.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is cut short or of another format.
    """
    if not os.path.exists(self.config):
      raise FileNotFoundError(f"no run at {self.path}: it has no config.gin; give the run_dir of "
                              "one, or train it")
    with open(self.config, encoding="utf-8", errors="replace") as file:
      text = file.read()
    first = _FIRST.format(FORMAT)
    if text.startswith(first) and text.endswith(_LAST):
      return text.removeprefix(first).removesuffix(_LAST)
    if first.startswith(text) or text.startswith(first):
      raise ValueError(f"{self.config} is cut short: put back the whole file, or train again into "
                       "another run_dir")
    found = re.match(_FIRST.format(r"(\d+)"), text)
    of = f"is of format {found[1]}" if found else "names no format"
    raise ValueError(f"{self.config} {of}, and this version of tf_mmvae reads format {FORMAT}: use "
                     "the version that wrote it, or give another run_dir")

  def check(self):
    """Raises ValueError unless a run may begin or go on here; looks alone."""
    if os.path.exists(self.config):
      self.read_config()
    elif os.path.isdir(self.path):
      others = sorted(name for name in os.listdir(self.path)
                      if name[0] != "." and name != "lock" and not name.startswith("config.gin."))
      if others:
        raise ValueError(f"{self.path} is no run, as it has no config.gin, but it is not empty "
                         f"({', '.join(others[:3])}{', ...' if others[3:] else ''}): give another "
                         "--run_dir")

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Keeps other processes from training here; the system frees it when the process ends.

    Raises:
      ValueError: if another process does.
    """
    os.makedirs(self.path, exist_ok=True)
    with open(self.lock, "a+", encoding="utf-8") as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        file.seek(0)
        raise ValueError(f"process {file.read().strip()} is training into {self.path}: wait for it "
                         "or stop it, or give another run_dir") from error
      except OSError as error:  # some network file systems know no locks
        logging.warning("%s cannot be locked (%s): see that no other process trains into it",
                        self.path, error.strerror)
      with _naming(self.lock):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
      yield


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
  """Yields where to write a file that takes the place of `path` once it is whole.

  What cannot be written in full is removed, and an `OSError` that names no file names `path`.
  """
  unfinished = f"{path}.unfinished"
  try:
    with _naming(path):
      yield unfinished
      os.replace(unfinished, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(unfinished)
    raise


@contextlib.contextmanager
def _naming(path):
  """Inside, the system's refusal to write names a file."""
  try:
    yield
  except OSError as error:
    if error.errno is None or error.filename is not None:
      raise
    raise OSError(error.errno, error.strerror, str(path)) from error
