import numpy as np
import pytest

from tests.data.cub.dataset_test import COLOURS, write_source
from tf_mmvae.data.cub import dataset as cub
from tf_mmvae.data.cub import readers


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp("readers")
  write_source(folder / "manual")
  return cub.Source(folder / "manual", folder / "data")


def test_true_photos_and_captions_are_read(source):
  test = cub.photos(source, "test")
  by_colour = readers.ClassByColour(source)(test["image"] / 255)
  np.testing.assert_array_equal(by_colour["class"], test["class"])
  by_words = readers.ClassByWords(source)(test["captions"].reshape([-1]))
  np.testing.assert_array_equal(by_words["class"], np.repeat(test["class"], 10))


def test_the_colour_is_that_of_the_middle(source):
  """A frame of the other class's colour does not count."""
  red, blue = (np.array(colour) / 255 for colour in COLOURS)
  pictures = np.stack([np.tile(blue, (64, 64, 1)), np.tile(red, (64, 64, 1))])
  pictures[:, 16:48, 16:48] = [[[red]], [[blue]]]
  reader = readers.ClassByColour(source)
  assert reader(pictures)["class"].tolist() == [0, 1]
  assert reader(0.6 * pictures + 0.4)["class"].tolist() == [0, 1]  # the nearest, not the same


def test_telling_words_decide_and_common_or_unknown_ones_do_not(source):
  reader = readers.ClassByWords(source)
  said = [b"BIRD, train albatross 1 2!", b"auk bird bird bird", b"albatross albatross; crested",
          "auk \N{BIRD}".encode()]
  assert reader(said)["class"].tolist() == [0, 1, 0, 1]
  assert reader([b""])["class"].shape == (1,)


def test_naive_bayes_equals_counting(monkeypatch):
  """Against the formula word by word, with classes of unequal size and numbers of their own."""
  captions = np.array([[b"a red bird", b"red wings"], [b"a blue bird", b"the red bird"],
                       [b"a blue wing", b"blue"]])
  labels = np.array([4, 7, 7])
  monkeypatch.setattr(cub, "photos", lambda *_: {"captions": captions, "class": labels})
  reader = readers.ClassByWords(None, min_count=1, prior_count=2.0)
  of_class = {4: ["a red bird", "red wings"],
              7: ["a blue bird", "the red bird", "a blue wing", "blue"]}
  known = ["a", "red", "bird", "blue"]  # in two captions or more
  everything = sum(of_class.values(), [])
  for sentence in ["red", "a bird", "blue bird", "wings", "", "a red blue bird"]:
    scores = {}
    for label, said in of_class.items():
      scores[label] = np.log(len(said) / 6)
      for word in known:
        overall = (sum(word in caption.split() for caption in everything) + 1) / 8
        count = sum(word in caption.split() for caption in said)
        share = (count + 2 * overall) / (len(said) + 2)
        scores[label] += np.log(share if word in sentence.split() else 1 - share)
    assert reader([sentence.encode()])["class"].tolist() == [max(scores, key=scores.get)]
