"""Quality of pictures of models that are known: perfect, useless, and with gaps."""

import keras
import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics.picture_quality import (
  KerasFeatures,
  PictureQuality,
  frechet_distance,
  similarity,
)
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

SHAPE = (8, 8, 1)
NUM = 40


class Copy(keras.layers.Layer):
  """x [B, ...] -> raw parameters of an expert of almost no width at the first two numbers of x."""

  def call(self, x, training=False):
    x = tf.cast(tf.reshape(x, [-1, np.prod(x.shape[1:])])[:, :2], tf.float32)
    return tf.concat([x, tf.fill(tf.shape(x), -15.)], -1)


class Draw(keras.layers.Layer):
  """z [N, 2] -> a picture that two numbers tell, or always a grey one."""

  def __init__(self, shape, useless=False):
    super().__init__()
    self._shape, self._useless = shape, useless

  def call(self, z, training=False):
    return drawn(z * (not self._useless), self._shape)


def drawn(z, shape=SHAPE):
  """Pictures whose first two numbers are z, and the others a pattern of its own of these."""
  size = int(np.prod(shape))
  waves = tf.sin(tf.range(size - 2, dtype=tf.float32) * (1 + 3 * z[:, :1]) + 9 * z[:, 1:])
  return tf.reshape(tf.concat([z, 0.5 + 0.5 * waves], 1), [-1, *shape])


def features(pictures):
  return np.asarray(pictures).reshape([len(pictures), -1])[:, :5]


def model(names=("a", "b"), useless=False, shape=SHAPE):
  return MultimodalVAE(
      [Modality(name, shape, Copy(), Draw(shape, useless), distributions.normal_likelihood,
                distributions.normal) for name in names], Prior(2))


def latents(num, seed=0):
  return np.random.default_rng(seed).random([num, 2]).astype(np.float32)


def examples(num=NUM, names=("a", "b"), shape=SHAPE, has=None, copies=1):
  pictures = tf.repeat(drawn(tf.constant(latents(num)), shape), copies, 0)
  has = {name: tf.constant(np.array(rows, bool)) for name, rows in (has or {}).items()}
  return Examples("drawn", num * copies, lambda i: (
      {name: tf.gather(pictures, i) for name in names}, {"index": i // copies},
      {name: tf.gather(rows, i) for name, rows in has.items()}))


class Latents:
  """A source of the latents of true pictures, or of others."""

  def __init__(self, shift=0.):
    self._shift = shift

  def sample(self, model, num, seed):
    return latents(num, 100 + seed) + np.float32(self._shift)


SOURCES = {"good": Latents(), "bad": Latents(0.7)}


def quality(**settings):
  return PictureQuality(**{"modality": "a", "features": features, "sources": SOURCES,
                           "num_bootstraps": 5, "batch_size": 16, **settings})


@pytest.fixture(scope="module")
def found_of_perfect():
  return quality()(model(), examples())


@pytest.fixture(scope="module")
def perfect(found_of_perfect):
  return found_of_perfect.figures


def test_a_perfect_model(perfect):
  assert set(perfect) == {
      "reconstruction/frechet", "from_b/frechet", "good/frechet", "bad/frechet", "true/frechet",
      *(f"{chance}{kind}/ssim" for chance in ("", "chance/")
        for kind in ("reconstruction", "from_b"))}
  for kind in ("reconstruction", "from_b"):
    np.testing.assert_allclose(
        perfect[f"{kind}/frechet"][0], perfect["true/frechet"][0], rtol=1e-3)
    value, error, num = perfect[f"{kind}/ssim"]
    np.testing.assert_allclose((value, error), (1, 0), atol=1e-3)
    assert num == NUM and perfect[f"chance/{kind}/ssim"][0] < 0.5
  assert perfect["good/frechet"][0] < 3 * perfect["true/frechet"][0]
  assert perfect["bad/frechet"][0] > 0.9  # of means 0.7 apart in two of the features
  assert {num for name, (_, _, num) in perfect.items() if "frechet" in name} == {NUM // 2}


def test_each_half_is_compared_with_the_other():
  """Of two pictures, each a half, the distance is that of their two vectors."""
  found = quality()(model(), examples(2)).figures
  a, b = features(drawn(latents(2)))
  for kind in ("true", "reconstruction", "from_b"):
    np.testing.assert_allclose(found[f"{kind}/frechet"][0], np.sum((a - b)**2), rtol=1e-3)


def test_a_useless_model():
  found = quality()(model(useless=True), examples()).figures
  grey = features(drawn(np.zeros([1, 2], np.float32)))
  halves = [frechet_distance(features(drawn(latents(NUM)[rows])), grey)
            for rows in quality()._halves(np.arange(NUM), np.ones(NUM, bool))]
  for kind in ("reconstruction", "from_b", "good", "bad"):
    assert 0.5 * min(halves) < found[f"{kind}/frechet"][0] < 2 * max(halves)
    assert found[f"{kind}/frechet"][0] > 2 * found["true/frechet"][0]
  for kind in ("reconstruction", "from_b"):
    value, error, _ = found[f"{kind}/ssim"]
    chance, error_of_chance, _ = found[f"chance/{kind}/ssim"]
    assert abs(value - chance) < 4 * np.hypot(error, error_of_chance) and error > 0


def test_figures_do_not_depend_on_the_size_of_batches(perfect):
  found = quality(batch_size=100)(model(), examples()).figures
  for name in ("reconstruction/ssim", "from_b/frechet", "true/frechet", "good/frechet"):
    np.testing.assert_allclose(found[name], perfect[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 5), (40, 5), (30, 3), (4, 64)])
def test_frechet_distance_by_the_root_of_a_matrix(shape):
  rng = np.random.default_rng(0)
  a = rng.normal(size=shape) * rng.uniform(0.5, 2, shape[1])
  b = rng.normal(size=(shape[0] + 3, shape[1])) @ rng.normal(size=[shape[1]] * 2) + 1
  covariances = [np.atleast_2d(np.cov(values.T)) for values in (a, b)]
  # By similarity: eigenvalues of C^(1/2) C' C^(1/2).
  values, vectors = np.linalg.eigh(covariances[0])
  root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
  expected = np.sum((a.mean(0) - b.mean(0))**2) + sum(map(np.trace, covariances)) - 2 * cross
  np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-5)
  np.testing.assert_allclose(frechet_distance(b, a), expected, rtol=1e-5)
  if shape == (40, 5):
    product = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    np.testing.assert_allclose(cross, np.trace(product), rtol=1e-6)


