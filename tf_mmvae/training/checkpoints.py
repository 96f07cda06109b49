"""What is saved of a run: the last few states and the best, whole or not at all."""

import contextlib
import glob
import hashlib
import os

import numpy as np
import tensorflow as tf

_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"  # ends a variable's name in a checkpoint


class Checkpoints:
  """The last `keep` checkpoints in a directory, and the best in its `best/`."""

  def __init__(self, run, model, optimizer, keep=3):
    """`run`: `RunDir`. The model and the optimizer must have all their variables."""
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.skipped = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.best_objective = tf.Variable(-float("inf"), trainable=False)
    self.best_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
    self._run = run
    # Weights mean nothing without the words that they were trained on.
    vocabulary = tf.Variable(_digest(run.vocabulary), trainable=False)
    self._state = tf.train.Checkpoint(
        model=model, optimizer=optimizer, step=self.step, skipped=self.skipped,
        best_objective=self.best_objective, best_step=self.best_step, vocabulary=vocabulary)
    self._last = tf.train.CheckpointManager(self._state, run.checkpoints, keep)
    self._best = tf.train.CheckpointManager(self._state, run.best, 1)

  def resume(self):
    """Restores the last checkpoint, if there is one, and returns the number of steps done.

    Raises:
      ValueError: if it, or the best, is damaged or of another model or vocabulary.
    """
    last = _latest(self._run.checkpoints)
    if last:  # the best is read as well, to learn of its damage now rather than at the end
      for path in filter(None, (_latest(self._run.best), last)):
        with _readable(path, self._run):
          status = self._state.restore(path)
          status.assert_existing_objects_matched()
          status.assert_consumed()
    return int(self.step.numpy())

  def save(self, step):
    """Saves the state after `step` steps."""
    self.step.assign(step)
    self._last.save(checkpoint_number=step)

  def save_if_best(self, step, objective):
    """Saves the state to best/ where the held-out objective is the highest so far."""
    if not objective > self.best_objective.numpy():
      return
    self.step.assign(step)
    self.best_objective.assign(objective)
    self.best_step.assign(step)
    self._best.save(checkpoint_number=step)


def restore_model(model, run):
  """Restores a model's weights from the best checkpoint of a run, or its last where there is none.

  Returns:
    The number of steps after which they were saved.

  Raises:
    FileNotFoundError: if the run has no checkpoint.
    ValueError: if it is damaged or of another model or vocabulary.
  """
  path = _latest(run.best) or _latest(run.checkpoints)
  if path is None:
    raise FileNotFoundError(
        f"no checkpoint in {run.checkpoints}: train first, or give another --run_dir")
  step = tf.Variable(0, dtype=tf.int64)
  with _readable(path, run):
    status = tf.train.Checkpoint(model=model, step=step).restore(path)
    status.assert_existing_objects_matched()
    status.expect_partial()
  return int(step.numpy())


def best_objective(run):
  """The highest held-out objective of a run in nats, -inf where none was measured."""
  path = _latest(run.best)
  if path is None:
    return -float("inf")
  return float(tf.train.load_checkpoint(path).get_tensor(f"best_objective/{_VALUE}"))


def _latest(directory):
  """The path of the last checkpoint in a directory, None without one."""
  path = tf.train.latest_checkpoint(directory)
  names = os.path.join(directory, "checkpoint")
  # A process that was killed while it saved its first checkpoint leaves one without the other.
  several = len(glob.glob(os.path.join(glob.escape(directory), "ckpt-*.index"))) > 1
  if path is None and (os.path.exists(names) or several):
    raise ValueError(
        f"{names} is missing or damaged, or a file is missing that it names: put back what is "
        "missing, or give another --run_dir")
  return path


@contextlib.contextmanager
def _readable(path, run):
  """Turns what a checkpoint that cannot be restored raises into one sentence."""
  try:
    saved = tf.train.load_checkpoint(path).get_tensor(f"vocabulary/{_VALUE}")
    if np.array_equal(saved, _digest(run.vocabulary)):
      yield
      return
  except (tf.errors.OpError, IndexError, ValueError, AssertionError, RuntimeError) as error:
    raise ValueError(
        f"checkpoint {path} is damaged, or of another model: put back what made it, or give "
        f"another --run_dir; to go on from an earlier one, name that in "
        f"{os.path.join(os.path.dirname(path), 'checkpoint')}") from error
  raise ValueError(f"{run.vocabulary} is not the one that checkpoint {path} was trained with: put "
                   "that back, or give another --run_dir")


def _digest(path):
  """SHA-256 of a file, int64 [4]; of nothing, where there is no file."""
  content = b""
  if os.path.exists(path):
    with open(path, "rb") as file:
      content = file.read()
  return np.frombuffer(hashlib.sha256(content).digest(), "<i8").astype(np.int64)
