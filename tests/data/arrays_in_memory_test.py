import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae import data, modality
from tf_mmvae.data import arrays_in_memory

NUM = 50


def arrays(num=NUM):
  """A vector and word ids an example, both told by its position."""
  position = np.arange(num)
  return {"vector": np.stack([position, -position], 1) / 2.0,  # float64
          "words": position[:, np.newaxis] * 10 + np.arange(3)}  # int64


def whole(examples):
  """x, y and mask of all examples in order, as arrays."""
  parts = list(examples.batches(7).as_numpy_iterator())
  return tuple({name: np.concatenate([part[k][name] for part in parts]) for name in parts[0][k]}
               for k in range(3))


def positions(examples):
  return whole(examples)[1]["position"].tolist()


def test_examples_are_the_rows():
  given = arrays()
  labels = {"position": np.arange(NUM), "weight": np.linspace(0, 1, NUM),
            "even": np.arange(NUM) % 2 == 0, "said": [f"bird {i}" for i in range(NUM)]}
  made = data.from_arrays(given, labels, name="birds")
  assert isinstance(made, data.Examples) and made.num_examples == NUM and made.name == "birds"
  x, y, mask = whole(made)
  assert mask == {} and x.keys() == given.keys() and y.keys() == labels.keys()
  assert (x["vector"].dtype, x["words"].dtype) == (np.float32, np.int32)
  assert [y[name].dtype for name in labels] == [np.int32, np.float32, np.int32, object]
  for name, values in given.items():
    np.testing.assert_array_equal(x[name], values)
  for name in ("position", "even"):
    np.testing.assert_array_equal(y[name], labels[name])
  np.testing.assert_allclose(y["weight"], labels["weight"], rtol=1e-6)
  assert [text.decode() for text in y["said"]] == labels["said"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_floats_become_float32(dtype):
  x, _, _ = whole(data.from_arrays({"a": np.array([[0.5], [-2]], dtype)}))
  assert x["a"].dtype == np.float32 and x["a"].ravel().tolist() == [0.5, -2]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.uint64, ">i4"])
def test_whole_numbers_become_int32_and_are_not_scaled(dtype):
  x, _, _ = whole(data.from_arrays({"a": np.array([[0], [127]], dtype)}))
  assert x["a"].dtype == np.int32 and x["a"].ravel().tolist() == [0, 127]


def test_a_modality_of_floats_refuses_pictures_of_bytes():
  made = data.from_arrays({"image": np.full([2, 4, 4, 3], 255, np.uint8)})
  image = modality.Modality("image", (4, 4, 3), None, None, None)
  with pytest.raises(ValueError, match="^modality 'image': expected float32, got int32: divide "
                                       "pictures of 0 to 255 by 255, and [^\n]*$"):
    image.check(whole(made)[0]["image"])


def test_the_largest_and_least_numbers_that_fit():
  limits = np.iinfo(np.int32)
  x, _, _ = whole(data.from_arrays({"a": np.array([limits.min, limits.max])}))
  assert x["a"].tolist() == [limits.min, limits.max]
  most = float(np.finfo(np.float32).max)
  assert whole(data.from_arrays({"a": [most, -most]}))[0]["a"].tolist() == [most, -most]


def test_what_numpy_makes_arrays_of():
  class Column:
    """As the columns of tables are."""

    def __init__(self, values):
      self.values = values

    def __array__(self, dtype=None, copy=None):
      return np.array(self.values, dtype)

  x, y, mask = whole(data.from_arrays(
      {"list": [[1.0, 2.0], [3.0, 4.0]], "tensor": tf.constant([[1], [2]]),
       "column": Column([0.5, 1.5]), "complete": np.ma.masked_array([1.0, 2.0])},
      {"name": Column(np.array(["auk", "jay"], object))}, {"list": [True, False]}))
  assert x["list"].tolist() == [[1, 2], [0, 0]] and x["tensor"].tolist() == [[1], [2]]
  assert x["column"].tolist() == [0.5, 1.5] and x["complete"].tolist() == [1, 2]
  assert y["name"].tolist() == [b"auk", b"jay"] and mask["list"].tolist() == [True, False]


