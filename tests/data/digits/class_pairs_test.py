import collections

import numpy as np
import pytest

from tf_mmvae.data.digits import class_pairs

# Pictures of each digit in the official files, from 0 to 9.
MNIST = {"train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
         "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]}
SVHN = {"train": [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659],
        "test": [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595]}
FIRST = np.array([0, 1, 0, 2, 1, 0, 2, 2, 1, 0])
SECOND = np.array([2, 2, 0, 0, 1, 1, 1, 1, 0, 1, 2, 2])


def shuffled(counts, seed):
  labels = np.repeat(np.arange(len(counts)), counts)
  return np.random.default_rng(seed).permutation(labels)


@pytest.mark.parametrize("split, expected", [("train", 1_682_040), ("test", 300_000)])
def test_as_many_pairs_as_the_paper_has(split, expected):
  labels = [shuffled(MNIST[split], 0), shuffled(SVHN[split], 1)]
  indices = class_pairs.match(labels, 30, 10000, 0)
  assert indices.shape == (2, expected) and indices.dtype == np.int32
  np.testing.assert_array_equal(labels[0][indices[0]], labels[1][indices[1]])


@pytest.mark.parametrize("cap", [2, 3, 10000])
def test_each_member_is_in_as_many_examples_as_there_are_orders(cap):
  indices = class_pairs.match([FIRST, SECOND], 5, cap, 0)
  for labels, other, of_one in ((FIRST, SECOND, indices[0]), (SECOND, FIRST, indices[1])):
    expected = {}
    for label in range(3):
      num = min(cap, np.sum(labels == label), np.sum(other == label))
      expected |= dict.fromkeys(np.flatnonzero(labels == label)[:num].tolist(), 5)
    assert collections.Counter(of_one.tolist()) == expected


def test_no_two_sources_give_the_same_member():
  labels = np.repeat(np.arange(3), 5)
  indices = class_pairs.match([labels] * 4, 50, 10000, 0)
  assert np.all(np.sort(indices, axis=0)[1:] != np.sort(indices, axis=0)[:-1])
  pairs = collections.Counter(zip(*indices[:2].tolist(), strict=True))
  assert len(pairs) == 3 * 5 * 4  # every pair of different ones comes up
  assert max(pairs.values()) < 40


def test_the_seed_decides():
  def one(seed):
    return class_pairs.match([FIRST, SECOND], 3, 10000, seed)

  np.testing.assert_array_equal(one(0), one(0))
  assert np.any(one(0) != one(1))


def test_classes_that_one_source_lacks_are_left_out():
  indices = class_pairs.match([np.array([0, 1, 3, 3]), np.array([3, 0, 0])], 1, 10, 0)
  assert sorted(np.array([0, 1, 3, 3])[indices[0]]) == [0, 3]
  with pytest.raises(ValueError, match="no class is in all of the sources"):
    class_pairs.match([np.array([0]), np.array([1])], 1, 10, 0)


@pytest.mark.parametrize("orders, cap, name", [
    (0, 1, "num_permutations"), (1.5, 1, "num_permutations"), (1, 0, "max_per_class")])
def test_numbers_that_make_no_sense(orders, cap, name):
  with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
    class_pairs.match([FIRST, SECOND], orders, cap, 0)


def test_pairs_read_what_their_indices_say():
  rng = np.random.default_rng(0)
  images = [rng.integers(0, 256, [len(labels), 2, 3, c], np.uint8)
            for labels, c in ((FIRST, 1), (SECOND, 3))]
  sources = {"grey": class_pairs.of_array(images[0], FIRST),
             "coloured": class_pairs.of_array(images[1], SECOND)}
  data = class_pairs.pairs("stub", sources, 4)
  ((x, y, mask),) = data.batches(1000)
  assert mask == {} and data.num_examples == len(y["digit"]) == 4 * (3 + 3 + 3)
  for name, own, labels in (("grey", images[0], FIRST), ("coloured", images[1], SECOND)):
    index = y[f"{name}_index"].numpy()
    np.testing.assert_array_equal(labels[index], y["digit"])
    np.testing.assert_allclose(x[name], own[index] / 255, rtol=1e-6)
  assert {name: (value.dtype.name, value.shape[1:]) for name, value in x.items()} == {
      "grey": ("float32", (2, 3, 1)), "coloured": ("float32", (2, 3, 3))}
