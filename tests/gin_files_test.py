import functools
import pathlib
import re
import shutil

import gin
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests import runs
from tests.data.cub import dataset_test as cub_test
from tests.data.digits import mnist_test, photo_digits_test, svhn_test
from tests.data.own import dataset_test as own_data_test
from tests.nets import features_test
from tf_mmvae.cli import config
from tf_mmvae.experiment import Experiment
from tf_mmvae.model import MultimodalVAE

GIN = runs.ROOT / "gin"
TINY = sorted(path.name for path in GIN.glob("*_tiny.gin"))


@functools.cache
def write_sources():
  """CUB, MNIST, SVHN, photographs and birds of one's own in small, and weights for features."""
  manual = runs.scratch() / "manual"
  for source in (cub_test.write_source, mnist_test.write_source, svhn_test.write_source,
                 photo_digits_test.write_photos):
    source(manual)
  own_data_test.write_source(manual / "birds")
  features_test.random_body().save_weights(manual / "mobilenet.weights.h5")


@pytest.fixture(scope="module", autouse=True)
def sources():
  write_sources()


def test_every_experiment_has_a_tiny_variant():
  experiments = {path.stem for path in GIN.glob("*.gin")} - {path[:-4] for path in TINY}
  assert experiments == {path.removesuffix("_tiny.gin") for path in TINY}
  assert experiments >= {
      "cub", "cub_released", "mnist_photo", "mnist_svhn", "polymnist", "toy_birds"}
  for name in experiments:
    assert f'include "gin/{name}.gin"' in (GIN / f"{name}_tiny.gin").read_text()


@pytest.mark.parametrize("name", TINY)
def test_tiny_variants_train(name):
  run, code, printed = runs.finished(f"gin/{name}")
  assert code == 0, printed
  assert "Traceback" not in printed and "Best: step" in printed
  results = pathlib.Path(run.results)
  for path in (run.config, f"{run.export}/saved_model.pb"):
    assert pathlib.Path(path).stat().st_size > 0, path
  assert ("mm.data.run_tokenizer" in run.read_config()) == pathlib.Path(run.vocabulary).exists()
  assert list(results.glob("*.png")) and list(results.glob("*.json"))
  assert not list(pathlib.Path(run.path).rglob("*unfinished*"))
  last = runs.last_step(run.checkpoints)
  assert last > 1
  assert {step for tag, step in runs.events(run.events) if tag == "train/bound"} >= {last}


@pytest.mark.parametrize("name", TINY)
def test_a_second_time_does_not_train_again(name):
  run, code, printed = runs.finished(f"gin/{name}")
  assert code == 0, printed
  kept = [run.checkpoints, run.events]
  before = [runs.files(directory) for directory in kept]
  results = {path.name: path.read_bytes() for path in pathlib.Path(run.results).glob("*.json")}
  code, printed = runs.call_here("train.py", *runs.train_args(f"gin/{name}", run.path))
  assert code == 0, printed
  assert " is finished: its " in printed and "About" not in printed
  assert not re.search(r"^step \d+: held-out", printed, re.M)
  assert before == [runs.files(directory) for directory in kept]
  for file, content in results.items():
    assert (pathlib.Path(run.results) / file).read_bytes() == content, file
  assert (pathlib.Path(run.export) / "saved_model.pb").is_file()


SHARED = {  # experiments, or tools, include them
    "cosine_decay.gin", "criteria.gin", "digit_judges.gin", "digit_pairs.gin", "evaluation.gin",
    "image_and_sentence.gin", "training.gin"}
WITH_SENTENCES = [
    "cub_features_tiny.gin", "cub_tiny.gin", "own_data_tiny.gin", "toy_birds_tiny.gin"]
