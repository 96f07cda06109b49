"""What each latent dimension moves: effects on every modality, and pictures of traversals."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_mmvae import inference
from tf_mmvae.batch import Dataset
from tf_mmvae.metrics.findings import Findings, Picture, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.metrics.progress import progress
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.views.drawing import draw_strip, draw_table, draw_words
from tf_mmvae.views.panels import as_cells
from tf_mmvae.views.viewers import Viewer

tfd = tfp.distributions

NONE = "none"
_SIGNIFICANT = 3  # standard errors
_NUM_RESAMPLED = 200
_NUM_DECODED = 500  # at once
_TILE = 72  # pixels
_SAID, _TOLD = (30, 14), (60, 13)  # letters of a line and pixels: labels, sentences


class Traversals:
  """Effect of each latent dimension on each modality, and which modalities it moves.

  Two examples a and b are encoded as the means of q(z | x_m), for the modalities m in turn. The
  change of a modality n by dimension d is KL(p(x_n | z_a) || p(x_n | z)) in nats, where z is z_a
  but for z_d, which is that of z_b: exact where TFP knows the formula, else (sentences) from
  samples. The effect is that change, averaged over pairs, as a share of the change by all
  dimensions at once, z = z_b, which makes modalities comparable. A dimension moves the modalities
  where its effect is above `threshold` and its change above 3 standard errors of it.

  Pictures interpolate single dimensions between two examples, as Shi et al. (2019) do.
  """

  title = "Latent factorisation: what each dimension moves"

  def __init__(self, tokenizers: Mapping[str, Any] | None = None,
               viewers: Mapping[str, Viewer] | None = None, num_pairs: int = 200,
               num_samples: int = 4, threshold: float = 0.01, num_drawn: int | None = None,
               num_dimensions: int = 8, num_steps: int = 5, seed: int = 0,
               groups: str | None = None):
    """Sets what is measured and drawn.

    Args:
      tokenizers: {modality: object with `decode`} of those in words.
      viewers: {modality: function as in `viewers`} of those that something else is shown for.
      num_pairs: of examples, none of which is in two pairs; fewer where there are fewer.
      num_samples: for each pair, of a modality whose change has no formula.
      threshold: effect above which a dimension moves a modality.
      num_drawn: pairs that are drawn; None draws one for each modality that encodes.
      num_dimensions: how many are drawn: those of the largest effects, for each set of modalities
        that dimensions move in turn.
      num_steps: of an interpolation, both ends included.
      seed: of pairs and samples.
      groups: label whose equal values mark examples that are not independent: one is taken of each.
    """
    self._tokenizers, self._viewers = tokenizers or {}, viewers or {}
    self._num_pairs, self._num_samples, self._threshold = num_pairs, num_samples, threshold
    self._num_drawn, self._num_dimensions = num_drawn, num_dimensions
    self._num_steps, self._seed, self._groups = num_steps, seed, groups

  def check(self, model: MultimodalVAE) -> None:
    """Raises ValueError for tokenizers or viewers of modalities that the model does not have."""
    model.check_names(self._tokenizers, "Traversals' tokenizers")
    model.check_names(self._viewers, "Traversals' viewers")

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """`Findings`.

    Returns:
      Figures "effect/MODALITY/D" of each dimension D, a share; "change/MODALITY" by all dimensions,
      in nats; and "num/SET", the number of dimensions that move the modalities of a set and no
      others, such as "num/none", "num/image" and "num/image+sentence".
    """
    encoded_by, a, b = self._pairs(model, dataset)
    if not len(a):
      return Findings({}, remarks=("Traversals go from one example to another: there are no two.",))
    changes = self._changes(model, a, b)  # {modality: [P, D + 1]}
    figures = {f"change/{name}": mean_and_error(nats[:, -1]) for name, nats in changes.items()}
    for name, nats in changes.items():
      for d in range(model.latent_dim):
        figures[f"effect/{name}/{d}"] = _share_and_error(nats[:, d], nats[:, -1])
    stacked = np.stack(list(changes.values()), axis=1)  # [P, M, D + 1]
    names, moved = list(changes), _moves(stacked, self._threshold)
    figures.update(self._counts(names, moved, stacked))
    effects = np.nan_to_num(_effects(stacked))  # [M, D]
    chosen = self._chosen(moved, effects)
    labels = {d: _label(names, moved[:, d]) for d in chosen}
    still = [name for name in names if not figures[f"change/{name}"][0] > 0]
    return Findings(
        figures, self._tables(names, figures, chosen, labels),
        self._pictures(model, self._shown(encoded_by, stacked[..., chosen]), a, b, chosen, labels,
                       figures),
        remarks=tuple(f"What is decoded of {name} does not depend on z." for name in still))

  def _pairs(self, model, dataset):
    """[P] modalities that encode, and the encodings a and b [P, D] of pairs of examples."""
    encode = tf.function(lambda x: {
        m.name: model.posterior({m.name: x[m.name]}).mean() for m in model.present(x)})
    dataset = dataset.spread(2 * self._num_pairs)
    num, batches = dataset.num_examples, dataset.batches(100)
    encode = encode.get_concrete_function(batches.element_spec.x)
    means, has, groups = {}, {}, []
    for batch in batches:
      for name, mean in encode(batch.x).items():
        means.setdefault(name, []).append(mean.numpy())
        has.setdefault(name, []).append(batch.present(name).numpy())
      groups += list(batch.y[self._groups].numpy()) if self._groups else []
    means, has = ({name: np.concatenate(v) for name, v in d.items()} for d in (means, has))
    alone = np.unique(groups, return_index=True)[1] if groups else np.arange(num)
    order = np.random.default_rng(self._seed).permutation(alone)
    pairs, names = [], list(means)
    for i, (one, other) in enumerate(zip(order[::2], order[1::2], strict=False)):
      turn = i % len(names)
      both = [name for name in names[turn:] + names[:turn] if has[name][one] and has[name][other]]
      pairs += [(name, means[name][one], means[name][other]) for name in both[:1]]
    encoded_by, a, b = zip(*pairs, strict=True) if pairs else ((), (), ())
    return encoded_by, np.array(a), np.array(b)

  def _changes(self, model, a, b):
    """{modality: nats float64 [P, D + 1]}, by each dimension and by all of them."""
    dim = model.latent_dim

    @tf.function
    def change(a, b, seed):
      swaps = tf.concat([tf.eye(dim, dtype=tf.bool), tf.fill([1, dim], True)], axis=0)
      z = tf.where(swaps[:, tf.newaxis], b, a)  # [D + 1, B, D]
      return {name: _divergence(model.likelihood(name, a), model.likelihood(name, z),
                                self._num_samples, seed) for name in model.modalities}

    spec = tf.TensorSpec([None, dim])
    change = change.get_concrete_function(spec, spec, tf.TensorSpec([2], tf.int32))
    size, found = max(1, _NUM_DECODED // (dim + 1)), {}
    for first in progress(range(0, len(a), size), "effects of latent dimensions"):
      rows = slice(first, first + size)
      seed = tf.constant([self._seed, first])
      for name, nats in change(tf.constant(a[rows]), tf.constant(b[rows]), seed).items():
        found.setdefault(name, []).append(nats.numpy().T.astype(np.float64))
    return {name: np.concatenate(nats) for name, nats in found.items()}

  def _counts(self, names, moved, changes):
    """{"num/SET": (number of dimensions, bootstrap's standard error, number of pairs)}."""
    rng, num_pairs = np.random.default_rng(self._seed), len(changes)
    resampled = [_moves(changes[rng.integers(num_pairs, size=num_pairs)], self._threshold)
                 for _ in range(_NUM_RESAMPLED)] if num_pairs > 1 else []
    figures = {}
    for movers in itertools.product([False, True], repeat=len(names)):
      def count(of_dimensions, movers=movers):
        return np.sum(np.all(of_dimensions == np.array(movers)[:, np.newaxis], axis=0))

      if count(moved) or sum(movers) in (0, 1, len(names)):
        error = np.std([count(r) for r in resampled], ddof=1) if resampled else float("nan")
        figures[f"num/{_label(names, movers)}"] = float(count(moved)), float(error), num_pairs
    return figures

  def _chosen(self, moved, effects):
    """The strongest dimensions of each set of modalities in turn, those that move none last."""
    strength = effects.max(0)
    of_set = {}
    for d in np.argsort(-strength, kind="stable"):
      of_set.setdefault(tuple(moved[:, d]), []).append(int(d))
    still = of_set.pop((False,) * len(moved), [])
    chosen = [*_in_turn(of_set.values()), *still][:self._num_dimensions]
    return sorted(chosen, key=lambda d: (
        not any(moved[:, d]), sum(moved[:, d]), *~moved[:, d], -strength[d]))

  def _tables(self, names, figures, chosen, labels):
    counts = {f.removeprefix("num/"): [f] for f in figures if f.startswith("num/")}
    strongest = {f"{d}: {labels[d]}": [f"effect/{name}/{d}" for name in names] for d in chosen}
    return (
        Table("Latent dimensions by what they move", ["dimensions"], counts, about=(
            "A dimension moves a modality where the change of what is decoded is above "
            f"{self._threshold:.0%} of that by all dimensions, and above {_SIGNIFICANT} standard "
            "errors of itself.")),
        Table("Strongest latent dimensions", names, strongest, "%", (
            "Effect of putting the value of another example into one dimension: change of what is "
            "decoded, as the share of the change by all dimensions at once.")))

  def _shown(self, encoded_by, changes):
    """Pairs to draw, [(which, encoded by)]: the encoders in turn, of each those where most of the
    dimensions change as much as on average."""
    mean = changes.mean(0)
    typical = np.minimum(changes / np.where(mean > 0, mean, np.inf), 1).mean((1, 2))  # [P]
    order = sorted(range(len(typical)), key=lambda pair: -typical[pair])
    of_encoder = [[(p, name) for p in order if encoded_by[p] == name]
                  for name in dict.fromkeys(encoded_by)]
    return _in_turn(of_encoder)[:self._num_drawn or len(of_encoder)]

  def _pictures(self, model, pairs, a, b, chosen, labels, figures):
    """A `Picture` for each of some pairs: a row a dimension, a strip a modality."""
    dim = model.latent_dim
    rows = np.stack([np.ones(dim), *np.eye(dim)[chosen]])  # all at once, then one by one
    steps = np.linspace(0, 1, self._num_steps)[:, np.newaxis]
    decode = tf.function(lambda z: inference.decode(model, z))
    said = [draw_words("all dimensions", *_SAID)] + [draw_words("\n".join(
        [f"dimension {d}", f"moves {labels[d].replace('+', ' + ')}"]
        + [f"{name}: {100 * share:.1f} ± {100 * error:.1f} %" for name in model.modalities
           for share, error, _ in [figures[f"effect/{name}/{d}"]]]), *_SAID) for d in chosen]
    pictures = []
    for i, (pair, name) in enumerate(pairs):
      z = a[pair] + steps * rows[:, np.newaxis] * (b[pair] - a[pair])  # [rows, steps, D]
      strips = {target: [_strip(as_cells(
          of_row, self._tokenizers.get(target), self._viewers.get(target))) for of_row in x]
                for target, x in decode(tf.constant(z, tf.float32)).items()}
      pictures.append(Picture(
          f"Traversals, pair {i + 1}", draw_table({"moved": said, **strips}),
          f"From one example (left) to another (right), both encoded by {name}: first all "
          "dimensions move, then one of them, and the others stay at those of the first example. "
          "Sentences are numbered by the step where they change. Per cents are effects and their "
          f"standard errors over all {len(a)} pairs; the one drawn is one in which most of these "
          "dimensions change."))
    return tuple(pictures)


def _divergence(p, q, num_samples, seed):
  """KL(p || q) in nats; p of batch [B], q of batch [N, B]. -> [N, B]."""
  try:
    return tfd.kl_divergence(p, q)
  except NotImplementedError:
    x = p.sample(num_samples, seed=seed)  # [num_samples, B, ...]
    log_p = p.log_prob(x)  # [num_samples, B]
    return tf.add_n([log_p[i] - q.log_prob(x[i]) for i in range(num_samples)]) / num_samples


def _effects(changes):
  """Shares [M, D] of changes [P, M, D + 1]; NaN where nothing changes."""
  mean = changes.mean(0)
  return mean[:, :-1] / np.where(mean[:, -1:] > 0, mean[:, -1:], np.nan)


def _moves(changes, threshold):
  """Whether dimensions move modalities: bool [M, D] of changes [P, M, D + 1]."""
  if len(changes) < 2:
    return np.zeros([changes.shape[1], changes.shape[2] - 1], bool)
  of_one = changes[..., :-1]
  error = of_one.std(0, ddof=1) / np.sqrt(len(changes))
  return (_effects(changes) > threshold) & (of_one.mean(0) > _SIGNIFICANT * error)


def _share_and_error(part, whole):
  """(ratio of means, standard error, number) of changes [P]; the error is that of a linearised
  ratio (the delta method)."""
  if not whole.mean() > 0:
    return float("nan"), float("nan"), len(whole)
  share = part.mean() / whole.mean()
  _, error, num = mean_and_error((part - share * whole) / whole.mean())
  return float(share), error, num


def _in_turn(lists):
  """[[a1, a2], [b1]] -> [a1, b1, a2]."""
  return [one for turn in itertools.zip_longest(*lists) for one in turn if one is not None]


def _label(names, moved):
  return "+".join(itertools.compress(names, moved)) or NONE


def _strip(cells):
  """A cell of `draw_table` for the steps of an interpolation; words where they change."""
  if not isinstance(cells[0], str):
    return draw_strip(cells, _TILE)
  return draw_words("\n".join(f"{i + 1}. {said}" for i, said in enumerate(cells)
                              if i == 0 or said != cells[i - 1]), *_TOLD)
