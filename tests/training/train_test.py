import os
import pathlib
import re
import signal
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import runs, small
from tf_mmvae.data import gaps
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training import notes
from tf_mmvae.training.checkpoints import Checkpoints
from tf_mmvae.training.train import Stopped, train
from tf_mmvae.training.trainer import Trainer

NUM_STEPS = 8
SCALARS = ["objective", "bound", "log_p_image", "log_p_sentence", "log_q_over_p",
           "effective_sample_size", "captured_weight", "screening_error", "gradient_norm",
           "steps_per_second", "input_wait", "finite", "skipped_steps"]
KNOBS = ["_hparams_/experiment", "_hparams_/session_start_info"]


def run(directory, **changes):
  """A short run with a checkpoint every 2 steps and a look every 4."""
  arguments = {
      "model": small.model, "estimator": small.estimator(), "train_data": small.examples(),
      "optimizer": lambda: keras.optimizers.Adam(0.1, amsgrad=True),
      "validation_data": small.examples(small.values(8, seed=1)), "run_dir": str(directory),
      "seed": 0, "num_steps": NUM_STEPS, "num_samples": 3, "batch_size": 4, "clip_norm": 2.,
      "log_every": 1, "evaluate_every": 4, "checkpoint_every": 2, "look": look,
      "knobs": {"K": 3}}
  train(**{**arguments, **changes})
  return RunDir(directory)


