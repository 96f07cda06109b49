import statistics

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics.probes import Probe
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

CLASSES = np.random.default_rng(0).choice(3, 600, p=[0.5, 0.3, 0.2])
CENTRES = 6 * np.eye(3, 2)  # of the classes, linearly separable
NARROW = -15.  # raw scale


class Copy(keras.layers.Layer):
  """x [B, D] -> raw parameters of an expert at x, or at 0, of one raw scale."""

  def __init__(self, raw_scale, collapsed=False):
    super().__init__()
    self._raw_scale, self._collapsed = raw_scale, collapsed

  def call(self, x, training=False):
    x = tf.zeros_like(x) if self._collapsed else x
    return tf.concat([x, tf.fill(tf.shape(x), self._raw_scale)], -1)


def raw(scale):
  return float(np.log(np.expm1(scale)))


def model(encoders, dim=2):
  """encoders: {modality: `Copy`}."""
  return MultimodalVAE(
      [Modality(name, (dim,), encoder, keras.layers.Dense(dim), distributions.normal_likelihood,
                distributions.normal) for name, encoder in encoders.items()], Prior(dim))


def precise(names="ab"):
  return model({name: Copy(NARROW) for name in names})


def examples(classes, x=None, names="ab", has=None, **labels):
  """Each modality at the centre of its class; `has` is {modality: bool [N]}."""
  x = tf.constant(CENTRES[classes] if x is None else x, tf.float32)
  y = {name: tf.constant(value) for name, value in {"class": classes, **labels}.items()}

  def read(i):
    mask = {name: tf.gather(tf.constant(here), i) for name, here in (has or {}).items()}
    labels = {name: tf.gather(value, i) for name, value in y.items()}
    return {name: tf.gather(x, i) for name in names}, labels, mask

  return Examples("stub", len(x), read)


def error_of(right):
  right = np.asarray(right, float)
  return right.std(ddof=1) / np.sqrt(len(right))


SOURCES = [f"{m}/{kind}/class" for m in ("a", "b", "joint") for kind in ("samples", "means")]


def test_perfect_latents():
  classes = CLASSES[:200]
  found = Probe(examples(CLASSES), ["class"])(precise(), examples(classes))
  assert set(found.figures) == {*SOURCES, "chance/class"} and not found.remarks
  for source in SOURCES:
    assert found.figures[source] == (1., 0., 200)
  right = classes == 0
  assert found.figures["chance/class"] == pytest.approx((right.mean(), error_of(right), 200))


def test_table():
  found = Probe(examples(CLASSES, other=CLASSES % 2), ["class", "other"])(
      precise(), examples(CLASSES, other=CLASSES % 2))
  (table,) = found.tables
  assert table.columns == ["class", "other"] and table.unit == "%"
  assert list(table.rows) == [s.removesuffix("/class") for s in SOURCES] + ["chance"]
  for name, row in table.rows.items():
    assert row == [f"{name}/class", f"{name}/other"]
  assert {figure for row in table.rows.values() for figure in row} == set(found.figures)


def signs(num, seed):
  """Two classes at -1 and 1 of the first dimension."""
  classes = np.random.default_rng(seed).integers(0, 2, num)
  return examples(classes, np.stack([2. * classes - 1, np.zeros(num)], -1))


def test_samples_and_means():
  """An expert of width 1 names Phi(1) of its samples right, a collapsed one half."""
  net = model({"a": Copy(raw(1.)), "b": Copy(raw(1.), collapsed=True)})
  figures = Probe(signs(4000, 0), ["class"])(net, signs(4000, 1)).figures
  of_width = statistics.NormalDist().cdf(1.)
  for source, share in {"a/samples": of_width, "b/samples": 0.5, "a/means": 1., "b/means": 0.5,
                        "joint/samples": (of_width + 0.5) / 2, "joint/means": 1.}.items():
    found, error, num = figures[f"{source}/class"]
    assert abs(found - share) <= 0.03, source  # 4 standard errors of 0.5 / sqrt(4000)
    assert error == pytest.approx(np.sqrt(found * (1 - found) / 3999), abs=1e-9) and num == 4000


