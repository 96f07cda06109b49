import os
import sys

import gin
import pytest
from absl import flags
from absl.testing import flagsaver

from tests import runs, small
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"


@pytest.fixture
def experiment(monkeypatch):
  monkeypatch.syspath_prepend(str(runs.ROOT / "tools"))
  import experiment
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(gin_file=[TINY], gin_param=[], data_dir=None, manual_dir=None):
    gin.clear_config()
    yield experiment
  gin.clear_config()


@pytest.fixture
def load(experiment):
  """Reads the tiny configuration with other bindings: function (bindings) -> text."""
  def load(run, *bindings, from_run=False):
    gin.clear_config()
    with flagsaver.flagsaver(gin_param=list(bindings), gin_file=[] if from_run else [TINY]):
      experiment.load(run, from_run)
    return experiment.config_text()

  return load


@pytest.fixture
def trained(load, tmp_path):
  """A run that has a configuration and, it seems, a checkpoint."""
  run = RunDir(tmp_path / "trained")
  run.write_config(load(run))
  os.makedirs(run.checkpoints)
  with open(os.path.join(run.checkpoints, "ckpt-1.index"), "w") as file:
    file.write("")
  return run


@pytest.mark.parametrize("folder", ["run", "x" * 100, "50%off/it's"])
def test_the_saved_text_gives_the_same_configuration(load, tmp_path, folder):
  run = RunDir(tmp_path / folder)
  text = load(run)
  assert "RUN_DIR =" not in text and str(tmp_path) not in text
  run.write_config(text)
  assert load(run, from_run=True) == text
  assert gin.query_parameter("RUN_DIR/macro.value") == run.path


