"""What is saved of a run: the last few states and the best, whole or not at all."""

import contextlib

import tensorflow as tf


class Checkpoints:
  """The last `keep` checkpoints in a directory, and the best in its `best/`."""

  def __init__(self, run, model, optimizer, keep=3):
    """`run`: `RunDir`. The model and the optimizer must have all their variables."""
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.skipped = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.best_objective = tf.Variable(-float("inf"), trainable=False)
    self.best_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
    self._state = tf.train.Checkpoint(
        model=model, optimizer=optimizer, step=self.step, skipped=self.skipped,
        best_objective=self.best_objective, best_step=self.best_step)
    self._last = tf.train.CheckpointManager(self._state, run.checkpoints, keep)
    self._best = tf.train.CheckpointManager(self._state, run.best, 1)

  def resume(self):
    """Restores the last checkpoint, if there is one, and returns the number of steps done.

    Raises:
      ValueError: if it is damaged or of another model.
    """
    if self._last.latest_checkpoint:
      with _readable(self._last.latest_checkpoint):
        status = self._state.restore(self._last.latest_checkpoint)
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
    ValueError: if it is damaged or of another model.
  """
  path = tf.train.latest_checkpoint(run.best) or tf.train.latest_checkpoint(run.checkpoints)
  if path is None:
    raise FileNotFoundError(
        f"no checkpoint in {run.checkpoints}: train first, or give another --run_dir")
  step = tf.Variable(0, dtype=tf.int64)
  with _readable(path):
    status = tf.train.Checkpoint(model=model, step=step).restore(path)
    status.assert_existing_objects_matched()
    status.expect_partial()
  return int(step.numpy())


@contextlib.contextmanager
def _readable(path):
  """Turns what a checkpoint that cannot be restored raises into one sentence."""
  try:
    yield
  except (tf.errors.OpError, IndexError, ValueError, AssertionError) as error:
    raise ValueError(
        f"checkpoint {path} is damaged, or of another model or vocabulary: put back what made it, "
        "or give another --run_dir") from error
