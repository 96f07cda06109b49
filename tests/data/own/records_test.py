import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from tests.data.own import dataset_test as own_data_test
from tf_mmvae.data.own import dataset as own_data
from tf_mmvae.data.own import records


@pytest.mark.parametrize("num", [1, 7, 5000])
def test_keys_keep_the_order_and_are_spread_over_what_tfds_sorts_at_once(num):
  keys = [records.ordered_key(i, num) for i in range(num)]
  assert keys == sorted(set(keys)) and keys[-1] < 2**128
  counts = collections.Counter(
    shuffle.get_bucket_number(key, shuffle.BUCKETS_NUMBER) for key in keys)
  assert max(counts.values()) <= -(-num // shuffle.BUCKETS_NUMBER) + 1


def test_any_order_twice_and_none(tmp_path, monkeypatch):
  monkeypatch.setattr(records, "_AT_ONCE", 5)
  own_data_test.write_source(tmp_path / "birds")
  source = own_data.Source(tmp_path / "birds" / "birds.csv", own_data_test.COLUMNS,
                           split_column="split", data_dir=tmp_path / "data")
  rows = source.records(own_data.ROWS, "train")
  assert rows.num_records == 12
  every = rows.read_all()
  assert every["row/y"].tolist() == sorted(every["row/y"].tolist())
  for positions in ([11, 0, 5, 5, 0], [3], []):
    some = rows.read(tf.constant(positions, tf.int64))
    assert set(some) == set(every)
    for name, values in some.items():
      assert values.numpy().tolist() == every[name][positions].tolist(), name
  pictures = source.records("image", "train").read(tf.constant([2, 2], tf.int64))["value"]
  assert pictures.shape == [2, *own_data_test.SHAPE] and pictures.dtype == tf.uint8


def flip(path):
  """A bit in the middle of what is not filled up with zeros."""
  content = np.frombuffer(path.read_bytes(), np.uint8).copy()
  used = np.flatnonzero(content)
  content[used[len(used) // 2]] ^= 1
  path.write_bytes(content.tobytes())


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:65536]), lambda path: path.write_bytes(b""),
    flip, lambda path: path.unlink()], ids=["cut", "empty", "changed", "missing"])
def test_an_unreadable_file_is_named(tmp_path, monkeypatch, damage):
  """The second of three; what lies in the others is read."""
  config = tfds.download.DownloadConfig(num_shards=3)
  prepare = own_data.OwnData.download_and_prepare
  monkeypatch.setattr(own_data.OwnData, "download_and_prepare",
                      functools.partialmethod(prepare, download_config=config))
  own_data_test.write_source(tmp_path / "birds")
  source = own_data.Source(tmp_path / "birds" / "birds.csv", own_data_test.COLUMNS,
                           split_column="split", data_dir=tmp_path / "data")
  expected = source.records(own_data.ROWS, "train").read_all()["sentence"]
  (path,) = (tmp_path / "data").rglob("*rows*/**/*train*-00001-of-00003")
  damage(path)
  rows = source.records(own_data.ROWS, "train")
  first, last = 0, rows.num_records - 1
  found = rows.read(tf.constant([last, first], tf.int64))["sentence"].numpy().tolist()
  assert found == expected[[last, first]].tolist()
  with pytest.raises(OSError, match=f"^{path} is missing or damaged, or may not be read: put "
                     f"back the file, or remove {path.parent}, and run it again to prepare"):
    rows.read(tf.constant([last, rows.num_records // 2, first], tf.int64))
