"""Examples: a data set in memory, read by position, so that a batch depends on (seed, step)."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_mmvae.batch import Batch, zeros_where_absent
from tf_mmvae.data.tokenizer import Tokenizer


class Examples:
  """Examples held in memory and read by position.

  Batches are `Batch`es, in which absent observations are zeros.

  Args:
    name: the data set's name, for messages.
    num_examples: how many examples there are.
    read: a function in TensorFlow ops, positions int64 [B] in [0, num_examples) -> `(x, y, mask)`,
      or `(x, y)` where nothing is absent. What it gives for an absent observation may be anything.
    augment: a function in TensorFlow ops, (x, seeds int64 [B, 2]) -> x, that changes the shuffled
      batches, which are those to train on. It draws by each example's seed, so that the parts of a
      batch are those of the whole; None changes nothing.

  Raises:
    ValueError: there are no examples.
  """

  def __init__(self, name: str, num_examples: int, read: Callable, augment: Callable | None = None):
    if num_examples < 1:
      raise ValueError(f"data set '{name}' is empty")
    self.name = name
    self.num_examples = int(num_examples)
    self.augment = augment
    self._read = read

  def read(self, positions: tf.Tensor) -> Batch:
    """The examples at positions, int64 [B]: `Batch`.

    Raises:
      ValueError: the mask names what `x` does not hold.
    """
    x, y, mask = batch = Batch(*self._read(positions))
    if unknown := sorted(set(mask) - set(x)):
      raise ValueError(
        f"data set '{self.name}': a mask of {unknown}, but the modalities are {sorted(x)}"
      )
    there = {name: zeros_where_absent(x[name], present) for name, present in mask.items()}
    return batch._replace(x={**x, **there})

  def shuffled_batches(self, batch_size: int, seed: int, first_step: int = 0, num_shares: int = 1,
                       shares: range = range(1)) -> tf.data.Dataset:
    """Every example once an epoch in a new order, without end.

    Batch `step` depends on (seed, step) alone: a run resumed at `first_step` sees the batches
    that it would have seen.
    A batch may reach over the end of an epoch into the next one.

    Args:
      batch_size: examples a batch, B.
      seed: an integer.
      first_step: the step of the first batch.
      num_shares: so many equal parts a batch is cut into, in order: a part for each device.
      shares: a range of these parts, which come one after the other; others are not read.

    Returns:
      An infinite `tf.data.Dataset` of `Batch`, each tensor [B / num_shares, ...].

    Raises:
      ValueError: `batch_size` is below 1 or no multiple of `num_shares`, or `first_step` below 0.
    """
    self._check_batch_size(batch_size)
    if first_step < 0:
      raise ValueError(f"data set '{self.name}': first_step must be at least 0, got {first_step}")
    if batch_size % num_shares:
      raise ValueError(f"data set '{self.name}': a batch of {batch_size} cannot be cut into "
                       f"{num_shares} equal parts")
    size = batch_size // num_shares

    def read(n):
      step, share = n // len(shares), shares.start + n % len(shares)
      i = step * batch_size + share * size + tf.range(size, dtype=tf.int64)  # in all epochs
      epoch = i // self.num_examples
      # `tf.random.experimental.index_shuffle` takes no seed an element; the op under it does.
      seeds = tf.stack([seed + 0 * epoch, epoch, tf.ones_like(epoch)], axis=-1)  # [B, 3]
      position = tf.raw_ops.RandomIndexShuffle(
        index=i % self.num_examples,
        seed=seeds,
        max_index=tf.constant(self.num_examples - 1, tf.int64),
        rounds=8,  # with the 4 of `index_shuffle`, neighbours stay at nearly equal distances
      )
      batch = self.read(position)
      if self.augment is None:
        return batch
      seeds = tf.stack([tf.fill([size], tf.cast(seed, tf.int64)), i], -1)
      return batch._replace(x=self.augment(batch.x, seeds))

    return _read_batches(tf.data.Dataset.counter(first_step * len(shares)), read)

  def batches(self, batch_size: int) -> tf.data.Dataset:
    """Every example once, in order.

    Args:
      batch_size: examples a batch, B.

    Returns:
      A finite `tf.data.Dataset` of `Batch`, each tensor [B, ...]; the last batch may be
      smaller.

    Raises:
      ValueError: `batch_size` is below 1.
    """
    self._check_batch_size(batch_size)
    return _read_batches(tf.data.Dataset.range(self.num_examples).batch(batch_size), self.read)

  def subset(self, indices: npt.ArrayLike) -> "Examples":
    """The examples at `indices`, int [N], in that order.

    Raises:
      ValueError: `indices` is empty or reaches outside the data set.
    """
    indices = np.asarray(indices, np.int64).reshape([-1])
    if indices.size and not 0 <= indices.min() <= indices.max() < self.num_examples:
      raise ValueError(
        f"data set '{self.name}': indices must be in [0, {self.num_examples}), "
        f"got {indices.min()} to {indices.max()}"
      )
    indices = on_cpu(indices)
    return Examples(
      self.name, len(indices), lambda i: self.read(tf.gather(indices, i)), self.augment
    )

  def spread(self, num: int | None) -> "Examples":
    """At most `num` of the examples, evenly spread, in order; None is all of them."""
    if num is None or num >= self.num_examples:
      return self
    return self.subset(np.linspace(0, self.num_examples - 1, num).astype(int))

  def fingerprint(self, num_examples: int = 200) -> str:
    """A hash of their number and of so many of them, evenly spread, which tells data apart."""
    digest = hashlib.sha256(str(self.num_examples).encode())
    for batch in self.spread(num_examples).batches(50):
      for part in batch:
        for key in sorted(part):
          digest.update(key.encode() + tf.io.serialize_tensor(part[key]).numpy())
    return digest.hexdigest()

  def _check_batch_size(self, batch_size):
    if batch_size < 1:
      raise ValueError(f"data set '{self.name}': batch_size must be at least 1, got {batch_size}")


def images_with_captions(name: str, images: np.ndarray, captions: Sequence[Sequence[str | bytes]],
                         labels: Mapping[str, npt.ArrayLike], tokenizer: Tokenizer,
                         augment: Callable | None = None) -> Examples:
  """Pairs of an image and one of its captions.

  Pair `i` is image `i // C` with its caption `i % C`; all pairs share one array of images.

  Args:
    name: the data set's name, for messages.
    images: uint8 [N, H, W, 3], or float32 [N, ...], such as their features, taken as they are.
    captions: N lists of C strings.
    labels: {name: int [N]}.
    tokenizer: a `Tokenizer`; L is its length.
    augment: see `Examples`.

  Returns:
    `Examples` with x = {"image": float32 [B, H, W, 3] in [0, 1] or [B, ...], "sentence": int32
    [B, L]} and y = {each label: int32 [B], "image_index": int32 [B], "caption": string [B]}.

  Raises:
    ValueError: there are no images, or the captions or labels do not match them in number.
  """
  num_captions = _captions_per_image(name, images, captions)
  for label, values in labels.items():
    if len(values) != len(images):
      raise ValueError(
        f"data set '{name}', label '{label}': expected {len(images)} values, got {len(values)}"
      )
  sentences = [caption for of_image in captions for caption in of_image]
  as_they_are = np.asarray(images).dtype.kind == "f"
  images = on_cpu(images, tf.float32 if as_they_are else tf.uint8)  # [N, ...]
  tokens = on_cpu(tokenizer.encode(sentences))  # [N * C, L]
  sentences = on_cpu(sentences)  # [N * C]
  labels = {label: on_cpu(values, tf.int32) for label, values in labels.items()}

  def read(i):
    image_index = i // num_captions
    image = tf.gather(images, image_index)
    x = {
      "image": image if as_they_are else tf.cast(image, tf.float32) / 255.0,
      "sentence": tf.gather(tokens, i),
    }
    y = {label: tf.gather(values, image_index) for label, values in labels.items()}
    y["image_index"] = tf.cast(image_index, tf.int32)
    y["caption"] = tf.gather(sentences, i)
    return x, y

  return Examples(name, len(sentences), read, augment)


def _captions_per_image(name, images, captions):
  if len(images) == 0:
    raise ValueError(f"data set '{name}' is empty")
  if len(captions) != len(images):
    raise ValueError(
      f"data set '{name}': expected captions for {len(images)} images, got {len(captions)}"
    )
  counts = {len(of_image) for of_image in captions}
  if len(counts) > 1 or counts == {0}:
    raise ValueError(
      f"data set '{name}': every image must have the same number of captions, at least one, "
      f"got {min(counts)} to {max(counts)}"
    )
  return counts.pop()


def on_cpu(values: npt.ArrayLike, dtype: tf.DType | None = None) -> tf.Tensor:
  """An eager tensor: a function that uses it captures it instead of copying it into its graph."""
  with tf.device("CPU:0"):
    return tf.identity(tf.convert_to_tensor(values, dtype))


def _read_batches(positions, read):
  return positions.map(read, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
