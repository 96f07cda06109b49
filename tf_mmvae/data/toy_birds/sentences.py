"""Captions of toy birds: a small grammar that tells all six TOLD attributes, and its reader."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from tf_mmvae.data.toy_birds import attributes

_ADJECTIVES = {
  "colour": (("red",), ("yellow", "golden"), ("green",), ("blue",), ("white",), ("black",)),
  "size": (("small", "little", "tiny"), ("large", "big")),
  "shape": (("pointed", "sharp"), ("hooked", "curved"), ("flat", "broad")),
  "length": (("short",), ("long",)),
}
_NOUNS = {
  "bird": ("bird",),
  "body": ("body", "plumage"),
  "wings": ("wings",),
  "belly": ("belly", "breast", "underside"),
  "bill": ("bill", "beak"),
}
# What an adjective of a kind says of the thing that a noun names.
_ATTRIBUTE = {
  ("colour", "bird"): "body_colour",
  ("colour", "body"): "body_colour",
  ("colour", "wings"): "wing_colour",
  ("colour", "belly"): "belly_colour",
  ("shape", "bill"): "bill_shape",
  ("length", "bill"): "bill_length",
  ("size", "bird"): "size",
}
_MEANING = {
  word: (kind, value)
  for kind, values in _ADJECTIVES.items()
  for value, words in enumerate(values)
  for word in words
}
_NOUN = {word: noun for noun, words in _NOUNS.items() for word in words}
_COPULAS = {"is", "are"}
# Words that begin something new: adjectives before them do not reach past them.
_BREAKS = {",", ".", "with", "has", "a", "the", "this", "it", "its", "there"}

# {body} {wings} {belly} {size} {shape} {length} stand for adjectives. Openings tell size and body;
# the second of a pair says whether the rest goes on in noun phrases.
_OPENINGS = (
  ("a {size} {body} bird with", True),
  ("a {size} bird with a {body} body,", True),
  ("this is a {size} {body} bird with", True),
  ("this {size} {body} bird has", True),
  ("there is a {size} {body} bird with", True),
  ("this bird is {size} and {body}, with", True),
  ("this bird is {body} and {size}, and it has", True),
  ("the {size} bird is {body} and has", True),
  ("this is a {size} {body} bird.", False),
  ("this bird is {size} and {body},", False),
  ("the {body} bird is {size},", False),
  ("a {size} bird, its {body_noun} is {body},", False),
)
_PHRASES = {
  "wings": ("{wings} wings",),
  "belly": ("a {belly} {belly_noun}",),
  "bill": ("a {length} {shape} {bill_noun}", "a {length} and {shape} {bill_noun}"),
}
_SENTENCES = {
  "wings": ("its wings are {wings}", "it has {wings} wings"),
  "belly": ("its {belly_noun} is {belly}", "the {belly_noun} is {belly}"),
  "bill": (
    "its {bill_noun} is {length} and {shape}",
    "the {bill_noun} is {shape} and {length}",
    "it has a {length} {shape} {bill_noun}",
  ),
}


def write_caption(bird: Mapping[str, int], rng: np.random.Generator) -> str:
  """One caption of a bird in words chosen by lot, lower case, at most 28 words and marks.

  Args:
    bird: {attribute: int} with every name in TOLD.
    rng: a np.random.Generator.

  Returns:
    A string such as "a small red bird with blue wings, a white belly and a short hooked bill."
  """

  def choose(options):
    return options[int(rng.integers(len(options)))]

  opening, in_phrases = choose(_OPENINGS)
  forms = _PHRASES if in_phrases else _SENTENCES
  first, second, third = (
    choose(forms[part]) for part in rng.permutation(["wings", "belly", "bill"])
  )
  form = f"{opening} {first}, {second} and {third}."
  return form.format(
    body=choose(_ADJECTIVES["colour"][bird["body_colour"]]),
    wings=choose(_ADJECTIVES["colour"][bird["wing_colour"]]),
    belly=choose(_ADJECTIVES["colour"][bird["belly_colour"]]),
    shape=choose(_ADJECTIVES["shape"][bird["bill_shape"]]),
    length=choose(_ADJECTIVES["length"][bird["bill_length"]]),
    size=choose(_ADJECTIVES["size"][bird["size"]]),
    body_noun=choose(_NOUNS["body"]),
    belly_noun=choose(_NOUNS["belly"]),
    bill_noun=choose(_NOUNS["bill"]),
  )


def write_captions(bird: Mapping[str, int], count: int, rng: np.random.Generator) -> list[str]:
  """`count` captions of a bird, no two alike."""
  captions = []
  while len(captions) < count:
    caption = write_caption(bird, rng)
    if caption not in captions:
      captions.append(caption)
  return captions


def read_caption(text: str) -> dict[str, int]:
  """What a caption tells, whoever wrote it and however well.

  An adjective belongs to the next noun, or after "is" and "are" to the noun before.

  Args:
    text: any string.

  Returns:
    {attribute: int} for every name in TOLD; -1 where the text tells nothing or contradicts itself.
  """
  told = {name: set() for name in attributes.TOLD}
  last_noun, subject, waiting = None, None, []
  for word in re.findall(r"[^\W_]+|[.,]", text.lower()):
    if word in _BREAKS:
      subject, waiting = None, []
    elif word in _COPULAS:
      subject = last_noun
    elif word in _NOUN:
      last_noun, subject = _NOUN[word], None
      for kind, value in waiting:
        if (kind, last_noun) in _ATTRIBUTE:
          told[_ATTRIBUTE[kind, last_noun]].add(value)
      waiting = []
    elif word in _MEANING:
      kind, value = _MEANING[word]
      if (kind, subject) in _ATTRIBUTE:
        told[_ATTRIBUTE[kind, subject]].add(value)
      else:
        waiting.append((kind, value))
  return {name: values.pop() if len(values) == 1 else -1 for name, values in told.items()}


def read_captions(texts: Sequence[str | bytes]) -> dict[str, np.ndarray]:
  """`read_caption` of many: strings or UTF-8 bytes [N] -> {attribute: int [N]}."""
  read = [read_caption(t.decode("utf-8", "replace") if isinstance(t, bytes) else t) for t in texts]
  return {name: np.array([told[name] for told in read]) for name in attributes.TOLD}
