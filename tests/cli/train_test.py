import os
import pathlib
import re
import shutil
import signal
import sys
import time

import pytest

from tests import runs
from tests.cli.mistakes_test import assert_one_sentence
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"
NUM_STEPS = 20


# Runs with mishaps, in processes of their own.


@pytest.fixture(scope="module")
def mishaps(tmp_path_factory):
  """One run: a misspelt scope, then killed, then stopped, then to the end; what each left."""
  run = RunDir(tmp_path_factory.mktemp("mishaps") / "run")
  command = [*runs.train_args(TINY, run.path), "--gin_param=AT_END = {}"]
  said = {}

  def note(name, code, printed):
    said[name] = {"code": code, "printed": printed, "step": runs.last_step(run.checkpoints)}

  note("misspelt", *runs.call_here(
      "train.py", *command, "--gin_param=imgae/mm.Modality.name = 'image'"))
  process = runs.start("train.py", *command)
  wait(process, lambda: runs.last_step(run.checkpoints) >= 4)
  process.kill()
  printed, _ = process.communicate()
  note("killed", process.returncode, printed)
  before = set(os.listdir(run.events))
  process = runs.start("train.py", *command)
  wait(process, lambda: set(os.listdir(run.events)) - before)
  time.sleep(0.5)  # the first step, now being traced, takes longer
  process.terminate()
  printed, _ = process.communicate()
  note("stopped", process.returncode, printed)
  note("finished", *runs.call("train.py", *command))
  return run, said


def wait(process, condition):
  for _ in range(30000):
    if condition():
      return
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.01)
  process.kill()
  pytest.fail("waited for too long")


def test_misspelt_scope(mishaps):
  said = mishaps[1]["misspelt"]
  assert_one_sentence(said["code"], said["printed"], "nothing uses the binding "
                      "imgae/mm.Modality.name: look for a misspelt name or scope")
  assert said["step"] == -1


def test_killed(mishaps):
  said = mishaps[1]["killed"]
  assert said["code"] == -signal.SIGKILL
  assert 4 <= said["step"] < NUM_STEPS


def test_terminated(mishaps):
  killed, said = mishaps[1]["killed"], mishaps[1]["stopped"]
  assert said["code"] == 143
  assert said["step"] > killed["step"]
  assert "Traceback" not in said["printed"]
  (sentence,) = re.findall(r"^stopped by .*$", said["printed"], re.M)
  assert "In call to" not in said["printed"]
  assert sentence == (f"stopped by SIGTERM after step {said['step']}, which is saved: run it again "
                      "to resume")


def test_mishaps_leave_no_trace(mishaps):
  run, said = mishaps
  assert said["finished"]["code"] == 0, said["finished"]["printed"]
  whole, code, printed = runs.finished(TINY)
  assert code == 0, printed
  assert runs.last_step(whole.checkpoints) == NUM_STEPS
  runs.assert_same_state(whole.checkpoints, run.checkpoints)
  runs.assert_same_state(whole.best, run.best)
  found, expected = runs.events(run.events), runs.events(whole.events)
  assert found.keys() == expected.keys()
  for key, values in expected.items():
    assert len(found[key]) == 1, key
    assert key[0] in runs.OF_THE_CLOCK or found[key] == values, key
  found, expected = (runs.files(r.events) for r in (run, whole))
  for name in ("projector_config.pbtxt", "latents.tsv", "labels.tsv", "thumbnails.png"):
    assert found[name][0] == expected[name][0], name


def test_what_tensorboard_shows():
  run, _, _ = runs.finished(TINY)
  found = runs.events(run.events)
  names = ["objective", "bound", "log_p_image", "log_p_sentence", "log_q_over_p",
           "effective_sample_size", "gradient_norm", "steps_per_second"]
  steps = [(f"train/{name}", s) for name in names for s in range(1, NUM_STEPS + 1)]
  looks = [(f"held_out/{name}", s) for name in ("objective", "bound") for s in (5, 10, 15, 20)]
  assert set(looks + steps) < found.keys()
  looks = {tag for tag, step in found if step == 15} - {tag for tag, step in found if step == 14}
  assert looks == {
      "held_out/objective", "held_out/bound", "text/image_to_sentence", "text/prior",
      "text/sentence_reconstructed", "panels/prior",
      *(f"panels/{name}" for name in ("image_reconstructed", "image_to_sentence",
                                      "sentence_reconstructed", "sentence_to_image")),
      *(f"latents/{what}/{name}" for name in ("image", "sentence") for what in (
          "kl", "active_dimensions", "kl_per_dimension", "kl_by_dimension"))}


