import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.data.examples import Examples
from tf_mmvae.data.gaps import complete, with_gaps

NUM = 2000


def data(num=NUM, mask=None, augment=None):
  """A number and a word an example, both its position plus 1; a label beside them."""
  def read(i):
    x = {"image": tf.cast(i + 1, tf.float32)[:, tf.newaxis], "sentence": tf.cast(i + 1, tf.int32)}
    return (x, {"index": i}) if mask is None else (x, {"index": i}, mask(i))

  return Examples("numbers", num, read, augment)


def whole(examples):
  """x, y and mask of all examples in order, as arrays."""
  parts = list(examples.batches(300).as_numpy_iterator())
  return tuple({name: np.concatenate([part[k][name] for part in parts]) for name in parts[0][k]}
               for k in range(3))


@pytest.mark.parametrize("share", [0., 0.3, 1.])
def test_a_share_is_absent(share):
  _, _, mask = whole(with_gaps(data(), {"sentence": share}))
  assert mask.keys() == {"sentence"}
  error = 4 * np.sqrt(share * (1 - share) / NUM)
  assert abs(np.mean(~mask["sentence"]) - share) <= error


def test_values_are_those_of_the_data_where_present_and_zeros_elsewhere():
  x, y, mask = whole(with_gaps(data(), {"sentence": 0.5, "image": 0.2}))
  number = np.arange(1, NUM + 1)
  np.testing.assert_array_equal(x["sentence"], np.where(mask["sentence"], number, 0))
  np.testing.assert_array_equal(x["image"][:, 0], np.where(mask["image"], number, 0))
  np.testing.assert_array_equal(y["index"], number - 1)
  none = np.mean(~mask["sentence"] & ~mask["image"])
  assert abs(none - 0.1) < 4 * np.sqrt(0.09 / NUM)  # each by itself


