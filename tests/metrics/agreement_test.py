"""Agreement of models whose translations are known: perfect, useless, and in between."""

import numpy as np
import pytest
import tensorflow as tf

from tests.small import Copy, Say
from tf_mmvae import distributions
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics.agreement import Agreement
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior

NUM = 1200
COLOURS = np.random.default_rng(0).integers(0, 4, NUM)
SIZES = np.random.default_rng(1).integers(0, 2, NUM)
WORDS = ["red", "green", "blue", "black"]


class Words:
  """A stub tokenizer of rows (colour, size)."""

  def decode(self, values):
    return tf.gather(WORDS, tf.cast(tf.round(values[:, 0]), tf.int32) % 4)


def model(names=("image", "sentence"), useless=False):
  return MultimodalVAE(
      [Modality(name, (2,), Copy(), Say(useless), distributions.normal_likelihood,
                distributions.normal) for name in names], Prior(2))


def examples(colours=COLOURS, sizes=SIZES, names=("image", "sentence"), labels=("colour", "size")):
  rows = tf.constant(np.stack([colours, sizes], -1), tf.float32)
  values = {"colour": tf.constant(colours), "size": tf.constant(sizes)}
  return Examples("stub", len(colours), lambda i: (
      {name: tf.gather(rows, i) for name in names}, {a: tf.gather(values[a], i) for a in labels}))


def see(pictures):
  colour, size = np.round(pictures).astype(int).T
  return {"colour": colour % 4, "size": size}


def read(texts):
  return {"colour": np.array([WORDS.index(text.decode()) for text in texts])}


READERS, TOKENIZERS = {"image": see, "sentence": read}, {"sentence": Words()}


def found(net, data, **settings):
  settings = {"readers": READERS, "tokenizers": TOKENIZERS, "num_examples": NUM, **settings}
  return Agreement(**settings)(net, data)


def agreement(**settings):
  """The figures alone."""
  return lambda net, data: found(net, data, **settings).figures


def standard_error(share, num=NUM):
  """Of the mean of `num` zeros and ones of which `share` are ones, by the definition."""
  ones = round(share * num)
  values = np.array([1.] * ones + [0.] * (num - ones))
  return np.sqrt(np.sum((values - values.mean())**2) / (num - 1) / num)


@pytest.fixture(scope="module")
def perfect():
  return agreement()(model(), examples())


def test_perfect_model(perfect):
  for pair in ("image_to_sentence", "sentence_to_image"):
    assert perfect[f"{pair}/colour"] == (1., 0., NUM)
    assert perfect[f"{pair}/ceiling/colour"] == (1., 0., NUM)
    share, error, num = perfect[f"{pair}/chance/colour"]
    assert abs(share - 1 / 4) < 4 * standard_error(1 / 4)
    np.testing.assert_allclose(error, standard_error(share), rtol=1e-9)
    assert num == NUM


def test_attributes_are_those_that_both_readers_know(perfect):
  assert {name.split("/")[-1] for name in perfect if "judge" not in name} == {"colour"}
  values = agreement(readers={"image": see})(model(), examples())
  kinds = {"colour": range(4), "size": range(2)}
  assert set(values) == {  # and no joint one of one reader
      f"sentence_to_image{of}/{attribute}" for attribute, classes in kinds.items()
      for of in ("", "/chance", "/ceiling", "/macro", *(f"/class_{c}" for c in classes))} | {
          "judge/image/colour", "judge/image/size"}


def test_useless_model():
  values = agreement()(model(useless=True), examples())
  of_first = np.mean(COLOURS == 0)  # all that it says is the first colour
  for pair in ("image_to_sentence", "sentence_to_image"):
    share, error, _ = values[f"{pair}/colour"]
    assert share == of_first
    np.testing.assert_allclose(error, standard_error(of_first), rtol=1e-9)
    np.testing.assert_allclose(values[f"{pair}/chance/colour"][0], of_first)
    assert values[f"{pair}/ceiling/colour"][0] == 1.


def test_ceiling_is_that_of_the_reader():
  def colour_blind(pictures):
    seen = see(pictures)
    return {"colour": np.where(seen["colour"] == 3, 0, seen["colour"])}

  values = agreement(readers={"image": colour_blind, "sentence": read})(model(), examples())
  expected = np.mean(COLOURS != 3)
  assert values["sentence_to_image/ceiling/colour"][0] == expected
  assert values["sentence_to_image/colour"][0] == expected
  assert values["image_to_sentence/ceiling/colour"][0] == 1.


