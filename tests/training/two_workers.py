"""One of two processes that train together, by TF_CONFIG; run as a script by workers_test."""

import contextlib
import json
import os
import signal
import sys
from unittest import mock

import keras
import tensorflow as tf

from tests import small
from tf_mmvae.training.train import Stopped, train
from tf_mmvae.training.trainer import Trainer
from tf_mmvae.training.workers import WorkerLost, make_strategy

NUM_STEPS = 6
BATCH_SIZE = 4
STOPPED = 3  # after so many steps, as one of the processes is asked to stop
DIED = 5  # after so many steps one of them is killed


def arguments(read=None):
  """Of `train`: batch statistics, clipping, and a change to each example by its own seed.

  read: notes the places, in all batches, of the examples that are read.
  """
  def note(places):
    if read is not None:
      read.extend(places.tolist())
    return places

  def augment(x, seeds):
    places = tf.numpy_function(note, [seeds[:, 1]], tf.int64)
    noise = tf.map_fn(lambda seed: tf.random.stateless_uniform([], seed), seeds,
                      fn_output_signature=tf.float32)
    noise += 0. * tf.cast(tf.ensure_shape(places, noise.shape), tf.float32)
    return {**x, "image": x["image"] + noise[:, tf.newaxis]}

  return {
      "model": lambda: small.model(batch_norm=True, synchronized=True),
      "estimator": small.estimator(), "train_data": small.examples(augment=augment),
      "optimizer": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
      "validation_data": small.examples(small.values(8, seed=1)), "seed": 0,
      "num_steps": NUM_STEPS, "num_samples": 3, "batch_size": BATCH_SIZE, "clip_norm": 2.,
      "log_every": 1, "evaluate_every": 3, "checkpoint_every": 2}


def main(directory, index, victim):
  """The victim dies in the last of the trainings; where that is the chief, it is the only one."""
  said, strategy = {}, make_strategy()

  def run(name, **changes):
    train(**{"run_dir": os.path.join(directory, name), "strategy": strategy, **arguments(),
             **changes})

  def die():
    if index == victim:
      note(directory, index, said)
      os.kill(os.getpid(), signal.SIGKILL)

  if victim:
    live(directory, index, said, run)
  try:
    with before_step(DIED, die):
      run("died")
  except WorkerLost as lost:
    said["lost"] = str(lost)
  note(directory, index, said)


def live(directory, index, said, run):
  """Trainings in which no process dies; notes what is said."""
  read = []
  run("whole", **arguments(read))
  said["read"] = sorted(read)
  try:
    with before_step(STOPPED - 1, lambda: index == 1 and os.kill(os.getpid(), signal.SIGTERM)):
      run("stopped")
  except Stopped as stopped:
    said["stopped"] = str(stopped)
  for name, changes in {
      "data": {"train_data": small.examples(small.values(seed=index))},
      "directory": {"run_dir": os.path.join(directory, ["whole", "empty"][index])}}.items():
    try:
      run("differing", **changes)
    except ValueError as error:
      said[name] = str(error)


@contextlib.contextmanager
def before_step(number, do):
  """Does something before a step, counted from 0."""
  step = Trainer.step

  def watched(self, x, mask, now):
    if int(now) == number:
      do()
    return step(self, x, mask, now)

  with mock.patch.object(Trainer, "step", watched):
    yield


def note(directory, index, said):
  with open(os.path.join(directory, f"said{index}.json"), "w", encoding="utf-8") as file:
    json.dump(said, file)


if __name__ == "__main__":
  main(sys.argv[1], *map(int, sys.argv[2:]))
