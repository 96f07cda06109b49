"""How many nats each expert puts into each latent dimension."""

import numpy as np
import tensorflow as tf

from tf_mmvae.batch import Dataset
from tf_mmvae.inference import ACTIVE, means_and_kl
from tf_mmvae.metrics.findings import Findings, Picture, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.metrics.progress import progress
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.views.drawing import draw_bars

_NUM_RESAMPLED = 200


class LatentUse:
  """KL(q(z_d | x_m) || p(z_d)) of each modality and dimension in nats, and what is active.

  A dimension is active for a modality where its KL, averaged over the examples with the modality,
  is above 0.01 nats. The error of their number is that of a bootstrap over examples or groups.
  """

  title = "Latent factorisation: how much each dimension holds"

  def __init__(self, num_examples: int | None = None, batch_size: int = 100, seed: int = 0,
               groups: str | None = None):
    """Sets how it is measured.

    Args:
      num_examples: how many of the data set's examples, evenly spread; None takes all.
      batch_size: examples encoded at once.
      seed: of the bootstrap.
      groups: label whose equal values mark examples that are not independent, for the errors.
    """
    self._num_examples, self._batch_size = num_examples, batch_size
    self._seed, self._groups = seed, groups

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """`Findings`.

    Returns:
      Figures "MODALITY/kl", the sum over dimensions; "MODALITY/active_dimensions"; and
      "MODALITY/kl/D" for each dimension D. A modality that no example has has none.
    """
    dataset = dataset.spread(self._num_examples)
    figures, bars, whiskers = {}, {}, {}
    for name, (kl, groups) in self._measure(model, dataset).items():
      total, active = f"{name}/kl", f"{name}/active_dimensions"
      figures[total] = mean_and_error(kl.sum(-1), groups)
      figures[active] = (
          float(np.sum(kl.mean(0) > ACTIVE)), self._error_of_active(kl, groups), len(kl))
      of_dimensions = [mean_and_error(nats, groups) for nats in kl.T]
      figures.update({f"{name}/kl/{d}": f for d, f in enumerate(of_dimensions)})
      title = (f"{name}: {figures[total][0]:.4g} nats, {figures[active][0]:.0f} of "
               f"{kl.shape[1]} active")
      bars[title], whiskers[title] = np.transpose(of_dimensions)[:2]
    if not bars:
      return Findings({}, remarks=("No example has any modality.",))
    names = [name.removesuffix("/active_dimensions") for name in figures
             if name.endswith("/active_dimensions")]
    rows = {name: [f"{name}/kl", f"{name}/active_dimensions"] for name in names}
    return Findings(
        figures,
        (Table("What each modality puts into the latents", ["KL, nats", "active dimensions"], rows,
               about="KL(q(z | x_m) || p(z)), averaged over examples. A dimension is active where "
               f"its own part is above {ACTIVE} nats."),),
        (Picture("KL of each latent dimension, nats", draw_bars(bars, whiskers),
                 "One bar a dimension, numbered below; whiskers are two standard errors."),))

  def _measure(self, model, dataset):
    """{modality: (KL float64 [n, D], groups [n] or None)} of the examples that have it."""
    encode = tf.function(lambda x: {
        name: kl for name, (_, kl) in means_and_kl(model, x).items()})
    batches = dataset.batches(self._batch_size)
    encode = encode.get_concrete_function(batches.element_spec.x)
    kls, groups = {}, {}
    for batch in progress(batches, "latent use"):
      for name, kl in encode(batch.x).items():
        here = batch.present(name).numpy()
        kls.setdefault(name, []).append(kl.numpy()[here].astype(np.float64))
        if self._groups:
          groups.setdefault(name, []).append(batch.y[self._groups].numpy()[here])
    kls = {name: np.concatenate(kl) for name, kl in kls.items()}
    return {name: (kl, np.concatenate(groups[name]) if self._groups else None)
            for name, kl in kls.items() if len(kl)}

  def _error_of_active(self, kl, groups):
    """Of the number of active dimensions, by resampling groups."""
    _, groups = np.unique(np.arange(len(kl)) if groups is None else groups, return_inverse=True)
    sums, sizes = np.zeros([groups.max() + 1, kl.shape[1]]), np.bincount(groups)
    np.add.at(sums, groups, kl)
    if len(sizes) < 2:
      return float("nan")
    drawn = np.random.default_rng(self._seed).multinomial(
        len(sizes), np.full(len(sizes), 1 / len(sizes)), _NUM_RESAMPLED)  # how often each
    resampled = drawn @ sums / (drawn @ sizes)[:, np.newaxis]
    return float(np.std(np.sum(resampled > ACTIVE, axis=1), ddof=1))
