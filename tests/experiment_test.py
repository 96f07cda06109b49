"""Experiments and their runs from Python, without gin."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mmvae as mm
from tests import runs
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training import checkpoints

SIZES = {"a": 3, "b": 2}


def build(latent_dim=2, scale_of_b=1.0):
  def likelihood(decoder, z):
    return mm.normal_likelihood(decoder, z, scale_of_b)

  return mm.MultimodalVAE(
      [mm.Modality("a", (3,), mm.nets.DenseEncoder(latent_dim, (4,)),
                   mm.nets.DenseDecoder((3,), (4,)), mm.normal_likelihood),
       mm.Modality("b", (2,), mm.nets.DenseEncoder(latent_dim, (4,)),
                   mm.nets.DenseDecoder((2,), (4,)), likelihood)], mm.Prior(latent_dim))


def data(num=60, seed=0, mask=None):
  rng = np.random.default_rng(seed)
  x = {name: rng.normal(size=[num, size]) for name, size in SIZES.items()}
  return mm.data.from_arrays(x, name="numbers", mask=mask)


def experiment(**kwargs):
  given = {"model": build, "estimator": mm.Estimator(mm.iwae, mm.dreg),
           "optimizer": lambda: keras.optimizers.Adam(1e-2), "train_data": data(),
           "held_out_data": data(20, 1), "test_data": data(30, 2), "num_steps": 6,
           "num_samples": 3, "batch_size": 8, "evaluate_every": 2, "checkpoint_every": 2,
           "log_every": 1, **kwargs}
  return mm.Experiment(**given)


def run_quietly(an_experiment, path):
  """(`Run`, what was printed)."""
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    run = an_experiment.run(path)
  return run, printed.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run, and what it printed."""
  return run_quietly(experiment(), tmp_path_factory.mktemp("runs") / "mine")


def test_what_a_run_leaves(finished):
  run, printed = finished
  assert printed.startswith("Model: a [3], b [2]; mixture_of_experts, 2 latent dimensions")
  directory = RunDir(run.path)
  assert runs.last_step(directory.checkpoints) == 6 and checkpoints.steps(directory.best)
  assert os.path.isfile(f"{directory.export}/saved_model.pb")
  names = {path.name for path in pathlib.Path(directory.results).glob("*.png")}
  assert names == {"translations.png", "a_reconstructed.png", "a_to_b.png", "b_to_a.png",
                   "b_reconstructed.png", "prior.png"}
  figures = json.loads((pathlib.Path(directory.results) / "held_out.json").read_text())
  assert figures.keys() == {"objective", "elbo", "iwae", "iwae_tight"}
  assert figures["elbo"]["n"] == 30
  name, knobs, _ = runs.knobs(directory.events)
  assert name == "mine" and knobs["seed"] == 0 and knobs["num_samples"] == 3


def test_the_same_call_resumes_bit_for_bit(tmp_path, finished):
  stopped, _ = run_quietly(experiment(num_steps=4), tmp_path / "mine")
  resumed, printed = run_quietly(experiment(), tmp_path / "mine")
  assert "goes on after step 4, to step 6" in printed
  runs.assert_same_state(RunDir(resumed.path).checkpoints, RunDir(finished[0].path).checkpoints)
  before = runs.files(RunDir(resumed.path).checkpoints)
  _, printed = run_quietly(experiment(), tmp_path / "mine")
  assert "is finished: its 6 steps are done" in printed
  assert runs.files(RunDir(resumed.path).checkpoints) == before
  assert stopped.path == resumed.path


@pytest.mark.parametrize("change, sentence", [
    ({"seed": 1}, "seed: 0 there, 1 now"),
    ({"estimator": mm.Estimator(mm.elbo, mm.dreg)},
     "estimator.bound: iwae there, elbo now"),
    ({"estimator": mm.Estimator(likelihood_weights={"a": 2.0})},
     "estimator.likelihood_weights: None there, {'a': 2.0} now"),
    ({"optimizer": lambda: keras.optimizers.Adam(1e-3)}, "optimizer: {"),
    ({"model": lambda: build(3)}, "latent_dim: 2 there, 3 now"),
    ({"tokenizers": {"c": mm.data.Tokenizer(["a"])}}, "tokenizer.c: not set there, 4 words, "),
    ({"model": lambda: build(scale_of_b=2.0)}, "b.likelihood: likelihood, "),
    ({"clip_norm": 1.0}, "clip_norm: None there, 1.0 now")])
def test_the_run_of_another_experiment_is_refused(finished, change, sentence):
  path = finished[0].path
  before = runs.files(path)
  with pytest.raises(ValueError) as error:
    run_quietly(experiment(num_steps=8, **change), path)
  said = str(error.value)
  assert said.startswith(f"{path} is a run of another experiment (") and sentence in said
  assert said.endswith("): give the same one, or another directory")
  assert runs.files(path) == before


