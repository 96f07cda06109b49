import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics.latent_use import LatentUse
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

LOCS = np.random.default_rng(0).normal(size=[30, 3]) * [1.5, 0.4, 0.]
SCALES = {"a": (0.5, 1., 1.), "b": (1., 1., 1.), "c": (0.1, 2., 1.1)}


class Expert(keras.layers.Layer):
  """x [B, D] -> raw parameters of an expert at x with given scales."""

  def __init__(self, scales):
    super().__init__()
    self._raw = np.log(np.expm1(np.array(scales))).astype(np.float32)

  def call(self, x, training=False):
    return tf.concat([x, tf.zeros_like(x) + self._raw], -1)


def model(scales=SCALES, family=distributions.normal):
  return MultimodalVAE(
      [Modality(name, (len(of),), Expert(of), keras.layers.Dense(len(of)),
                distributions.normal_likelihood, family) for name, of in scales.items()],
      Prior(len(next(iter(scales.values()))), family))


def examples(locs, names=SCALES, has=None, **labels):
  locs = tf.constant(locs, tf.float32)

  def read(i):
    mask = {name: tf.gather(tf.constant(here), i) for name, here in (has or {}).items()}
    y = {name: tf.gather(tf.constant(value), i) for name, value in labels.items()}
    return {name: tf.where(mask[name][:, None], tf.gather(locs, i), float("nan"))
            if name in mask else tf.gather(locs, i) for name in names}, y, mask

  return Examples("stub", len(locs), read)


def by_formula(scales, locs=LOCS):
  """KL(N(loc, scale) || N(0, 1)) of each example and dimension, [N, D]."""
  scales = np.array(scales)
  return (scales**2 + locs**2 - 1) / 2 - np.log(scales)


def close(found, expected):
  assert found[2] == expected[2]
  np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-4, atol=1e-5)


def test_kl_against_the_formula():
  found = LatentUse(batch_size=7)(model(), examples(LOCS)).figures
  for name, scales in SCALES.items():
    kl = by_formula(scales)
    close(found[f"{name}/kl"], mean_and_error(kl.sum(1)))
    for d in range(3):
      close(found[f"{name}/kl/{d}"], mean_and_error(kl[:, d]))
    assert found[f"{name}/active_dimensions"] == (np.sum(kl.mean(0) > 0.01), 0., 30)
  assert len(found) == 3 * 5


def test_laplace_experts():
  """KL(Laplace(m, b) || Laplace(0, 1)) = |m| + b exp(-|m| / b) - log b - 1."""
  scales, m = np.array(SCALES["a"]), np.abs(LOCS)
  found = LatentUse()(model(family=distributions.laplace), examples(LOCS)).figures
  kl = m + scales * np.exp(-m / scales) - np.log(scales) - 1
  for d in range(3):
    close(found[f"a/kl/{d}"], mean_and_error(kl[:, d]))


def test_collapsed_experts_use_nothing():
  found = LatentUse()(model({"a": (1., 1.)}), examples(np.zeros([5, 2]), "a"))
  np.testing.assert_allclose([v[0] for v in found.figures.values()], 0, atol=1e-5)
  assert found.figures["a/active_dimensions"][0] == 0


def test_active_is_what_is_above_a_hundredth():
  locs = np.tile(np.sqrt(2 * np.array([0.0099, 0.0101, 0.5])), [4, 1])  # KL is loc^2 / 2
  found = LatentUse()(model({"a": (1., 1., 1.)}), examples(locs, "a")).figures
  assert found["a/active_dimensions"][0] == 2


def test_the_error_of_active_dimensions():
  """Of two examples with 0.005 and 0.03 nats: 0.0175 together, and active unless the first is
  drawn twice."""
  locs = np.array([[np.sqrt(0.01)], [np.sqrt(0.06)]])  # KL is loc^2 / 2
  net = model({"a": (1.,)})
  num, error, _ = LatentUse()(net, examples(locs, "a")).figures["a/active_dimensions"]
  assert num == 1 and error == pytest.approx(np.sqrt(3 / 16), abs=0.05)
  copies = examples(np.repeat(locs, 50, 0), "a", index=np.repeat([7, 3], 50))
  _, error, num = LatentUse(groups="index")(net, copies).figures["a/active_dimensions"]
  assert num == 100 and error == pytest.approx(np.sqrt(3 / 16), abs=0.05)
  assert LatentUse()(net, copies).figures["a/active_dimensions"][1] < 0.1


def test_groups_count_by_their_size():
  """Nine of 0.005 nats and one of 0.03: below 0.01, unless the one is drawn twice."""
  locs = np.sqrt(2 * np.array([0.005] * 9 + [0.03]))[:, None]
  num, error, _ = LatentUse(groups="index")(
      model({"a": (1.,)}), examples(locs, "a", index=np.repeat([0, 1], [9, 1]))).figures[
          "a/active_dimensions"]
  assert num == 0 and error == pytest.approx(np.sqrt(3 / 16), abs=0.05)


def test_errors_are_over_groups():
  index = np.arange(30) // 4
  found = LatentUse(groups="index")(model(), examples(LOCS, index=index)).figures
  kl = by_formula(SCALES["a"])
  close(found["a/kl"], mean_and_error(kl.sum(1), index))
  close(found["a/kl/1"], mean_and_error(kl[:, 1], index))


def test_absent_modalities_are_left_out():
  here, index = np.arange(30) % 3 > 0, np.arange(30) // 4
  found = LatentUse(groups="index", batch_size=8)(model(), examples(
      LOCS, has={"a": here, "c": np.zeros(30, bool)}, index=index))
  close(found.figures["a/kl"],
        mean_and_error(by_formula(SCALES["a"])[here].sum(1), index[here]))
  assert found.figures["b/kl"][2] == 30
  assert not any(name.startswith("c/") for name in found.figures)
  assert list(found.tables[0].rows) == ["a", "b"]


def test_nothing_at_all():
  found = LatentUse()(model({"a": (1.,)}), examples(LOCS[:, :1], "a", {"a": np.zeros(30, bool)}))
  assert found.figures == {} and len(found.remarks) == 1


def test_some_examples_evenly_spread():
  found = LatentUse(num_examples=3)(model(), examples(LOCS[:9])).figures
  close(found["a/kl"], mean_and_error(by_formula(SCALES["a"])[[0, 4, 8]].sum(1)))


def test_one_example_has_no_errors():
  figures = LatentUse()(model(), examples(LOCS[:1])).figures
  close(figures["a/kl"], (by_formula(SCALES["a"])[0].sum(), float("nan"), 1))
  assert all(np.isnan(error) for _, error, _ in figures.values())


def test_table_and_picture():
  found = LatentUse()(model(), examples(LOCS))
  assert found.tables[0].rows == {n: [f"{n}/kl", f"{n}/active_dimensions"] for n in SCALES}
  (picture,) = found.pictures
  assert picture.pixels.dtype == np.uint8 and picture.pixels.min() < 100