def test_gaps_depend_on_seed_modality_and_position_alone():
  sentence = whole(with_gaps(data(), {"sentence": 0.5}))[2]["sentence"]
  both = whole(with_gaps(data(NUM // 2), {"image": 0.5, "sentence": 0.5}))[2]
  np.testing.assert_array_equal(both["sentence"], sentence[:NUM // 2])
  assert not np.array_equal(both["image"], both["sentence"])
  other = whole(with_gaps(data(), {"sentence": 0.5}, seed=1))[2]["sentence"]
  assert 0.4 < np.mean(other == sentence) < 0.6
  more = whole(with_gaps(data(), {"sentence": 0.7}))[2]["sentence"]
  assert np.all(sentence[more]) and more.sum() < sentence.sum()


def test_shuffled_batches_and_subsets_keep_their_gaps():
  made = with_gaps(data(), {"sentence": 0.5})
  expected = whole(made)[2]["sentence"]
  for _, y, mask in made.shuffled_batches(64, seed=0, first_step=7).take(3):
    np.testing.assert_array_equal(mask["sentence"], expected[y["index"]])
  some = [5, 1, 1, 1999]
  np.testing.assert_array_equal(whole(made.subset(some))[2]["sentence"], expected[some])


def test_augmentation_stays():
  def augment(x, seeds):
    return {**x, "image": x["image"] + 0.5, "seed": seeds}

  for made in (with_gaps(data(augment=augment), {"sentence": 0.5}),
               with_gaps(data(augment=augment), {"sentence": 0.5}, complete_only=True)):
    ((x, y, _),) = made.shuffled_batches(32, seed=3).take(1)
    np.testing.assert_array_equal(x["image"][:, 0], tf.cast(y["index"], tf.float32) + 1.5)
    assert x["seed"].numpy().tolist() == [[3, i] for i in range(32)]
    assert "seed" not in next(iter(made.batches(4)))[0]


def test_complete_only_keeps_the_complete_of_the_same_draw():
  missing = {"sentence": 0.5, "image": 0.2}
  _, _, mask = whole(with_gaps(data(), missing, seed=3))
  made = with_gaps(data(), missing, seed=3, complete_only=True)
  x, y, no_mask = whole(made)
  assert no_mask == {}
  expected = np.flatnonzero(mask["image"] & mask["sentence"])
  assert made.num_examples == len(expected) > 0.3 * NUM
  np.testing.assert_array_equal(y["index"], expected)
  np.testing.assert_array_equal(x["sentence"], expected + 1)


def test_what_was_absent_already_stays_so():
  """Also NaN in its place."""
  def mask(i):
    return {"image": i % 3 > 0}

  def read(i):
    image = tf.where(i % 3 > 0, tf.cast(i, tf.float32), float("nan"))
    return {"image": image, "sentence": i}, {}, mask(i)

  made = with_gaps(Examples("holes", NUM, read), {"image": 0.5})
  x, _, found = whole(made)
  assert not np.any(found["image"][::3]) and 0.25 < np.mean(found["image"]) < 0.42
  assert np.all(np.isfinite(x["image"])) and np.all(x["image"][~found["image"]] == 0)
  assert whole(complete(Examples("holes", NUM, read)))[0]["sentence"].tolist() == [
      i for i in range(NUM) if i % 3]


def test_complete_data_stay_as_they_are():
  x, _, mask = whole(complete(data(7)))
  assert mask == {} and x["sentence"].tolist() == list(range(1, 8))


def test_only_masks_are_read_to_find_the_complete():
  """A read of everything would take a batch of 4,096 pictures to memory."""
  read = []

  def note(i):
    read.append(len(i))
    return np.float32(i)

  def of_all(i):
    image = tf.numpy_function(note, [i], tf.float32, stateful=False)
    return {"image": tf.ensure_shape(image, [None])}, {}, {"image": i > 0}

  made = complete(Examples("slow", 50, of_all))
  assert made.num_examples == 49 and not read


@pytest.mark.parametrize("missing, seed, message", [
    ({"sound": 0.5}, 0,
     r"gaps in \['sound'\], but the modalities are \['image', 'sentence'\]: correct the name"),
    ({"image": 1.5}, 0, r"the share of 'image' that is missing must be in \[0, 1\], got 1.5"),
    ({"image": -0.1}, 0, r"must be in \[0, 1\], got -0.1"),
    ({"image": float("nan")}, 0, r"must be in \[0, 1\], got nan"),
    ({"image": "0.5"}, 0, r"must be in \[0, 1\], got '0.5'"),
    ({"image": 0.5}, -1, "seed of gaps must be a whole number of at least 0, got -1"),
    ({"image": 1, "sentence": 1}, 0, "gaps of .* leave no example anything"),
])
def test_bad_input_is_refused(missing, seed, message):
  with pytest.raises(ValueError, match=f"^data set 'numbers': .*{message}[^\n]*$"):
    with_gaps(data(), missing, seed)


def test_no_complete_example_is_refused():
  with pytest.raises(ValueError, match="^data set 'numbers': no example is complete: [^\n]+$"):
    with_gaps(data(), {"sentence": 1.}, complete_only=True)


def test_complete_examples_more_often():
  made = with_gaps(data(), {"sentence": 0.9}, complete_times=4)
  once = whole(with_gaps(data(), {"sentence": 0.9}))
  complete = np.flatnonzero(once[2]["sentence"])
  assert made.num_examples == NUM + 3 * len(complete)
  x, y, mask = whole(made)
  times = np.bincount(y["index"])
  np.testing.assert_array_equal(times, np.where(once[2]["sentence"], 4, 1))
  np.testing.assert_array_equal(mask["sentence"], once[2]["sentence"][y["index"]])
  np.testing.assert_array_equal(x["sentence"], once[0]["sentence"][y["index"]])
  with pytest.raises(ValueError, match="complete_times must be .* at least 1, got 0"):
    with_gaps(data(), {"sentence": 0.5}, complete_times=0)
