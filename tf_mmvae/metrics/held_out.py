"""The training objective and the unweighted bound on data that was not trained on."""

import numpy as np
import tensorflow as tf

from tf_mmvae import joint_posteriors, objectives
from tf_mmvae.batch import Dataset
from tf_mmvae.estimators import Estimator, SubsampledEstimator
from tf_mmvae.metrics.findings import Figure
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.model import MultimodalVAE


class HeldOut:
  """Means over examples of the `objective` with its weights, and of bounds with weights 1, in nats.

  An example is what it has: its bounds are on log p of that, and without anything it is left out.
  `elbo`, `iwae` and `iwae_tight` share their samples; E[iwae_tight] <= log p(x) (see `objectives`).
  """

  def __init__(self, estimator: Estimator | SubsampledEstimator, num_samples: int,
               num_examples: int | None = None, batch_size: int | None = None, seed: int = 0,
               groups: str | None = None):
    """Sets how it is measured.

    Args:
      estimator: that of training; see `objectives`.
      num_samples: K, samples from each component.
      num_examples: how many of the data set's examples, evenly spread; None takes all.
      batch_size: examples measured at once. Memory grows with it times K, so by default it is 32,
        and less where K is above 62.
      seed: of the latent samples.
      groups: label whose equal values mark examples that are not independent, for the errors.
    """
    self._estimator, self._num_samples = estimator, num_samples
    self._num_examples, self._seed, self._groups = num_examples, seed, groups
    self._batch_size = batch_size or min(32, max(1, 2000 // num_samples))

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> dict[str, Figure]:
    """{name: (mean, standard error over examples, number of examples)}."""
    @tf.function
    def batch(x, mask, i):
      num_examples = tf.shape(next(iter(x.values())))[0]
      num_strata = self._estimator.num_strata(model, x)
      shape = [num_strata, self._num_samples, num_examples, model.latent_dim]
      noise = joint_posteriors.uniform_noise(shape, tf.stack([self._seed, i]))
      estimate = self._estimator(model, x, noise, mask)
      log_w = objectives.log_weights(estimate.particles)
      values = {"objective": estimate.objective,
                **{b.__name__: b(log_w, estimate.log_pi) for b in objectives.BOUNDS}}
      return values, model.any_present(x, mask)

    batches = dataset.spread(self._num_examples).batches(self._batch_size)
    spec = batches.element_spec
    batch = batch.get_concrete_function(spec.x, spec.mask, tf.TensorSpec([], tf.int32))
    values = {}
    groups = []
    for i, (x, y, mask) in enumerate(batches):
      of_batch, present = batch(x, mask, tf.constant(i))
      present = present.numpy()
      for name, value in of_batch.items():
        values.setdefault(name, []).append(value.numpy()[present])
      groups += list(y[self._groups].numpy()[present]) if self._groups else []
    return {name: mean_and_error(np.concatenate(v), groups or None) for name, v in values.items()}
