import os

import numpy as np
from tensorboard.plugins.hparams import metadata

from tests import runs
from tf_mmvae.training.summaries import Summaries

KNOBS = {"NUM_STEPS": 8, "LEARNING_RATE": 0.004, "CROP": False, "SPLIT": "train[5%:]"}
METRICS = ["held_out/objective", "held_out/bound"]


def write(summaries, *steps):
  for step in steps:
    summaries.show({"train/bound": float(step)}, step)


def test_a_value_is_shown_by_what_it_is(tmp_path):
  summaries = Summaries(str(tmp_path / "events"))
  summaries.begin(0)
  summaries.show({"train/bound": -2.5, "kl": np.float32(1.), "text": "| a |\n| --- |"}, 3)
  summaries.show({"prior": np.zeros([2, 5, 3], np.uint8), "dims": np.array([0.5, 0.5])}, 4)
  found = runs.events(tmp_path / "events")
  assert found.keys() == {
      ("train/bound", 3), ("kl", 3), ("text", 3), ("prior", 4), ("dims", 4)}
  assert found["train/bound", 3] == [-2.5] and found["kl", 3] == [1.]
  assert found["text", 3] == [b"| a |\n| --- |"]
  assert found["prior", 4][0].startswith(b"\x89PNG")
  (buckets,) = found["dims", 4]  # left edge, right edge, count
  assert sum(count for _, _, count in buckets) == 2.
  summaries.close()


def test_a_resumed_run_doubles_nothing(tmp_path):
  """Killed after step 5, which no checkpoint has; the last one is of step 4."""
  killed = Summaries(str(tmp_path))
  for first in (0, 2, 4):
    killed.begin(first)
    write(killed, first + 1)
    if first < 4:
      write(killed, first + 2)
  resumed = Summaries(str(tmp_path))
  resumed.begin(4)
  write(resumed, 5, 6)
  resumed.close()
  assert runs.events(tmp_path) == {("train/bound", s): [float(s)] for s in range(1, 7)}
  from_start = Summaries(str(tmp_path))
  from_start.begin(0)
  from_start.close()
  assert not runs.events(tmp_path)


def test_knobs_are_those_of_the_last_start(tmp_path):
  """Of a run that was interrupted at step 0, and then extended at step 4."""
  for first, num_steps in ((0, 4), (0, 4), (4, 8)):
    summaries = Summaries(str(tmp_path))
    summaries.knobs("toy", {**KNOBS, "NUM_STEPS": num_steps}, METRICS)
    summaries.begin(first)
    write(summaries, first + 1)
    summaries.close()
  assert runs.events(tmp_path) == {
      (metadata.EXPERIMENT_TAG, 0): [[]], (metadata.SESSION_START_INFO_TAG, 0): [[]],
      ("train/bound", 1): [1.], ("train/bound", 5): [5.]}
  assert runs.knobs(tmp_path) == ("toy", KNOBS, METRICS)


def test_other_files_are_left_alone(tmp_path):
  mine = {"notes.txt", "events.out.tfevents.1.other", "x.after-7.bak", "latents.tsv"}
  for name in mine:
    (tmp_path / name).write_text("mine")
  summaries = Summaries(str(tmp_path))
  summaries.knobs("toy", KNOBS, METRICS)
  summaries.begin(0)
  assert mine < set(os.listdir(tmp_path))
