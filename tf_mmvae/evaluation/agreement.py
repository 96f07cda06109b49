"""How often what was generated has the attributes that it should have: coherence."""

import itertools

import numpy as np
import tensorflow as tf

from tf_mmvae.evaluation import translation
from tf_mmvae.evaluation.means import mean_and_error


class Agreement:
  """Share of generated examples whose attributes, as readers see them, agree.

  Cross coherence: for each proper subset of the modalities as sources, each other modality as the
  target, and each attribute that the target's reader knows, from one sample of the sources' joint
  posterior and the decoder's mode, over the examples that have sources and target. Beside it stand
  the reader's share on the true targets (`ceiling`), and the share against the attributes of
  another example (`chance`). With three modalities or more there is also their mean over all
  sources of one number and all targets.

  Joint coherence: one sample of the prior decoded to all modalities counts where all readers that
  know an attribute see the same; `chance` takes each modality from another sample.
  """

  def __init__(self, readers, tokenizers=None, num_examples=1000, num_prior=None, batch_size=100,
               seed=0, groups=None):
    """Sets the readers.

    Args:
      readers: {modality: function (observations) -> {attribute: int [N]}}; an attribute is scored
        where the labels have it.
      tokenizers: {modality: object with `decode`} of those in words; their readers read strings.
      num_examples: how many of the data set's examples, evenly spread.
      num_prior: samples from the prior; None takes as many as examples.
      batch_size: examples decoded at once.
      seed: of the latent samples.
      groups: label whose equal values mark examples that are not independent, for the errors.
    """
    self._readers, self._tokenizers = readers, tokenizers or {}
    self._num_examples, self._num_prior = num_examples, num_prior
    self._batch_size, self._seed, self._groups = batch_size, seed, groups

  def check(self, model):
    """Raises ValueError for readers or tokenizers of modalities that the model does not have."""
    model.check_names(self._readers, "Agreement's readers")
    model.check_names(self._tokenizers, "Agreement's tokenizers")

  def __call__(self, model, dataset):
    """Shares as {figure: (share, standard error, number)}.

    Returns:
      {"image_to_sentence/colour", and "/chance/colour" and "/ceiling/colour" of it, for sources
      "view0+view1" likewise; "from_2/colour" and its chance, over all sources of two modalities;
      "prior/colour" and "prior/chance/colour"}
    """
    num = min(self._num_examples, dataset.num_examples)
    positions = np.linspace(0, dataset.num_examples - 1, num).astype(int)
    translated, true, labels, mask = self._translate(model, dataset.subset(positions))
    present = {name: mask.get(name, np.ones(num, bool)) for name in model.modalities}
    truth = {name: self._read(name, true[name], present[name]) for name in self._readers}
    order = np.random.default_rng(self._seed).permutation(num)
    other = np.roll(order, 1)[np.argsort(order)]  # never the example itself, if there is another
    groups = labels[self._groups] if self._groups else np.arange(num)
    values, of_size = {}, {}
    for (sources, target), observations in translated.items():
      rows = np.logical_and.reduce([present[name] for name in (*sources, target)])
      if not np.any(rows):
        continue
      attributes = [a for a in truth[target] if a in labels and any(
          a in truth.get(source, labels) for source in sources)]
      others = {a: labels[a][other] for a in attributes}
      seen = self._read(target, observations, rows)
      pair = f"{'+'.join(sources)}_to_{target}"
      for kind, found, expected in (
          ("", seen, labels), ("/chance", seen, others), ("/ceiling", truth[target], labels)):
        for attribute in attributes:
          agrees = found[attribute] == expected[attribute]
          values[f"{pair}{kind}/{attribute}"] = mean_and_error(agrees[rows], groups[rows])
          if kind != "/ceiling":
            of_size.setdefault(f"from_{len(sources)}{kind}/{attribute}", []).append(
                np.where(rows, agrees, np.nan))
    if len(model.modalities) > 2:
      for figure, shares in of_size.items():
        count = np.sum(~np.isnan(shares), axis=0)
        mean = np.nansum(shares, axis=0)[count > 0] / count[count > 0]
        values[figure] = mean_and_error(mean, groups[count > 0])
    return {**values, **self._joint(model, labels)}

  def _joint(self, model, labels):
    """Agreement of what is decoded from samples of the prior."""
    num = self._num_prior or self._num_examples
    decode = tf.function(lambda z: translation.decode(model, z, self._readers))
    z = translation.sample_prior(model, num, tf.constant([self._seed, 1], tf.int64))
    decoded, seen = {}, {}
    for first in range(0, num, self._batch_size):
      for name, value in decode(z[first:first + self._batch_size]).items():
        decoded.setdefault(name, []).append(self._shown(name, value))
    for name, observations in decoded.items():  # at once: some readers are slow to begin
      for attribute, read in self._readers[name](np.concatenate(observations)).items():
        seen.setdefault(attribute, []).append(read)
    values = {}
    for attribute, answers in seen.items():
      if attribute in labels and len(answers) > 1:
        apart = [np.roll(answer, m) for m, answer in enumerate(answers)]
        for kind, said in (("", answers), ("/chance", apart)):
          agrees = np.all([answer == said[0] for answer in said], axis=0)
          values[f"prior{kind}/{attribute}"] = mean_and_error(agrees)
    return values

  def _read(self, name, observations, rows):
    """{attribute: int [N]} of the observations in some rows, bool [N]; -1 in the others."""
    if not np.any(rows):
      return {}
    found = {}
    for attribute, values in self._readers[name](observations[rows]).items():
      found[attribute] = np.full(len(rows), -1)
      found[attribute][rows] = values
    return found

  def _translate(self, model, dataset):
    """{(sources, target): observations}, {target: true ones}, labels and masks, each of [N]."""
    @tf.function
    def translate(x, seed):
      z = translation.sample_posterior(model, x, seed)
      return translation.decode(model, z, [t for t in self._readers if t not in x])

    batches = dataset.batches(self._batch_size)
    specs = {m.name: m.spec for m in model.present(batches.element_spec[0])}
    subsets = [sources for size in range(1, max(len(model.modalities), 2))
               for sources in itertools.combinations(specs, size)]
    translators = {
        sources: translate.get_concrete_function(
            {name: specs[name] for name in sources}, tf.TensorSpec([2], tf.int64))
        for sources in subsets}
    translated, true, labels, masks = {}, {}, {}, {}
    for i, (x, y, mask) in enumerate(batches):
      for name, value in mask.items():
        masks.setdefault(name, []).append(value.numpy())
      for target in self._readers:
        true.setdefault(target, []).append(self._shown(target, x[target]))
      for name, value in y.items():
        labels.setdefault(name, []).append(value.numpy())
      seed = tf.constant([self._seed, i], tf.int64)
      for sources, translator in translators.items():
        for target, value in translator({name: x[name] for name in sources}, seed).items():
          translated.setdefault((sources, target), []).append(self._shown(target, value))
    return tuple({k: np.concatenate(v) for k, v in d.items()}
                 for d in (translated, true, labels, masks))

  def _shown(self, target, value):
    if target in self._tokenizers:
      value = self._tokenizers[target].decode(value)
    return np.asarray(value)
