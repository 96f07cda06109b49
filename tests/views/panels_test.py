"""Panels of a model of all kinds of modalities, under names that say nothing."""

import math
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_mmvae import distributions, inference
from tf_mmvae.data.examples import Examples
from tf_mmvae.data.tokenizer import Tokenizer
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior
from tf_mmvae.nets import sentences
from tf_mmvae.views import panels

LENGTH, SAID = 6, "a red bird"
SHAPES = {"colour": (4, 4, 3), "grey": (4, 6, 1), "vector": (5,)}
NAMES = [*SHAPES, "words"]
PAIRS = [(s, t) for s in NAMES for t in NAMES if s != t]


def of_numbers(name, shape):
  encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
  decoder = keras.Sequential(
      [keras.layers.Dense(math.prod(shape), "sigmoid"), keras.layers.Reshape(shape)])
  return Modality(name, shape, encoder, decoder, distributions.normal_likelihood)


def make_tokenizers():
  return {"words": Tokenizer(["a", "red", "bird"], LENGTH)}


def make_model():
  """Two kinds of pictures, a vector and words."""
  words = Modality("words", (LENGTH,), sentences.RecurrentEncoder(2, 6, 2, 3),
                   sentences.RecurrentDecoder(6, LENGTH, 2, 3),
                   distributions.sentence_likelihood, dtype="int32")
  return MultimodalVAE([*(of_numbers(n, s) for n, s in SHAPES.items()), words], Prior(2))


@pytest.fixture(scope="module")
def tokenizers():
  return make_tokenizers()


@pytest.fixture(scope="module")
def model():
  keras.utils.set_random_seed(0)
  return make_model()


def data(tokenizers, num=5):
  """Flat pictures and vectors of value i / num, and a caption."""
  said = tokenizers["words"].encode([SAID] * num)

  def read(i):
    level = tf.cast(i, tf.float32) / num
    x = {name: tf.reshape(level, [-1] + [1] * len(shape)) * tf.ones(shape)
         for name, shape in SHAPES.items()}
    return {**x, "words": tf.gather(said, i)}, {}

  return Examples("stub", num, read)


@pytest.fixture(scope="module")
def panel(tokenizers):
  return panels.Panel(data(tokenizers), tokenizers, num_examples=3, num_samples=2, seed=7)


def recorded():
  """Leaves (columns, titles of those given) in the place of the pictures."""
  return mock.patch.object(panels, "draw_table", lambda columns, given: (columns, list(given)))


def drawings():
  """Writes empty files in the place of the pictures."""
  of_none = mock.Mock(save=lambda path, _: open(path, "w").close())
  return mock.patch.object(panels.Image, "fromarray", return_value=of_none)


@pytest.fixture(scope="module")
def shown(panel, model):
  with recorded():
    return panel(model)


def assert_same(cells, values, tokenizers, name):
  if name in tokenizers:
    assert cells == [s.decode() for s in tokenizers[name].decode(values).numpy()]
  else:
    np.testing.assert_allclose(cells, values, rtol=1e-4, atol=1e-5)


def test_names(shown):
  """Words stand in text where any were decoded."""
  names = {f"{s}_reconstructed" if s == t else f"{s}_to_{t}" for s in NAMES for t in NAMES}
  in_text = {"prior", "words_reconstructed", *(f"{s}_to_words" for s in SHAPES)}
  assert set(shown) == {*(f"panels/{name}" for name in [*names, "prior"]),
                        *(f"text/{name}" for name in in_text)}


def test_examples_are_evenly_spread_and_marked_as_given(shown):
  for name in NAMES:
    columns, given = shown[f"panels/{name}_reconstructed"]
    assert list(columns) == ["#", name, "reconstructed"] and given == [name]
    assert columns["#"] == ["1", "2", "3"]
    for cell, example in zip(columns[name], (0, 2, 4), strict=True):
      if name == "words":
        assert cell == SAID
      else:
        np.testing.assert_allclose(cell, np.full(SHAPES[name], example / 5), rtol=1e-6)