def test_useless_latents_are_at_chance():
  """Labels that x does not tell."""
  rng = np.random.default_rng(2)
  data = [examples(rng.integers(0, 4, 2000), rng.normal(size=[2000, 2])) for _ in range(2)]
  figures = Probe(data[0], ["class"])(precise(), data[1]).figures
  for source in SOURCES:
    assert abs(figures[source][0] - 0.25) < 0.04  # 4 standard errors of 0.43 / sqrt(2000)


def test_training_and_test_data_have_noise_of_their_own():
  """With as many dimensions as examples a probe learns their noise by heart, and no more."""
  classes = np.random.default_rng(3).integers(0, 2, 100)
  data = examples(classes, np.zeros([100, 100]), names="a")
  net = model({"a": Copy(raw(1.), collapsed=True)}, dim=100)
  share = Probe(data, ["class"])(net, data).figures["a/samples/class"][0]
  assert abs(share - 0.5) < 0.2  # 4 standard errors


def test_probes_are_fitted_to_training_data():
  swapped = examples(1 - CLASSES % 2, CENTRES[CLASSES % 2])
  figures = Probe(examples(CLASSES % 2), ["class"])(precise(), swapped).figures
  assert {figures[source][0] for source in SOURCES} == {0.}


def test_chance_names_the_class_that_is_most_frequent_in_training():
  train = examples(np.array([0, 1, 1, 2, 1]))
  test = examples(np.array([0, 0, 0, 1]))
  assert Probe(train, ["class"])(precise(), test).figures["chance/class"][0] == 0.25


def test_some_examples_evenly_spread():
  """Classes turn wrong in the middle of the training data, where three examples do not look."""
  train = examples(np.array([0, 1, 1, 1, 0, 2, 2, 2, 2]), CENTRES[[0, 0, 0, 0, 0, 0, 0, 0, 2]])
  test = examples(np.array([0, 1, 1, 1, 2]))
  figures = Probe(train, ["class"], num_train=3, num_test=2)(precise(), test).figures
  assert figures["a/means/class"] == (1., 0., 2)


def test_latents_are_standardised():
  """A thousandth of the perfect latents is as good: no penalty looks at their scale."""
  data = examples(CLASSES[:100], CENTRES[CLASSES[:100]] / 1000)
  assert Probe(data, ["class"])(precise(), data).figures["a/means/class"] == (1., 0., 100)


def test_classes_that_training_does_not_know_are_wrong():
  found = Probe(examples(np.array([0, 1] * 20)), ["class"])(
      precise(), examples(np.array([0, 1, 2, 0])))
  assert {found.figures[source] for source in SOURCES} == {found.figures["a/means/class"]}
  assert found.figures["a/means/class"] == pytest.approx((0.75, error_of([1, 1, 0, 1]), 4))
  (remark,) = found.remarks
  assert "1 of 4" in remark and "'class'" in remark


def test_disjoint_classes_have_no_accuracy():
  found = Probe(examples(np.array([0, 1] * 20)), ["class"])(precise(), examples(np.array([2, 2])))
  assert found.figures == {} and found.tables[0].rows["chance"] == [None]
  (remark,) = found.remarks
  assert "2 of 2" in remark and "no accuracy" in remark


def test_one_class_is_nothing_to_learn():
  found = Probe(examples(np.zeros(9, int)), ["class"])(precise(), examples(np.array([0, 0, 1])))
  assert list(found.figures) == ["chance/class"]
  assert sum("'class'" in remark and "fewer than two" in remark for remark in found.remarks) == 6


