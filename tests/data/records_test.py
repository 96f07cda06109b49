import collections

import pytest
import tensorflow as tf
from tensorflow_datasets.core import shuffle

from tests.data import own_data_test
from tf_mmvae.data import own_data, records


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
