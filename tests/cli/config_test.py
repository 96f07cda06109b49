import os
import re
import types

import gin
import pytest

from tests import small
from tf_mmvae.cli import config, main, mistakes
from tf_mmvae.cli.invocation import Invocation
from tf_mmvae.cli.settings import settings
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"


@pytest.fixture(autouse=True)
def no_config():
  gin.clear_config()
  yield
  gin.clear_config()


def flag_of(*bindings, gin_file=(TINY,), data_dir=None):
  return types.SimpleNamespace(
      gin_file=list(gin_file), gin_param=list(bindings), data_dir=data_dir, manual_dir=None)


@pytest.fixture
def load():
  """Reads the tiny configuration with other bindings: function (bindings) -> text."""
  def load(run, *bindings, from_run=False, data_dir=None):
    gin.clear_config()
    config.load(run, flag_of(*bindings, gin_file=() if from_run else (TINY,), data_dir=data_dir),
                from_run)
    return config.config_text()

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
    load(RunDir("run"), data_dir=path)
    assert gin.query_parameter("DATA_DIR/macro.value") == str(tmp_path / "data")
    assert gin.query_parameter("MANUAL_DIR/macro.value") is None


def test_a_macro_without_a_value_is_named(load, tmp_path):
  with pytest.raises(ValueError, match="^macro NUM_STEP is used but has no value: set it in"):
    load(RunDir(tmp_path), "mm.Experiment.num_steps = %NUM_STEP")


@pytest.mark.parametrize("name, value", [
    ("AMSGRAD", '"False"'), ("mm.Experiment.jit_compile", '"yes"'),
    ("mm.nets.ConvDecoder.shared_bias", '"no"')])
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
  text = load(run, "mm.Experiment.num_steps = 30")
  run.write_config(text)
  assert load(run, from_run=True) == text


@pytest.mark.parametrize("bindings", [
    [], ["NUM_STEPS = 30"], ["mm.Experiment.num_steps = 30"], ["mm.Experiment.log_every = 7"],
    ["mm.Experiment.evaluate_every = 7", "mm.Experiment.checkpoint_every = 7"]])
def test_what_a_run_may_be_given_anew(load, trained, bindings):
  load(trained, *bindings)
  config.refuse_another_config(trained)


def test_every_difference_is_named(load, trained):
  load(trained, "WORDS = 9", "test/mm.data.toy_birds.examples.split = 'test[:2]'", "NUM_STEPS = 1")
  with pytest.raises(ValueError) as error:
    config.refuse_another_config(trained)
  assert str(error.value) == (
      f"{trained.path} is a run of another configuration (WORDS: 6 there, 9 now; "
      "test/mm.data.toy_birds.examples.split: test there, test[:2] now): give the same one, or "
      "another --run_dir")


def test_without_a_checkpoint_the_new_configuration_takes_over(load, trained):
  """And words are counted again, but not for the same configuration."""
  os.remove(os.path.join(trained.checkpoints, "ckpt-1.index"))
  with open(trained.vocabulary, "w") as file:
    file.write("bird\n")
  load(trained, "NUM_STEPS = 3")
  config.refuse_another_config(trained)
  assert os.path.exists(trained.vocabulary)
  load(trained, "mm.data.run_tokenizer.min_count = 2")
  config.refuse_another_config(trained)
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
def test_unused_bindings_that_were_typed(binding):
  gin.parse_config(f"{SMALL}\n{binding}\n")
  gin.get_configurable(small.examples)()
  name = binding.split(" = ")[0]
  with pytest.raises(ValueError, match=f"^nothing uses the binding {name}: look for a misspelt"):
    config.refuse_unused_bindings([binding])


@pytest.mark.parametrize("more, refused", [
    ("", None), ("small.model.batch_norm = True", None),
    ("lfet/small.values.seed = 4", "lfet/small.values.seed")])
def test_unused_bindings_of_a_gin_file(more, refused):
  """A file may set functions that a later choice put out of use; nothing else goes unused."""
  gin.parse_config(f"{SMALL}\n{more}\n")
  gin.get_configurable(small.examples)()
  if refused is None:
    config.refuse_unused_bindings([])
  else:
    with pytest.raises(ValueError, match=f"^nothing uses the binding {refused}: look for a miss"):
      config.refuse_unused_bindings([])