def test_absent_observations_may_hold_anything_and_are_zeros():
  given = arrays()
  here = np.arange(NUM) % 3 > 0
  given["vector"][~here] = [np.nan, 1e300]
  given["words"][~here] = 2**40
  x, _, mask = whole(data.from_arrays(
      given, mask={"vector": here, "words": here}))
  for name, values in given.items():
    expand = here[:, np.newaxis]
    np.testing.assert_array_equal(x[name], np.where(expand, values, 0))
    np.testing.assert_array_equal(mask[name], here)


def test_a_mask_of_what_is_always_there_is_none():
  mask = {"vector": np.ones(NUM, bool), "words": np.arange(NUM) > 3}
  made = data.from_arrays(arrays(), mask=mask)
  assert whole(made)[2].keys() == {"words"}


def test_later_changes_of_the_arrays_do_not_reach_the_examples():
  given = {"a": np.ones([1000, 64], np.float32)}
  made = data.from_arrays(given)
  given["a"][:] = 2
  assert np.all(whole(made)[0]["a"] == 1)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_arrays_are_held_once(dtype):
  """Whatever the parts, and in a byte a number where they were given so."""
  parts = data.from_arrays({"a": np.ones([20, 5], dtype)}, fractions=(0.5, 0.25, 0.25))
  spec = tf.TensorSpec([None], tf.int64)
  held = [[tensor for tensor in tf.function(part.read).get_concrete_function(spec).captured_inputs
           if tensor.shape.rank == 2] for part in parts]
  assert [[tensor.dtype for tensor in of_part] for of_part in held] == [[dtype]] * 3
  assert held[0][0] is held[1][0] is held[2][0]


def test_batches_depend_on_seed_and_step_alone():
  made = data.from_arrays(arrays(), {"position": np.arange(NUM)})

  def order(dataset, num):
    return [y["position"].numpy().tolist() for _, y, _ in dataset.take(num)]

  first = order(made.shuffled_batches(8, seed=3), 9)
  assert order(data.from_arrays(arrays(), {"position": np.arange(NUM)}).shuffled_batches(8, 3), 9) \
      == first
  assert order(made.shuffled_batches(8, 3, first_step=5), 4) == first[5:]
  assert order(made.shuffled_batches(8, seed=4), 9) != first
  assert sorted(sum(first, [])[:NUM]) == list(range(NUM))


@pytest.mark.parametrize("num, fractions, sizes", [
    (10, (0.8, 0.1, 0.1), [8, 1, 1]), (10, (1.0,), [10]), (10, [1 / 3] * 3, [4, 3, 3]),
    (7, (0.5, 0.25, 0.25), [3, 2, 2]), (100, np.array([0.29, 0.71]), [29, 71]),
    (9, (0.34, 0.33, 0.33), [3, 3, 3])])
def test_sizes_of_parts(num, fractions, sizes):
  parts = data.from_arrays(arrays(num), {"position": np.arange(num)}, fractions=fractions)
  assert isinstance(parts, tuple) and [part.num_examples for part in parts] == sizes
  in_parts = [positions(part) for part in parts]
  assert sorted(sum(in_parts, [])) == list(range(num))
  assert all(rows == sorted(rows) for rows in in_parts)


def test_sizes_are_those_of_hamilton():
  """Against the definition: whole quotas, then one more for each of the largest remainders."""
  rng = np.random.default_rng(0)
  for _ in range(200):
    num, shares = int(rng.integers(1, 10**6)), rng.dirichlet(np.ones(rng.integers(1, 6)))
    sizes = np.array(arrays_in_memory._sizes(num, shares.tolist()))
    over = sizes - num * shares  # in (-1, 1); those rounded up lie above those rounded down
    assert sizes.sum() == num and np.all(np.abs(over) < 1)
    up, down = over[over > 1e-6], over[over < -1e-6]
    assert not up.size or not down.size or (1 - up).min() >= (-down).max() - 1e-6


