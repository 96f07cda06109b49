import json
import math

import numpy as np
import pytest

from tf_mmvae.reports import comparison
from tf_mmvae.reports.comparison import Metric, Run
from tf_mmvae.reports.settings import Settings

NAN = float("nan")


def run(name="a", value=1.0, stderr=0.1, n=100, *, seed=0, side="high", unit="", note=None,
        **settings):
  found = {"value": value, "stderr": stderr, "n": n, **({"note": note} if note else {})}
  metric = Metric({"f": found}, {"f": unit}, {"f": side} if side else {})
  return Run(name, recorded(SEED=seed, **settings), {"m": metric}, 20)


def recorded(**of_run):
  return Settings(of_run, dict.fromkeys("klm", {}))


def row(*runs):
  """(cells, remarks) of the one figure."""
  compared = comparison.compare(list(runs))
  ((_, cells),) = compared.figures["m"]
  return cells, compared.remarks


def best(*runs):
  return [cell.best for cell in row(*runs)[0]]


# Groups.


def test_a_column_for_runs_that_differ_in_their_seed():
  runs = [run("a", 1.0, seed=0, D=4), run("b", 5.0, seed=0, D=8), run("c", 2.0, seed=1, D=4),
          run("d", 6.0, seed=7, D=4)]
  compared = comparison.compare(runs)
  assert compared.columns == ["a … d, 3 seeds", "b, 1 seed"]
  ((_, (first, second)),) = compared.figures["m"]
  values = [1.0, 2.0, 6.0]
  assert first.text == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" == "3.0 ± 2.6"
  assert second.text == "5.00 ± 0.10"  # its own standard error
  assert first.note == ("a: 1.00 ± 0.10, n = 100; c: 2.00 ± 0.10, n = 100; "
                        "d: 6.00 ± 0.10, n = 100")
  assert dict((name, [cell.text for cell in cells]) for name, cells in compared.settings) == {
      "SEED": ["0, 1, 7", "0"], "weights after step": ["20, 20, 20", "20"], "D": ["4", "8"]}


def test_the_same_seed_again_has_a_column_of_its_own():
  compared = comparison.compare([run("a"), run("b"), run("c", seed=1), run("d", seed=1)])
  assert compared.columns == ["a … c, 2 seeds", "b … d, 2 seeds"]
  assert [name for name, _ in compared.settings] == ["SEED", "weights after step"]


def test_settings_that_differ():
  compared = comparison.compare([
      run("a", D=4, x=[1], **{"b.c": "d", "e.f": 1}), run("b", D=8, x=[1], **{"b.c": "d"})])
  assert [(name, [cell.text for cell in cells]) for name, cells in compared.settings[2:]] == [
      ("D", ["4", "8"]), ("e.f", ["1", "–"])]


def test_an_unknown_seed_and_step():
  runs = [Run(name, recorded(D=name), {}) for name in "ab"]
  ((seed, cells), (other, _)) = comparison.compare(runs).settings
  assert (seed, other) == ("SEED", "D") and [cell.text for cell in cells] == ["–", "–"]
  (_, (name, cells), _) = comparison.compare([*runs, Run("c", recorded(), {}, 1200)]).settings
  assert name == "weights after step" and [cell.text for cell in cells] == ["–", "–", "1,200"]