def test_what_is_decoded(shown, model, panel, tokenizers):
  """Each column is the mode given the latent sample that the source and the seed say."""
  for source in NAMES:
    x = {source: panel._x[source]}
    decoded = [inference.decode(model, inference.sample_posterior(
        model, x, tf.constant([7, i], tf.int64))) for i in (0, 1)]
    columns, _ = shown[f"panels/{source}_reconstructed"]
    assert_same(columns["reconstructed"], decoded[0][source], tokenizers, source)
    for target in set(SHAPES) - {source}:
      columns, given = shown[f"panels/{source}_to_{target}"]
      assert list(columns) == ["#", source, f"{target} 1", f"{target} 2"] and given == [source]
      assert_same(columns[source], panel._x[source], tokenizers, source)
      for i in (0, 1):
        assert_same(columns[f"{target} {i + 1}"], decoded[i][target], tokenizers, target)
    if source != "words":
      columns, given = shown[f"panels/{source}_to_words"]
      assert list(columns) == ["#", source, "words"] and given == [source]
      lines = [cell.split("\n") for cell in columns["words"]]
      for i in (0, 1):
        said = [of_row[i].removeprefix(f"{i + 1}. ") for of_row in lines]
        assert_same(said, decoded[i]["words"], tokenizers, "words")


def test_prior(shown, model, tokenizers):
  columns, given = shown["panels/prior"]
  assert list(columns) == ["#", *NAMES] and not given
  z = inference.sample_prior(model, 3, tf.constant([7, 0], tf.int64))
  for target, values in inference.decode(model, z).items():
    assert_same(columns[target], values, tokenizers, target)


def test_text_has_the_rows_of_the_picture(shown):
  columns, _ = shown["panels/vector_to_words"]
  lines = shown["text/vector_to_words"].splitlines()
  assert lines[:2] == ["| &#35; | words 1 | words 2 |", "| --- | --- | --- |"]
  for i, (line, cell) in enumerate(zip(lines[2:], columns["words"], strict=True)):
    first, second = (panels._escape(said[3:]) for said in cell.split("\n"))
    assert line == f"| {i + 1} | {first} | {second} |"
  assert shown["text/words_reconstructed"].startswith("| &#35; | words | reconstructed |")
  assert f"| 2 | {SAID} | " in shown["text/words_reconstructed"]


def test_markdown_escapes_what_means_something():
  table = panels.as_markdown({"a": ["x|<b> *y* & `[]_\n\tz"], "picture": [np.zeros([1, 1, 3])]})
  assert table == ("| a |\n| --- |\n| x&#124;&#60;b&#62; &#42;y&#42; &#38; "
                   "&#96;&#91;&#93;&#95; z |")


def test_a_viewer_shows_a_modality_everywhere(model, tokenizers, tmp_path):
  """It is told which are data; nothing else changes."""
  def view(values, given):
    assert values.shape[1:] == (5,)
    return [np.full([2, 2, 3], float(given)) for _ in values]

  pair = [panels.Panel(data(tokenizers), tokenizers, num_examples=2, num_samples=2, viewers=viewers)
          for viewers in (None, {"vector": view})]
  with recorded(), drawings() as drawn:
    plain, seen = (panel(model) for panel in pair)
    pair[1].write(model, tmp_path)
  overview, _ = drawn.call_args_list[0].args[0]
  tables = [*(seen[name] for name in seen if name.startswith("panels/")), (overview, NAMES)]
  for columns, given in tables:
    for title, cells in columns.items():
      if title == "vector" and given or title.endswith("vector") or title[:-2] == "vector":
        assert [cell.mean() for cell in cells] == [float(title in given)] * 2, title
  columns, given = seen["panels/vector_reconstructed"]
  assert [cell.shape for cell in columns["reconstructed"]] == [(2, 2, 3)] * 2
  assert not np.any(columns["reconstructed"]) and given == ["vector"]
  for first, second in zip(plain["panels/grey_to_colour"][0].values(),
                           seen["panels/grey_to_colour"][0].values(), strict=True):
    np.testing.assert_array_equal(first, second)


def test_a_viewer_of_no_modality(model, tokenizers):
  panel = panels.Panel(data(tokenizers), tokenizers, viewers={"vectro": None})
  with pytest.raises(ValueError, match=r"Panel's viewers for \['vectro'\], but the model's modal"):
    panel.check(model)


