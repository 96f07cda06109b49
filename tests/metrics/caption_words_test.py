"""Words of captions that stub models say: those of the picture, always the same, and none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small import Copy
from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics.caption_words import CaptionWords, words_of
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

# Two captions a picture, four pictures; a picture is the number of its first caption.
CAPTIONS = ["a Red bird, small", "a red bird",
            "a blue bird", "a bluish bird with red wings",
            "a bird", "a white bird",
            "a black bird", "a tiny black bird"]
WORDS = ("red", "blue bluish", "white", "black", "small tiny")


class Say(keras.layers.Layer):
  """z [N, 1] -> the number of a caption: z itself, or always the same."""

  def __init__(self, said=None):
    super().__init__()
    self._said = said

  def call(self, z, training=False):
    return z if self._said is None else tf.fill(tf.shape(z), float(self._said))


class Sentences:
  """A stub tokenizer of sentences that are numbers of CAPTIONS."""

  def decode(self, values):
    return tf.gather(CAPTIONS, tf.cast(tf.round(values[:, 0]), tf.int32) % len(CAPTIONS))


def model(said=None, names=("image", "sentence")):
  return MultimodalVAE(
      [Modality(name, (1,), Copy(), Say(said), distributions.normal_likelihood,
                distributions.normal) for name in names], Prior(1))


def examples(num=8, has=None, names=("image", "sentence")):
  pictures = tf.constant([[float(i // 2 * 2)] for i in range(num)])
  captions = tf.constant(CAPTIONS[:num])
  has = {name: tf.constant(np.array(rows, bool)) for name, rows in (has or {}).items()}
  return Examples("captions", num, lambda i: (
      {name: tf.gather(pictures, i) for name in names},
      {"image_index": i // 2, "caption": tf.gather(captions, i)},
      {name: tf.gather(rows, i) for name, rows in has.items()}))


def words(**settings):
  return CaptionWords(**{"sentence": "sentence", "tokenizers": {"sentence": Sentences()},
                         "words": WORDS, **settings})


def test_a_model_that_says_a_true_caption():
  """It says the first caption of the picture; that of the third has no such word."""
  found = words(batch_size=3)(model(), examples()).figures
  assert found["image/precision"] == (1., 0., 6)
  value, error, num = found["image/words"]
  counts = [2, 1, 0, 1]
  np.testing.assert_allclose((value, num), (np.mean(counts), 8))
  np.testing.assert_allclose(error, np.std(counts, ddof=1) / 2)  # over pictures


def test_ceiling_is_a_true_caption_against_the_others():
  """red and small against red; red against both; blue; blue and red against blue; and so on."""
  found = words()(model(), examples()).figures
  shares = [1 / 2, 1, 1, 1 / 2, 0, 1, 1 / 2]  # a bird: nothing; white against nothing; ...
  value, _, num = found["true/precision"]
  np.testing.assert_allclose((value, num), (np.mean(shares), 7))
  np.testing.assert_allclose(found["true/words"][0], np.mean([2, 1, 1, 2, 0, 1, 1, 2]))


def test_a_useless_model_is_as_right_as_by_chance():
  """It always says red and small: in the captions of pictures 1, 2 (red) and 4 (small)."""
  found = words()(model(said=0), examples()).figures
  shares = np.array([1, 1 / 2, 0, 1 / 2])
  value, error, num = found["image/precision"]
  np.testing.assert_allclose((value, num), (shares.mean(), 8))
  np.testing.assert_allclose(error, shares.std(ddof=1) / 2)
  # Every picture is another's one time, so that chance is the same mean.
  np.testing.assert_allclose(found["image/chance/precision"], (value, error, num))


def test_chance_is_never_the_picture_itself():
  found = words(words=("red", "blue bluish"))(model(), examples(4)).figures
  # "red" is said of both pictures, "blue" of one: chance is 1 for the first, 0 for the second.
  np.testing.assert_allclose(found["image/chance/precision"][0], 0.5)
  assert found["image/precision"][0] == 1


def test_a_model_that_names_nothing():
  found = words()(model(said=4), examples()).figures
  assert np.isnan(found["image/precision"][0]) and found["image/precision"][2] == 0
  assert found["image/words"] == (0., 0., 8)


def test_one_example():
  found = words()(model(), examples(1))
  assert found.figures["image/precision"][0] == 1 and np.isnan(found.figures["image/precision"][1])
  assert np.isnan(found.figures["true/precision"][0])
  assert "image/chance/precision" not in found.figures


def test_what_is_absent_is_left_out():
  """The second has no picture, the last two no sentence: nor do they say what is true."""
  has = {"image": [1, 0] + [1] * 6, "sentence": [1] * 6 + [0, 0]}
  found = words()(model(said=7), examples(has=has)).figures  # black and small
  assert found["image/words"][2] == 5 and found["true/words"][2] == 6
  np.testing.assert_allclose(found["image/precision"][0], 0.5 / 5)  # small, of the first alone


def test_some_examples_against_all_captions():
  """Of four examples the second captions still count as true."""
  found = words(num_examples=4)(model(said=7), examples()).figures
  assert found["image/precision"][2] == 4
  np.testing.assert_allclose(found["image/precision"][0], np.mean([1 / 2, 0, 0, 1]))


def test_each_other_modality_is_a_source():
  names = ("image", "sound", "sentence")
  found = words()(model(names=names), examples(names=names))
  assert found.figures["sound/precision"] == found.figures["image/precision"]
  (table,) = found.tables
  assert list(table.rows) == ["from image", "from sound", "true captions"]
  assert {name for row in table.rows.values() for name in row if name} == set(found.figures)
  assert {len(row) for row in table.rows.values()} == {len(table.columns)}


def test_words_of_one_attribute_are_one():
  reader = words()
  assert reader.attributes(b"Blue, bluish and TINY: blue-white.") == {"blue", "small", "white"}
  assert reader.attributes("a reddish bird") == set()
  assert words_of(b"the <unknown> 2 birds \xff") == ["the", "birds"]


def test_misfits_are_refused():
  words().check(model())
  with pytest.raises(ValueError, match="no tokenizer"):
    words(tokenizers={}).check(model())
  with pytest.raises(ValueError, match="modalities are"):
    words(sentence="text").check(model())
