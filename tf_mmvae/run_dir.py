"""Names inside the directory of one run, and who may write there."""

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

FORMAT = 4  # of a run's files; a change that makes older runs unreadable raises it
_FIRST = "# tf_mmvae run, format {}\n"
_LAST = "# The end.\n"


class RunDir:
  """The directory that one run writes.

    config.gin       the whole configuration of a run of the command line, saved before step 0
    experiment.json  what an `Experiment` of Python says of itself, in its place
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
    self.description = os.path.join(self.path, "experiment.json")
    self.vocabulary = os.path.join(self.path, "vocabulary.txt")
    self.data = os.path.join(self.path, "data.json")
    self.checkpoints = os.path.join(self.path, "checkpoints")
    self.best = os.path.join(self.checkpoints, "best")
    self.events = os.path.join(self.path, "events")
    self.results = os.path.join(self.path, "results")
    self.report = os.path.join(self.results, "report.html")
    self.export = os.path.join(self.path, "export", "1")
    self.lock = os.path.join(self.path, "lock")

  def has_config(self) -> bool:
    """Whether it is a run of the command line."""
    return os.path.exists(self.config)

  def exists(self) -> bool:
    """Whether it is a run."""
    return self.has_config() or os.path.exists(self.description)

  def check_exists(self) -> None:
    """Raises FileNotFoundError unless it is a run."""
    if not self.exists():
      raise FileNotFoundError(f"no run at {self.path}: it has neither config.gin nor "
                              "experiment.json; give the run_dir of one, or train it")

  def text(self) -> str:
    """What the run is, to be read: its configuration or description."""
    if self.has_config():
      return self.read_config()
    return json.dumps(self.read_description(), indent=2)

  def refuse_config(self) -> None:
    """Raises ValueError if it is a run of the command line, which an `Experiment` cannot resume."""
    if self.has_config():
      raise ValueError(f"{self.path} is a run of the command line: resume it there, or give "
                       "another directory")

  def refuse_description(self) -> None:
    """Raises ValueError if it is a run of an `Experiment`, which the command line cannot resume."""
    if not self.has_config() and os.path.exists(self.description):
      raise ValueError(f"{self.path} is a run of an Experiment of Python: resume it there, or give "
                       "another run_dir")

  def write_description(self, description: Mapping[str, Any]) -> None:
    """Saves {name: value} of an `Experiment`, whole or not at all."""
    os.makedirs(self.path, exist_ok=True)
    with replacing(self.description) as path, open(path, "w", encoding="utf-8") as file:
      json.dump({"format": FORMAT, "experiment": description}, file, indent=2)

  def read_description(self) -> dict[str, Any] | None:
    """The description of an `Experiment`, or None where there is none.

    Raises:
      ValueError: if it is damaged, or of another format.
    """
    if not os.path.exists(self.description):
      return None
    try:
      with open(self.description, encoding="utf-8") as file:
        found = json.load(file)
      number, description = found["format"], dict(found["experiment"])
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f"{self.description} is damaged: put back the whole file, or train again "
                       "into another run_dir") from error
    if number != FORMAT:
      raise ValueError(f"{self.description} is of format {number}, and this version of tf_mmvae "
                       f"reads format {FORMAT}: use the version that wrote it, or give another "
                       "run_dir")
    return description

  def write_config(self, text: str) -> None:
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

  def check(self) -> None:
    """Raises ValueError unless a run may begin or go on here, and be written; leaves no trace."""
    self._check_writable()
    if self.has_config():
      self.read_config()
    elif os.path.exists(self.description):
      self.read_description()
    elif os.path.isdir(self.path):
      others = sorted(name for name in os.listdir(self.path)
                      if name[0] != "." and name != "lock" and not name.startswith("config.gin."))
      if others:
        said = f"{', '.join(others[:3])}{', ...' if others[3:] else ''}"
        raise ValueError(f"{self.path} is no run, as it has neither config.gin nor "
                         f"experiment.json, but it is not empty ({said}): give another run_dir")

  def _check_writable(self):
    """Writes into the directory, or the nearest above it that is there."""
    folder = self.path
    while not os.path.lexists(folder):
      folder = os.path.dirname(folder)
    try:
      with tempfile.TemporaryFile(dir=folder):
        pass
    except OSError as error:
      where = "" if folder == self.path else f" below {folder}"
      raise ValueError(f"the run's directory {self.path} cannot be written{where}: "
                       f"{error.strerror}; give another run_dir, or change who may write "
                       "there") from error

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
