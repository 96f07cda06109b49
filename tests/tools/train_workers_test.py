"""tools/train.py in two processes against one."""

import json
import os
from unittest import mock

import pytest

from tests import runs
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """(run, [(exit code, what it printed) of each process])."""
  expected, code, printed = runs.finished(TINY)  # and the data are prepared
  assert code == 0, printed
  run = RunDir(tmp_path_factory.mktemp("pair") / expected.path.rsplit("/", 1)[1])
  cluster = {"worker": [f"localhost:{port}" for port in runs.free_ports()]}
  processes = []
  for index in range(2):
    config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
    with mock.patch.dict(os.environ, {"TF_CONFIG": json.dumps(config)}):
      processes.append(runs.start("train.py", *runs.train_args(TINY, run.path)))
  try:
    printed = [process.communicate(timeout=280)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  return run, [(p.returncode, of) for p, of in zip(processes, printed, strict=True)]


def test_two_processes_equal_one(pair):
  run, said = pair
  assert [code for code, _ in said] == [0, 0], said
  runs.assert_nearly_same_runs(run, runs.finished(TINY)[0])


def test_the_first_alone_speaks_and_writes(pair):
  run, ((_, first), (_, second)) = pair
  assert "; 2 devices" in first and "held-out objective" in first and "Next:" in first
  assert second == ("worker 1, one of 2 processes that train together: waits for the others\n")
  expected = [path for path in runs.files(runs.finished(TINY)[0].path)
              if "judges" not in path and not path.endswith("report.html")]  # of other tests

  def kinds(paths):  # names of events hold the time, the process and a count
    return sorted(path.split(".after-")[-1] if ".after-" in path else path.split(".tfevents")[0]
                  for path in paths)

  assert kinds(runs.files(run.path)) == kinds(expected)
