import csv
import functools
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image
from tensorflow_datasets.core import shuffle

from tf_mmvae import pictures
from tf_mmvae.data import gaps, tokenizer
from tf_mmvae.data.own import dataset as own_data
from tf_mmvae.data.own.columns import Picture, Text, Vector
from tf_mmvae.data.own.manifest import SPLITS, Manifest, Problems

NUM_PHOTOS = 12
SHAPE = (16, 8, 3)
COLUMNS = {"image": Picture(SHAPE), "sentence": Text(), "vector": Vector(2)}
HEADERS = ["image", "sentence", "vector", "class", "split"]


def write_source(folder):
  """Two captions a photo; gaps of every modality in training; returns the rows."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  rows = []
  for i in range(NUM_PHOTOS):
    Image.fromarray(rng.integers(0, 256, [20, 30, 3], np.uint8)).save(folder / f"photo {i}.png")
    np.save(folder / f"{i}.npy", rng.normal(size=2))
    split = ["validation", "test", "train", "train"][i % 4]
    rows += [[f"photo {i}.png", f"a bird of number {i} {c}", f"{i}.npy", f"kind {i % 2}", split]
             for c in range(2)]
  for column, gap in enumerate((4, 5, 6)):
    rows[gap][column] = ""
  rows[7][3] = ""
  with open(folder / "birds.csv", "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([HEADERS, *rows])
  return rows


@pytest.fixture
def rows(tmp_path):
  return write_source(tmp_path / "birds")


@pytest.fixture
def source(rows, tmp_path):
  """Function (arguments of `Source`) -> `Source`."""
  how = {"columns": COLUMNS, "label": "class", "split_column": "split",
         "manual_dir": tmp_path / "birds", "data_dir": tmp_path / "data"}
  return lambda **more: own_data.Source("birds.csv", **{**how, **more})


@pytest.fixture
def words():
  return {"sentence": tokenizer.Tokenizer(["a", "bird", *map(str, range(NUM_PHOTOS))], length=8)}


@pytest.fixture(params=[True, False], ids=["in memory", "on disk"])
def in_memory(request):
  return request.param


def batches(data, num=None):
  """Batches as lists of arrays; all in order, or `num` shuffled ones."""
  found = data.batches(5) if num is None else data.shuffled_batches(5, seed=3).take(num)
  return [[array.numpy() for array in tf.nest.flatten(batch)] for batch in found]


def assert_equal(first, second):
  assert len(first) == len(second)
  for a, b in zip(first, second, strict=True):
    assert len(a) == len(b)
    for u, v in zip(a, b, strict=True):
      assert u.dtype == v.dtype
      np.testing.assert_array_equal(u, v)


@pytest.mark.parametrize("split", SPLITS)
def test_examples_are_the_rows(rows, source, words, in_memory, tmp_path, split):
  data = own_data.examples(split, source(), words, in_memory)
  ((x, y, mask),) = data.batches(100)
  expected = [(i, row) for i, row in enumerate(rows) if row[4] == split]
  assert data.num_examples == len(expected)
  assert y["row"].numpy().tolist() == [i + 2 for i, _ in expected]
  assert y["label"].numpy().tolist() == [int(row[3][-1]) if row[3] else -1 for _, row in expected]
  assert len(set(y["group"].numpy())) >= len(expected) / 2
  assert set(mask) == ({"image", "sentence", "vector"} if split == "train" else set())
  for column, name in enumerate(COLUMNS):
    present = [bool(row[column]) for _, row in expected]
    if name in mask:
      assert mask[name].numpy().tolist() == present
    assert all(present) == (name not in mask)
    for got, (_, row), here in zip(x[name].numpy(), expected, present, strict=True):
      path = tmp_path / "birds" / row[column]
      if not here:
        assert not got.any()
      elif name == "image":
        np.testing.assert_array_equal(got, pictures.read(path, SHAPE).astype(np.float32) / 255)
      elif name == "vector":
        np.testing.assert_array_equal(got, np.load(path).astype(np.float32))
      else:
        np.testing.assert_array_equal(got, words["sentence"].encode(row[column]))


def test_shapes_are_known_before_anything_is_read(source, words, in_memory):
  data = own_data.examples("train", source(), words, in_memory)
  x, y, mask = data.shuffled_batches(5, seed=0).element_spec
  assert {name: (tuple(spec.shape)[1:], spec.dtype) for name, spec in x.items()} == {
    "image": (SHAPE, tf.float32), "sentence": ((8,), tf.int32), "vector": ((2,), tf.float32)}
  assert all(spec.dtype == tf.int32 and spec.shape.rank == 1 for spec in y.values())
  assert all(spec.dtype == tf.bool and spec.shape.rank == 1 for spec in mask.values())


@pytest.fixture
def shards(monkeypatch):
  """Prepares in several files, none of which fits into the memory that TFDS sorts in."""
  config = tfds.download.DownloadConfig(num_shards=3)
  prepare = own_data.OwnData.download_and_prepare
  monkeypatch.setattr(own_data.OwnData, "download_and_prepare",
                      functools.partialmethod(prepare, download_config=config))
  monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 100)


def test_from_disk_the_batches_are_the_same(shards, source, words, tmp_path):
  made = source()
  assert len(list((tmp_path / "data").rglob("*train*-of-00003"))) == 9
  kept, read = (own_data.examples("train", made, words, held) for held in (True, False))
  assert_equal(batches(kept), batches(read))
  assert_equal(batches(kept, 12), batches(read, 12))
  assert [a[-1].tolist() for a in batches(kept)] != [a[-1].tolist() for a in batches(kept, 3)]


def test_a_resumed_run_sees_what_it_would_have_seen(source, words, in_memory):
  data = own_data.examples("train", source(), words, in_memory)
  whole = batches(data, 9)
  for step in (1, 4):
    later = [[array.numpy() for array in tf.nest.flatten(batch)]
             for batch in data.shuffled_batches(5, 3, step).take(9 - step)]
    assert_equal(later, whole[step:])


@pytest.fixture
def fetched(monkeypatch):
  """The positions that are fetched from disk."""
  positions = []
  fetch = own_data.Records._fetch

  def noted(self, asked):
    positions.append((self._features.keys(), asked.tolist()))
    return fetch(self, asked)

  monkeypatch.setattr(own_data.Records, "_fetch", noted)
  return positions


def test_from_disk_a_batch_fetches_what_it_shows_and_no_more(source, words, fetched):
  data = own_data.examples("train", source(), words, in_memory=False)
  assert not fetched
  x, _, _ = data.read(tf.constant([11, 3, 3, 4], tf.int64))
  assert np.array_equal(x["image"][1], x["image"][2])
  asked = [positions for _, positions in fetched]
  assert len(asked) == 3 and asked[0] == [11, 3, 4]
  assert all(len(positions) <= 3 for positions in asked)


def test_from_disk_gaps_are_found_without_pictures(source, words, fetched):
  data = own_data.examples("train", source(), words, in_memory=False)
  complete = gaps.complete(data)
  assert complete.num_examples == 9 and len(fetched) > 0
  assert not [features for features, _ in fetched if "value" in features]
  assert complete.batches(3).element_spec[2] == {}


def test_a_picture_is_kept_once(source, words):
  made = source()
  assert made.records("image", "train").num_records == 6
  assert made.records(own_data.ROWS, "train").num_records == 12


def test_prepared_once_and_anew_after_a_change(rows, source, tmp_path, monkeypatch):
  source()
  check = Manifest.check_files
  monkeypatch.setattr(Manifest, "check_files", lambda self: pytest.fail("prepared again"))
  source()
  shutil.copytree(tmp_path / "birds", tmp_path / "moved", copy_function=shutil.copy2)
  source(manual_dir=tmp_path / "moved")
  called = []
  monkeypatch.setattr(Manifest, "check_files", lambda self: called.append(check(self)))
  path = tmp_path / "birds" / "photo 1.png"
  os.utime(path, ns=(1, 1))
  source()
  changes = [
    {"columns": {**COLUMNS, "image": Picture((8, 8, 3))}}, {"label": None},
    {"columns": {"sentence": Text()}}, {"split_column": None, "fractions": {
      "validation": 0.3, "test": 0.3}}]
  for change in changes:
    source(**change)
  manifest = tmp_path / "birds" / "birds.csv"
  manifest.write_text(manifest.read_text().replace("number 2 0", "number two"))
  assert "a bird of number two" in own_data.texts(source())
  assert len(called) == len(changes) + 2


def test_another_process_may_prepare_it_meanwhile(source, words, monkeypatch):
  prepare = own_data.OwnData.download_and_prepare

  def overtaken(self, **how):
    monkeypatch.setattr(own_data.OwnData, "download_and_prepare", prepare)
    source()
    raise OSError("it is there")

  monkeypatch.setattr(own_data.OwnData, "download_and_prepare", overtaken)
  assert own_data.examples("test", source(), words).num_examples == 6


def test_problems_leave_nothing_behind(rows, source, tmp_path):
  (tmp_path / "birds" / "photo 3.png").write_bytes(b"")
  (tmp_path / "birds" / "4.npy").unlink()
  with pytest.raises(Problems) as error:
    source()
  assert len(error.value.report.split("\n")) == 3
  assert not list((tmp_path / "data").rglob("*.array_record*"))
  (tmp_path / "birds" / "birds.csv").unlink()
  with pytest.raises(FileNotFoundError, match="birds.csv"):
    source()


def test_texts_are_those_to_train_on(rows, source):
  assert own_data.texts(source()) == [r[1] for r in rows if r[4] == "train" and r[1]]


def test_without_texts_and_labels(source, in_memory):
  made = source(columns={"vector": Vector(2)}, label=None)
  ((x, y, mask),) = own_data.examples("validation", made, in_memory=in_memory).batches(100)
  assert set(x) == {"vector"} and set(y) == {"row", "group"} and mask == {}


def test_mistakes(source, words):
  made = source()
  with pytest.raises(ValueError, match="own data have no split 'all': give one of train, valid"):
    own_data.examples("all", made, words)
  with pytest.raises(ValueError, match="manifest must be the path of a .csv or .jsonl, got "):
    own_data.Source(5, COLUMNS)
  with pytest.raises(ValueError, match=r"tokenizers for \[\], but the manifest's texts are \['se"):
    own_data.examples("train", made)


def test_quiet(source, words, in_memory, capfd, caplog):
  before = logging.get_verbosity()
  logging.set_verbosity(logging.WARNING)
  try:
    own_data.examples("test", source(), words, in_memory)
    assert logging.get_verbosity() == logging.WARNING
  finally:
    logging.set_verbosity(before)
  assert not caplog.records
  out, err = capfd.readouterr()
  assert out == "" and "examples" not in err
