"""Correlation of pairs that are known: perfect and useless models, and its parts by other means."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.cross_decomposition import CCA

from tests.small import Copy, Say
from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics import correlation
from tf_mmvae.metrics.correlation import Correlation, Directions, Whitened
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

COLOURS, THINGS = ["red", "green", "blue", "black"], ["bird", "fish", "tree", "house"]
NUM = 60


class Sentences:
  """A stub tokenizer of rows (colour, thing)."""

  def decode(self, values):
    colour, thing = tf.unstack(tf.cast(tf.round(values), tf.int32) % 4, axis=1)
    return tf.strings.join(["a", tf.gather(COLOURS, colour), tf.gather(THINGS, thing)], " ")


class Pairs:
  """A source of the latents of true pairs."""

  def sample(self, model, num, seed):
    return latents(num, 9 + seed)


def latents(num, seed=0):
  return np.random.default_rng(seed).integers(0, 4, [num, 2]).astype(np.float32)


def features(pictures):
  """What tells colour and thing, and something constant."""
  rows = np.round(pictures).astype(int) % 4
  return np.concatenate([np.eye(4)[rows[:, 0]], np.eye(4)[rows[:, 1]], np.ones([len(rows), 1])], 1)


def model(useless=()):
  return MultimodalVAE(
      [Modality(name, (2,), Copy(), Say(name in useless), distributions.normal_likelihood,
                distributions.normal) for name in ("image", "sentence")], Prior(2))


def examples(num=NUM, seed=0, has=None, copies=1):
  rows = tf.constant(np.repeat(latents(num, seed), copies, 0))
  has = {name: tf.constant(np.array(here, bool)) for name, here in (has or {}).items()}
  return Examples("pairs", num * copies, lambda i: (
      {name: tf.gather(rows, i) for name in ("image", "sentence")}, {"index": i // copies},
      {name: tf.gather(here, i) for name, here in has.items()}))


def metric(**settings):
  return Correlation(**{
      "picture": "image", "sentence": "sentence", "train_data": examples(200, 1),
      "features": features, "tokenizers": {"sentence": Sentences()}, "sources": {"good": Pairs()},
      "num_samples": 50, "num_components": 4, "num_seeds": 2, "embedding_dim": 12,
      "num_epochs": 2, **settings})


@pytest.fixture(scope="module")
def perfect():
  return metric()(model(), examples())


def test_a_perfect_model(perfect):
  found = perfect.figures
  assert found["true/correlation"][0] > 0.9 and found["true/ratio"] == (1., 0., NUM)
  for pair in ("image_to_sentence", "sentence_to_image"):
    np.testing.assert_allclose(found[f"{pair}/correlation"], found["true/correlation"], rtol=1e-4)
    np.testing.assert_allclose(found[f"{pair}/ratio"][:2], (1, 0), atol=1e-4)
  assert abs(found["good/correlation"][0] - found["true/correlation"][0]) < 0.05
  assert found["good/correlation"][2] == 50
  value, error, _ = found["chance/correlation"]
  assert abs(value) < 4 * error < 0.5


def test_a_useless_model_is_as_good_as_chance():
  found = metric(num_examples=200)(model(("image", "sentence")), examples(300, 2)).figures
  for pair in ("image_to_sentence", "sentence_to_image"):
    value, error, num = found[f"{pair}/correlation"]
    assert abs(value - found["chance/correlation"][0]) < 0.15 and num == 200
    assert found[f"{pair}/ratio"][0] < 0.2
    assert 0 < found[f"{pair}/ratio"][1] < 0.2 and error < 0.1
  # Both say the same, which is a true pair.
  assert found["good/correlation"][0] > 0.8


def test_translations_are_told_apart():
  found = metric(num_seeds=1)(model(("image",)), examples()).figures
  assert found["image_to_sentence/correlation"][0] > 0.9
  assert found["sentence_to_image/correlation"][0] < 0.3


def test_two_runs_are_equal(perfect):
  again = metric()(model(), examples()).figures
  for name, figure in perfect.figures.items():
    np.testing.assert_array_equal(again[name], figure)


def test_it_does_not_depend_on_the_size_of_batches(perfect):
  found = metric(batch_size=7)(model(), examples()).figures
  for name, figure in perfect.figures.items():
    np.testing.assert_allclose(found[name], figure, rtol=1e-5, atol=1e-9)


def test_word_vectors_follow_the_seed_alone():
  corpus = [["a", "red", "bird"], ["a", "green", "fish"]] * 20
  words = ["a", "red", "bird", "reddish"]  # the last was never seen
  one, same, other = (correlation.word_vectors(corpus, words, seed, vector_size=6, epochs=2)
                      for seed in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert one.shape == (4, 6) and np.max(np.abs(one - other)) > 1e-3
  rare = correlation.word_vectors([["red"]], ["red"], 0, min_count=3, vector_size=6, epochs=1)
  assert rare.shape == (1, 6) and np.all(np.isfinite(rare))


def test_weights_and_first_component_by_a_loop():
  """SIF: a / (a + p) of each word, their mean, less the projection on the main direction."""
  corpus = [["a", "red", "bird"], ["a", "bird"], ["red", "red", "tree"]]
  words, texts = ["a", "bird", "new", "red", "tree"], [b"a red red bird", "tree", "", "new a"]
  vectors = np.random.default_rng(0).normal(size=[5, 3])
  counts, means = {"a": 2, "red": 3, "bird": 2, "tree": 1, "new": 0}, []
  for said in (["a", "red", "red", "bird"], ["tree"], [], ["new", "a"]):
    total = np.zeros(3)
    for word in said:
      total += 0.001 / (0.001 + counts[word] / 8) * vectors[words.index(word)]
    means.append(total / max(len(said), 1))
  weights = correlation.word_weights(corpus, words)
  found = correlation.bags_of_words(texts, words, weights) @ vectors
  np.testing.assert_allclose(found, means)
  component = correlation.first_component(found)
  expected = np.linalg.svd(np.array(means))[2][0]
  np.testing.assert_allclose(np.abs(component @ expected), 1)
  np.testing.assert_allclose(np.linalg.norm(component), 1)
  bags = correlation.bags_of_words(texts, words, weights)
  np.testing.assert_allclose(
      bags @ correlation.without_component(vectors, bags),
      [mean - (mean @ expected) * expected for mean in means], atol=1e-12)


def test_the_component_is_removed_before_directions_are_sought(monkeypatch):
  """What stands in every sentence, the word "a", is all but gone from the embeddings."""
  made, really = [], correlation.Whitened
  monkeypatch.setattr(correlation, "Whitened", lambda *args: made.append(args[0]) or really(*args))
  metric(num_seeds=1)(model(), examples(2))
  sentences = made[1]
  largest = np.linalg.svd(sentences, compute_uv=False)
  assert sentences.shape == (200, 12) and largest[-1] < 1e-6 * largest[0]


def correlated(num=300, seed=0):
  rng = np.random.default_rng(seed)
  shared = rng.normal(size=[num, 2])
  a = np.concatenate([shared, rng.normal(size=[num, 2])], 1) @ rng.normal(size=[4, 4]) + 3
  b = np.concatenate([shared * [1, 2] + rng.normal(size=[num, 2]), rng.normal(size=[num, 1])], 1)
  return a, b @ rng.normal(size=[3, 3]) - 5


def test_directions_are_those_of_another_library():
  a, b = correlated()
  library = CCA(2, max_iter=10000, tol=1e-12).fit(a, b)
  expected = [np.corrcoef(*columns)[0, 1] for columns in zip(
      *(scores.T for scores in library.transform(a, b)), strict=True)]
  directions = Directions(Whitened(a, 0.), Whitened(b, 0.), 2)
  np.testing.assert_allclose(directions.correlations[:2], expected, rtol=1e-5)
  new_a, new_b = correlated(50, 1)
  for found, theirs in zip(directions.project(new_a, new_b), library.transform(new_a, new_b),
                           strict=True):
    for mine, other in zip(found.T, theirs.T, strict=True):
      np.testing.assert_allclose(np.abs(np.corrcoef(mine, other)[0, 1]), 1, rtol=1e-5)
  projected = directions.project(a, b)
  for values in projected:  # centred and of unit variance
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(values.T @ values / len(values), np.eye(2), atol=1e-9)
  cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(
      *projected, strict=True)]
  np.testing.assert_allclose(directions.cosines(a, b), cosines)


def test_a_ridge_shrinks_what_has_little_variance():
  """Of variances 4 and 0.04 with a ridge of 0.5 times their mean, by the formula."""
  values = np.array([[2., 0.2], [2, -0.2], [-2, 0.2], [-2, -0.2]])
  whitened = Whitened(values, 0.5)
  found = np.sort(np.var(whitened.values, axis=0))
  np.testing.assert_allclose(found, [0.04 / 1.05, 4 / 5.01])
  assert correlation.RIDGE > 0
  np.testing.assert_allclose(Whitened(values).values, Whitened(values, correlation.RIDGE).values)


def test_fewer_directions_than_asked(perfect):
  assert not perfect.remarks
  found = metric(num_components=40, num_seeds=1)(model(), examples())
  (remark,) = found.remarks
  assert "There are 6 canonical directions, not 40" in remark  # 4 + 4 kinds less 2 sums, 1 constant
  few = Directions(Whitened(*[np.eye(3)]), Whitened(np.eye(3)), 40)
  assert few.num == 2
  assert np.all(np.isfinite(few.cosines(np.zeros([2, 3]), np.ones([2, 3]))))


def test_features_that_tell_nothing_are_remarked():
  noise = np.random.default_rng(0)
  found = metric(features=lambda p: noise.normal(size=[len(p), 5]), num_seeds=1)(
      model(), examples())
  (remark,) = found.remarks
  assert remark.startswith("True pairs score hardly more than chance")


def test_constant_features():
  found = metric(features=lambda p: np.ones([len(p), 3]), num_seeds=1)(model(), examples(5))
  assert found.figures["true/correlation"][0] == 0 and len(found.remarks) == 2
  assert np.isnan(found.figures["good/ratio"][0])


def test_one_example():
  found = metric(num_seeds=1)(model(), examples(1)).figures
  assert "chance/correlation" not in found
  value, error, num = found["image_to_sentence/correlation"]
  assert np.isfinite(value) and np.isnan(error) and num == 1
  assert np.isnan(found["image_to_sentence/std_over_seeds"][0])


def test_training_examples_that_are_few():
  found = metric(train_data=examples(2, 1), num_seeds=1)(model(), examples(5))
  assert np.isfinite(found.figures["true/correlation"][0])
  found = metric(train_data=examples(1), num_seeds=1)(model(), examples(5))
  assert found.figures == {} and "Too few" in found.remarks[0]


def test_pairs_that_are_not_whole_are_left_out():
  gaps = {"image": [0] + [1] * 9, "sentence": [1, 0] + [1] * 8}
  train = {"image": [0, 0] + [1] * 98, "sentence": [1] * 90 + [0] * 10}
  learnt = metric(train_data=examples(100, 1, train), num_seeds=1)
  corpus, seen, texts = learnt._learnt_from()
  assert len(corpus) == len(seen) == len(texts) == 88
  found = learnt(model(), examples(10, 3, gaps)).figures
  assert {found[f"{pair}/correlation"][2] for pair in (
      "true", "image_to_sentence", "sentence_to_image", "chance")} == {8}
  assert found["true/correlation"][0] > 0.9
  nothing = {"image": [0] * 3}
  assert metric()(model(), examples(3, has=nothing)).figures == {}


def test_errors_hold_examples_in_groups_and_seeds():
  one = metric(num_seeds=1)(model(("sentence",)), examples()).figures
  copied = metric(num_seeds=1, groups="index")(model(("sentence",)), examples(copies=4)).figures
  for name in ("image_to_sentence/correlation", "image_to_sentence/ratio"):
    np.testing.assert_allclose(copied[name][:2], one[name][:2], rtol=1e-3)
  assert copied["chance/correlation"][2] < 4 * NUM  # never of one's own picture
  cosines = np.array([[0.1, 0.4, 0.2], [0.5, 0.3, 0.9]])
  value, error, num = correlation._mean(cosines, None)
  of_examples = np.std([0.3, 0.35, 0.55], ddof=1) / np.sqrt(3)
  of_seeds = np.std([0.7 / 3, 1.7 / 3], ddof=1) / np.sqrt(2)
  np.testing.assert_allclose((value, error, num), (0.4, np.hypot(of_examples, of_seeds), 3))


def test_the_ratio_of_samples_by_the_delta_method():
  rng = np.random.default_rng(0)
  cosines = {"true": rng.random([2, 30]), "good": rng.random([2, 20]) / 2}
  found = metric()._findings(cosines, np.arange(30), 4).figures
  (a, error_a, _), (b, error_b, _) = found["good/correlation"], found["true/correlation"]
  np.testing.assert_allclose(
      found["good/ratio"], (a / b, a / b * np.hypot(error_a / a, error_b / b), 20))
  # Translations go with the true pairs of the same examples: half of each is half for sure.
  paired = metric()._findings(
      {"true": cosines["true"], "a_to_b": cosines["true"] / 2}, np.arange(30), 4).figures
  np.testing.assert_allclose(paired["a_to_b/ratio"], (0.5, 0, 30), atol=1e-12)
  spread = found["good/std_over_seeds"]
  np.testing.assert_allclose(spread[0], np.std(cosines["good"].mean(1), ddof=1))
  assert spread[2] == 2


def test_tables_name_figures_that_are_there(perfect):
  (table,) = perfect.tables
  named = {name for row in table.rows.values() for name in row}
  assert named == set(perfect.figures)
  assert {len(row) for row in table.rows.values()} == {len(table.columns)}


def test_misfits_are_refused():
  metric().check(model())
  with pytest.raises(ValueError, match="no tokenizer"):
    metric(tokenizers={}).check(model())
  with pytest.raises(ValueError, match="modalities are"):
    metric(picture="photo").check(model())
