"""Bounds on data against exact log p(x)."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests import oracle
from tf_mmvae import estimators, objectives
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics import held_out

PLAIN = estimators.Estimator(gradient=objectives.reparameterised)


def examples(x):
  """x {name: [N, ...]} as a data set."""
  num_examples = len(next(iter(x.values())))
  return Examples("exact", num_examples, lambda i: ({n: tf.gather(v, i) for n, v in x.items()}, {}))


@pytest.fixture(scope="module")
def single():
  """An exact model of one modality: its posterior is exact, so no bound depends on the noise."""
  return oracle.LinearGaussian(1)


def test_exact_posterior_gives_log_evidence(single):
  x = single.sample(10)
  values = held_out.HeldOut(PLAIN, num_samples=3, batch_size=4)(single.model(), examples(x))
  evidence = single.log_evidence(x)
  error = np.std(evidence, ddof=1) / np.sqrt(10)
  assert set(values) == {"objective", "elbo", "iwae", "iwae_tight"}
  for name, value in values.items():
    np.testing.assert_allclose(value, (evidence.mean(), error, 10), rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_tight_bound_reaches_log_evidence(num_modalities):
  """On 200 copies of one example, so that the standard error is that of the samples alone."""
  exact = oracle.LinearGaussian(num_modalities)
  x = exact.sample(1)
  copies = examples({name: tf.repeat(value, 200, axis=0) for name, value in x.items()})
  values = held_out.HeldOut(PLAIN, num_samples=1000, batch_size=64)(exact.model(), copies)
  value, error, num = values["iwae_tight"]
  assert num == 200
  assert 0 < error < 0.05
  assert abs(value - exact.log_evidence(x)[0]) < 3 * error
  value, error, _ = values["elbo"]
  assert value < exact.log_evidence(x)[0] - 3 * error  # which is less than what the bounds differ


def test_order_of_the_bounds(pair):
  values = held_out.HeldOut(PLAIN, num_samples=4)(pair.model(shift=0.5), examples(pair.sample(20)))
  assert values["elbo"][0] < values["iwae"][0] < values["iwae_tight"][0]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batch_size_changes_no_mean(single, batch_size):
  x = single.sample(7)
  values = held_out.HeldOut(PLAIN, 2, batch_size=batch_size)(single.model(), examples(x))
  mean, _, num = values["elbo"]
  np.testing.assert_allclose(mean, single.log_evidence(x).mean(), rtol=1e-5)
  assert num == 7


def test_some_examples_evenly_spread(single):
  x = single.sample(9)
  metric = held_out.HeldOut(PLAIN, 2, num_examples=3)
  mean, _, num = metric(single.model(), examples(x))["iwae"]
  np.testing.assert_allclose(mean, single.log_evidence(x)[[0, 4, 8]].mean(), rtol=1e-5)
  assert num == 3


def test_errors_are_over_groups(single):
  """Each example three times, in batches that cut the groups: as if there were one of each."""
  x = single.sample(6)
  copies = {name: tf.repeat(value, 3, axis=0) for name, value in x.items()}
  dataset = Examples("groups", 18, lambda i: (
      {n: tf.gather(v, i) for n, v in copies.items()}, {"index": i // 3}))
  _, error, _ = held_out.HeldOut(PLAIN, 2)(single.model(), examples(x))["elbo"]
  grouped = held_out.HeldOut(PLAIN, 2, batch_size=4, groups="index")(single.model(), dataset)
  np.testing.assert_allclose(grouped["elbo"][1:], (error, 18), rtol=1e-4)
  alone = held_out.HeldOut(PLAIN, 2, batch_size=4)(single.model(), dataset)
  assert alone["elbo"][1] < 0.7 * error


def test_more_examples_asked_than_there_are(single):
  x = single.sample(4)
  mean, _, num = held_out.HeldOut(PLAIN, 2, num_examples=9)(single.model(), examples(x))["iwae"]
  np.testing.assert_allclose(mean, single.log_evidence(x).mean(), rtol=1e-5)
  assert num == 4


def test_one_example_has_no_standard_error(single):
  value, error, num = held_out.HeldOut(PLAIN, 2)(single.model(), examples(single.sample(1)))["elbo"]
  assert np.isfinite(value) and np.isnan(error) and num == 1


def test_weights_of_training_reach_the_objective_alone(pair):
  weighted = estimators.Estimator(
      objectives.elbo, likelihood_weights={"a": 3.}, beta=2.)
  model, data = pair.model(), examples(pair.sample(6))
  plain = held_out.HeldOut(PLAIN, 4)(model, data)
  values = held_out.HeldOut(weighted, 4)(model, data)
  assert plain["objective"] == plain["iwae"]
  assert values["objective"][0] < values["elbo"][0] - 1
  for name in ("elbo", "iwae", "iwae_tight"):
    np.testing.assert_allclose(values[name], plain[name], rtol=1e-6)


def test_batches_and_seeds_have_noise_of_their_own(pair):
  x = {name: tf.repeat(value, 4, axis=0) for name, value in pair.sample(1).items()}
  model = pair.model(shift=0.5)

  def error(batch_size, seed=0):
    return held_out.HeldOut(PLAIN, 2, batch_size=batch_size, seed=seed)(model, examples(x))["elbo"]

  assert error(1)[1] > 1e-3  # equal noise in the batches would give equal values
  assert error(2)[1] > 1e-3
  assert error(2, seed=1) != error(2)
  assert error(2) == error(2)


@pytest.mark.parametrize("num_samples, expected", [
    (1, 32), (62, 32), (63, 31), (1000, 2), (3000, 1)])
def test_many_samples_are_measured_of_fewer_examples_at_once(single, num_samples, expected):
  data = examples(single.sample(3))
  with mock.patch.object(data, "batches", wraps=data.batches) as batches:
    held_out.HeldOut(PLAIN, num_samples)(single.model(), data)
  batches.assert_called_once_with(expected)


def test_batches_of_two_sizes_are_traced_once(single):
  traced = []

  class Traced(estimators.Estimator):
    def __call__(self, *args):
      traced.append(args)
      return super().__call__(*args)

  held_out.HeldOut(Traced(), 1, batch_size=2)(single.model(), examples(single.sample(5)))
  assert len(traced) == 1


def test_gaps_leave_the_bounds_on_what_is_there(pair):
  """For one modality the expert is exact, so each bound is log p of that; nothing counts nothing.

  By one example with both, two with the first alone, three with the second, and two with nothing;
  what is absent is NaN.
  """
  x, (first, second) = pair.sample(8), ("a", "b")
  mask = {first: np.arange(8) < 3, second: (np.arange(8) == 0) | (np.arange(8) // 3 == 1)}
  broken = {name: tf.where(mask[name][:, None], x[name], float("nan")) for name in x}
  data = Examples("gaps", 8, lambda i: tuple(
      {n: tf.gather(v, i) for n, v in of.items()} for of in (broken, {"index": tf.range(8)}, mask)))
  values = held_out.HeldOut(PLAIN, 2000, batch_size=3, groups="index")(pair.model(), data)
  single = sum(np.sum(pair.log_evidence(x, [name])[mask[name]][int(mask[name][0]):])
               for name in (first, second))
  of_one = examples({name: value[:1] for name, value in x.items()})
  both = held_out.HeldOut(PLAIN, 2000)(pair.model(), of_one)
  for bound in ("objective", "elbo", "iwae", "iwae_tight"):
    mean, error, num = values[bound]
    assert num == 6 and np.isfinite(error)
    np.testing.assert_allclose(mean, (single + both[bound][0]) / 6, atol=0.1 / 6, err_msg=bound)


def test_nothing_at_all_has_no_mean(pair):
  data = Examples("nothing", 3, lambda i: (
      {n: tf.gather(v, i) for n, v in pair.sample(3).items()}, {}, {n: i < 0 for n in ("a", "b")}))
  value, error, num = held_out.HeldOut(PLAIN, 2)(pair.model(), data)["iwae"]
  assert np.isnan(value) and np.isnan(error) and num == 0
