"""Whether captions made of a picture say what people say of it: words of attributes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gensim.utils import tokenize

from tf_mmvae.batch import Dataset
from tf_mmvae.metrics import generated
from tf_mmvae.metrics.findings import Findings, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.model import MultimodalVAE

# Colours, sizes and shapes, as people name them of birds; words of one string are one attribute.
WORDS = (
    "black", "white", "grey gray", "brown", "red reddish", "orange", "yellow yellowish",
    "green greenish", "blue bluish", "purple violet", "pink", "tan beige", "rust rusty rufous",
    "iridescent", "small tiny little", "large big", "long", "short", "pointed pointy sharp",
    "curved hooked", "round rounded", "flat", "thin slender", "thick", "fluffy", "spotted speckled",
    "striped stripes", "crest crested crown")


class CaptionWords:
  """Precision of attribute words: their share that a true caption of the same picture holds.

  It needs no labels of attributes, but captions of pictures of which there are several. From one
  sample of the posterior of each other modality and the decoder's mode, over the captions that
  have an attribute word at all. `ceiling` is that of a true caption against the other true ones of
  its picture, one fewer; `chance` that of the generated ones against the captions of another
  picture. The number of words a caption stands beside, since fewer are more easily right.
  """

  title = "Cross generation: words of attributes"

  def __init__(self, sentence: str, tokenizers: Mapping[str, Any], groups: str = "image_index",
               caption_label: str = "caption", words: Sequence[str] = WORDS,
               num_examples: int | None = 1000, batch_size: int = 100, seed: int = 0):
    """Sets what is read.

    Args:
      sentence: the modality in words.
      tokenizers: {modality: object with `decode`}.
      groups: label whose equal values mark the captions of one picture.
      caption_label: label of the captions as people wrote them, strings.
      words: attributes, each a string of one word or several that mean the same.
      num_examples: how many of the data set's examples, evenly spread; None takes all.
      batch_size: captions made at once.
      seed: of the latent samples, and of the other pictures.
    """
    self._sentence, self._tokenizers = sentence, tokenizers
    self._groups, self._caption_label = groups, caption_label
    self._attribute = {word: said.split()[0] for said in words for word in said.split()}
    self._num_examples, self._batch_size, self._seed = num_examples, batch_size, seed

  def check(self, model: MultimodalVAE) -> None:
    """Raises ValueError for a sentence that the model lacks, or that no tokenizer reads."""
    model.check_names([self._sentence, *self._tokenizers], "CaptionWords")
    if self._sentence not in self._tokenizers:
      raise ValueError(f"CaptionWords: '{self._sentence}' has no tokenizer: give one")

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """Shares and numbers of words.

    Returns:
      `Findings` of "SOURCE/precision", "SOURCE/chance/precision" and "SOURCE/words" for each other
      modality, and "true/precision", the ceiling, and "true/words"
    """
    by_group, others = self._said_of_pictures(dataset)
    values = {}
    for group, true, made in self._captions(model, dataset.spread(self._num_examples)):
      rest = by_group[group].copy()
      rest.remove(true)
      self._note(values, "true", true, rest, group)
      for source, caption in made.items():
        self._note(values, source, caption, by_group[group], group)
        if group in others:
          self._note(values, f"{source}/chance", caption, by_group[others[group]], group)
    figures = {}
    for name, of_captions in values.items():
      counts, shares, groups = (np.array(column) for column in zip(*of_captions, strict=True))
      scored = ~np.isnan(shares)
      figures[f"{name}/precision"] = mean_and_error(shares[scored], groups[scored])
      if not name.endswith("/chance"):
        figures[f"{name}/words"] = mean_and_error(counts, groups)
    return Findings(figures, self._tables(figures))

  def attributes(self, caption: str | bytes) -> set[str]:
    """The set of attributes that a caption names; its words are looked up in lower case."""
    return {self._attribute[word] for word in words_of(caption) if word in self._attribute}

  def _said_of_pictures(self, dataset):
    """{group: sets of attributes, one a caption}, and {group: another one} where there is one."""
    by_group = {}
    for batch in dataset.batches(self._batch_size):
      for row in np.flatnonzero(batch.present(self._sentence)):
        by_group.setdefault(batch.y[self._groups].numpy()[row], []).append(
            self.attributes(batch.y[self._caption_label].numpy()[row]))
    order = np.random.default_rng(self._seed).permutation(list(by_group))
    others = dict(zip(order, np.roll(order, 1), strict=True)) if len(order) > 1 else {}
    return by_group, others

  def _captions(self, model, dataset):
    """Yields (group, true attributes, {source: attributes}) for every example with a sentence."""
    x_spec = dataset.batches(1).element_spec.x
    sources = [m.name for m in model.present(x_spec) if m.name != self._sentence]
    pairs = [((source,), self._sentence) for source in sources]
    for batch, made in generated.translated(
        model, dataset, pairs, self._batch_size, self._seed):
      texts = {source: self._tokenizers[self._sentence].decode(
          made[(source,), self._sentence]).numpy() for source in sources}
      has = {source: batch.present(source).numpy() for source in sources}
      for row in np.flatnonzero(batch.present(self._sentence)):
        yield (batch.y[self._groups].numpy()[row],
               self.attributes(batch.y[self._caption_label].numpy()[row]),
               {source: self.attributes(texts[source][row])
                for source in sources if has[source][row]})

  def _note(self, values, name, caption, others, group):
    """Adds (number of attributes, share that some of the others name, group) of a caption."""
    known = set().union(*others)
    share = len(caption & known) / len(caption) if caption and others else np.nan
    values.setdefault(name, []).append((len(caption), share, group))

  def _tables(self, figures):
    sources = [name.removesuffix("/chance/precision") for name in figures
               if name.endswith("/chance/precision")]
    rows = {f"from {source}": [f"{source}/precision", f"{source}/chance/precision",
                               f"{source}/words"] for source in sources}
    if "true/precision" in figures:
      rows["true captions"] = ["true/precision", None, "true/words"]
    return (Table(
        f"Attribute words of '{self._sentence}'", ["precision", "by chance", "words"], rows,
        about="Precision is the share of a caption's words of colours, sizes and shapes that some "
              "true caption of the same picture holds; by chance, a caption of another picture. "
              "Words is how many attributes a caption names. True captions are measured against "
              "the others of their picture.",
        better={"precision": "high"}),)


def words_of(text: str | bytes) -> list[str]:
  """The words of a text, str or bytes, in lower case, without numbers and unknown words."""
  text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
  return list(tokenize(text.replace("<unknown>", " "), lowercase=True))
