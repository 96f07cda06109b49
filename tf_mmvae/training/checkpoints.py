"""What is saved of a run: the last few states and the best, each whole or not used."""

import contextlib
import glob
import hashlib
import os
import re
import shutil

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tf_mmvae.model import MultimodalVAE
from tf_mmvae.run_dir import RunDir

_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"  # ends a variable's name in a checkpoint
_NAME = r"ckpt-(\d+)"


class Checkpoints:
  """The last `keep` checkpoints in a directory, and the best in its `best/`.

  Which is the last is told by the numbers in the names alone, not by the clock.
  """

  def __init__(self, run: RunDir, model: MultimodalVAE, optimizer: keras.optimizers.Optimizer,
               keep: int = 3):
    """`run`: `RunDir`. The model and the optimizer must have all their variables."""
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.skipped = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.best_objective = tf.Variable(-float("inf"), trainable=False)
    self.best_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
    self._run, self._keep = run, keep
    # Weights mean nothing without the words that they were trained on.
    vocabulary = tf.Variable(_digest(run.vocabulary), trainable=False)
    self._state = tf.train.Checkpoint(
        model=model, optimizer=optimizer, step=self.step, skipped=self.skipped,
        best_objective=self.best_objective, best_step=self.best_step, vocabulary=vocabulary)

  def resume(self) -> int:
    """Restores the newest whole checkpoint, if there is one, and returns the number of steps done.

    Where the best is lost, that is the newest from before it, since going on makes it again;
    without one the best is forgotten.

    Raises:
      ValueError: if there are checkpoints and none is whole, or the newest whole one is of another
        model or vocabulary.
    """
    run = self._run
    path = _newest_whole([run.checkpoints])
    if path:
      self._restore(path)
      best = int(self.best_step.numpy())
      # One from after this checkpoint will be made again, whatever became of it.
      if best >= 0 and max(steps(run.best), default=-1) <= self.step.numpy() and not _is_whole(
          _path(run.best, best)):
        self._do_without_best(best)
    return int(self.step.numpy())

  def save(self, step: int) -> None:
    """Saves the state after `step` steps."""
    self.step.assign(step)
    self._write(self._run.checkpoints, step, self._keep)

  def save_if_best(self, step: int, objective: float) -> None:
    """Saves the state to best/ where the held-out objective is the highest so far."""
    if not objective > self.best_objective.numpy():
      return
    self.step.assign(step)
    self.best_objective.assign(objective)
    self.best_step.assign(step)
    self._write(self._run.best, step, keep=1)

  def _restore(self, path):
    with _of_this_model(path, self._run):
      status = self._state.restore(path)
      status.assert_existing_objects_matched()
      status.assert_consumed()

  def _do_without_best(self, best):
    path, earlier = _path(self._run.best, best), None
    for step in reversed(steps(self._run.checkpoints)):
      if step < best and _is_whole(_path(self._run.checkpoints, step)):
        earlier = _path(self._run.checkpoints, step)
        break
    if earlier:
      logging.warning("the best checkpoint %s cannot be read whole: going on from %s, which is "
                      "from before it, makes it again", path, earlier)
      self._restore(earlier)
    else:
      logging.warning("the best checkpoint %s cannot be read whole, and none from before it is "
                      "left: the best of the steps to come takes its place", path)
      self.best_objective.assign(-float("inf"))
      self.best_step.assign(-1)

  def _write(self, directory, step, keep):
    self._state.save_counter.assign(step - 1)  # TensorFlow adds 1 and takes it for the name
    self._state.save(os.path.join(directory, "ckpt"))
    # A larger number is of a checkpoint that could not be read, `_temp` of one cut off.
    kept = [s for s in steps(directory) if s <= step][-keep:]
    for name in os.listdir(directory):
      found = re.match(rf"{_NAME}(\.|_temp$)", name)
      if found and (found[2] == "_temp" or int(found[1]) not in kept):
        _remove(os.path.join(directory, name))


