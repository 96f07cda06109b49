import re

import numpy as np
import pytest

from tf_mmvae.data.toy_birds import attributes
from tf_mmvae.data.toy_birds import sentences as grammar


def _words(text):
  return re.findall(r"\w+|[^\w\s]", text)


@pytest.fixture(scope="module")
def written():
  """Pairs of a bird and its five captions."""
  rng = np.random.default_rng(20240)
  birds = [attributes.draw_by_lot(rng) for _ in range(1500)]
  return [(bird, grammar.write_captions(bird, 5, rng)) for bird in birds]


def test_every_caption_is_read_back_exactly(written):
  for bird, captions in written:
    for caption in captions:
      assert grammar.read_caption(caption) == {name: bird[name] for name in attributes.TOLD}, (
        caption
      )


def test_captions_of_other_birds_are_read_by_chance(written):
  read = [grammar.read_caption(captions[0]) for _, captions in written]
  for name, values in attributes.TOLD.items():
    others = [bird[name] == told[name] for (bird, _), told in zip(written[1:], read, strict=False)]
    assert abs(np.mean(others) - 1 / len(values)) < 0.06, name


def test_captions_are_plain_short_and_different(written):
  for _, captions in written:
    assert len(set(captions)) == 5
    for caption in captions:
      assert re.fullmatch(r"[a-z ,.]+\.", caption)
      assert "  " not in caption
      assert len(_words(caption)) <= 28


def test_the_vocabulary_is_small_and_every_order_of_the_parts_occurs(written):
  captions = [caption for _, captions in written for caption in captions]
  assert len({word for caption in captions for word in _words(caption)}) < 120
  orders = {
    tuple(re.findall(r"wings|bill|belly", re.sub("beak", "bill", caption))) for caption in captions
  }
  assert len({order for order in orders if len(order) == 3}) == 6


@pytest.mark.parametrize(
  "text, told",
  [
    ("a small red bird", {"size": "small", "body_colour": "red"}),
    ("this bird is large and yellow", {"size": "large", "body_colour": "yellow"}),
    ("A Golden Bird!", {"body_colour": "yellow"}),
    ("the wings are blue the belly is white", {"wing_colour": "blue", "belly_colour": "white"}),
    ("its bill is long and blue wings", {"bill_length": "long", "wing_colour": "blue"}),
    ("blue blue wings wings and and beak", {"wing_colour": "blue"}),
    ("it has red wings and its wings are blue", {}),
    ("wings red .", {}),
    ("long wings and a red bill", {}),
    ("red", {}),
    ("is are is", {}),
    ("", {}),
    ("<unknown> red <unknown> bird\n\x00 ñ", {"body_colour": "red"}),
  ],
)
def test_any_text_is_read_for_what_it_tells(text, told):
  expected = {
    name: values.index(told[name]) if name in told else -1
    for name, values in attributes.TOLD.items()
  }
  assert grammar.read_caption(text) == expected


def test_shuffled_words_never_fail_and_tell_less(written):
  rng = np.random.default_rng(3)
  right = []
  for bird, captions in written[:300]:
    told = grammar.read_caption(" ".join(rng.permutation(_words(captions[0]))))
    right.append([told[name] == bird[name] for name in ("body_colour", "wing_colour")])
  assert np.mean(right) < 0.5
