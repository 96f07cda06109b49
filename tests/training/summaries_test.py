import os

import numpy as np

from tests import runs
from tf_mmvae.training.summaries import Summaries


def write(summaries, *steps):
  for step in steps:
    summaries.scalars("train", {"bound": float(step)}, step)


def test_what_is_written_can_be_read(tmp_path):
  summaries = Summaries(str(tmp_path / "events"))
  summaries.begin(0)
  summaries.scalars("train", {"bound": -2.5, "log_p_image": 1.}, 3)
  summaries.pictures({"prior": np.zeros([2, 5, 3], np.uint8)}, 4)
  summaries.flush()
  found = runs.events(tmp_path / "events")
  assert found.keys() == {("train/bound", 3), ("train/log_p_image", 3), ("prior", 4)}
  assert found["train/bound", 3] == [-2.5] and found["train/log_p_image", 3] == [1.]
  assert found["prior", 4][0].startswith(b"\x89PNG")
  summaries.close()


def test_a_resumed_run_doubles_nothing(tmp_path):
  """Killed after step 5, which no checkpoint has; the last one is of step 4."""
  killed = Summaries(str(tmp_path))
  for first in (0, 2, 4):
    killed.begin(first)
    write(killed, first + 1)
    if first < 4:
      write(killed, first + 2)
  killed.flush()
  resumed = Summaries(str(tmp_path))
  resumed.begin(4)
  write(resumed, 5, 6)
  resumed.close()
  assert runs.events(tmp_path) == {("train/bound", s): [float(s)] for s in range(1, 7)}
  from_start = Summaries(str(tmp_path))
  from_start.begin(0)
  from_start.close()
  assert not runs.events(tmp_path)


def test_other_files_are_left_alone(tmp_path):
  for name in ("notes.txt", "events.out.tfevents.1.other", "x.after-7.bak"):
    (tmp_path / name).write_text("mine")
  Summaries(str(tmp_path)).begin(0)
  assert {"notes.txt", "events.out.tfevents.1.other", "x.after-7.bak"} < set(os.listdir(tmp_path))
