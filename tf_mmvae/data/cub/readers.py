"""Readers that tell the class of a bird from its picture's colour, from features or from words.

They are simple on purpose, and learn from the training split alone: what they say of true pictures
and captions is the ceiling for what a model makes.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from tf_mmvae.data.cub import dataset, features
from tf_mmvae.data.cub.dataset import Source


class ClassByColour:
  """The class whose mean colour in the middle of the training photos is nearest."""

  def __init__(self, source: Source, split: str = "train"):
    """Reads the photos of a split; raises ValueError where there is no such split."""
    photos = dataset.photos(source, split)
    self._nearest = _NearestMean(_middle_colour(photos["image"] / 255.0), photos["class"])

  def __call__(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """float [B, H, W, 3] in [0, 1] -> {"class": int [B]}."""
    return {"class": self._nearest(_middle_colour(pictures))}


class ClassByFeatures:
  """The class whose mean of the training photos' features is nearest."""

  def __init__(self, source: Source, extractor: Callable, split: str = "train"):
    """Reads a split; arguments and errors are those of `features.feature_examples`."""
    photos = features.photos(source, split, extractor)
    self._nearest = _NearestMean(photos["features"], photos["class"])

  def __call__(self, features: np.ndarray) -> dict[str, np.ndarray]:
    """float [B, F] -> {"class": int [B]}."""
    return {"class": self._nearest(features)}


class ClassByWords:
  """The class with the highest probability given which words occur: naive Bayes (Bernoulli)."""

  def __init__(
    self, source: Source, split: str = "train", min_count: int = 3, prior_count: float = 1.0
  ):
    """Reads the captions of a split; raises ValueError where there is no such split.

    Args:
      source: `Source`.
      split: where to learn from.
      min_count: words in more captions than this are looked at.
      prior_count: captions that each class is given beforehand, with the words of all classes.
    """
    photos = dataset.photos(source, split)
    captions = photos["captions"].reshape([-1])
    classes = np.repeat(photos["class"], len(captions) // len(photos["class"]))
    said = [set(_words(caption)) for caption in captions]
    words, counts = np.unique([word for of_one in said for word in of_one], return_counts=True)
    self._positions = {word: i for i, word in enumerate(words[counts > min_count])}
    occurs = self._occurrence(said)
    self._classes = np.unique(classes)
    overall = (occurs.sum(0) + 1.0) / (len(occurs) + 2.0)
    of_class = classes == self._classes[:, np.newaxis]  # [N, captions]
    share = ((of_class @ occurs + prior_count * overall)
             / (of_class.sum(-1, keepdims=True) + prior_count))  # [N, V]
    self._log_odds = np.log(share) - np.log1p(-share)
    self._log_absent = np.log1p(-share).sum(-1) + np.log(of_class.mean(-1))  # [N]

  def __call__(self, sentences: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Strings [B] -> {"class": int [B]}."""
    occurs = self._occurrence([_words(sentence) for sentence in sentences])
    scores = occurs @ self._log_odds.T + self._log_absent  # [B, N]
    return {"class": self._classes[scores.argmax(-1)]}

  def _occurrence(self, said):
    """Lists of words -> float [B, V], 1 where a word occurs."""
    occurs = np.zeros([len(said), len(self._positions)])
    for row, words in zip(occurs, said, strict=True):
      row[[self._positions[word] for word in words if word in self._positions]] = 1.0
    return occurs


class _NearestMean:
  """The class whose mean is nearest (Euclidean)."""

  def __init__(self, values, classes):
    self._classes = np.unique(classes)  # [N]
    self._means = np.stack([values[classes == c].mean(0) for c in self._classes])  # [N, F]

  def __call__(self, values):
    """float [B, F] -> int [B]."""
    distances = [np.linalg.norm(values - mean, axis=-1) for mean in self._means]
    return self._classes[np.argmin(distances, axis=0)]


def _middle_colour(pictures):
  """[B, H, W, 3] -> the mean colour of the middle half each way, [B, 3]."""
  height, width = pictures.shape[1:3]
  middle = pictures[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
  return np.mean(middle, axis=(1, 2))


def _words(sentence):
  return re.findall(r"\w+", sentence.decode("utf-8", "replace").lower())
