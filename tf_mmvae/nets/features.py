"""Features of pictures: what an image classifier of Keras sees before it names a class."""

import inspect
import os
import re
import socket
import warnings
from typing import Any

import keras

FETCHED = "imagenet"  # weights that Keras fetches
_PATIENCE = 5.0  # seconds without a byte


class Extractor:
  """Pictures -> the features of a network of `keras.applications`, averaged over the picture.

  The network is made at the first call, so whoever finds the features in a cache needs no weights.
  Of the EfficientNet family Keras makes another network where it fetches the weights itself.
  """

  def __init__(self, application: str = "ResNet101", weights: str | os.PathLike | None = None,
               folder: str | os.PathLike | None = None, size: int = 224):
    """Sets what is seen.

    Args:
      application: name of a network of `keras.applications`; ResNet101 has 2048 features.
      weights: a file (.h5, .weights.h5 or .keras) of the network, with or without its classifier;
        None is what Keras fetches, trained on ImageNet.
      folder: where a relative path of a file begins; None is the current directory.
      size: side of the pictures.

    Raises:
      ValueError: there is no such network.
    """
    self.application, self.size = application, size
    self.weights = FETCHED if weights in (None, FETCHED) else os.path.join(
        folder or "", os.path.expanduser(weights))
    self._module = _module_of(application)
    self._network = None

  def __call__(self, pictures: Any) -> Any:
    """Numbers in [0, 255], [N, size, size, 3] -> float32 [N, features].

    Raises:
      ConnectionError: the weights cannot be fetched.
      FileNotFoundError: there is no such file of weights.
      ValueError: the file holds no weights of this network.
    """
    if self._network is None:
      self._network = self._fetched() if self.weights == FETCHED else self._from_file()
    pictures = self._module.preprocess_input(pictures.astype("float32"))
    return self._network.predict_on_batch(pictures)

  def _make(self, weights=None, with_classifier=False):
    make = getattr(self._module, self.application)
    if with_classifier:
      return make(weights=weights)
    return make(weights=weights, include_top=False, pooling="avg",
                input_shape=(self.size, self.size, 3))

  def _fetched(self):
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)  # Keras itself would wait for minutes
    try:
      return self._make(FETCHED)
    except Exception as error:  # Keras raises that class itself
      url = re.search(r"https?://[^\s:]+", str(error))
      what = url.group() if url else f"the weights of keras.applications.{self.application}"
      raise ConnectionError(
          f"cannot fetch {what}: fetch it on a machine that can, and give the file as the "
          "Extractor's weights") from error
    finally:
      socket.setdefaulttimeout(patience)

  def _from_file(self):
    if not os.path.isfile(self.weights):
      raise FileNotFoundError(
          f"there are no weights {self.weights}: put there those of "
          f"keras.applications.{self.application}, or give another file as the "
          "Extractor's weights")
    try:
      return _load(self._make(), self.weights)
    except Exception:  # Keras tells a wrong file by errors of many kinds
      pass
    try:
      whole, body = _load(self._make(with_classifier=True), self.weights), self._make()
      body.set_weights(whole.get_weights()[:len(body.weights)])  # the classifier's come last
      return body
    except Exception as error:
      raise ValueError(
          f"{self.weights} holds no weights of keras.applications.{self.application}: give those "
          "that Keras fetches for it, or give the Extractor the application that they are "
          "of") from error


def _load(network, path):
  with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)  # Keras warns of layers that the file lacks
    network.load_weights(path)
  return network


def _module_of(application):
  """The module of `keras.applications` that has a network and its `preprocess_input`."""
  modules = [module for module in vars(keras.applications).values() if inspect.ismodule(module)]
  networks = {name: module for module in modules for name, value in vars(module).items()
              if name[:1].isupper() and callable(value)}
  if application not in networks:
    raise ValueError(f"keras.applications has no {application!r}: give one of "
                     f"{', '.join(sorted(networks))}")
  return networks[application]
