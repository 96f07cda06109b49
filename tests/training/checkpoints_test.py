import os
import pathlib
import time

import keras
import numpy as np
import pytest

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
  writer.save_if_best(1, -1.5)
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


def test_a_clock_that_is_set_back_changes_nothing_that_is_kept(run, monkeypatch):
  now = [1e9]
  monkeypatch.setattr(time, "time", lambda: now[0])
  for first in (1, 4):
    writer = Checkpoints(run, *make(), keep=2)
    writer.resume()
    for step in range(first, first + 3):
      now[0] -= 5000.
      writer.save(step)
  assert checkpoints.steps(run.checkpoints) == [5, 6]
  assert Checkpoints(run, *make()).resume() == 6


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


# Damage.


def flip(path, position=None):
  content = bytearray(path.read_bytes())
  content[len(content) // 2 if position is None else position] ^= 1
  path.write_bytes(content)


def cut(path, length=0):
  path.write_bytes(path.read_bytes()[:length])


def file(directory, step, kind):
  return pathlib.Path(directory) / f"ckpt-{step}.{kind}"


INDEX, DATA = "index", "data-00000-of-00001"


@pytest.fixture
def three(run):
  """A run with checkpoints of steps 2, 4 and 6: what 4 holds, as `values`."""
  model, optimizer = make()
  writer = Checkpoints(run, model, optimizer)
  for step in (2, 4, 6):
    model.prior.raw_scale.assign([step, -step])
    writer.save(step)
    if step == 4:
      held = values(model, optimizer)
  return held


@pytest.mark.parametrize("kind", [INDEX, DATA])
@pytest.mark.parametrize("damage", [flip, cut, lambda path: cut(path, 100), pathlib.Path.unlink])
def test_the_one_before_a_damaged_checkpoint_is_used(run, three, kind, damage, caplog):
  damage(file(run.checkpoints, 6, kind))
  other = make(1)
  assert Checkpoints(run, *other).resume() == 4
  for a, b in zip(three, values(*other), strict=True):
    assert a.tobytes() == b.tobytes()
  assert [record.getMessage() for record in caplog.records] == [
      f"checkpoint {run.checkpoints}/ckpt-6 cannot be read whole: {run.checkpoints}/ckpt-4 is used"]
  assert checkpoints.restore_model(make(2)[0], run) == 4


@pytest.mark.parametrize("kind", [INDEX, DATA])
def test_wherever_a_byte_is_flipped_nothing_else_is_restored(run, three, kind):
  """Either the one before is used, or what is restored has the bits that were saved."""
  path, used = file(run.checkpoints, 6, kind), []
  whole = path.read_bytes()
  made = make(1)
  reader = Checkpoints(run, *made)
  reader.resume()
  expected = {6: values(*made), 4: three}
  for position in range(0, len(whole), len(whole) // 40):
    flip(path, position)
    used.append(reader.resume())
    for a, b in zip(expected[used[-1]], values(*made), strict=True):
      assert a.tobytes() == b.tobytes(), position
    path.write_bytes(whole)
  assert used.count(4) > 35


@pytest.mark.parametrize("damage", [
    cut, pathlib.Path.unlink, lambda path: path.write_bytes(b"\x80garbage {"),
    lambda path: path.write_text('model_checkpoint_path: "ckpt-2"\n')])
def test_the_file_that_names_the_last_is_not_needed(run, three, damage):
  damage(pathlib.Path(run.checkpoints, "checkpoint"))
  assert Checkpoints(run, *make(1)).resume() == 6
  assert checkpoints.restore_model(make(1)[0], run) == 6


@pytest.mark.parametrize("left", [[2, 4, 6], [6]])
def test_never_anew_where_no_checkpoint_is_whole(run, three, left):
  for step in (2, 4, 6):
    cut(file(run.checkpoints, step, DATA), 300)
    if step not in left:
      for kind in (INDEX, DATA):
        file(run.checkpoints, step, kind).unlink()
  before = runs.files(run.path)
  for restore in (lambda: Checkpoints(run, *make()).resume(),
                  lambda: checkpoints.restore_model(make()[0], run)):
    with pytest.raises(ValueError, match=f"^no checkpoint in {run.checkpoints} can be read whole:"):
      restore()
  assert runs.files(run.path) == before


def test_of_another_model_is_no_damage(run, three):
  """However many there are from before."""
  Checkpoints(run, *make(batch_norm=True)).save(8)
  with pytest.raises(ValueError, match="ckpt-8 is of another model: put back what made it, or "):
    Checkpoints(run, *make()).resume()


def test_what_is_left_of_later_checkpoints_goes_with_the_next(run, three):
  for step in (4, 6):
    cut(file(run.checkpoints, step, DATA))
  pathlib.Path(run.checkpoints, "ckpt-6_temp").mkdir()
  pathlib.Path(run.checkpoints, "mine.txt").touch()
  resumed = Checkpoints(run, *make(1))
  assert resumed.resume() == 2
  assert checkpoints.steps(run.checkpoints) == [2, 4, 6]
  resumed.save(3)
  assert sorted(path.name for path in pathlib.Path(run.checkpoints).iterdir()) == [
      "checkpoint", *(file("", step, kind).name for step in (2, 3) for kind in (DATA, INDEX)),
      "mine.txt"]
  assert Checkpoints(run, *make(1)).resume() == 3


@pytest.mark.parametrize("left", [["ckpt-2_temp/part"], [f"ckpt-2.{DATA}"],
                                  [f"ckpt-2.{DATA}", f"ckpt-2.{INDEX}"]])
def test_the_beginning_of_the_first_checkpoint_is_none(run, left):
  for name in left:
    path = pathlib.Path(run.checkpoints, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  resumed = Checkpoints(run, *make())
  assert resumed.resume() == 0
  resumed.save(2)
  assert sorted(os.listdir(run.checkpoints)) == [
      "checkpoint", f"ckpt-2.{DATA}", f"ckpt-2.{INDEX}"]
  assert Checkpoints(run, *make()).resume() == 2


# A damaged best.


def with_best(run, best, last=(2, 4, 6), objective=-1.):
  """Checkpoints after `last` steps, of which `best` was the best."""
  writer = Checkpoints(run, *make(), keep=3)
  for step in last:
    if step == best:
      writer.save_if_best(step, objective)
    writer.save(step)


@pytest.mark.parametrize("damage", [flip, pathlib.Path.unlink])
def test_a_damaged_best_is_made_again(run, damage, caplog):
  with_best(run, 6)
  damage(file(run.best, 6, DATA))
  resumed = Checkpoints(run, *make(1))
  assert resumed.resume() == 4
  assert resumed.best_objective.numpy() == -np.inf
  (said,) = (record.getMessage() for record in caplog.records)
  assert said == (f"the best checkpoint {run.best}/ckpt-6 cannot be read whole: going on from "
                  f"{run.checkpoints}/ckpt-4, which is from before it, makes it again")


def test_a_damaged_best_without_one_before_is_forgotten(run, caplog):
  with_best(run, 2)
  flip(file(run.best, 2, DATA))
  resumed = Checkpoints(run, *make(1))
  assert resumed.resume() == 6
  # TensorFlow warns of functions that it traces often, whenever many tests run before.
  (said,) = (record.getMessage() for record in caplog.records
             if record.filename == "checkpoints.py")
  assert said == (f"the best checkpoint {run.best}/ckpt-2 cannot be read whole, and none from "
                  "before it is left: the best of the steps to come takes its place")
  resumed.save_if_best(8, -5.)
  assert checkpoints.steps(run.best) == [8]
  assert checkpoints.best_objective(run) == -5.


def test_a_best_from_after_the_last_is_made_again_whatever_became_of_it(run):
  """The process was killed before it saved the last, and the best of before is gone."""
  with_best(run, 4)
  Checkpoints(run, *make(1)).save_if_best(8, -0.5)
  assert checkpoints.steps(run.best) == [8]
  flip(file(run.best, 8, DATA))
  assert Checkpoints(run, *make(1)).resume() == 6


def test_without_its_best_a_run_has_its_last(run, caplog):
  with_best(run, 2)
  flip(file(run.best, 2, INDEX))
  assert checkpoints.restore_model(make(1)[0], run) == 6
  (said,) = (record.getMessage() for record in caplog.records)
  assert said == (f"checkpoint {run.best}/ckpt-2 cannot be read whole: {run.checkpoints}/ckpt-6 is "
                  "used")
  assert checkpoints.best_objective(run) == -np.inf