def test_a_reader_that_tells_too_few_is_refused():
  def first(pictures):
    return {name: values[:1] for name, values in see(pictures).items()}

  with pytest.raises(ValueError, match=f"the reader of 'image' told 1 values of 'colour' for {NUM} "
                     "observations: expected one for each"):
    agreement(readers={"image": first})(model(), examples())


@pytest.mark.parametrize("period", [2, 3, 4])
def test_chance_does_not_follow_the_order_of_the_data(period):
  colours = np.arange(NUM) % period
  values = agreement()(model(), examples(colours))
  share = values["image_to_sentence/chance/colour"][0]
  assert abs(share - 1 / period) < 4 * standard_error(1 / period)


def test_chance_never_takes_the_example_itself():
  colours = np.arange(4)  # all different
  values = agreement()(model(), examples(colours, np.zeros(4, int)))
  assert values["image_to_sentence/chance/colour"][0] == 0.
  assert values["image_to_sentence/colour"][0] == 1.


def test_labels_that_are_absent_are_not_scored():
  nothing = found(model(), examples(labels=("size",)))
  assert set(nothing.figures) == {"judge/image/size"} and nothing.tables == ()
  assert nothing.remarks == ("No reader tells an attribute that the data set's labels have.",)
  values = agreement(readers={"image": see})(model(), examples(labels=("size",)))
  assert {name.split("/")[-1] for name in values} == {"size"}


def test_some_examples_evenly_spread():
  colours = np.array([0, 1, 1, 0, 1, 1, 0])  # the model is right at 0, 3 and 6
  useless = agreement(num_examples=3)(model(useless=True), examples(colours, np.zeros(7, int)))
  assert useless["image_to_sentence/colour"] == (1., 0., 3)


def test_more_examples_asked_than_there_are():
  values = agreement(num_examples=50)(model(), examples(COLOURS[:7], SIZES[:7]))
  assert values["image_to_sentence/colour"] == (1., 0., 7)


def test_one_example_has_no_standard_error():
  share, error, num = agreement()(model(), examples(COLOURS[:1], SIZES[:1]))[
      "image_to_sentence/colour"]
  assert share == 1. and np.isnan(error) and num == 1


def test_batch_size_changes_nothing(perfect):
  assert agreement(batch_size=7)(model(), examples()) == perfect


NAMES = ("image", "sentence", "sound")


def test_three_modalities_score_every_subset_and_each_is_traced_once():
  net, traced = model(NAMES), []
  posterior = net.posterior
  net.posterior = lambda x, *args: traced.append(tuple(x)) or posterior(x, *args)
  values = agreement(readers={**READERS, "sound": see}, batch_size=500)(
      net, examples(names=NAMES))
  both = [("image", "sentence"), ("image", "sound"), ("sentence", "sound")]
  assert traced == [(name,) for name in NAMES] + both
  pairs = {name.split("/")[0] for name in values if "_to_" in name}
  assert pairs == {f"{a}_to_{b}" for a in NAMES for b in NAMES if a != b} | {
      f"{'+'.join(sources)}_to_{target}" for sources in both for target in NAMES
      if target not in sources}
  assert {values[f"{pair}/colour"][0] for pair in pairs} == {1.}
  assert values["image_to_sound/size"] == values["image+sentence_to_sound/size"] == (1., 0., NUM)
  assert values["from_1/colour"] == values["from_2/colour"] == (1., 0., NUM)
  assert {name for name in values if name.startswith("from_")} == {
      f"from_{num}{kind}/{of}" for num in (1, 2) for kind in ("", "/chance")
      for of in ("colour", "size")}


def of_three(wrong):
  """A model that says "red" whenever it is asked for one of the modalities `wrong`."""
  return MultimodalVAE(
      [Modality(name, (2,), Copy(), Say(name in wrong), distributions.normal_likelihood,
                distributions.normal) for name in NAMES], Prior(2))


def test_means_over_sources_are_of_every_example():
  """From one of three modalities to each other one, of which the sound is always wrong."""
  colours = 1 + COLOURS[:600] % 3  # never red
  values = agreement(readers={**READERS, "sound": see})(
      of_three(["sound"]), examples(colours, SIZES[:600], NAMES))
  assert values["image_to_sentence/colour"][0] == 1 and values["image_to_sound/colour"][0] == 0
  share, error, num = values["from_1/colour"]  # 4 of 6 for each example
  np.testing.assert_allclose([share, error], [2 / 3, 0], atol=1e-9)
  assert num == 600
  np.testing.assert_allclose(values["from_2/colour"][0], 2 / 3)  # two targets of three
  expected = np.mean([values[f"{a}_to_{b}/chance/colour"][0]
                      for a in NAMES for b in NAMES if a != b])
  np.testing.assert_allclose(values["from_1/chance/colour"][0], expected)