def look(model):
  assert "image" in model.modalities
  return {"prior": np.zeros([2, 2, 3], np.uint8), "said": "a red bird"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run without interruption."""
  return run(tmp_path_factory.mktemp("whole"))


def assert_same_runs(first, second):
  """The same last and best checkpoints, and the same events but for speed."""
  runs.assert_same_state(first.checkpoints, second.checkpoints)
  runs.assert_same_state(first.best, second.best)
  first, second = runs.events(first.events), runs.events(second.events)
  assert first.keys() == second.keys()
  for key, values in first.items():
    assert len(values) == len(second[key]) == 1, key
    assert key[0] in runs.OF_THE_CLOCK or values == second[key], key


def test_events(whole):
  found = runs.events(whole.events)
  expected = {(f"train/{name}", step) for name in SCALARS for step in range(1, NUM_STEPS + 1)}
  expected |= {(tag, step) for tag in ("held_out/objective", "held_out/bound", "prior", "said")
               for step in (4, 8)}
  expected |= {(tag, 0) for tag in KNOBS}
  assert found.keys() == expected
  assert all(len(values) == 1 for values in found.values())
  assert [found["train/finite", step] for step in (1, 8)] == [[1.], [1.]]


def test_the_share_of_time_that_steps_wait_for_input(tmp_path, monkeypatch):
  """By a clock that a batch moves by 3 and a step by 1; what comes between takes no time."""
  now, really = [0.], Trainer.step

  def late(self, shares):
    del self
    for batch in shares(tf.distribute.InputContext()):
      now[0] += 3
      yield batch

  def step(*arguments):
    now[0] += 1
    return really(*arguments)

  monkeypatch.setattr(sys.modules[train.__module__], "time",
                      types.SimpleNamespace(monotonic=lambda: now[0]))
  monkeypatch.setattr(tf.distribute.MirroredStrategy, "distribute_datasets_from_function",
                      late)
  monkeypatch.setattr(Trainer, "step", step)
  found = runs.events(run(tmp_path, num_steps=3, log_every=2).events)
  assert {step: found["train/input_wait", step] for step in (2, 3)} == {2: [0.75], 3: [0.75]}


def test_knobs_stand_beside_what_was_held_out(whole):
  assert runs.knobs(whole.events) == (
      pathlib.Path(whole.path).name, {"K": 3.}, ["held_out/objective", "held_out/bound"])


def test_logs_and_saves_when_told_to_and_at_the_end(tmp_path):
  done = run(tmp_path, num_steps=5, log_every=2, evaluate_every=3, checkpoint_every=4)
  found = runs.events(done.events)
  assert sorted(step for tag, step in found if tag == "train/bound") == [2, 4, 5]
  assert sorted(step for tag, step in found if tag == "held_out/bound") == [3, 5]
  names = {path.name for path in pathlib.Path(done.checkpoints).glob("*.index")}
  assert names == {"ckpt-4.index", "ckpt-5.index"}


def test_seed_decides_everything(whole, tmp_path):
  initial, data = [], _Watched(small.examples())

  def model():
    made = small.model()
    initial.append([v.numpy() for v in made.trainable_variables])
    return made

  keras.utils.set_random_seed(9)  # of no account
  assert_same_runs(whole, run(tmp_path / "again", model=model, train_data=data))
  other = run(tmp_path / "other", model=model, train_data=data, seed=1)
  assert data.asked == [(4, 0, 0), (4, 1, 0)]
  kernels = [(a, b) for a, b in zip(*initial, strict=True) if a.ndim == 2]
  assert len(kernels) == 8
  final, final_of_other = runs.state(whole.checkpoints), runs.state(other.checkpoints)
  weights = [(a, final_of_other[name]) for name, a in final.items() if "_trainable_var" in name]
  assert len(weights) == 16
  for a, b in kernels + weights:
    assert not np.array_equal(a, b)


class Interrupted(Exception):
  """Not an exception of ours."""


def test_goes_on_after_an_exception(whole, tmp_path):
  """At step 4, after a checkpoint at step 2 and scalars of 3 and 4."""
  def fail(model):
    raise Interrupted

  with pytest.raises(Interrupted):
    run(tmp_path, look=fail)
  assert runs.last_step(RunDir(tmp_path).checkpoints) == 2
  assert_same_runs(whole, run(tmp_path))


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_stops(whole, tmp_path, number, code):
  handler = signal.getsignal(number)
  data = _Watched(small.examples(), at=3, do=lambda: os.kill(os.getpid(), number))
  with pytest.raises(Stopped, match=f"^stopped by {number.name} after step [1-5], [^\n]+$") as stop:
    run(tmp_path, train_data=data, checkpoint_every=100)
  assert stop.value.code == code
  assert signal.getsignal(number) is handler
  saved = runs.last_step(RunDir(tmp_path).checkpoints)
  assert f"after step {saved}," in str(stop.value)
  assert_same_runs(whole, run(tmp_path))


class _Watched:
  """Examples that do something when a batch is asked for, and note what was asked."""

  def __init__(self, examples, at=None, do=None):
    self._examples, self._at, self._do = examples, at, do
    self.name, self.num_examples = examples.name, examples.num_examples
    self.asked = []

  def shuffled_batches(self, batch_size, seed, first_step=None, *shares):
    if first_step is None:  # what a batch looks like
      return self._examples.shuffled_batches(batch_size, seed)
    self.asked.append((batch_size, seed, first_step))

    def watch(step):
      if step == self._at:
        self._do()
      return step

    data = self._examples.shuffled_batches(batch_size, seed, first_step, *shares)
    steps = tf.data.Dataset.range(first_step, 2**62).map(
        lambda step: tf.py_function(watch, [step], tf.int64))
    return tf.data.Dataset.zip(data, steps).map(lambda batch, _: batch)


def test_a_larger_number_of_steps_extends_a_run(whole, tmp_path):
  run(tmp_path, num_steps=4)
  assert runs.last_step(RunDir(tmp_path).checkpoints) == 4
  data = _Watched(small.examples())
  assert_same_runs(whole, run(tmp_path, train_data=data))
  assert data.asked == [(4, 0, 4)]


def test_a_finished_run_is_left_as_it_is(whole):
  before = runs.files(whole.path)
  for num_steps in (NUM_STEPS, 3):
    run(whole.path, train_data=None, num_steps=num_steps)
  assert runs.files(whole.path) == before


def test_events_are_on_disk_before_a_checkpoint(tmp_path, monkeypatch):
  """A run killed right after a save goes on behind it, and never writes those events again."""
  save, seen = Checkpoints.save, []

  def look(self, step):
    expected = {(f"train/{name}", s) for name in SCALARS for s in range(1, step + 1)}
    seen.append(expected - runs.events(tmp_path / "events").keys())
    save(self, step)

  monkeypatch.setattr(Checkpoints, "save", look)
  run(tmp_path, num_steps=6, evaluate_every=100)
  assert seen == [set(), set(), set()]


def test_best_has_the_highest_held_out_objective(tmp_path, monkeypatch):
  """Also where the run was interrupted in between."""
  values = {2: -5., 4: -1., 6: -3., 8: float("nan"), 10: -2.}
  looks = iter(values.values())
  monkeypatch.setattr(
      Trainer, "evaluate", lambda *args: {"objective": next(looks), "bound": 0.})
  done = run(tmp_path, num_steps=6, evaluate_every=2)
  best, of_four = runs.state(done.best), runs.state(f"{done.checkpoints}/ckpt-4")
  run(tmp_path, num_steps=10, evaluate_every=2)
  assert runs.last_step(done.best) == 4
  np.testing.assert_equal(runs.state(done.best), best)
  np.testing.assert_equal(of_four, best)
  assert best["best_objective/.ATTRIBUTES/VARIABLE_VALUE"] == -1.
  assert runs.state(done.checkpoints)["best_step/.ATTRIBUTES/VARIABLE_VALUE"] == 4


def test_moving_averages_are_what_is_evaluated_looked_at_and_best(tmp_path):
  """And the last checkpoint holds the weights themselves, beside them."""
  seen = []

  def look(model):
    seen.append([v.numpy().copy() for v in model.trainable_variables])
    return {}

  done = run(tmp_path, num_steps=3, evaluate_every=3, look=look,
             optimizer=lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
  best, last = ({name: value for name, value in runs.state(directory).items()
                 if "_trainable_variables" in name} for directory in (done.best, done.checkpoints))
  assert any(not np.allclose(value, last[name]) for name, value in best.items())
  for value in best.values():
    assert any(np.array_equal(weights, value) for weights in seen[0])


def test_best_is_that_of_the_events(tmp_path):
  """A learning rate that overshoots: the last is not the best."""
  done = run(tmp_path, optimizer=lambda: keras.optimizers.SGD(1.), evaluate_every=1)
  held_out = {step: values[0] for (tag, step), values in runs.events(done.events).items()
              if tag == "held_out/objective"}
  best = max(held_out, key=held_out.get)
  assert 1 < best < NUM_STEPS
  assert runs.last_step(done.best) == best


def broken(num_broken):
  """Examples of which `num_broken` hold NaN."""
  x = small.values()
  x["sentence"][:num_broken] = np.nan
  return small.examples(x)


def test_persistent_nan_stops(tmp_path):
  message = r"^the objective or its gradient was not finite in 3 steps on end, up to step 3: .+$"
  with pytest.raises(ArithmeticError, match=message) as error:
    run(tmp_path, train_data=broken(small.NUM_EXAMPLES), max_skipped=3)
  assert "\n" not in str(error.value)
  found = runs.events(tmp_path / "events")
  assert [found["train/finite", step] for step in (1, 2)] == [[0.], [0.]]
  for value in runs.state(RunDir(tmp_path).checkpoints).values():
    assert np.isfinite(value).all() or value == -np.inf  # the best objective so far


def test_some_nan_is_skipped_and_counted(tmp_path):
  """Also over an interruption."""
  first, second = tmp_path / "whole", tmp_path / "parts"
  changes = {"train_data": broken(1), "max_skipped": 3}
  done = run(first, **changes)
  found = runs.events(done.events)
  finite = [found["train/finite", step][0] for step in range(1, 9)]
  assert 0 < sum(finite) < 8
  counts = [found["train/skipped_steps", step][0] for step in range(1, 9)]
  assert counts == np.cumsum(1 - np.array(finite)).tolist()
  saved = runs.state(done.checkpoints)
  assert saved["optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE"] == sum(finite)
  assert all(np.isfinite(value).all() for value in saved.values())
  run(second, **{**changes, "num_steps": 4})
  runs.assert_same_state(done.checkpoints, run(second, **changes).checkpoints)


def with_gaps():
  """Examples of which a part lacks either modality, and some both."""
  return gaps.with_gaps(small.examples(), {"image": 0.3, "sentence": 0.6})


def test_data_with_gaps_in_chunks_go_on_where_they_stopped(tmp_path):
  changes = {"train_data": with_gaps(), "validation_data": with_gaps(), "examples_per_chunk": 2}
  done = run(tmp_path / "whole", **changes)
  found = runs.events(done.events)
  assert all(found["train/finite", step] == [1.] for step in range(1, NUM_STEPS + 1))
  assert np.isfinite(found["held_out/objective", NUM_STEPS]).all()
  run(tmp_path / "parts", **{**changes, "num_steps": 4})
  assert_same_runs(done, run(tmp_path / "parts", **changes))


def test_statistics_of_a_batch_are_refused_where_training_data_have_masks(tmp_path):
  """And nowhere else: held-out data are not trained on."""
  batch_norm = {"model": lambda: small.model(batch_norm=True), "num_steps": 1}
  run(tmp_path / "complete", validation_data=with_gaps(), **batch_norm)
  message = "^modality 'image': its encoder computes with statistics of its batch, which would "
  with pytest.raises(ValueError, match=message):
    run(tmp_path / "gaps", train_data=with_gaps(), **batch_norm)
  assert not runs.events(tmp_path / "gaps" / "events")


def test_first_step_is_told_once_before_anything_is_saved(tmp_path):
  calls = []

  def called():
    calls.append(runs.last_step(RunDir(tmp_path).checkpoints))
    if len(calls) == 1:
      raise ValueError("nothing uses the binding")

  every_step = {"num_steps": 2, "checkpoint_every": 1, "evaluate_every": 1}
  with pytest.raises(ValueError, match="nothing uses"):
    run(tmp_path, on_first_step=called, **every_step)
  assert runs.last_step(RunDir(tmp_path).checkpoints) == -1
  assert runs.last_step(RunDir(tmp_path).best) == -1
  run(tmp_path, on_first_step=called, **every_step)
  assert calls == [-1, -1]
  assert runs.last_step(RunDir(tmp_path).checkpoints) == 2


def test_replicas_must_share_a_batch(tmp_path):
  message = re.escape("batch_size 4 cannot be shared by 3 replicas: give a multiple")
  with pytest.raises(ValueError, match=message):
    run(tmp_path, strategy=types.SimpleNamespace(num_replicas_in_sync=3))
  assert not os.listdir(tmp_path)


WHOLE = ["num_steps", "num_samples", "batch_size", "log_every", "evaluate_every",
         "checkpoint_every", "max_skipped"]


@pytest.mark.parametrize("changes, message", [
    *(({name: number}, f"{name} must be a whole number of at least 1, got {number!r}")
      for name in WHOLE for number in (0, -1, 2.5, "4")),
    ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
    ({"clip_norm": 0}, "clip_norm must be a number above 0, or None, got 0"),
    ({"clip_norm": "1"}, "clip_norm must be a number above 0, or None, got '1'"),
  *(({"examples_per_chunk": size}, "examples_per_chunk must be a whole number of at least 1, or "
     f"None, got {size!r}") for size in (0, -1, 1.5, "2")),
  ({"examples_per_chunk": 3},
   "examples_per_chunk 3 cannot divide the 4 examples of a replica: give a divisor, or None"),
  ({"examples_per_chunk": 2, "model": lambda: small.model(batch_norm=True)},
   "modality 'image': its encoder computes with statistics of its batch, which examples_per_chunk "
   "would cut in pieces: take such layers out, or leave examples_per_chunk None"),
    *(({"optimizer": lambda rate=rate: keras.optimizers.Adam(rate)},
       f"the learning rate must be a number above 0, got {rate}") for rate in (0., -0.1, np.nan)),
])
def test_bad_numbers_are_refused_before_anything_is_written(tmp_path, changes, message):
  with pytest.raises(ValueError, match=f"^{re.escape(message.replace('0.0', '0'))}$"):
    run(tmp_path / "run", **changes)
  assert not (tmp_path / "run").exists()


def test_a_signal_in_the_last_step_stops_too(tmp_path):
  """Before what follows training, which the same command then goes on with."""
  data = _Watched(small.examples(), at=0, do=lambda: os.kill(os.getpid(), signal.SIGTERM))
  with pytest.raises(Stopped, match="^stopped by SIGTERM after step 1, which is saved: run it "
                                     "again to resume$"):
    run(tmp_path, train_data=data, num_steps=1)
  run(tmp_path, num_steps=1)


# What is said.


def test_what_is_said(tmp_path, capsys):
  run(tmp_path, num_steps=4)
  said = capsys.readouterr().out.splitlines()
  assert said[3] == f"Run: {tmp_path}, new, to step 4"
  assert said[:3] == [
      "Model: image [3], sentence [2]; mixture_of_experts, 2 latent dimensions, 119 weights",
      "Objective: iwae, gradients dreg, K = 3, batches of 4",
      "Data: small, 10 examples to train on, 8 held out; 1 device"]
  run(tmp_path, batch_size=16)
  said = capsys.readouterr().out.splitlines()
  assert said[3] == f"Run: {tmp_path}, goes on after step 4, to step 8"
  assert said[4] == "A batch of 16 holds examples more than once: there are 10 to train on"
  assert re.fullmatch(r"step 8: held-out objective -?[\d.]+, bound -?[\d.]+ nats", said[5])
  assert len(said) == 6
  run(tmp_path)
  assert capsys.readouterr().out == (
      f"{tmp_path} is finished: its 8 steps are done. A larger num_steps goes on.\n")


def test_progress_leaves_tracing_and_looks_out(capsys, monkeypatch):
  """Steps of 2 s after one of 60 s and a look of 30 s."""
  now = [0.]
  monkeypatch.setattr(notes.time, "monotonic", lambda: now[0])
  progress = notes.Progress(1000, 0)

  def step(seconds):
    now[0] += seconds
    progress.update()

  step(60)
  step(2)
  now[0] += 30
  progress.paused()
  for _ in range(3):
    step(2)
  assert capsys.readouterr().out == (
      "step 2 of 1000\n"
      "About 33 min to go (0.5 steps a second; looks at held-out data come on top)\n")
  for _ in range(31):
    step(2)
  assert capsys.readouterr().out == "step 35 of 1000\n"


@pytest.mark.parametrize("seconds, words", [
    (0.2, "1 s"), (89, "89 s"), (91, "2 min"), (5340, "89 min"), (5460, "1 h 31 min")])
def test_duration(seconds, words):
  assert notes.duration(seconds) == words
