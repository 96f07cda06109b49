"""What a manifest holds, in figures, and likelihoods and weights to begin with."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tf_mmvae.data.own.columns import Picture
from tf_mmvae.data.own.dataset import Source, texts
from tf_mmvae.data.own.manifest import SPLITS
from tf_mmvae.data.tokenizer import count_words, split_all
from tf_mmvae.pictures import size as picture_size

NATS_PER_DIMENSION = 5.0  # that a modality is to be worth to each latent dimension
MAX_ROWS = 2000
SHARE_OF_WORDS = 0.2  # of the nats of words, which latents may explain
LEAST_SHARE = 0.01  # of deviations from the mean: values that fit better are few, or follow a rule


class Residuals(NamedTuple):
  """What a linear code leaves of values that it was not fitted to."""

  laplace: float  # mean absolute residual: the most likely scale b of a Laplace
  normal: float  # root mean square residual: the most likely standard deviation
  gain: float  # nats an observation by which the code beats the mean, under that Gaussian
  num: int  # observations, fitted and left out


def linear_residuals(values: npt.ArrayLike, latent_dim: int, seed: int = 0) -> Residuals:
  """Residuals of a fifth of the values after the principal components of the others.

  Args:
    values: float [N, size], at least 3 observations; `MAX_ROWS` of them are used. Values that are
      all the same give scales of 1.
    latent_dim: how many components, or fewer where there are not as many observations.
    seed: of the draw of observations.

  Raises:
    ValueError: there are fewer than 3 observations.
  """
  values = np.asarray(values, np.float64)
  if len(values) < 3:
    raise ValueError(f"expected at least 3 observations to take residuals of, got {len(values)}")
  values = values[np.random.default_rng(seed).permutation(len(values))[:MAX_ROWS]]
  num_left_out = max(1, len(values) // 5)
  left_out, fitted = values[:num_left_out], values[num_left_out:]
  mean = fitted.mean(axis=0)
  left_out, fitted = left_out - mean, fitted - mean
  # By the products of observations, which are fewer than the numbers of a picture.
  of_products, vectors = np.linalg.eigh(fitted @ fitted.T)
  best = np.argsort(of_products)[::-1][:min(latent_dim, len(fitted) - 1)]
  best = best[of_products[best] > 1e-9 * max(of_products.max(), 1e-300)]
  components = fitted.T @ vectors[:, best] / np.sqrt(of_products[best])  # [size, D]
  rest = left_out - (left_out @ components) @ components.T
  before = np.mean(left_out**2)
  if before == 0:
    return Residuals(1.0, 1.0, 0.0, len(values))
  least = LEAST_SHARE * np.sqrt(before)
  normal = max(np.sqrt(np.mean(rest**2)), least)
  gain = max(0.0, values.shape[1] * (before / normal**2 - 1.0) / 2.0)
  return Residuals(max(float(np.mean(np.abs(rest))), float(least)), float(normal), float(gain),
                   len(values))


def word_nats(sentences: Sequence[Sequence[str]]) -> float:
  """The mean nats of a text when each word is told by its frequency alone.

  Args:
    sentences: lists of words.
  """
  counts = {}
  for words in sentences:
    for word in words:
      counts[word] = counts.get(word, 0) + 1
  total = sum(counts.values())
  nats = -sum(n * math.log(n / total) for n in counts.values())
  return nats / max(1, len(sentences))


class Suggestion(NamedTuple):
  """For one modality."""

  weight: float
  residuals: Residuals | None  # of pictures and vectors


def suggest(source: Source, latent_dim: int) -> dict[str, Suggestion]:
  """Likelihood scales and weights to begin with, from the training split: {modality: Suggestion}.

  The scale of a picture or vector is the most likely one for what a linear code of `latent_dim`
  numbers leaves of observations that it was not fitted to. The weight makes what a modality has to
  tell worth the same against the KL, `NATS_PER_DIMENSION * latent_dim` nats: for a picture or
  vector by the nats that the linear code gains over the mean; for a text, of whose words the
  latents explain a part at most, by `SHARE_OF_WORDS` of the nats that its words cost when told by
  their frequencies.

  Raises:
    ValueError: a modality has fewer than 3 distinct observations to train on.
  """
  found = {}
  worth = NATS_PER_DIMENSION * latent_dim
  for name, kind in source.manifest.columns.items():
    if kind.of_files:
      num = source.records(name, "train").num_records
      if num < 3:
        raise ValueError(f"'{name}' has {num} distinct files to train on: expected at least 3 to "
                         "take a scale from")
      left = linear_residuals(_observations(source, name), latent_dim)
      found[name] = Suggestion(worth / left.gain if left.gain > 0 else 1.0, left)
    else:
      nats = word_nats(split_all(texts(source, name)))
      found[name] = Suggestion(worth / (SHARE_OF_WORDS * nats) if nats > 0 else 1.0, None)
  return found


def _observations(source, name):
  """Up to `MAX_ROWS` distinct files of the training split, [N, size], pictures in [0, 1]."""
  records = source.records(name, "train")
  positions = np.random.default_rng(0).permutation(records.num_records)[:MAX_ROWS]
  values = np.concatenate([
    records.read(part)["value"].numpy().reshape([len(part), -1])
    for part in np.array_split(positions, -(-len(positions) // 256))
  ])
  return values / 255.0 if isinstance(source.manifest.columns[name], Picture) else values


def describe(source: Source, lengths: Mapping[str, int], min_count: int = 3) -> list[str]:
  """What the manifest of a `Source` holds: lines of text.

  Args:
    source: `Source`.
    lengths: {modality of texts: L}, words that are read of a text, and the end.
    min_count: words that occur more often than this are in the vocabulary.
  """
  manifest = source.manifest
  used = [*(kind.column or name for name, kind in manifest.columns.items())]
  others = [header for header in manifest.headers if header not in used]
  lines = [f"{manifest.path}: {manifest.num_rows:,} rows in {manifest.groups.max() + 1:,} groups; "
           f"columns {', '.join(used)}; not modalities: {', '.join(others) or 'none'}"]
  splits = {split: manifest.of_split(split) for split in SPLITS}
  width = max(len("rows"), *(len(name) + len(" missing") for name in manifest.columns))
  lines.append(f"{'':{width}}" + "".join(f"{split:>12}" for split in SPLITS))
  lines.append(f"{'rows':{width}}" + "".join(f"{len(rows):>12,}" for rows in splits.values()))
  for name, cells in manifest.cells.items():
    missing = [sum(not cells[i] for i in rows) for rows in splits.values()]
    lines.append(f"{name + ' missing':{width}}" + "".join(f"{n:>12,}" for n in missing))
  if manifest.num_left_out:
    lines.append(f"rows without any of these modalities, left out: {manifest.num_left_out:,}")
  torn = _torn_groups(manifest, splits)
  if torn:
    lines.append(f"groups with rows in more than one split: {torn:,}; what is held out was seen in "
                 "part")
  if manifest.labels is not None:
    known = manifest.labels[manifest.labels >= 0]
    lines.append(f"labels: {len(set(known.tolist())):,} classes, rows without one: "
                 f"{np.sum(manifest.labels < 0):,}")
  for name, kind in manifest.columns.items():
    lines.append(f"{name} ({kind}): " + (
      _files(source, name) if kind.of_files else _words(source, name, lengths[name], min_count)
    ))
  return lines


def _torn_groups(manifest, splits):
  count = np.zeros(manifest.groups.max() + 1, int)
  for rows in splits.values():
    count[np.unique(manifest.groups[rows])] += 1
  return int(np.sum(count > 1))


def _words(source, name, length, min_count):
  sentences = split_all(texts(source, name))
  counts = np.array([len(words) for words in sentences])
  read = np.minimum(counts, length - 1)
  size = len(count_words(texts(source, name), min_count))
  return (f"{counts.mean():.1f} words a text, half have {np.median(counts):.0f}, the longest "
          f"{counts.max()}; the first {length - 1} are read, all of {np.mean(read == counts):.0%} "
          f"of texts; {size:,} words occur more than {min_count} times")


def _files(source, name):
  manifest = source.manifest
  values = _observations(source, name)
  num = f"{len(manifest.files[name]):,} files; "
  if not isinstance(manifest.columns[name], Picture):
    return num + (f"mean {values.mean():.3g}, standard deviation {values.std():.3g}, of single "
                  f"numbers {values.std(axis=0).min():.3g} to {values.std(axis=0).max():.3g}")
  sizes = np.array([picture_size(manifest.file(cell)) for cell in list(manifest.files[name])
                    [:MAX_ROWS]])
  return num + (f"{sizes[:, 0].min()} to {sizes[:, 0].max()} wide, {sizes[:, 1].min()} to "
                f"{sizes[:, 1].max()} high; mean brightness {values.mean():.2f}, standard "
                f"deviation {values.std():.2f}")
