"""What a model makes of data and of samples of z, a batch at a time."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from tf_mmvae import inference
from tf_mmvae.batch import Batch, Dataset
from tf_mmvae.metrics.densities import Source
from tf_mmvae.metrics.progress import progress
from tf_mmvae.model import MultimodalVAE


def translated(model: MultimodalVAE, dataset: Dataset, pairs: Sequence[tuple[tuple[str, ...], str]],
               batch_size: int,
               seed: int) -> Iterator[tuple[Batch, dict[tuple[tuple[str, ...], str], tf.Tensor]]]:
  """What is decoded from one sample of the sources' joint posterior, in the decoder's mode.

  Args:
    model: a `MultimodalVAE`.
    dataset: `Examples` with all modalities of `pairs`.
    pairs: list of (tuple of sources, target), names of modalities.
    batch_size: examples at once, B.
    seed: an integer, of the latent samples.

  Yields:
    (`Batch`, {(sources, target): [B, *shape]}) for every batch. What is made of an example
    without one of the sources means nothing.
  """
  batches = dataset.batches(batch_size)
  specs = batches.element_spec.x
  translators = {
      sources: _translator(model, [t for s, t in pairs if s == sources]).get_concrete_function(
          {name: specs[name] for name in sources}, tf.TensorSpec([2], tf.int64))
      for sources in dict.fromkeys(sources for sources, _ in pairs)}
  for i, batch in enumerate(progress(batches, "translations")):
    made = {}
    for sources, translator in translators.items():
      given = {name: batch.x[name] for name in sources}
      found = translator(given, tf.constant([seed, i], tf.int64))
      made.update({(sources, target): value for target, value in found.items()})
    yield batch, made


def _translator(model, targets):
  return tf.function(lambda x, seed: inference.decode(
      model, inference.sample_posterior(model, x, seed), targets))


def decoded(model: MultimodalVAE, source: Source, num: int, names: Sequence[str], batch_size: int,
            seed: int) -> Iterator[dict[str, tf.Tensor]]:
  """What is decoded from samples of z, in the decoders' mode.

  Args:
    model: a `MultimodalVAE`.
    source: object with `sample(model, num, seed)` -> z [num, D], such as those of `densities`.
    num: of samples.
    names: modalities to decode.
    batch_size: samples at once.
    seed: an integer.

  Yields:
    {modality: [B, *shape]}
  """
  z = source.sample(model, num, seed)
  decode = tf.function(lambda z: inference.decode(model, z, names)).get_concrete_function(
      tf.TensorSpec([None, model.latent_dim], tf.float32))
  for first in progress(range(0, num, batch_size), "samples"):
    yield decode(tf.constant(z[first:first + batch_size]))
