"""Where each expert puts examples in the latent space, and how far that is from the prior."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mmvae import inference
from tf_mmvae.batch import Dataset
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.views.drawing import draw_table, draw_tile
from tf_mmvae.views.panels import as_cells
from tf_mmvae.views.projector import write_projector
from tf_mmvae.views.viewers import Viewer

_TILE = 48  # pixels


class Latents:
  """KL(q(z_d | x_m) || p(z_d)) of each expert and dimension, and the experts' means as points."""

  def __init__(self, dataset: Dataset, tokenizers: Mapping[str, Any] | None = None,
               num_examples: int = 200, viewers: Mapping[str, Viewer] | None = None):
    """Sets what is encoded.

    Args:
      dataset: examples, of which so many are encoded at once, evenly spread.
      tokenizers: {modality: object with `decode`} of those in words.
      num_examples: how many; fewer where there are fewer.
      viewers: {modality: function as in `viewers`} of those that something else is shown for.
    """
    self._tokenizers, self._viewers = tokenizers or {}, viewers or {}
    dataset = dataset.spread(num_examples)
    batch = next(iter(dataset.batches(dataset.num_examples)))
    self._x, self._y, _ = batch
    # Which of them have each modality; only of these its expert says anything.
    self._rows = {name: np.flatnonzero(batch.present(name)) for name in self._x}
    self._encode = tf.function(inference.means_and_kl)  # traced once a model

  def __call__(self, model: MultimodalVAE) -> dict[str, Any]:
    """What TensorBoard shows of the KL in nats, averaged over the examples with the modality.

    Returns:
      {"latents/kl/MODALITY": its sum over dimensions,
      "latents/active_dimensions/MODALITY": the number of those above 0.01 nats,
      "latents/kl_per_dimension/MODALITY": float [D],
      "latents/kl_by_dimension/MODALITY": uint8 [H, W, 3], bars in the order of the dimensions}.
    """
    kl = {name: np.mean(kl, axis=0) for name, (_, kl) in self._experts(model).items()}
    values = {}
    for name, nats in kl.items():
      active = int(np.sum(nats > inference.ACTIVE))
      said = f"{np.sum(nats):.4g} nats, {active} of {len(nats)} active"
      values[f"latents/kl/{name}"] = np.sum(nats)
      values[f"latents/active_dimensions/{name}"] = float(active)
      values[f"latents/kl_per_dimension/{name}"] = nats
      values[f"latents/kl_by_dimension/{name}"] = draw_table({said: [nats]})
    return values

  def write(self, model: MultimodalVAE, directory: str) -> None:
    """Writes the experts' means for TensorBoard's projector into a directory of its events.

    All modalities are one cloud of points, with the modality, the number of the example and every
    scalar of `y` as labels, and the observation, small, as a picture.
    """
    means = {name: mean for name, (mean, _) in self._experts(model).items()}
    of_points = [(name, row) for name in means for row in self._rows[name]]
    labels = {name: [_said(value.numpy()[row]) for _, row in of_points]
              for name, value in self._y.items() if value.shape.rank == 1}
    modality, example = [name for name, _ in of_points], [str(row) for _, row in of_points]
    cells = {name: as_cells(self._x[name], self._tokenizers.get(name), self._viewers.get(name),
                            given=True) for name in means}
    tiles = [draw_tile(cells[name][row], _TILE) for name, row in of_points]
    write_projector(directory, np.concatenate(list(means.values())),
                    {"modality": modality, "example": example, **labels}, tiles)

  def _experts(self, model):
    """{modality: (means, KL), each [rows, D]}; without those that no example has."""
    return {name: tuple(value.numpy()[self._rows[name]] for value in of_expert)
            for name, of_expert in self._encode(model, self._x).items() if len(self._rows[name])}


def _said(value):
  return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
