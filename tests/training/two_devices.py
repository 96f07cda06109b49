"""Steps on two logical CPUs against steps on one; run as a script by trainer_test."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import trainer_test as t

BROKEN = 2  # of the steps; its NaN is in the share of the second replica


def main():
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
  # One strategy for all: those of two strategies would take each other's collectives.
  both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
  assert both.num_replicas_in_sync == 2
  one, two = (t.make(strategy, averaging, clip_norm=t.CLIP_NORM, screening=t.ONE_BEST)
              for strategy in (None, both))
  expected, found = (t.steps(x, t.batches(x, 5, broken=[BROKEN])) for x in (one, two))
  for i in range(5):
    assert expected[i].keys() == found[i].keys()
    assert expected[i]["finite"] == (i != BROKEN)
    if i != BROKEN:
      assert expected[i]["gradient_norm"] > 2 * t.CLIP_NORM
    for name, value in expected[i].items():
      rounding = 1e-4 if name == "screening_error" else 0.
      np.testing.assert_allclose(
          found[i][name], value, rtol=1e-5, atol=rounding, err_msg=f"step {i}, {name}")
  start, end = t.state(t.make(optimizer=averaging)), t.state(one)
  moved = [np.abs(value - old).max()
           for (name, value), old in zip(end.items(), start.values(), strict=True)
           if "learning_rate" not in name]
  assert min(moved) > 1e-4, moved
  check_copies(two, end)
  with one.averaged_weights(), two.averaged_weights():
    averages = t.state(one)
    check_copies(two, averages)
  assert max(np.abs(averages[name] - end[name]).max() for name in end) > 1e-4
  check_copies(two, end)
  check_gaps(both)
  check_batch_norm(both)
  with pytest.raises(ValueError, match="^jit_compile: XLA cannot compile for 2 replicas on proc"):
    t.make(both, jit_compile=True)


def check_batch_norm(both):
  """Statistics of the whole batch, in the step and kept; those of a share are refused."""
  one, two = (t.make(strategy, clip_norm=t.CLIP_NORM, batch_norm=True, synchronized=True)
              for strategy in (None, both))
  expected, found = (t.steps(trainer, t.batches(trainer, 4)) for trainer in (one, two))
  for i in range(4):
    for name, value in expected[i].items():
      np.testing.assert_allclose(found[i][name], value, rtol=1e-4, err_msg=f"step {i}, {name}")
  check_copies(two, t.state(one))
  with pytest.raises(ValueError, match="statistics of a device's share"):
    t.make(both, batch_norm=True)
  with pytest.raises(ValueError, match="its encoder computes with .* in few bits"):
    t.make(both, batch_norm=True, synchronized=True, train_dtype="bfloat16")


def check_gaps(both):
  """Examples that have anything are spread unevenly; one device has none at all in a step."""
  masks = [*t.GAPS, {"image": [1, 1, 0, 0], "sentence": [1, 0, 0, 1]}, t.EMPTY]
  one = t.make()
  expected = t.steps(one, t.batches(one, 5, masks=masks))
  for size in (None, 1):
    two = t.make(both, examples_per_chunk=size)
    found = t.steps(two, t.batches(two, 5, masks=masks))
    for i in range(5):
      for name, value in expected[i].items():
        np.testing.assert_allclose(
            found[i][name], value, rtol=1e-5, atol=1e-6, err_msg=f"step {i}, {name}, chunks {size}")
    check_copies(two, t.state(one))


def averaging():
  return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75)


def check_copies(two, expected):
  """Both devices hold what is expected."""
  variables = two.model.variables + two.optimizer.variables
  for v, (name, value) in zip(variables, expected.items(), strict=True):
    copies = [np.asarray(copy) for copy in two.strategy.experimental_local_results(v.value)]
    assert len(copies) == 2
    for copy in copies:
      np.testing.assert_allclose(copy, value, rtol=1e-5, atol=1e-6, err_msg=name)


if __name__ == "__main__":
  main()
  print("equal")
