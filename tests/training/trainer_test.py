import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import small
from tf_mmvae import joint_posteriors, objectives
from tf_mmvae.screening import Screening
from tf_mmvae.training.trainer import Trainer

NUM_SAMPLES, BATCH_SIZE, SEED = 3, 4, 7
CLIP_NORM = 0.5
ONE = ["CPU:0"]
ONE_BEST = Screening(1)


def make(strategy=None, optimizer=None, seed=SEED, clip_norm=None, examples_per_chunk=None,
         screening=None, jit_compile=False, **model):
  """A trainer whose initial weights are always the same."""
  strategy = strategy or tf.distribute.MirroredStrategy(ONE)
  keras.utils.set_random_seed(0)
  with strategy.scope():
    optimizer = optimizer() if optimizer else keras.optimizers.SGD(0.1)
    return Trainer(small.model(**model), small.estimator(screening), optimizer, strategy,
                   NUM_SAMPLES, seed, clip_norm, examples_per_chunk, jit_compile)


def batches(trainer, num, broken=(), masks=None):
  """(x, mask) as the trainer's strategy distributes them; NaN in the last example of `broken`.

  masks: {modality: [BATCH_SIZE]} a batch; what they hide is NaN. None for complete batches.
  """
  x = [small.values(BATCH_SIZE, seed=i) for i in range(num)]
  for i in broken:
    x[i]["image"][-1] = np.nan
  masks = [{name: np.array(value, bool) for name, value in m.items()} for m in masks or [{}] * num]
  for of_batch, mask in zip(x, masks, strict=True):
    for name, present in mask.items():
      of_batch[name][~present] = np.nan
  spec = {n: tf.TensorSpec([BATCH_SIZE, size]) for n, size in small.SIZES.items()}
  mask_spec = {name: tf.TensorSpec([BATCH_SIZE], tf.bool) for name in masks[0]}
  data = tf.data.Dataset.from_generator(
      lambda: zip(x, masks, strict=True), output_signature=(spec, mask_spec))
  return list(trainer.strategy.experimental_distribute_dataset(data))


def steps(trainer, data):
  return [{name: value.numpy()
           for name, value in trainer.step(x, mask, tf.constant(i, tf.int64)).items()}
          for i, (x, mask) in enumerate(data)]


def state(trainer):
  """Copies of all weights, statistics and slots; models number their names differently."""
  variables = trainer.model.variables + trainer.optimizer.variables
  return {f"{i} {v.name}": v.numpy().copy() for i, v in enumerate(variables)}


def assert_same_bits(first, second):
  assert first.keys() == second.keys()
  for name, value in first.items():
    assert value.tobytes() == second[name].tobytes(), name


def by_hand(model, x, seed, step, training=True):
  """Metrics, gradients and noise of one step, without Trainer or strategy."""
  shape = [BATCH_SIZE, len(small.SIZES), NUM_SAMPLES, small.LATENT_DIM]
  noise = joint_posteriors.uniform_noise(shape, tf.constant([seed, step], tf.int64))
  noise = tf.transpose(noise, [1, 2, 0, 3])
  with tf.GradientTape() as tape:
    estimate = small.estimator()(model, x, noise, training=training)
    loss = -tf.reduce_mean(estimate.objective)
  gradients = tape.gradient(loss, model.trainable_variables)
  p = estimate.particles
  log_w = (p.log_pz - p.log_qz + sum(p.log_px.values())).numpy()
  w = np.exp(log_w - log_w.max(1, keepdims=True))
  bound = np.mean(np.log(np.mean(w, 1)) + log_w.max(1), 0)
  metrics = {
      "objective": np.mean(estimate.objective), "bound": np.mean(bound),
      "log_q_over_p": np.mean(p.log_qz - p.log_pz),
      "effective_sample_size": np.mean(w.sum(1)**2 / (w**2).sum(1)),
      "gradient_norm": np.sqrt(sum(np.sum(np.square(g)) for g in gradients)), "finite": 1.,
      "captured_weight": 1., "screening_error": 0.,
      **{f"log_p_{name}": np.mean(log_px) for name, log_px in p.log_px.items()}}
  return metrics, gradients


