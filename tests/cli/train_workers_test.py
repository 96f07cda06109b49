"""tools/train.py in two processes against one."""

import json
import os
import shutil
import signal
from unittest import mock

import pytest

from tests import runs
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"
# With the file's own seed the two runs part in one unit of a decoder on some processors.
SEED = "--gin_param=SEED = 1"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The run of one process, which also prepares the data."""
  run = RunDir(tmp_path_factory.mktemp("alone") / "toy_birds_tiny")
  code, printed = runs.call_here("train.py", *runs.train_args(TINY, run.path), SEED)
  assert code == 0, printed
  return run


@pytest.fixture(scope="module")
def pair(alone, tmp_path_factory):
  """(run, [(exit code, what it printed) of each process])."""
  run = RunDir(tmp_path_factory.mktemp("pair") / os.path.basename(alone.path))
  processes = started(run)
  return run, ended(processes)


def started(run):
  """The two processes of a run."""
  cluster = {"worker": [f"localhost:{port}" for port in runs.free_ports()]}
  processes = []
  for index in range(2):
    config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
    with mock.patch.dict(os.environ, {"TF_CONFIG": json.dumps(config)}):
      processes.append(runs.start("train.py", *runs.train_args(TINY, run.path), SEED))
  return processes


def ended(processes):
  """[(exit code, what it printed) of each process]."""
  try:
    printed = [process.communicate(timeout=280)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  return [(p.returncode, of) for p, of in zip(processes, printed, strict=True)]


def test_two_processes_equal_one(pair, alone):
  run, said = pair
  assert [code for code, _ in said] == [0, 0], said
  runs.assert_nearly_same_runs(run, alone)


def test_the_first_alone_speaks_and_writes(pair, alone):
  run, ((_, first), (_, second)) = pair
  assert "; 2 devices" in first and "held-out objective" in first and "Next:" in first
  assert second == ("worker 1, one of 2 processes that train together: waits for the others\n")
  expected = list(runs.files(alone.path))

  def kinds(paths):  # names of events hold the time, the process and a count
    return sorted(path.split(".after-")[-1] if ".after-" in path else path.split(".tfevents")[0]
                  for path in paths)

  assert kinds(runs.files(run.path)) == kinds(expected)


# After the last step; the run is finished, and its figures are kept.


@pytest.fixture
def copy(pair, tmp_path):
  """A copy of the run that the two have trained."""
  path = tmp_path / os.path.basename(pair[0].path)
  shutil.copytree(pair[0].path, path)
  return RunDir(path)


def test_a_chief_that_cannot_export_ends_the_other_and_both_can_start_again(copy):
  shutil.rmtree(os.path.dirname(copy.export))
  with open(os.path.dirname(copy.export), "w", encoding="utf-8"):
    pass
  (first, said), (second, of_second) = ended(started(copy))
  assert first == 1 and f"{os.path.dirname(copy.export)} is not a directory" in said, said
  assert second == 1 and "tools/train.py: another process of this training ended" in of_second
  os.remove(os.path.dirname(copy.export))
  (first, said), (second, of_second) = ended(started(copy))
  assert (first, second) == (0, 0), (said, of_second)
  assert "is finished: its 20 steps are done" in said and "Pictures to look at" in said
  assert os.path.exists(os.path.join(copy.export, "saved_model.pb"))


def test_one_that_waits_for_the_chief_takes_sigterm(copy):
  """The chief has stopped after training; then it goes on, writes all, and misses the other."""
  chief, other = started(copy)
  try:
    for line in chief.stdout:
      if "is finished" in line:
        break
    chief.send_signal(signal.SIGSTOP)
    other.send_signal(signal.SIGTERM)
    printed, _ = other.communicate(timeout=120)
    assert other.returncode == -signal.SIGTERM, printed
    chief.send_signal(signal.SIGCONT)
  except BaseException:
    chief.kill()
    other.kill()
    raise
  ((code, printed),) = ended([chief])
  assert code == 1 and "Pictures to look at" in printed, printed
  assert "tools/train.py: another process of this training ended" in printed
