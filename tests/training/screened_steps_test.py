"""Steps with screened particles against those with all of them."""

import numpy as np

from tests.training import trainer_test as t


def test_screening_sees_the_particles_that_all_else_sees():
  plain, screened = (t.make(screening=screening) for screening in (None, t.ONE_BEST))
  (expected,), (found,) = (t.steps(trainer, t.batches(trainer, 1)) for trainer in (plain, screened))
  for name in ("objective", "bound", "log_q_over_p", "effective_sample_size", "log_p_image"):
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)
  assert found["captured_weight"] < 1 == expected["captured_weight"]
