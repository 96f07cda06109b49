"""What a model says of data: samples of q(z | x) and p(z), decoded, and their distance in nats."""

from collections.abc import Collection, Mapping

import tensorflow as tf
import tensorflow_probability as tfp

from tf_mmvae import joint_posteriors
from tf_mmvae.batch import COMPLETE
from tf_mmvae.model import MultimodalVAE

tfd = tfp.distributions

ACTIVE = 0.01  # nats above which a dimension counts as active


def draw(posterior: tfd.Distribution, num: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Independent z [num, B, D] of a joint posterior, each from a component drawn by its weight.

  Args:
    posterior: a mixture, batch [B], event [D].
    num: of samples an example.
    seed: int [2].
  """
  shape = [1, num, posterior.batch_shape_tensor()[0], posterior.event_shape[0]]
  z, _ = joint_posteriors.independent_sample(posterior, joint_posteriors.uniform_noise(shape, seed))
  return z[0]


def sample_posterior(model: MultimodalVAE, x: Mapping[str, tf.Tensor], seed: tf.Tensor,
                     mask: Mapping[str, tf.Tensor] = COMPLETE) -> tf.Tensor:
  """One z [B, D] an example of q(z | x); see `draw`."""
  return samples_of_posterior(model, x, 1, seed, mask)[0]


def samples_of_posterior(
    model: MultimodalVAE, x: Mapping[str, tf.Tensor], num: int | tf.Tensor, seed: tf.Tensor,
    mask: Mapping[str, tf.Tensor] = COMPLETE) -> tf.Tensor:
  """Independent z [num, B, D] of q(z | x); see `draw`."""
  return draw(model.posterior(x, mask), num, seed)


def sample_prior(model: MultimodalVAE, num: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """z [num, D] from the prior. seed: int [2]."""
  return model.prior.distribution().sample(num, seed=tf.cast(seed, tf.int32))


def decode(model: MultimodalVAE, z: tf.Tensor,
           names: Collection[str] | None = None) -> dict[str, tf.Tensor]:
  """The most probable observation of each modality given z [..., D] (greedy for sentences).

  Args:
    model: a `MultimodalVAE`.
    z: [..., D].
    names: modalities to decode; None is all.

  Returns:
    {modality: [..., *shape]}
  """
  return {name: model.likelihood(name, z).mode() for name in model.modalities
          if names is None or name in names}


def means_and_kl(model: MultimodalVAE,
                 x: Mapping[str, tf.Tensor]) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
  """{modality: (means, KL(q(z_d | x_m) || p(z_d)) in nats), each [B, D]}."""
  prior = model.prior.distribution().distribution
  found = {}
  for m in model.present(x):
    components = model.posterior({m.name: x[m.name]}).components_distribution
    q = components.distribution[:, 0]  # of one modality there is one: batch [B, D]
    found[m.name] = q.mean(), kl_per_dimension(q, prior)
  return found


def kl_per_dimension(q: tfd.Distribution, p: tfd.Distribution, num_samples: int = 256,
                     seed: int = 0) -> tf.Tensor:
  """KL(q || p) in nats of univariate distributions, element by element.

  Exact where TFP knows the formula; else the mean over samples, z from the quantiles of q.

  Args:
    q: `tfd.Distribution` of batch [B, D].
    p: `tfd.Distribution` of batch [D].
    num_samples: z for each element.
    seed: of these.

  Returns:
    float [B, D]
  """
  try:
    return tfd.kl_divergence(q, p)
  except NotImplementedError:
    shape = tf.concat([[num_samples], q.batch_shape_tensor()], 0)
    z = q.quantile(joint_posteriors.uniform_noise(shape, tf.constant([seed, 0], tf.int64)))
    return tf.reduce_mean(q.log_prob(z) - p.log_prob(z), axis=0)
