"""From some modalities to others, one latent sample an example."""

import tensorflow as tf

from tf_mmvae import distributions, joint_posteriors


def sample_posterior(model, x, seed):
  """One z [B, D] an example, from a component of q(z | x) drawn by its weight. seed: int [2]."""
  return samples_of_posterior(model, x, 1, seed)[0]


def samples_of_posterior(model, x, num, seed):
  """Independent z [num, B, D], each from a component of q(z | x) drawn by its weight."""
  posterior = model.posterior(x)
  log_pi = joint_posteriors.log_mixture_weights(posterior)  # [S, B]
  num_components, batch = log_pi.shape[0], tf.shape(log_pi)[1]
  noise = joint_posteriors.uniform_noise([num_components, num, batch, model.latent_dim], seed)
  z = joint_posteriors.stratified_sample(posterior, noise)  # [S, num, B, D]
  # With the seed of the noise itself the choice would depend on the samples.
  of_choice = tf.random.experimental.stateless_fold_in(seed, 1)
  log_pi = tf.repeat(tf.transpose(log_pi)[tf.newaxis], num, axis=0)  # [num, B, S]
  chosen = distributions.sample_categorical(log_pi, of_choice)  # [num, B]
  return tf.gather(tf.transpose(z, [1, 2, 0, 3]), chosen, batch_dims=2)


def sample_prior(model, num, seed):
  """z [num, D] from the prior. seed: int [2]."""
  return model.prior.distribution().sample(num, seed=tf.cast(seed, tf.int32))


def decode(model, z, names=None):
  """The most probable observation of each modality given z [B, D] (greedy for sentences).

  Returns:
    {modality: [B, *shape]}
  """
  return {name: m.likelihood(z).mode() for name, m in model.modalities.items()
          if names is None or name in names}