def test_seeds_from_python():
  runs = [run(name)._replace(settings=recorded(seed=(i + 1) // 2 % 2, D=i // 2))
          for i, name in enumerate("abcd")]
  compared = comparison.compare(runs)
  assert compared.columns == ["a … b, 2 seeds", "c … d, 2 seeds"]
  assert [(name, [cell.text for cell in cells]) for name, cells in compared.settings] == [
      ("SEED", ["0, 1", "1, 0"]), ("weights after step", ["20, 20", "20, 20"]), ("D", ["0", "1"])]


def test_settings_that_are_not_recorded():
  """Such a run is alone in its column, says nothing of settings, and nothing is marked."""
  unknown = [run(name, 9.0)._replace(settings=None) for name in "bc"]
  compared = comparison.compare([run("a", D=4), *unknown])
  assert compared.columns == ["a, 1 seed", "b, 1 seed", "c, 1 seed"]
  assert [(name, [cell.text for cell in cells]) for name, cells in compared.settings] == [
      ("SEED", ["0", "?", "?"]), ("weights after step", ["20", "20", "20"])]
  assert not any(cell.best for cell in compared.figures["m"][0][1])
  assert compared.remarks == ["What was set for m is not recorded in b, c: see that it was "
                              "measured alike. Nothing of it is marked."]
  compared = comparison.compare([run("a", D=4), run("d", D=8), unknown[0]])
  assert [cell.text for cell in dict(compared.settings)["D"]] == ["4", "8", "?"]


def test_one_metric_that_is_not_recorded():
  metrics = {name: run().metrics["m"] for name in "mk"}
  other = run("b", 9.0, D=1)
  runs = [Run("a", Settings({}, {"k": {}}), metrics),
          other._replace(metrics={name: other.metrics["m"] for name in "mk"})]
  compared = comparison.compare(runs)
  ((_, of_m),), ((_, of_k),) = compared.figures["m"], compared.figures["k"]
  assert not of_m[1].best and of_k[1].best
  assert compared.remarks == ["What was set for m is not recorded in a: see that it was measured "
                              "alike. Nothing of it is marked."]


# Marks.


@pytest.mark.parametrize("side, expected", [
    ("high", [False, True, False]), ("low", [True, False, False]), (None, [False] * 3)])
def test_the_best_is_that_of_the_better_side(side, expected):
  runs = [run("abc"[i], value, side=side, D=i) for i, value in enumerate([1.0, 9.0, 5.0])]
  assert best(*runs) == expected


@pytest.mark.parametrize("apart, marked", [(0.99, False), (1.01, True)])
def test_a_mark_needs_two_errors_of_the_difference(apart, marked):
  """2 sqrt(0.3^2 + 0.4^2) = 1."""
  assert best(run("a", 5.0, 0.3), run("b", 5.0 + apart, 0.4, D=1)) == [False, marked]
  assert best(run("a", 5.0 + apart, 0.3), run("b", 5.0, 0.4, D=1)) == [marked, False]
  third = run("c", 0.0, 100.0, D=2)
  assert best(run("a", 5.0, 0.3), run("b", 5.0 + apart, 0.4, D=1), third)[1] == marked


def test_the_spread_over_seeds_counts():
  """And no less than the standard error, where two seeds agree by chance."""
  apart = [run("a", 1.0, 0.01), run("b", 3.0, 0.01, seed=1)]  # 2 +- 1.4
  other = run("c", 4.5, 0.01, D=1)
  assert best(*apart, other) == [False, False]
  assert best(*apart, run("c", 4.9, 0.01, D=1)) == [False, True]
  same = [run("a", 2.0, 0.2), run("b", 2.0, 2.6, seed=1)]  # 1.4 on average
  cells, _ = row(*same, other)
  assert cells[0].text == "2 ± 0" and not cells[1].best


def test_what_is_not_known_has_no_mark():
  assert best(run("a", 1.0, None), run("b", 9.0, D=1)) == [False, False]
  assert best(run("a", None, None), run("b", 9.0, D=1)) == [False, False]
  three = [run("a", 1.0), run("b", None, None, D=1), run("c", 9.0, D=2)]
  assert best(*three) == [False, False, True]
  diverged = [run("a", 1.0), run("b", None, None, seed=1)]
  cells, _ = row(*diverged, run("c", 9.0, D=1))
  assert [cell.text for cell in cells] == ["–", "9.00 ± 0.10"] and not cells[1].best


def test_runs_that_disagree_on_the_better_side():
  assert best(run("a", 1.0), run("b", 9.0, D=1, side="low")) == [False, False]
  cells, remarks = row(run("a", 1.0), run("b", 9.0, D=1, side=None))
  assert not cells[1].best
  assert remarks == ["Nothing of b is marked: the results there do not say which direction is "
                     "better. Measure it again."]


def test_what_is_not_to_be_compared_has_no_mark():
  cells, remarks = row(run("a", 1.0), run("b", 9.0, D=1, n=50))
  assert not cells[1].best
  assert remarks == ["Not to be compared: m: the numbers n of observations differ."]


def test_one_remark_for_each_reason():
  def metric(of_f, of_g=9):
    return Metric({name: {"value": 1.0, "stderr": 0.1, "n": n}
                   for name, n in zip("fg", (of_f, of_g), strict=True)}, {}, {"f": "high"})

  compared = comparison.compare([
      Run("a", recorded(D=1), {"m": metric(9), "k": metric(9), "l": metric(9)}),
      Run("b", recorded(D=2), {"m": metric(5, 5), "k": metric(9, 5), "l": metric(9)})])
  assert compared.remarks == ["Not to be compared: m, k (g): the numbers n of observations differ."]


# What is shown.


def test_figures_in_tables_stand_first():
  figures = {name: {"value": 0.5, "stderr": 0.1, "n": 9} for name in "abc"}
  tables = Metric(figures, {"c": "%", "a": "nats"})
  runs = [Run(name, recorded(D=name), {"m": tables}) for name in "xy"]
  runs.append(Run("z", recorded(), {"other": Metric({"g": figures["a"]})}))
  compared = comparison.compare(runs)
  shown = [(name, [cell.text for cell in cells]) for name, cells in compared.figures["m"]]
  assert shown == [("c", ["50 ± 10 %"] * 2 + ["–"]), ("a, nats", ["0.50 ± 0.10"] * 2 + ["–"])]
  assert [name for name, _ in compared.others["m"]] == ["b"]
  assert [name for name, _ in compared.figures["other"]] == ["g"] and not compared.others["other"]
  assert "And 1 figures more, on the page." in compared.text()
  assert "<summary>1 more</summary>" in compared.html()


def test_as_text_and_as_a_page():
  compared = comparison.compare([
      run("a", 0.25, 0.01, unit="%", D="<" * 40), run("b", 0.5, 0.01, unit="%", note="said <so>")])
  lines = compared.text().splitlines()
  assert lines[:4] == [
      "Settings that differ                       a, 1 seed  b, 1 seed",
      "  SEED                                             0          0",
      "  weights after step                              20         20",
      f"  D                   {'<' * 29}…          –"]
  assert lines[5:7] == ["m       a, 1 seed      b, 1 seed", "  f  25.0 ± 1.0 %  *50.0 ± 1.0 %"]
  page = compared.html()
  assert '<td class="best"><span title="b: 0.500 ± 0.010, n = 100 (said &lt;so&gt;)">' in page
  assert "&lt;" * 40 in page and "<<" not in page
  for text in (compared.text(), page):
    assert "2 sqrt(s1² + s2²)" in text and "With one seed" in text


def test_many_settings_are_cut():
  names = {f"D{i:02}": 1 for i in range(20)}
  compared = comparison.compare([run("a", **names), run("b")])
  assert "D12" in compared.text() and "D13" not in compared.text()
  assert "\n  and 7 more, on the page\n" in compared.text()
  assert "D19" in compared.html()


# Files.


def write(folder, **files):
  folder.mkdir(exist_ok=True)
  for name, value in files.items():
    (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
  return folder


FOUND = {"f": {"value": 1.5, "stderr": None, "n": 1}, "g": {"value": 2, "stderr": 0.5, "n": 4,
                                                            "note": "so"}}


def test_results_without_a_report(tmp_path):
  write(tmp_path, b=FOUND, a={})
  (tmp_path / "prior.png").write_bytes(b"")
  assert comparison.read(tmp_path) == (None, {"a": Metric({}), "b": Metric(FOUND)}, None)


def test_results_with_a_report(tmp_path):
  table = {"title": "T", "columns": ["x", "y"], "rows": {"r": ["g", None], "s": ["f", "g"]},
           "unit": "%", "about": ""}
  write(tmp_path, a=FOUND, b=FOUND, c={}, report={"step": 300, "metrics": {
      "b": {"tables": [table, {**table, "rows": {"r": ["h"]}, "unit": ""}], "pictures": [],
            "better": {"f": "low"}, "data": "1234"}, "a": {}, "gone": {}}})
  settings, metrics, step = comparison.read(tmp_path)
  assert settings is None
  assert step == 300 and list(metrics) == ["b", "a", "c"]
  assert metrics["b"] == Metric(FOUND, {"g": "%", "f": "%", "h": ""}, {"f": "low"}, "1234")
  assert list(metrics["b"].units) == ["g", "f", "h"]
  assert metrics["a"] == Metric(FOUND)


OF_RUN = {"run": {"SEED": 3}, "likelihoods": {"scale": 0.5}, "objective": {"beta": 2}}


def test_settings_of_results(tmp_path):
  write(tmp_path, a=FOUND, b=FOUND, c=FOUND, report={"step": 1, "settings": OF_RUN, "metrics": {
      "a": {"settings": {"num_samples": 9}}, "b": {"settings": None}, "c": {}}})
  settings, _, _ = comparison.read(tmp_path)
  assert settings == Settings({"SEED": 3}, {"a": {"num_samples": 9}},
                              likelihoods={"scale": 0.5}, objective={"beta": 2})


@pytest.mark.parametrize("files", [{}, {"report": {"metrics": {}}}])
def test_no_results(tmp_path, files):
  with pytest.raises(FileNotFoundError, match="^no results in .*/no$"):
    comparison.read(tmp_path / "no")
  with pytest.raises(FileNotFoundError, match="^no results in "):
    comparison.read(write(tmp_path, **files))


@pytest.mark.parametrize("text", ["", '{"f": {"value": 1', "\0", "\xff"])
def test_a_damaged_file(tmp_path, text):
  write(tmp_path, a=FOUND)
  (tmp_path / "b.json").write_bytes(text.encode("latin-1"))
  with pytest.raises(ValueError, match="b.json is damaged$"):
    comparison.read(tmp_path)


@pytest.mark.parametrize("files", [
    {"a": []}, {"a": {"f": 1}}, {"a": {"f": {"value": 1.0, "n": 1}}},
    {"a": {"f": {"value": "1", "stderr": 1.0, "n": 1}}},
    {"report": []}, {"report": {"metrics": []}}, {"report": {"metrics": {"b": 3}}},
    {"report": {"metrics": {"b": {"tables": [{"rows": [1]}]}}}},
    {"report": {"metrics": {"b": {"better": 3}}}},
    {"report": {"settings": 3, "metrics": {}}}, {"report": {"settings": {}, "metrics": {}}},
    {"report": {"settings": {**OF_RUN, "run": []}, "metrics": {}}},
    {"report": {"settings": OF_RUN, "metrics": {"b": {"settings": 3}}}},
])
def test_files_of_another_kind(tmp_path, files):
  write(tmp_path, **{"b": FOUND, **files})
  with pytest.raises(ValueError, match=f"^the results in {tmp_path} are not as they were written"):
    comparison.read(tmp_path)


def test_infinite_errors_are_no_reason_to_mark():
  assert best(run("a", 1.0, math.inf), run("b", 9.0, D=1)) == [False, False]
