import socket
import time
import urllib.request
from unittest import mock

import keras
import numpy as np
import pytest

from tf_mmvae.nets import features

SIZE, URL = 32, "https://storage.googleapis.com/"
PICTURES = np.random.default_rng(0).integers(0, 256, [3, SIZE, SIZE, 3], np.uint8)


def random_network(**kwargs):
  """A MobileNet with random weights whose batch normalisation fits them, as training makes it.

  Without that its features would vanish from layer to layer.
  """
  network = keras.applications.MobileNet(weights=None, **kwargs)
  for layer in network.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
      layer.momentum = 0.
  side = network.input_shape[1]
  rng = np.random.default_rng(0)
  network(rng.uniform(-1, 1, [8, side, side, 3]).astype(np.float32), training=True)
  return network


def random_body(size=SIZE):
  """The same without its classifier, which sees pictures of any size: 1024 features."""
  return random_network(include_top=False, pooling="avg", input_shape=(size, size, 3))


@pytest.fixture(scope="module")
def networks():
  """Random weights of a small application, without and with its classifier."""
  keras.utils.set_random_seed(0)
  return random_body(), random_network(input_shape=(SIZE, SIZE, 3))


@pytest.fixture(scope="module")
def expected(networks):
  """The features that both give, by the preprocessing that MobileNet documents: to [-1, 1]."""
  body = keras.applications.MobileNet(weights=None, include_top=False, pooling="avg",
                                      input_shape=(SIZE, SIZE, 3))
  found = []
  for network in networks:
    body.set_weights(network.get_weights()[:len(body.weights)])
    found.append(body.predict_on_batch(PICTURES.astype(np.float32) / 127.5 - 1))
  assert not np.allclose(*found, atol=0.1) and np.ptp(found[0], 0).mean() > 0.1
  return found


@pytest.mark.parametrize("whole, file", [
    (False, "a.weights.h5"), (True, "a.weights.h5"), (False, "a.h5"), (True, "a.h5"),
    (False, "a.keras")])
def test_weights_of_a_file(networks, expected, tmp_path, whole, file):
  network = networks[whole]
  save = network.save_weights if "weights" in file else network.save
  save(tmp_path / file)
  before = PICTURES.copy()
  found = features.Extractor("MobileNet", file, tmp_path, SIZE)(PICTURES)
  assert found.shape == (3, 1024) and found.dtype == np.float32
  np.testing.assert_allclose(found, expected[whole], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(PICTURES, before)


def test_resnet_sees_colours_as_its_weights_expect():
  """Blue, green, red, less their means over ImageNet; 2048 features of any size."""
  extractor = features.Extractor(size=SIZE)
  with mock.patch.object(features.Extractor, "_fetched") as fetched:
    fetched.return_value.predict_on_batch = lambda seen: seen
    seen = extractor(PICTURES)
  np.testing.assert_allclose(
      seen, PICTURES[..., ::-1] - np.float32([103.939, 116.779, 123.68]), atol=1e-3)
  assert extractor._module.ResNet101(
      weights=None, include_top=False, pooling="avg").output_shape == (None, 2048)


def test_nothing_is_made_or_read_before_the_first_call(tmp_path):
  with mock.patch.object(features.Extractor, "_make", side_effect=AssertionError):
    features.Extractor("ResNet101", str(tmp_path / "none.h5"))


@pytest.mark.parametrize("file", ["a.h5", "a.weights.h5", "a.keras"])
def test_files_of_something_else(tmp_path, file):
  (tmp_path / file).write_bytes(b"no weights")
  with pytest.raises(ValueError, match=f"{file} holds no weights of keras.applications.MobileNet:"):
    features.Extractor("MobileNet", str(tmp_path / file), size=SIZE)(PICTURES)


def test_weights_of_another_network(networks, tmp_path):
  networks[0].save_weights(tmp_path / "a.weights.h5")
  with pytest.raises(ValueError, match="holds no weights of keras.applications.MobileNetV2: g"):
    features.Extractor("MobileNetV2", str(tmp_path / "a.weights.h5"), size=SIZE)(PICTURES)


def test_no_such_file(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"there are no weights \S+/none.h5: put there those"):
    features.Extractor("MobileNet", "none.h5", tmp_path, SIZE)(PICTURES)


@pytest.mark.parametrize("name", ["ResNet", "resnet", "keras", "", "VGG16x"])
def test_no_such_network(name):
  with pytest.raises(ValueError, match=f"keras.applications has no '{name}': give .* ResNet101, "):
    features.Extractor(name)


class Silent:
  """A host that takes connections and never answers."""

  def __enter__(self):
    self._server = socket.create_server(("127.0.0.1", 0))
    return f"http://127.0.0.1:{self._server.getsockname()[1]}/"

  def __exit__(self, *_):
    self._server.close()


@pytest.mark.parametrize("silent", [False, True])
def test_offline_the_file_is_named_within_seconds(tmp_path, monkeypatch, silent):
  """Where no name is found, and where nobody answers."""
  monkeypatch.setattr(features, "_PATIENCE", 0.2)
  monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
  fetch = urllib.request.urlretrieve
  with Silent() as host:

    def retrieve(url, *args):
      assert url.startswith(URL)
      if silent:
        return fetch(url.replace(URL, host), *args)
      raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(keras.src.utils.file_utils, "urlretrieve", retrieve)
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match="cannot fetch .*: fetch it on a machine") as error:
      features.Extractor("MobileNet", size=SIZE)(PICTURES)
  assert time.monotonic() - begin < 10
  assert "\n" not in str(error.value) and "as the Extractor's weights" in str(error.value)
  if not silent:
    assert f"{URL}tensorflow/keras-applications/mobilenet/mobilenet_1_0_224_tf_no_top.h5" in str(
        error.value)
  assert socket.getdefaulttimeout() is None