def test_knobs_of_a_run():
  """The macros that are numbers, strings or bools; none of the paths."""
  run, _, _ = runs.finished(TINY)
  name, knobs, metrics = runs.knobs(run.events)
  assert name == "toy_birds_tiny" and metrics == ["held_out/objective", "held_out/bound"]
  assert knobs == {"SEED": 0, "NUM_STEPS": 20, "NUM_SAMPLES": 2, "BATCH_SIZE": 4, "LATENT_DIM": 4,
                   "EVALUATION_SAMPLES": 1000, "LEARNING_RATE": 0.004, "AMSGRAD": False,
                   "WORDS": 6, "BETA": 1.0,
                   "GROUPS": "image_index"}


def test_what_is_said_at_the_end(tmp_path):
  run, code, printed = runs.finished(TINY)
  assert code == 0
  data = f"--data_dir={runs.scratch() / 'data'}"
  end = printed[printed.index("Best: step"):].splitlines()
  assert re.fullmatch(r"Best: step \d+, held-out objective -[\d.]+ nats", end[0])
  assert end[1] == "held_out:" and end[2].split()[0] == "objective"
  bin_dir = os.path.relpath(os.path.dirname(sys.executable))
  bin_dir = os.path.dirname(sys.executable) if bin_dir.startswith("..") else bin_dir
  assert end[-7:] == [
      f"Figures: {run.results}", f"SavedModel: {run.export}",
      f"Pictures to look at: {run.results}/translations.png, and 5 beside it", "Next:",
      f"  {bin_dir}/python tools/evaluate.py --run_dir={run.path} {data} "
      f"--manual_dir={runs.scratch() / 'manual'}",
      f"  {bin_dir}/python tools/generate.py --run_dir={run.path}",
      f"  {bin_dir}/tensorboard --logdir {run.events}"]
  assert len(list(pathlib.Path(run.results).glob("*.png"))) == 6
  copy = tmp_path / "run"  # others look at that run
  shutil.copytree(run.path, copy)
  code, printed = runs.call_here(
      "evaluate.py", f"--run_dir={copy}", data, "--gin_param=METRICS = {}")
  assert code == 0
  assert printed.startswith(f"Measuring {copy}, weights after step 20: ")
  assert " on toy_birds, 20 examples\n" in printed


def test_a_log_holds_lines_alone(mishaps):
  """From the first one on, without what libraries say while they load, or bars."""
  printed = mishaps[1]["finished"]["printed"]
  assert "\r" not in printed
  assert printed.startswith("Model: image [64, 64, 3], sentence [6]; mixture_of_experts, ")


# Mistakes in a process of their own; `mistakes_test.py` has the others.


@pytest.mark.parametrize("args, sentence", [
    ([], "give --gin_file, such as --gin_file=gin/toy_birds.gin"),
    (["--gin_file=gin/no_birds.gin"], "no gin file gin/no_birds.gin: give the path of one"),
    ([f"--gin_file={TINY}", "--gin_param=mm.Experiment.num_stepz = 3"],
     "Configurable 'mm.Experiment' doesn't have a parameter named 'num_stepz'"),
])
def test_mistakes_in_a_process(tmp_path, args, sentence):
  run_dir = [f"--run_dir={tmp_path / 'run'}"] if args else []
  assert_one_sentence(*runs.call("train.py", *args, *run_dir), sentence)
  assert not os.listdir(tmp_path)


def test_an_argument_that_is_no_flag():
  code, printed = runs.call("train.py", TINY)
  assert code == 1
  assert printed.strip().endswith(f"expected flags alone, got '{TINY}'")