OF_SOME = {"cub_published.gin": ["cub_tiny.gin"], "captions_missing.gin": WITH_SENTENCES,
           "positionwise.gin": [*WITH_SENTENCES, "cub_released_tiny.gin"],
           "likelihood_table.gin": ["mnist_photo_tiny.gin", "mnist_svhn_tiny.gin"],
           "screened.gin": ["mnist_photo_tiny.gin", "toy_birds_tiny.gin"]}
# Toy birds has every part; the others those that meet what they have of their own.
OF_FEW = {"mnist_photo_tiny.gin": ["independent.gin", "likelihood_table.gin", "mopoe.gin",
                                   "mvae.gin", "normal.gin", "private.gin", "screened.gin"],
          "cub_released_tiny.gin": ["dreg.gin", "elbo.gin", "independent.gin", "mixture_dreg.gin",
                                    "mopoe.gin", "positionwise.gin", "private.gin"],
          "cub_tiny.gin": ["captions_missing.gin", "cub_published.gin", "mopoe.gin",
                           "positionwise.gin"],
          "cub_features_tiny.gin": ["captions_missing.gin", "mopoe.gin", "private.gin"],
          "mnist_svhn_tiny.gin": ["likelihood_table.gin"],
          "own_data_tiny.gin": ["captions_missing.gin", "poe.gin"],
          "polymnist_tiny.gin": ["mopoe.gin", "mvae.gin", "mvtcae.gin", "mixture_dreg.gin"]}


def parts():
  """[(part, experiment)] that are tried."""
  for path in sorted((GIN / "parts").glob("*.gin")):
    for experiment in OF_SOME.get(path.name, TINY):
      if path.name not in SHARED and path.name in OF_FEW.get(experiment, [path.name]):
        yield path.name, experiment


PARTS = list(parts())


MORE = {  # bindings beside the part
    "private.gin": ["PRIVATE_DIM = 1"], "screened.gin": ["NUM_BEST = 1"]}
CHOICES = {  # of each part, by the name of the part
    "bound": {"mvae": "elbo", "mvtcae": "elbo", **{
        name: name for name in ("elbo", "iwae", "iwae_tight")}},
    "gradient": {"mvae": "reparameterised over subsets",
                 "mvtcae": "reparameterised, total correlation 0.9", "dreg_released": "stl",
                 "screened": "dreg, the best 1 and one more backpropagated",
                 "cub_published": "dreg, the best 3 and one more backpropagated", **{
        name: name for name in ("reparameterised", "stl", "dreg", "mixture_dreg")}},
    "fusion": {"mopoe": "mixture_of_products", "poe": "product_of_experts",
               "mvae": "product_of_experts", "mvtcae": "product_of_experts without the prior"}}


def test_every_part_says_what_it_is():
  for path in (GIN / "parts").glob("*.gin"):
    assert path.read_text().startswith("# "), path
    assert path.name in SHARED | {part for part, _ in PARTS}, path


@pytest.fixture
def step_of_part(monkeypatch, tmp_path):
  """Function (part, experiment, bindings) -> what was printed of a step.

  With numbers that make it quick, typed, which win over all files; not traced, which is slow.
  """

  def step(run, strategy, flag):
    gin.get_configurable(Experiment)().train_alone(
        run, strategy, on_first_step=lambda: config.refuse_unused_bindings(flag.gin_param))

  monkeypatch.setattr("tf_mmvae.cli.train._train", step)
  small = ["NUM_STEPS = 1", "NUM_SAMPLES = 2", "BATCH_SIZE = 2", "METRICS = {}"]

  def call(part, experiment, *bindings):
    tf.config.run_functions_eagerly(True)
    try:
      return runs.call_here(
          "train.py", *runs.train_args(f"gin/{experiment}", tmp_path / "run"),
          f"--gin_file=gin/parts/{part}", *[f"--gin_param={b}" for b in [*small, *bindings]])
    finally:
      tf.config.run_functions_eagerly(False)

  return call


