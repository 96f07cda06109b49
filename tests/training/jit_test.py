"""Steps that XLA compiles against those that it does not."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training import trainer_test as t


@pytest.mark.parametrize("masks, choices", [
    (None, {}), (t.GAPS, {"examples_per_chunk": 2}), (t.GAPS, {"screening": t.ONE_BEST})],
    ids=["whole", "gaps in chunks", "screened"])
def test_compiled_steps_differ_by_rounding_alone(masks, choices):
  plain, compiled = (t.make(jit_compile=jit, **choices) for jit in (False, True))
  data = t.batches(plain, 3, masks=masks)
  expected, found = (t.steps(trainer, data) for trainer in (plain, compiled))
  for of_plain, of_compiled in zip(expected, found, strict=True):
    assert of_plain.keys() == of_compiled.keys()
    for name, value in of_plain.items():
      rounding = 1e-4 if name == "screening_error" else 0.
      np.testing.assert_allclose(
          of_compiled[name], value, rtol=1e-5, atol=rounding, err_msg=name)
  after = t.state(compiled)
  for name, value in t.state(plain).items():
    np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
  for name, value in plain.evaluate_batch(*data[0], tf.constant(0, tf.int64)).items():
    held_out = compiled.evaluate_batch(*data[0], tf.constant(0, tf.int64))[name]
    np.testing.assert_allclose(held_out, value, rtol=1e-5, err_msg=name)
  assert [_is_compiled(trainer, data[0]) for trainer in (plain, compiled)] == [False, True]


def _is_compiled(trainer, batch):
  graph = trainer.step.get_concrete_function(*batch, tf.constant(0, tf.int64)).graph
  return any(f.attr["_XlaMustCompile"].b for f in graph.as_graph_def().library.function)
