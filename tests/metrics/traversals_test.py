import re
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests import oracle
from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics import traversals
from tf_mmvae.metrics.traversals import Traversals
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior
from tf_mmvae.nets import sentences

# What decoders see of each dimension: 0 moves a, 1 moves b, 2 both, 3 neither.
SEEN = {"a": [2., 0., 1., 0.], "b": [0., 1., 1., 0.]}
X = np.random.default_rng(0).normal(size=[60, 4]).astype(np.float32)


class Copy(keras.layers.Layer):
  """x [B, D] -> raw parameters of an expert at x."""

  def call(self, x, training=False):
    return tf.concat([x, tf.zeros_like(x)], -1)


class Scaled(keras.layers.Layer):
  """z [N, D] -> z times a vector."""

  def __init__(self, factors):
    super().__init__()
    self._factors = np.array(factors, np.float32)

  def call(self, z, training=False):
    return z * self._factors


def model(seen=None, likelihood=distributions.normal_likelihood, others=()):
  seen = SEEN if seen is None else seen
  return MultimodalVAE(
      [Modality(name, (len(factors),), Copy(), Scaled(factors), likelihood, distributions.normal)
       for name, factors in seen.items()] + list(others), Prior(4))


def examples(x=X, names="ab", has=None, **labels):
  def read(i):
    mask = {name: tf.gather(tf.constant(here), i) for name, here in (has or {}).items()}
    y = {name: tf.gather(tf.constant(value), i) for name, value in labels.items()}
    rows = tf.gather(tf.constant(x), i)
    return {name: tf.where(mask[name][:, None], rows, float("nan")) if name in mask else rows
            for name in names}, y, mask

  return Examples("stub", len(x), read)


def counts(found):
  return {name.removeprefix("num/"): value[0] for name, value in found.figures.items()
          if name.startswith("num/")}


@pytest.fixture(scope="module")
def found():
  return Traversals()(model(), examples())


def test_dimensions_are_labelled_by_what_they_move(found):
  assert counts(found) == {"none": 1, "a": 1, "b": 1, "a+b": 1}
  assert list(found.tables[1].rows) == ["0: a", "1: b", "2: a+b", "3: none"]
  for name in counts(found):
    _, error, num = found.figures[f"num/{name}"]
    assert error < 0.2 and num == 30


def test_effects_are_shares_of_the_change_by_all_dimensions(found):
  """Of linear decoders, w_d^2 Var(z_d) / sum_d w_d^2 Var(z_d)."""
  for name, factors in SEEN.items():
    squares = np.square(factors) * 1.
    for d in range(4):
      share, error, num = found.figures[f"effect/{name}/{d}"]
      assert num == 30 and abs(share - squares[d] / squares.sum()) <= 4 * error
      assert (share == 0) == (factors[d] == 0)
    np.testing.assert_allclose(
        sum(found.figures[f"effect/{name}/{d}"][0] for d in range(4)), 1, rtol=1e-5)


@pytest.mark.parametrize("likelihood, by_formula", [
    (distributions.normal_likelihood, lambda change: change**2 / 2),
    (distributions.laplace_likelihood,
     lambda change: np.abs(change) / 0.75 + np.exp(-np.abs(change) / 0.75) - 1)])
def test_changes_against_the_formula(likelihood, by_formula):
  """One pair has no errors, and so nothing is said to move."""
  found = Traversals()(model(likelihood=likelihood), examples(X[:2]))
  for name, factors in SEEN.items():
    nats = by_formula(np.array(factors) * (X[1] - X[0]))
    value, error, num = found.figures[f"change/{name}"]
    assert value == pytest.approx(nats.sum(), rel=1e-5) and np.isnan(error) and num == 1
    for d in range(4):
      assert found.figures[f"effect/{name}/{d}"][0] == pytest.approx(
          nats[d] / nats.sum(), rel=1e-4, abs=1e-7)
  assert counts(found) == {"none": 4, "a": 0, "b": 0, "a+b": 0}
  assert all(np.isnan(error) for _, error, _ in found.figures.values())


