import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.data.tokenizer import Tokenizer
from tf_mmvae.evaluation import panels
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior
from tf_mmvae.nets import sentences

PICTURE, WORDS, MARGIN, HEADER = 128, 180, 10, 30  # pixels
LENGTH = 6


def brightness(name, channels, value):
  """A modality of flat pictures: whatever z, the decoder says `value`."""
  shape = (4, 4, channels)
  decoder = keras.Sequential([
      keras.layers.Dense(16 * channels, kernel_initializer="zeros",
                         bias_initializer=keras.initializers.Constant(value)),
      keras.layers.Reshape(shape)])
  encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
  return Modality(name, shape, encoder, decoder, distributions.normal_likelihood)


@pytest.fixture(scope="module")
def tokenizer():
  return Tokenizer(["a", "red", "bird"], LENGTH)


@pytest.fixture(scope="module")
def model():
  sentence = Modality("sentence", (LENGTH,), sentences.RecurrentEncoder(2, 6, 2, 3),
                      sentences.RecurrentDecoder(6, LENGTH, 2, 3),
                      distributions.sentence_likelihood, dtype="int32")
  return MultimodalVAE([brightness("image", 3, 0.5), brightness("grey", 1, 1.), sentence], Prior(2))


def data(tokenizer, num=5):
  """Pictures of colour (i / num, 0, 0), white ones, and a caption."""
  said = tokenizer.encode(["a red bird"] * num)

  def read(i):
    red = tf.cast(i, tf.float32)[:, None, None, None] / num * tf.ones([1, 4, 4, 1])
    image = tf.concat([red, 0 * red, 0 * red], -1)
    return {"image": image, "grey": 0 * red + 1, "sentence": tf.gather(said, i)}, {}

  return Examples("stub", num, read)


def middle(table, row, left):
  return table[HEADER + row * (PICTURE + MARGIN) + PICTURE // 2, left + PICTURE // 2].tolist()


@pytest.fixture(scope="module")
def drawn(model, tokenizer):
  panel = panels.Panel(
      data(tokenizer), {"sentence": tokenizer}, num_examples=3, num_samples=2)
  return panel(model)


def test_sizes(drawn):
  """Columns: three modalities, and from each of them two of both pictures and one sentence."""
  num_pictures, num_sentences = 2 + 3 * 2 * 2, 1 + 3
  height = HEADER + 3 * (PICTURE + MARGIN)
  width = num_pictures * PICTURE + num_sentences * WORDS + 19 * MARGIN
  assert drawn["translations"].shape == (height, width, 3)
  assert drawn["prior"].shape == (height, 2 * PICTURE + WORDS + 4 * MARGIN, 3)
  assert {value.dtype for value in drawn.values()} == {np.dtype(np.uint8)}


def test_pictures_are_where_they_belong(drawn):
  table = drawn["translations"]
  for row, example in enumerate((0, 2, 4)):  # of five, evenly spread
    red = int(example / 5 * 255 + 0.5)
    assert middle(table, row, MARGIN) == [red, 0, 0]
    assert middle(table, row, 2 * MARGIN + PICTURE) == [255, 255, 255]
    translated = 4 * MARGIN + 2 * PICTURE + WORDS  # the first column after the examples
    assert middle(table, row, translated) == [128, 128, 128]
  assert middle(drawn["prior"], 2, MARGIN) == [128, 128, 128]


def test_sentences_are_written(drawn):
  """The caption's column has ink, and the same in every row."""
  left = 3 * MARGIN + 2 * PICTURE
  column = drawn["translations"][HEADER:, left:left + WORDS]
  rows = column.reshape([3, PICTURE + MARGIN, WORDS, 3])
  assert rows.min() < 100
  np.testing.assert_array_equal(rows[0], rows[1])


def test_written_files_open(model, tokenizer, tmp_path):
  panel = panels.Panel(data(tokenizer), {"sentence": tokenizer}, num_examples=2, num_samples=1)
  paths = panel.write(model, tmp_path / "results")
  assert [path.rsplit("/")[-1] for path in paths] == ["translations.png", "prior.png"]
  for path, expected in zip(paths, panel(model).values(), strict=True):
    with Image.open(path) as picture:
      np.testing.assert_array_equal(np.asarray(picture), expected)


def test_one_example_and_more_asked_than_there_are(model, tokenizer):
  one = panels.Panel(data(tokenizer, 1), {"sentence": tokenizer}, num_examples=1, num_samples=1)
  assert one(model)["prior"].shape[0] == HEADER + PICTURE + MARGIN
  more = panels.Panel(data(tokenizer, 1), {"sentence": tokenizer}, num_examples=2, num_samples=1)
  assert more(model)["prior"].shape[0] == HEADER + 2 * (PICTURE + MARGIN)
