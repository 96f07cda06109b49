"""Processes that train into one run after the other, each killed (-9) at a place of its own.

Run as a script by faults_test, which then goes on with the run: `killed.py RUN_DIR`.
"""

import contextlib
import os
import pkgutil
import signal
import sys
from unittest import mock

from tests.training import train_test

_MERGE = "tensorflow.python.ops.gen_io_ops.merge_v2_checkpoints"
_NAME = "tensorflow.python.checkpoint.checkpoint_management.update_checkpoint_state_internal"
PLACES = [  # the call before which the process is killed, and how many go well
    (_MERGE, 0),  # the first checkpoint is half written
    (_MERGE, 1),  # the best one is half written
    (_MERGE, 1),  # a later one is half written
    (_NAME, 1),  # it is whole, but the file that names the last does not tell
    ("tf_mmvae.training.checkpoints._remove", 0),  # the next is whole, an old one has to go
]


@contextlib.contextmanager
def killed_at(name, num_good):
  """Inside, this process kills itself when a function is called once more than so many times."""
  function, calls = pkgutil.resolve_name(name), []

  def call(*args, **kwargs):
    calls.append(name)
    if len(calls) > num_good:
      os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)

  with mock.patch(name, call):
    yield


def main(directory):
  for place in PLACES:
    child = os.fork()  # TensorFlow is loaded, but nothing has run in it yet
    if not child:
      with killed_at(*place):
        train_test.run(directory, look=None)
      os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (place, status)


if __name__ == "__main__":
  main(sys.argv[1])
