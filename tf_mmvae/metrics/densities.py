"""Where samples of z come from: the prior, or a density fitted to the aggregate posterior."""

import weakref
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf
from absl import logging
from sklearn.mixture import GaussianMixture

from tf_mmvae import inference
from tf_mmvae.batch import Dataset
from tf_mmvae.metrics.findings import Findings, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.metrics.progress import progress
from tf_mmvae.model import MultimodalVAE

COMPONENTS = (1, 2, 5, 10, 20, 50, 100)
FLOORS = (1., 0.1, 0.01, 0.001)  # of variances, in those of the prior
_MAX_ITERATIONS = 200


class Source(Protocol):
  """Where samples of z come from."""

  def sample(self, model: MultimodalVAE, num: int, seed: int) -> np.ndarray:
    """z float32 [num, D]."""


class PriorSource:
  """The prior p(z) as a source of samples."""

  def sample(self, model: MultimodalVAE, num: int, seed: int) -> np.ndarray:
    """z float32 [num, D]; seed: an integer."""
    return inference.sample_prior(model, num, tf.constant([seed, 1], tf.int64)).numpy()


class AggregatePosterior:
  """A density fitted to the aggregate posterior, the mean of q(z | x) over examples.

  What is decoded from the prior is no better than the prior fits the latents that the decoders
  were trained on. This density is fitted to those: a mixture of Gaussians with full covariances,
  by EM, to one sample of the joint posterior of each of some examples, in units of the prior's
  standard deviations. The number of components and the least variance are those that give the
  highest mean log-density to samples of other examples; where there are none, the simplest.

  A source of samples, and a metric: the log-density in nats of posterior samples of the data that
  it is called on, under the prior and under the fitted density. It is fitted once a model.
  """

  title = "Joint generation: how well the prior fits the latents"

  def __init__(self, dataset: Dataset, candidates: Sequence[int] = COMPONENTS,
               num_examples: int = 5000, num_held_out: int = 1000, batch_size: int = 100,
               seed: int = 0, groups: str | None = None):
    """Sets what it is fitted to.

    Args:
      dataset: examples to fit to, such as those of training.
      candidates: numbers of components; more than a fifth of the examples are not tried.
      num_examples: how many it is fitted to, drawn at random.
      num_held_out: how many others choose among the fits; where there are not enough examples for
        both, a sixth of them.
      batch_size: examples encoded at once.
      seed: of the draw, the latent samples and the fits.
      groups: label whose equal values mark examples that are not independent, for the errors.
    """
    self._dataset, self._candidates = dataset, sorted(candidates)
    self._num_examples, self._num_held_out = num_examples, num_held_out
    self._batch_size, self._seed, self._groups = batch_size, seed, groups
    self._fitted = weakref.WeakKeyDictionary()

  def sample(self, model: MultimodalVAE, num: int, seed: int) -> np.ndarray:
    """z float32 [num, D]; seed: an integer."""
    mixture = self._fit(model)
    mixture.random_state = seed
    u, _ = mixture.sample(num)
    u = np.random.default_rng(seed).permutation(u)  # they come in the order of the components
    loc, scale = _units(model)
    return (loc + scale * u).astype(np.float32)

  def log_prob(self, model: MultimodalVAE, z: np.ndarray) -> np.ndarray:
    """The fitted log-density in nats of z [N, D]: float [N]."""
    loc, scale = _units(model)
    return self._fit(model).score_samples((z - loc) / scale) - np.sum(np.log(scale))

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """Mean log-density of one posterior sample an example, in nats.

    Returns:
      `Findings` of "prior", "fitted", "gain" (fitted less prior, with the error of the pairs),
      and "components", the number of Gaussians.
    """
    mixture = self._fit(model)
    z, groups = self._encode(model, dataset, self._seed + 1)
    if not len(z):
      return Findings({}, remarks=("No example has anything to encode.",))
    of_prior = model.prior.distribution().log_prob(z).numpy()
    of_fitted = self.log_prob(model, z)
    figures = {name: mean_and_error(values, groups) for name, values in (
        ("prior", of_prior), ("fitted", of_fitted), ("gain", of_fitted - of_prior))}
    figures["components"] = mixture.n_components, float("nan"), self._num_fitted
    table = Table(
        "Log-density of the joint posterior's samples", ["log-density", "less the prior's"],
        {"prior": ["prior", None], "fitted density": ["fitted", "gain"]}, "nats",
        f"The fitted density is a mixture of {mixture.n_components} Gaussians, fitted to the "
        "posteriors of other examples. The more it gains on the prior, the less do samples of the "
        "prior look like the latents that the decoders were trained on.", {"log-density": "high"})
    return Findings(figures, (table,))

  def _fit(self, model):
    """The `GaussianMixture` of a model, over z in units of the prior."""
    if model not in self._fitted:
      loc, scale = _units(model)
      fit, held_out = ((z - loc) / scale for z in self._samples(model))
      self._fitted[model] = fitted_mixture(fit, held_out, self._candidates, self._seed)
      self._num_fitted = len(fit)
    return self._fitted[model]

  def _samples(self, model):
    """Posterior samples to fit to, and others to choose by, each [N, D]."""
    num = self._dataset.num_examples
    num_held_out = min(self._num_held_out, num // 6)
    order = np.random.default_rng(self._seed).permutation(num)
    order = order[:self._num_examples + num_held_out]
    z, _ = self._encode(model, self._dataset.subset(order), self._seed)
    if not len(z):
      raise ValueError("AggregatePosterior: its examples have nothing to encode: give others")
    return np.split(z, [max(len(z) - num_held_out, 1)])

  def _encode(self, model, dataset, seed):
    """One z of q(z | x) for each example that has anything [N, D], and its group."""
    @tf.function
    def encode(x, mask, i):
      z = inference.sample_posterior(model, x, tf.stack([seed, i]), mask)
      return z, model.any_present(x, mask)

    batches = dataset.batches(self._batch_size)
    spec = batches.element_spec
    encode = encode.get_concrete_function(spec.x, spec.mask, tf.TensorSpec([], tf.int32))
    samples, groups = [], []
    for i, (x, y, mask) in enumerate(progress(batches, "latents")):
      z, present = (value.numpy() for value in encode(x, mask, tf.constant(i)))
      samples.append(z[present])
      groups += list(y[self._groups].numpy()[present]) if self._groups else []
    return np.concatenate(samples), groups or None


def fitted_mixture(points: np.ndarray, held_out: np.ndarray, candidates: Sequence[int] = COMPONENTS,
                   seed: int = 0) -> GaussianMixture:
  """The mixture of Gaussians under which other points have the highest mean log-density.

  Args:
    points: float [N, D] of about unit variance, at least one.
    held_out: float [N', D]; where there is none the first candidate is taken as it is, with unit
      variance as its least.
    candidates: numbers of components, rising; those above the first are tried while N is at least
      5 of each and more components are better than fewer.
    seed: of k-means, where EM begins.

  Returns:
    `sklearn.mixture.GaussianMixture`
  """
  best, highest = None, -np.inf
  for num in progress(candidates, "components"):
    if best is not None and (not len(held_out) or 5 * num > len(points)):
      break
    fits = [_fit(points, num, floor, seed) for floor in FLOORS[:None if len(held_out) else 1]]
    scores = [fit.score(held_out) if len(held_out) else 0. for fit in fits]
    logging.debug("%d Gaussians: %s nats", num, np.round(scores, 3))
    if max(scores) <= highest:
      break
    best, highest = fits[np.argmax(scores)], max(scores)
  return best


def _fit(points, num, floor, seed):
  points = np.repeat(points, 2, 0) if len(points) == 1 else points  # it takes two
  return GaussianMixture(min(num, len(points)), reg_covar=floor, max_iter=_MAX_ITERATIONS,
                         random_state=seed).fit(points)


def _units(model):
  """The prior's means and standard deviations, float64 [D]."""
  prior = model.prior.distribution()
  return prior.mean().numpy().astype(float), prior.stddev().numpy().astype(float)
