"""Pictures of what a model does: examples, their translations, and samples from the prior."""

import os

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_mmvae.evaluation import translation
from tf_mmvae.evaluation.drawing import draw_table


class Panel:
  """A table of examples: each modality as it is, then decoded from each, itself among them.

  Below it stand samples from the prior, decoded to every modality.
  """

  def __init__(self, dataset, tokenizers=None, num_examples=6, num_samples=3, seed=0):
    """Sets what is shown.

    Args:
      dataset: examples, of which some are shown, evenly spread.
      tokenizers: {modality: object with `decode`} of those in words; others are pictures
        [H, W, C] in [0, 1].
      num_examples: rows of each table.
      num_samples: pictures for one source; sentences get one.
      seed: of the latent samples.
    """
    self._tokenizers = tokenizers or {}
    self._num_samples, self._seed = num_samples, seed
    positions = np.linspace(0, dataset.num_examples - 1, num_examples).astype(int)
    self._x, _ = next(iter(dataset.subset(positions).batches(num_examples)))
    self._num_examples = num_examples

  def check(self, model):
    """Raises ValueError if the tokenizers are of modalities that the model does not have."""
    model.check_names(self._tokenizers, "Panel's tokenizers")

  def __call__(self, model):
    """{"translations", "prior": uint8 [H, W, 3]}."""
    seeds = [tf.constant([self._seed, i], tf.int64) for i in range(self._num_samples)]
    columns = {name: self._cells(name, x) for name, x in self._x.items()}
    for source, x in self._x.items():
      drawn = [self._decode(model, translation.sample_posterior(model, {source: x}, s))
               for s in seeds]
      for target in model.modalities:
        repeats = 1 if target in self._tokenizers else len(seeds)
        for i in range(repeats):
          number = f" ({i + 1})" if repeats > 1 else ""
          columns[f"{source} > {target}{number}"] = self._cells(target, drawn[i][target])
    z = translation.sample_prior(model, self._num_examples, seeds[0])
    prior = {name: self._cells(name, value) for name, value in self._decode(model, z).items()}
    return {"translations": draw_table(columns), "prior": draw_table(prior)}

  def write(self, model, directory):
    """Writes the panels as PNG files into a directory and returns their paths."""
    os.makedirs(directory, exist_ok=True)
    paths = []
    for name, picture in self(model).items():
      paths.append(os.path.join(directory, f"{name}.png"))
      Image.fromarray(picture).save(paths[-1])
    return paths

  def _decode(self, model, z):
    return translation.decode(model, z)

  def _cells(self, name, values):
    if name in self._tokenizers:
      sentences = np.asarray(self._tokenizers[name].decode(values))
      return [sentence.decode("utf-8", "replace") for sentence in sentences]
    return list(np.asarray(values))
