import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import runs
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"
NUM_STEPS = 20
TOOLS = sorted(path.name for path in (runs.ROOT / "tools").glob("*.py")
               if "__main__" in path.read_text())
HINT = "(--verbosity=1 shows where it came from)"


# Runs with mishaps, in processes of their own.


@pytest.fixture(scope="module")
def mishaps(tmp_path_factory):
  """One run: a misspelt scope, then killed, then stopped, then to the end; what each left."""
  run = RunDir(tmp_path_factory.mktemp("mishaps") / "run")
  command = [*runs.train_args(TINY, run.path), "--gin_param=METRICS = {}"]
  said = {}

  def note(name, code, printed):
    said[name] = {"code": code, "printed": printed, "step": runs.last_step(run.checkpoints)}

  note("misspelt", *runs.call_here(
      "train.py", *command, "--gin_param=imgae/modality.Modality.name = 'image'"))
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
                      "imgae/modality.Modality.name: look for a misspelt name or scope")
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
  assert sentence == (f"stopped by SIGTERM after step {said['step']}, which is saved: the same "
                      "command goes on from there")


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
    assert key[0] == "train/steps_per_second" or found[key] == values, key
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
                   "LEARNING_RATE": 0.004, "AMSGRAD": False, "WORDS": 6}


# Mistakes.


def assert_one_sentence(code, printed, sentence):
  """Exit code 1; the sentence, in one line, and the hint are the last things said."""
  assert code == 1, printed
  assert "Traceback" not in printed
  last, hint = printed.splitlines()[-2:]
  assert "train.py: " in last and sentence in last, printed
  assert hint == HINT


@pytest.mark.parametrize("args, sentence", [
    ([], "give --gin_file, such as --gin_file=gin/toy_birds.gin"),
    (["--gin_file=gin/no_birds.gin"], "Unable to open file: gin/no_birds.gin"),
    ([f"--gin_file={TINY}", "--gin_param=train.train.num_stepz = 3"],
     "Configurable 'train.train' doesn't have a parameter named 'num_stepz'"),
])
def test_mistakes_in_a_process(tmp_path, args, sentence):
  run_dir = [f"--run_dir={tmp_path / 'run'}"] if args else []
  assert_one_sentence(*runs.call("train.py", *args, *run_dir), sentence)
  assert not os.listdir(tmp_path)


def test_an_argument_that_is_no_flag():
  code, printed = runs.call("train.py", TINY)
  assert code == 1
  assert printed.strip().endswith(f"expected flags alone, got '{TINY}'")


@pytest.fixture
def copy(tmp_path):
  """A copy of a finished run."""
  run, _, _ = runs.finished(TINY)
  shutil.copytree(run.path, tmp_path / "run")
  return RunDir(tmp_path / "run")


ANOTHER = "is a run of another configuration ("


@pytest.mark.parametrize("args, said", [
    (["--gin_param=train.train.num_steps = %NUM_STEP"], "macro NUM_STEP is used but has no value"),
    (["--gin_param=panels.Panel.num_example = 4"], "doesn't have a parameter named 'num_example'"),
    (["--gin_param=image.ConvEncoder.filters = (4,)"], "image.ConvEncoder"),
    (["--gin_param=ESTIMATOR = @objectives.Doubly()"], "objectives.Doubly"),
    (["--gin_param=NUM_STEPS"], "expected ':' or '='"),
    (["--gin_param=NUM_SAMPLES = 3"], f"{ANOTHER}NUM_SAMPLES: 2 there, 3 now): give"),
    (["--gin_param=NUM_STEPS = 30", "--gin_param=SEED = 1"], f"{ANOTHER}SEED: 0 there, 1 now)"),
    (["--gin_param=images.ConvEncoder.filters = (4, 4, 4, 8)"],
     f"{ANOTHER}images.ConvEncoder.filters: (4, 4, 4, 4) there, (4, 4, 4, 8) now)"),
    (["--gin_param=train.train.max_skipped = 3"],
     f"{ANOTHER}train.train.max_skipped: not set there, 3 now)"),
    (["--gin_param=objectives.DoublyReparameterised.bound = @objectives.iwae()"],
     f"{ANOTHER}objectives.DoublyReparameterised.bound: @objectives.iwae there, "
     "@objectives.iwae() now)"),
    (["--gin_param=train.train.seed = %BATCH_SIZE"],
     f"{ANOTHER}train.train.seed: %SEED there, %BATCH_SIZE now)"),
    (["--gin_param=imgae/modality.Modality.name = 'image'"],
     f"{ANOTHER}imgae/modality.Modality.name: not set there, image now)"),
])
def test_mistakes_leave_a_run_as_it_is(copy, args, said):
  before = runs.files(copy.path)
  assert_one_sentence(*runs.call_here("train.py", *runs.train_args(TINY, copy.path), *args), said)
  assert runs.files(copy.path) == before


def test_checkpoints_without_a_configuration(copy):
  os.remove(copy.config)
  before = runs.files(copy.path)
  assert_one_sentence(*runs.call_here("train.py", *runs.train_args(TINY, copy.path)),
                      f"{copy.path} holds checkpoints but no config.gin")
  assert runs.files(copy.path) == before


def test_no_run_to_go_on_with(tmp_path):
  assert_one_sentence(*runs.call_here("train.py", f"--run_dir={tmp_path / 'run'}"),
                      f"no run at {tmp_path / 'run'}: it has no config.gin")
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize("flag", ["run_dir", "data_dir"])
def test_a_directory_that_cannot_be_written(tmp_path, flag):
  (tmp_path / "file").write_text("mine")
  args = [*runs.train_args(TINY, tmp_path / "run"), f"--{flag}={tmp_path}/file/below"]
  assert_one_sentence(*runs.call_here("train.py", *args), f"{tmp_path}/file")
  assert (tmp_path / "file").read_text() == "mine"


# Help.


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_is_quick(name, flag):
  """absl's exit code for help is 1."""
  script = ("import runpy, sys\n"
            f"sys.argv = ['tools/{name}', '{flag}']\n"
            "try:\n"
            f"  runpy.run_path('tools/{name}', run_name='__main__')\n"
            "finally:\n"
            "  heavy = {'tensorflow', 'keras', 'tensorflow_probability', 'numpy'}\n"
            "  print('loaded', sorted(heavy & set(sys.modules)))\n")
  done = subprocess.run([sys.executable, "-c", script], cwd=runs.ROOT, text=True,
                        env={**os.environ, "PYTHONPATH": "tools"},
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
  assert done.returncode == 1
  assert done.stdout.splitlines()[-1] == "loaded []", done.stdout
  docstring = ast.get_docstring(ast.parse((runs.ROOT / "tools" / name).read_text()))
  for part in [*docstring.splitlines(), "--run_dir: The run's directory", "--gin_file: A gin file",
               "--gin_param: A gin binding", "--data_dir: Where", "--manual_dir: Where"]:
    assert part.strip() in done.stdout, part