def prior_colours(net, num, seed=0):
  """What samples of the prior of the `model` here show, by NumPy."""
  z = net.prior.distribution().sample(num, seed=tf.constant([seed, 1]))
  return np.round(z[:, 0]).astype(int) % 4


def test_joint_coherence():
  """Modalities that say the same, and one of three that does not."""
  same = agreement(num_prior=500)(model(), examples())
  assert same["prior/colour"] == (1., 0., 500)
  said = prior_colours(model(), 500)
  expected = np.mean(said == np.roll(said, 1))
  np.testing.assert_allclose(same["prior/chance/colour"][0], expected)
  assert "prior/size" not in same  # sentences do not tell it
  values = agreement(readers={**READERS, "sound": see}, num_prior=500)(
      of_three(["sound"]), examples(names=NAMES))
  np.testing.assert_allclose(values["prior/colour"][0], np.mean(said == 0))
  assert values["prior/size"][0] == np.mean(
      np.round(model(NAMES).prior.distribution().sample(500, seed=tf.constant([0, 1]))[:, 1]) == 0)


def test_errors_are_over_groups():
  """Four copies of each example of a useless model say no more than one."""
  copies = [np.repeat(values[:100], 4) for values in (COLOURS, SIZES)]
  rows = examples(*copies)

  def read(i):
    x, y, _ = rows.read(i)
    return x, {**y, "index": i // 4}

  dataset = Examples("copies", 400, read)
  figure = "image_to_sentence/colour"
  expected = agreement()(model(useless=True), examples(COLOURS[:100], SIZES[:100]))[figure]
  found = agreement(groups="index")(model(useless=True), dataset)[figure]
  np.testing.assert_allclose(found, (*expected[:2], 400), rtol=1e-6)
  assert agreement()(model(useless=True), dataset)[figure][1] < 0.6 * expected[1]


def with_gaps(colours, has, names=("image", "sentence")):
  """Of `examples`; what stands in the place of an absent observation reads as no colour."""
  whole, has = examples(colours, np.zeros(len(colours), int), names), {
      name: tf.constant(np.array(present, bool)) for name, present in has.items()}

  def read(i):
    x, y, _ = whole.read(i)
    mask = {name: tf.gather(present, i) for name, present in has.items()}
    return {name: tf.where(mask[name][:, None], value, float("nan")) if name in mask else value
            for name, value in x.items()}, y, mask

  return Examples("gaps", len(colours), read)


def test_examples_without_source_or_target_are_left_out():
  """The useless model says colour 0: right for one of the three examples that have both."""
  colours = np.array([0, 0, 1, 2, 0, 3])
  has = {"image": [1, 0, 1, 1, 0, 1], "sentence": [1, 1, 1, 1, 1, 0]}
  seen = []

  def noted(observations):
    seen.append(len(observations))
    return see(observations)

  values = agreement(readers={"image": noted, "sentence": read})(
      model(useless=True), with_gaps(colours, has))
  for pair in ("image_to_sentence", "sentence_to_image"):
    share, error, num = values[f"{pair}/colour"]
    assert (share, num) == (1 / 3, 3)
    np.testing.assert_allclose(error, np.std([1, 0, 0], ddof=1) / np.sqrt(3))
    assert values[f"{pair}/ceiling/colour"][0] == 1. and values[f"{pair}/chance/colour"][2] == 3
  assert sorted(seen) == [3, 4, NUM]  # translations; true pictures; samples of the prior, at once


def test_groups_are_those_of_the_examples_that_count():
  colours = np.array([0, 0, 1, 1, 0, 3])
  dataset = with_gaps(colours, {"image": [1, 1, 1, 1, 0, 0]})
  _, error, num = agreement(groups="colour")(model(useless=True), dataset)[
      "image_to_sentence/colour"]
  assert num == 4
  np.testing.assert_allclose(error, np.std([1, 0], ddof=1) / np.sqrt(2))


def test_a_pair_that_no_example_has_has_no_figure():
  dataset = with_gaps(COLOURS[:4], {"image": [1, 1, 0, 0], "sentence": [0, 0, 1, 1]})
  assert {name.split("/")[0] for name in agreement()(model(), dataset)} == {"prior", "judge"}


def test_means_over_sources_leave_out_what_is_absent():
  """The sound is always wrong: 4 of 6 pairs are right where it is there, and both where not."""
  has = {"sound": [1, 0, 0, 0], "image": [1, 1, 1, 0]}
  values = agreement(readers={**READERS, "sound": see})(
      of_three(["sound"]), with_gaps(np.array([1, 2, 3, 1]), has, NAMES))
  share, _, num = values["from_1/colour"]
  np.testing.assert_allclose((share, num), (np.mean([2 / 3, 1, 1]), 3))
  assert values["from_2/colour"][2] == 1


def test_classes_and_their_mean():
  """The useless model says colour 0 and size 0 always."""
  colours = np.array([0, 0, 0, 1, 1, 2])
  values = agreement()(model(useless=True), examples(colours, np.zeros(6, int)))
  pair = "image_to_sentence"
  assert values[f"{pair}/class_0/colour"] == (1., 0., 3)
  assert values[f"{pair}/class_1/colour"] == (0., 0., 2)
  assert values[f"{pair}/class_2/colour"][::2] == (0., 1)
  share, error, num = values[f"{pair}/macro/colour"]
  np.testing.assert_allclose(share, 1 / 3)
  assert np.isnan(error) and num == 6  # one class has one example
  assert f"{pair}/class_3/colour" not in values


def test_error_of_the_mean_over_classes():
  """A model that is right in half of each of two classes: each mean has its own variance."""
  colours = np.repeat([0, 1], 20)
  net = model()
  wrong = np.arange(40) % 2 == 0
  rows = examples(colours, np.zeros(40, int))

  def at(i):
    x, y, _ = rows.read(i)
    shift = tf.cast(tf.gather(tf.constant(wrong), i), tf.float32)[:, None] * [2., 0.]
    return {"image": x["image"] + shift, "sentence": x["sentence"]}, y

  _, error, _ = agreement()(net, Examples("half", 40, at))["image_to_sentence/macro/colour"]
  np.testing.assert_allclose(error, standard_error(0.5, 20) / np.sqrt(2))


def colour_blind(pictures):
  """Right on three colours of four."""
  seen = see(pictures)
  return {**seen, "colour": np.where(seen["colour"] == 3, 0, seen["colour"])}


def test_unsure_judges_are_noted_beside_what_rests_on_them():
  notes = found(model(), examples(), readers={"image": colour_blind, "sentence": read}).notes
  said = notes["sentence_to_image/colour"]
  share = 100 * np.mean(COLOURS != 3)
  assert said == f"the judge of 'image' is right on {share:.1f} % of true data alone (colour)"
  assert notes["prior/colour"] == notes["sentence_to_image/macro/colour"] == said
  assert {name for name in notes if name.startswith("image_to_sentence")} == set()
  assert not any("size" in name or "ceiling" in name or "judge" in name for name in notes)
  assert found(model(), examples()).notes == {}


def test_nobody_judges_a_modality():
  remarks = found(model(NAMES), examples(names=NAMES)).remarks
  assert remarks == (
      "No reader tells attributes of 'sound': what is translated to it is not judged.",)


class Source:
  """Samples of z near one colour."""

  def __init__(self, colour):
    self.colour = colour

  def sample(self, net, num, seed):
    return np.tile(np.float32([self.colour, 0.]), [num, 1])


def test_joint_coherence_of_other_sources():
  """Samples that are all alike agree, and so does chance."""
  values = agreement(num_prior=20, sources={"fitted": Source(2), "other": Source(1)})(
      model(), examples())
  assert values["fitted/colour"] == values["fitted/chance/colour"] == (1., 0., 20)
  assert values["other/colour"] == (1., 0., 20) and "prior/colour" not in values


def test_tables_hold_figures_that_exist():
  for names, readers in (("image", "sentence"), READERS), (NAMES, {**READERS, "sound": see}):
    findings = found(model(names), examples(names=names), readers=readers)
    cells = {cell for table in findings.tables for row in table.rows.values() for cell in row}
    assert cells - {None} <= set(findings.figures)
    for table in findings.tables:
      assert {len(row) for row in table.rows.values()} == {len(table.columns)}
      assert set(table.better) <= set(table.columns)
    titles = [table.title for table in findings.tables]
    assert len(titles) == len(set(titles)) == (3 if len(names) == 2 else 5)
