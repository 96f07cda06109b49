import numpy as np
import pytest

from tf_mmvae.data.tokenizer import run_tokenizer
from tf_mmvae.data.toy_birds import dataset as toy_birds
from tf_mmvae.data.toy_birds.attributes import ATTRIBUTES
from tf_mmvae.data.toy_birds.drawing import draw

SIZES = {"num_train": 12, "num_validation": 3, "num_test": 5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def words(data_dir):
  return run_tokenizer(lambda: toy_birds.captions(data_dir, **SIZES), min_count=0)


def _load(split, words, data_dir, **sizes):
  examples = toy_birds.examples(split, words, data_dir, **{**SIZES, **sizes})
  x, y, _ = next(iter(examples.batches(1000)))
  return examples, (x, y)


def test_examples_are_pairs_of_the_bird_and_a_caption(words, data_dir):
  examples, (x, y) = _load("train", words, data_dir)
  assert examples.num_examples == 12 * 5
  assert x["image"].shape == (60, 64, 64, 3)
  assert x["sentence"].shape == (60, words.length)
  for n in (0, 7, 59):
    expected = toy_birds.example(0, "train", n // 5)
    np.testing.assert_array_equal(np.rint(x["image"][n] * 255), expected["image"])
    assert words.decode(x["sentence"][n]).numpy().decode() == expected["captions"][n % 5]
    assert {name: int(y[name][n]) for name in ATTRIBUTES} == {
      name: expected[name] for name in ATTRIBUTES
    }


def test_the_labels_on_disk_draw_the_pictures_on_disk(words, data_dir):
  _, (x, y) = _load("test", words, data_dir)
  for n in range(0, 25, 5):
    picture = draw({name: int(y[name][n]) for name in ATTRIBUTES})
    np.testing.assert_array_equal(np.rint(x["image"][n] * 255), picture)


def test_captions_are_those_of_the_training_pictures(data_dir):
  expected = [toy_birds.example(0, "train", n)["captions"] for n in range(12)]
  assert toy_birds.captions(data_dir, **SIZES) == [c for of_one in expected for c in of_one]


def test_a_larger_set_begins_with_the_smaller(words, data_dir):
  _, (small, _) = _load("train", words, data_dir)
  _, (large, _) = _load("train", words, data_dir, num_train=14)
  np.testing.assert_array_equal(large["sentence"][:60], small["sentence"])
  np.testing.assert_array_equal(large["image"][:60], small["image"])


def test_splits_and_seeds_differ():
  streams = [(0, "train"), (0, "validation"), (0, "test"), (1, "train")]
  captions = {toy_birds.example(*stream, index=3)["captions"][0] for stream in streams}
  assert len(captions) == len(streams)
  again = [toy_birds.example(0, "test", 3)["image"] for _ in range(2)]
  np.testing.assert_array_equal(*again)


def test_a_slice_of_a_split(words, data_dir):
  _, (whole, _) = _load("test", words, data_dir)
  examples, (part, _) = _load("test[1:3]", words, data_dir)
  assert examples.num_examples == 10
  np.testing.assert_array_equal(part["image"], whole["image"][5:15])


@pytest.mark.parametrize("split", ["trian", "test[:0]", "test[:x]", ""])
def test_a_bad_split_says_what_was_expected(split, words, data_dir):
  with pytest.raises(ValueError, match="expected a split such as 'train'.* got"):
    _load(split, words, data_dir)


@pytest.mark.parametrize("argument", [{"num_train": 0}, {"num_test": -1}, {"seed": -1}])
def test_a_bad_size_is_refused_by_name(argument, words, data_dir):
  (name,) = argument
  with pytest.raises(ValueError, match=f"{name} must be at least"):
    _load("train", words, data_dir, **argument)


def test_preparing_is_quiet_and_done_once(tmp_path, capsys, caplog):
  config = toy_birds.ToyBirdsConfig(num_train=2, num_validation=1, num_test=1, seed=5)
  builder = toy_birds.prepare(config, tmp_path)
  written = {path: path.stat().mtime for path in builder.data_path.iterdir()}
  again = toy_birds.prepare(config, tmp_path)
  assert written == {path: path.stat().mtime for path in again.data_path.iterdir()}
  assert capsys.readouterr().out == ""
  assert not [record for record in caplog.records if record.levelname != "INFO"]
  assert builder.info.full_name == "toy_birds/train2_validation1_test1_seed5/1.0.0"
  assert builder.info.features["bill_shape"].names == ["pointed", "hooked", "flat"]


def test_an_interrupted_preparation_is_done_again(tmp_path, monkeypatch):
  config = toy_birds.ToyBirdsConfig(num_train=2, num_validation=1, num_test=2)

  def interrupted(bird):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(toy_birds.drawing, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
      toy_birds.prepare(config, tmp_path)
  assert toy_birds.prepare(config, tmp_path).info.splits["test"].num_examples == 2
