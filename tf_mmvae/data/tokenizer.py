"""Sentences to rows of word ids and back, in TensorFlow ops: one code for data and export."""

import collections
import os
import uuid
from collections.abc import Callable, Sequence

import numpy.typing as npt
import tensorflow as tf

PAD, END, UNKNOWN = 0, 1, 2
SPECIALS = ("<pad>", "<end>", "<unknown>")

# A word keeps the hyphens and apostrophes inside it; any other visible character is a word.
# "<unknown>" is one word, so that a decoded sentence can be encoded again.
_WORD = r"<unknown>|[\pL\pM\pN]+(?:['’-][\pL\pM\pN]+)*|\S"
# White space, control characters, and the mark that a broken transcoding leaves behind.
_BLANK = r"[\s\pZ\pC\x{FFFD}]+"


class Tokenizer:
  """Sentences <-> rows of L word ids: the words, then END, then PAD.

  Args:
    words: the vocabulary without the specials; word `i` gets the id `3 + i`.
    length: L, at least 2; a sentence keeps its first L - 1 words.

  Raises:
    ValueError: `words` is empty, repeats a word or names a special, or `length` is below 2.
  """

  def __init__(self, words: Sequence[str], length: int = 32):
    if length < 2:
      raise ValueError(f"the length of a sentence must be at least 2, got {length}")
    _check_words(words, "the vocabulary")
    self.length = length
    self.words = (*SPECIALS, *words)
    ids = tf.range(self.vocabulary_size, dtype=tf.int64)
    self._id_of_word = _table(tf.constant(self.words), ids, UNKNOWN)
    self._word_of_id = _table(ids, tf.constant(self.words), SPECIALS[UNKNOWN])

  @property
  def vocabulary_size(self) -> int:
    """The number of words, the specials among them."""
    return len(self.words)

  @property
  def tables(self) -> list[tf.lookup.StaticHashTable]:
    """The lookup tables, for a SavedModel to track."""
    return [self._id_of_word, self._word_of_id]

  def split(self, sentence: str | bytes) -> list[str]:
    """The words of one sentence, a list of strings: all of them, known or not."""
    return [word.decode() for word in _split(tf.constant([sentence])).values.numpy().tolist()]

  def encode(self, sentences: npt.ArrayLike) -> tf.Tensor:
    """Strings [...] -> word ids, int32 [..., L]."""
    sentences = tf.convert_to_tensor(sentences, tf.string)
    words = _split(tf.reshape(sentences, [-1]))  # [N, ragged]
    ids = words.with_values(tf.cast(self._id_of_word.lookup(words.values), tf.int32))
    ids = ids[:, : self.length - 1]
    end = tf.fill([ids.nrows(), 1], END)
    ids = tf.concat([ids, end], axis=1).to_tensor(PAD, shape=[None, self.length])  # [N, L]
    return tf.reshape(ids, tf.concat([tf.shape(sentences), [self.length]], axis=0))

  def decode(self, ids: npt.ArrayLike) -> tf.Tensor:
    """Word ids, int [..., L] -> strings [...]: the words before the first END, spaced as prose."""
    ids = tf.cast(ids, tf.int64)
    is_end = tf.cast(tf.equal(ids, END), tf.int32)
    shown = tf.equal(tf.cumsum(is_end, axis=-1), 0) & tf.not_equal(ids, PAD)
    words = tf.where(shown, self._word_of_id.lookup(ids) + " ", "")
    sentences = tf.strings.strip(tf.strings.reduce_join(words, axis=-1))
    sentences = tf.strings.regex_replace(sentences, r" ([,.;:!?%)])", r"\1")
    return tf.strings.regex_replace(sentences, r"\( ", "(")


def split_all(sentences: Sequence[str | bytes]) -> list[list[str]]:
  """The words of N strings, as `Tokenizer.split` finds them: N lists of strings."""
  words = _split(tf.constant(sentences, tf.string, shape=[len(sentences)]))
  of_all = [word.decode() for word in words.values.numpy().tolist()]
  ends = words.row_splits.numpy().tolist()
  return [of_all[i:j] for i, j in zip(ends[:-1], ends[1:], strict=True)]


def count_words(captions: Sequence[str | bytes], min_count: int) -> list[str]:
  """Words that occur more than `min_count` times, the most frequent first, then by alphabet."""
  counts = collections.Counter(word for words in split_all(captions) for word in words)
  kept = [word for word, count in counts.items() if count > min_count and word not in SPECIALS]
  return sorted(kept, key=lambda word: (-counts[word], word))


def run_tokenizer(captions: Callable[[], Sequence[str]], run_dir: str | os.PathLike | None = None,
                  min_count: int = 3, length: int = 32) -> Tokenizer:
  """The tokenizer of a run: its vocabulary is counted once and then read from the run's folder.

  Args:
    captions: a function () -> list of strings, called only where `run_dir` holds no
      `vocabulary.txt`.
    run_dir: the folder of `vocabulary.txt`, one word a line without the specials; with None no
      file is read or written.
    min_count: words that occur more often than this are kept.
    length: L, words a sentence and the END.

  Raises:
    ValueError: the saved vocabulary is empty or repeats a word, or no word of the captions is kept.
  """
  path = None if run_dir is None else os.path.join(run_dir, "vocabulary.txt")
  if path is not None and tf.io.gfile.exists(path):
    words = _read_words(path)
    _check_words(words, path, ": put back the file that the run wrote, or give another run_dir")
    return Tokenizer(words, length)
  sentences = captions()
  words = count_words(sentences, min_count)
  if not words:
    raise ValueError(
      f"no word occurs more than {min_count} times in the {len(sentences)} captions: look at the "
      "captions, or lower min_count"
    )
  made = Tokenizer(words, length)
  if path is not None:
    _write_words(path, words)
  return made


def vocabulary_size(tokenizer: Tokenizer) -> int:
  """The number of words of `tokenizer`, the specials among them."""
  return tokenizer.vocabulary_size


def _split(sentences):
  """Strings [N] of any bytes -> words in lower case, [N, ragged]."""
  sentences = tf.strings.unicode_transcode(sentences, "UTF-8", "UTF-8", errors="replace")
  sentences = tf.strings.regex_replace(sentences, _BLANK, " ")
  sentences = tf.strings.lower(sentences, encoding="utf-8")  # after, as it stops at a zero byte
  return tf.strings.split(tf.strings.regex_replace(sentences, _WORD, r"\0 "))


def _table(keys, values, default):
  return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)


def _check_words(words, source, remedy=""):
  if not words:
    raise ValueError(f"{source} holds no words{remedy}")
  if "" in words:
    raise ValueError(f"{source} holds an empty word{remedy}")
  counts = collections.Counter([*SPECIALS, *words])
  repeated = [word for word, count in counts.items() if count > 1]
  if repeated:
    raise ValueError(f"{source} repeats the word '{repeated[0]}'{remedy}")


def _read_words(path):
  with tf.io.gfile.GFile(path) as file:
    return file.read().splitlines()


def _write_words(path, words):
  tf.io.gfile.makedirs(os.path.dirname(path))
  unfinished = f"{path}.{uuid.uuid4().hex}"
  with tf.io.gfile.GFile(unfinished, "w") as file:
    file.write("".join(f"{word}\n" for word in words))
  tf.io.gfile.rename(unfinished, path, overwrite=True)
