"""Processes that train one model together, on one machine or several, and what they agree on."""

import collections
import contextlib
import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

_EXAMPLE = ('{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, '
            '"task": {"type": "worker", "index": 0}}')
_JOBS = ("chief", "worker")
# What an operation over all processes raises where one of them is gone.
_GONE = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
         tf.errors.DeadlineExceededError)


class WorkerLost(ConnectionError):
  """Another process of the training ended, or cannot be reached."""


def make_strategy() -> tf.distribute.Strategy:
  """The `tf.distribute.Strategy` of all processes that TF_CONFIG names, or of the local devices.

  Comes before anything else uses a device. It waits for the other processes. The local devices are
  all GPUs, or else the CPU.

  Raises:
    ValueError: TF_CONFIG is wrong, or its port is taken.
    WorkerLost: not all processes came.
  """
  cluster, job, index = _cluster(os.environ.get("TF_CONFIG"))
  num_workers = sum(map(len, cluster.values()))
  if num_workers < 2:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([d.name for d in devices])
  print(f"{job} {index}, one of {num_workers} processes that train together: waits for the others",
        flush=True)
  _meet(cluster, job, index)
  handler = signal.getsignal(signal.SIGTERM)
  strategy = tf.distribute.MultiWorkerMirroredStrategy()
  signal.signal(signal.SIGTERM, handler)  # TensorFlow would keep the signal to itself
  return strategy


def _meet(cluster, job, index, patience=600.):
  """Returns once all others listen: TensorFlow waits without an end, and takes no signal then.

  patience: seconds.
  """
  own = cluster[job][index]
  others = {address for addresses in cluster.values() for address in addresses} - {own}
  try:
    server = _listening(int(own.rpartition(":")[2]))
  except OSError as error:
    raise ValueError(f"TF_CONFIG: cannot listen at {own} ({error.strerror}): see whether another "
                     "process has that port, or give another one to all") from error
  with server:
    until = time.monotonic() + patience
    while others := {address for address in others if not answers(address)}:
      if time.monotonic() > until:
        raise WorkerLost(f"nothing answered at {', '.join(sorted(others))} for {patience:.0f} s: "
                         "start all processes of TF_CONFIG, and see that these can be reached")
      time.sleep(0.2)


def _listening(port):
  """A socket that takes connections by IPv4, and by IPv6 where the machine has it."""
  if socket.has_dualstack_ipv6():
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
  return socket.create_server(("", port))


def answers(address: str) -> bool:
  """Whether something listens at "HOST:PORT"."""
  host, _, port = address.rpartition(":")
  try:
    socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
  except (OSError, ValueError):
    return False
  return True


def _cluster(text):
  """({job: [address, ...]}, job, index) of a TF_CONFIG; no jobs where there is none."""
  if text is None:
    return {}, "worker", 0
  try:
    config = json.loads(text)
  except ValueError as error:
    raise ValueError(f"TF_CONFIG is no JSON ({error}): expected such as {_EXAMPLE}") from error
  cluster = config.get("cluster") if isinstance(config, dict) else None
  task = config.get("task") if cluster else None
  if not isinstance(cluster, dict) or not isinstance(task, dict):
    raise ValueError(f"TF_CONFIG has no cluster or no task: expected such as {_EXAMPLE}")
  for job, addresses in cluster.items():
    if job not in _JOBS:
      raise ValueError(f"TF_CONFIG has a job '{job}': expected workers, and a chief or none")
    if not isinstance(addresses, list) or not all(map(_is_address, addresses)):
      raise ValueError(f"TF_CONFIG: expected a list of \"HOST:PORT\" for '{job}', got {addresses}")
  count = collections.Counter(address for of_job in cluster.values() for address in of_job)
  if twice := [address for address, times in count.items() if times > 1]:
    raise ValueError(f"TF_CONFIG names {', '.join(twice)} more than once: give each process an "
                     "address of its own")
  job, index = task.get("type"), task.get("index")
  if job not in cluster:
    raise ValueError(f"TF_CONFIG: the task's type is {job!r}, and the cluster has "
                     f"{sorted(cluster)}: give one of these")
  if not isinstance(index, int) or not 0 <= index < len(cluster[job]):
    raise ValueError(f"TF_CONFIG: the task's index is {index!r}, and '{job}' has "
                     f"{len(cluster[job])}: give a whole number from 0 to {len(cluster[job]) - 1}")
  return cluster, job, index


def _is_address(address):
  port = address.rpartition(":")[2] if isinstance(address, str) else ""
  return port.isdigit() and 0 < int(port) < 2**16


class Workers:
  """The processes of a strategy; every method with a result is to be called by all of them."""

  def __init__(self, strategy: tf.distribute.Strategy):
    self._strategy = strategy
    resolver = strategy.cluster_resolver  # None where there is one process
    jobs = resolver.cluster_spec().as_dict() if resolver else {}
    self.num = max(sum(map(len, jobs.values())), 1)
    task = (resolver.task_type, resolver.task_id) if self.num > 1 else None
    self.is_chief = task in (None, ("chief", 0)) or "chief" not in jobs and task[1] == 0

  def any(self, flag: Any) -> bool:
    """Whether `flag` is true in any of the processes, which wait for one another."""
    if self.num == 1:
      return bool(flag)
    return bool(self._sum(tf.constant([int(bool(flag))], tf.int64)) > 0)

  def meet(self) -> None:
    """Waits for the others, for as long as it takes; meanwhile a signal ends this process at once.

    Raises:
      WorkerLost: another process ended or cannot be reached.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # Python's comes after TensorFlow's call alone
      signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
      self.any(False)
    finally:
      if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, handler)

  def refuse_differing(self, values: Mapping[str, Any], advice: str) -> None:
    """Checks that values are the same in all processes.

    Args:
      values: {what it is: any value that has a text}.
      advice: what to do where they are not.

    Raises:
      ValueError: in all processes, if one of the values differs.
    """
    if self.num == 1:
      return
    for name, value in values.items():
      digest = hashlib.sha256(str(value).encode()).digest()
      numbers = np.frombuffer(digest, "<u4").astype(np.int64)
      total = self._sum(tf.constant(numbers))
      if np.any(total != numbers * self._strategy.num_replicas_in_sync):
        raise ValueError(f"the {self.num} processes differ in {name}: {advice}")

  @contextlib.contextmanager
  def watched(self) -> Iterator[None]:
    """Raises `WorkerLost` for what TensorFlow raises once another process is gone."""
    try:
      yield
    except _GONE as error:
      if self.num == 1:
        raise
      raise WorkerLost(
          "another process of this training ended, or cannot be reached: see what it said last, "
          "then run all of them again to resume from the last checkpoint") from error

  def _sum(self, value):
    """The sum of an int64 [N] over all replicas of all processes, an array."""
    with self.watched():
      return self._strategy.experimental_local_results(self._reduced(value))[0].numpy()

  @tf.function
  def _reduced(self, value):
    def reduce(value):
      # The identity gives it a device, by which it is summed.
      return tf.distribute.get_replica_context().all_reduce(
          tf.distribute.ReduceOp.SUM, tf.identity(value))

    return self._strategy.run(reduce, args=(value,))