def restore_model(model: MultimodalVAE, run: RunDir) -> int:
  """Restores a model's weights from the best checkpoint of a run, or its last where there is none.

  One that is damaged is passed over, which is said.

  Returns:
    The number of steps after which they were saved.

  Raises:
    FileNotFoundError: if the run has no checkpoint.
    ValueError: if none is whole, or it is of another model or vocabulary.
  """
  path = _newest_whole([run.best, run.checkpoints])
  if path is None:
    raise FileNotFoundError(
        f"no checkpoint in {run.checkpoints}: train first, or give another run_dir")
  step = tf.Variable(0, dtype=tf.int64)
  with _of_this_model(path, run):
    status = tf.train.Checkpoint(model=model, step=step).restore(path)
    status.assert_existing_objects_matched()
    status.expect_partial()
  return int(step.numpy())


def best_objective(run: RunDir) -> float:
  """The highest held-out objective of a run in nats, -inf where none was measured, or is left."""
  for step in reversed(steps(run.best)):
    path = _path(run.best, step)
    if _is_whole(path):
      return float(tf.train.load_checkpoint(path).get_tensor(f"best_objective/{_VALUE}"))
  return -float("inf")


def steps(directory: str) -> list[int]:
  """The steps of the checkpoints in a directory, whole or not, in their order."""
  names = os.listdir(directory) if os.path.isdir(directory) else []
  found = (re.fullmatch(rf"{_NAME}\.(index|data-\d+-of-\d+)", name) for name in names)
  return sorted({int(match[1]) for match in found if match})


def _path(directory, step):
  return os.path.join(directory, f"ckpt-{step}")


def _newest_whole(directories):
  """The path of the newest whole checkpoint in the first directory that has one.

  Those passed over are said. None where there is no checkpoint, or but the beginning of the first.

  Raises:
    ValueError: if there are checkpoints, and none is whole.
  """
  damaged = []
  for directory in directories:
    for step in reversed(steps(directory)):
      path = _path(directory, step)
      if _is_whole(path):
        for other in damaged:
          logging.warning("checkpoint %s cannot be read whole: %s is used", other, path)
        return path
      damaged.append(path)
  # `checkpoint` is written once the first is whole.
  named = any(os.path.exists(os.path.join(directory, "checkpoint")) for directory in directories)
  if named or len(damaged) > 1:
    raise ValueError(f"no checkpoint in {directories[-1]} can be read whole: put back what is "
                     "missing, or give another run_dir")
  return None


def _is_whole(path):
  """Whether all of a checkpoint is there, and what it holds agrees with its checksums.

  Raises:
    PermissionError: if it may not be read.
  """
  try:
    for name in glob.glob(f"{glob.escape(path)}.*"):
      with open(name, "rb"):  # TensorFlow would not tell why it cannot
        pass
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)
  except PermissionError:
    raise
  except (tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError):
    return False
  return True


def _remove(path):
  """Removes a file or a directory; another process may be faster."""
  if os.path.isdir(path):
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)


@contextlib.contextmanager
def _of_this_model(path, run):
  """Turns what restoring a whole checkpoint into another model raises into one sentence."""
  saved = tf.train.load_checkpoint(path).get_tensor(f"vocabulary/{_VALUE}")
  if not np.array_equal(saved, _digest(run.vocabulary)):
    raise ValueError(f"{run.vocabulary} is not the one that checkpoint {path} was trained with: "
                     "put that back, or give another run_dir")
  try:
    yield
  except (tf.errors.OpError, ValueError, AssertionError) as error:
    raise ValueError(f"checkpoint {path} is of another model: put back what made it, or give "
                     "another run_dir") from error


def _digest(path):
  """SHA-256 of a file, int64 [4]; of nothing, where there is no file."""
  content = b""
  if os.path.exists(path):
    with open(path, "rb") as file:
      content = file.read()
  return np.frombuffer(hashlib.sha256(content).digest(), "<i8").astype(np.int64)
