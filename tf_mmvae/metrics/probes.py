"""What a linear classifier reads off the latents: latent factorisation."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_mmvae import inference
from tf_mmvae.batch import Dataset
from tf_mmvae.metrics.findings import Findings, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.metrics.progress import progress
from tf_mmvae.model import MultimodalVAE

JOINT = "joint"


class Probe:
  """Accuracy of linear probes: logistic regressions from standardised latents to labels.

  For each modality's own posterior q(z | x_m), and the joint posterior of all that an example has,
  from one sample an example, as Shi et al. (2019) judge latents, and from the posterior's mean
  (for a mixture that of the mixture). Probes are fitted to training data and asked about others.
  `chance` is the accuracy of always naming the most frequent class of the training examples.
  """

  title = "Latent factorisation: what can be read off the latents"

  def __init__(self, train_data: Dataset, labels: Sequence[str], num_train: int | None = 5000,
               num_test: int | None = None, batch_size: int = 100, seed: int = 0,
               groups: str | None = None):
    """Sets what is probed.

    Args:
      train_data: `Examples` that probes are fitted to.
      labels: names of integer labels in y of both data sets.
      num_train: how many of the training examples, evenly spread; None takes all.
      num_test: how many of the others, likewise.
      batch_size: examples encoded at once.
      seed: of the latent samples.
      groups: label whose equal values mark examples that are not independent, for the errors.
    """
    self._train_data, self._labels = train_data, list(labels)
    self._num_train, self._num_test = num_train, num_test
    self._batch_size, self._seed, self._groups = batch_size, seed, groups

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """`Findings`, shares of the test examples with what a posterior needs, at most 1.

    Returns:
      Figures "SOURCE/samples/LABEL" and "SOURCE/means/LABEL" for sources that are modalities and
      "joint", which a single modality has not, and "chance/LABEL".

    Raises:
      ValueError: a label or `groups` is not in y.
    """
    needed = {*self._labels, *([self._groups] if self._groups else [])}
    encode = tf.function(lambda x, mask, seed: _latents(model, x, mask, seed))  # traced once
    fitted, train_labels = self._encode(
        encode, self._train_data.spread(self._num_train), self._labels, 0)
    asked, labels = self._encode(encode, dataset.spread(self._num_test), needed, 1)
    groups = labels.get(self._groups)
    kinds = [kind for kind in fitted if kind in asked]
    figures, remarks = {}, []
    for label in self._labels:
      of_train, of_test = train_labels[label], labels[label]
      known = np.isin(of_test, of_train)
      if not np.all(known):
        remarks.append(
            f"{np.sum(~known)} of {len(known)} test examples have a '{label}' that no training "
            "example has: no probe can name it" + (
                "." if np.any(known) else ", and there is no accuracy to measure."))
      if not np.any(known):
        continue
      majority = DummyClassifier(strategy="most_frequent")
      figures[f"chance/{label}"] = _accuracy(
          majority, (of_train[:, None], of_train), (of_test[:, None], of_test), groups)
      for kind in kinds:
        (z, rows), (z_asked, rows_asked) = fitted[kind], asked[kind]
        if len(np.unique(of_train[rows])) < 2:
          remarks.append(f"The training examples of {kind} have fewer than two classes of "
                         f"'{label}': there is nothing to learn.")
        elif len(z_asked):
          figures[f"{kind}/{label}"] = _accuracy(
              make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
              (z, of_train[rows]), (z_asked, of_test[rows_asked]),
              None if groups is None else groups[rows_asked])
    return Findings(figures, self._tables(kinds, figures), remarks=tuple(remarks))

  def _tables(self, kinds, figures):
    rows = {name: [f if (f := f"{name}/{label}") in figures else None for label in self._labels]
            for name in [*kinds, "chance"]}
    return (Table(
        "What a linear classifier reads off the latents", self._labels, rows, "%",
        "Share of test examples whose label a logistic regression names right, given one sample of "
        "a posterior, or its mean. Chance names the most frequent class.",
        dict.fromkeys(self._labels, "high")),)

  def _encode(self, encode, dataset, labels, stream):
    """{"SOURCE/samples" and "/means": (z [n, D], rows int [n])}, {label: int [N]}."""
    batches = dataset.batches(self._batch_size)
    spec = batches.element_spec
    if unknown := sorted(set(labels) - set(spec.y)):
      raise ValueError(f"Probe's labels {unknown} are not in data set '{dataset.name}', which has "
                       f"{sorted(spec.y)}: correct the names")
    encode = encode.get_concrete_function(spec.x, spec.mask, tf.TensorSpec([2], tf.int64))
    found, values, num = {}, {label: [] for label in labels}, 0
    for i, (x, y, mask) in enumerate(progress(batches, "latents to probe")):
      seed = tf.constant([self._seed, 2 * i + stream], tf.int64)
      for source, encoded in encode(x, mask, seed).items():
        sample, mean, here = (value.numpy() for value in encoded)
        rows = num + np.flatnonzero(here)
        found.setdefault(f"{source}/samples", []).append((sample[here], rows))
        found.setdefault(f"{source}/means", []).append((mean[here], rows))
      for label in labels:
        values[label].append(y[label].numpy())
      num += len(here)
    return ({kind: tuple(map(np.concatenate, zip(*parts, strict=True)))
             for kind, parts in found.items()},
            {label: np.concatenate(value) for label, value in values.items()})


def _latents(model, x, mask, seed):
  """{source: (a sample [B, D], the mean [B, D], which examples have it: bool [B])}."""
  subsets = {m.name: {m.name: x[m.name]} for m in model.present(x)}
  if len(subsets) > 1:
    subsets[JOINT] = x
  posteriors = {source: model.posterior(some, mask) for source, some in subsets.items()}
  return {source: (inference.draw(q, 1, seed)[0], q.mean(), model.any_present(
      subsets[source], mask)) for source, q in posteriors.items()}


def _accuracy(classifier, fitted, asked, groups):
  """(share, standard error, number) of right answers to (latents, labels) it is asked about."""
  latents, labels = asked
  return mean_and_error(classifier.fit(*fitted).predict(latents) == labels, groups)