def test_the_divergence_of_words_is_from_the_first_example():
  """Against all sentences there are; KL(even || peaked) is far from KL(peaked || even)."""
  keras.utils.set_random_seed(1)
  decoder = sentences.PositionwiseDecoder(4, length=2, units=8)
  z = tf.constant([[[0., 0., 0.]], [[50., -90., 90.]]])
  p, q = (distributions.sentence_likelihood(decoder, values) for values in (z[0], z))
  every = tf.constant([[1, 0], [2, 1], [3, 1], [2, 2], [2, 3], [3, 2], [3, 3]])[:, None]
  log_p, log_q = p.log_prob(every)[:, None], tf.stack([q.log_prob(words) for words in every])
  terms = (log_p - log_q).numpy()  # [7, 2, 1]
  np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_p)), 1, rtol=1e-5)
  exact, back = np.sum(np.exp(log_p) * terms, 0), np.sum(-np.exp(log_q) * terms, 0)
  tolerance = 4 * np.sqrt(np.sum(np.exp(log_p) * terms**2, 0) - exact**2) / np.sqrt(100) + 1e-6
  sampled = traversals._divergence(p, q, 100, seed=[3, 4]).numpy()
  assert exact[0] == 0 and back[1] < exact[1] - tolerance[1] and sampled.shape == (2, 1)
  assert np.all(np.abs(sampled - exact) <= tolerance)


class Words(sentences.Positionwise):
  """Says "low" or "high" of dimension 1, and as likely as it is far from 0."""

  length = 2

  def call(self, z, words=None, at=None, training=False):
    del words, training
    logits = tf.stack([0 * z[..., 1], 0 * z[..., 1], -z[..., 1], z[..., 1]], -1)
    end = tf.constant([0., 9., 0., 0.]) + 0 * logits
    rows = tf.stack([3 * logits - tf.constant([0., 20., 0., 0.]), end], -2)
    return sentences.rows_at(tf.reshape(rows, [-1, *rows.shape[-2:]]), at, keras.ops.shape(z)[:-1])


class Tokenizer:
  def decode(self, words):
    return tf.gather(["", "", "low", "high"], words[:, 0])


class Reader(Copy):
  """Word ids [B, 2] -> an expert at 0."""

  def call(self, x, training=False):
    return super().call(tf.zeros([tf.shape(x)[0], 4]))


def with_words():
  said = Modality("words", (2,), Reader(), Words(), distributions.sentence_likelihood,
                  distributions.normal, dtype="int32")
  data = examples(np.random.default_rng(1).normal(size=[300, 4]).astype(np.float32), "a")

  def read(i):
    x, y, mask = data.read(i)
    return {**x, "words": tf.fill([tf.shape(i)[0], 2], 1)}, y, mask

  return model({"a": SEEN["a"]}, others=[said]), Examples("words", 300, read)


def test_words_are_sampled_and_labelled():
  net, data = with_words()
  strips = []
  with mock.patch.object(traversals, "draw_words", lambda text, *_: strips.append(text)):
    found = Traversals({"words": Tokenizer()}, num_samples=8)(net, data)
  assert counts(found) == {"none": 1, "a": 2, "words": 1, "a+words": 0}
  assert found.figures["effect/words/1"][0] == pytest.approx(1., abs=1e-4)
  assert found.figures["change/words"][0] > 0
  said = {text for text in strips if text and text[0] == "1"}
  assert any(re.fullmatch(r"1\. (low|high)\n[2-5]\. (low|high)", text) for text in said)
  assert "1. low" in said or "1. high" in said  # where another dimension moves


def test_words_are_shown_where_they_change():
  with mock.patch.object(traversals, "draw_words", lambda text, *_: text):
    assert traversals._strip(["red", "blue", "blue", "red"]) == "1. red\n2. blue\n4. red"


