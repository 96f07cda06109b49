"""From some modalities to others, one latent sample an example."""

import tensorflow as tf

from tf_mmvae import joint_posteriors


def sample_posterior(model, x, seed):
  """One z [B, D] an example, from a component of q(z | x) drawn by its weight. seed: int [2]."""
  return samples_of_posterior(model, x, 1, seed)[0]


def samples_of_posterior(model, x, num, seed, mask=None):
  """Independent z [num, B, D], each from a component of q(z | x) drawn by its weight."""
  posterior = model.posterior(x, mask)
  batch = posterior.batch_shape_tensor()[0]
  noise = joint_posteriors.uniform_noise([1, num, batch, model.latent_dim], seed)
  z, _ = joint_posteriors.independent_sample(posterior, noise)
  return z[0]


def sample_prior(model, num, seed):
  """z [num, D] from the prior. seed: int [2]."""
  return model.prior.distribution().sample(num, seed=tf.cast(seed, tf.int32))


def decode(model, z, names=None):
  """The most probable observation of each modality given z [B, D] (greedy for sentences).

  Returns:
    {modality: [B, *shape]}
  """
  return {name: model.likelihood(name, z).mode() for name in model.modalities
          if names is None or name in names}
