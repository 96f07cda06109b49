import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics import judges

NUM = 300


def examples(seed=0, num=NUM, name="bars"):
  """Pictures with a bright bar whose row is the class, over noise."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, num)
  pictures = rng.random([num, 24, 24, 1]) * 0.5
  for picture, label in zip(pictures, labels, strict=True):
    picture[7 * label + 3 : 7 * label + 5] = 1
  pictures, labels = tf.constant(pictures, tf.float32), tf.constant(labels, tf.int32)
  return Examples(name, num, lambda i: (
      {"bar": tf.gather(pictures, i), "other": tf.gather(pictures, i)[..., 0]},
      {"row": tf.gather(labels, i)}))


def judge(dataset=None, **settings):
  settings = {"num_steps": 80, "batch_size": 32, "filters": (4, 8), "hidden_units": 32,
              "learning_rate": 0.01, **settings}
  return judges.Classifier(dataset or examples(), "bar", "row", 3, **settings)


def pictures(seed=1):
  ((x, y, _),) = examples(seed).batches(NUM)
  return x["bar"].numpy(), y["row"].numpy()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
  """A run with a judge, and what it said."""
  run_dir = tmp_path_factory.mktemp("run")
  return run_dir, judge(run_dir=run_dir)(pictures()[0])["row"]


def files(run_dir):
  return {path.name: path.read_bytes() for path in pathlib.Path(run_dir, "judges").iterdir()}


def test_it_learns_the_classes(kept):
  _, said = kept
  assert np.mean(said == pictures()[1]) > 0.97


def test_it_is_kept_and_not_trained_again(kept, monkeypatch):
  run_dir, said = kept
  before = files(run_dir)
  assert len(before) == 1 and next(iter(before)).startswith("bar-")

  def refuse(self):
    raise AssertionError("trained")

  monkeypatch.setattr(judges.Classifier, "_trained", refuse)
  np.testing.assert_array_equal(judge(run_dir=run_dir)(pictures()[0])["row"], said)
  assert files(run_dir) == before


@pytest.mark.parametrize("settings", [
    {"seed": 1}, {"num_steps": 81}, {"hidden_units": 31}, {"filters": (4, 9)}, {"batch_size": 31},
    {"learning_rate": 0.02}, {"dataset": examples(5)}, {"dataset": examples(name="others")},
    {"dataset": examples(num=299)}])
def test_what_it_learns_by_is_in_its_name(kept, settings):
  run_dir, _ = kept
  assert judge(run_dir=run_dir)._path == judge(run_dir=run_dir)._path
  assert judge(run_dir=run_dir, **settings)._path != judge(run_dir=run_dir)._path


def test_nothing_is_read_before_it_is_asked(tmp_path):
  def read(i):
    raise AssertionError("read")

  judges.Classifier(Examples("closed", 3, read), "bar", "row", 3, tmp_path)
  assert not list(tmp_path.iterdir())


def test_it_learns_once_where_nothing_is_kept(monkeypatch):
  one, trained = judge(num_steps=2), []
  really = one._trained
  monkeypatch.setattr(one, "_trained", lambda: trained.append(1) or really())
  one(pictures()[0]), one(pictures()[0])
  assert trained == [1]


def test_a_damaged_file_is_replaced(kept, tmp_path, caplog):
  run_dir, said = kept
  ((name, content),) = files(run_dir).items()
  (tmp_path / "judges").mkdir()
  (tmp_path / "judges" / name).write_bytes(content[:1000])
  found = judge(run_dir=tmp_path)(pictures()[0])["row"]
  assert "cannot be read" in caplog.text and "trained anew" in caplog.text
  assert np.mean(found == pictures()[1]) > 0.97
  np.testing.assert_array_equal(judge(run_dir=tmp_path)(pictures()[0])["row"], found)


def test_one_a_view():
  made = []
  found = judges.judges_of_views(
      3, lambda modality: made.append(modality) or f"judge of {modality}")
  assert found == {f"view{v}": f"judge of view{v}" for v in range(3)}


def with_gaps(absent_label, num=NUM):
  """Bars of which every second picture is absent; its class stays, or is another one."""
  whole = examples(num=num)

  def read(i):
    x, y, _ = whole.read(i)
    here = i % 2 == 0
    return x, {"row": tf.where(here, y["row"], absent_label)}, {"bar": here}

  return Examples("gaps", num, read)


def test_absent_pictures_teach_nothing():
  """Their classes may be anything: what was learnt is the same."""
  logits = [judge(with_gaps(label), num_steps=5)._learnt().predict(pictures()[0], verbose=0)
            for label in (0, 2)]
  np.testing.assert_array_equal(*logits)
  assert np.mean(judge(with_gaps(2))(pictures()[0])["row"] == pictures()[1]) > 0.97


def test_a_judge_of_other_gaps_is_another(tmp_path):
  def of_gaps(period):
    whole = examples()
    return Examples("bars", NUM, lambda i: (
        {"bar": tf.zeros_like(whole.read(i)[0]["bar"])}, whole.read(i)[1],
        {"bar": i % period == 0}))

  paths = {judge(of_gaps(period), run_dir=tmp_path)._path for period in (2, 3)}
  assert len(paths) == 2


def test_features_are_those_that_the_last_layer_reads(kept):
  run_dir, _ = kept
  one = judge(run_dir=run_dir)
  seen = one.features(pictures()[0])
  assert seen.shape == (NUM, 32) and np.all(seen >= 0) and np.std(seen) > 0
  np.testing.assert_array_equal(seen, one.features(pictures()[0]))  # without dropout
  kernel, bias = one._network.layers[-1].get_weights()
  np.testing.assert_array_equal(
      np.argmax(seen @ kernel + bias, -1), one(pictures()[0])["row"])
  np.testing.assert_array_equal(judges.features_of(one)(pictures()[0]), seen)


def test_features_and_classes_are_of_one_training(monkeypatch):
  one, trained = judge(num_steps=2), []
  really = one._trained
  monkeypatch.setattr(one, "_trained", lambda: trained.append(1) or really())
  one.features(pictures()[0]), one(pictures()[0]), one.features(pictures()[0])
  assert trained == [1]


def test_accuracy_is_over_the_pictures_that_are_there(kept):
  run_dir, said = kept
  share, error, num = judge(run_dir=run_dir).accuracy(examples(1))
  expected = np.mean(said == pictures()[1])
  np.testing.assert_allclose(share, expected)
  np.testing.assert_allclose(error, np.std(said == pictures()[1], ddof=1) / np.sqrt(NUM))
  assert num == NUM
  share, _, num = judge(run_dir=run_dir).accuracy(with_gaps(0))
  assert share > 0.97 and num == NUM // 2


def test_the_name_is_made_once(kept, monkeypatch):
  run_dir, _ = kept
  one, read = judge(run_dir=run_dir), []
  really = one._dataset.spread
  monkeypatch.setattr(one._dataset, "spread", lambda num: read.append(1) or really(num))
  one(pictures()[0])
  assert read == [1]