def test_private_latents_move_their_modality_alone():
  """Also though each expert leaves the other's private dimension where the prior has it."""
  exact = oracle.LinearGaussian(2, latent_dim=3, private_dim=1)
  x = exact.sample(200)
  data = Examples("exact", 200, lambda i: ({name: tf.gather(v, i) for name, v in x.items()}, {}))
  found = Traversals()(exact.model(), data)
  assert counts(found) == {"none": 0, "a": 1, "b": 1, "a+b": 1}
  assert set(found.tables[1].rows) == {"0: a+b", "1: a", "2: b"}
  for name in "ab":  # columns of the weights are orthogonal: changes add up
    assert sum(found.figures[f"effect/{name}/{d}"][0] for d in range(3)) == pytest.approx(1, 1e-4)


def test_decoders_that_ignore_z():
  found = Traversals()(model({"a": [0.] * 4, "b": [1.] * 4}), examples())
  assert counts(found) == {"none": 0, "a": 0, "b": 4, "a+b": 0}
  assert found.figures["change/a"][0] == 0 and np.isnan(found.figures["effect/a/0"][0])
  assert found.remarks == ("What is decoded of a does not depend on z.",)


@pytest.mark.parametrize("threshold, num", [(0.008, 0.), (0.025, 1.)])
def test_effects_below_the_threshold_do_not_count(threshold, num):
  """Of a share of about 0.25 / 16.25 = 0.015."""
  seen = {"a": [4., 0.5, 0., 0.], "b": [1.] * 4}
  found = Traversals(threshold=threshold)(model(seen), examples(np.sign(X)))
  assert counts(found)["b"] == 2 + num
  assert 0.008 < found.figures["effect/a/1"][0] < 0.025


def test_the_default_threshold_is_a_hundredth():
  changes = np.ones([50, 1, 3]) * [0.0099, 0.0101, 1.]
  threshold = Traversals()._threshold
  np.testing.assert_array_equal(traversals._moves(changes, threshold), [[False, True]])


def test_changes_must_be_significant():
  """The mean is 1 and its standard error 1 / 2.9 or 1 / 3.1 of it."""
  values = np.random.default_rng(0).normal(size=[40, 2])
  values = (values - values.mean(0)) / values.std(0, ddof=1) * np.sqrt(40) / [2.9, 3.1] + 1
  changes = np.concatenate([values, np.full([40, 1], 10.)], 1)[:, None]
  np.testing.assert_array_equal(traversals._moves(changes, 0.05), [[False, True]])


def test_the_error_of_a_share_is_its_spread():
  """Against the standard deviation over many sets of pairs."""
  rng = np.random.default_rng(0)
  shares, errors = [], []
  for _ in range(3000):
    whole = rng.gamma(2., size=60)
    share, error, num = traversals._share_and_error(whole * rng.uniform(0, 0.6, 60), whole)
    shares.append(share)
    errors.append(error)
  assert np.mean(shares) == pytest.approx(0.3, rel=0.01) and num == 60
  assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.05)


def test_the_error_of_a_number_is_its_spread():
  """A dimension at the threshold moves in half of all sets of pairs."""
  rng = np.random.default_rng(1)
  changes = rng.normal([0.1, 0.9, 1.], [0.02, 0.01, 0.], size=[300, 1, 3])
  changes[:, 0, 0] += 0.1 - changes[:, 0, 0].mean()
  moved = traversals._moves(changes, 0.1 - 1e-9)
  figures = Traversals(threshold=0.1 - 1e-9)._counts(["a"], moved, changes)
  assert figures["num/a"][0] == 2 and figures["num/a"][2] == 300
  for name in ("a", "none"):
    assert figures[f"num/{name}"][1] == pytest.approx(0.5, abs=0.02)


