"""Classifiers that judge what a model generates: trained once on true data, then kept."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tf_mmvae.batch import Dataset
from tf_mmvae.metrics.findings import Figure
from tf_mmvae.metrics.means import mean_and_error

_BATCH = 500  # pictures looked at together


class Classifier:
  """A convolutional network that tells the class of pictures, and sees features of them.

  It is trained on true examples when it is first asked, and kept as
  `<run_dir>/judges/<modality>-<hash>.weights.h5`; another data set, seed or size is another hash.
  Its accuracy is what `Agreement` calls the ceiling.

  Two convolutions with pooling, one hidden layer with dropout, as Shi et al. (2019) judge digits;
  with filters (10, 20) and 50 hidden units it is theirs.
  """

  def __init__(self, dataset: Dataset, modality: str, label: str, num_classes: int,
               run_dir: str | None = None, filters: Sequence[int] = (32, 64),
               hidden_units: int = 128, num_steps: int = 1200, batch_size: int = 128,
               learning_rate: float = 0.001, seed: int = 0):
    """Sets what it learns; nothing is read before the first call.

    Args:
      dataset: `Examples` to learn from, such as the training split.
      modality: the pictures, float [H, W, C] in [0, 1].
      label: the classes in y, integers from 0 to `num_classes` - 1.
      num_classes: how many there are.
      run_dir: path of the run that keeps the weights; None keeps none.
      filters: of the two convolutions.
      hidden_units: of the hidden layer.
      num_steps: batches to learn from.
      batch_size: examples each.
      learning_rate: of Adam, falling to 0 along a cosine.
      seed: of the weights and the order of the examples.
    """
    self._dataset, self._modality, self._label = dataset, modality, label
    self._run_dir, self._num_classes, self._seed = run_dir, num_classes, seed
    self._filters, self._hidden_units = tuple(filters), hidden_units
    self._num_steps, self._batch_size = num_steps, batch_size
    self._learning_rate = learning_rate
    self._network = self._hidden = None

  def __call__(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """float [N, H, W, C] -> {label: int [N]}."""
    logits = self._learnt().predict(pictures, _BATCH, verbose=0)
    return {self._label: np.argmax(logits, -1)}

  def features(self, pictures: np.ndarray) -> np.ndarray:
    """What the hidden layer makes of pictures: float [N, H, W, C] -> float [N, hidden_units]."""
    if self._hidden is None:
      network = self._learnt()
      self._hidden = keras.Model(network.inputs, network.layers[-3].output)
    return self._hidden.predict(pictures, _BATCH, verbose=0)

  def accuracy(self, dataset: Dataset) -> Figure:
    """(share of the pictures of `Examples` whose class it tells, standard error, number)."""
    right = []
    for batch in dataset.batches(_BATCH):
      agrees = self(batch.x[self._modality].numpy())[self._label] == batch.y[self._label].numpy()
      right.append(agrees[batch.present(self._modality).numpy()])
    return mean_and_error(np.concatenate(right))

  def _learnt(self):
    if self._network is None:
      self._network = self._restored() if self._is_kept() else self._trained()
    return self._network

  @functools.cached_property
  def _path(self):
    """Where its weights are kept: a name that changes with the data and all that it learns by."""
    digest = hashlib.sha256(repr((
        self._dataset.name, self._dataset.num_examples, self._filters, self._hidden_units,
        self._num_steps, self._batch_size, self._learning_rate, self._seed)).encode())
    for x, y, mask in self._dataset.spread(500).batches(100):
      digest.update(x[self._modality].numpy().tobytes() + y[self._label].numpy().tobytes())
      if self._modality in mask:
        digest.update(mask[self._modality].numpy().tobytes())
    name = f"{self._modality}-{digest.hexdigest()[:16]}.weights.h5"
    return os.path.join(self._run_dir, "judges", name)

  def _is_kept(self):
    return self._run_dir is not None and os.path.isfile(self._path)

  def _made(self):
    layers = keras.layers
    network = keras.Sequential(
        [layer for n in self._filters for layer in (
            layers.Conv2D(n, 5, activation="relu"), layers.MaxPooling2D())]
        + [layers.Flatten(), layers.Dropout(0.5), layers.Dense(self._hidden_units, "relu"),
           layers.Dropout(0.5), layers.Dense(self._num_classes)])
    network.build([None, *self._dataset.batches(1).element_spec.x[self._modality].shape[1:]])
    return network

  def _restored(self):
    network = self._made()
    try:
      network.load_weights(self._path)
    except (OSError, ValueError) as error:
      logging.warning("The judge %s cannot be read (%s): it is trained anew", self._path, error)
      return self._trained()
    return network

  def _trained(self):
    logging.info("Training a judge of '%s' for a minute or so; it is kept", self._modality)
    keras.utils.set_random_seed(self._seed)
    network = self._made()
    rate = keras.optimizers.schedules.CosineDecay(self._learning_rate, self._num_steps)
    network.compile(keras.optimizers.Adam(rate),
                    keras.losses.SparseCategoricalCrossentropy(
                        from_logits=True, reduction="mean_with_sample_weight"))
    data = self._dataset.shuffled_batches(self._batch_size, self._seed).map(self._lesson)
    network.fit(data, steps_per_epoch=self._num_steps, shuffle=False, verbose=0)
    if self._run_dir is not None:
      path = self._path
      os.makedirs(os.path.dirname(path), exist_ok=True)
      unfinished = path.replace(".weights.h5", ".unfinished.weights.h5")
      network.save_weights(unfinished)
      os.replace(unfinished, path)
    return network

  def _lesson(self, batch):
    """(pictures, classes, weights): those that are absent teach nothing."""
    weights = tf.cast(batch.present(self._modality), tf.float32)
    return batch.x[self._modality], batch.y[self._label], weights


def features_of(judge: Classifier) -> Callable[[np.ndarray], np.ndarray]:
  """The function `features` of a judge."""
  return judge.features


def judges_of_views(num: int, classifier: Callable[..., Classifier],
                    name: str = "view") -> dict[str, Classifier]:
  """{"view0": a judge of its own, ...} for `modality.views`; classifier: function (modality)."""
  return {f"{name}{v}": classifier(modality=f"{name}{v}") for v in range(num)}
