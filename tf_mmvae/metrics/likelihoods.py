"""Log-likelihoods by importance sampling: of one modality, of all, of one given another."""

import itertools

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_mmvae import objectives
from tf_mmvae.batch import Dataset
from tf_mmvae.metrics import likelihood_tables
from tf_mmvae.metrics.findings import Figure, Findings
from tf_mmvae.metrics.importance_samples import Sampler
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.metrics.progress import progress
from tf_mmvae.model import MultimodalVAE

tfd = tfp.distributions


class Likelihoods:
  """Log-likelihoods and the synergy test of Shi et al. (2019), in nats, with weights of 1.

  A model has synergy where q(z | x_1..M) explains x_m better than q(z | x_m) does. Means are over
  the examples that have all modalities that a figure is about. Every estimate but the ratio is
  `objectives.iwae_tight` of K samples from each of the S components of its proposal.

    log_p_<m>/from_<sources>   log p(x_m) by samples of q(z | sources), which are all modalities
                               (a+b), m itself or one other; bounds log p(x_m) from below and tends
                               to it, not to log p(x_m | x_n), also where n is the source
    synergy/<m>                the difference of the first two by example, and `synergy/<m>/z` in
                               standard errors
    joint/<bound>              on log p(x_1..M), by samples of q(z | x_1..M); see `objectives`
    predictive/<m>_given_<n>   log E_{q(z | x_n)} p(x_m | z): as good as q(z | x_n) is
    ratio/<m>_given_<n>        log p(x_m, x_n) - log p(x_n) by the same samples of q(z | x_1..M): a
                               difference of two lower bounds, and so no bound
    <estimate>/ess             effective sample size (sum w)^2 / sum w^2 of all S K weights; for a
                               ratio those of p(x_m, x_n)
    scale/<m>, size/<m>        b of a Laplace likelihood, or the standard deviation of a Gaussian
                               one, where it is fixed, and D
    ceiling/<m>                no log p(x_m) is above it: -D log(2 b), -D/2 log(2 pi s^2), or 0 for
                               discrete observations
  """

  title = "Synergy: likelihoods"

  def __init__(self, num_samples: int = 1000, num_examples: int | None = None,
               batch_size: int | None = None, seed: int = 0, groups: str | None = None,
               num_latents: int = 500):
    """Sets how it is measured.

    Args:
      num_samples: K, samples from each component; the paper takes 1000.
      num_examples: how many of the data set's examples, evenly spread; None takes all.
      batch_size: examples encoded at once; by default it is 32, and less where K is above 250.
      seed: of the latent samples.
      groups: label whose equal values mark examples that are not independent, for the errors.
      num_latents: decoded at once. Memory grows with it, and no figure depends on it.

    Raises:
      ValueError: if num_samples is below 1.
    """
    if not isinstance(num_samples, int) or num_samples < 1:
      raise ValueError(
          f"num_samples must be a whole number of at least 1, got {num_samples!r}")
    self._num_samples, self._num_examples = num_samples, num_examples
    self._batch_size = batch_size or min(32, max(1, 8000 // num_samples))
    self._seed, self._groups, self._num_latents = seed, groups, num_latents

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """`Findings`."""
    batches = dataset.spread(self._num_examples).batches(self._batch_size)
    names = [m.name for m in model.present(batches.element_spec.x)]
    figures = {}
    for figure, (values, groups) in self._values(model, names, batches).items():
      figures[figure] = mean_and_error(values, groups)
      if figure.startswith("synergy/"):
        figures[f"{figure}/z"] = _z_score(*figures[figure])
    for name in names:
      figures |= ceiling(model, name)
    return likelihood_tables.findings(figures, names)

  def _values(self, model, names, batches):
    """{figure: (values [N], groups [N] or None)} of the examples that have what it is about."""
    sampler, values, groups = None, {}, {}
    for i, batch in enumerate(progress(batches, "likelihoods")):
      x = {name: batch.x[name] for name in names}
      present = {name: batch.present(name).numpy() for name in names}
      sampler = sampler or Sampler(model, x, self._num_samples, self._num_latents)
      for figure, (about, value) in _estimates(sampler(x, [self._seed, i]), names).items():
        has = np.logical_and.reduce([present[name] for name in about])
        values.setdefault(figure, []).append(value.numpy()[has])
        groups.setdefault(figure, []).append(
            batch.y[self._groups].numpy()[has] if self._groups else [])
    return {figure: (np.concatenate(of), np.concatenate(groups[figure]) if self._groups else None)
            for figure, of in values.items()}


def _estimates(scored, names):
  """{figure: (modalities that it is about, values [B])} of {sources: `Scored`}."""
  every = "+".join(names)
  joint, found = scored[every], {}

  def estimate(figure, about, log_w, log_pi):
    found[figure] = about, objectives.iwae_tight(log_w, log_pi)
    found[f"{figure}/ess"] = about, _effective_sample_size(log_w, log_pi)

  for m, sources in itertools.product(names, dict.fromkeys([every, *names])):
    estimate(f"log_p_{m}/from_{sources}", names if sources == every else [m, sources],
             scored[sources].log_weights([m]), scored[sources].log_pi)
  if len(names) > 1:
    for m in names:
      together, alone = (found[f"log_p_{m}/from_{sources}"][1] for sources in (every, m))
      found[f"synergy/{m}"] = names, together - alone
  for bound in objectives.BOUNDS:
    found[f"joint/{bound.__name__}"] = names, bound(joint.log_weights(names), joint.log_pi)
  found["joint/iwae_tight/ess"] = names, _effective_sample_size(
      joint.log_weights(names), joint.log_pi)
  for m, n in itertools.permutations(names, 2):
    estimate(f"predictive/{m}_given_{n}", [m, n], scored[n].log_px[m], scored[n].log_pi)
    ratio = f"ratio/{m}_given_{n}"
    estimate(ratio, names, joint.log_weights([m, n]), joint.log_pi)
    found[ratio] = names, found[ratio][1] - found[f"log_p_{n}/from_{every}"][1]
  return found


def _effective_sample_size(log_w, log_pi):
  """From 1 to S K. [S, K, B], [S, B] -> [B]."""
  log_u = log_w + log_pi[:, tf.newaxis]
  return objectives.effective_sample_size(tf.reshape(log_u, [1, -1, log_u.shape[-1]]))[0]


def _z_score(value, error, num):
  """A mean in standard errors, whose own is 1; NaN where there is none."""
  return (value / error, 1., num) if error > 0 else (float("nan"), float("nan"), num)


def ceiling(model: MultimodalVAE, name: str) -> dict[str, Figure]:
  """What log p(x_m) cannot exceed, whatever the model has learnt: {figure: (value, 0, 1)}.

  It is log p(x_m | z) at its highest. {} for likelihoods of another kind, or whose scale is not
  fixed.
  """
  latents = tf.stack([tf.zeros(model.latent_dim), tf.ones(model.latent_dim)])
  likelihood = model.likelihood(name, latents)
  if likelihood.dtype.is_integer:
    return {f"ceiling/{name}": (0., 0., 1)}
  of_number = getattr(likelihood, "distribution", None)
  scales = np.unique(getattr(of_number, "scale", []))
  if not isinstance(of_number, (tfd.Laplace, tfd.Normal)) or len(scales) > 1:
    return {}
  size = likelihood.event_shape.num_elements()
  highest = type(of_number)(np.float64(0), np.float64(scales[0])).log_prob(np.float64(0))
  return {f"scale/{name}": (float(scales[0]), 0., 1), f"size/{name}": (float(size), 0., 1),
          f"ceiling/{name}": (size * float(highest), 0., 1)}