def test_one_example_makes_no_pair():
  found = Traversals()(model(), examples(X[:1]))
  assert found.figures == {} and len(found.remarks) == 1


def test_groups_are_one_example_each():
  """Of copies in three groups there is one pair, and it is of two groups."""
  x = np.repeat(X[:3], 20, 0)
  found = Traversals(groups="index")(model(), examples(x, index=np.repeat([4, 2, 9], 20)))
  assert found.figures["change/a"][0] > 0.01 and found.figures["change/a"][2] == 1


def test_no_example_is_in_two_pairs():
  """Ones at different places change two dimensions each: 20 pairs of 40 examples."""
  seen = {"a": [1.] * 40}
  net = MultimodalVAE([Modality("a", (40,), Copy(), Scaled(seen["a"]),
                                distributions.normal_likelihood, distributions.normal)], Prior(40))
  found = Traversals(num_drawn=1)(net, examples(np.eye(40, dtype=np.float32), "a"))
  assert found.figures["change/a"] == pytest.approx((1., 0., 20))
  shares = [found.figures[f"effect/a/{d}"][0] for d in range(40)]
  np.testing.assert_allclose(shares, 1 / 40, rtol=1e-5)


def test_some_pairs_of_many():
  found = Traversals(num_pairs=5)(model(), examples())
  assert found.figures["change/a"][2] == 5
  other = Traversals(num_pairs=5, seed=1)(model(), examples())
  assert other.figures["change/a"][0] != found.figures["change/a"][0]


def test_examples_are_encoded_by_what_they_have():
  """Zeros where a is absent would be encoded at 0 and so change nothing."""
  has = {"a": np.zeros(60, bool)}
  found = Traversals()(model(), examples(has=has))
  assert found.figures["change/b"][0] > 0.1
  assert [picture.about.count("encoded by b") for picture in found.pictures] == [1]
  neither = {"a": np.arange(2) == 0, "b": np.arange(2) == 1}
  assert Traversals()(model(), examples(X[:2], has=neither)).figures == {}


def test_modalities_encode_in_turn():
  """a encodes half of the pairs at its place and b half at 0, where nothing changes."""
  net = model()
  net.modalities["b"].encoder = Reader()
  found = Traversals()(net, examples())
  whole = Traversals()(model(), examples())
  ratio = found.figures["change/a"][0] / whole.figures["change/a"][0]
  assert 0.3 < ratio < 0.7


def drawn(found_by, net, data):
  """Calls of draw_table, with strips as arrays."""
  tables = []
  with mock.patch.object(traversals, "draw_strip", lambda cells, size: np.stack(cells)), \
       mock.patch.object(traversals, "draw_words", lambda text, *_: text), \
       mock.patch.object(traversals, "draw_table",
                         lambda columns: tables.append(columns) or np.zeros([1, 1, 3], np.uint8)):
    found = found_by(net, data)
  return found, tables


def test_pictures_move_one_dimension_at_a_time():
  found, tables = drawn(Traversals(num_steps=4), model({"a": [1.] * 4, "b": [1., 2., 0., 0.]}),
                        examples(X[:2]))
  assert len(found.pictures) == len(tables) == 1
  said, a, b = tables[0].values()
  assert list(tables[0]) == ["moved", "a", "b"] and said[0] == "all dimensions"
  ends = {tuple(a[0][0].round(5)), tuple(a[0][-1].round(5))}
  assert ends == {tuple(x.round(5)) for x in X[:2]}
  assert len(said) == 5 and len(a) == len(b) == 5
  for text, of_a, of_b in zip(said[1:], a[1:], b[1:], strict=True):
    d = int(text.splitlines()[0].removeprefix("dimension "))
    expected = np.tile(a[0][0], [4, 1])
    expected[:, d] = np.linspace(a[0][0, d], a[0][-1, d], 4)
    np.testing.assert_allclose(of_a, expected, atol=1e-5)
    np.testing.assert_allclose(of_b, expected * [1, 2, 0, 0], atol=1e-5)


