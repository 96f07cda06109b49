"""Caltech-UCSD Birds with features of the photographs in their place, as Shi et al. (2019) had it.

Features are computed once, from the files of the photos, and kept in `<data_dir>/cub_features`: a
file for each source, network, size of pictures and weights. What reads them later needs no weights.
"""

import functools
import hashlib
import json
import os
import pathlib
import sys
import time
import uuid
import zipfile
from collections.abc import Callable

import numpy as np
import tqdm

from tf_mmvae.data import examples
from tf_mmvae.data.cub import dataset
from tf_mmvae.data.cub.dataset import Source
from tf_mmvae.data.tokenizer import Tokenizer

_BATCH = 32  # photos that the network sees at once
_LOG_EVERY = 60  # seconds between lines where there is no bar


def feature_examples(
  source: Source, split: str, tokenizer: Tokenizer, extractor: Callable
) -> examples.Examples:
  """Pairs of the features of a bird's photo and one of its ten captions.

  Args:
    source: `Source`.
    split: a TFDS split, such as "train", "test" or "train[:95%]".
    tokenizer: a `Tokenizer`; L is its length.
    extractor: a function uint8 [N, size, size, 3] -> float32 [N, F], with attributes `size`,
      `application` (a name) and `weights` (a path, or another name); see `nets.Extractor`. It is
      called only where its features of these photos are not at hand.

  Returns:
    `Examples` with x = {"image": float32 [B, F], "sentence": int32 [B, L]} and
    y = {"class": int32 [B], "image_index": int32 [B], "caption": string [B]}.

  Raises:
    FileNotFoundError: there is no file of weights.
    ValueError: `split` is no split, a photo or features that are kept are damaged, or what the
      extractor raises.
  """
  birds = photos(source, split, extractor)
  return examples.images_with_captions(
    "cub_features", birds["features"], birds["captions"].tolist(), {"class": birds["class"]},
    tokenizer,
  )


def photos(source: Source, split: str, extractor: Callable) -> dict[str, np.ndarray]:
  """{"features": float32 [N, F]} and what `dataset.photos` gives, of a split.

  Arguments and errors are those of `feature_examples`.
  """
  birds = dataset.photos(source, split)
  names, features = _features(source, extractor)
  rows = {name: row for row, name in enumerate(names)}
  return {**birds, "features": features[[rows[name.decode()] for name in birds["file_name"]]]}


def album(source: Source, split: str, extractor: Callable) -> tuple[np.ndarray, np.ndarray]:
  """(features float32 [N, F], pictures uint8 [N, 64, 64, 3]) of a split, to look features up in.

  Arguments and errors are those of `feature_examples`.
  """
  birds = photos(source, split, extractor)
  return birds["features"], birds["image"]


def _features(source, extractor):
  """(names of all photos, their features float32 [N, F]), kept or computed."""
  folder = source.data_dir / "cub_features"
  path = _kept(folder, f"{source.key}-{extractor.application}-{extractor.size}", extractor.weights)
  if not path.is_file():
    _write(path, extractor, source)
  return _read(path)


def _kept(folder, start, weights):
  """Where the features are, or will be.

  They are named by a hash of the weights. Where there is no such file any more, the features are
  taken that were made with a file of that name.
  """
  path = pathlib.Path(weights)
  if path.is_file():
    return folder / f"{start}-{_hash(path, path.stat().st_mtime_ns, path.stat().st_size)}.npz"
  found = [file for file in sorted(folder.glob(f"{start}-*.npz"))
           if _read_made_of(file)["weights"] == path.name]
  if len(found) > 1:
    raise ValueError(
      f"there are no weights {weights}, and {folder} has features of {len(found)} files of that "
      f"name: put back the file, or remove all but one of {', '.join(f.name for f in found)}"
    )
  return found[0] if found else folder / f"{start}-{path.name}.npz"


@functools.lru_cache  # weights are large, and a run asks several times
def _hash(path, *_changes):
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _write(path, extractor, source):
  """Computes the features of all photos and writes them: the file appears whole, or not at all."""
  names = [photo.name for of_split in source.layout.splits.values() for photo in of_split]
  _say(f"Features of {len(names):,} photos by {extractor.application}, weights "
       f"{extractor.weights}: computed once, then kept in {path}")
  found, batch = [], []
  begin = last = time.monotonic()
  with tqdm.tqdm(total=len(names), unit="photo", desc="features", disable=None) as bar:
    for i, picture in enumerate(source.pictures(extractor.size), 1):
      batch.append(picture)
      if len(batch) == _BATCH or i == len(names):
        found.append(extractor(np.stack(batch)))
        bar.update(len(batch))
        batch, now = [], time.monotonic()
        if bar.disable and now - last > _LOG_EVERY:
          _say(f"Features: {i:,} of {len(names):,} photos")
          last = now
  features = np.concatenate(found).astype(np.float32)
  if not np.all(np.isfinite(features)):
    raise ValueError(f"{extractor.application} with weights {extractor.weights} gives features "
                     "that are not finite: give weights that are trained")
  seconds = time.monotonic() - begin
  _say(f"Features: {len(names):,} photos in {seconds:.0f} s, {len(names) / seconds:.3g} a second")
  made_of = {"application": extractor.application, "size": extractor.size,
             "weights": pathlib.Path(extractor.weights).name}
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.unfinished")
  try:
    with open(unfinished, "wb") as file:
      np.savez(file, made_of=json.dumps(made_of), names=names, features=features)
    os.replace(unfinished, path)
  finally:
    unfinished.unlink(missing_ok=True)


def _say(line):
  tqdm.tqdm.write(line)
  sys.stdout.flush()


def _read(path):
  kept = _load(path, "names", "features")
  return kept["names"].tolist(), kept["features"]


def _read_made_of(path):
  return json.loads(str(_load(path, "made_of")["made_of"]))


def _load(path, *parts):
  try:
    with np.load(path, allow_pickle=False) as kept:
      return {part: kept[part] for part in parts}
  except (KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(
      f"{path} is damaged: remove it, and the features are computed again") from error