def one_by_one(model, x, mask, seed, step):
  """Metrics and gradients of a step, each example by itself with what it has, without masks."""
  shape = [BATCH_SIZE, len(small.SIZES), NUM_SAMPLES, small.LATENT_DIM]
  noise = joint_posteriors.uniform_noise(shape, tf.constant([seed, step], tf.int64))
  found, gradients = {}, []
  for b in range(BATCH_SIZE):
    has = [name for name in small.SIZES if name not in mask or mask[name][b]]
    if not has:
      continue
    strata = [list(small.SIZES).index(name) for name in has]
    with tf.GradientTape() as tape:
      estimate = small.estimator()(
          model, {name: x[name][b:b + 1] for name in has},
          tf.gather(noise[b], strata)[:, :, tf.newaxis], training=True)
    p = estimate.particles
    log_w = objectives.log_weights(p)
    gradients.append([tf.zeros_like(v) if g is None else g for g, v in zip(
        tape.gradient(estimate.objective, model.trainable_variables), model.trainable_variables,
        strict=True)])
    for name, value in {
        "objective": estimate.objective, "bound": objectives.iwae(log_w, estimate.log_pi),
        "log_q_over_p": p.log_qz - p.log_pz,
        "effective_sample_size": objectives.effective_sample_size(log_w),
        **{f"log_p_{name}": log_px for name, log_px in p.log_px.items()}}.items():
      found.setdefault(name, []).append(np.mean(value))
  gradients = [-sum(g) / len(gradients) for g in zip(*gradients, strict=True)]
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
  metrics = {name: np.mean(values) for name, values in found.items()}
  return {**metrics, "gradient_norm": norm, "finite": 1., "captured_weight": 1.,
          "screening_error": 0.}, gradients


GAPS = [{"image": [1, 0, 1, 0], "sentence": [1, 1, 0, 0]},
        {"image": [0, 0, 0, 1], "sentence": [0, 0, 0, 1]},
        {"image": [1, 1, 0, 0], "sentence": [0, 0, 0, 0]}]
EMPTY = {"image": [0, 0, 0, 0], "sentence": [0, 0, 0, 0]}


@pytest.mark.parametrize("clip_norm", [None, CLIP_NORM])
def test_a_step_equals_a_plain_one(clip_norm):
  trainer, reference = make(clip_norm=clip_norm), make().model
  for step, (x, _) in enumerate(batches(trainer, 3)):
    metrics = trainer.step(x, {}, tf.constant(step, tf.int64))
    expected, gradients = by_hand(reference, x, SEED, step)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
      np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=name)
    norm = expected["gradient_norm"]
    assert norm > 2 * CLIP_NORM
    assert abs(expected["objective"] - expected["bound"]) > 1
    scale = 1. if clip_norm is None else clip_norm / norm
    for v, g in zip(reference.trainable_variables, gradients, strict=True):
      v.assign_sub(0.1 * scale * g)
    for v, w in zip(trainer.model.variables, reference.variables, strict=True):
      np.testing.assert_allclose(v.numpy(), w.numpy(), rtol=1e-4, atol=1e-6, err_msg=v.path)


def test_a_small_gradient_is_not_clipped():
  free, clipped = make(), make(clip_norm=1e6)
  assert steps(free, batches(free, 2)) == steps(clipped, batches(clipped, 2))
  assert_same_bits(state(free), state(clipped))


def test_noise_depends_on_seed_and_step_alone():
  def objective(trainer, step):
    return float(trainer.step(x, {}, tf.constant(step, tf.int64))["objective"])

  still = {"optimizer": lambda: keras.optimizers.SGD(0.)}
  trainer = make(**still)
  ((x, _),) = batches(trainer, 1)
  first = [objective(trainer, step) for step in range(3)]
  assert len(set(first)) == 3
  keras.utils.set_random_seed(1)
  assert [objective(trainer, step) for step in (2, 0, 1)] == [first[2], first[0], first[1]]
  assert objective(make(**still), 2) == first[2]
  assert objective(make(**still, seed=SEED + 1), 2) not in first


