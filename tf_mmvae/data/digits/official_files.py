"""Official files of a data set: those of the user, or downloads by tensorflow-datasets."""

import os
import pathlib
import types
from collections.abc import Collection, Iterable

import numpy as np
import requests
import tensorflow_datasets as tfds

from tf_mmvae.data import folders

_PATIENCE = 5  # seconds
_FAILURES = (
  requests.RequestException,
  tfds.download.DownloadError,
  tfds.core.download.download_manager.NonMatchingChecksumError,
)


def find(name: str, builder: str, files: Iterable[str], manual_dir: str | os.PathLike | None = None,
         data_dir: str | os.PathLike | None = None) -> dict[str, pathlib.Path]:
  """Paths of a data set's official files, fetched where the user has not put them down.

  Args:
    name: folder of the files below `manual_dir`.
    builder: tensorflow-datasets' name of the data set, which knows where the files are to be had,
      and their checksums.
    files: their names.
    manual_dir: folder that holds `name/`; None for `<data_dir>/downloads/manual`.
    data_dir: downloads are kept below it; None for the folder of tensorflow-datasets.

  Returns:
    {file name: path}

  Raises:
    FileNotFoundError: a file is neither there nor to be had; found out within seconds.
  """
  folder = folders.manual_dir_or_default(manual_dir, data_dir) / name
  paths = {file: folder / file for file in files}
  missing = [file for file, path in paths.items() if not path.is_file()]
  if missing:
    paths |= _fetched(missing, builder, folder, folders.data_dir_or_default(data_dir))
  return paths


def _fetched(files, builder, folder, data_dir):
  url_infos = tfds.builder_cls(builder).url_infos
  urls = {file: next(url for url in url_infos if url.endswith(f"/{file}")) for file in files}
  manager = tfds.download.DownloadManager(
    download_dir=data_dir / "downloads", url_infos=url_infos, dataset_name=builder
  )
  try:
    for url in urls.values():
      if not _is_kept(manager, url, url_infos[url]):
        # The downloads themselves would try again for minutes.
        requests.head(url, timeout=_PATIENCE, allow_redirects=True).raise_for_status()
    return {file: pathlib.Path(path) for file, path in manager.download(urls).items()}
  except _FAILURES as error:
    raise FileNotFoundError(
      f"{folder} has no {', '.join(files)}, and {next(iter(urls.values()))} cannot be fetched "
      f"({type(error).__name__}): put the official files there, below manual_dir, or give this "
      "machine a way to the network"
    ) from error


def _is_kept(manager, url, info):
  """Whether an earlier run has downloaded it; the manager has no public way to ask."""
  path = manager._get_dl_path(tfds.download.Resource(url=url), info.checksum)
  return tfds.core.download.resource.is_locally_cached(path)


def part_of(name: str, split: str, parts: Collection[str]) -> str:
  """The part of a data set, such as "train", that a split such as "train[5%:]" is of.

  Raises:
    ValueError: it is of none of the parts, or of several.
  """
  part = split.partition("[")[0] if isinstance(split, str) else split
  if part not in parts:
    raise ValueError(f"data set '{name}': expected a split such as 'train[5%:]' of "
                     f"{' or '.join(parts)}, got {split!r}")
  return part


def positions(name: str, split: str, part: str, num_examples: int) -> np.ndarray:
  """Which examples of a part a split names: int64 [N].

  Raises:
    ValueError: for no split in the language of TFDS, or one without examples.
  """
  said = f"data set '{name}': expected a part of its {num_examples} examples of '{part}'"
  infos = {part: types.SimpleNamespace(num_examples=num_examples)}
  try:
    pieces = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
  except (ValueError, AssertionError) as error:
    raise ValueError(f"{said}, such as '{part}[5%:]', got {split!r}") from error
  found = np.concatenate([np.arange(num_examples)[piece.from_ : piece.to] for piece in pieces])
  if not found.size:
    raise ValueError(f"{said}, got {split!r}, which is empty")
  return found
