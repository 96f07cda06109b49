"""What a run left on disk, and the tools as processes of their own."""

import atexit
import collections
import contextlib
import functools
import glob
import io
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tensorboard.plugins.hparams import metadata
from tensorflow.core.util import event_pb2

from tf_mmvae.cli import main
from tf_mmvae.run_dir import RunDir

ROOT = pathlib.Path(__file__).parents[1]


def last_step(checkpoints):
  """The step of the last checkpoint in a directory, -1 without one."""
  path = tf.train.latest_checkpoint(str(checkpoints))
  return -1 if path is None else int(path.rsplit("-", 1)[1])


def state(checkpoints):
  """{name: value} of all variables in a checkpoint, or in the last one of a directory."""
  reader = tf.train.load_checkpoint(str(checkpoints))
  # `save_counter` counts how often a process saved, which an interruption changes.
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
          if name.endswith("VARIABLE_VALUE") and not name.startswith("save_counter")}


def assert_same_state(first, second):
  """Asserts that two checkpoint directories end in the same bits."""
  first, second = state(first), state(second)
  assert first.keys() == second.keys() and len(first) > 10
  for name, value in first.items():
    np.testing.assert_array_equal(value, second[name], err_msg=name)


def assert_nearly_same_runs(found, expected):
  """The same checkpoints and numbers of events, each once, but for rounding and the clock."""
  for directory in ("checkpoints", "best"):
    first, second = (state(getattr(run, directory)) for run in (found, expected))
    assert first.keys() == second.keys() and len(first) > 10
    for name, value in second.items():
      np.testing.assert_allclose(
          first[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max(), err_msg=name)
  first, second = ({key: values for key, values in events(run.events).items()
                    if isinstance(values[0], float)} for run in (found, expected))
  assert first.keys() == second.keys() and any(tag == "held_out/objective" for tag, _ in first)
  for (tag, step), values in second.items():
    assert len(first[tag, step]) == 1, tag
    # Weights of samples are exponentials of numbers as large as the bound, which are rounded.
    rounding = 2e-7 * abs(second.get(("train/bound", step), [0.])[0])
    if tag not in OF_THE_CLOCK:
      np.testing.assert_allclose(
          first[tag, step], values, rtol=1e-4, atol=rounding, err_msg=f"{tag}, step {step}")


def free_ports(num=2):
  """Ports that nobody has."""
  with contextlib.ExitStack() as stack:
    servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(num)]
    return [server.getsockname()[1] for server in servers]


OF_THE_CLOCK = {"train/steps_per_second", "train/input_wait"}  # tags that no two runs share


def events(directory):
  """{(tag, step): [value, ...]} over all event files: numbers, lists, or bytes of words and
  pictures."""
  found = collections.defaultdict(list)
  for step, value in _summaries(directory):
    tensor = tf.make_ndarray(value.tensor)
    is_picture = tensor.dtype == object and tensor.ndim
    found[value.tag, step].append(tensor[2] if is_picture else tensor.tolist())
  return found


def knobs(directory):
  """A run's row of the HParams page: (its name, {knob: value}, tags of its metrics)."""
  content = {value.tag: value.metadata.plugin_data.content for _, value in _summaries(directory)}
  row = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
  table = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
  assert {info.name for info in table.hparam_infos} == set(row.hparams)
  values = {knob: getattr(value, value.WhichOneof("kind")) for knob, value in row.hparams.items()}
  return row.group_name, values, [info.name.tag for info in table.metric_infos]


def _summaries(directory):
  """(step, `Summary.Value`) of all event files."""
  for path in glob.glob(os.path.join(directory, "*tfevents*")):
    for record in tf.data.TFRecordDataset(path):
      event = event_pb2.Event.FromString(record.numpy())
      yield from ((event.step, value) for value in event.summary.value)


def start(tool, *args, **kwargs):
  """Starts a tool in a process; what it prints goes into one pipe unless told otherwise."""
  return subprocess.Popen(
      [sys.executable, ROOT / "tools" / tool, *args], text=True, cwd=ROOT,
      env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
      **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **kwargs})


def call(tool, *args):
  """Runs a tool in a process to its end: (exit code, what it printed)."""
  process = start(tool, *args)
  try:
    printed, _ = process.communicate(timeout=300)
  finally:
    process.kill()
  return process.returncode, printed


def call_here(tool, *args):
  """Runs a tool in this process, which saves the imports; returns what `call` returns."""
  printed, verbosity = io.StringIO(), logging.get_verbosity()
  gin.clear_config()
  try:
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
      main.run_tool(tool, [f"tools/{tool}", *args])
  except SystemExit as stop:
    if isinstance(stop.code, str):
      return 1, printed.getvalue() + stop.code
    return stop.code or 0, printed.getvalue()
  finally:
    gin.clear_config()
    logging.set_verbosity(verbosity)
  return 0, printed.getvalue()


@functools.cache
def scratch():
  """A directory that lasts as long as the tests: data and runs that several of them look at."""
  directory = tempfile.TemporaryDirectory()
  atexit.register(directory.cleanup)
  return pathlib.Path(directory.name)


def train_args(gin_file, run_dir):
  """Arguments of tools/train.py; the data are prepared once for all tests."""
  return [f"--gin_file={gin_file}", f"--run_dir={run_dir}", f"--data_dir={scratch() / 'data'}",
          f"--manual_dir={scratch() / 'manual'}"]


@functools.cache
def finished(gin_file):
  """Trains as a gin file says, once for all tests: (run, exit code, what was printed)."""
  run = RunDir(scratch() / pathlib.Path(gin_file).stem)
  return run, *call_here("train.py", *train_args(gin_file, run.path))


def files(directory):
  """{path: (bytes, time of the last change)} of all files below a directory but `lock`."""
  return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns)
          for path in sorted(pathlib.Path(directory).rglob("*"))
          if path.is_file() and path.name != "lock"}