def test_paths_are_absolute(load, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  for path in ("~/data", "data"):
    with flagsaver.flagsaver(data_dir=path):
      load(RunDir("run"))
    assert gin.query_parameter("DATA_DIR/macro.value") == str(tmp_path / "data")
    assert gin.query_parameter("MANUAL_DIR/macro.value") is None


def test_a_macro_without_a_value_is_named(load, tmp_path):
  with pytest.raises(ValueError, match="^macro NUM_STEP is used but has no value: set it in"):
    load(RunDir(tmp_path), "train.train.num_steps = %NUM_STEP")


@pytest.mark.parametrize("name, value", [
    ("AMSGRAD", '"False"'), ("train.train.jit_compile", '"yes"'),
    ("images.ConvDecoder.shared_bias", '"no"')])
def test_a_word_is_no_bool(load, tmp_path, name, value):
  """It would count as True."""
  with pytest.raises(ValueError, match=f"^{name} must be True or False, without quotes, got '"):
    load(RunDir(tmp_path), f"{name} = {value}")
  load(RunDir(tmp_path), f"{name} = False")


@pytest.mark.parametrize("bindings", [
    ["BATCH_SIZE = %BATCH_SIZE"], ["BATCH_SIZE = %NUM_STEPS", "NUM_STEPS = %BATCH_SIZE"]])
def test_a_macro_that_stands_for_itself(load, tmp_path, bindings):
  with pytest.raises(ValueError, match="^the macro (BATCH_SIZE|NUM_STEPS) stands for itself: give"):
    load(RunDir(tmp_path), *bindings)


def test_a_macro_whose_use_was_replaced_is_no_mistake(load, tmp_path):
  run = RunDir(tmp_path)
  text = load(run, "train.train.num_steps = 30")
  run.write_config(text)
  assert load(run, from_run=True) == text


@pytest.mark.parametrize("bindings", [
    [], ["NUM_STEPS = 30"], ["train.train.num_steps = 30"], ["train.train.log_every = 7"],
    ["train.train.evaluate_every = 7", "train.train.checkpoint_every = 7"]])
def test_what_a_run_may_be_given_anew(experiment, load, trained, bindings):
  load(trained, *bindings)
  experiment.refuse_another_config(trained)


def test_every_difference_is_named(experiment, load, trained):
  load(trained, "WORDS = 9", "test/toy_birds.toy_birds.split = 'test[:2]'", "NUM_STEPS = 1")
  with pytest.raises(ValueError) as error:
    experiment.refuse_another_config(trained)
  assert str(error.value) == (
      f"{trained.path} is a run of another configuration (WORDS: 6 there, 9 now; "
      "test/toy_birds.toy_birds.split: test there, test[:2] now): give the same one, or another "
      "--run_dir")


def test_without_a_checkpoint_the_new_configuration_takes_over(experiment, load, trained):
  """And words are counted again, but not for the same configuration."""
  os.remove(os.path.join(trained.checkpoints, "ckpt-1.index"))
  with open(trained.vocabulary, "w") as file:
    file.write("bird\n")
  load(trained, "NUM_STEPS = 3")
  experiment.refuse_another_config(trained)
  assert os.path.exists(trained.vocabulary)
  load(trained, "tokenizer.tokenizer.min_count = 2")
  experiment.refuse_another_config(trained)
  assert not os.path.exists(trained.vocabulary)


SMALL = """
from __gin__ import dynamic_registration
from tests import small
SEED = 3
small.values.batch_size = 5
small.examples.x = @left/small.values()
left/small.values.seed = %SEED
"""


@pytest.mark.parametrize("binding", [
    "lfet/small.values.seed = 4", "small.model.batch_norm = True"])
def test_unused_bindings_that_were_typed(experiment, binding):
  gin.parse_config(f"{SMALL}\n{binding}\n")
  gin.get_configurable(small.examples)()
  name = binding.split(" = ")[0]
  with (flagsaver.flagsaver(gin_param=[binding]),
        pytest.raises(ValueError, match=f"^nothing uses the binding {name}: look for a misspelt")):
    experiment.refuse_unused_bindings()


@pytest.mark.parametrize("more, refused", [
    ("", None), ("small.model.batch_norm = True", None),
    ("lfet/small.values.seed = 4", "lfet/small.values.seed")])
def test_unused_bindings_of_a_gin_file(experiment, more, refused):
  """A file may set functions that a later choice put out of use; nothing else goes unused."""
  gin.parse_config(f"{SMALL}\n{more}\n")
  gin.get_configurable(small.examples)()
  if refused is None:
    experiment.refuse_unused_bindings()
  else:
    with pytest.raises(ValueError, match=f"^nothing uses the binding {refused}: look for a miss"):
      experiment.refuse_unused_bindings()


@pytest.mark.parametrize("error, sentence", [
    (FileNotFoundError(2, "No such file", "/a/b"), "no such file or directory: /a/b"),
    (ValueError("one sentence\n  In call to configurable 'train'"), "one sentence"),
    (ValueError("in user code:\n\n  File x, line 1\n\n    ValueError: it is small"), "it is small"),
    (ValueError("in user code:\n\n  File x, line 1\n\n    ValueError: it is small\n\n"
                "  In call to configurable 'train' (<function train at 0x7f>)"), "it is small"),
    (TypeError(), "TypeError"),
])
def test_sentence(experiment, error, sentence):
  assert experiment.mistakes.sentence(error) == sentence


def test_interrupted_outside_training(experiment, monkeypatch, capsys):
  def main():
    raise KeyboardInterrupt

  monkeypatch.setattr(sys, "argv", ["tools/train.py"])
  with pytest.raises(SystemExit) as stop:
    experiment.run(main)
  assert stop.value.code == 130
  assert capsys.readouterr().out == (
      "stopped by SIGINT: the same command goes on from what is saved\n")


def test_settings_of_a_metric_are_what_its_figures_depend_on(load, experiment, tmp_path):
  """Of the metric and the model, through references and macros, and of nothing else."""
  run = RunDir(tmp_path)
  load(run)
  before = experiment.settings("METRICS")
  assert set(before) == {"probes", "latent_use", "traversals", "density", "agreement",
                         "likelihoods", "image_quality"}
  changed = {
      "likelihoods.Likelihoods.num_samples = 7": {"likelihoods"},
      "NUM_SAMPLES = 7": {"likelihoods"},
      "densities.AggregatePosterior.num_held_out = 7": {"density", "agreement", "image_quality"},
      "judges.Classifier.num_steps = 7": {"image_quality"},
      "distributions.normal_likelihood.scale = 0.7": set(before),
      "image/modality.Modality.likelihood = @distributions.laplace_likelihood": set(before),
      "train.train.log_every = 7": set(), "NUM_STEPS = 7": set()}
  for binding, metrics in changed.items():
    load(run, binding)
    now = experiment.settings("METRICS")
    assert {metric for metric in before if now[metric] != before[metric]} == metrics, binding
  assert set(experiment.settings("AT_END")) == {"held_out", "agreement"}
  assert experiment.settings("AT_END")["agreement"] == now["agreement"]
