import math

import numpy as np
import pytest

from tests.data.own import dataset_test as own_data_test
from tf_mmvae.data.own import dataset as own_data
from tf_mmvae.data.own import description
from tf_mmvae.data.own.columns import Text, Vector

rng = np.random.default_rng(0)


def low_rank(num, size, rank, noise):
  """Values near a plane, with noise of a known deviation."""
  plane = rng.normal(size=[rank, size])
  return 5 + rng.normal(size=[num, rank]) @ plane + noise * rng.normal(size=[num, size])


def test_the_residuals_are_those_of_the_noise():
  left = description.linear_residuals(low_rank(1000, 50, 4, 0.3), latent_dim=4)
  assert left.normal == pytest.approx(0.3, rel=0.05)
  assert left.laplace == pytest.approx(0.3 * math.sqrt(2 / math.pi), rel=0.05)
  assert left.num == 1000
  fewer = description.linear_residuals(low_rank(1000, 50, 4, 0.3), latent_dim=2)
  assert fewer.normal > 2 * left.normal


def test_they_are_of_values_that_were_not_fitted():
  """Of pure noise, components explain those that they are fitted to, but no others."""
  left = description.linear_residuals(rng.normal(size=[60, 400]), latent_dim=40)
  assert left.normal == pytest.approx(1, abs=0.1)
  assert left.gain < 0.1 * 200  # half of the numbers, were they all explained


def test_the_gain_is_a_difference_of_log_likelihoods():
  values = low_rank(500, 20, 2, 0.5)
  left = description.linear_residuals(values, latent_dim=2)
  before = np.mean((values - values.mean(0)) ** 2)
  expected = 20 * (before - left.normal**2) / (2 * left.normal**2)
  assert left.gain == pytest.approx(expected, rel=0.2)


def test_values_that_are_the_same_or_few_or_exact():
  assert description.linear_residuals(np.ones([9, 4]), 2) == (1, 1, 0, 9)
  exact = description.linear_residuals(low_rank(100, 20, 2, 0), 2)
  assert np.isfinite(exact.gain) and exact.normal > 0.005
  assert np.isfinite(description.linear_residuals(rng.normal(size=[3, 5]), 8)).all()
  with pytest.raises(ValueError, match="at least 3 observations to take residuals of, got 2"):
    description.linear_residuals(np.ones([2, 4]), 2)


def test_scales_go_with_the_values_and_gains_do_not():
  values = low_rank(200, 10, 2, 0.5)
  one, other = (description.linear_residuals(v, 2) for v in (values, 7 * values + 3))
  assert other.normal == pytest.approx(7 * one.normal)
  assert other.laplace == pytest.approx(7 * one.laplace)
  assert other.gain == pytest.approx(one.gain)


def test_word_nats():
  assert description.word_nats([["a", "b"], ["b", "a"]]) == pytest.approx(2 * math.log(2))
  assert description.word_nats([["a", "a"], ["a"]]) == 0
  assert description.word_nats([["a"], ["b", "c", "d"]]) == pytest.approx(2 * math.log(4))


@pytest.fixture
def source(tmp_path):
  own_data_test.write_source(tmp_path / "birds")

  def source(**how):
    return own_data.Source(tmp_path / "birds" / "birds.csv", data_dir=tmp_path / "data", **{
      "columns": own_data_test.COLUMNS, "split_column": "split", "label": "class", **how})

  return source


def test_weights_make_each_modality_worth_the_same(source):
  made = source()
  found = description.suggest(made, latent_dim=2)
  assert list(found) == ["image", "sentence", "vector"]
  worth = description.NATS_PER_DIMENSION * 2
  nats = description.word_nats([text.split() for text in own_data.texts(made)])
  assert found["sentence"] == (pytest.approx(worth / (description.SHARE_OF_WORDS * nats)), None)
  images = made.records("image", "train").read_all()["value"].reshape([6, -1]) / 255
  left = found["image"].residuals
  assert left.num == 6 and 0.1 < left.normal < 2 * images.std()
  for name in ("image", "vector"):
    weight, left = found[name]
    assert weight * left.gain == pytest.approx(worth) or left.gain == 0 and weight == 1
  assert description.suggest(made, 2)["image"] == found["image"]


def test_too_few_files(source, tmp_path):
  made = source(columns={"vector": Vector(2), "sentence": Text()})
  made.records = lambda *_: type("Two", (), {"num_records": 0})
  with pytest.raises(ValueError, match="'vector' has 0 distinct files to train on"):
    description.suggest(made, 2)


def test_what_is_told(source, tmp_path):
  lines = description.describe(source(), {"sentence": 6}, min_count=3)
  assert lines[0] == (f"{tmp_path}/birds/birds.csv: 24 rows in 12 groups; columns image, sentence, "
                      "vector; not modalities: class, split")
  cells = {line[:16].strip(): line[16:].split() for line in lines[1:6]}
  assert cells == {"": ["train", "validation", "test"], "rows": ["12", "6", "6"],
                   "image missing": ["1", "0", "0"], "sentence missing": ["1", "0", "0"],
                   "vector missing": ["1", "0", "0"]}
  assert lines[6] == "labels: 2 classes, rows without one: 1"
  assert lines[7].startswith("image (picture 16x8x3): 12 files; 30 to 30 wide, 20 to 20 high; mean")
  assert lines[8] == (
    "sentence (text): 6.0 words a text, half have 6, the longest 6; the first 5 are read, all of "
    "0% of texts; 6 words occur more than 3 times")
  assert lines[9].startswith("vector (vector of 2): 12 files; mean ")


def test_groups_that_a_column_tears_apart_are_told(source, tmp_path):
  path = tmp_path / "birds" / "birds.csv"
  text = path.read_text()
  assert "groups with" not in str(description.describe(source(), {"sentence": 6}))
  path.write_text(text.replace("number 6 1,6.npy,kind 0,train", "number 6 1,6.npy,kind 0,test"))
  assert "groups with rows in more than one split: 1; what is held out was seen in part" in (
    description.describe(source(), {"sentence": 6}))