def test_other_data_are_told(tmp_path, caplog):
  run_quietly(experiment(num_steps=2), tmp_path / "mine")
  run_quietly(experiment(test_data=data(30, 3)), tmp_path / "mine")
  assert ("The test data are others than those that the run began with: 30 examples of numbers "
          "then, 30 of numbers now of other contents.") in caplog.text


def test_arrays_in_and_arrays_out(finished):
  run, _ = finished
  x = np.random.default_rng(5).normal(size=[5, 3])
  b = run.translate({"a": x}, to="b")
  assert isinstance(b, np.ndarray) and b.shape == (5, 2) and b.dtype == np.float32
  np.testing.assert_array_equal(b, run.translate({"a": x.astype(np.float32)}, to="b"))
  assert np.any(b != run.translate({"a": x}, to="b", seed=1))
  assert run.translate({"a": x}, to="b", num=4).shape == (4, 5, 2)
  np.testing.assert_array_equal(run.translate({"a": x}, to="b", num=1)[0], b)
  assert {n: v.shape for n, v in run.translate({"a": x}).items()} == {"b": (5, 2)}
  both = run.translate({"a": x, "b": b})
  assert {n: v.shape for n, v in both.items()} == {"a": (5, 3), "b": (5, 2)}
  assert list(run.translate({"a": x}, to=["b", "a"])) == ["b", "a"]
  made = run.sample(7)
  assert {n: v.shape for n, v in made.items()} == {"a": (7, 3), "b": (7, 2)}
  np.testing.assert_array_equal(run.sample(7, to="b"), made["b"])


def test_translations_are_the_decoders_modes_of_posterior_samples(finished):
  """Against the model itself: z of q(z | a), by the mean of p(b | z)."""
  run, _ = finished
  x = np.random.default_rng(5).normal(size=[2, 3]).astype(np.float32)
  many = run.translate({"a": x}, to="b", num=3000)
  model = run.load()
  z = model.posterior({"a": tf.constant(x)}).sample(3000, seed=3)
  expected = model.likelihood("b", z).mean().numpy()
  errors = np.sqrt(many.var(0) + expected.var(0)) / np.sqrt(3000)
  assert np.all(np.abs(many.mean(0) - expected.mean(0)) < 4 * errors)


def test_gaps_of_single_examples(finished):
  """What is absent may hold anything, and an example with nothing is translated from the prior."""
  run, _ = finished
  x = np.random.default_rng(5).normal(size=[3, 3])
  mask = {"a": np.array([True, False, True])}
  whole = run.translate({"a": x}, to="b")
  x[1] = np.nan
  found = run.translate({"a": x}, to="b", mask=mask)
  np.testing.assert_array_equal(found[[0, 2]], whole[[0, 2]])
  assert np.all(np.isfinite(found)) and np.any(found[1] != whole[1])


@pytest.mark.parametrize("x, kwargs, sentence", [
    ({"a": np.zeros([2, 4])}, {}, "modality 'a': expected observations of shape [3], got [4]"),
    ({"c": np.zeros([2, 3])}, {}, "expected some of the modalities ['a', 'b'], got ['c']"),
    ({}, {}, "expected some of the modalities ['a', 'b'], got []"),
    ({"a": np.zeros([2, 3])}, {"to": "c"}, "to for ['c'], but the model's modalities are"),
    ({"a": np.zeros([2, 3])}, {"num": 0}, "num must be a whole number of at least 1, got 0"),
    ({"a": np.zeros([2, 3]), "b": np.zeros([3, 2])}, {},
     "x must have as many examples of each modality, got {'a': 2, 'b': 3}"),
    ({"a": np.zeros([2, 3])}, {"mask": {"a": [1, 0]}}, "mask of 'a': expected bool [2] of a"),
    ({"a": np.zeros([2, 3])}, {"mask": {"b": [True, True]}}, "mask of 'b': expected bool [B] of"),
    ({"a": np.full([2, 3], np.nan)}, {}, "x['a'] holds NaN or infinite numbers where it is not"),
    ({"a": np.full([2, 3], 1e300)}, {}, "x['a'] holds NaN or infinite numbers where it is not"),
    ({"a": np.zeros([2, 3], int)}, {}, "modality 'a': expected float32, got int64")])
def test_what_cannot_be_translated(finished, x, kwargs, sentence):
  with pytest.raises(ValueError) as error:
    finished[0].translate(x, **kwargs)
  assert sentence in str(error.value)


def test_history(finished):
  steps, values = finished[0].history()["train/bound"]
  assert steps.tolist() == [1, 2, 3, 4, 5, 6] and np.all(np.isfinite(values))
  steps, _ = finished[0].history()["held_out/objective"]
  assert steps.tolist() == [2, 4, 6]


