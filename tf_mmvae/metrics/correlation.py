"""Canonical correlation between pictures and sentences, true and made, as Shi et al. (2019) do."""

import collections
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from gensim.models import FastText

from tf_mmvae.batch import Dataset
from tf_mmvae.metrics import generated
from tf_mmvae.metrics.caption_words import words_of
from tf_mmvae.metrics.densities import Source
from tf_mmvae.metrics.findings import Findings, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.metrics.progress import progress
from tf_mmvae.model import MultimodalVAE

SMOOTHING = 0.001  # a of a / (a + p(word))
RIDGE = 0.001  # of the mean variance
_CLEAR = 4  # standard errors


class Correlation:
  """How much a picture and a sentence have to do with one another, as true pairs tell it.

  Sentences become vectors: FastText's of their words, learnt from the training captions, averaged
  with the weights a / (a + p(word)), less their first principal component (Arora et al. 2017).
  Canonical correlation analysis finds the directions of picture features and of these vectors
  that go together in true training pairs; the score of a pair is the cosine of its two
  projections, centred by the means of the training pairs. Everything is learnt from training data.

  Scored are true test pairs; translations in both directions, beside the true source; pictures
  and sentences that are both decoded from one sample of each source of z; and, for `chance`, true
  pictures with the captions of other ones. Translations are from one sample of the posterior, in
  the decoder's mode.

  Embeddings differ by seed, and the score with them: it is a mean over seeds. Its standard error
  holds both that over examples and that over seeds, as if these were independent; with one seed
  the former alone. The ratio to the score of true pairs compares better than the score itself.
  """

  title = "Cross and joint generation: correlation of pictures and sentences"

  def __init__(self, picture: str, sentence: str, train_data: Dataset,
               features: Callable[[np.ndarray], np.ndarray] | None, tokenizers: Mapping[str, Any],
               sources: Mapping[str, Source], num_pairs: int = 10000,
               num_examples: int | None = 1000, num_samples: int = 1000, num_components: int = 40,
               num_seeds: int = 5, embedding_dim: int = 300, window: int = 3, min_count: int = 3,
               num_epochs: int = 10, batch_size: int = 100, seed: int = 0,
               groups: str | None = None):
    """Sets what is learnt and scored.

    Args:
      picture, sentence: names of the modalities.
      train_data: examples that word vectors and directions are learnt from.
      features: function (pictures [N, ...]) -> float [N, F]; None for features as they are.
      tokenizers: {modality: object with `decode`}.
      sources: {name: object with `sample(model, num, seed)`} of samples of z; see `densities`.
      num_pairs: training pairs, evenly spread, for the directions; words are of all captions.
      num_examples: how many of the data set's examples, drawn at random; None takes all.
      num_samples: of each source of z.
      num_components: k, directions; fewer where there are fewer.
      num_seeds: of word vectors.
      embedding_dim, window, min_count, num_epochs: of FastText.
      batch_size: examples at once.
      seed: of the latent samples, and the first of the word vectors.
      groups: label whose equal values mark examples that are not independent, for the errors.
    """
    self._picture, self._sentence, self._train_data = picture, sentence, train_data
    self._features = features or (lambda observations: observations)
    self._tokenizers, self._sources = tokenizers, sources
    self._num_pairs, self._num_examples, self._num_samples = num_pairs, num_examples, num_samples
    self._num_components, self._seeds = num_components, range(seed, seed + num_seeds)
    self._settings = {"vector_size": embedding_dim, "window": window, "min_count": min_count,
                      "epochs": num_epochs}
    self._batch_size, self._seed, self._groups = batch_size, seed, groups

  def check(self, model: MultimodalVAE) -> None:
    """Raises ValueError for modalities that the model lacks, or a sentence without tokenizer."""
    model.check_names([self._picture, self._sentence, *self._tokenizers], "Correlation")
    if self._sentence not in self._tokenizers:
      raise ValueError(f"Correlation: '{self._sentence}' has no tokenizer: give one")

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """Scores and their ratios to that of true pairs.

    Returns:
      `Findings` of "PAIR/correlation", "PAIR/ratio" and "PAIR/std_over_seeds", with PAIR "true",
      "PICTURE_to_SENTENCE", "SENTENCE_to_PICTURE", the name of a source, or "chance"
    """
    corpus, train_features, train_captions = self._learnt_from()
    pairs, groups = self._pairs(model, dataset)
    if len(train_features) < 2 or not len(pairs["true"][1]):
      return Findings({}, remarks=("Too few examples have both picture and sentence.",))
    words = sorted({word for _, texts in [(None, train_captions), *pairs.values()]
                    for text in texts for word in words_of(text)})
    weights = word_weights(corpus, words)
    bags = {name: bags_of_words(texts, words, weights) for name, (_, texts) in pairs.items()}
    train_bags, train_features = bags_of_words(train_captions, words, weights), Whitened(
        train_features)
    scores = {name: [] for name in pairs}
    for seed in progress(self._seeds, "word vectors"):
      vectors = without_component(
          word_vectors(corpus, words, seed, **self._settings), train_bags)
      directions = Directions(train_features, Whitened(train_bags @ vectors), self._num_components)
      for name, (features, _) in pairs.items():
        scores[name].append(directions.cosines(features, bags[name] @ vectors))
    scores = {name: np.array(cosines) for name, cosines in scores.items()}
    with np.errstate(divide="ignore", invalid="ignore"):  # features may tell nothing at all
      return self._findings(scores, groups, directions.num)

  def _learnt_from(self):
    """The words of all training captions, and features [N, F] and captions of some pairs."""
    def captions(batch):
      return self._texts(batch.x[self._sentence])[self._both(batch)]

    corpus = [words_of(text) for batch in progress(
        self._train_data.batches(500), "captions") for text in captions(batch)]
    features, texts = [], []
    some = self._train_data.spread(self._num_pairs)
    for batch in progress(some.batches(self._batch_size), "features"):
      features.append(self._features(batch.x[self._picture].numpy())[self._both(batch)])
      texts += list(captions(batch))
    return corpus, np.concatenate(features), texts

  def _pairs(self, model, dataset):
    """{pair: (features [N, F], N texts)}, and groups of the pairs of examples [N]."""
    # In random order, so that a neighbour is another example.
    order = np.random.default_rng(self._seed).permutation(dataset.num_examples)
    to_sentence = (self._picture,), self._sentence
    to_picture = (self._sentence,), self._picture
    columns = [[], [], [], [], []]
    for batch, made in generated.translated(
        model, dataset.subset(order[:self._num_examples]), [to_sentence, to_picture],
        self._batch_size, self._seed):
      x, rows = batch.x, self._both(batch)
      groups = batch.y[self._groups].numpy() if self._groups else (
          sum(map(len, columns[-1])) + np.arange(len(rows)))
      for column, values in zip(columns, (
          self._features(x[self._picture].numpy()), self._texts(x[self._sentence]),
          self._features(made[to_picture].numpy()), self._texts(made[to_sentence]), groups),
                                strict=True):
        column.append(values[rows])
    features, texts, made_features, made_texts, groups = map(np.concatenate, columns)
    apart = groups != np.roll(groups, 1)
    pairs = {"true": (features, texts), f"{self._picture}_to_{self._sentence}":
             (features, made_texts), f"{self._sentence}_to_{self._picture}":
             (made_features, texts), **self._samples(model)}
    if np.any(apart):
      pairs["chance"] = features[apart], np.roll(texts, 1)[apart]
    return pairs, groups

  def _samples(self, model):
    """{source: (features [N, F], N texts)} of what is decoded from its samples."""
    pairs = {}
    for name, source in self._sources.items():
      batches = [(self._features(batch[self._picture].numpy()), self._texts(batch[self._sentence]))
                 for batch in generated.decoded(
                     model, source, self._num_samples, [self._picture, self._sentence],
                     self._batch_size, self._seed)]
      pairs[name] = tuple(map(np.concatenate, zip(*batches, strict=True)))
    return pairs

  def _texts(self, rows):
    return self._tokenizers[self._sentence].decode(rows).numpy()

  def _both(self, batch):
    """Which examples have picture and sentence: bool [B]."""
    return (batch.present(self._picture) & batch.present(self._sentence)).numpy()

  def _findings(self, scores, groups, num_components):
    """scores: {pair: cosines [seeds, N]}."""
    figures, translations = {}, [name for name in scores if "_to_" in name]
    true = scores["true"]
    for name, cosines in scores.items():
      of_groups = groups if name in ("true", *translations) else None
      value, error, num = _mean(cosines, of_groups)
      figures[f"{name}/correlation"] = value, error, num
      over_seeds = np.std(cosines.mean(1), ddof=1) if len(cosines) > 1 else float("nan")
      figures[f"{name}/std_over_seeds"] = over_seeds, float("nan"), len(cosines)
      ratio = value / true.mean()
      if name in translations:  # of the same examples, whose errors go together
        _, error, _ = _mean((cosines - ratio * true) / true.mean(), groups)
      else:
        error = np.hypot(error, ratio * _mean(true, groups)[1]) / abs(true.mean())
      figures[f"{name}/ratio"] = (1., 0., num) if name == "true" else (ratio, error, num)
    rows = {name.replace("_", " "): [f"{name}/{of}" for of in (
        "correlation", "ratio", "std_over_seeds")] for name in scores}
    table = Table(
        f"Correlation of '{self._picture}' and '{self._sentence}'",
        ["correlation", "of that of true pairs", "spread over seeds"], rows,
        about=f"Mean cosine of canonical projections ({num_components} directions) of picture "
              f"features and sentence vectors, over {len(self._seeds)} seeds of word vectors; "
              "errors hold examples and seeds. Chance is true pictures with captions of others.",
        better={"of that of true pairs": "high"})
    return Findings(figures, (table,), remarks=self._remarks(figures, num_components))

  def _remarks(self, figures, num_components):
    """What to know before the figures are believed, sentences."""
    remarks = []
    if num_components < self._num_components:
      remarks.append(f"There are {num_components} canonical directions, not "
                     f"{self._num_components}: features, word vectors or training pairs have no "
                     "more.")
    value, error, _ = figures["true/correlation"]
    by_chance, error_of_chance, _ = figures.get("chance/correlation", (0., 0., 0))
    if value - by_chance <= _CLEAR * np.hypot(error, error_of_chance):
      remarks.append("True pairs score hardly more than chance: these features do not tell them "
                     "from others, and ratios to their score say little.")
    return tuple(remarks)


