"""TensorBoard events in segments, one a checkpoint, so that a resumed run doubles none."""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hp
from tensorflow.core.util import event_pb2


class Summaries:
  """Writes what TensorBoard shows of a run.

  Each file holds what came after one checkpoint; its name ends in that checkpoint's step. A run
  that resumes at a checkpoint drops the later files, and writes the same events again.
  """

  def __init__(self, directory: str):
    self._directory = directory
    self._writer = None

  def knobs(self, name: str, values: Mapping[str, float | str | bool],
            metrics: Sequence[str]) -> None:
    """Writes a row of the HParams page, in a file of its own that takes the place of an older one.

    Args:
      name: of the row.
      values: {knob: number, string or bool}.
      metrics: tags of the scalars that stand beside them.
    """
    self._drop(lambda name: name.endswith(".knobs"))
    writer = tf.summary.create_file_writer(self._directory, filename_suffix=".knobs")
    with writer.as_default(0):
      hp.hparams_config([hp.HParam(knob) for knob in values], [hp.Metric(tag) for tag in metrics])
      hp.hparams(values, trial_id=name)
    writer.close()

  def begin(self, step: int) -> None:
    """Starts the segment of the events after `step`; earlier attempts at it are dropped."""
    if self._writer is not None:
      self._writer.close()

    def is_later(name):
      match = re.search(r"\.after-(\d+)$", name)
      return match and int(match.group(1)) >= step

    self._drop(is_later)
    self._writer = tf.summary.create_file_writer(
        self._directory, filename_suffix=f".after-{step:09d}")

  def show(self, values: Mapping[str, Any], step: int) -> None:
    """Shows {tag: value} by what the value is: a string as Markdown, uint8 [H, W, 3] as a picture,
    float [N] as a histogram, a number as a point of a curve."""
    with self._writer.as_default(step):
      for tag, value in values.items():
        if isinstance(value, str):
          tf.summary.text(tag, value)
        elif np.ndim(value) == 3:
          tf.summary.image(tag, value[tf.newaxis])
        elif np.ndim(value) == 1:
          tf.summary.histogram(tag, value)
        else:
          tf.summary.scalar(tag, value)

  def close(self) -> None:
    self._writer.close()

  def _drop(self, condition):
    for name in os.listdir(self._directory) if os.path.isdir(self._directory) else []:
      if condition(name):
        os.remove(os.path.join(self._directory, name))


def read_scalars(directory: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """{tag: (steps int [N], values float [N])} of the curves in a directory of events, by step."""
  points = {}
  for path in glob.glob(os.path.join(glob.escape(directory), "*tfevents*")):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      event = event_pb2.Event.FromString(record)
      for value in event.summary.value:
        if value.metadata.plugin_data.plugin_name == "scalars":
          points.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
  return {tag: (np.array(sorted(of_tag)), np.array([of_tag[step] for step in sorted(of_tag)]))
          for tag, of_tag in sorted(points.items())}