def test_errors_are_over_groups():
  rng = np.random.default_rng(4)
  classes, x = rng.integers(0, 2, 100), rng.normal(size=[100, 2])
  probe = Probe(examples(CLASSES % 2), ["class"], groups="index")
  single = probe(precise(), examples(classes, x, index=np.arange(100))).figures
  copies = probe(precise(), examples(
      np.repeat(classes, 4), np.repeat(x, 4, 0), index=np.arange(400) // 4)).figures
  for figure in ("a/means/class", "chance/class"):
    assert copies[figure] == pytest.approx((*single[figure][:2], 400))


def test_absent_modalities_are_left_out():
  """Of a as of b, what is absent would be at the centre of no class; the joint takes what is."""
  has = {"a": CLASSES[:60] != 2, "b": np.arange(60) % 2 == 0}
  train = examples(CLASSES[:300], has={"a": np.arange(300) % 3 > 0})
  found = Probe(train, ["class"], batch_size=16)(precise(), examples(CLASSES[:60], has=has)).figures
  any_here = np.sum(has["a"] | has["b"])
  assert 0 < any_here < 60
  for source, num in {"a": has["a"].sum(), "b": 30, "joint": any_here}.items():
    for kind in ("samples", "means"):
      assert found[f"{source}/{kind}/class"] == (1., 0., num)
  assert found["chance/class"][2] == 60


def test_groups_are_those_of_the_examples_with_the_modality():
  rng = np.random.default_rng(5)
  classes, x = rng.integers(0, 2, 80), rng.normal(size=[80, 2])
  here, index = rng.integers(0, 2, 80) > 0, np.arange(80) // 4
  probe = Probe(examples(CLASSES % 2), ["class"], groups="index")
  found = probe(precise(), examples(classes, x, has={"a": here}, index=index))
  alone = probe(precise(), examples(classes[here], x[here], index=index[here]))
  assert found.figures["a/means/class"] == pytest.approx(alone.figures["a/means/class"])
  assert found.figures["b/means/class"][2] == 80


def test_a_modality_without_an_example_has_no_figure():
  test = examples(CLASSES[:9], has={"b": np.zeros(9, bool)})
  figures = Probe(examples(CLASSES), ["class"])(precise(), test).figures
  assert not any(name.startswith("b/") for name in figures) and figures["joint/means/class"][0] == 1
  train = examples(CLASSES, has={"b": np.zeros(len(CLASSES), bool)})
  figures = Probe(train, ["class"])(precise(), examples(CLASSES[:9])).figures
  assert not any(name.startswith("b/") for name in figures) and figures["a/means/class"][0] == 1


@pytest.mark.parametrize("names", ["a", "abc"])
def test_other_numbers_of_modalities_and_one_example(names):
  found = Probe(examples(CLASSES, names=names), ["class"])(
      precise(names), examples(CLASSES[:1], names=names)).figures
  sources = list(names) + (["joint"] if len(names) > 1 else [])
  assert set(found) == {"chance/class"} | {
      f"{s}/{kind}/class" for s in sources for kind in ("samples", "means")}
  for source in sources:
    share, error, num = found[f"{source}/means/class"]
    assert (share, num) == (1., 1) and np.isnan(error)


@pytest.mark.parametrize("family", ["laplace", "laplace-normal"])
def test_the_joint_mean_is_that_of_the_mixture(pair, family):
  """The label is whether the mean of the exact means is above 0."""
  x = pair.sample(400)
  mean = np.mean([pair.posterior(x, [name])[0] for name in pair.names], axis=0)
  classes = tf.constant((mean[:, 0] > 0).astype(int))
  data = Examples("exact", 400, lambda i: (
      {name: tf.gather(v, i) for name, v in x.items()}, {"class": tf.gather(classes, i)}))
  figures = Probe(data, ["class"])(pair.model(family=family), data).figures
  assert figures["joint/means/class"][0] > 0.97
  assert max(figures[f"{m}/means/class"][0] for m in pair.names) < 0.95


def test_models_are_traced_once():
  net, traced = precise(), []
  posterior = net.posterior
  net.posterior = lambda x, *args: traced.append(tuple(x)) or posterior(x, *args)
  Probe(examples(CLASSES), ["class"], batch_size=70)(net, examples(CLASSES[:100]))
  assert traced == [("a",), ("b",), ("a", "b")]


def test_unknown_labels_are_refused():
  for labels, groups in ((["colour"], None), (["class"], "colour")):
    with pytest.raises(ValueError, match="colour.*stub.*class"):
      Probe(examples(CLASSES), labels, groups=groups)(precise(), examples(CLASSES))