@pytest.mark.parametrize("part, experiment", PARTS)
def test_a_part_steps_on_top_of_its_experiment(part, experiment, step_of_part, tmp_path):
  code, printed = step_of_part(part, experiment, *MORE.get(part, []))
  assert code == 0, printed
  assert runs.last_step(tmp_path / "run" / "checkpoints") == 1
  screened = "dreg, the best 1 and one more backpropagated"
  gradient = {"cub_released_tiny.gin": "stl", "mnist_photo_tiny.gin": screened,
              "mnist_svhn_tiny.gin": screened}
  default = {"bound": "iwae", "gradient": gradient.get(experiment, "dreg"),
             "fusion": "mixture_of_experts"}
  chosen = {kind: CHOICES[kind].get(part.removesuffix(".gin"), default[kind]) for kind in CHOICES}
  assert f"; {chosen['fusion']}, " in printed
  assert f"Objective: {chosen['bound']}, gradients {chosen['gradient']}, K = 2" in printed


def test_gaps_are_refused_where_statistics_would_count_them(step_of_part):
  code, printed = step_of_part("captions_missing.gin", "cub_released_tiny.gin")
  assert code == 1
  assert "modality 'sentence': its encoder computes with statistics of its batch" in printed


def test_complete_pairs_alone_are_fewer_to_train_on(step_of_part):
  """Of 50 with 90 % of captions gone; what is held out stays complete."""
  code, printed = step_of_part("captions_missing.gin", "toy_birds_tiny.gin",
                               "MISSING = {'sentence': 0.9}", "COMPLETE_ONLY = True")
  assert code == 0, printed
  trained, held_out = re.search(r"(\d+) examples to train on, (\d+) held out", printed).groups()
  assert 0 < int(trained) < 16 and int(held_out) == 20


@pytest.fixture
def features_run():
  """A run on features that are kept, after the file of weights has gone: its `RunDir`."""
  run, code, printed = runs.finished("gin/cub_features_tiny.gin")
  assert code == 0, printed
  weights = runs.scratch() / "manual" / "mobilenet.weights.h5"
  weights.rename(weights.with_suffix(".gone"))
  try:
    yield run
  finally:
    weights.with_suffix(".gone").rename(weights)


@pytest.mark.parametrize("given", ["image=FILE", "sentence=a bird"])
def test_answers_in_features_are_shown_as_photos(features_run, tmp_path, given):
  """Without weights. A vector stays one on disk, and is a photo of one colour in the table."""
  np.save(tmp_path / "x.npy", np.ones(1024))
  args = [arg for arg in runs.train_args("", "") if arg.startswith(("--data_dir", "--manual_dir"))]
  code, printed = runs.call_here(
      "generate.py", f"--run_dir={features_run.path}", f"--out={tmp_path / 'out'}", "--num=2",
      f"--given={given.replace('FILE', str(tmp_path / 'x.npy'))}", *args)
  assert code == 0, printed
  arrays = [np.load(path) for path in (tmp_path / "out").glob("*.npy")]
  assert [array.shape for array in arrays] == [(1024,)] * (2 if "sentence" in given else 0)
  (table,) = (tmp_path / "out").glob("*-table.png")
  with Image.open(table) as page:
    pixels = np.asarray(page).reshape([-1, 3])
  of_birds = sum(np.sum(np.all(np.abs(pixels - np.array(colour)) < 8, -1))
                 for colour in cub_test.COLOURS)
  assert of_birds == 128 * 128 * (2 if "sentence" in given else 1)


def test_features_are_measured_without_weights(features_run, tmp_path):
  args = [arg for arg in runs.train_args("", "") if arg.startswith(("--data_dir", "--manual_dir"))]
  shutil.copytree(features_run.path, tmp_path / "run")
  code, printed = runs.call_here(
      "evaluate.py", f"--run_dir={tmp_path / 'run'}", *args, "--gin_param=NUM_SAMPLES = 2")
  assert code == 0, printed
  assert "image to sentence: class " in printed and "sentence to image: class " in printed
  code, printed = runs.call_here(
      "evaluate.py", f"--run_dir={tmp_path / 'run'}", args[1], f"--data_dir={tmp_path / 'data'}")
  assert code == 1 and "Traceback" not in printed
  assert "mobilenet.weights.h5: put there those of keras.applications.MobileNet, or" in printed