def test_integers_without_a_tokenizer_are_numbers():
  assert panels.as_cells(np.array([[3, 1], [0, 2]])) == ["3 1", "0 2"]


def test_traced_once_and_follows_the_weights(tokenizers, model):
  panel = panels.Panel(data(tokenizers), tokenizers, num_examples=2, num_samples=1)
  weights = model.get_weights()
  with mock.patch.object(inference, "decode", wraps=inference.decode) as decode:
    first = panel(model)
    model.set_weights([value + 1 for value in weights])
    second = panel(model)
  model.set_weights(weights)
  assert decode.call_count == 1
  assert not np.array_equal(first["panels/grey_to_colour"], second["panels/grey_to_colour"])


def test_written_files_open(model, tokenizers, tmp_path):
  panel = panels.Panel(data(tokenizers), tokenizers, num_examples=2, num_samples=1)
  paths = panel.write(model, tmp_path / "results")
  expected = {name: v for name, v in panel(model).items() if name.startswith("panels/")}
  names = [path.rsplit("/")[-1] for path in paths]
  assert names == ["translations.png", *(f"{name[7:]}.png" for name in expected)]
  for path, value in zip(paths[1:], expected.values(), strict=True):
    with Image.open(path) as picture:
      np.testing.assert_array_equal(np.asarray(picture), value)


def test_the_overview_has_every_modality_from_every_one(model, panel, shown, tmp_path):
  with recorded(), drawings() as drawn:
    panel.write(model, tmp_path)
  columns, given = drawn.call_args_list[0].args[0]
  assert list(columns) == ["#", *NAMES, *(f"{s} > {t}" for s in NAMES for t in NAMES)]
  assert given == NAMES
  for s, t in PAIRS:
    if t != "words":
      np.testing.assert_array_equal(
          columns[f"{s} > {t}"], shown[f"panels/{s}_to_{t}"][0][f"{t} 1"])


def test_one_example_and_more_asked_than_there_are(model, tokenizers):
  for num in (1, 2):
    panel = panels.Panel(data(tokenizers, 1), tokenizers, num_examples=num, num_samples=1)
    with recorded():
      columns, _ = panel(model)["panels/prior"]
    assert {len(cells) for cells in columns.values()} == {num}


def with_gaps(tokenizers):
  """Of 3 examples the first lacks its words, and the second its grey picture."""
  whole = data(tokenizers, 3)

  def read(i):
    x, y, _ = whole.read(i)
    return x, y, {"words": i > 0, "grey": i != 1}

  return Examples("gaps", 3, read)


def test_what_is_absent_is_an_empty_cell(model, tokenizers, tmp_path):
  panel = panels.Panel(with_gaps(tokenizers), tokenizers, num_examples=3, num_samples=2)

  def blank(cells):
    return [cell is None for cell in cells]

  with recorded(), drawings() as drawn:
    shown = panel(model)
    panel.write(model, tmp_path)
  for name, absent in (("words", 0), ("grey", 1), ("vector", None)):
    expected = [i == absent for i in range(3)]
    columns, _ = shown[f"panels/{name}_reconstructed"]
    assert blank(columns[name]) == blank(columns["reconstructed"]) == expected
    columns, _ = shown[f"panels/{name}_to_colour"]
    assert blank(columns[name]) == blank(columns["colour 1"]) == blank(columns["colour 2"])
    assert blank(columns[name]) == expected
  columns, _ = shown["panels/grey_to_words"]
  assert blank(columns["words"]) == [False, True, False]
  assert all("1. " in cell and "\n2. " in cell for cell in columns["words"] if cell)
  lines = shown["text/words_reconstructed"].splitlines()
  assert lines[2] == "| 1 |  |  |" and lines[3].startswith(f"| 2 | {SAID} | ")
  overview, _ = drawn.call_args_list[0].args[0]
  assert blank(overview["words"]) == blank(overview["words > grey"]) == [True, False, False]
  assert not any(blank(overview["vector > words"]))
  assert panel(model)["panels/words_reconstructed"].dtype == np.uint8
