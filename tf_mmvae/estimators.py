"""Estimators: a bound with a gradient and weights, called as `estimator(model, x, noise)`.

They return an `Estimate`; the gradient of its objective is the estimator's own.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_mmvae import joint_posteriors
from tf_mmvae.batch import COMPLETE
from tf_mmvae.modality import computing_in, couples_examples
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.objectives import (
  Bound,
  Estimate,
  Gradient,
  dreg,
  elbo,
  iwae,
  log_weights,
  reparameterised,
)
from tf_mmvae.screening import Screening


class Estimator:
  """A bound, an estimate of its gradient, and what the bound is weighted by."""

  def __init__(self, bound: Bound = iwae, gradient: Gradient = dreg,
               likelihood_weights: Mapping[str, float] | None = None, beta: float = 1.,
               sample: joint_posteriors.Sample = joint_posteriors.stratified_sample,
               screening: Screening | None = None):
    """Makes the choices.

    Args:
      bound: function (log_w [S, K, B], log_pi [S, B]) -> [B].
      gradient: one of `objectives.GRADIENTS`.
      likelihood_weights: {modality: weight} of the training objective, 1 where not named.
      beta: weight of log p(z) - log q(z | x) (Higgins et al. 2017).
      sample: `stratified_sample` or `independent_sample` of `joint_posteriors`.
      screening: `Screening`, which finds the particles that are backpropagated; None takes all.

    Raises:
      ValueError: if the bound is not one that can be screened.
    """
    self.bound, self._beta = bound, beta
    self._gradient, self._likelihood_weights, self._sample = gradient, likelihood_weights, sample
    self._screening = screening
    if screening:
      screening.check_bound(bound)

  def __str__(self):
    screened = f", {self._screening}" if self._screening else ""
    return f"{self.bound.__name__}, gradients {self._gradient.__name__}{screened}"

  @property
  def choices(self) -> dict[str, Any]:
    """{argument: value} of what was chosen."""
    return {"bound": self.bound, "gradient": self._gradient,
            "likelihood_weights": self._likelihood_weights, "beta": self._beta,
            "sample": self._sample, "screening": self._screening and str(self._screening)}

  def num_strata(self, model: MultimodalVAE, x: Mapping[str, Any]) -> int:
    """The first axis of the noise for x: an int."""
    return model.num_components(x) + bool(self._screening)

  def __call__(self, model: MultimodalVAE, x: Mapping[str, tf.Tensor], noise: tf.Tensor,
               mask: Mapping[str, tf.Tensor] = COMPLETE, training: bool = False) -> Estimate:
    """The bound of each example of x: `Estimate`.

    An example with nothing present has the objective 0 and gives no gradient.

    Args:
      model: `MultimodalVAE`.
      x: {modality: [B, ...]}.
      noise: uniform in (0, 1), [num_strata, K, B, D].
      mask: {modality: bool [B]}; see `Batch`.
      training: mode of the networks. Where particles are screened, there is no gradient without it.
    """
    model.check_names(self._likelihood_weights or {}, "likelihood_weights")
    experts = model.experts(x, mask, training)
    posterior = model.join(experts, x, mask)
    if self._screening:
      if training:
        self._screening.check_model(model)
      noise, choice = noise[:-1], noise[-1, 0, :, 0]
    z, log_pi = self._sample(posterior, noise)

    def weigh(z, posterior, dtype=None):
      with computing_in(dtype, [m.decoder for m in model.modalities.values()]):
        particles = model.score(x, z, posterior, mask, training)
      return particles, self._log_w(particles, experts, mask)

    def score(z, posterior):
      if self._screening:
        return self._screening(self.bound, weigh, z, posterior, log_pi, choice, training)
      particles, log_w = weigh(z, posterior)
      return Estimate(self.bound(log_w, log_pi), particles, log_pi, log_w)

    estimate = self._gradient(self.bound, self._beta, posterior, z, score)
    if estimate.objective.shape.rank != 1:
      raise ValueError(f"the bound {self.bound.__name__} must return [B], one value an example, "
                       f"got a tensor of shape {estimate.objective.shape}")
    if mask:
      estimate = estimate._replace(
          objective=tf.where(model.any_present(x, mask), estimate.objective, 0.))
    return estimate

  def _log_w(self, particles, experts, mask):
    """[S, K, B]. experts {modality: q(z | x_m)}, mask {modality: bool [B]}."""
    del experts, mask
    return log_weights(particles, self._likelihood_weights, self._beta)


class TotalCorrelationEstimator(Estimator):
  """MVTCAE's objective (Hwang et al. 2021), made for products of experts without the prior.

  With M modalities present, (1 - alpha) log p(z) + alpha mean_m log q(z | x_m) stands for log p(z),
  and likelihoods are multiplied by 1 - alpha / M. It is no bound on log p(x) for alpha above 0.
  """

  def __init__(self, alpha: float = 5 / 6, bound: Bound = elbo,
               gradient: Gradient = reparameterised,
               likelihood_weights: Mapping[str, float] | None = None, beta: float = 1.,
               sample: joint_posteriors.Sample = joint_posteriors.stratified_sample,
               screening: Screening | None = None):
    """`alpha` in [0, 1]; see `Estimator` for the others."""
    super().__init__(bound, gradient, likelihood_weights, beta, sample, screening)
    if not 0 <= alpha <= 1:
      raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    self._alpha = alpha

  def __str__(self):
    return f"{super().__str__()}, total correlation {self._alpha:.3g}"

  @property
  def choices(self) -> dict[str, Any]:
    """{argument: value} of what was chosen."""
    return {**super().choices, "alpha": self._alpha}

  def _log_w(self, particles, experts, mask):
    of_experts = {name: q.log_prob(particles.z) for name, q in experts.items()}
    if mask:
      of_experts = {name: tf.where(mask.get(name, True), log_qz, 0.)
                    for name, log_qz in of_experts.items()}
    present = tf.cast(tf.maximum(_num_present(experts, mask), 1), particles.z.dtype)  # M, [B]
    mean = sum(of_experts.values()) / present
    prior = (1. - self._alpha) * particles.log_pz + self._alpha * mean
    share = 1. - self._alpha / present
    return super()._log_w(particles._replace(log_pz=prior, log_px={
        name: share * log_px for name, log_px in particles.log_px.items()}), experts, mask)


class SubsampledEstimator:
  """The sum of an estimator's objective over subsets of the modalities (Wu & Goodman 2018, eq. 4).

  The subsets are all modalities, each alone, and `num_random` more an example, drawn evenly from
  those between. Experts of a product learn from single modalities by it. Where an example lacks
  some, subsets are of those it has, and what then is all of them, one, or none counts once. The sum
  is no bound on log p(x): each term is one of its own subset.
  """

  def __init__(self, estimator: Estimator, num_random: int = 0):
    """`num_random` subsets an example of 2 to M - 1 modalities."""
    self._estimator, self._num_random = estimator, num_random
    self.bound = estimator.bound

  def __str__(self):
    return f"{self._estimator} over subsets"

  @property
  def choices(self) -> dict[str, Any]:
    """{argument: value} of what was chosen, with that of the estimator."""
    return {**self._estimator.choices, "num_random": self._num_random}

  def num_strata(self, model: MultimodalVAE, x: Mapping[str, Any]) -> int:
    """The first axis of the noise for x: an int."""
    return sum(rows for *_, rows in self._passes(model, x))

  def __call__(self, model: MultimodalVAE, x: Mapping[str, tf.Tensor], noise: tf.Tensor,
               mask: Mapping[str, tf.Tensor] = COMPLETE, training: bool = False) -> Estimate:
    """As `Estimator`; particles are those of the pass that sees all modalities."""
    if training and self._num_random:
      self._refuse_coupled(model)
    first, begin = None, 0
    for names, random, rows in self._passes(model, x):
      own, begin = noise[begin:begin + rows], begin + rows
      seen = {n: m for n, m in mask.items() if n in names}
      if random:
        own, seen = own[1:], self._draw(names, own[0, 0, :, 0], seen)
      estimate = self._estimator(model, {n: x[n] for n in names}, own, seen, training)
      size = _num_present(names, seen)
      if first is None:
        first, of_all, objective = estimate, size, estimate.objective
        continue
      another = (size < of_all) & (size > 1 if random else size > 0)
      objective += tf.where(another, estimate.objective, 0.)
    return first._replace(objective=objective)

  def _refuse_coupled(self, model):
    for name, m in model.modalities.items():
      if couples_examples(m.encoder) or couples_examples(m.decoder):
        raise ValueError(
            f"modality '{name}': its networks compute with statistics of their batch, which would "
            "count what random subsets leave out: take such layers out, or give num_random = 0")

  def _passes(self, model, x):
    """Of each pass: names of its modalities, whether it draws from them, rows of noise."""
    names = [m.name for m in model.present(x)]
    alone = [[n] for n in names] if len(names) > 1 else []
    passes = [(of, False, self._estimator.num_strata(model, {n: x[n] for n in of}))
              for of in [names, *alone]]
    if self._num_random and len(names) < 3:
      raise ValueError(f"num_random subsets lie between single modalities and all of them, so they "
                       f"need at least 3 modalities, got {names}: give 0")
    return passes + self._num_random * [(names, True, passes[0][-1] + 1)]

  def _draw(self, names, noise, mask):
    """A mask of a subset of 2 to M - 1 modalities for each of noise [B]."""
    subsets = tf.constant([[n in s for n in names] for size in range(2, len(names))
                           for s in itertools.combinations(names, size)])  # [N, M]
    chosen = tf.gather(subsets, tf.cast(noise * float(len(subsets)), tf.int32))  # [B, M]
    return {n: mask.get(n, True) & seen
            for n, seen in zip(names, tf.unstack(chosen, axis=1), strict=True)}


def _num_present(names, mask):
  """How many of the modalities each example has: [B], or [] without a mask."""
  return sum(tf.cast(mask.get(name, True), tf.int32) for name in names)
