"""Samples of the posteriors of all modalities and of each alone, scored as importance samples."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_mmvae import joint_posteriors
from tf_mmvae.model import MultimodalVAE


class Scored(NamedTuple):
  """Samples of a proposal q(z | sources) under the model: float64, in nats."""

  log_ratio: tf.Tensor  # [S, K, B], log p(z) - log q(z | sources)
  log_px: dict[str, tf.Tensor]  # {modality: [S, K, B]}
  log_pi: tf.Tensor  # [S, B]

  def log_weights(self, names: Sequence[str]) -> tf.Tensor:
    """Log importance weights, whose mean is p(x_names). -> [S, K, B]."""
    return self.log_ratio + sum(self.log_px[name] for name in names)


class Sampler:
  """K samples from each component of q(z | x_1..M) and from each q(z | x_m), scored.

  Every sample is decoded once, to all modalities. Where the first components of q(z | x_1..M) are
  those of single modalities, as in mixtures, the two share their samples; elsewhere they share
  noise. The fusion rule says which components there are. A posterior of one modality must have one.
  """

  def __init__(self, model: MultimodalVAE, x: Mapping[str, Any], num_samples: int,
               num_latents: int):
    """Traces what it computes.

    Args:
      model: `MultimodalVAE`.
      x: a batch of the modalities concerned, in the model's order.
      num_samples: K.
      num_latents: decoded at once.
    """
    self._num_samples, self._num_latents = num_samples, num_latents
    num_components = model.num_components(x)
    self._num_noise = max(num_components, len(x))
    self._latent_dim = model.latent_dim
    shared = _shares(model.joint_posterior, len(x))
    self._num_decoded = num_components + (0 if shared else len(x))
    self._score = tf.function(
        lambda x, noise: _score(model, x, noise, shared)).get_concrete_function(
            {name: model.modalities[name].spec for name in x},
            tf.TensorSpec([self._num_noise, None, None, model.latent_dim]))

  def __call__(self, x: Mapping[str, tf.Tensor], seed: Sequence[int]) -> dict[str, Scored]:
    """{"a+b": `Scored` of all modalities, "a": of one, ...} of a batch. seed: int [2]."""
    batch = next(iter(x.values())).shape[0]
    # Of all K at once, so that it does not depend on how many are decoded at once.
    noise = joint_posteriors.uniform_noise(
        [self._num_noise, self._num_samples, batch, self._latent_dim], tf.constant(seed))
    step = max(1, self._num_latents // (self._num_decoded * noise.shape[2]))
    chunks = [self._score(x, noise[:, k:k + step]) for k in range(0, self._num_samples, step)]
    return {sources: _joined([chunk[sources] for chunk in chunks]) for sources in chunks[0]}


def _shares(rule, num_modalities):
  """Whether the first components of x_1..M are those of the single modalities."""
  alone = [(m,) for m in range(num_modalities)]
  return rule.subsets(num_modalities)[:num_modalities] == alone


def _score(model, x, noise, shared):
  """{sources: `Scored`} for noise [max(S, M), K, B, D]."""
  joint, alone = model.posterior(x), _alone(model, x)
  z = _sample(joint, noise)
  num_components = len(z)
  first = 0 if shared else num_components
  if not shared:
    z = tf.concat([z, *[_sample(q, noise[m:]) for m, q in enumerate(alone.values())]], 0)
  particles = model.score(x, z, joint)
  of_sources = {"+".join(x): (joint, slice(0, num_components)),
                **{name: (alone[name], slice(first + m, first + m + 1))
                   for m, name in enumerate(x)}}
  return {sources: Scored(
      log_ratio=_float64(particles.log_pz[rows]) - _log_density(q, z[rows]),
      log_px={name: _float64(log_px[rows]) for name, log_px in particles.log_px.items()},
      log_pi=_float64(joint_posteriors.log_mixture_weights(q)))
          for sources, (q, rows) in of_sources.items()}


def _alone(model, x):
  """{modality: q(z | x_m)}."""
  return {name: model.posterior({name: x[name]}) for name in x}


def _sample(posterior, noise):
  """A posterior's samples [S, K, B, D] by the first S strata of noise."""
  num_components = joint_posteriors.num_components(posterior)
  return joint_posteriors.stratified_sample(posterior, noise[:num_components])[0]


def _log_density(posterior, z):
  """log q(z) in float64, which takes no more than the densities of components from float32.

  Two posteriors that share a component then differ by what they are, not by how they round.
  """
  log_pi = _float64(joint_posteriors.log_mixture_weights(posterior))
  of_components = _float64(joint_posteriors.component_log_prob(posterior, z))  # [S, K, B, S]
  return tf.reduce_logsumexp(of_components + tf.transpose(log_pi), -1)


def _float64(nats):
  return tf.cast(nats, tf.float64)


def _joined(chunks):
  """Samples [S, k, B] of every chunk as one [S, K, B]."""
  return Scored(
      tf.concat([chunk.log_ratio for chunk in chunks], 1),
      {name: tf.concat([chunk.log_px[name] for chunk in chunks], 1) for name in chunks[0].log_px},
      chunks[0].log_pi)