def _mean(cosines, groups):
  """(mean, standard error over examples and seeds, number of examples) of [seeds, N]."""
  value, error, num = mean_and_error(cosines.mean(0), groups)
  of_seeds = cosines.mean(1)
  if len(of_seeds) > 1:
    error = np.hypot(error, np.std(of_seeds, ddof=1) / np.sqrt(len(of_seeds)))
  return value, float(error), num


def word_weights(corpus: Sequence[Sequence[str]], words: Sequence[str]) -> np.ndarray:
  """a / (a + p(word)) of words by their frequency in a corpus, lists of words: float [V]."""
  counts = collections.Counter(word for of_text in corpus for word in of_text)
  frequency = np.array([counts[word] for word in words]) / max(counts.total(), 1)
  return SMOOTHING / (SMOOTHING + frequency)


def bags_of_words(texts: Sequence[str | bytes], words: Sequence[str],
                  weights: np.ndarray) -> scipy.sparse.csr_array:
  """The weight of each word over the number of words of its text: sparse [N, V].

  Args:
    texts: N strings, of no other words than `words`.
    words: V of them.
    weights: float [V].
  """
  index = {word: i for i, word in enumerate(words)}
  said = [[index[word] for word in words_of(text)] for text in texts]
  values = [weights[i] / len(of_text) for of_text in said for i in of_text]
  ends = np.cumsum([0, *map(len, said)])
  columns = [i for of_text in said for i in of_text]
  return scipy.sparse.csr_array((values, columns, ends), shape=(len(texts), len(words)))


