"""How often what was generated has the attributes that it should have: coherence."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_mmvae.batch import Dataset
from tf_mmvae.metrics import generated
from tf_mmvae.metrics.densities import PriorSource, Source
from tf_mmvae.metrics.findings import Findings, Table
from tf_mmvae.metrics.means import mean_and_error
from tf_mmvae.model import MultimodalVAE

Reader = Callable[[np.ndarray], Mapping[str, np.ndarray]]  # observations -> {attribute: int [N]}

SURE = 0.95  # a reader that is right less often on true data is noted beside its figures


class Agreement:
  """Share of generated examples whose attributes, as readers see them, agree.

  Cross coherence: for each proper subset of the modalities as sources, each other modality as the
  target, and each attribute that the target's reader knows, from one sample of the sources' joint
  posterior and the decoder's mode, over the examples that have sources and target: of all, of each
  class (value of the attribute), and the mean over classes (`macro`). Beside it stand the reader's
  share on the true targets (`ceiling`), and the share against the attributes of another example
  (`chance`). With three modalities or more there is also their mean over all sources of one number
  and all targets.

  Joint coherence: one latent sample decoded to all modalities counts where all readers that know an
  attribute see the same; `chance` takes each modality from another sample. Samples are of the
  prior, and of whatever else `sources` names.
  """

  title = "Cross and joint generation: coherence"

  def __init__(self, readers: Mapping[str, Reader], tokenizers: Mapping[str, Any] | None = None,
               num_examples: int | None = None, num_prior: int | None = None, batch_size: int = 100,
               seed: int = 0, groups: str | None = None,
               sources: Mapping[str, Source] | None = None):
    """Sets the readers.

    Args:
      readers: {modality: function (observations) -> {attribute: int [N]}}; an attribute is scored
        where the labels have it.
      tokenizers: {modality: object with `decode`} of those in words; their readers read strings.
      num_examples: how many of the data set's examples, evenly spread; None takes all.
      num_prior: samples from the prior and other sources; None takes `num_examples`, or 1000.
      batch_size: examples decoded at once.
      seed: of the latent samples.
      groups: label whose equal values mark examples that are not independent, for the errors.
      sources: {name: object with `sample(model, num, seed) -> z [num, D]`}, see `densities`; None
        is the prior alone.
    """
    self._readers, self._tokenizers = readers, tokenizers or {}
    self._num_examples, self._num_prior = num_examples, num_prior
    self._batch_size, self._seed, self._groups = batch_size, seed, groups
    self._sources = sources or {"prior": PriorSource()}

  def check(self, model: MultimodalVAE) -> None:
    """Raises ValueError for readers or tokenizers of modalities that the model does not have."""
    model.check_names(self._readers, "Agreement's readers")
    model.check_names(self._tokenizers, "Agreement's tokenizers")

  def __call__(self, model: MultimodalVAE, dataset: Dataset) -> Findings:
    """Shares as `Findings`.

    Figures are "image_to_sentence/colour", and of it "/chance/colour", "/ceiling/colour",
    "/macro/colour" and "/class_3/colour", for sources "view0+view1" likewise; "from_2/colour" and
    its chance, over all sources of two modalities; "judge/image/colour", how often a reader is
    right on true data; "prior/colour" and "prior/chance/colour", and of other `sources` likewise.
    """
    dataset = dataset.spread(self._num_examples)
    num = dataset.num_examples
    translated, true, labels, present = self._translate(model, dataset)
    truth = {name: self._read(name, true[name], present[name]) for name in self._readers}
    order = np.random.default_rng(self._seed).permutation(num)
    other = np.roll(order, 1)[np.argsort(order)]  # never the example itself, if there is another
    groups = labels[self._groups] if self._groups else np.arange(num)
    figures, of_size, pairs = {}, {}, []
    for (sources, target), observations in translated.items():
      rows = np.logical_and.reduce([present[name] for name in (*sources, target)])
      if not np.any(rows):
        continue
      attributes = [a for a in truth[target] if a in labels and any(
          a in truth.get(source, labels) for source in sources)]
      others = {a: labels[a][other] for a in attributes}
      seen = self._read(target, observations, rows)
      pair = f"{'+'.join(sources)}_to_{target}"
      pairs += [(pair, target, attribute) for attribute in attributes]
      for kind, found, expected in (
          ("", seen, labels), ("/chance", seen, others), ("/ceiling", truth[target], labels)):
        for attribute in attributes:
          agrees = found[attribute] == expected[attribute]
          figures[f"{pair}{kind}/{attribute}"] = mean_and_error(agrees[rows], groups[rows])
          if not kind:
            figures.update(_of_classes(
                pair, attribute, agrees[rows], labels[attribute][rows], groups[rows]))
          if kind != "/ceiling":
            of_size.setdefault(f"from_{len(sources)}{kind}/{attribute}", []).append(
                np.where(rows, agrees, np.nan))
    if len(model.modalities) > 2:
      for figure, shares in of_size.items():
        count = np.sum(~np.isnan(shares), axis=0)
        mean = np.nansum(shares, axis=0)[count > 0] / count[count > 0]
        figures[figure] = mean_and_error(mean, groups[count > 0])
    for name, found in truth.items():
      for attribute in found.keys() & labels.keys():
        right = (found[attribute] == labels[attribute])[present[name]]
        figures[f"judge/{name}/{attribute}"] = mean_and_error(right, groups[present[name]])
    joint = self._joint(model, labels)
    return self._findings({**figures, **joint}, pairs, list(model.modalities))

  def _findings(self, figures, pairs, modalities):
    """`Findings` of the figures. pairs: [(pair, target, attribute)]."""
    unsure = {}  # {(modality, attribute): note}
    for figure, (share, _, _) in figures.items():
      if figure.startswith("judge/") and not share >= SURE:
        _, name, attribute = figure.split("/", 2)
        unsure[name, attribute] = (f"the judge of '{name}' is right on {100 * share:.1f} % of true "
                                   f"data alone ({attribute})")
    notes, targets = {}, {pair: target for pair, target, _ in pairs}
    for figure in figures:
      first, *_, attribute = figure.split("/")
      of = [targets[first]] if first in targets else list(self._readers)
      said = [unsure[name, attribute] for name in of if (name, attribute) in unsure]
      if said and not figure.startswith("judge/") and "/ceiling/" not in figure:
        notes[figure] = "; ".join(said)
    remarks = [f"No reader tells attributes of '{name}': what is translated to it is not judged."
               for name in modalities if name not in self._readers]
    if not pairs:
      remarks.append("No reader tells an attribute that the data set's labels have.")
    return Findings(figures, tuple(self._tables(figures, pairs)), notes=notes,
                    remarks=tuple(remarks))

  def _tables(self, figures, pairs):
    def row(*names):
      return [name if name in figures else None for name in names]

    def said(pair, attribute):
      return f"{pair.replace('_to_', ' to ')}: {attribute}"

    sizes = sorted(name for name in figures if name.startswith("from_") and "/chance/" not in name)
    if sizes:
      yield Table(
          "Right attributes, by the number of modalities that are given", ["agreement", "chance"],
          {name.replace("/", ": ").replace("_", " "): row(name, name.replace("/", "/chance/"))
           for name in sizes}, "%", "Means over all sources of that number and all targets.",
          {"agreement": "high"})
    if pairs:
      yield Table(
          "Cross generation: right attributes",
          ["agreement", "mean over classes", "chance", "judge"],
          {said(pair, a): row(f"{pair}/{a}", f"{pair}/macro/{a}", f"{pair}/chance/{a}",
                              f"{pair}/ceiling/{a}") for pair, _, a in pairs}, "%",
          "How often a reader sees the right attribute in what was made of the sources, from one "
          "latent sample each; chance is its agreement with another example, and judge that of "
          "true observations, which is all that can be reached.",
          {"agreement": "high", "mean over classes": "high"}, detail=len(pairs) > 40)
    joint = {f"{source}: {a}": row(f"{source}/{a}", f"{source}/chance/{a}")
             for source in self._sources for a in dict.fromkeys(
                 name.rsplit("/", 1)[-1] for name in figures) if f"{source}/{a}" in figures}
    if joint:
      yield Table(
          "Joint generation: modalities that agree", ["agreement", "chance"], joint, "%",
          "One latent sample decoded to every modality: how often all readers see the same. "
          "Samples are of the prior, and of a density fitted to the posteriors of training "
          "examples where there is one; chance takes each modality from another sample.",
          {"agreement": "high"})
    for attribute in dict.fromkeys(a for _, _, a in pairs):
      classes = sorted({int(name.split("class_")[1].split("/")[0]) for name in figures
                        if "/class_" in name and name.endswith(f"/{attribute}")})
      yield Table(
          f"Cross generation by class: {attribute}", [str(c) for c in classes],
          {pair.replace("_to_", " to "): row(*(f"{pair}/class_{c}/{attribute}" for c in classes))
           for pair, _, a in pairs if a == attribute}, "%",
          "Of the examples of each class.", detail=True)

  def _joint(self, model, labels):
    """Agreement of what is decoded from samples of the prior and of other sources."""
    values = {}
    num = self._num_prior or self._num_examples or 1000
    for source, density in self._sources.items():
      decoded, seen = {}, {}
      for made in generated.decoded(
          model, density, num, list(self._readers), self._batch_size, self._seed):
        for name, value in made.items():
          decoded.setdefault(name, []).append(self._shown(name, value))
      for name, observations in decoded.items():  # at once: some readers are slow to begin
        for attribute, read in self._readers[name](np.concatenate(observations)).items():
          seen.setdefault(attribute, []).append(read)
      for attribute, answers in seen.items():
        if attribute in labels and len(answers) > 1:
          apart = [np.roll(answer, m) for m, answer in enumerate(answers)]
          for kind, said in (("", answers), ("/chance", apart)):
            agrees = np.all([answer == said[0] for answer in said], axis=0)
            values[f"{source}{kind}/{attribute}"] = mean_and_error(agrees)
    return values

  def _read(self, name, observations, rows):
    """{attribute: int [N]} of the observations in some rows, bool [N]; -1 in the others."""
    if not np.any(rows):
      return {}
    found = {}
    for attribute, values in self._readers[name](observations[rows]).items():
      if len(values) != np.sum(rows):
        raise ValueError(f"the reader of '{name}' told {len(values)} values of '{attribute}' for "
                         f"{np.sum(rows)} observations: expected one for each")
      found[attribute] = np.full(len(rows), -1)
      found[attribute][rows] = values
    return found

  def _translate(self, model, dataset):
    """{(sources, target): observations}, {target: true ones}, labels, and which examples have
    each modality; all of [N]."""
    names = [m.name for m in model.present(dataset.batches(1).element_spec.x)]
    pairs = [(sources, target) for size in range(1, len(names))
             for sources in itertools.combinations(names, size)
             for target in self._readers if target not in sources]
    translated, true, labels, present = {}, {}, {}, {}
    for batch, made in generated.translated(
        model, dataset, pairs, self._batch_size, self._seed):
      for name in names:
        present.setdefault(name, []).append(batch.present(name).numpy())
      for target in self._readers:
        true.setdefault(target, []).append(self._shown(target, batch.x[target]))
      for name, value in batch.y.items():
        labels.setdefault(name, []).append(value.numpy())
      for pair, value in made.items():
        translated.setdefault(pair, []).append(self._shown(pair[1], value))
    return tuple({k: np.concatenate(v) for k, v in d.items()}
                 for d in (translated, true, labels, present))

  def _shown(self, target, value):
    if target in self._tokenizers:
      value = self._tokenizers[target].decode(value)
    return np.asarray(value)


def _of_classes(pair, attribute, agrees, classes, groups):
  """Figures of each class, and of the mean over classes. agrees, classes, groups: [N]."""
  found = {}
  for c in np.unique(classes):
    of_class = classes == c
    found[f"{pair}/class_{c}/{attribute}"] = mean_and_error(agrees[of_class], groups[of_class])
  shares, errors, _ = np.array(list(found.values())).T
  macro = shares.mean(), np.sqrt(np.sum(errors**2)) / len(shares), len(agrees)
  return {**found, f"{pair}/macro/{attribute}": macro}
