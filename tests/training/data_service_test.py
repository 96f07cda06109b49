import pytest
import tensorflow as tf

from tests import runs, small
from tests.training import two_workers as two
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training.data_service import in_order, served
from tf_mmvae.training.train import train


@pytest.fixture(scope="module")
def service():
  """The address of a tf.data service in this process, and its one worker."""
  service = tf.data.experimental.service
  dispatcher = service.DispatchServer()
  address = dispatcher.target.split("://")[1]
  worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
  yield address, worker


def test_the_same_training(service, tmp_path):
  """Also where it goes on."""
  arguments = {**two.arguments(), "train_data": small.examples(), "checkpoint_every": 3}
  here, there = RunDir(tmp_path / "here"), RunDir(tmp_path / "there")
  train(run_dir=here.path, **arguments)
  for num_steps in (3, two.NUM_STEPS):
    train(run_dir=there.path, **{**arguments, "num_steps": num_steps}, data_service=service[0])
  runs.assert_same_state(here.checkpoints, there.checkpoints)


def test_batches_come_from_the_service(service):
  address, worker = service
  data = small.examples().shuffled_batches(4, 0, 2)
  found = served(data, address)
  assert found.element_spec == data.element_spec
  before = worker._num_tasks()
  next(iter(found))
  assert worker._num_tasks() == before + 1


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
