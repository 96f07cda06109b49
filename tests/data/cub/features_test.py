import collections
import os
import pathlib
import shutil

import numpy as np
import pytest

from tests.data.cub import dataset_test as cub_test
from tf_mmvae.data import tokenizer
from tf_mmvae.data.cub import dataset as cub
from tf_mmvae.data.cub import features as cub_features
from tf_mmvae.data.cub import layouts, readers

NUM_PHOTOS = 2 * sum(cub_test.NUM_PHOTOS.values())


class Stub:
  """An extractor of mean colours, and one more that is the sum of the weights' bytes."""

  application, size = "Stub", 40

  def __init__(self, weights):
    self.weights, self.calls, self.fails_at = str(weights), [], None

  def __call__(self, pictures):
    assert pictures.dtype == np.uint8 and pictures.shape[1:] == (40, 40, 3)
    self.calls.append(len(pictures))
    if len(self.calls) == self.fails_at:
      raise KeyboardInterrupt
    weight = float(sum(pathlib.Path(self.weights).read_bytes()))
    return np.concatenate([pictures.mean((1, 2)), np.full([len(pictures), 1], weight)], 1)


@pytest.fixture
def folders(tmp_path):
  """Photos of a grey of their own each; the second class to test is another."""
  cub_test.write_source(tmp_path / "manual")
  for i, path in enumerate(sorted((tmp_path / "manual").glob("cub/*/*/*.jpg"))):
    image = cub_test.Image.new("RGB", (90, 60), (10 * i + 5,) * 3)
    image.paste((255, 0, 0), (30, 20, 50, 50))
    image.save(path, quality=95)
  return {"manual_dir": tmp_path / "manual", "data_dir": tmp_path / "data"}


@pytest.fixture
def stub(tmp_path):
  (tmp_path / "stub.h5").write_bytes(b"a")
  return Stub(tmp_path / "stub.h5")


def kept(folders):
  return sorted((folders["data_dir"] / "cub_features").glob("*"))


@pytest.mark.parametrize("crop", [False, True])
def test_features_meet_their_photos_and_captions(folders, stub, crop):
  words = tokenizer.Tokenizer(["bird", "train", "test"], length=8)
  source = cub.Source(crop=crop, **folders)
  for split in ("train", "test", "train[25%:50%]", "train+test"):
    pixels, labels = cub_test.whole(cub.examples(source, split, words))
    x, y = cub_test.whole(cub_features.feature_examples(source, split, words, stub))
    assert x["image"].dtype == np.float32 and x["image"].shape[1:] == (4,)
    np.testing.assert_allclose(  # of the files at 40 pixels, and not of the 64 of the data set
        x["image"][:, :3], 255 * pixels["image"].mean((1, 2)), atol=2)
    np.testing.assert_array_equal(x["sentence"], pixels["sentence"])
    for name, label in labels.items():
      np.testing.assert_array_equal(y[name], label)
  assert sum(stub.calls) == NUM_PHOTOS
  red = x["image"][:, 0] - x["image"][:, 1]
  assert np.all(red > 0) and (red.max() > 100) == crop  # the bird fills the picture


def test_whatever_a_run_asks_for_the_layout_is_read_once(folders, stub, monkeypatch):
  counts = collections.Counter()

  def count(owner, name):
    function = getattr(owner, name)

    def counted(*args, **kwargs):
      counts[name] += 1
      return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)

  for owner, name in ((layouts, "read"), (layouts.Layout, "fingerprint"),
                      (cub.Cub, "download_and_prepare")):
    count(owner, name)
  source, words = cub.Source(**folders), tokenizer.Tokenizer(["bird"], length=8)
  for split in ("train[:50%]", "train[50%:]", "test"):
    cub.examples(source, split, words)
    cub_features.feature_examples(source, split, words, stub)
  cub.captions(source)
  cub_features.album(source, "train+test", stub)
  readers.ClassByColour(source), readers.ClassByWords(source), readers.ClassByFeatures(source, stub)
  assert counts == {"read": 1, "fingerprint": 1, "download_and_prepare": 1}


def test_kept_features_need_no_extractor_and_no_weights(folders, stub, tmp_path):
  first = cub_features.photos(cub.Source(**folders), "train", stub)
  os.remove(stub.weights)
  shutil.copytree(folders["manual_dir"], tmp_path / "moved")
  (tmp_path / "elsewhere").mkdir()
  again = Stub(tmp_path / "elsewhere" / "stub.h5")
  moved = cub_features.photos(
      cub.Source(tmp_path / "moved", folders["data_dir"]), "train", again)
  assert not again.calls and len(kept(folders)) == 1
  for name in first:
    np.testing.assert_array_equal(first[name], moved[name])