def test_evaluate(finished, capsys):
  run, _ = finished
  found = run.evaluate({"likelihoods": mm.metrics.Likelihoods(num_samples=5)}, max_examples=7)
  figure = found["likelihoods"]["joint/iwae_tight"]
  assert figure.n == 7 and figure.stderr > 0
  assert "log p(x_1..M)" in str(found)
  assert "likelihoods on numbers, 7 examples" in capsys.readouterr().out
  page = (pathlib.Path(RunDir(run.path).results) / "report.html").read_text()
  assert "Synergy" in page and "mixture_of_experts" in page


def test_evaluate_measures_anew_what_it_cannot_tell_apart(finished):
  """A metric of Python may be any function: what it found before is not taken for what it finds."""
  run, calls = finished[0], []

  def metric(model, dataset):
    calls.append(dataset.num_examples)
    return {"count": (float(len(calls)), 0., 1)}

  assert run.evaluate({"mine": metric})["mine"]["count"].value == 1
  assert run.evaluate({"mine": metric})["mine"]["count"].value == 2
  assert calls == [30, 30]


def test_open_run(finished, tmp_path):
  run = mm.open_run(finished[0].path, build)
  x = {"a": np.ones([2, 3])}
  np.testing.assert_array_equal(run.translate(x, to="b"), finished[0].translate(x, to="b"))
  assert run.step == finished[0].step
  with pytest.raises(ValueError, match="^evaluate needs metrics and a dataset, such as"):
    run.evaluate()
  held_out = mm.metrics.HeldOut(mm.Estimator(), 3)
  assert run.evaluate({"held_out": held_out}, data(9))["held_out"]["elbo"].n == 9
  assert run.export(tmp_path / "model") == str(tmp_path / "model")
  assert "a_to_b" in tf.saved_model.load(tmp_path / "model").signatures


@pytest.mark.parametrize("arguments, kind, sentence", [
    (lambda path: (path / "no",), FileNotFoundError, "no run at {path}/no: it has neither"),
    (lambda path: (path / "mine",), ValueError,
     "{path}/mine is a run of an Experiment: give the function that builds its model, open_run("),
    (lambda path: (path / "mine", lambda: build(3)), ValueError,
     "checkpoint {path}/mine/checkpoints/best/ckpt-")])
def test_what_cannot_be_opened(finished, arguments, kind, sentence):
  path = pathlib.Path(finished[0].path).parent
  with pytest.raises(kind) as error:
    mm.open_run(*arguments(path)).load()
  assert str(error.value).startswith(sentence.format(path=path))


@pytest.mark.parametrize("text, sentence", [
    ("{", "is damaged: put back the whole file"),
    ('{"format": 3, "experiment": {}}', "is of format 3, and this version of tf_mmvae reads")])
def test_a_damaged_description(tmp_path, text, sentence):
  (tmp_path / "experiment.json").write_text(text)
  with pytest.raises(ValueError, match=sentence):
    experiment().run(tmp_path)
  assert os.listdir(tmp_path) == ["experiment.json"]