def test_held_out_means_are_over_examples():
  trainer = make()
  data = small.examples()  # 10 in batches of 4, 4, 2
  expected = []
  for i, (x, _, _) in enumerate(data.batches(BATCH_SIZE)):
    num = len(x["image"])
    shape = [num, len(small.SIZES), NUM_SAMPLES, small.LATENT_DIM]
    noise = joint_posteriors.uniform_noise(shape, tf.constant([SEED, -1 - i], tf.int64))
    estimate = small.estimator()(trainer.model, x, tf.transpose(noise, [1, 2, 0, 3]))
    bound = objectives.iwae(objectives.log_weights(estimate.particles), estimate.log_pi)
    expected += list(zip(estimate.objective.numpy(), bound.numpy(), strict=True))
  before = state(trainer)
  found = trainer.evaluate(data.batches(BATCH_SIZE))
  assert found == trainer.evaluate(data.batches(BATCH_SIZE))
  assert_same_bits(state(trainer), before)
  assert len(expected) == small.NUM_EXAMPLES
  np.testing.assert_allclose(
      [found["objective"], found["bound"]], np.mean(expected, 0), rtol=1e-5)


@pytest.mark.parametrize("optimizer", [
    lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    lambda: keras.optimizers.Adam(0.1, amsgrad=True)])
def test_a_broken_batch_changes_nothing(optimizer):
  trainer = make(optimizer=optimizer, clip_norm=CLIP_NORM, batch_norm=True)
  data = batches(trainer, 4, broken=[2])
  assert [m["finite"] for m in steps(trainer, data[:2])] == [1, 1]
  before = state(trainer)
  assert sum("moving_" in name for name in before) == 4
  metrics = trainer.step(*data[2], tf.constant(2, tf.int64))
  assert float(metrics["finite"]) == 0 and np.isnan(metrics["objective"])
  assert_same_bits(state(trainer), before)
  metrics = trainer.step(*data[3], tf.constant(3, tf.int64))
  assert float(metrics["finite"]) == 1 and np.isfinite(metrics["objective"])
  after = state(trainer)
  assert all(np.isfinite(value).all() for value in after.values())
  same = [name for name in before if after[name].tobytes() == before[name].tobytes()]
  assert [name for name in same if "learning_rate" not in name] == []


def test_a_finite_objective_with_a_broken_gradient_is_skipped():
  trainer = make()
  ((x, _),) = batches(trainer, 1)
  trainer._estimator = _WithoutGradient(trainer._estimator)
  before = state(trainer)
  metrics = trainer.step(x, {}, tf.constant(0, tf.int64))
  assert np.isfinite(metrics["objective"]) and float(metrics["finite"]) == 0
  assert_same_bits(state(trainer), before)


class _WithoutGradient:
  """An estimator whose gradient is NaN."""

  def __init__(self, estimator):
    self._estimator, self.bound = estimator, estimator.bound
    self.num_strata = estimator.num_strata

  def __call__(self, *args, **kwargs):
    @tf.custom_gradient
    def broken(objective):
      return tf.identity(objective), lambda d: d * float("nan")

    estimate = self._estimator(*args, **kwargs)
    return estimate._replace(objective=broken(estimate.objective))


def test_two_devices_equal_one():
  """In a process of its own, as logical devices must be set before the first use."""
  done = subprocess.run([sys.executable, "-m", "tests.training.two_devices"], text=True,
                        cwd=pathlib.Path(__file__).parents[2], capture_output=True, timeout=200)
  assert done.returncode == 0, done.stderr[-3000:]
  assert done.stdout.splitlines()[-1] == "equal"