def test_the_draw_depends_on_the_seed_and_is_even():
  def drawn(seed):
    first, _ = data.from_arrays({"a": np.arange(NUM)}, {"position": np.arange(NUM)},
                                fractions=(0.5, 0.5), seed=seed)
    return positions(first)

  assert drawn(1) == drawn(1) != drawn(2)
  parts = [arrays_in_memory._parts("", NUM, (0.5, 0.5), seed)[0] for seed in range(200)]
  counts = np.bincount(np.concatenate(parts), minlength=NUM)
  assert np.all(np.abs(counts - 100) < 5 * np.sqrt(200 / 4))


def test_gaps_subsets_and_fingerprints():
  here = np.arange(NUM) % 5 > 0
  made = data.from_arrays(arrays(), {"position": np.arange(NUM)}, {"words": here})
  assert positions(data.complete(made)) == np.flatnonzero(here).tolist()
  assert whole(data.complete(made))[2] == {}
  gaps = data.with_gaps(made, {"vector": 0.5, "words": 0.3}, seed=2)
  x, _, mask = whole(gaps)
  assert not np.any(mask["words"] & ~here) and np.any(~mask["words"] & here)
  assert np.all(x["words"][~mask["words"]] == 0) and np.all(x["vector"][~mask["vector"]] == 0)
  both = np.flatnonzero(mask["words"] & mask["vector"])
  assert positions(data.complete(gaps)) == both.tolist()
  assert positions(made.subset([7, 0, 7])) == [7, 0, 7]
  assert positions(made.spread(3)) == [0, 24, 49]
  assert made.fingerprint() == data.from_arrays(
      arrays(), {"position": np.arange(NUM)}, {"words": here}).fingerprint()
  others = [data.from_arrays(arrays(), {"position": np.arange(NUM)}, {"words": ~here}),
            data.from_arrays(arrays(), {"position": np.arange(NUM)[::-1]}, {"words": here}),
            data.from_arrays({**arrays(), "vector": arrays()["vector"] + 1},
                             {"position": np.arange(NUM)}, {"words": here}), made.subset([1])]
  assert len({each.fingerprint() for each in [made, *others]}) == 5
  first, second = data.from_arrays(
      arrays(), {"position": np.arange(NUM)}, {"words": here}, fractions=(0.5, 0.5))
  rows = positions(first)
  assert positions(data.complete(first)) == [row for row in rows if here[row]]
  assert positions(second.spread(2)) == [positions(second)[i] for i in (0, -1)]


A = {"a": [[1.0], [2.0]]}


