"""Prepared data sets on disk, read by position: any record costs one seek, and none stays."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

_LARGEST_KEY = 2**128  # of the records of TFDS
_AT_ONCE = 256  # records that are read at once when all are


class Records:
  """The records of a split that TFDS wrote as array_record, by their position.

  Pictures, numbers, vectors of floats and texts are read, in TensorFlow ops but for the fetching.
  Memory is that of the records asked for, however many there are.

  Args:
    builder: a TFDS builder whose data set is prepared as array_record.
    split: the name of a split.

  Where a file is missing or damaged, or may not be read, reading raises an `OSError` that names it,
  inside of a tf.data pipeline a `tf.errors.UnknownError` with the same words.
  """

  def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
    self._split = builder.info.splits[split]
    self._source = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    self.num_records = len(self._source)
    self._features = dict(builder.info.features.items())
    self._specs = {}
    for name, feature in self._features.items():
      if isinstance(feature, tfds.features.Image):
        self._specs[name] = tf.io.FixedLenFeature([], tf.string)
      else:
        self._specs[name] = tf.io.FixedLenFeature(feature.shape, feature.tf_dtype)

  def read(self, positions: tf.Tensor) -> dict[str, tf.Tensor]:
    """The records at positions, int64 [B] in any order: {feature: [B, ...]}."""
    fetched = tf.numpy_function(self._fetch, [positions], tf.string, stateful=False)
    # Stateless, so that a graph which asks for no feature of it does not fetch either.
    values = tf.io.parse_example(tf.ensure_shape(fetched, [None]), self._specs)
    for name, feature in self._features.items():
      if isinstance(feature, tfds.features.Image):
        values[name] = _decode(values[name], feature.shape)
    return values

  def read_all(self) -> dict[str, np.ndarray]:
    """{feature: array [N, ...]}, all records in their order."""
    batches = tf.data.Dataset.range(self.num_records).batch(_AT_ONCE)
    found = {}
    start = 0
    for batch in batches.map(self.read, tf.data.AUTOTUNE).as_numpy_iterator():
      for name, values in batch.items():
        if name not in found:
          found[name] = np.empty([self.num_records, *values.shape[1:]], values.dtype)
        found[name][start : start + len(values)] = values
      start += len(values)
    return found

  def _fetch(self, positions):
    found = np.empty([len(positions)], object)
    found[:] = self._from_source(positions)
    return found

  def _from_source(self, positions):
    """The records at positions, a list of bytes."""
    try:
      found = self._source.__getitems__(positions.tolist())
      if all(found):  # what a file cut short lacks is b""
        return found
    except (RuntimeError, ValueError, IndexError) as error:
      if len(positions) == 1:
        logging.debug("%s", error)
    if len(positions) > 1:  # which of the files it is
      return [record for i in positions for record in self._from_source(np.array([i]))]
    shard = np.searchsorted(np.cumsum(self._split.shard_lengths), positions[0], side="right")
    path = self._split.filepaths[shard]
    raise OSError(f"{path} is missing or damaged, or may not be read: put back the file, or remove "
                  f"{path.parent}, and run it again to prepare the data anew")


def ordered_key(i: int, num: int) -> int:
  """The key of record `i` of `num` for TFDS to keep their order.

  Keys are spread over all that there are: TFDS sorts what does not fit into its memory by ranges of
  keys, and would have to hold all that are in one.
  """
  return i * (_LARGEST_KEY // num)


def _decode(encoded, shape):
  """PNGs [B] -> uint8 [B, H, W, C]."""
  pictures = tf.map_fn(
    lambda png: tf.io.decode_png(png, channels=shape[-1]), encoded, fn_output_signature=tf.uint8
  )
  return tf.ensure_shape(pictures, [None, *shape])
