import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import runs, small
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training import checkpoints
from tf_mmvae.training.checkpoints import Checkpoints


def make(seed=0, **model):
  """A model and an optimizer all of whose variables have values of their own."""
  keras.utils.set_random_seed(seed)
  made, optimizer = small.model(**model), keras.optimizers.Adam(0.01 * (1 + seed), amsgrad=True)
  optimizer.build(made.trainable_variables)
  rng = np.random.default_rng(seed)
  for v in made.variables + optimizer.variables:
    if v.name not in ("iterations", "learning_rate"):
      v.assign(rng.normal(size=v.shape))
  optimizer.iterations.assign(10 + seed)
  return made, optimizer


def values(model, optimizer):
  return [v.numpy() for v in model.variables + optimizer.variables]


@pytest.fixture
def run(tmp_path):
  return RunDir(tmp_path)


def test_every_variable_is_saved(run):
  model, optimizer = make(batch_norm=True)
  Checkpoints(run, model, optimizer).save(3)
  saved = runs.state(run.checkpoints)
  # TensorFlow files a weight under the model or under the optimizer, which both hold it.
  found = [value for name, value in saved.items() if name.startswith(("model/", "optimizer/"))]
  variables = model.variables + optimizer.variables
  assert len(found) == len(variables)
  for v in variables:
    assert any(np.array_equal(v.numpy(), value) for value in found), v.path


def test_restored_exactly_into_other_variables(run):
  saved, other = make(0, batch_norm=True), make(1, batch_norm=True)
  writer = Checkpoints(run, *saved)
  writer.skipped.assign(2)
  writer.best_objective.assign(-1.5)
  writer.best_step.assign(1)
  writer.save(3)
  for a, b in zip(values(*saved), values(*other), strict=True):
    assert not np.array_equal(a, b)
  reader = Checkpoints(run, *other)
  assert reader.resume() == 3
  for a, b in zip(values(*saved), values(*other), strict=True):
    assert a.tobytes() == b.tobytes()
  state = (reader.step, reader.skipped, reader.best_objective, reader.best_step)
  assert [v.numpy() for v in state] == [3, 2, -1.5, 1]


def test_nothing_to_resume(run):
  made = make()
  before = values(*made)
  assert Checkpoints(run, *made).resume() == 0
  np.testing.assert_equal(values(*made), before)


def test_another_model_is_refused(run):
  Checkpoints(run, *make()).save(3)
  with pytest.raises((AssertionError, ValueError)):
    Checkpoints(run, *make(batch_norm=True)).resume()
  with pytest.raises((AssertionError, ValueError)):
    checkpoints.restore_model(make(batch_norm=True)[0], run)


def test_the_last_few_are_kept(run):
  writer = Checkpoints(run, *make(), keep=2)
  for step in (1, 2, 3):
    writer.save(step)
  assert {path.name for path in pathlib.Path(run.checkpoints).glob("*.index")
          } == {"ckpt-2.index", "ckpt-3.index"}


def test_killed_before_the_index(run, monkeypatch):
  """The data of step 4 are on disk, but `checkpoint` names step 2 as the last."""
  model, optimizer = make()
  writer = Checkpoints(run, model, optimizer)
  writer.save(2)
  expected = values(model, optimizer)
  model.prior.raw_scale.assign_add([1., 2.])

  def kill(*args):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(tf.train.CheckpointManager, "_record_state", kill)
    writer.save(4)
  assert tf.io.gfile.exists(f"{run.checkpoints}/ckpt-4.index")
  other = make(1)
  resumed = Checkpoints(run, *other)
  assert resumed.resume() == 2
  np.testing.assert_equal(values(*other), expected)
  other[0].prior.raw_scale.assign([5., 6.])
  resumed.save(4)
  assert Checkpoints(run, model, optimizer).resume() == 4
  assert model.prior.raw_scale.numpy().tolist() == [5., 6.]


def test_best_is_the_highest(run):
  model, optimizer = make()
  writer = Checkpoints(run, model, optimizer)
  for step, objective in enumerate([-3., float("nan"), -1., -2., -1., float("nan")], start=1):
    model.prior.raw_scale.assign([step, -step])
    writer.save_if_best(step, objective)
  writer.save(6)
  assert runs.last_step(run.best) == 3
  other = make(1)[0]
  assert checkpoints.restore_model(other, run) == 3
  assert other.prior.raw_scale.numpy().tolist() == [3., -3.]
  resumed = Checkpoints(run, *make(2))
  assert resumed.resume() == 6
  resumed.save_if_best(7, -1.5)
  assert runs.last_step(run.best) == 3
  resumed.save_if_best(8, -0.5)
  assert runs.last_step(run.best) == 8


def test_the_last_where_there_is_no_best(run):
  model, optimizer = make(batch_norm=True)
  Checkpoints(run, model, optimizer).save(2)
  other = make(1, batch_norm=True)[0]
  assert checkpoints.restore_model(other, run) == 2
  np.testing.assert_equal([v.numpy() for v in other.variables],
                          [v.numpy() for v in model.variables])


def test_no_checkpoint(run):
  with pytest.raises(FileNotFoundError, match="no checkpoint in .*checkpoints: train first"):
    checkpoints.restore_model(make()[0], run)


@pytest.mark.parametrize("length", [0, 100])
def test_a_cut_checkpoint_is_refused_in_a_sentence(run, length):
  Checkpoints(run, *make()).save(2)
  data = next(pathlib.Path(run.checkpoints).glob("*.data-*"))
  data.write_bytes(data.read_bytes()[:length])
  for restore in (lambda: Checkpoints(run, *make()).resume(),
                  lambda: checkpoints.restore_model(make()[0], run)):
    with pytest.raises(ValueError, match="ckpt-2 is damaged, or of another model: put back"):
      restore()
