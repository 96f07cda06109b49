"""Your own examples, from a manifest: pictures, texts and vectors, any of them missing at times.

A manifest is checked as a whole and then written once, resized, as a data set on disk that can be
read by position; a change of the manifest, of a file that it names or of what is asked of it
makes another one. `docs/own_data.md` is the manual.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from tf_mmvae.data import folders
from tf_mmvae.data.examples import Examples, on_cpu
from tf_mmvae.data.own.columns import Picture, Text, Vector
from tf_mmvae.data.own.manifest import SPLITS, Manifest
from tf_mmvae.data.own.records import Records, ordered_key
from tf_mmvae.data.quiet import quiet
from tf_mmvae.data.tokenizer import Tokenizer

ROWS = None  # the part that is the rows; the files of each modality are another


class Source:
  """A manifest that was found without a mistake, and its data set, prepared on disk."""

  def __init__(self, manifest: str | pathlib.PurePath,
               columns: Mapping[str, Picture | Text | Vector], label: str | None = None,
               split_column: str | None = None, fractions: Mapping[str, float] | None = None,
               group_column: str | None = None, seed: int = 0,
               manual_dir: str | os.PathLike | None = None,
               data_dir: str | os.PathLike | None = None):
    """Checks the manifest and prepares the data set, unless it is there already.

    Args:
      manifest: path of a manifest; one that is not absolute is below `manual_dir`, if given.
      columns, label, split_column, fractions, group_column, seed: see `Manifest`.
      manual_dir: a folder, or None for the working directory.
      data_dir: where prepared data sets are kept; None for the folder of TFDS.

    Raises:
      FileNotFoundError: there is no such manifest.
      ValueError: an argument is wrong, or something in the manifest: all of it in one `Problems`.
    """
    if not isinstance(manifest, (str, pathlib.PurePath)) or not str(manifest):
      raise ValueError(f"manifest must be the path of a .csv or .jsonl, got {manifest!r}")
    path = pathlib.Path(manual_dir or "", pathlib.Path(manifest).expanduser())
    self.manifest = Manifest(path, columns, label, split_column, fractions, group_column, seed)
    if self.manifest.num_left_out:
      logging.info("%s: rows without any of %s, left out: %d", path, ", ".join(columns),
                   self.manifest.num_left_out)
    self._data_dir = folders.data_dir_or_default(data_dir)
    parts = [*self.manifest.files, ROWS]
    fingerprint = _fingerprint(self.manifest)
    configs = {
      part: OwnDataConfig(
        name=f"{fingerprint}-{number}-{re.sub(r'[^A-Za-z0-9_]', '_', part or 'rows')}",
        manifest=self.manifest,
        part=part,
      )
      for number, part in enumerate(parts)
    }
    with quiet():
      missing = [config for config in configs.values()
                 if not self._builder(config).data_path.exists()]
      if missing:
        self.manifest.check_files()
      self.manifest.raise_problems()
      for config in missing:
        self._prepare(self._builder(config))
      # A builder does not notice what was prepared after it was made.
      self._builders = {part: self._builder(config) for part, config in configs.items()}

  def records(self, part: str | None, split: str) -> Records:
    """`Records` of a split: of `ROWS`, or the distinct files of a modality in it."""
    return Records(self._builders[part], split)

  def _builder(self, config):
    return OwnData(config=config, data_dir=self._data_dir, file_format="array_record")

  def _prepare(self, builder):
    try:
      builder.download_and_prepare()
    except OSError:
      if not builder.data_path.exists():  # otherwise another process was faster
        raise


def examples(split: str, source: Source, tokenizers: Mapping[str, Tokenizer] | None = None,
             in_memory: bool = True, augment: Callable | None = None) -> Examples:
  """The examples of a split, in the order of the manifest.

  Args:
    split: "train", "validation" or "test".
    source: `Source`.
    tokenizers: {modality: `Tokenizer`} of the texts.
    in_memory: whether all examples are read at once and kept. Otherwise each batch is read from
      disk, at its positions, so that batches, their order and a resumed run are the same.
    augment: change to the shuffled batches; see `Examples` and `augmentation`.

  Returns:
    `Examples` with x = {modality: pictures float32 [B, H, W, C] in [0, 1], texts int32 [B, L] or
    vectors float32 [B, size]}, y = {"row": int32 [B], the line in the manifest, "group": int32 [B],
    equal for rows that share a file, "label": int32 [B], if there is a column of them, -1 where it
    is empty}, and a mask of each modality that some example of the split lacks.

  Raises:
    ValueError: another split, or the tokenizers are not those of the texts.
  """
  if split not in SPLITS:
    raise ValueError(f"own data have no split {split!r}: give one of {', '.join(SPLITS)}")
  manifest, tokenizers = source.manifest, tokenizers or {}
  texts = [name for name, kind in manifest.columns.items() if not kind.of_files]
  if set(texts) != set(tokenizers):
    raise ValueError(f"tokenizers for {sorted(tokenizers)}, but the manifest's texts are "
                     f"{sorted(texts)}: make tokenizers and columns agree")
  gaps = manifest.gaps(split)
  held = _InMemory if in_memory else _OnDisk
  rows = held(source.records(ROWS, split), {n: t.encode for n, t in tokenizers.items()})
  files = {name: held(source.records(name, split)) for name in manifest.files}

  def read(i):
    row = rows.read(i)
    x, mask = {}, {}
    for name, kind in manifest.columns.items():
      if kind.of_files:
        mask[name] = row[name] >= 0
        x[name] = files[name].read(tf.maximum(row[name], 0))["value"]
        if isinstance(kind, Picture):
          x[name] = tf.cast(x[name], tf.float32) / 255.0
      else:
        mask[name] = row[f"{name}/present"] > 0
        x[name] = row[name]
    y = {name: tf.cast(row[f"{name}/y"], tf.int32) for name in _labels(manifest)}
    return x, y, {name: mask[name] for name in gaps}

  name = f"{manifest.path.stem} ({split})"
  logging.debug("%s: %d rows, %s", name, rows.num, "in memory" if in_memory else "read from disk")
  return Examples(name, rows.num, read, augment)


def texts(source: Source, modality: str = "sentence") -> list[str]:
  """The texts of a modality in the training split, a list of strings, without those missing."""
  cells = source.manifest.cells[modality]
  return [cells[i] for i in source.manifest.of_split("train") if cells[i]]


class _InMemory:
  """Records that are read at once and kept; `change` {feature: function} is applied to them."""

  def __init__(self, records, change=None):
    values = records.read_all()
    self.num = records.num_records
    change = change or {}
    self._values = {name: on_cpu(change.get(name, tf.identity)(value))
                    for name, value in values.items()}

  def read(self, positions):
    return {name: tf.gather(value, positions) for name, value in self._values.items()}


class _OnDisk:
  """Records that are read when they are asked for, each once a batch."""

  def __init__(self, records, change=None):
    self._records, self._change, self.num = records, change or {}, records.num_records

  def read(self, positions):
    distinct, where = tf.unique(positions, tf.int64)
    values = self._records.read(distinct)
    values = {name: self._change.get(name, tf.identity)(value) for name, value in values.items()}
    return {name: tf.gather(value, where) for name, value in values.items()}


@dataclasses.dataclass
class OwnDataConfig(tfds.core.BuilderConfig):
  """A manifest, and which part of it: `ROWS`, or the files of a modality."""

  manifest: Manifest | None = None
  part: str | None = ROWS


class OwnData(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Rows of a manifest, or their files, in the order of the manifest; `examples` is the way in."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    manifest, part = self.builder_config.manifest, self.builder_config.part
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"{part or 'rows'} of {manifest.path.name}",
      features=tfds.features.FeaturesDict(_features(manifest, part)),
      disable_shuffling=True,  # the order of the manifest
    )

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split):
    manifest, part = self.builder_config.manifest, self.builder_config.part
    if part != ROWS:
      cells = _distinct(manifest, part, split)
      for i, cell in enumerate(cells):
        value = manifest.columns[part].read(manifest.file(cell))
        yield ordered_key(i, len(cells)), {"value": value}
      return
    rows = manifest.of_split(split)
    numbers = {name: {cell: i for i, cell in enumerate(_distinct(manifest, name, split))}
               for name in manifest.files}
    labels = _labels(manifest)
    for i, row in enumerate(rows):
      record = {f"{name}/y": values[row] for name, values in labels.items()}
      for name in manifest.columns:
        cell = manifest.cells[name][row]
        if name in numbers:
          record[name] = numbers[name].get(cell, -1)
        else:
          record |= {name: cell, f"{name}/present": int(bool(cell))}
      yield ordered_key(i, len(rows)), record


def _features(manifest, part):
  """{feature: its type in TFDS} of the records of a part."""
  if part == ROWS:
    features = {f"{name}/y": tfds.features.Scalar(np.int64) for name in _labels(manifest)}
    for name, kind in manifest.columns.items():
      if kind.of_files:
        features[name] = tfds.features.Scalar(np.int64)
      else:
        features |= {name: tfds.features.Text(), f"{name}/present": tfds.features.Scalar(np.int64)}
    return features
  kind = manifest.columns[part]
  if isinstance(kind, Picture):
    return {"value": tfds.features.Image(shape=kind.shape, encoding_format="png")}
  return {"value": tfds.features.Tensor(shape=kind.shape, dtype=np.float32)}


def _labels(manifest):
  """{name: int [N]} of what the examples have besides their modalities."""
  found = {"row": manifest.rows, "group": manifest.groups}
  return found if manifest.labels is None else {**found, "label": manifest.labels}


def _distinct(manifest, name, split):
  """The files of a split, each once, in the order of the manifest."""
  cells = manifest.cells[name]
  return list(dict.fromkeys(cells[i] for i in manifest.of_split(split) if cells[i]))


def _fingerprint(manifest):
  """A short text that differs where anything differs that the prepared data set depends on."""
  kinds = {name: [str(kind), kind.column] for name, kind in manifest.columns.items()}
  told = json.dumps([kinds, manifest.cells, manifest.splits, manifest.files])
  digest = hashlib.sha256(told.encode())
  for values in _labels(manifest).values():
    digest.update(values.tobytes())
  return digest.hexdigest()[:16]
