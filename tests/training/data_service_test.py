import contextlib
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from tests import runs, small
from tests.training import train_test
from tests.training import two_workers as two
from tf_mmvae.batch import Batch
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training import data_service
from tf_mmvae.training.data_service import ServiceLost, in_order, served, watched
from tf_mmvae.training.train import Stopped, train

_SERVE = """
import sys
import threading
import tensorflow as tf
service, port = tf.data.experimental.service, int(sys.argv[2])
if sys.argv[1] != "worker":
  dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
if sys.argv[1] != "dispatcher":
  worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=f"localhost:{port}"))
print("ready", flush=True)
threading.Event().wait()
"""

RESUME = "run the training again to resume from the last checkpoint"


@contextlib.contextmanager
def serving(port, part="all"):
  """Inside, a process is a tf.data service, or its dispatcher or worker alone."""
  process = subprocess.Popen([sys.executable, "-c", _SERVE, part, str(port)], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
  try:
    assert process.stdout.readline() == "ready\n"
    yield process
  finally:
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def service():
  """The address of a tf.data service with one worker."""
  (port,) = runs.free_ports(1)
  with serving(port):
    yield f"localhost:{port}"


def test_the_same_training(service, tmp_path):
  """Also where it goes on."""
  arguments = {**two.arguments(), "train_data": small.examples(), "checkpoint_every": 3}
  here, there = RunDir(tmp_path / "here"), RunDir(tmp_path / "there")
  train(run_dir=here.path, **arguments)
  for num_steps in (3, two.NUM_STEPS):
    train(run_dir=there.path, **{**arguments, "num_steps": num_steps}, data_service=service)
  runs.assert_same_state(here.checkpoints, there.checkpoints)


def test_batches_of_the_service(service):
  data = small.examples().shuffled_batches(4, 0, 2)
  found = served(data, service)
  assert found.element_spec == data.element_spec
  assert type(next(iter(found))) is Batch
  pairs = [tf.nest.flatten(next(iter(batches))) for batches in (found, data)]
  for of_service, of_data in zip(*pairs, strict=True):
    np.testing.assert_array_equal(of_service, of_data)


def test_another_order_is_an_error():
  numbered = tf.data.Dataset.from_tensor_slices(tf.constant([0, 1, 3, 2], tf.int64)).map(
      lambda n: (n, n))
  batches = iter(in_order(numbered, "there:1"))
  assert [int(next(batches)), int(next(batches))] == [0, 1]
  with pytest.raises(tf.errors.InvalidArgumentError, match="service at there:1 gave batches in an"):
    next(batches)


@pytest.mark.parametrize("address", ["localhost:1", "nowhere"])
def test_no_service(address):
  with pytest.raises(ValueError, match=f"no tf.data service answers at '{address}': start its"):
    served(tf.data.Dataset.range(1), address)


@pytest.mark.parametrize("address", [12340, ("localhost", 12340)])
def test_an_address_that_is_no_text(address):
  with pytest.raises(ValueError, match=r"data_service must be a text \"HOST:PORT\", or None, got"):
    served(tf.data.Dataset.range(1), address)


def run_until(event, directory, port, **changes):
  """A run without an end, but for what `event`, called at step 4, leads to."""
  return train_test.run(directory, num_steps=10**6, data_service=f"localhost:{port}",
                        look=lambda model: event() or {}, **changes)


def assert_goes_on(directory):
  """To the same bits as without a service; at another port, as this process still has a client."""
  (port,) = runs.free_ports(1)
  num_steps = runs.last_step(RunDir(directory).checkpoints) + 3
  with serving(port):
    found = train_test.run(directory, num_steps=num_steps, data_service=f"localhost:{port}",
                           look=None)
  train_test.assert_same_runs(
      train_test.run(f"{directory} alone", num_steps=num_steps, look=None), found)


def test_a_service_that_is_killed_ends_the_run(tmp_path):
  (port,) = runs.free_ports(1)
  with serving(port) as service, pytest.raises(
      ServiceLost, match=f"^the tf.data service at localhost:{port} answers no more: start it "
                         f"again and {RESUME}$"):
    run_until(service.kill, tmp_path / "run", port)
  assert_goes_on(tmp_path / "run")


def test_a_service_that_is_started_again_ends_the_run(tmp_path):
  (port,) = runs.free_ports(1)
  with contextlib.ExitStack() as stack, serving(port) as service:

    def start_again():
      service.kill()
      service.wait()
      stack.enter_context(serving(port))

    with pytest.raises(ServiceLost, match=f"^the tf.data service .* was started .*: {RESUME}$"):
      run_until(start_again, tmp_path, port)


def test_a_worker_that_is_killed_ends_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr(data_service, "_SLOW", 0.)
  monkeypatch.setattr(data_service, "_PATIENCE", 1.)
  (port,) = runs.free_ports(1)
  with serving(port, "dispatcher"), serving(port, "worker") as worker, pytest.raises(
      ServiceLost, match=f"^the worker of the tf.data service at localhost:{port} gives nothing "
                         f"any more: .* and {RESUME}$"):
    run_until(worker.kill, tmp_path, port)


def test_a_worker_that_is_slow_is_waited_for(service, monkeypatch):
  asked = threading.Event()
  one_number = data_service._one_number

  def ask(address):
    found.append(one_number(address))
    if len(found) == 2:
      asked.set()

  def batches():
    asked.wait()
    yield "batch"

  found = []
  monkeypatch.setattr(data_service, "_SLOW", 0.)
  monkeypatch.setattr(data_service, "_one_number", ask)
  assert next(watched(batches(), service, lambda: False)) == "batch"
  assert found == [0, 0]


def test_a_signal_while_no_batch_comes(tmp_path, monkeypatch):
  """The dispatcher's machine still takes connections, and nothing answers there."""
  answers, asked = data_service.answers, []

  def answers_and_asks(address):  # for the first time as the run begins, then only as it waits
    asked.append(address)
    if len(asked) == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return answers(address)

  monkeypatch.setattr(data_service, "_GRACE", 0.)
  monkeypatch.setattr(data_service, "answers", answers_and_asks)
  (port,) = runs.free_ports(1)
  with serving(port) as service, pytest.raises(Stopped, match="^stopped by SIGTERM") as stopped:
    run_until(lambda: service.send_signal(signal.SIGSTOP), tmp_path / "run", port)
  assert stopped.value.code == 143
  step = runs.last_step(RunDir(tmp_path / "run").checkpoints)
  assert step >= 4 and f"after step {step}, which is saved: run it again to" in str(stopped.value)
  assert_goes_on(tmp_path / "run")


def test_data_that_python_reads(tmp_path):
  def augment(x, seeds):
    return {**x, "image": tf.ensure_shape(
        tf.numpy_function(lambda image: image, [x["image"]], tf.float32), x["image"].shape)}

  (port,) = runs.free_ports(1)
  with serving(port), pytest.raises(ValueError, match=f"^the tf.data service at localhost:{port} "
                                    "cannot read or change data by Python: keep them in memory"):
    train_test.run(tmp_path, train_data=small.examples(augment=augment),
                   data_service=f"localhost:{port}")
