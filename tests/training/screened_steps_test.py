"""Steps with screened particles against those with all of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import small
from tests.training import trainer_test as t
from tf_mmvae import joint_posteriors
from tf_mmvae.estimators import Estimator
from tf_mmvae.objectives import iwae, iwae_tight
from tf_mmvae.training.trainer import Trainer


def test_screening_sees_the_particles_that_all_else_sees():
  plain, screened = (t.make(screening=screening) for screening in (None, t.ONE_BEST))
  (expected,), (found,) = (t.steps(trainer, t.batches(trainer, 1)) for trainer in (plain, screened))
  for name in ("objective", "bound", "log_q_over_p", "effective_sample_size", "log_p_image"):
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)
  assert found["captured_weight"] < 1 == expected["captured_weight"]


@pytest.mark.parametrize("bound", [iwae, iwae_tight])
def test_independent_samples_in_chunks(bound):
  """Chunks leave the number of examples open, not that of particles."""
  estimator = Estimator(
      bound, sample=joint_posteriors.independent_sample, screening=t.ONE_BEST)
  found = []
  for size in (None, 2):
    keras.utils.set_random_seed(0)
    trainer = Trainer(small.model(), estimator, keras.optimizers.SGD(0.1),
                      tf.distribute.get_strategy(), t.NUM_SAMPLES, t.SEED, examples_per_chunk=size)
    found.append(trainer.step(small.values(t.BATCH_SIZE), {}, tf.constant(0, tf.int64)))
  for name, value in found[0].items():
    np.testing.assert_allclose(found[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