def test_frechet_distance_of_one_dimension():
  a, b = np.array([0., 2.]), np.array([1., 5., 9.])  # standard deviations root 2 and 4
  np.testing.assert_allclose(frechet_distance(a, b), 16 + (np.sqrt(2) - 4)**2)
  assert frechet_distance(a, a) < 1e-12 and frechet_distance(a[:1], b[:1]) == 1


def test_errors_are_those_of_other_data():
  """The spread of the distance over data sets, against the bootstrap's on one."""
  rng = np.random.default_rng(0)
  metric, groups = quality(num_bootstraps=200), np.arange(200)
  drawn_twice = [(rng.normal(size=[200, 3]), rng.normal(size=[200, 3]) + 1) for _ in range(200)]
  spread = np.std([frechet_distance(a, b) for a, b in drawn_twice])
  value, error, num = metric._distance(*drawn_twice[0], groups, groups, rng)
  assert 0.7 < error / spread < 1.4 and num == 200
  assert value == frechet_distance(*drawn_twice[0])


def test_copies_of_pictures_are_no_more_pictures():
  """Five captions of each picture: neither half has a picture of the other."""
  settings = {"groups": "index", "num_bootstraps": 30, "batch_size": 200}
  alone = quality(**settings)(model(), examples()).figures
  copied = quality(**settings)(model(), examples(copies=5)).figures
  first, second = quality()._halves(np.arange(40) // 5, np.arange(40) > 4)
  assert not set(np.arange(40)[first] // 5) & set(np.arange(40)[second] // 5)
  assert np.sum(first) == 15 and np.sum(second) == 20 and not np.any((first | second)[:5])
  assert copied["true/frechet"][0] > 0.4 * alone["true/frechet"][0]
  assert 0.4 < copied["bad/frechet"][1] / alone["bad/frechet"][1] < 1.6
  assert copied["chance/from_b/ssim"][0] < 0.5 and copied["chance/from_b/ssim"][2] < 5 * NUM
  error = quality(**settings)(model(useless=True), examples(copies=5)).figures["from_b/ssim"]
  np.testing.assert_allclose(
      error[1], quality()(model(useless=True), examples()).figures["from_b/ssim"][1], rtol=1e-3)


def test_one_example():
  found = quality()(model(), examples(1))
  assert {name for name in found.figures} == {
      f"{kind}/frechet" for kind in ("reconstruction", "from_b", "good", "bad")} | {
          "reconstruction/ssim", "from_b/ssim"}
  assert all(np.isfinite(value) and np.isnan(error) for value, error, _ in found.figures.values())
  assert "true/frechet" not in str(found.tables[0].rows)


def test_gaps_are_left_out():
  """The first has no picture, the second no other modality; zeros would be far off."""
  has = {"a": [0] + [1] * 9, "b": [1, 0] + [1] * 8}
  found = quality()(model(), examples(10, has=has)).figures
  numbers = {name: num for name, (_, _, num) in found.items()}
  assert numbers["reconstruction/ssim"] == 9 and numbers["from_b/ssim"] == 8
  assert {numbers[f"{kind}/frechet"] for kind in ("reconstruction", "good", "true")} == {5}
  assert numbers["from_b/frechet"] in (4, 5)
  for kind in ("reconstruction", "from_b"):
    np.testing.assert_allclose(found[f"{kind}/ssim"][0], 1, atol=1e-3)
  np.testing.assert_allclose(
      found["reconstruction/frechet"][0], found["true/frechet"][0], rtol=1e-3)
  assert quality()(model(), examples(3, has={"a": [0] * 3})).figures == {}


def test_three_modalities_and_all_others():
  found = quality()(model(("a", "b", "c")), examples(20, ("a", "b", "c")))
  kinds = {name.split("/")[0] for name in found.figures}
  assert kinds == {
      "reconstruction", "from_b", "from_c", "from_all_others", "good", "bad", "true", "chance"}
  assert list(found.tables[0].rows) == [
      "reconstruction", "from b", "from c", "from all others", "good", "bad", "true pictures"]


def test_tables_name_figures_that_are_there(found_of_perfect):
  (table,) = found_of_perfect.tables
  named = {name for row in table.rows.values() for name in row if name}
  assert named == set(found_of_perfect.figures)
  assert {len(row) for row in table.rows.values()} == {len(table.columns)}


def test_the_picture_shows_each_kind(found_of_perfect):
  (picture,) = found_of_perfect.pictures
  (fewer,) = quality(sources={"good": Latents()})(model(), examples(20)).pictures
  assert picture.pixels.shape[1] > fewer.pixels.shape[1] + 100
  assert picture.pixels.shape[0] > 6 * 128 and picture.pixels.dtype == np.uint8


def test_vectors_have_distances_alone():
  class First(keras.layers.Layer):
    def call(self, z, training=False):
      return z

  net = MultimodalVAE([Modality(
      name, (2,), Copy(), First(), distributions.normal_likelihood, distributions.normal)
                       for name in ("a", "b")], Prior(2))
  rows = tf.constant(latents(NUM))
  dataset = Examples("vectors", NUM, lambda i: ({n: tf.gather(rows, i) for n in "ab"}, {}))
  metric = quality(features=None)
  metric.check(net)
  found = metric(net, dataset)
  assert not found.pictures and all(name.endswith("/frechet") for name in found.figures)
  np.testing.assert_allclose(
      found.figures["from_b/frechet"][0], found.figures["true/frechet"][0], rtol=1e-3)


def test_at_most_so_many_examples_and_a_batch_at_once():
  seen = []
  found = quality(num_examples=10, batch_size=4, features=lambda pictures: seen.append(
      len(pictures)) or features(pictures))(model(), examples()).figures
  assert found["from_b/ssim"][2] == 2 * found["good/frechet"][2] == 10
  assert max(seen) == 4


def test_misfits_are_refused():
  with pytest.raises(ValueError, match="modalities are"):
    quality(modality="sound").check(model())
  words = model()
  words.modalities["a"].spec = tf.TensorSpec([None, 4], tf.int32)
  with pytest.raises(ValueError, match="expected pictures or vectors, but 'a' is int32"):
    quality().check(words)
  quality().check(model())


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (6, 40, 3), (3, 3, 1)])
def test_similarity(shape):
  a = np.random.default_rng(0).random([4, *shape]).astype(np.float32)
  np.testing.assert_allclose(similarity(a, a), 1, atol=1e-5)
  assert similarity(a, a[::-1]).shape == (4,) and np.all(similarity(a, a[::-1]) < 0.9)
  if min(shape[:2]) >= 11:
    np.testing.assert_allclose(similarity(a, a[::-1]), tf.image.ssim(a, a[::-1], 1.), rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_keras_features_take_pictures_of_any_size(channels):
  class Extractor:
    size = 6

    def __call__(self, pictures):
      self.given = pictures
      return pictures.mean((1, 2))

  extractor = Extractor()
  pictures = np.linspace(-0.5, 1.5, 5, dtype=np.float32)[:, None, None, None] * np.ones(
      [1, 9, 12, channels], np.float32)
  found = KerasFeatures(extractor)(pictures)
  assert extractor.given.shape == (5, 6, 6, 3)
  np.testing.assert_allclose(found, np.outer([0, 0, 127.5, 255, 255], [1] * 3), atol=1e-3)
