import numpy as np
import pytest
import tensorflow as tf

from tf_mmvae.data import tokenizer
from tf_mmvae.data.tokenizer import END, PAD, UNKNOWN

WORDS = ["a", "bird", ",", "with", "wings", ".", "blue-green", "it's", "(", ")", "!", "small"]


def ids_of(*words, length=8):
  ids = [3 + WORDS.index(word) for word in words] + [END]
  return ids + [PAD] * (length - len(ids))


def decoded(words, ids):
  return words.decode(ids).numpy().decode()


def test_encode():
  words = tokenizer.Tokenizer(WORDS, length=8)
  ids = words.encode(["A bird, with wings.", "small blue-green bird!", ""])
  assert ids.dtype == tf.int32
  np.testing.assert_array_equal(
    ids,
    [
      ids_of("a", "bird", ",", "with", "wings", "."),
      ids_of("small", "blue-green", "bird", "!"),
      ids_of(),
    ],
  )


def test_specials_come_first():
  words = tokenizer.Tokenizer(WORDS)
  assert words.words[:3] == ("<pad>", "<end>", "<unknown>")
  assert (PAD, END, UNKNOWN) == (0, 1, 2)
  assert words.words[3:] == tuple(WORDS)
  assert words.vocabulary_size == tokenizer.vocabulary_size(words) == len(WORDS) + 3
  assert words.length == 32


@pytest.mark.parametrize("num_words, kept", [(0, 0), (6, 6), (7, 7), (8, 7), (50, 7)])
def test_long_sentences_keep_their_first_words_and_end(num_words, kept):
  ids = tokenizer.Tokenizer(WORDS, length=8).encode(" ".join(["bird"] * num_words)).numpy()
  assert ids.tolist() == ids_of(*["bird"] * kept)


@pytest.mark.parametrize(
  "sentence, expected",
  [
    ("A Bird , with wings .", "a bird, with wings."),
    ("a bird,with(small)wings!", "a bird, with (small) wings!"),
    ("it's  a\tblue-green\nbird", "it's a blue-green bird"),
    ("-a- 'bird'", "<unknown> a <unknown> <unknown> bird <unknown>"),
    ("a pelican.", "a <unknown>."),
    ("a <unknown>.", "a <unknown>."),
    ("<pad> a <end> bird", "<unknown> <unknown> <unknown> a <unknown> <unknown> <unknown> bird"),
    ("...", "..."),
    ("", ""),
    (" \n ", ""),
    ("a\u00a0bird\ufffd\ufffdwith\u200bwings", "a bird with wings"),
    (b"a\xff\xfebird \xf0\x9f", "a bird"),
    ("A BIRD \U0001f426 \u00c9", "a bird <unknown> <unknown>"),
    (b"a\x00bird", "a bird"),
  ],
)
def test_round_trip(sentence, expected):
  words = tokenizer.Tokenizer(WORDS)
  ids = words.encode(sentence)
  assert decoded(words, ids) == expected
  np.testing.assert_array_equal(words.encode(expected), ids)


def test_split_gives_every_word_known_or_not():
  words = tokenizer.Tokenizer(WORDS, length=3)
  assert words.split("A pelican, with <unknown> Wings.") == [
    "a", "pelican", ",", "with", "<unknown>", "wings", "."
  ]
  assert words.split(" \u200b\n") == []


def test_decode_stops_at_end_and_drops_specials():
  words = tokenizer.Tokenizer(WORDS, length=8)
  a, bird = 3, 4
  assert decoded(words, [a, bird, END, a, END]) == "a bird"
  assert decoded(words, [a, PAD, bird, UNKNOWN]) == "a bird <unknown>"
  assert decoded(words, [END, a]) == ""
  assert decoded(words, [a, 999, -1]) == "a <unknown> <unknown>"


def test_shapes():
  words = tokenizer.Tokenizer(WORDS, length=8)
  assert words.encode("a bird").shape == [8]
  assert words.encode([["a", "bird"], ["a", "."], ["", "."]]).shape == [3, 2, 8]
  assert words.encode(tf.zeros([0], tf.string)).shape == [0, 8]
  assert words.decode(tf.zeros([4, 5, 8], tf.int32)).shape == [4, 5]
  assert words.decode(tf.zeros([0, 8], tf.int64)).shape == [0]
  nested = words.encode([["a"], ["bird"]])
  np.testing.assert_array_equal(nested[1, 0], words.encode("bird"))