def test_a_directory_of_something_else_is_left_alone(tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  with pytest.raises(ValueError, match="is no run, as it has neither config.gin nor experiment"):
    experiment().run(tmp_path)
  assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("change, sentence", [
    ({"model": build()}, "model must be a function that builds a MultimodalVAE, `build` and not"),
    ({"optimizer": keras.optimizers.Adam()}, "optimizer must be a function that makes an opt"),
    ({"estimator": mm.Estimator}, "estimator must be an instance, such as Estimator(iwae, dreg)"),
    ({"train_data": np.zeros([3, 2])}, "train_data must be Examples, such as data.from_arrays("),
    ({"test_data": tf.data.Dataset.range(3)}, "test_data must be Examples, such as"),
    ({"num_steps": 0}, "num_steps must be a whole number of at least 1, got 0"),
    ({"at_end": {"m": mm.metrics.HeldOut}}, "metric 'm' is the class HeldOut: give an instance"),
    ({"metrics": [1]}, "metrics must be {name: metric}, got [1]"),
    ({"tokenizers": {"c": None}}, "Panel's tokenizers for ['c'], but the model's modalities are"),
    ({"max_examples": 0}, "max_examples must be a whole number of at least 1")])
def test_mistakes(tmp_path, change, sentence):
  with pytest.raises(ValueError) as error:
    run_quietly(experiment(**change), tmp_path / "run")
  assert sentence in str(error.value)
  assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_of_the_command_line(finished, tmp_path):
  """It is opened without a function; an Experiment does not resume it, nor the command line one
  of Python."""
  path = tmp_path / "run"
  shutil.copytree(runs.finished("gin/toy_birds_tiny.gin")[0].path, path)
  run = mm.open_run(path, data_dir=str(runs.scratch() / "data"))
  sentences = run.sample(2, to="sentence")
  assert sentences.shape == (2,) and all(isinstance(said, str) for said in sentences)
  pictures = run.translate({"sentence": ["a red bird.", "a blue bird."]}, to="image")
  assert pictures.shape == (2, 64, 64, 3)
  found = run.evaluate({"held_out": mm.metrics.HeldOut(mm.Estimator(), 2)}, max_examples=3)
  assert found["held_out"]["elbo"].n == 3
  with pytest.raises(ValueError, match="is a run of the command line: resume it there, or give"):
    experiment().run(path)
  for tool in ("train.py", "evaluate.py", "generate.py"):
    code, printed = runs.call_here(tool, f"--run_dir={finished[0].path}")
    assert code == 1
    assert "is a run of an Experiment of Python: resume it there, or give another" in printed


def test_the_package_is_light_until_something_is_asked_for():
  script = ("import sys, tf_mmvae as mm\n"
            "assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules\n"
            "assert mm.__version__ and set(mm.__all__) <= set(dir(mm))\n"
            "for name in mm.__all__:\n"
            "  assert getattr(mm, name) is not None, name\n"
            "for room in (mm.nets, mm.data, mm.metrics, mm.views, mm.data.cub, mm.data.own,\n"
            "             mm.data.toy_birds, mm.data.digits):\n"
            "  for name in room.__all__:\n"
            "    assert getattr(room, name) is not None, name\n"
            "assert 'gin' not in sys.modules\n"
            "print('done')\n")
  done = subprocess.run([sys.executable, "-c", script], cwd=runs.ROOT, text=True,
                        capture_output=True, timeout=120)
  assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("wrong", [
    {"num_steps": 1.5}, {"model": lambda: None}, {"optimizer": lambda: None},
    {"estimator": mm.Estimator(likelihood_weights={"c": 1.0}), "test_data": data(3, 9)}])
def test_a_path_is_free_after_a_mistake(tmp_path, wrong):
  """And what was not trained on is no beginning: nothing is said of it."""
  with pytest.raises(ValueError):
    run_quietly(experiment(**wrong), tmp_path / "mine")
  _, printed = run_quietly(experiment(num_steps=1), tmp_path / "mine")
  assert ", new, to step 1" in printed
  assert not experiment().changed_data(RunDir(tmp_path / "mine"))


def test_an_export_replaces_no_other_directory(finished, tmp_path):
  run, _ = finished
  (tmp_path / "thesis.txt").write_text("mine")
  for directory in (tmp_path, tmp_path / "thesis.txt", run.path):
    before = runs.files(tmp_path)
    with pytest.raises(ValueError, match="is no SavedModel that another could replace: give a new"):
      run.export(directory)
    assert runs.files(tmp_path) == before
  assert os.path.isdir(RunDir(run.path).checkpoints)


def test_words_are_those_that_a_run_was_trained_with(tmp_path):
  words = mm.data.Tokenizer(["a", "red", "bird"], 4)

  def talking():
    return mm.MultimodalVAE(
        [mm.Modality("a", (3,), mm.nets.DenseEncoder(2, (4,)), mm.nets.DenseDecoder((3,), (4,)),
                     mm.normal_likelihood),
         mm.Modality("s", (4,), mm.nets.RecurrentEncoder(2, 6, 2, 3),
                     mm.nets.RecurrentDecoder(6, 4, 2, 3), mm.sentence_likelihood,
                     dtype="int32")], mm.Prior(2))

  rng = np.random.default_rng(0)
  data = mm.data.from_arrays({"a": rng.normal(size=[20, 3]),
                              "s": words.encode(["a red bird", "a bird"] * 10)})
  run, _ = run_quietly(experiment(
      model=talking, train_data=data, held_out_data=data, test_data=data, num_steps=2,
      tokenizers={"s": words}), tmp_path / "mine")
  said = run.translate({"a": np.zeros([2, 3])}, to="s")
  assert said.shape == (2,) and all(isinstance(one, str) for one in said)
  assert run.translate({"s": ["a red bird"]}, to="a").shape == (1, 3)
  opened = mm.open_run(run.path, talking, {"s": words})
  np.testing.assert_array_equal(opened.translate({"a": np.zeros([2, 3])}, to="s"), said)
  assert mm.open_run(run.path, talking).sample(2, to="s").shape == (2, 4)
  for tokenizers in ({"s": mm.data.Tokenizer(["bird", "red", "a"], 4)}, {"a": words}):
    with pytest.raises(ValueError, match="is not the one that the run was trained with"):
      mm.open_run(run.path, talking, tokenizers)


def test_a_damaged_description_is_not_opened(tmp_path):
  (tmp_path / "experiment.json").write_text("{")
  with pytest.raises(ValueError, match="experiment.json is damaged: put back the whole file"):
    mm.open_run(tmp_path, build)
