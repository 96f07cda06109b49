"""TensorBoard events in segments, one a checkpoint, so that a resumed run doubles none."""

import os
import re

import tensorflow as tf


class Summaries:
  """Writes scalars, pictures and texts of a run.

  Each file holds what came after one checkpoint; its name ends in that checkpoint's step. A run
  that resumes at a checkpoint drops the later files, and writes the same events again.
  """

  def __init__(self, directory):
    self._directory = directory
    self._writer = None

  def begin(self, step):
    """Starts the segment of the events after `step`; earlier attempts at it are dropped."""
    if self._writer is not None:
      self._writer.close()
    if os.path.isdir(self._directory):
      for name in os.listdir(self._directory):
        match = re.search(r"\.after-(\d+)$", name)
        if match and int(match.group(1)) >= step:
          os.remove(os.path.join(self._directory, name))
    self._writer = tf.summary.create_file_writer(
        self._directory, filename_suffix=f".after-{step:09d}")

  def scalars(self, prefix, values, step):
    """values: {name: float}; shown as prefix/name."""
    with self._writer.as_default(step):
      for name, value in values.items():
        tf.summary.scalar(f"{prefix}/{name}", value)

  def pictures(self, values, step):
    """values: {name: uint8 [H, W, 3]}."""
    with self._writer.as_default(step):
      for name, value in values.items():
        tf.summary.image(name, value[tf.newaxis])

  def flush(self):
    self._writer.flush()

  def close(self):
    self._writer.close()
