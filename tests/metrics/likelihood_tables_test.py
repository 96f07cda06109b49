"""Tables and sentences of log-likelihoods."""

import pytest

from tests import oracle
from tests.metrics.likelihoods_test import examples
from tf_mmvae.metrics import likelihood_tables
from tf_mmvae.metrics.likelihoods import Likelihoods


@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_every_figure_stands_in_a_table_once(num_modalities):
  exact = oracle.LinearGaussian(num_modalities)
  found = Likelihoods(2)(exact.model(), examples(exact.sample(3)))
  shown = []
  for table in found.tables:
    for row in table.rows.values():
      assert len(row) == len(table.columns)
      shown += [figure for figure in row if figure]
  assert len(shown) == len(set(shown))
  assert set(shown) == {figure for figure in found.figures if not figure.endswith("/z")}
  assert set(found.notes) <= set(shown)


def table_of(names, title):
  found = likelihood_tables.findings(figures(0., 1., names), names)
  return next(table for table in found.tables if table.title == title)


def test_synergy_stands_as_in_the_paper():
  table = table_of(["image", "words"], "Synergy")
  assert table.columns == [
      "log p(x_m | x_m, x_n)", "log p(x_m | x_m)", "log p(x_m | x_n)", "synergy"]
  assert table.rows == {
      "image": ["log_p_image/from_image+words", "log_p_image/from_image",
                "log_p_image/from_words", "synergy/image"],
      "words": ["log_p_words/from_image+words", "log_p_words/from_words",
                "log_p_words/from_image", "synergy/words"]}
  assert table.unit == "nats" and "equal scale b" in table.about


def test_synergy_of_more_modalities_has_a_column_for_each_other():
  table = table_of(["a", "b", "c"], "Synergy")
  assert table.columns == ["log p(x_m | x_1..M)", "log p(x_m | x_m)", "log p(x_m | a)",
                           "log p(x_m | b)", "log p(x_m | c)", "synergy"]
  assert table.rows["b"] == ["log_p_b/from_a+b+c", "log_p_b/from_b", "log_p_b/from_a", None,
                             "log_p_b/from_c", "synergy/b"]


def test_likelihoods_without_a_ceiling_leave_its_row_empty():
  table = table_of(["a", "b"], "What a log-likelihood can be at most")
  assert table.rows["a"] == ["scale/a", "size/a", "ceiling/a"]
  assert table.rows["b"] == [None, None, "ceiling/b"]


def test_notes_say_what_is_no_conditional_and_no_bound():
  found = likelihood_tables.findings(
      {**figures(0., 1., "ab"), "ratio/a_given_b": (0., 1., 2), "ratio/a_given_b/ess": (1., 1., 2)},
      ["a", "b"])
  assert set(found.notes) == {"log_p_a/from_b", "log_p_b/from_a", "ratio/a_given_b"}
  assert "not a conditional" in found.notes["log_p_a/from_b"]
  assert "no bound" in found.notes["ratio/a_given_b"]


def figures(difference, error, names="ab", log_p=-1000., size=10.):
  z = difference / error if error > 0 else float("nan")
  return {f"log_p_{names[0]}/from_{names[0]}": (log_p, 5., 50),
          f"log_p_{names[0]}/from_{names[0]}/ess": (size, 1., 50),
          "scale/a": (1., 0., 1), "size/a": (1., 0., 1), "ceiling/a": (1., 0., 1),
          "ceiling/b": (0., 0., 1),
          **{f"synergy/{m}": (difference, error, 50) for m in names},
          **{f"log_p_{m}/from_{m}": (log_p, 5., 50) for m in names},
          **{f"synergy/{m}/z": (z, 1., 50) for m in names}}


@pytest.mark.parametrize("difference, error, verdict", [
    (0.5, 0.2, "Synergy for a: q(z | a, b) explains it better than q(z | a), by 0.5 nats"),
    (-0.5, 0.2, "No synergy for a: q(z | a, b) explains it worse than q(z | a), by 0.5 nats"),
    (0.5, 0.3, "Synergy for a is open: q(z | a, b) and q(z | a) differ by 0.5 nats"),
    (-0.5, 0.3, "Synergy for a is open"),
    (2e-5, 1e-9, "Synergy for a is open"),  # a float32 of -1000 is no finer
    (-2e-5, 1e-9, "Synergy for a is open"),
    (0.5, float("nan"), "Synergy for a is open"),
    (float("nan"), float("nan"), "Synergy for a is open")])
def test_verdict(difference, error, verdict):
  found = likelihood_tables.findings(figures(difference, error), ["a", "b"])
  assert len(found.remarks) == 2
  assert found.remarks[0].startswith(verdict)
  assert f"(standard error {error:.2g}, 50 examples)" in found.remarks[0]


def test_small_differences_count_where_values_are_small():
  found = likelihood_tables.findings(figures(2e-5, 1e-9, log_p=-1.), ["a", "b"])
  assert found.remarks[0].startswith("Synergy for a: ")


def test_few_effective_samples_are_told():
  few = {**figures(0., 1., size=1.9), "joint/iwae_tight/ess": (2.1, 1., 50)}
  found = likelihood_tables.findings(few, ["a", "b"])
  assert found.remarks[-1].startswith("1 of 2 estimates rest on fewer than 2 effective samples")


def test_verdict_of_many_modalities_does_not_list_them():
  found = likelihood_tables.findings(figures(0.5, 0.2, "abc"), ["a", "b", "c"])
  assert "q(z | all modalities) explains it better than q(z | c)" in found.remarks[2]
