"""A short run of modalities of every kind, with all that TensorBoard shows of it."""

import os

import keras
import pytest

from tests import runs
from tests.views import panels_test as kinds
from tf_mmvae import estimators, objectives
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training.train import train
from tf_mmvae.views.latents import Latents
from tf_mmvae.views.panels import Panel

FILES = ["labels.tsv", "latents.tsv", "projector_config.pbtxt", "thumbnails.png"]


@pytest.fixture(scope="module")
def events(tmp_path_factory):
  """The directory of the events of a run of two steps."""
  run_dir, tokenizers = RunDir(tmp_path_factory.mktemp("kinds")), kinds.make_tokenizers()
  data = kinds.data(tokenizers)
  panel = Panel(data, tokenizers, num_examples=3, num_samples=2)
  latents = Latents(data, tokenizers)

  def look(model):
    latents.write(model, run_dir.events)
    return {**panel(model), **latents(model)}

  train(kinds.make_model, estimators.Estimator(objectives.iwae), keras.optimizers.Adam,
        data, data, run_dir.path, seed=0, num_steps=2, num_samples=2, batch_size=4,
        evaluate_every=1, look=look)
  return run_dir.events


def test_every_pair_and_every_expert_is_shown(events):
  pairs = {f"{s}_to_{t}" for s, t in kinds.PAIRS}
  expected = {f"panels/{name}" for name in pairs | {f"{n}_reconstructed" for n in kinds.NAMES}}
  expected |= {"panels/prior", "text/prior", "text/words_reconstructed"}
  expected |= {f"text/{name}" for name in pairs if name.endswith("_to_words")}
  expected |= {f"latents/{what}/{name}" for name in kinds.NAMES
               for what in ("kl", "active_dimensions", "kl_per_dimension", "kl_by_dimension")}
  tags = {tag for tag, step in runs.events(events) if step == 2}
  assert {tag for tag in tags if not tag.startswith(("train/", "held_out/"))} == expected


def test_files_of_the_projector(events):
  assert sorted(name for name in os.listdir(events) if "tfevents" not in name) == FILES


def test_labels_without_any_in_the_data(events):
  with open(os.path.join(events, "labels.tsv"), encoding="utf-8") as file:
    lines = file.read().splitlines()
  assert lines == ["modality\texample", *(f"{n}\t{i}" for n in kinds.NAMES for i in range(5))]