def word_vectors(corpus: Sequence[Sequence[str]], words: Sequence[str], seed: int,
                 min_count: int = 3, **settings) -> np.ndarray:
  """FastText's vectors [V, vector_size] of words, the same for the same seed and corpus.

  Words that were not learnt have the vectors of their parts. Where no word of the corpus is as
  frequent as `min_count`, the most frequent are learnt from.
  """
  most = max(collections.Counter(word for of_text in corpus for word in of_text).values())
  # Buckets are for the parts of words: the library's two million would take 2.4 GB.
  vectors = FastText(corpus, min_count=min(min_count, most), workers=1, seed=seed, bucket=50000,
                     hashfxn=lambda word: zlib.crc32(word.encode()), **settings).wv
  return np.stack([vectors[word] for word in words])


def first_component(vectors: np.ndarray) -> np.ndarray:
  """The direction [F] of the largest second moment of vectors [N, F], of length 1."""
  return scipy.linalg.eigh(vectors.T @ vectors, subset_by_index=[vectors.shape[1] - 1] * 2)[1][:, 0]


def without_component(vectors: np.ndarray, bags: scipy.sparse.csr_array) -> np.ndarray:
  """Vectors of words [V, F] less the first component of the sentences that they make.

  Sentences are sums of words, so theirs is gone as well. `bags`: [N, V] of the sentences.
  """
  component = first_component(bags @ vectors)
  return vectors - np.outer(vectors @ component, component)


class Whitened:
  """Observations [N, F] and what makes them uncorrelated, of almost unit variance."""

  def __init__(self, values: np.ndarray, ridge: float = RIDGE):
    """`ridge`: added to the variances, in their mean; directions without variance are left out."""
    self.mean = values.mean(0)
    centred = values - self.mean
    variances, directions = scipy.linalg.eigh(centred.T @ centred / len(values))
    seen = variances > 1e-9 * max(variances[-1], 1e-30)
    scales = np.sqrt(variances[seen] + ridge * variances.mean())
    self.projection = directions[:, seen] / scales  # [F, rank]
    self.values = centred @ self.projection  # [N, rank]


class Directions:
  """Canonical directions of two sets of observations, from the most correlated on.

  The singular vectors of the covariance of both whitened (Hotelling 1936; with a ridge).
  """

  def __init__(self, a: Whitened, b: Whitened, num: int):
    """`a`, `b`: `Whitened` of the same examples; there are at most `num` directions."""
    self._means = a.mean, b.mean
    left, self.correlations, right = np.linalg.svd(
        a.values.T @ b.values / len(a.values), full_matrices=False)
    self.num = min(num, len(self.correlations))
    self._projections = a.projection @ left[:, :self.num], b.projection @ right[:self.num].T

  def project(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projections [N, num] of a [N, F] and of b [N, F'], less those of the means."""
    return tuple((values - mean) @ projection for values, mean, projection in zip(
        (a, b), self._means, self._projections, strict=True))

  def cosines(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the projections of a [N, F] and b [N, F'], row by row: [N]."""
    a, b = self.project(a, b)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.maximum(lengths, 1e-30)
