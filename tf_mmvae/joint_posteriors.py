"""Fusion: the experts q(z | x_m) of the modalities joined to one posterior q(z | x)."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def mixture_of_experts(experts, mask=None):
  """q(z | x) = 1/M sum_m q(z | x_m) over the modalities that are present (Shi et al. 2019, eq. 2).

  Args:
    experts: list of M `tfd.Distribution` of one family, batch [B], event [D].
    mask: bool [M, B], which modality each example has; None means all of them.

  Returns:
    `tfd.MixtureSameFamily`, batch [B], event [D], with S = M components; absent ones have
    logit -inf. Where an example has none of them the mixture is uniform, and means nothing.

  Raises:
    ValueError: if the experts are of different families.
  """
  components = _stack(experts)
  num_examples = components.batch_shape_tensor()[0]
  if mask is None:
    log_pi = tf.fill([num_examples, len(experts)], -tf.math.log(float(len(experts))))
  else:
    present = tf.transpose(mask)  # [B, S]
    present |= ~tf.reduce_any(present, axis=-1, keepdims=True)  # all of -inf would give NaN
    log_pi = tf.nn.log_softmax(tf.where(present, 0., -float("inf")))
  return tfd.MixtureSameFamily(tfd.Categorical(logits=log_pi), components)


def _stack(experts):
  """Joins M distributions of batch [B] to one of batch [B, M]."""
  families = {type(getattr(e, "distribution", e)).__name__ for e in experts}
  if len(families) > 1:
    raise ValueError(f"experts of one mixture must be of one family, got {sorted(families)}")
  return tf.nest.map_structure(
      lambda *parameters: tf.stack(parameters, axis=1), *experts, expand_composites=True)


def log_mixture_weights(posterior):
  """Log mixture weights log pi of a joint posterior, [S, B]; -inf where a component is absent."""
  return tf.transpose(tf.nn.log_softmax(posterior.mixture_distribution.logits_parameter()))


def stratified_sample(posterior, noise):
  """K samples from each component, reparameterised.

  Each component's inverse distribution function is applied to uniform noise, so the same noise
  gives the same samples on every device and gradients reach the component's parameters.

  Args:
    posterior: `tfd.MixtureSameFamily`, batch [B], S components, event [D].
    noise: uniform in (0, 1), [S, K, B, D].

  Returns:
    z: [S, K, B, D], z[s] from component s.
  """
  components = posterior.components_distribution.distribution  # batch [B, S, D]
  num_examples, num_components, latent_dim = components.batch_shape
  noise = tf.ensure_shape(noise, [num_components, None, num_examples, latent_dim])
  z = components.quantile(tf.transpose(noise, [1, 2, 0, 3]))  # [K, B, S, D]
  return tf.transpose(z, [2, 0, 1, 3])


def uniform_noise(shape, seed):
  """Noise for `stratified_sample`: uniform in the open interval (0, 1), the same on every device.

  Args:
    shape: of the noise.
    seed: int [2], stateless.
  """
  tiny = 2.0**-25
  return tf.maximum(tf.random.stateless_uniform(shape, seed, alg="philox"), tiny)