@pytest.mark.parametrize("arguments, said", [
    ({"x": {}}, "x has no modality: give at least one array"),
    ({"x": np.ones(3)}, "x must be a dict of arrays by name, got ndarray"),
    ({"x": {0: [1.0]}}, "x must be a dict of arrays by name"),
    ({"x": A, "labels": [1, 2]}, "labels must be a dict of arrays by name, got list"),
    ({"x": A, "mask": np.ones(2, bool)}, "mask must be a dict of arrays by name, got ndarray"),
    ({"x": {"a": np.ones([0, 3])}}, "is empty"),
    ({"x": {"a": []}}, "is empty"),
    ({"x": {"a": 3.0}}, r"x\['a'\] is no array \[N, ...\], but a single float64: give a row for"),
    ({"x": {"a": (i for i in range(3))}}, r"x\['a'\] is no array .* but a single generator"),
    ({"x": {"a": [[1.0], [1.0, 2.0]]}}, r"x\['a'\] is no array \(.*\): expected observations"),
    ({"x": {**A, "b": np.ones(3)}}, r"got 2 in x\['a'\], 3 in x\['b'\]"),
    ({"x": A, "labels": {"y": [1]}}, r"got 2 in x\['a'\], 1 in labels\['y'\] rows"),
    ({"x": A, "mask": {"a": [True]}}, r"got 2 in x\['a'\], 1 in mask\['a'\] rows"),
    ({"x": A, "mask": {"b": [True, True]}}, r"a mask of \['b'\], but the modalities are \['a'\]"),
    ({"x": A, "mask": {"a": [1, 0]}},
     r"mask\['a'\] must be bool \[2\], true where an example has it, got int64 \[2\]"),
    ({"x": A, "mask": {"a": [[True], [True]]}}, r"must be bool \[2\], .*, got bool \[2, 1\]"),
    ({"x": A, "mask": {"a": [False, False]}}, "no example has anything: mask must be true where"),
    ({"x": {"a": [[1.0, 0], [0, np.nan]]}}, r"x\['a'\]\[1\] holds NaN or infinity: give finite"),
    ({"x": {"a": [0, 1, -np.inf]}}, r"x\['a'\]\[2\] holds NaN or infinity"),
    ({"x": {"a": [np.nan, np.nan]}, "mask": {"a": [False, True]}}, r"x\['a'\]\[1\] holds NaN"),
    ({"x": {"a": [1, 1e39]}}, r"x\['a'\]\[1\] holds a number that does not fit float32: give"),
    ({"x": {"a": [1, 2**31]}}, r"x\['a'\]\[1\] holds a number that does not fit int32: give"),
    ({"x": {"a": [-2**31 - 1, 1]}}, r"x\['a'\]\[0\] holds a number that does not fit int32"),
    ({"x": {"a": np.array([2**63], np.uint64)}}, r"x\['a'\]\[0\] holds a number that does not fit"),
    ({"x": {"a": np.array([1, None])}}, r"x\['a'\] is of dtype object, expected floats or"),
    ({"x": {"a": [1j, 2]}}, r"x\['a'\] is of dtype complex128, expected floats or whole numbers"),
    ({"x": {"a": [True, False]}}, "is of dtype bool, expected .*: give 0. and 1. as floats"),
    ({"x": {"a": ["a bird"]}}, "is of dtype <U6, .*: make sentences word ids by the"),
    ({"x": {"a": np.zeros(2, "M8[s]")}}, r"is of dtype datetime64\[s\], expected floats or whole"),
    ({"x": {"a": np.ma.masked_array([1.0, 2.0], [False, True])}},
     r"x\['a'\] is an array with masked numbers: fill them, and say by mask which"),
    ({"x": A, "labels": {"y": np.ma.masked_array([1, 2], [False, True])}},
     r"labels\['y'\] is an array with masked numbers"),
    ({"x": A, "labels": {"y": [[1], [2]]}}, r"\['y'\] must be of shape \[N\], .* \[2, 1\]"),
    ({"x": A, "labels": {"y": [1j, 2]}}, r"labels\['y'\] is of dtype complex128, expected numbers"),
    ({"x": A, "labels": {"y": ["a", None]}}, r"labels\['y'\] is of dtype object, expected numbers"),
    ({"x": A, "labels": {"y": [0, 2**31]}}, r"labels\['y'\]\[1\] holds a number that does not"),
    ({"x": A, "labels": {"y": [0, 1e39]}}, r"labels\['y'\]\[1\] holds a number that does not"),
    *[({"x": A, "fractions": wrong}, "fractions must be numbers above 0 that sum to 1, such as ")
      for wrong in [(0.5, 0.4), (1.5, -0.5), (1.0, 0.0), (), 0.5, "ab", (np.nan, 1.0),
                    (None, 1.0)]],
    ({"x": A, "fractions": (0.9, 0.1)}, r"\(0.9, 0.1\) of 2 examples make parts of \[2, 0\]"),
    ({"x": A, "fractions": (0.5, 0.5), "seed": -1}, "seed must be a whole number of at least 0"),
    ({"x": A, "fractions": (0.5, 0.5), "seed": 0.5}, "seed must be a whole number of at least 0"),
])
def test_what_is_refused(arguments, said):
  with pytest.raises(ValueError, match=f"^data set 'mine':? [^\n]*{said}[^\n]*$"):
    data.from_arrays(**arguments, name="mine")


def test_labels_may_hold_nan():
  _, y, _ = whole(data.from_arrays(A, {"weight": [np.nan, 1.0]}))
  np.testing.assert_array_equal(y["weight"], [np.nan, 1])