def test_a_modality_missing_for_the_batch_learns_nothing():
  trainer = make()
  before = [v.numpy() for v in trainer.model.modalities["sentence"].trainable_variables]
  x = {"image": tf.constant(small.values(BATCH_SIZE)["image"])}
  metrics = trainer.step(x, {}, tf.constant(0, tf.int64))
  assert metrics["finite"] == 1. and metrics["gradient_norm"] > 0.
  assert "log_p_sentence" not in metrics
  for old, new in zip(
      before, trainer.model.modalities["sentence"].trainable_variables, strict=True):
    np.testing.assert_array_equal(old, new)


def test_a_step_with_gaps_is_that_of_each_example_with_what_it_has():
  """NaN in what is absent; means over the examples that have anything, or have the modality."""
  trainer, reference = make(), make().model
  for step, (x, mask) in enumerate(batches(trainer, 3, masks=GAPS)):
    metrics = trainer.step(x, mask, tf.constant(step, tf.int64))
    expected, gradients = one_by_one(reference, x, GAPS[step], SEED, step)
    absent = metrics.keys() - expected.keys()
    assert absent == ({"log_p_sentence"} if step == 2 else set())
    assert all(metrics[name] == 0. for name in absent)
    for name, value in expected.items():
      np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=f"{step} {name}")
    assert expected["gradient_norm"] > 0.1
    for v, g in zip(reference.trainable_variables, gradients, strict=True):
      v.assign_sub(0.1 * g)
    for v, w in zip(trainer.model.variables, reference.variables, strict=True):
      np.testing.assert_allclose(v.numpy(), w.numpy(), rtol=1e-4, atol=1e-6, err_msg=v.path)


def test_a_mask_of_one_modality():
  trainer = make()
  ((x, mask),) = batches(trainer, 1, masks=[{"sentence": [0, 1, 0, 1]}])
  expected, _ = one_by_one(make().model, x, {"sentence": [0, 1, 0, 1]}, SEED, 0)
  metrics = trainer.step(x, mask, tf.constant(0, tf.int64))
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=name)


def test_a_batch_with_nothing_present_changes_no_weight():
  trainer = make(clip_norm=CLIP_NORM)
  before = [v.numpy() for v in trainer.model.trainable_variables]
  (metrics,) = steps(trainer, batches(trainer, 1, masks=[EMPTY]))
  assert metrics["finite"] == 1. and metrics["gradient_norm"] == 0.
  assert metrics["objective"] == metrics["log_p_image"] == 0.
  assert all(np.isfinite(value) for value in metrics.values())
  for old, new in zip(before, trainer.model.trainable_variables, strict=True):
    np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("size", [None, 1])
def test_held_out_means_leave_examples_without_anything_out(size):
  trainer = make(examples_per_chunk=size)
  data = [(x, {}, mask) for x, mask in batches(trainer, 4, masks=[*GAPS, EMPTY])]
  found, sums = trainer.evaluate(data), np.zeros(2)
  for i in range(3):
    expected, _ = one_by_one(trainer.model, data[i][0], GAPS[i], SEED, -1 - i)
    num = np.sum(np.any(list(GAPS[i].values()), axis=0))
    sums += num * np.array([expected["objective"], expected["bound"]])
  np.testing.assert_allclose([found["objective"], found["bound"]], sums / 6, rtol=1e-5)
  assert np.isnan(trainer.evaluate(data[3:])["objective"])


class _Watched:
  """An estimator that fails where it gets more than so many examples."""

  def __init__(self, estimator, most):
    self._estimator, self.bound, self._most = estimator, estimator.bound, most
    self.num_strata = estimator.num_strata

  def __call__(self, model, x, noise, *args, **kwargs):
    tf.debugging.assert_less_equal(tf.shape(x["image"])[0], self._most)
    return self._estimator(model, x, noise, *args, **kwargs)


