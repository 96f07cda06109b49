import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.data import examples, tokenizer


def counting(num_examples):
  return examples.Examples("counting", num_examples, lambda i: ({"position": i}, {"twice": 2 * i}))


def positions(dataset, num_batches):
  return [x["position"].numpy().tolist() for x, _, _ in dataset.take(num_batches)]


def pairs(num_images=3, num_captions=2):
  images = np.arange(num_images * 4 * 4 * 3).reshape([num_images, 4, 4, 3]).astype(np.uint8)
  captions = [[f"bird {i} {c}" for c in range(num_captions)] for i in range(num_images)]
  words = tokenizer.Tokenizer(["bird", *map(str, range(num_images))], length=5)
  labels = {"class": np.arange(num_images) + 10}
  return images, captions, words, labels


@pytest.mark.parametrize("num_examples", [1, 2, 7, 10, 64])
def test_every_example_comes_once_an_epoch(num_examples):
  dataset = counting(num_examples).shuffled_batches(4, seed=0)
  seen = np.concatenate(positions(dataset, num_examples))  # four epochs
  for epoch in np.split(seen, 4):
    assert sorted(epoch) == list(range(num_examples))


def test_order_depends_on_seed_and_epoch():
  data = counting(100)
  first, second = positions(data.shuffled_batches(100, seed=1), 2)
  assert first != second
  assert first != sorted(first)
  assert positions(data.shuffled_batches(100, seed=2), 1) != [first]
  assert positions(data.shuffled_batches(100, seed=1), 2) == [first, second]


def test_order_is_unbiased():
  data = counting(5)
  first = [row[0] for row in positions(data.shuffled_batches(5, seed=3), 1000)]
  counts = np.bincount(first, minlength=5)
  assert np.all(np.abs(counts - 200) < 5 * np.sqrt(1000 * 0.2 * 0.8))


