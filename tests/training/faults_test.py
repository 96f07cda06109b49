"""What faults do to a whole run: the table in docs/faults.md, but for what other tests have."""

import contextlib
import csv
import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests import runs, small
from tests.training import train_test
from tests.training.train_test import NUM_STEPS, assert_same_runs
from tf_mmvae.data.own import dataset as own_data
from tf_mmvae.data.own.columns import Vector
from tf_mmvae.training import checkpoints
from tf_mmvae.training.trainer import Trainer


def run(directory, **changes):
  return train_test.run(directory, **{"look": None, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run without a fault."""
  return run(tmp_path_factory.mktemp("whole"))


def test_killed_while_it_trains_and_while_it_saves(whole, tmp_path):
  """Five times, at five places; the run then goes on to the same bits, with the same events."""
  done = subprocess.run([sys.executable, "-m", "tests.training.killed", str(tmp_path)],
                        cwd=runs.ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  assert checkpoints.steps(tmp_path / "checkpoints") == [2, 4, 6, 8]
  assert_same_runs(whole, run(tmp_path, num_steps=NUM_STEPS))


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize("damaged, restored", [
    (["ckpt-6.index", "ckpt-4.data-00000-of-00001", "checkpoint"], 2),
    (["best/ckpt-4.data-00000-of-00001"], 2)])
def test_after_damage_a_run_ends_as_it_would_have(whole, tmp_path, caplog, damaged, restored):
  """Also where the best has to be made again."""
  run(tmp_path, num_steps=6, evaluate_every=4)
  for name in damaged:
    flip(tmp_path / "checkpoints" / name)
  started = []
  done = run(tmp_path, train_data=_From(started))
  assert started == [restored]
  assert len([r for r in caplog.records if "cannot be read whole" in r.getMessage()]) == len(
      [name for name in damaged if name != "checkpoint"])
  assert_same_runs(whole, done)


class _From:
  """The examples of `small`, which note the step that they are asked for from.

  change: function (step, x) -> x of a batch, in TensorFlow ops.
  """

  def __init__(self, started, change=None):
    self._examples, self._started, self._change = small.examples(), started, change
    self.name, self.num_examples = self._examples.name, self._examples.num_examples

  def shuffled_batches(self, batch_size, seed, first_step=None, *shares):
    if first_step is not None:  # and not only to see what kind they are
      self._started.append(first_step)
    first_step = first_step or 0
    data = self._examples.shuffled_batches(batch_size, seed, first_step, *shares)
    if self._change is None:
      return data
    steps = tf.data.Dataset.range(first_step, 2**62)
    return tf.data.Dataset.zip(steps, data).map(
        lambda step, batch: batch._replace(x=self._change(step, batch.x)))


# NaN.


def test_nan_in_a_batch_is_a_step_not_taken(tmp_path, monkeypatch, caplog):
  """All else is as if the batch had been whole, and its step done nothing."""
  def poison(step, x):
    return {**x, "image": tf.where(step == 2, x["image"] * float("nan"), x["image"])}

  skipped = run(tmp_path / "skipped", train_data=_From([], poison))
  assert [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()] == [
      "step 3 is skipped: its objective or gradient is not finite; TensorBoard counts such steps"]
  step = Trainer.step

  def not_taken(self, x, mask, number):
    if number != 2:
      return step(self, x, mask, number)
    return {name: tf.constant(0.) for name in
            (tag.removeprefix("train/") for tag in train_test.SCALARS[:9] + ["finite"])}

  monkeypatch.setattr(Trainer, "step", not_taken)
  reference = run(tmp_path / "not taken")
  runs.assert_same_state(skipped.checkpoints, reference.checkpoints)
  runs.assert_same_state(skipped.best, reference.best)
  found, expected = runs.events(skipped.events), runs.events(reference.events)
  assert [found["train/skipped_steps", s] for s in (2, 3, 8)] == [[0.], [1.], [1.]]
  for key, values in expected.items():
    assert key[0] in runs.OF_THE_CLOCK or key[1] == 3 or found[key] == values, key


# The clock.


def test_a_clock_that_jumps(whole, tmp_path, monkeypatch):
  """By hours, on and back, and that stands still between."""
  looks, started = itertools.count(), time.time()
  for name in ("time", "monotonic", "perf_counter"):
    monkeypatch.setattr(
        time, name, lambda: started + 7200. * (0, 0, 1, 5, 5, -3, -9)[next(looks) // 3 % 7])
  done = run(tmp_path, num_steps=4)
  assert_same_runs(whole, run(tmp_path))
  assert checkpoints.steps(done.checkpoints) == [4, 6, 8]
  for key, values in runs.events(done.events).items():
    assert key[0] not in runs.OF_THE_CLOCK or np.isfinite(values).all(), key


# A full disk.


@pytest.fixture
def disk(tmp_path):
  """Function (KiB) -> a disk of that size; called again, it gives the same disk another size."""
  path = tmp_path / "disk"
  path.mkdir()

  def of_size(kib):
    how = "remount," if os.path.ismount(path) else ""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"{how}size={kib}k", "tmpfs", str(path)],
                          capture_output=True, check=False)
    if done.returncode:
      pytest.skip("no disk can be mounted here")
    return path

  yield of_size
  if os.path.ismount(path):
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("kib, full, saved", [
    (28, "checkpoints/ckpt-2", []), (60, "checkpoints/best/ckpt-4", [2])])
def test_a_disk_that_fills_up_while_a_checkpoint_is_written(whole, disk, kib, full, saved):
  """With room, the same command goes on from the last."""
  path = disk(kib)
  with pytest.raises(tf.errors.ResourceExhaustedError, match=f"{path}/{full}.*No space left on"):
    run(path, knobs=None)
  whole_ones = [step for step in checkpoints.steps(path / "checkpoints")
                if checkpoints._is_whole(str(path / "checkpoints" / f"ckpt-{step}"))]
  assert whole_ones == saved
  disk(1024)
  assert_same_runs(whole, run(path))


def test_a_disk_that_fills_up_while_events_are_written(whole, disk):
  """At step 4, after a checkpoint at step 2."""
  path = disk(200)

  def fill(model):
    with open(path / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
      while True:
        file.write(b"x" * 512)
    return {f"scalar {i}": 0. for i in range(200)}  # more than the last block has room for

  with pytest.raises(tf.errors.ResourceExhaustedError, match=f"{path}/events/.*No space left on"):
    run(path, look=fill)
  assert checkpoints.steps(path / "checkpoints") == [2]
  disk(1024)
  assert_same_runs(whole, run(path))


# Shards.


@pytest.fixture
def own(tmp_path):
  """Function () -> examples read from disk: vectors in the place of `small`'s."""
  rows = small.values()
  with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow([*rows, "split"])
    for i in range(small.NUM_EXAMPLES):
      for name, values in rows.items():
        np.save(tmp_path / f"{name}{i}.npy", values[i])
      writer.writerow([*(f"{name}{i}.npy" for name in rows),
                       {0: "validation", 1: "test"}.get(i, "train")])
  columns = {name: Vector(size) for name, size in small.SIZES.items()}

  def examples():
    source = own_data.Source(tmp_path / "rows.csv", columns, split_column="split",
                             data_dir=tmp_path / "data")
    return own_data.examples("train", source, in_memory=False)

  return examples


def test_an_unreadable_shard_in_the_middle_of_a_run(own, tmp_path):
  """The run is kept, and goes on once the file is back."""
  often = {"num_steps": 60, "evaluate_every": 10, "log_every": 10}
  expected = run(tmp_path / "whole", train_data=own(), **often)
  (shard,) = (tmp_path / "data").rglob("*image*/**/own_data-train.array_record-*")
  content = shard.read_bytes()

  def cut(model):
    shard.write_bytes(content[:100])
    return {}

  sentence = f"{shard} is missing or damaged, or may not be read: put back the file, or remove"
  with pytest.raises(tf.errors.UnknownError, match=sentence):
    run(tmp_path / "run", train_data=own(), look=cut, **often)
  saved = checkpoints.steps(tmp_path / "run" / "checkpoints")
  assert saved[-1] >= 8
  with pytest.raises(tf.errors.UnknownError, match=sentence):
    run(tmp_path / "run", train_data=own(), **often)
  assert checkpoints.steps(tmp_path / "run" / "checkpoints") == saved
  shard.write_bytes(content)
  assert_same_runs(expected, run(tmp_path / "run", train_data=own(), **often))