def test_pictures_show_the_strongest_of_each_set():
  """Effects are about 0.8 and 0.2 on a, 0.64 and 0.36 on b: the sets come in turn."""
  seen = {"a": [2., 1., 0., 0.], "b": [0., 0., 2., 1.5]}
  two, _ = drawn(Traversals(num_dimensions=2), model(seen), examples())
  assert list(two.tables[1].rows) == ["0: a", "2: b"]
  found, tables = drawn(Traversals(num_dimensions=3), model(seen), examples())
  assert [text.splitlines()[:2] for text in tables[0]["moved"][1:]] == [
      ["dimension 0", "moves a"], ["dimension 1", "moves a"], ["dimension 2", "moves b"]]
  share, error, _ = found.figures["effect/a/0"]
  assert f"a: {100 * share:.1f} ± {100 * error:.1f} %" in tables[0]["moved"][1]
  assert list(found.tables[1].rows) == ["0: a", "1: a", "2: b"]
  assert found.tables[1].rows["0: a"] == ["effect/a/0", "effect/b/0"]


def test_pairs_are_drawn_in_which_dimensions_change():
  """Of pairs at random places one is of two very different examples."""
  x = np.concatenate([X[:30] * 0.01, X[30:] * 0 + np.array([3., 3., 3., 3.], np.float32)])
  _, tables = drawn(Traversals(), model(), examples(x))
  assert len(tables) == 2  # encoded by a, and by b
  for table in tables:
    assert np.abs(table["a"][0][-1] - table["a"][0][0]).max() > 2.9 * 2
  _, tables = drawn(Traversals(num_drawn=3), model(), examples(x))
  assert len(tables) == 3


def test_pictures_are_drawn(found):
  assert len(found.pictures) == 2
  for picture in found.pictures:
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape[0] > 4 * 72
    assert Image.fromarray(picture.pixels).width > 2 * 5 * 72
    assert "30 pairs" in picture.about


def test_tables_show_figures(found):
  number, strongest = found.tables
  assert {name: row[0] for name, row in number.rows.items()} == {
      name: f"num/{name}" for name in counts(found)}
  assert strongest.columns == ["a", "b"] and strongest.unit == "%"
  for table in found.tables:
    assert {figure for row in table.rows.values() for figure in row} <= set(found.figures)


@pytest.mark.parametrize("names", ["a", "abcde"])
def test_other_numbers_of_modalities(names):
  """Dimension 0 moves all, 1 the first and last, 2 the second; 3 none."""
  seen = {name: [1., float(name in "ae"), float(name == "b"), 0.] for name in names}
  found = Traversals(num_drawn=1)(model(seen), examples(names=names))
  if names == "a":
    assert counts(found) == {"none": 2, "a": 2}
  else:
    assert counts(found) == {"none": 1, "a": 0, "b": 1, "c": 0, "d": 0, "e": 0, "a+e": 1,
                             "a+b+c+d+e": 1}


def test_models_are_traced_once():
  net, traced = model(), []
  likelihood = net.likelihood
  net.likelihood = lambda name, z, *args: traced.append(name) or likelihood(name, z, *args)
  with mock.patch.object(traversals, "_NUM_DECODED", 20):  # 4 pairs at once
    again = Traversals()(net, examples())
  assert len(traced) == 2 * 2 + 2  # of the change, two distributions; of the pictures, one
  whole = Traversals()(model(), examples())
  for name, value in whole.figures.items():
    assert again.figures[name] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("settings", [{"tokenizers": {"c": Tokenizer()}}, {"viewers": {"c": len}}])
def test_a_misfit_is_refused(settings):
  with pytest.raises(ValueError, match="Traversals.*'c'"):
    Traversals(**settings).check(model())
  Traversals({"a": Tokenizer()}, {"b": len}).check(model())