@pytest.mark.parametrize("num_examples", [57000, 1710000])
def test_neighbours_in_the_order_are_independent(num_examples):
  """Of 20,000: correlations at several distances within 5 standard errors, means of batches too."""
  batch_size, num = 50, 20000
  order = np.concatenate(positions(
      counting(num_examples).shuffled_batches(batch_size, seed=0), num // batch_size))
  share = order / num_examples
  for distance in (1, 2, 3, 5, 8, 12):
    found = np.corrcoef(share[:-distance], share[distance:])[0, 1]
    assert abs(found) < 5 / np.sqrt(num), distance
  spread = share.reshape([-1, batch_size]).mean(1).std() * np.sqrt(12 * batch_size)  # 1 if random
  assert abs(spread - 1) < 5 / np.sqrt(2 * num / batch_size)


@pytest.mark.parametrize("first_step", [1, 5, 1_000_000])
def test_resuming_gives_the_batches_that_would_have_come(first_step):
  data = counting(10)
  resumed = positions(data.shuffled_batches(4, seed=9, first_step=first_step), 3)
  if first_step < 100:
    whole = positions(data.shuffled_batches(4, seed=9), first_step + 3)
    assert resumed == whole[first_step:]
  later = positions(data.shuffled_batches(4, seed=9, first_step=first_step + 2), 1)
  assert resumed[2:] == later


def test_batch_may_be_larger_than_the_data_set():
  (batch,) = positions(counting(3).shuffled_batches(7, seed=0), 1)
  assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def test_batches_are_in_order_and_the_last_is_ragged():
  dataset = counting(5).batches(2)
  assert positions(dataset, 10) == [[0, 1], [2, 3], [4]]
  assert [y["twice"].numpy().tolist() for _, y, _ in dataset] == [[0, 2], [4, 6], [8]]


def test_subset():
  data = counting(10).subset([7, 3, 3])
  assert data.num_examples == 3
  assert positions(data.batches(2), 10) == [[7, 3], [3]]
  assert positions(data.subset([0]).batches(2), 10) == [[7]]
  assert set(itertools.chain(*positions(data.shuffled_batches(2, seed=0), 6))) == {3, 7}


@pytest.mark.parametrize(("num", "expected"), [
    (None, range(10)), (10, range(10)), (11, range(10)), (1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9])])
def test_spread(num, expected):
  (found,) = positions(counting(10).spread(num).batches(20), 10)
  assert found == list(expected)


@pytest.mark.parametrize("indices", [[10], [-1], [0, 99]])
def test_subset_outside_fails(indices):
  with pytest.raises(ValueError, match=r"'counting': indices must be in \[0, 10\)"):
    counting(10).subset(indices)


def test_empty_fails():
  with pytest.raises(ValueError, match="'counting' is empty"):
    counting(0)
  with pytest.raises(ValueError, match="'counting' is empty"):
    counting(10).subset([])


def test_bad_batches_fail():
  with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
    counting(3).shuffled_batches(0, seed=0)
  with pytest.raises(ValueError, match="batch_size must be at least 1, got -1"):
    counting(3).batches(-1)
  with pytest.raises(ValueError, match="first_step must be at least 0, got -2"):
    counting(3).shuffled_batches(1, seed=0, first_step=-2)


def test_images_with_captions():
  images, captions, words, labels = pairs()
  data = examples.images_with_captions("birds", images, captions, labels, words)
  assert data.num_examples == 6
  ((x, y, mask),) = list(data.batches(100))
  assert mask == {}
  assert x["image"].dtype == tf.float32
  np.testing.assert_allclose(x["image"], np.repeat(images, 2, axis=0) / 255.0, rtol=1e-6)
  sentences = sum(captions, [])
  np.testing.assert_array_equal(x["sentence"], words.encode(sentences))
  assert x["sentence"].dtype == y["class"].dtype == y["image_index"].dtype == tf.int32
  assert y["caption"].numpy().tolist() == [sentence.encode() for sentence in sentences]
  assert y["image_index"].numpy().tolist() == [0, 0, 1, 1, 2, 2]
  assert y["class"].numpy().tolist() == [10, 10, 11, 11, 12, 12]


def test_shuffled_pairs_stay_together():
  images, captions, words, labels = pairs(num_images=5, num_captions=3)
  data = examples.images_with_captions("birds", images, captions, labels, words)
  shuffled = data.shuffled_batches(4, seed=0)
  x_spec, _, _ = shuffled.element_spec
  assert x_spec["image"].shape == [4, 4, 4, 3] and x_spec["sentence"].shape == [4, 5]
  for x, y, _ in shuffled.take(10):
    image_index = y["image_index"].numpy()
    np.testing.assert_allclose(x["image"], images[image_index] / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(x["sentence"], words.encode(y["caption"]))
    assert [int(caption.split()[1]) for caption in y["caption"].numpy()] == image_index.tolist()


def test_images_are_not_copied_into_the_graph():
  images = np.zeros([100, 64, 64, 3], np.uint8)
  _, captions, words, labels = pairs(num_images=100)
  data = examples.images_with_captions("birds", images, captions, labels, words)
  read = tf.function(data.read).get_concrete_function(tf.TensorSpec([None], tf.int64))
  assert read.graph.as_graph_def().ByteSize() < 100_000 < images.nbytes


def test_mismatched_parts_fail():
  images, captions, words, labels = pairs()

  def make(images=images, captions=captions, labels=labels):
    return examples.images_with_captions("birds", images, captions, labels, words)

  with pytest.raises(ValueError, match="'birds' is empty"):
    make(images=images[:0], captions=[])
  with pytest.raises(ValueError, match="expected captions for 3 images, got 2"):
    make(captions=captions[:2])
  with pytest.raises(ValueError, match="same number of captions, at least one, got 1 to 2"):
    make(captions=[["a"], ["a", "b"], ["a", "b"]])
  with pytest.raises(ValueError, match="same number of captions, at least one, got 0 to 0"):
    make(captions=[[], [], []])
  with pytest.raises(ValueError, match="'birds', label 'class': expected 3 values, got 2"):
    make(labels={"class": [0, 1]})


def test_augmentation_changes_shuffled_batches_alone():
  """By a seed of its own for each example of each step, the same when resumed and in parts."""
  def augment(x, seeds):
    return {"position": x["position"], "seed": seeds}

  data = examples.Examples("counting", 10, lambda i: ({"position": i}, {}), augment)
  def seeds(data, *args):
    return np.array([x["seed"] for x, _, _ in data.shuffled_batches(4, *args).take(3)])

  whole = seeds(data, 5)
  assert len({tuple(seed) for seed in whole.reshape([-1, 2]).tolist()}) == 12
  np.testing.assert_array_equal(seeds(data, 5, 1)[:2], whole[1:])
  np.testing.assert_array_equal(seeds(data, 5, 0, 2, range(1, 2)), whole[:, 2:])
  assert np.all(np.any(whole != seeds(data, 6), -1))
  np.testing.assert_array_equal(seeds(data.subset([1, 2, 3]), 5), whole)
  assert all("seed" not in x for x, _, _ in data.batches(4))


@pytest.mark.parametrize("num_shares, shares", [
    (1, range(1)), (2, range(2)), (2, range(1, 2)), (6, range(2, 4)), (3, range(3))])
@pytest.mark.parametrize("first_step", [0, 5])
def test_shares_are_parts_of_the_batch(num_shares, shares, first_step):
  data = counting(7)
  whole = np.array(positions(data.shuffled_batches(6, 3, first_step), 2))
  found = positions(data.shuffled_batches(6, 3, first_step, num_shares, shares), 2 * len(shares))
  expected = whole.reshape([2, num_shares, -1])[:, shares.start:shares.stop]
  np.testing.assert_array_equal(np.reshape(found, expected.shape), expected)


def test_a_batch_that_cannot_be_shared():
  with pytest.raises(ValueError, match="batch of 4 cannot be cut into 3 equal parts"):
    counting(7).shuffled_batches(4, 0, 0, 3)


def with_gaps():
  """Of 5 examples the even ones have "a"; what stands in its place in the others is NaN."""
  def read(i):
    a = tf.where(i % 2 == 0, tf.cast(i, tf.float32), float("nan"))
    return {"a": tf.stack([a, a], -1), "b": i}, {"index": i}, {"a": i % 2 == 0}

  return examples.Examples("gaps", 5, read)


def test_absent_observations_are_zeros_and_masks_follow_their_examples():
  ((x, _, mask),) = with_gaps().batches(5)
  assert mask["a"].numpy().tolist() == [True, False, True, False, True]
  assert x["a"].numpy().tolist() == [[0, 0], [0, 0], [2, 2], [0, 0], [4, 4]]
  ((_, _, mask),) = with_gaps().subset([1, 4]).batches(5)
  assert mask["a"].numpy().tolist() == [False, True]
  for _, y, mask in with_gaps().shuffled_batches(3, seed=0).take(4):
    np.testing.assert_array_equal(mask["a"], y["index"].numpy() % 2 == 0)


def test_a_mask_of_no_modality_fails():
  data = examples.Examples("odd", 3, lambda i: ({"a": i}, {}, {"c": i > 0}))
  with pytest.raises(ValueError, match=r"'odd': a mask of \['c'\], but the modalities are \['a'\]"):
    data.batches(2)
