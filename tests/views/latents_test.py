import os
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import projector_config_pb2

from tests import oracle
from tf_mmvae import inference, joint_posteriors
from tf_mmvae.data.examples import Examples
from tf_mmvae.views import drawing, latents

tfd = tfp.distributions
NUM = 7  # examples of the exact model of modalities a and b


@pytest.fixture(scope="module")
def x(pair):
  return pair.sample(NUM)


def data(x):
  y = {"class": tf.range(NUM, dtype=tf.int32) * 10,
       "caption": tf.constant(["a\tred\nVögelchen"] * NUM), "box": tf.zeros([NUM, 4])}
  return Examples("pair", NUM, lambda i: tuple(
      {name: tf.gather(value, i) for name, value in of.items()} for of in (x, y)))


def expected_kl(pair, x, name):
  """Of the exact posterior from a standard Gaussian, averaged over the examples: [D]."""
  mean, covariance = pair.posterior({name: np.asarray(x[name], float)}, [name])
  variance = np.diag(covariance)
  return np.mean((mean**2 + variance - 1 - np.log(variance)) / 2, axis=0)


def test_kl_of_each_expert(pair, x):
  values = latents.Latents(data(x))(pair.model())
  for name in ("a", "b"):
    kl = expected_kl(pair, x, name)
    np.testing.assert_allclose(values[f"latents/kl_per_dimension/{name}"], kl, rtol=1e-4)
    np.testing.assert_allclose(values[f"latents/kl/{name}"], kl.sum(), rtol=1e-4)
    assert values[f"latents/active_dimensions/{name}"] == 2.
    picture = values[f"latents/kl_by_dimension/{name}"]
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
  assert len(values) == 8


def test_dimensions_without_information_are_not_active(pair, x):
  """A dimension of expert a that stands 0.009 nats from the prior, and one that stands 0.011."""
  model = pair.model()
  kernel, bias = model.modalities["a"].encoder.get_weights()
  bias[:2] = np.sqrt(2 * np.array([0.009, 0.011]))
  bias[2:] = np.log(np.expm1(1.))
  model.modalities["a"].encoder.set_weights([0 * kernel, bias])
  with mock.patch.object(latents, "draw_table", wraps=latents.draw_table) as draw:
    values = latents.Latents(data(x))(model)
  assert values["latents/active_dimensions/a"] == 1.
  assert values["latents/active_dimensions/b"] == 2.
  ((title, bars),) = draw.call_args_list[0].args[0].items()
  assert title == "0.02 nats, 1 of 2 active"
  np.testing.assert_allclose(bars, [[0.009, 0.011]], rtol=1e-3)


def test_examples_are_evenly_spread(pair, x):
  some = latents.Latents(data(x), num_examples=3)(pair.model())
  of_three = {name: tf.gather(value, [0, 3, 6]) for name, value in x.items()}
  np.testing.assert_allclose(
      some["latents/kl_per_dimension/b"], expected_kl(pair, of_three, "b"), rtol=1e-4)


def test_traced_once_and_follows_the_weights(pair, x):
  look, model = latents.Latents(data(x)), pair.model()
  with mock.patch.object(inference, "kl_per_dimension", wraps=inference.kl_per_dimension) as kl:
    before = look(model)["latents/kl/a"]
    model.modalities["a"].encoder.set_weights(pair._encoder_weights("a", 1., 1., True))
    assert look(model)["latents/kl/a"] > before + 0.1
  assert kl.call_count == 2  # experts


# The projector.


@pytest.fixture(scope="module")
def written(pair, x, tmp_path_factory):
  """The directory of events after two looks."""
  directory = tmp_path_factory.mktemp("run") / "events"
  look = latents.Latents(data(x))
  for _ in range(2):
    look.write(pair.model(), directory)
  return directory


def rows(path):
  with open(path, encoding="utf-8") as file:
    return [line.split("\t") for line in file.read().splitlines()]


def test_what_the_projector_finds(written):
  config = projector_config_pb2.ProjectorConfig()
  text_format.Parse((written / "projector_config.pbtxt").read_text(), config)
  (embedding,) = config.embeddings
  names = {embedding.tensor_path, embedding.metadata_path, embedding.sprite.image_path}
  assert {*names, "projector_config.pbtxt"} == set(os.listdir(written))
  assert list(embedding.sprite.single_image_dim) == [48, 48]


def test_points_are_the_experts_means(written, pair, x):
  points = np.array(rows(written / "latents.tsv"), float)
  means = [pair.posterior({name: np.asarray(x[name], float)}, [name])[0] for name in ("a", "b")]
  np.testing.assert_allclose(points, np.concatenate(means), rtol=1e-3, atol=1e-5)


def test_labels_are_the_modality_and_the_scalars_of_y(written):
  found = rows(written / "labels.tsv")
  assert found[0] == ["modality", "example", "class", "caption"]
  assert found[1:] == [
      [name, str(i), str(10 * i), "a red Vögelchen"] for name in "ab" for i in range(NUM)]


