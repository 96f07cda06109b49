"""Fusion: the experts q(z | x_m) of the modalities joined to one posterior q(z | x).

A fusion rule lists the components of a mixture: M experts, their one product, or the products of
all their subsets. It is an object, called as `rule(experts, prior, mask)`, that returns a mixture,
batch [B], event [D], of S components:

  experts   list of M `tfd.Independent` of a location-scale family, batch [B], event [D]
  prior     p(z) of the same kind, batch [], event [D]
  mask      bool [M, B], which modality each example has; None means all of them

Components of absent modalities have log mixture weight -inf. An example with nothing present has
the prior as its posterior, or its location and scale where no expert is of the prior's family.
"""

import abc
import dataclasses
import itertools
from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

# A joint posterior and noise -> z and log_pi; see `stratified_sample`.
Sample = Callable[[tfd.Distribution, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class FusionRule(abc.ABC):
  """Which products of experts a joint posterior mixes; see the head of this file."""

  multiplies = False  # whether experts are factors: one that has no say must then not be one

  def num_components(self, num_modalities: int) -> int:
    """S for M modalities."""
    return len(self.subsets(num_modalities))

  @abc.abstractmethod
  def subsets(self, num_modalities: int) -> list[tuple[int, ...]]:
    """The modalities, by their numbers below M, that each of the S components joins.

    A component is the same whatever other modalities there are: by this samples are shared.
    """

  @abc.abstractmethod
  def __call__(self, experts: Sequence[tfd.Distribution], prior: tfd.Distribution,
               mask: tf.Tensor | None = None) -> tfd.Distribution:
    """The joint posterior, a mixture of S components, batch [B], event [D]."""


@dataclasses.dataclass(frozen=True)
class MixtureOfExperts(FusionRule):
  """q(z | x) = 1/M sum_m q(z | x_m) over the modalities present (Shi et al. 2019, eq. 2).

  S = M. `tfd.MixtureSameFamily`, or `tfd.Mixture` where the experts differ in family.
  """

  def __str__(self):
    return "mixture_of_experts"

  def subsets(self, num_modalities: int) -> list[tuple[int, ...]]:
    return [(m,) for m in range(num_modalities)]

  def __call__(self, experts: Sequence[tfd.Distribution], prior: tfd.Distribution,
               mask: tf.Tensor | None = None) -> tfd.Distribution:
    experts, mask = _with_prior(experts, prior, mask)
    return _mixture(experts, mask)


@dataclasses.dataclass(frozen=True)
class ProductOfExperts(FusionRule):
  """q(z | x) ~ p(z) prod_m q(z | x_m) over the modalities present (Wu & Goodman 2018, section 2.1).

  S = 1, Gaussian in closed form: precisions add up. Called with an expert, or a prior as a factor,
  that is not Gaussian, it raises a ValueError.

  Args:
    prior_expert: whether the prior is a factor; it is in MVAE, and is not in MVTCAE.
  """

  prior_expert: bool = True

  multiplies = True

  def __str__(self):
    return "product_of_experts" if self.prior_expert else "product_of_experts without the prior"

  def subsets(self, num_modalities: int) -> list[tuple[int, ...]]:
    return [tuple(range(num_modalities))]

  def __call__(self, experts: Sequence[tfd.Distribution], prior: tfd.Distribution,
               mask: tf.Tensor | None = None) -> tfd.Distribution:
    if not self.prior_expert:
      return _mixture([_product(*_with_prior(experts, prior, mask))])
    factors = [*experts, _batched(prior, experts[0])]
    if mask is not None:
      mask = tf.concat([mask, tf.ones_like(mask[:1])], axis=0)
    return _mixture([_product(factors, mask)])


@dataclasses.dataclass(frozen=True)
class MixtureOfProducts(FusionRule):
  """The even mixture of the products of all non-empty subsets (MoPoE, Sutter et al. 2021).

  S = 2^M - 1, single experts first and the product of all last. An absent modality takes away all
  subsets that it is in. Called with an expert that is not Gaussian, it raises a ValueError.
  """

  multiplies = True

  def __str__(self):
    return "mixture_of_products"

  def subsets(self, num_modalities: int) -> list[tuple[int, ...]]:
    return [s for size in range(1, num_modalities + 1)
            for s in itertools.combinations(range(num_modalities), size)]

  def __call__(self, experts: Sequence[tfd.Distribution], prior: tfd.Distribution,
               mask: tf.Tensor | None = None) -> tfd.Distribution:
    experts, mask = _with_prior(experts, prior, mask)
    subsets = self.subsets(len(experts))
    if mask is not None:
      mask = tf.stack([tf.reduce_all(tf.gather(mask, s), axis=0) for s in subsets])
    return _mixture([_product([experts[m] for m in s]) for s in subsets], mask)


def _mixture(components, mask=None):
  """The even mixture of those that are present; at least one must be."""
  shape = [components[0].batch_shape_tensor()[0], len(components)]
  present = tf.fill(shape, True) if mask is None else tf.transpose(mask)  # [B, S]
  weights = tfd.Categorical(logits=tf.nn.log_softmax(tf.where(present, 0., -float("inf"))))
  if len({_family(c) for c in components}) > 1:
    return tfd.Mixture(weights, components)
  return tfd.MixtureSameFamily(weights, tf.nest.map_structure(
      lambda *parameters: tf.stack(parameters, axis=1), *components, expand_composites=True))


def _product(factors, mask=None):
  """The product of Gaussians, batch [B], of those that are present; at least one must be."""
  families = sorted({_family(f).__name__ for f in factors} - {"Normal"})
  if families:
    raise ValueError(
        f"a product of {' and '.join(families)} experts has no closed form: give modalities and "
        "prior the family normal, or join them by MixtureOfExperts")
  locs = tf.stack([f.distribution.loc for f in factors])  # [M, B, D]
  precisions = tf.stack([f.distribution.scale for f in factors])**-2
  if mask is not None:
    precisions = tf.where(mask[..., tf.newaxis], precisions, 0.)
  precision = tf.reduce_sum(precisions, axis=0)
  loc = tf.reduce_sum(precisions * locs, axis=0) / precision
  return tfd.Independent(tfd.Normal(loc, tf.math.rsqrt(precision)), 1)


def _with_prior(experts, prior, mask):
  """Puts the prior in an expert's place, and it alone, in examples that have nothing."""
  if mask is None:
    return experts, None
  nothing = ~tf.reduce_any(mask, axis=0)  # [B]
  families = [_family(e) for e in experts]
  place = families.index(_family(prior)) if _family(prior) in families else 0
  replaced = tf.nest.map_structure(
      lambda own, of_prior: tf.where(nothing[:, tf.newaxis], of_prior, own),
      *[[q.distribution.loc, q.distribution.scale] for q in (experts[place], prior)])
  experts = [*experts]
  experts[place] = tfd.Independent(families[place](*replaced), 1)
  at_place = tf.equal(tf.range(len(experts)), place)
  return experts, tf.convert_to_tensor(mask) | at_place[:, tf.newaxis] & nothing


def _batched(prior, expert):
  """The prior for every example: batch [B]."""
  shape = tf.shape(expert.distribution.loc)
  return tfd.Independent(_family(prior)(
      tf.broadcast_to(prior.distribution.loc, shape),
      tf.broadcast_to(prior.distribution.scale, shape)), 1)


def _family(distribution):
  return type(distribution.distribution)


def num_components(posterior: tfd.Distribution) -> int:
  """S, an int."""
  return _weights(posterior).logits_parameter().shape[-1]


def log_mixture_weights(posterior: tfd.Distribution) -> tf.Tensor:
  """Log mixture weights log pi of a joint posterior, [S, B]; -inf where a component is absent."""
  return tf.transpose(tf.nn.log_softmax(_weights(posterior).logits_parameter()))


def component_log_prob(posterior: tfd.Distribution, z: tf.Tensor) -> tf.Tensor:
  """log q_s(z) in nats of every component s. z [..., B, D] -> [..., B, S]."""
  if isinstance(posterior, tfd.Mixture):
    return tf.stack([c.log_prob(z) for c in posterior.components], axis=-1)
  return posterior.components_distribution.log_prob(z[..., tf.newaxis, :])


def _weights(posterior):
  mixed = isinstance(posterior, tfd.Mixture)
  return posterior.cat if mixed else posterior.mixture_distribution


def stratified_sample(posterior: tfd.Distribution, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """K samples from each component, reparameterised.

  Each component's inverse distribution function is applied to uniform noise, so the same noise
  gives the same samples on every device and gradients reach the component's parameters.

  Args:
    posterior: a mixture, batch [B], S components, event [D].
    noise: uniform in (0, 1), [S, K, B, D].

  Returns:
    z: [S, K, B, D], z[s] from component s.
    log_pi: [S, B], the log weights of the components.
  """
  noise = tf.ensure_shape(noise, [
      num_components(posterior), None, posterior.batch_shape[0], posterior.event_shape[0]])
  return _quantiles(posterior, noise), log_mixture_weights(posterior)


def independent_sample(posterior: tfd.Distribution,
                       noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Independent samples of the mixture itself, reparameterised given the components they are from.

  The first dimension's noise chooses the component, and what it leaves is uniform again.

  Args:
    posterior: a mixture, batch [B], S components, event [D].
    noise: uniform in (0, 1), [N, K, B, D].

  Returns:
    z: [1, N K, B, D], one stratum.
    log_pi: [1, B], all 0.
  """
  num = noise.shape[0] * noise.shape[1]
  noise = tf.reshape(noise, tf.concat([[num], tf.shape(noise)[2:]], 0))  # [N K, B, D]
  pi = tf.exp(tf.transpose(log_mixture_weights(posterior)))  # [B, S]
  first = noise[..., :1]  # [N K, B, 1]
  below = tf.cumsum(pi, axis=-1, exclusive=True)
  # The last component with a weight that begins below the noise: rounding cannot choose another.
  chosen = tf.argmax(tf.where((pi > 0) & (below < first), below, -1.), axis=-1)  # [N K, B]
  one_hot = tf.one_hot(chosen, pi.shape[-1])  # [N K, B, S]
  left = (first[..., 0] - tf.reduce_sum(one_hot * below, -1)) / tf.reduce_sum(one_hot * pi, -1)
  left = tf.clip_by_value(left, _TINY, 1. - 2 * _TINY)[..., tf.newaxis]
  noise = tf.concat([left, noise[..., 1:]], axis=-1)
  of_all = _quantiles(posterior, tf.repeat(noise[tf.newaxis], pi.shape[-1], 0))  # [S, N K, B, D]
  z = tf.gather(tf.transpose(of_all, [1, 2, 0, 3]), chosen, batch_dims=2)
  return z[tf.newaxis], tf.zeros_like(pi[tf.newaxis, :, 0])


def _quantiles(posterior, noise):
  """Component s at noise[s]. [S, K, B, D] -> [S, K, B, D]."""
  if isinstance(posterior, tfd.Mixture):
    return tf.stack([c.distribution.quantile(u) for c, u in zip(
        posterior.components, tf.unstack(noise), strict=True)])
  components = posterior.components_distribution.distribution  # batch [B, S, D]
  z = components.quantile(tf.transpose(noise, [1, 2, 0, 3]))  # [K, B, S, D]
  return tf.transpose(z, [2, 0, 1, 3])


_TINY = 2.0**-25


def uniform_noise(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Noise for sampling: uniform in the open interval (0, 1), the same on every device.

  Args:
    shape: of the noise.
    seed: int [2], stateless.
  """
  return tf.maximum(tf.random.stateless_uniform(shape, seed, alg="philox"), _TINY)