@pytest.fixture
def released():
  """gin/cub_released.gin, parsed."""
  gin.clear_config()
  gin.add_config_file_search_path(str(runs.ROOT))
  paths = {"RUN_DIR": None, "DATA_DIR": str(runs.scratch() / "data"),
           "MANUAL_DIR": str(runs.scratch() / "manual")}
  gin.parse_config_files_and_bindings(
      ["gin/cub_released.gin"], [f"{name} = {path!r}" for name, path in paths.items()])
  yield
  gin.clear_config()


def test_the_released_model(released):
  """Weights counted by the release's list of layers: (size of a kernel, inputs, outputs)."""
  model = gin.get_configurable(MultimodalVAE)()
  image, sentence = model.modalities["image"], model.modalities["sentence"]
  layers = [(16, 3, 64), (16, 64, 128), (16, 128, 256), (16, 256, 512), (16, 512, 128)]
  expected = sum(size * before * after + after for size, before, after in layers)
  assert image.encoder.count_params() == expected
  layers = [(16, 64, 512), (16, 512, 256), (16, 256, 128), (16, 128, 64), (16, 64, 3)]
  expected = sum(size * before * after + after for size, before, after in layers)
  assert image.decoder.count_params() == expected
  layers = [(16, 1, 32), (16, 32, 64), (16, 64, 128), (4, 128, 128), (4, 128, 128)]
  normalised = sum(size * before * after + 4 * after for size, before, after in layers)
  vocabulary_size = sentence.encoder.embedding.input_dim
  assert sentence.encoder.count_params() == normalised + 16 * 128 * 128 + 128 * vocabulary_size
  layers = [(16, 64, 128), (4, 128, 128), (4, 128, 128), (16, 128, 64), (16, 64, 32)]
  normalised = sum(size * before * after + 4 * after for size, before, after in layers)
  assert sentence.decoder.count_params() == normalised + 16 * 32 + 129 * vocabulary_size
  assert sentence.decoder.embedding is sentence.encoder.embedding
  x, z = {name: tf.zeros([1, *m.spec.shape[1:]], m.spec.dtype)
          for name, m in model.modalities.items()}, tf.zeros([1, 64])
  families = {m.name: type(m.posterior(x[m.name]).distribution).__name__ for m in (image, sentence)}
  assert families == {"image": "Laplace", "sentence": "Normal"}
  assert [type(c.distribution).__name__ for c in model.posterior(x).components] == [
      "Laplace", "Normal"]
  likelihood = image.likelihood(z).distribution
  assert type(likelihood).__name__ == "Laplace"
  np.testing.assert_allclose(likelihood.scale, 0.01)
  assert type(model.prior.distribution().distribution).__name__ == "Laplace"
  assert model.prior.raw_scale.trainable
  np.testing.assert_allclose(model.prior.distribution().stddev(), 2**0.5, rtol=1e-5)


def test_the_released_training(released):
  def value(name):
    return gin.query_parameter(name)

  knobs = {"NUM_SAMPLES": 50, "BATCH_SIZE": 64, "LATENT_DIM": 64, "WORDS": 32, "AMSGRAD": True,
           "LEARNING_RATE": 1e-3, "NUM_STEPS": 50 * -(-88550 // 64)}
  assert {name: value(f"{name}/gin.macro.value") for name in knobs} == knobs
  estimator = value("ESTIMATOR/gin.macro.value").scoped_configurable_fn()
  assert str(estimator) == "iwae, gradients stl"
  weights = estimator._likelihood_weights
  assert weights["sentence"] == 1
  np.testing.assert_allclose(weights["image"], 32 / (64 * 64 * 3), rtol=1e-6)
