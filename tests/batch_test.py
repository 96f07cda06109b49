import numpy as np
import pytest
import tensorflow as tf

from tests import small
from tf_mmvae.batch import COMPLETE, Batch, zeros_where_absent
from tf_mmvae.data.gaps import with_gaps


def test_a_batch_is_a_tuple_of_three():
  x = {"a": tf.zeros([2, 3])}
  assert Batch(x) == Batch(x, {}, {}) == (x, COMPLETE, COMPLETE)
  given, y, mask = Batch(x, {"class": tf.ones([2])}, {"a": tf.constant([True, False])})
  assert given is x and list(y) == ["class"] and list(mask) == ["a"]


@pytest.mark.parametrize("here", [[True, False, True], np.array([1, 0, 1], bool),
                                  tf.constant([True, False, True])])
def test_which_examples_are_present(here):
  batch = Batch({"a": tf.zeros([3, 2]), "b": tf.zeros([3, 4, 4, 1])}, mask={"a": here})
  for name, expected in {"a": [True, False, True], "b": [True] * 3}.items():
    found = batch.present(name)
    assert tf.is_tensor(found) and found.dtype == tf.bool
    assert found.numpy().tolist() == expected
  with pytest.raises(KeyError, match="c"):
    batch.present("c")


def test_presence_in_a_graph_of_unknown_batch():
  @tf.function(input_signature=[tf.TensorSpec([None, 2])])
  def run(a):
    return Batch({"a": a}).present("a")

  assert run(tf.zeros([5, 2])).numpy().tolist() == [True] * 5


def test_data_sets_and_strategies_keep_batches():
  """With absent observations and without, whole and cut."""
  for data in (small.examples(), with_gaps(small.examples(), {"image": 0.5})):
    batches = data.shuffled_batches(4, 0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distributed = strategy.distribute_datasets_from_function(lambda _, b=batches: b)
    for found in (batches.element_spec, next(iter(data.batches(3))), next(iter(distributed)),
                  next(iter(batches.map(lambda batch: batch._replace(y={}))))):
      assert type(found) is Batch
    whole, shared = next(iter(batches)), next(iter(distributed))
    tf.nest.map_structure(np.testing.assert_array_equal, whole, shared)
    found = strategy.run(lambda batch: batch.present("image"), args=(shared,))
    np.testing.assert_array_equal(found, whole.present("image"))


@pytest.mark.parametrize("dtype", [tf.float32, tf.int32])
@pytest.mark.parametrize("shape", [[3], [3, 2], [3, 2, 2, 1]])
def test_zeros_where_absent(dtype, shape):
  x = tf.cast(tf.random.stateless_uniform(shape, [0, 0], 1, 9), dtype)
  found = zeros_where_absent(x, tf.constant([True, False, True]))
  assert found.dtype == dtype
  np.testing.assert_array_equal(found, np.stack([x[0], np.zeros_like(x[1]), x[2]]))


def test_what_is_absent_reaches_no_gradient():
  x = tf.constant([[1.], [float("nan")]])
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = tf.reduce_sum(zeros_where_absent(x, tf.constant([True, False]))**2)
  np.testing.assert_array_equal(tape.gradient(y, x), [[2.], [0.]])