def test_static_shape_in_a_function():
  words = tokenizer.Tokenizer(WORDS, length=8)
  for shape in ([], [None], [5], [None, 2], [None, None]):
    encode = tf.function(words.encode, input_signature=[tf.TensorSpec(shape, tf.string)])
    assert encode.get_concrete_function().structured_outputs.shape.as_list() == [*shape, 8]
    given = tf.fill([5, 2][: len(shape)], "a bird.")
    np.testing.assert_array_equal(encode(given), words.encode(given))
  dataset = tf.data.Dataset.from_tensors("a bird").map(words.encode)
  assert dataset.element_spec.shape == [8]


def test_survives_a_saved_model(tmp_path):
  words = tokenizer.Tokenizer(WORDS, length=8)
  root = tf.Module()
  root.tables = words.tables
  root.encode = tf.function(words.encode, input_signature=[tf.TensorSpec([None], tf.string)])
  root.decode = tf.function(words.decode, input_signature=[tf.TensorSpec([None, 8], tf.int32)])
  tf.saved_model.save(
    root,
    str(tmp_path),
    signatures={"encode": root.encode.get_concrete_function(), "decode": root.decode},
  )
  sentences = ["A bird, with wings.", "", "a pelican"]
  ids = words.encode(sentences)
  decoded = words.decode(ids)
  del words, root
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    # A graph without eager state: what a server does.
    model = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
    for name, given, expected in [("encode", sentences, ids), ("decode", ids.numpy(), decoded)]:
      signature = model.signature_def[name]
      (source,), (target,) = signature.inputs.values(), signature.outputs.values()
      got = session.run(target.name, {source.name: given})
      np.testing.assert_array_equal(got, expected.numpy())


def test_count_words():
  captions = ["a bird, a Bird", "a wing", "wing <unknown> <unknown>", "zebra ant"]
  assert tokenizer.count_words(captions, 0) == ["a", "bird", "wing", ",", "ant", "zebra"]
  assert tokenizer.count_words(captions, 1) == ["a", "bird", "wing"]
  assert tokenizer.count_words(captions, 2) == ["a"]
  assert tokenizer.count_words([], 0) == []


def test_every_counted_word_is_encoded_as_itself():
  captions = [
    "it's a blue-green bird's-eye (50% l/r) caf\u00e9; \u201cx\u201d -- \u2019tis",
    "a_b 3.5",
  ]
  words = tokenizer.run_tokenizer(lambda: captions, min_count=0)
  ids = words.encode(words.words[3:])
  np.testing.assert_array_equal(ids[:, 0], np.arange(3, words.vocabulary_size))
  np.testing.assert_array_equal(ids[:, 1], np.full([words.vocabulary_size - 3], END))
  assert not np.any(words.encode(captions) == UNKNOWN)


def test_vocabulary_is_saved_and_used_again(tmp_path):
  run_dir = tmp_path / "runs" / "first"
  captions = ["a bird", "a caf\u00e9", "a bird"]
  made = tokenizer.run_tokenizer(lambda: captions, run_dir, min_count=0, length=8)
  assert (run_dir / "vocabulary.txt").read_text("utf-8") == "a\nbird\ncaf\u00e9\n"
  assert [path.name for path in run_dir.iterdir()] == ["vocabulary.txt"]
  again = tokenizer.run_tokenizer(lambda: pytest.fail("counted again"), run_dir, length=9)
  assert again.words == made.words
  assert (made.length, again.length) == (8, 9)


def test_no_folder_no_file():
  words = tokenizer.run_tokenizer(lambda: ["a a a a bird bird bird"])
  assert words.words[3:] == ("a",)  # more than three times


@pytest.mark.parametrize(
  "content, message",
  [
    ("", "vocabulary.txt holds no words"),
    ("a\nbird\na\n", "vocabulary.txt repeats the word 'a'"),
    ("a\n<end>\n", "vocabulary.txt repeats the word '<end>'"),
    ("a\n\nbird\n", "vocabulary.txt holds an empty word"),
  ],
)
def test_bad_vocabulary_file_fails(tmp_path, content, message):
  (tmp_path / "vocabulary.txt").write_text(content)
  with pytest.raises(ValueError, match=message):
    tokenizer.run_tokenizer(lambda: ["a bird"], tmp_path)


def test_bad_arguments_fail(tmp_path):
  with pytest.raises(ValueError, match="no word occurs more than 3 times in the 1 captions"):
    tokenizer.run_tokenizer(lambda: ["a bird"], tmp_path)
  assert not (tmp_path / "vocabulary.txt").exists()
  with pytest.raises(ValueError, match="length of a sentence must be at least 2, got 1"):
    tokenizer.Tokenizer(WORDS, length=1)
  with pytest.raises(ValueError, match="the vocabulary holds no words"):
    tokenizer.Tokenizer([])