def test_other_photos_weights_sizes_or_networks_are_computed_anew(folders, stub, tmp_path):
  def num_computed(extractor, **kwargs):
    extractor.calls = []
    source = cub.Source(**folders, **kwargs)
    features = cub_features.photos(source, "train", extractor)["features"]
    return sum(extractor.calls), features

  assert num_computed(stub)[0] == NUM_PHOTOS and num_computed(stub)[0] == 0
  pathlib.Path(stub.weights).write_bytes(b"bc")
  num, features = num_computed(stub)
  assert num == NUM_PHOTOS and set(features[:, 3]) == {98 + 99}
  path = folders["manual_dir"] / "cub/train" / cub_test.CLASSES[0] / "2.jpg"
  cub_test.Image.new("RGB", (20, 20), (0, 255, 0)).save(path)
  num, features = num_computed(stub)
  assert num == NUM_PHOTOS
  np.testing.assert_allclose(features[2, :3], [0, 255, 0], atol=2)
  assert num_computed(stub, crop=True)[0] == NUM_PHOTOS
  stub.application = "Other"
  assert num_computed(stub)[0] == NUM_PHOTOS
  assert len(kept(folders)) == 5


def test_features_of_two_files_of_one_name(folders, stub):
  """Which are meant is only known while the file is there."""
  for content in (b"a", b"b"):
    pathlib.Path(stub.weights).write_bytes(content)
    cub_features.photos(cub.Source(**folders), "test", stub)
  os.remove(stub.weights)
  with pytest.raises(ValueError, match="has features of 2 files of that name: put back the file, "):
    cub_features.photos(cub.Source(**folders), "test", stub)


def test_an_interrupted_extraction_leaves_nothing(folders, stub, monkeypatch):
  monkeypatch.setattr(cub_features, "_BATCH", 5)
  stub.fails_at = 3
  with pytest.raises(KeyboardInterrupt):
    cub_features.photos(cub.Source(**folders), "test", stub)
  assert stub.calls == [5, 5, 5] and not kept(folders)
  stub.fails_at = None
  with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
    patch.setattr(np, "savez", lambda file, **_: file.write(b"half") and fail())
    cub_features.photos(cub.Source(**folders), "test", stub)
  assert not kept(folders)
  assert len(cub_features.photos(cub.Source(**folders), "test", stub)["features"]) == 4
  assert [path.suffix for path in kept(folders)] == [".npz"]


def fail():
  raise OSError("full")


def test_damaged_features_are_named(folders, stub):
  cub_features.photos(cub.Source(**folders), "test", stub)
  (path,) = kept(folders)
  path.write_bytes(path.read_bytes()[:200])
  with pytest.raises(ValueError, match=f"{path} is damaged: remove it, and"):
    cub_features.photos(cub.Source(**folders), "test", stub)


def test_features_that_are_not_finite(folders, stub, monkeypatch):
  monkeypatch.setattr(Stub, "__call__", lambda _, pictures: np.full([len(pictures), 2], np.inf))
  with pytest.raises(ValueError, match="Stub with weights .* gives features that are not finite"):
    cub_features.photos(cub.Source(**folders), "test", stub)
  assert not kept(folders)


def test_progress_is_told(folders, stub, capsys):
  cub_features.photos(cub.Source(**folders), "test", stub)
  first, last = capsys.readouterr().out.splitlines()
  assert first.startswith(f"Features of {NUM_PHOTOS} photos by Stub, weights {stub.weights}: comp")
  assert last.startswith(f"Features: {NUM_PHOTOS} photos in 0 s, ") and "a second" in last
  cub_features.photos(cub.Source(**folders), "train", stub)
  assert not capsys.readouterr().out


def test_an_album_pairs_features_with_pictures(folders, stub):
  features, pictures = cub_features.album(cub.Source(**folders), "train+test", stub)
  assert len(features) == NUM_PHOTOS and pictures.dtype == np.uint8
  np.testing.assert_allclose(features[:, :3], pictures.mean((1, 2)), atol=2)


def test_the_nearest_mean_tells_the_class(folders, stub):
  """Against a loop: the greys of the first class are below those of the second."""
  train = cub_features.photos(cub.Source(**folders), "train", stub)
  reader = readers.ClassByFeatures(cub.Source(**folders), stub)
  asked = np.concatenate([train["features"], train["features"][:1] + np.float32([[60, 60, 60, 0]])])
  means = [train["features"][train["class"] == c].mean(0) for c in (0, 1)]
  expected = [int(np.sum((v - means[1])**2) < np.sum((v - means[0])**2)) for v in asked]
  assert reader(asked)["class"].tolist() == expected
  assert set(expected) == {0, 1} and expected[:12] == train["class"].tolist()
