import json
import time

import pytest
import requests
import tensorflow_datasets as tfds

from tf_mmvae.data.digits import official_files

FILES = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


def find(tmp_path, builder="mnist", files=tuple(FILES)):
  return official_files.find("mnist", builder, list(files), tmp_path / "manual", tmp_path / "data")


@pytest.fixture
def network(monkeypatch):
  """What is asked of the network: (way, URL); it answers nothing unless told to."""
  asked = []

  def head(url, timeout, **_):
    asked.append(("head", url))
    assert timeout <= 10
    raise requests.ConnectionError("no way")

  monkeypatch.setattr(requests, "head", head)
  return asked


def test_files_of_the_user_come_first(tmp_path, network):
  (tmp_path / "manual" / "mnist").mkdir(parents=True)
  for file in FILES:
    (tmp_path / "manual" / "mnist" / file).write_text(file)
  assert {file: path.read_text() for file, path in find(tmp_path).items()} == {f: f for f in FILES}
  assert not network and not (tmp_path / "data").exists()


def test_without_network_one_sentence_names_both_ways(tmp_path, network):
  began = time.monotonic()
  with pytest.raises(FileNotFoundError) as error:
    find(tmp_path)
  assert time.monotonic() - began < 10
  said = str(error.value)
  assert "\n" not in said and len(network) == 1
  for part in (f"{tmp_path / 'manual' / 'mnist'} has no", *FILES, "https://", "cannot be fetched",
               "put the official files there", "below manual_dir, or give", "network"):
    assert part in said, part


def test_what_is_not_there_is_fetched_and_the_rest_is_the_users(tmp_path, network, monkeypatch):
  (tmp_path / "manual" / "mnist").mkdir(parents=True)
  (tmp_path / "manual" / "mnist" / FILES[0]).write_text("mine")
  fetched = tmp_path / "fetched"
  fetched.write_text("fetched")
  urls = []

  def download(self, wanted):
    urls.append(wanted)
    return dict.fromkeys(wanted, fetched)

  monkeypatch.setattr(requests, "head", lambda *_, **__: requests.Response())
  monkeypatch.setattr(requests.Response, "raise_for_status", lambda self: None)
  monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
  paths = find(tmp_path)
  assert {file: path.read_text() for file, path in paths.items()} == {
      FILES[0]: "mine", FILES[1]: "fetched"}
  ((file, url),) = urls[0].items()
  assert file == FILES[1] and url.startswith("https://") and url.endswith(f"/{file}")


def test_downloads_of_before_need_no_network(tmp_path, network, monkeypatch):
  manager = tfds.download.DownloadManager(
      download_dir=tmp_path / "data" / "downloads", dataset_name="mnist")
  infos = tfds.builder_cls("mnist").url_infos
  for url, info in infos.items():
    path = manager._get_dl_path(tfds.download.Resource(url=url), info.checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(url)
    info = {"dataset_names": ["mnist"], "urls": [url]}
    path.with_name(f"{path.name}.INFO").write_text(json.dumps(info))
  assert find(tmp_path)[FILES[0]].read_text().endswith(FILES[0])
  assert not network


def test_a_broken_download_is_the_same_sentence(tmp_path, monkeypatch):
  monkeypatch.setattr(requests, "head", lambda *_, **__: requests.Response())
  monkeypatch.setattr(requests.Response, "raise_for_status", lambda self: None)

  def download(self, wanted):
    raise tfds.core.download.download_manager.NonMatchingChecksumError("another page")

  monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
  with pytest.raises(FileNotFoundError, match="NonMatchingChecksumError.*put the official files"):
    find(tmp_path)


@pytest.mark.parametrize("builder, file", [
    ("mnist", "t10k-labels-idx1-ubyte.gz"), ("svhn_cropped", "train_32x32.mat"),
    ("svhn_cropped", "test_32x32.mat")])
def test_every_file_has_a_place_on_the_network(tmp_path, network, builder, file):
  with pytest.raises(FileNotFoundError):
    find(tmp_path, builder, [file])
  assert network[0][1].endswith(f"/{file}")
