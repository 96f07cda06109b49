"""How much pictures that a model makes are like true ones: Frechet distance and SSIM."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.linalg
import tensorflow as tf

from tf_mmvae.batch import Dataset
from tf_mmvae.metrics import generated
from tf_mmvae.metrics.densities import Source
from tf_mmvae.metrics.findings import Findings, Picture, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.views.drawing import draw_table

_WINDOW = 11  # pixels, of SSIM
_SHOWN = 6  # pictures of a kind


class PictureQuality:
  """Frechet distance of made to true pictures, and SSIM to those that they should be.

  Made are reconstructions, translations from each other modality and, of three and more, from all
  others, by one sample of the sources' joint posterior, and what is decoded from samples of each
  source of z; always in the decoder's mode.

  The Frechet distance (Heusel et al. 2017, there of Inception's features) is that of two Gaussians
  with the means and covariances of the features. The examples, or groups of them, are halved: the
  true pictures of one half are compared with what is made of the other, with as many samples, and
  with the other's true pictures, which shows how low the distance can be. It falls with the number
  of pictures, so it compares at equal numbers and equal features alone. Its error is that of a
  bootstrap of both halves, over groups; what it is too high by is no part of that.

  SSIM (Wang et al. 2004) is 1 for equal pictures; `chance` is that of a translation with the true
  picture of another example. Its window is 11 pixels, or less for smaller pictures.
  """

  def __init__(self, modality: str, features: Callable[[np.ndarray], np.ndarray] | None,
               sources: Mapping[str, Source], about: str = "features",
               num_examples: int | None = 5000, num_bootstraps: int = 20, batch_size: int = 100,
               seed: int = 0, groups: str | None = None):
    """Sets what is measured.

    Args:
      modality: the pictures, float [H, W, C] in [0, 1], or vectors [N], which have no SSIM.
      features: function (pictures [N, ...]) -> float [N, F], such as a judge's; None for
        observations that are features themselves.
      sources: {name: object with `sample(model, num, seed)`} of samples of z; see `densities`.
      about: what the features are, in words.
      num_examples: how many of the data set's examples, drawn at random; None takes all.
      num_bootstraps: resamplings for the errors of distances.
      batch_size: pictures made at once.
      seed: of the latent samples and resamplings.
      groups: label whose equal values mark examples that are not independent, for the errors.
    """
    self.title = f"Quality of what is made of '{modality}'"
    self._modality, self._sources, self._about = modality, sources, about
    self._features = features or (lambda observations: observations)
    self._num_examples, self._num_bootstraps = num_examples, num_bootstraps
    self._batch_size, self._seed, self._groups = batch_size, seed, groups

  def check(self, model: MultimodalVAE) -> None:
    """Raises ValueError for a modality that the model lacks, or that is no picture or vector."""
    model.check_names([self._modality], "PictureQuality")
    spec = model.modalities[self._modality].spec
    if not spec.dtype.is_floating or spec.shape.rank not in (2, 4):
      raise ValueError(f"PictureQuality: expected pictures or vectors, but '{self._modality}' is "
                       f"{spec.dtype.name} {list(spec.shape[1:])}: name another modality")

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """Distances and similarities.

    Returns:
      `Findings` of "KIND/frechet" and "KIND/ssim", with KIND "reconstruction", "from_SOURCE",
      "from_all_others" or the name of a source of z; "true/frechet", the least to expect,
      and "chance/KIND/ssim".
    """
    # In random order, so that a neighbour is another example.
    order = np.random.default_rng(self._seed).permutation(dataset.num_examples)
    dataset = dataset.subset(order[:self._num_examples])
    kinds = self._kinds(model, dataset)
    values, shown = self._translated(model, dataset, kinds)
    if not np.any(values["true/rows"]):
      return Findings({}, remarks=(f"No example has '{self._modality}'.",))
    figures = self._similarities(values, kinds)
    groups, features = values["groups"], values["true/features"]
    true, other = self._halves(groups, values["true/rows"])
    made = {kind: (values[f"{kind}/features"], other & values[f"{kind}/rows"]) for kind in kinds}
    if not np.any(true & other):
      made["true"] = features, other
    rng = np.random.default_rng(self._seed)
    for kind, (of_kind, rows) in made.items():
      if np.any(rows):
        figures[f"{kind}/frechet"] = self._distance(
            features[true], of_kind[rows], groups[true], groups[rows], rng)
    for name, source in self._sources.items():
      samples, shown[f"sample_of_{name}"] = self._decoded(model, source, np.sum(other))
      figures[f"{name}/frechet"] = self._distance(
          features[true], samples, groups[true], np.arange(len(samples)), rng)
    return Findings(figures, self._tables(figures), self._pictures(shown))

  def _kinds(self, model, dataset):
    """{kind: sources} of what is made of data: from itself, from each other, from all others."""
    names = [m.name for m in model.present(dataset.batches(1).element_spec.x)]
    others = [name for name in names if name != self._modality]
    kinds = {"reconstruction": (self._modality,), **{f"from_{name}": (name,) for name in others}}
    if len(others) > 1:
      kinds["from_all_others"] = tuple(others)
    return kinds

  def _translated(self, model, dataset, kinds):
    """Features, similarities and rows that count, {name: [N, ...]}; and pictures to show."""
    values, shown = {}, {}
    pairs = [(sources, self._modality) for sources in kinds.values()]
    for batch, made in generated.translated(
        model, dataset, pairs, self._batch_size, self._seed):
      true = batch.x[self._modality].numpy()
      here = {name: batch.present(name).numpy() for name in batch.x}
      is_true = here[self._modality]
      groups = (batch.y[self._groups].numpy() if self._groups else
                np.arange(len(true)) + self._batch_size * len(values.get("groups", ())))
      of_batch = {"groups": groups, "true/rows": is_true, "true/features": self._features(true)}
      other = is_true & np.roll(is_true, 1) & (groups != np.roll(groups, 1))
      for kind, sources in kinds.items():
        pictures = made[sources, self._modality].numpy()
        rows = np.logical_and.reduce([is_true, *(here[name] for name in sources)])
        of_batch[f"{kind}/rows"], of_batch[f"chance/{kind}/rows"] = rows, rows & other
        of_batch[f"{kind}/features"] = self._features(pictures)
        if true.ndim == 4:
          of_batch[f"{kind}/ssim"] = similarity(pictures, true)
          of_batch[f"chance/{kind}/ssim"] = similarity(pictures, np.roll(true, 1, axis=0))
        shown.setdefault(kind, [
            picture if row else None for picture, row in zip(pictures, rows, strict=True)])
      shown.setdefault("true", [
          picture if row else None for picture, row in zip(true, is_true, strict=True)])
      for name, value in of_batch.items():
        values.setdefault(name, []).append(value)
    return {name: np.concatenate(value) for name, value in values.items()}, shown

  def _decoded(self, model, source, num):
    """Features [num, F] of what is decoded from samples of z, and the first pictures."""
    features, shown = [], []
    for batch in generated.decoded(
        model, source, num, [self._modality], self._batch_size, self._seed):
      pictures = batch[self._modality].numpy()
      features.append(self._features(pictures))
      shown += list(pictures[:_SHOWN - len(shown)])
    return np.concatenate(features), shown

  def _similarities(self, values, kinds):
    """{figure: (mean SSIM, standard error, number)} of vectors none."""
    figures = {}
    for kind in (*kinds, *(f"chance/{kind}" for kind in kinds)):
      rows = values[f"{kind}/rows"]
      if f"{kind}/ssim" in values and np.any(rows):
        figures[f"{kind}/ssim"] = mean_and_error(
            values[f"{kind}/ssim"][rows], values["groups"][rows])
    return figures

  def _distance(self, true, made, groups, groups_of_made, rng):
    """(distance, standard error by bootstrap, number of what is made)."""
    distances = []
    for _ in range(self._num_bootstraps if len(np.unique(groups)) > 1 else 0):
      rows, rows_of_made = _resampled(groups, rng), _resampled(groups_of_made, rng)
      distances.append(frechet_distance(true[rows], made[rows_of_made]))
    error = np.std(distances, ddof=1) if len(distances) > 1 else float("nan")
    return frechet_distance(true, made), float(error), len(made)

  def _halves(self, groups, rows):
    """Two halves of the rows by their groups, bool [N] each; of a single group, all twice."""
    unique = np.random.default_rng(self._seed).permutation(np.unique(groups[rows]))
    if len(unique) < 2:
      return rows, rows
    first = np.isin(groups, unique[:len(unique) // 2])
    return rows & first, rows & ~first

  def _tables(self, figures):
    """Distances and similarities, a row a kind."""
    kinds = [name.removesuffix("/frechet") for name in figures if name.endswith("/frechet")]
    rows = {kind.replace("_", " "): [f"{kind}/frechet"] + [
        name if name in figures else None for name in (f"{kind}/ssim", f"chance/{kind}/ssim")]
            for kind in sorted(kinds, key=lambda kind: kind == "true")}
    if "true" in rows:
      rows["true pictures"] = rows.pop("true")
    return (Table(
        f"Quality of '{self._modality}'", ["Frechet distance", "SSIM", "SSIM by chance"], rows,
        about=f"Frechet distance of {self._about} to true pictures of other examples: lower is "
              "better, and that of true pictures is as low as it gets. It falls with the number of "
              "pictures, and compares at equal numbers and features alone. SSIM with the true "
              "picture: 1 is best, and chance is that with another example's.",
        better={"Frechet distance": "low", "SSIM": "high"}),)

  def _pictures(self, shown):
    """Some of what the figures are of; of vectors, nothing."""
    cells = next(iter(shown.values()))
    if not any(cell is not None and cell.ndim == 3 for cell in cells):
      return ()
    columns = {"true": shown.pop("true"), **shown}
    num = min(_SHOWN, *map(len, columns.values()))
    columns = {title.replace("_", " "): column[:num] for title, column in columns.items()}
    return (Picture(
        f"Pictures of '{self._modality}'", draw_table(columns, ["true"]),
        "A row an example: the true picture, and what is made of it and of its other modalities. "
        f"Samples of {' and '.join(self._sources)} belong to no example."),)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
  """Of two Gaussians with the means and covariances of a [N, F] and b [N', F].

  |mean - mean'|^2 + tr(C + C' - 2 (C C')^(1/2)) (Dowson and Landau 1982). The trace of the root is
  the sum of the singular values of R R'^T where C = R^T R and C' = R'^T R', which needs no root of
  a singular matrix, as C is where N <= F. A single row has no covariance: it counts as 0.
  """
  roots, means = [], []
  for features in (a, b):
    features = np.asarray(features, np.float64).reshape([len(features), -1])
    means.append(features.mean(0))
    centred = (features - means[-1]) / np.sqrt(max(len(features) - 1, 1))
    roots.append(np.linalg.qr(centred, "r"))
  variances = sum(np.sum(root**2) for root in roots)
  root = np.sum(scipy.linalg.svdvals(roots[0] @ roots[1].T))
  return float(max(np.sum((means[0] - means[1])**2) + variances - 2 * root, 0.))


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """SSIM of pictures [N, H, W, C] in [0, 1] with others, [N]."""
  return tf.image.ssim(tf.constant(a), tf.constant(b), 1.,
                       filter_size=min(_WINDOW, *a.shape[1:3])).numpy()


class KerasFeatures:
  """Features of a network of `keras.applications`, for pictures of any size and grey ones."""

  def __init__(self, extractor: Any):
    """`extractor`: object with `size`, function ([N, size, size, 3] in [0, 255]) -> [N, F]."""
    self._extractor = extractor

  def __call__(self, pictures: np.ndarray) -> np.ndarray:
    """float [N, H, W, C] in [0, 1], C 1 or 3 -> float [N, F]."""
    size = [self._extractor.size] * 2
    pictures = tf.image.resize(tf.clip_by_value(pictures, 0., 1.), size, antialias=True) * 255.
    return self._extractor(np.repeat(pictures, 3 // pictures.shape[-1], axis=-1))


def _resampled(groups, rng):
  """Rows of as many groups as there are, drawn with replacement."""
  _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
  members = np.split(np.argsort(index, kind="stable"), np.cumsum(counts)[:-1])
  return np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
