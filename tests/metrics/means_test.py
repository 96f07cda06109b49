import numpy as np
import pytest

from tf_mmvae.metrics.means import mean_and_error


def test_independent_values_have_the_textbook_error():
  values = [1., 4., 2., 9.]
  mean, error, num = mean_and_error(values)
  assert (mean, num) == (4., 4)
  assert error == pytest.approx(np.std(values, ddof=1) / 2)
  assert mean_and_error(np.array([True, False]))[:2] == (0.5, pytest.approx(0.5))


def test_equal_values_in_a_group_count_once():
  """Ten copies of each value say no more than one."""
  values = np.array([1., 4., 2., 9.])
  mean, error, num = mean_and_error(np.tile(values, 10), np.tile([5, 7, 6, 2], 10))
  assert (mean, num) == (4., 40)
  assert error == pytest.approx(mean_and_error(values)[1])


def test_the_error_is_the_spread_of_the_mean():
  """Groups of two sizes: over many samples, the error is the mean's standard deviation."""
  random = np.random.default_rng(0)
  groups = np.repeat(np.arange(30), np.where(np.arange(30) % 2, 1, 5))
  means, errors = [], []
  for _ in range(4000):
    values = random.normal(size=30)[groups] + random.normal(size=len(groups))
    mean, error, _ = mean_and_error(values, groups)
    means.append(mean)
    errors.append(error)
  spread = np.std(means)
  assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=0.06)
  assert mean_and_error(values)[1] < 0.7 * spread


@pytest.mark.parametrize("values, groups", [([3.], None), ([3., 5.], [1, 1])])
def test_one_group_has_no_error(values, groups):
  mean, error, _ = mean_and_error(values, groups)
  assert mean == np.mean(values) and np.isnan(error)


def test_no_values_have_no_mean():
  for groups in (None, []):
    mean, error, num = mean_and_error([], groups)
    assert np.isnan(mean) and np.isnan(error) and num == 0
