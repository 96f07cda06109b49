"""Batches that another machine reads and prepares, in the order that they have here."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures

import tensorflow as tf

from tf_mmvae.training.workers import answers

# Seconds.
_EVERY = 1.  # between looks at the dispatcher
_GRACE = 10.  # for a batch after a stop is asked for
_SLOW = 30.  # from which on a batch may be slow, or the worker gone
_PATIENCE = 60.  # for one number of the worker, then


class ServiceLost(ConnectionError):
  """The tf.data service that a training reads from ended, or cannot be reached."""


def served(batches: tf.data.Dataset, address: str) -> tf.data.Dataset:
  """The same batches, read by the tf.data service at an address.

  The service is given the data that they are read from: those in memory are sent to it once, and
  those that Python reads cannot be served.

  Args:
    batches: an infinite `tf.data.Dataset`.
    address: "HOST:PORT" of a dispatcher that has one worker; several would mix the order.

  Raises:
    ValueError: nothing answers there, or it is no address.
    tf.errors.InvalidArgumentError: from the batches, if they come in another order.
  """
  if not isinstance(address, str):
    raise ValueError(f"data_service must be a text \"HOST:PORT\", or None, got {address!r}: put "
                     "the dispatcher's machine before its port, and quotes around both")
  if not answers(address):
    raise ValueError(f"no tf.data service answers at '{address}': start its dispatcher and its "
                     "worker first, and give \"HOST:PORT\"")
  numbered = batches.enumerate().apply(
      tf.data.experimental.service.distribute("parallel_epochs", f"grpc://{address}"))
  return in_order(numbered, address)


def in_order(numbered: tf.data.Dataset, address: str) -> tf.data.Dataset:
  """The batches of (number, batch), which raise an error once the numbers are not 0, 1, 2..."""
  said = (f"the tf.data service at {address} gave batches in another order: it must have one "
          "worker alone")

  def check(expected, of_service):
    number, batch = of_service
    with tf.control_dependencies([tf.debugging.Assert(number == expected, [said])]):
      return tf.nest.map_structure(tf.identity, batch)

  return numbered.enumerate().map(check)


def watched(batches: Iterable, address: str, is_asked_to_stop: Callable[[], bool]) -> Iterator:
  """The batches that a service reads, asked for by a thread, as TensorFlow would wait for ever.

  Meanwhile this thread handles signals, and sees whether the service still answers.

  Args:
    batches: what `iter` can be called with, without end.
    address: as in `served`.
    is_asked_to_stop: function without arguments.

  Yields:
    Each batch; None, and that is the last, where a stop is asked for and no batch comes.

  Raises:
    ServiceLost: the dispatcher does not answer or was started again, or the worker gives nothing.
    ValueError: Python is needed to read the data, or to change them.
  """
  batches = iter(batches)
  while True:
    batch, probe, asked = _by_thread(lambda: next(batches)), None, None
    alive = time.monotonic()
    while not futures.wait([batch], _EVERY).done:
      now = time.monotonic()
      if is_asked_to_stop():
        asked = now if asked is None else asked
        if now - asked >= _GRACE:
          yield None
          return
      if not answers(address):
        raise ServiceLost(f"the tf.data service at {address} answers no more: start it again and "
                          "run the training again to resume from the last checkpoint")
      if probe is None and now - alive >= _SLOW:
        probe, probed = _by_thread(lambda: _one_number(address)), now
      elif probe is not None and probe.done() and probe.exception() is None:
        probe, alive = None, now
      elif probe is not None and now - probed >= _PATIENCE:
        raise ServiceLost(
            f"the worker of the tf.data service at {address} gives nothing any more: start it and "
            "its dispatcher again and run the training again to resume from the last checkpoint")
    yield _result(batch, address)


def _by_thread(function):
  """A future of what a function returns; the process may end before the function does."""
  future = futures.Future()

  def call():
    try:
      future.set_result(function())
    except BaseException as error:
      future.set_exception(error)

  threading.Thread(target=call, daemon=True).start()
  return future


def _one_number(address):
  """0, by way of the service: a worker that lives gives it at once, however slow its batches."""
  return int(next(iter(tf.data.Dataset.range(1).apply(tf.data.experimental.service.distribute(
      "parallel_epochs", f"grpc://{address}")))))


def _result(batch, address):
  try:
    return batch.result()
  except tf.errors.NotFoundError as error:
    raise ServiceLost(f"the tf.data service at {address} was started again and knows nothing of "
                      "this run: run the training again to resume from the last checkpoint"
                      ) from error
  except tf.errors.InvalidArgumentError as error:
    if "Could not find callback" not in str(error):
      raise
    raise ValueError(
        f"the tf.data service at {address} cannot read or change data by Python: keep them in "
        "memory (in_memory=True), or share their directory and leave data_service "
        "None") from error
