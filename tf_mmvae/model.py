"""The multimodal VAE: a prior, a modality for each kind of observation, and their fusion."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tf_mmvae import distributions, joint_posteriors
from tf_mmvae.batch import COMPLETE, Batch
from tf_mmvae.modality import Modality

tfd = tfp.distributions


class Particles(NamedTuple):
  """Samples z and their unweighted log-densities in nats; S components, K samples each."""

  z: tf.Tensor  # [S, K, B, D]
  log_pz: tf.Tensor  # [S, K, B]
  log_qz: tf.Tensor  # [S, K, B], under the joint posterior
  log_px: dict[str, tf.Tensor]  # {modality: [S, K, B]}


class Prior(keras.layers.Layer):
  """p(z): mean 0 and scales that are learnt, or stay at `scale`(0): 1 each by default.

  The scales sum to D by default, so that learning them cannot shrink the whole latent space.
  """

  def __init__(self, latent_dim: int, family: distributions.Family = distributions.laplace,
               learn_scale: bool = True, scale: distributions.Scale = distributions.softmax_scale):
    super().__init__(name="prior")
    if not isinstance(latent_dim, int) or latent_dim < 1:
      raise ValueError(f"latent_dim must be a whole number of at least 1, got {latent_dim}")
    self.latent_dim = latent_dim
    self._family, self._scale = family, scale
    self.raw_scale = self.add_weight(
        shape=[latent_dim], initializer="zeros", trainable=learn_scale, name="raw_scale")
    self.built = True

  @property
  def parts(self) -> dict[str, Any]:
    """{name: function or value} of what it is made of."""
    return {"family": self._family, "scale": self._scale,
            "learn_scale": self.raw_scale.trainable}

  def distribution(self) -> tfd.Distribution:
    """`tfd.Distribution`, batch [], event [D]."""
    raw_scale = tf.convert_to_tensor(self.raw_scale)
    return self._family(tf.concat([tf.zeros_like(raw_scale), raw_scale], 0), scale=self._scale)

  def call(self, z: tf.Tensor) -> tf.Tensor:
    """log p(z) in nats. z [..., D] -> [...]."""
    return self.distribution().log_prob(z)

  def get_config(self) -> dict:
    """Raises TypeError: functions cannot be written down."""
    raise TypeError("a Prior holds functions, which Keras cannot write down: make it anew")


def expert_dim(latent_dim: int, private_dim: int, num_modalities: int) -> int:
  """Latent dimensions that one modality sees: those shared and its private ones.

  Args:
    latent_dim: D of the whole z.
    private_dim: of each modality.
    num_modalities: M.

  Raises:
    ValueError: if the private dimensions leave none to share.
  """
  shared = latent_dim - num_modalities * private_dim
  if private_dim < 0 or shared < 1:
    raise ValueError(f"private_dim must be at least 0 and leave some of the {latent_dim} latent "
                     f"dimensions to share among {num_modalities} modalities, got {private_dim}")
  return shared + private_dim


class MultimodalVAE(keras.Model):
  """A prior p(z), likelihoods p(x_m | z), and a joint posterior q(z | x) of any modalities.

  `x` is a dict by modality name; a modality without a key is missing for the whole batch, and
  `mask` {name: bool [B]} says it for single examples; see `Batch`.
  """

  def __init__(self, modalities: Sequence[Modality], prior: Prior,
               joint_posterior: joint_posteriors.FusionRule | None = None, private_dim: int = 0):
    """Joins the parts and creates their variables.

    Args:
      modalities: list of `Modality`, each with a name of its own.
      prior: layer with `latent_dim`, D, and `.distribution()`.
      joint_posterior: `FusionRule` of `joint_posteriors`; None is `MixtureOfExperts()`.
      private_dim: latent dimensions of each modality that no other sees (MMVAE+, Palumbo et al.
        2023). z is then the shared dimensions and M private parts side by side; an expert is over
        the shared ones and its own, `expert_dim` in all, and leaves the others to the prior.

    Raises:
      ValueError: for no modalities or two of one name, private latents where they do not fit, or a
        rule that makes another number of components than it says.
    """
    super().__init__()
    names = [m.name for m in modalities]
    if not names or len(set(names)) < len(names):
      raise ValueError(f"modalities must have names of their own, and be at least one; got {names}")
    joint_posterior = joint_posterior or joint_posteriors.MixtureOfExperts()
    if not isinstance(joint_posterior, joint_posteriors.FusionRule):
      raise ValueError(f"joint_posterior must be a fusion rule, such as MixtureOfExperts(), got "
                       f"{joint_posterior!r}")
    if private_dim and joint_posterior.multiplies:
      raise ValueError("private latents are joined by MixtureOfExperts alone: a product would "
                       "multiply each by the priors of all other experts")
    self.prior = prior
    self.joint_posterior = joint_posterior
    self._private_dim = private_dim
    self._expert_dim = expert_dim(prior.latent_dim, private_dim, len(names))
    # Held as attributes as well: a checkpoint passes over layers that only a dict holds.
    self.modalities = {m.name: m for m in modalities}
    for modality in modalities:
      setattr(self, f"modality_{modality.name}", modality)
    self.build()

  def build(self, input_shape: Any = None) -> None:
    """Creates every variable by scoring one example of zeros."""
    del input_shape
    x = {name: tf.zeros([1, *m.spec.shape[1:]], m.spec.dtype)
         for name, m in self.modalities.items()}
    posterior = self.posterior(x)
    said, found = self.num_components(x), joint_posteriors.num_components(posterior)
    if said != found:
      raise ValueError(f"joint_posterior '{self.joint_posterior}' made {found} components of "
                       f"{len(x)} modalities, but its num_components says {said}: make its "
                       "subsets and its __call__ agree")
    self.score(x, tf.zeros([1, 1, 1, self.latent_dim]), posterior)
    for modality in self.modalities.values():
      modality.built = True
    self.built = True

  def call(self, x: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
    """Reconstructions and translations: what the mean of q(z | x) is decoded to, its modes.

    Args:
      x: {modality: [B, ...]} of any modalities.
      training: mode of the networks.

    Returns:
      {modality: [B, *shape]} of all modalities of the model.
    """
    z = self.posterior(x, training=training).mean()  # [B, D]
    return {name: p.mode() for name, p in self.likelihoods(z, training).items()}

  def fit(self, *args, **kwargs) -> None:
    """Raises TypeError, as all of Keras' training does: see `Experiment`."""
    raise TypeError("a MultimodalVAE has no loss that Keras could compile and fit: train it by "
                    "Experiment(...).run(path), or by training.train")

  compile = evaluate = train_on_batch = test_on_batch = fit

  def get_config(self) -> dict:
    """Raises TypeError: parts such as functions cannot be written down."""
    raise TypeError("a MultimodalVAE is made anew by the function that made it, and takes its "
                    "weights from a checkpoint or by load_weights; Keras' saving of whole models "
                    "cannot hold it")

  @property
  def private_dim(self) -> int:
    """Latent dimensions of each modality that no other sees."""
    return self._private_dim

  @property
  def latent_dim(self) -> int:
    """D."""
    return self.prior.latent_dim

  def present(self, x: Mapping[str, Any]) -> list[Modality]:
    """The modalities that x holds, in the model's order.

    Raises:
      ValueError: if x holds none, or one that the model does not know.
    """
    unknown = set(x) - set(self.modalities)
    if unknown or not x:
      raise ValueError(f"expected some of the modalities {list(self.modalities)}, got {list(x)}")
    return [m for name, m in self.modalities.items() if name in x]

  def check_names(self, names: Iterable[str], what: str) -> None:
    """Raises ValueError if some of the names are of no modality; `what` holds them."""
    unknown = sorted(set(names) - set(self.modalities))
    if unknown:
      raise ValueError(f"{what} for {unknown}, but the model's modalities are "
                       f"{list(self.modalities)}: correct the name, or add the modality")

  def any_present(self, x: Mapping[str, tf.Tensor], mask: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Which examples have any modality: bool [B]."""
    return tf.reduce_any(self._stacked(x, mask), axis=0)

  def _stacked(self, x, mask):
    """Which modality of x each example has: bool [M, B]."""
    batch = Batch(x, mask=mask)
    return tf.stack([batch.present(m.name) for m in self.present(x)])

  def posterior(self, x: Mapping[str, tf.Tensor], mask: Mapping[str, tf.Tensor] = COMPLETE,
                training: bool = False) -> tfd.Distribution:
    """q(z | x) from any non-empty subset of the modalities: batch [B], event [D]."""
    return self.join(self.experts(x, mask, training), x, mask)

  def join(self, experts: Mapping[str, tfd.Distribution], x: Mapping[str, tf.Tensor],
           mask: Mapping[str, tf.Tensor] = COMPLETE) -> tfd.Distribution:
    """q(z | x) of the `experts` of x."""
    return self.joint_posterior(list(experts.values()), self.prior.distribution(),
                                self._stacked(x, mask) if mask else None)

  def experts(self, x: Mapping[str, tf.Tensor], mask: Mapping[str, tf.Tensor] = COMPLETE,
              training: bool = False) -> dict[str, tfd.Distribution]:
    """{modality: q(z | x_m)}, batch [B], event [D], of the modalities that x holds."""
    self.check_names(mask, "mask")
    experts = {m.name: m.posterior(x[m.name], training, mask.get(m.name))
               for m in self.present(x)}
    for name, expert in experts.items():
      if expert.event_shape != [self._expert_dim]:
        raise ValueError(f"modality '{name}': expected an encoder of {self._expert_dim} latent "
                         f"dimensions, got {expert.event_shape[0]}: make its latent_dim and that "
                         "of the prior agree")
    return {name: self._extended(name, expert) for name, expert in experts.items()}

  def _extended(self, name, expert):
    """An expert with the prior for the private latents of the other modalities."""
    if not self._private_dim:
      return expert
    seen = self._dimensions(name)
    place = [seen.index(d) if d in seen else len(seen) + d for d in range(self.latent_dim)]
    prior = self.prior.distribution()
    parameters = [tf.gather(tf.concat([own, tf.broadcast_to(of_prior, tf.concat(
        [tf.shape(own)[:-1], tf.shape(of_prior)], 0))], -1), place, axis=-1) for own, of_prior in [
            (expert.distribution.loc, prior.distribution.loc),
            (expert.distribution.scale, prior.distribution.scale)]]
    return type(expert)(type(expert.distribution)(*parameters), 1)

  def _dimensions(self, name):
    """The dimensions of z that a modality sees: shared ones first, a list of ints."""
    shared = self._expert_dim - self._private_dim
    first = shared + list(self.modalities).index(name) * self._private_dim
    return [*range(shared), *range(first, first + self._private_dim)]

  def _seen(self, name, z):
    """[..., D] -> [..., expert_dim]."""
    return tf.gather(z, self._dimensions(name), axis=-1) if self._private_dim else z

  def likelihood(self, name: str, z: tf.Tensor, training: bool = False) -> tfd.Distribution:
    """p(x_m | z) of a modality. z [..., B, D] -> `tfd.Distribution`, batch [..., B]."""
    return self.modalities[name].likelihood(self._seen(name, z), training)

  def num_components(self, x: Mapping[str, Any]) -> int:
    """S, the number of components of the joint posterior of x: an int."""
    return self.joint_posterior.num_components(len(self.present(x)))

  def likelihoods(self, z: tf.Tensor, training: bool = False) -> dict[str, tfd.Distribution]:
    """{modality: p(x_m | z)} for z [..., B, D]."""
    return {name: self.likelihood(name, z, training) for name in self.modalities}

  def score(self, x: Mapping[str, tf.Tensor], z: tf.Tensor, posterior: tfd.Distribution,
            mask: Mapping[str, tf.Tensor] = COMPLETE, training: bool = False) -> Particles:
    """`Particles` of given z [S, K, B, D] under the model and `posterior`.

    Modalities that are absent, for the batch or for an example, add nothing.
    """
    return Particles(
        z=z,
        log_pz=self.prior.distribution().log_prob(z),
        log_qz=posterior.log_prob(z),
        log_px={m.name: m.log_likelihood(
            x[m.name], self._seen(m.name, z), training, mask.get(m.name))
                for m in self.present(x)})

  def particles(self, x: Mapping[str, tf.Tensor], noise: tf.Tensor,
                mask: Mapping[str, tf.Tensor] = COMPLETE, training: bool = False) -> Particles:
    """Samples of q(z | x) for uniform noise [S, K, B, D], scored: `Particles`.

    S is the number of components of the posterior of x.
    """
    posterior = self.posterior(x, mask, training)
    z, _ = joint_posteriors.stratified_sample(posterior, noise)
    return self.score(x, z, posterior, mask, training)