def test_thumbnails_are_in_the_order_of_the_points(written, x):
  with Image.open(written / "thumbnails.png") as picture:
    sprite = np.asarray(picture)
  assert sprite.shape == (4 * 48, 4 * 48, 3)  # 14 points
  observations = [value for name in ("a", "b") for value in x[name].numpy()]
  for i, observation in enumerate(observations):
    top, left = i // 4 * 48, i % 4 * 48
    np.testing.assert_array_equal(
        sprite[top:top + 48, left:left + 48], drawing.draw_tile(observation, 48))
  assert sprite[3 * 48:, 2 * 48:].min() == 255


def test_thumbnails_of_a_viewer(pair, x, tmp_path):
  """It sees the data of its modality, as data."""
  def view(values, given):
    assert given and np.array_equal(values, x["b"])
    return [np.full([2, 2, 3], i / NUM) for i in range(NUM)]

  latents.Latents(data(x), viewers={"b": view}).write(pair.model(), tmp_path)
  with Image.open(tmp_path / "thumbnails.png") as picture:
    sprite = np.asarray(picture)
  tiles = sprite.reshape([4, 48, 4, 48, 3]).swapaxes(1, 2).reshape([16, 48, 48, 3])
  np.testing.assert_array_equal(tiles[1], drawing.draw_tile(x["a"][1].numpy(), 48))
  for i in range(NUM):
    np.testing.assert_array_equal(
        tiles[NUM + i], drawing.draw_tile(np.full([2, 2, 3], i / NUM), 48))


def with_gaps(x, has_a):
  """As `data`, with NaN in the place of every "a" but some."""
  whole, has_a = data(x), np.array(has_a, bool)

  def read(i):
    of_x, y, _ = whole.read(i)
    here = tf.gather(has_a, i)
    return {**of_x, "a": tf.where(here[:, None], of_x["a"], float("nan"))}, y, {"a": here}

  return Examples("gaps", NUM, read)


def test_absent_observations_are_not_counted(pair, x, tmp_path):
  has_a = [1, 0, 0, 1, 1, 0, 0]
  look, model = latents.Latents(with_gaps(x, has_a)), pair.model()
  values = look(model)
  of_a = {name: tf.gather(value, [0, 3, 4]) for name, value in x.items()}
  for name, of in (("a", of_a), ("b", x)):
    np.testing.assert_allclose(
        values[f"latents/kl_per_dimension/{name}"], expected_kl(pair, of, name), rtol=1e-4)
  look.write(model, tmp_path)
  expected = [["a", str(i)] for i in (0, 3, 4)] + [["b", str(i)] for i in range(NUM)]
  assert [row[:2] for row in rows(tmp_path / "labels.tsv")[1:]] == expected
  assert [row[2] for row in rows(tmp_path / "labels.tsv")[1:]] == [
      str(10 * int(i)) for _, i in expected]
  mean, _ = pair.posterior({"a": np.asarray(of_a["a"], float)}, ["a"])
  points = np.array(rows(tmp_path / "latents.tsv"), float)
  assert len(points) == 10
  np.testing.assert_allclose(points[:3], mean, rtol=1e-3, atol=1e-5)
  with Image.open(tmp_path / "thumbnails.png") as picture:
    second = np.asarray(picture)[:48, 48:96]
  np.testing.assert_array_equal(second, drawing.draw_tile(of_a["a"][1].numpy(), 48))


def test_a_modality_that_no_example_has_is_left_out(pair, x):
  values = latents.Latents(with_gaps(x, [0] * NUM))(pair.model())
  assert {name.rsplit("/")[-1] for name in values} == {"b"}


@pytest.mark.parametrize("fusion", [
    joint_posteriors.MixtureOfExperts(), joint_posteriors.ProductOfExperts(),
    joint_posteriors.MixtureOfProducts()])
def test_posteriors_of_single_modalities_by_every_fusion(fusion):
  """With the prior in the product, and private latents of others at no distance from it."""
  exact = oracle.LinearGaussian(2)
  x, model = exact.sample(NUM), exact.model(joint_posterior=fusion, prior_in_experts=False)
  shown = latents.Latents(data(x))(model)["latents/kl_per_dimension/a"]
  q = model.posterior({"a": x["a"]})
  expected = tfd.kl_divergence(tfd.Normal(q.mean(), q.stddev()), tfd.Normal(0., 1.))
  np.testing.assert_allclose(shown, np.mean(expected, 0), rtol=1e-4)
  if fusion == joint_posteriors.MixtureOfExperts():
    private = oracle.LinearGaussian(2, latent_dim=3, private_dim=1)
    shown = latents.Latents(data(private.sample(NUM)))(private.model())
    np.testing.assert_allclose(shown["latents/kl_per_dimension/a"][2], 0., atol=1e-5)
    assert shown["latents/active_dimensions/a"] == 2