@pytest.mark.parametrize("size, settings", [
    (1, {}), (2, {}), (4, {}), (1, {"masks": GAPS}), (2, {"masks": GAPS}),
    (1, {"masks": [EMPTY, *GAPS[:2]]}), (2, {"broken": [1]}), (2, {"screening": ONE_BEST})],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value))
def test_chunks_change_steps_by_rounding_alone(size, settings):
  settings = dict(settings)
  alike = {"clip_norm": CLIP_NORM, "screening": settings.pop("screening", None)}
  whole, split = make(**alike), make(examples_per_chunk=size, **alike)
  split._estimator = _Watched(split._estimator, size)
  expected, found = (steps(t, batches(t, 3, **settings)) for t in (whole, split))
  assert max(metrics["gradient_norm"] for metrics in expected) > 2 * CLIP_NORM
  for of_whole, of_split in zip(expected, found, strict=True):
    assert of_whole.keys() == of_split.keys()
    for name, value in of_whole.items():
      rounding = 1e-4 if name == "screening_error" else 0.
      np.testing.assert_allclose(of_split[name], value, rtol=1e-5, atol=rounding, err_msg=name)
  after = state(split)
  for name, value in state(whole).items():
    np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_chunks_change_held_out_means_by_rounding_alone():
  """Also where they do not divide a batch: 10 examples in batches of 4, 4, 2."""
  expected, data = make(), small.examples().batches(BATCH_SIZE)
  for size in (1, 3, 4):
    trainer = make(examples_per_chunk=size)
    trainer._estimator = _Watched(trainer._estimator, size)
    found = trainer.evaluate(data)
    for name, value in expected.evaluate(data).items():
      np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=f"{size} {name}")


def test_statistics_of_a_batch_are_refused_with_chunks_and_masks():
  message = (r"^modality 'image': its encoder computes with statistics of its batch, which "
             r"examples_per_chunk would cut in pieces: [^\n]+$")
  with pytest.raises(ValueError, match=message):
    make(batch_norm=True, examples_per_chunk=2)
  trainer = make(batch_norm=True)
  trainer.check_masked([])
  message = "^modality 'sentence': its encoder computes [^\n]+ would count absent observations: "
  with pytest.raises(ValueError, match=message):
    trainer.check_masked(["sentence"])
  make().check_masked(["sentence"])
  with pytest.raises(ValueError, match=r"^mask for \['sound'\], but "):
    make().check_masked(["sound"])


def test_a_decoder_with_statistics_counts_what_is_drawn_for_absent_observations():
  """Of whichever modality; an encoder without gaps of its own counts none."""
  trainer = make()
  image = trainer.model.modalities["image"]
  image.encoder.add(keras.layers.BatchNormalization())
  trainer.check_masked(["sentence"])
  image.decoder.add(keras.layers.BatchNormalization())
  with pytest.raises(ValueError, match="^modality 'image': its decoder computes with statistics"):
    trainer.check_masked(["sentence"])


def test_averaged_weights():
  """Moving averages are those of a loop by hand; leaving brings the weights back, even by error."""
  trainer = make(optimizer=lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75))
  weights, averages = trainer.model.trainable_variables, None
  for i, (x, _) in enumerate(batches(trainer, 4, broken=[2])):
    trainer.step(x, {}, tf.constant(i, tf.int64))
    now = [v.numpy().copy() for v in weights]
    if i != 2:
      averages = [b if averages is None else 0.75 * a + 0.25 * b
                  for a, b in zip(averages or now, now, strict=True)]
  before = state(trainer)
  with pytest.raises(KeyError), trainer.averaged_weights():
    for v, expected in zip(weights, averages, strict=True):
      np.testing.assert_allclose(v.numpy(), expected, rtol=1e-5, atol=1e-7)
    assert any(not np.allclose(v.numpy(), b) for v, b in zip(weights, now, strict=True))
    raise KeyError
  assert_same_bits(state(trainer), before)


def test_without_averages_the_weights_stay():
  trainer = make()
  before = state(trainer)
  with trainer.averaged_weights():
    assert_same_bits(state(trainer), before)