@pytest.mark.parametrize("error, sentence", [
    (FileNotFoundError(2, "No such file", "/a/b"), "no such file or directory: /a/b"),
    (ValueError("one sentence\n  In call to configurable 'train'"), "one sentence"),
    (ValueError("in user code:\n\n  File x, line 1\n\n    ValueError: it is small"), "it is small"),
    (ValueError("in user code:\n\n  File x, line 1\n\n    ValueError: it is small\n\n"
                "  In call to configurable 'train' (<function train at 0x7f>)"), "it is small"),
    (TypeError(), "TypeError"),
])
def test_sentence(error, sentence):
  assert mistakes.sentence(error) == sentence


def test_interrupted_outside_training(monkeypatch, capsys):
  def interrupted(flag, invocation):
    raise KeyboardInterrupt

  monkeypatch.setattr("tf_mmvae.cli.train.main", interrupted)
  with pytest.raises(SystemExit) as stop:
    main.run("train", [], Invocation(None, "tools/train.py"))
  assert stop.value.code == 130
  assert capsys.readouterr().out == (
      "stopped by SIGINT: run it again to resume from what is saved\n")


def test_settings_of_a_metric_are_what_its_figures_depend_on(load, tmp_path):
  """Of the metric and the model, through references and macros, and of nothing else."""
  run = RunDir(tmp_path)

  def found():
    now = settings()
    return {metric: (own, now.references[metric], now.model)
            for metric, own in now.metrics.items()}

  load(run)
  before = found()
  assert set(before) == {"probes", "latent_use", "traversals", "density", "agreement",
                         "likelihoods", "image_quality", "held_out"}
  changed = {
      "mm.metrics.Likelihoods.num_samples = 7": {"likelihoods"},
      "EVALUATION_SAMPLES = 7": {"likelihoods"},
      "NUM_SAMPLES = 7": {"held_out"},
      "mm.metrics.AggregatePosterior.num_held_out = 7": {"density", "agreement", "image_quality"},
      "mm.metrics.Classifier.num_steps = 7": {"image_quality"},
      "mm.normal_likelihood.scale = 0.7": set(before),
      "image/mm.Modality.likelihood = @mm.laplace_likelihood": set(before),
      "mm.Experiment.log_every = 7": set(), "NUM_STEPS = 7": set()}
  for binding, metrics in changed.items():
    load(run, binding)
    now = found()
    assert {metric for metric in before if now[metric] != before[metric]} == metrics, binding


def test_settings_are_resolved(load, tmp_path):
  """No value is a macro, but for those of the run, which a comparison lists as they are set."""
  load(RunDir(tmp_path), "SEED = 5", "EVALUATION_SAMPLES = 7")
  found = settings()
  likelihoods = found.metrics["likelihoods"]
  assert likelihoods["mm.metrics.Likelihoods.num_samples"] == 7
  assert likelihoods["mm.metrics.Likelihoods.seed"] == 5
  assert found.run["mm.metrics.Likelihoods.seed"] == "%SEED" and found.run["SEED"] == 5
  assert found.model["mm.Prior.latent_dim"] == 4
  assert found.likelihoods["image/mm.Modality.likelihood"] == "@mm.normal_likelihood"
  assert found.likelihoods["mm.normal_likelihood.scale"] == 0.1
  assert found.objective["mm.Estimator.bound"] == "@mm.iwae"
  assert found.objective["mm.Estimator.likelihood_weights"] == {"image": 0.02, "sentence": 5.0}
  assert not any(name.endswith(".gradient") for name in found.objective)
  text = str((found.metrics, found.model, found.likelihoods, found.objective))
  assert set(re.findall(r"%(\w+)", text)) == {"DATA_DIR", "RUN_DIR"}  # paths are no settings


def test_the_objective_is_told_apart_by_its_weights_and_not_by_its_gradient(load, tmp_path):
  found = []
  for binding in ("SEED = 0", "GRADIENT = @mm.stl", "BETA = 2.0"):
    load(RunDir(tmp_path), binding)
    found.append(settings().objective)
  assert found[0] == found[1] != found[2]
