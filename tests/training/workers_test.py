import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests import runs
from tests.training import two_workers as two
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training import workers
from tf_mmvae.training.train import train

# TF_CONFIG, and who is who.


def config(cluster=("a:1", "b:2"), **task):
  return {"cluster": {"worker": list(cluster)}, "task": {"type": "worker", "index": 0, **task}}


@pytest.mark.parametrize("given, message", [
    ("{", "TF_CONFIG is no JSON .*: expected such as"),
    ([], "has no cluster or no task: expected such as"),
    ({"cluster": {"worker": ["a:1"]}}, "has no cluster or no task"),
    ({**config(), "cluster": {"worker": ["a:1"], "ps": ["b:2"]}}, "has a job 'ps': expected work"),
    (config(cluster=["a:1", "b"]), r"expected a list of \"HOST:PORT\" for 'worker', got .*'b'"),
    (config(cluster=["a:1", "b:65536"]), "expected a list of"),
    (config(cluster=["a:1", "b:2", "a:1"]), "names a:1 more than once: give each process an addre"),
    ({**config(), "cluster": {"chief": ["b:2"], "worker": ["a:1", "b:2"]}}, "names b:2 more than"),
    (config(type="chief"), r"type is 'chief', and the cluster has \['worker'\]"),
    (config(index=2), "index is 2, and 'worker' has 2: give a whole number from 0 to 1"),
    (config(index=None), "index is None")])
def test_mistakes_in_tf_config(monkeypatch, given, message):
  monkeypatch.setenv("TF_CONFIG", given if isinstance(given, str) else json.dumps(given))
  with pytest.raises(ValueError, match=message) as error:
    workers.make_strategy()
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [None, config(["a:1"])])
def test_one_process_has_the_local_devices(monkeypatch, given):
  monkeypatch.delenv("TF_CONFIG", raising=False)
  if given:
    monkeypatch.setenv("TF_CONFIG", json.dumps(given))
  strategy = workers.make_strategy()
  alone = workers.Workers(strategy)
  assert isinstance(strategy, tf.distribute.MirroredStrategy)
  assert (alone.num, alone.is_chief) == (1, True)
  assert alone.any(15) is True and alone.any(None) is False


def test_a_port_that_is_taken(monkeypatch):
  with socket.create_server(("", 0)) as server:
    own = f"localhost:{server.getsockname()[1]}"
    monkeypatch.setenv("TF_CONFIG", json.dumps(config([own, "localhost:1"])))
    with pytest.raises(ValueError, match=f"cannot listen at {own} .*another process has that"):
      workers.make_strategy()


def has_ipv6():
  try:
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
  except OSError:
    return False
  return socket.has_dualstack_ipv6()


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("[::1]", marks=pytest.mark.skipif(
    not has_ipv6(), reason="there is no IPv6 here"))])
def test_a_process_that_waits_can_be_reached(monkeypatch, host):
  """By IPv6 and by IPv4; the other one seems there once this one was asked for."""
  own, other = map(f"{host}:{{}}".format, runs.free_ports())
  answers, found = workers.answers, []
  monkeypatch.setattr(workers, "answers", lambda address: found.append(answers(own)) or True)
  workers._meet({"worker": [own, other]}, "worker", 0)
  assert found == [True]


def test_a_process_that_does_not_come():
  own, other = map("localhost:{}".format, runs.free_ports())
  with pytest.raises(workers.WorkerLost, match=f"nothing answered at {other} for 0 s: start all"):
    workers._meet({"worker": [own, other]}, "worker", 0, patience=0.)


# Two processes against one.


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """(directory, what each of the two processes said, their exit codes)."""
  return of_two(tmp_path_factory.mktemp("pair"), victim=1)


def of_two(directory, victim):
  addresses = [f"localhost:{port}" for port in runs.free_ports()]
  processes = [
      subprocess.Popen(
          [sys.executable, "-m", "tests.training.two_workers", directory, str(index),
           str(victim)],
          cwd=runs.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
          env={**os.environ, "TF_CONFIG": json.dumps(config(addresses, index=index))})
      for index in range(2)]
  try:
    printed = [process.communicate(timeout=240)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  said = [directory / f"said{index}.json" for index in range(2)]
  assert all(path.exists() for path in said), printed
  return directory, [json.loads(path.read_text()) for path in said], [p.returncode
                                                                      for p in processes]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The same training by one process."""
  run = RunDir(tmp_path_factory.mktemp("alone"))
  train(run_dir=run.path, **two.arguments())
  return run


def test_two_processes_equal_one(pair, alone):
  runs.assert_nearly_same_runs(RunDir(pair[0] / "whole"), alone)


def test_clipping_was_at_work(alone):
  found = runs.events(alone.events)
  norms = [found["train/gradient_norm", step][0] for step in range(1, two.NUM_STEPS + 1)]
  assert min(norms) > two.arguments()["clip_norm"]


def test_each_process_reads_its_share_alone(pair):
  """The first half of each batch, or the second."""
  for index, said in enumerate(pair[1]):
    places = np.array(said["read"])
    assert np.all(places % two.BATCH_SIZE // 2 == index)
    num = two.NUM_STEPS * two.BATCH_SIZE
    assert np.sum(places < num) == num // 2 == len(np.unique(places[places < num]))


def test_one_that_is_asked_to_stop_stops_both(pair, alone, tmp_path):
  """After the same step, which is saved; one process goes on to the same end."""
  directory, said, _ = pair
  assert [f"after step {two.STOPPED}, which is saved" in of["stopped"] for of in said] == [True] * 2
  run = RunDir(directory / "stopped")
  assert runs.last_step(run.checkpoints) == two.STOPPED
  train(run_dir=run.path, **two.arguments())
  runs.assert_nearly_same_runs(run, alone)


def test_processes_that_differ_say_so(pair):
  directory, said, _ = pair
  for of in said:
    assert "the 2 processes differ in the training data: see that all read" in of["data"]
    assert "differ in the checkpoint that they begin from: see that" in of["directory"]
  assert not (directory / "empty").exists()


def test_one_that_dies_ends_the_other_and_one_process_goes_on(pair, alone):
  directory, said, codes = pair
  assert codes == [0, -9]
  assert_lost(said[0], RunDir(directory / "died"), alone)


def test_a_chief_that_dies_ends_the_other_and_one_process_goes_on(alone, tmp_path):
  directory, said, codes = of_two(tmp_path, victim=0)
  assert codes == [-9, 0]
  assert_lost(said[1], RunDir(directory / "died"), alone)


def assert_lost(said, run, alone):
  """The run is kept to its last checkpoint, and goes on to the same end."""
  assert said["lost"].startswith("another process of this training ended, or cannot be reached:")
  assert said["lost"].endswith(", then run all of them again to resume from the last checkpoint")
  assert runs.last_step(run.checkpoints) == two.DIED - 1
  train(run_dir=run.path, **two.arguments())
  runs.assert_nearly_same_runs(run, alone)


def test_the_second_process_leaves_no_files(pair):
  found = {path.name for path in pathlib.Path(pair[0]).iterdir()}
  assert found <= {"whole", "stopped", "differing", "died", "said0.json", "said1.json"}
  for name in ("whole", "stopped", "died"):
    names = {path.name for path in (pair[0] / name).rglob("*tfevents*")}
    assert len({name.split(".after-")[1] for name in names if ".after-" in name}) == len(names)
