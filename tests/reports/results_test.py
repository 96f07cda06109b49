import json
import math

import numpy as np
import pytest
from PIL import Image

from tf_mmvae.metrics.findings import Findings, Picture, Table
from tf_mmvae.reports.results import Figure, Results
from tf_mmvae.reports.settings import Settings

ENTRY = {"title": "M", "examples": "1 example", "weights": "w", "key": "k", "settings": {}}


OF_RUN = {"run": {"SEED": 1}, "likelihoods": {"scale": 0.5}, "objective": {"beta": 2}}


def strictly(text):
  """JSON as the standard has it, without NaN and Infinity."""

  def refuse(name):
    raise ValueError(f"{name} is not JSON")

  return json.loads(text, parse_constant=refuse)


def test_strictly_refuses_nan():
  with pytest.raises(ValueError, match="NaN"):
    strictly('{"value": NaN}')


def test_what_is_not_finite_is_null(tmp_path):
  Results(tmp_path).write("m", Findings({"figure": (float("-inf"), float("nan"), 1)}), **ENTRY)
  assert strictly((tmp_path / "m.json").read_text()) == {
      "figure": {"value": None, "stderr": None, "n": 1}}


def test_text_names_examples_where_they_differ(tmp_path):
  results = Results(tmp_path)
  results.write("m", Findings({"f": (1., 0., 1)}), **ENTRY)
  assert str(results).startswith("m:\n")
  results.write("n", Findings({"f": (2., 0., 1)}), **{**ENTRY, "examples": "other, 2 examples"})
  assert str(results).startswith("m (1 example):\n") and "n (other, 2 examples):" in str(results)


def test_a_metric_that_was_not_measured(tmp_path):
  results = Results(tmp_path)
  results.write("m", Findings({"f": (1., 0., 1)}), **ENTRY)
  with pytest.raises(KeyError, match="no metric 'elbo': those measured are .'m'."):
    _ = results["elbo"]
  assert "elbo" not in results and results.get("elbo") is None


def test_numbers_of_numpy(tmp_path):
  figure = (np.float32(0.5), np.float64(0.25), np.int64(2))
  Results(tmp_path).write("m", Findings({"figure": figure}), **ENTRY)
  assert strictly((tmp_path / "m.json").read_text()) == {
      "figure": {"value": 0.5, "stderr": 0.25, "n": 2}}


def test_pictures_tables_and_what_ranks(tmp_path):
  pixels = np.arange(24, dtype=np.uint8).reshape([2, 4, 3])
  table = Table("Shares", ["right", "chance"], {"a": ["f", "g"], "b": [None, "f"]}, "%", "How.",
                {"right": "high"})
  results = Results(tmp_path / "results")
  results.write("m", Findings({"f": (1, 0, 1), "g": (0, 0, 1)}, (table,),
                              (Picture("Ways in z: 1 & 2", pixels, "Look."),)), **ENTRY)
  entry = Results(tmp_path / "results").entries["m"]
  assert entry["pictures"] == [
      {"title": "Ways in z: 1 & 2", "about": "Look.", "file": "m_ways_in_z_1_2.png"}]
  with Image.open(tmp_path / "results" / "m_ways_in_z_1_2.png") as picture:
    np.testing.assert_array_equal(picture, pixels)
  assert entry["better"] == {"f": "high"}
  assert entry["tables"][0]["rows"] == {"a": ["f", "g"], "b": [None, "f"]}


def test_a_write_cut_off_leaves_the_old_file(tmp_path, monkeypatch):
  results = Results(tmp_path)
  results.write("m", Findings({"figure": (1., 0., 2)}), **ENTRY)
  before = (tmp_path / "m.json").read_text()

  def cut_off(figures, file, **kwargs):
    file.write('{"fig')
    raise OSError("no space left")

  monkeypatch.setattr(json, "dump", cut_off)
  with pytest.raises(OSError, match="no space left"):
    results.write("m", Findings({"figure": (2., 0., 2)}), **{**ENTRY, "key": "new"})
  assert (tmp_path / "m.json").read_text() == before
  assert not Results(tmp_path).is_current("m", "new")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"other": 1}'])
def test_a_damaged_state_measures_all_anew(text, tmp_path):
  Results(tmp_path).write("m", Findings({"figure": (1., 0., 2)}), **ENTRY)
  assert Results(tmp_path).is_current("m", "k")
  (tmp_path / "report.json").write_text(text)
  assert Results(tmp_path).entries == {}


@pytest.mark.parametrize("settings", [None, 3, {"run": {}}, {**OF_RUN, "likelihoods": "x"}])
def test_a_state_of_an_older_version_measures_all_anew(settings, tmp_path, caplog):
  Results(tmp_path).write("m", Findings({"figure": (1., 0., 2)}), **ENTRY)
  state = json.loads((tmp_path / "report.json").read_text())
  state["settings"] = settings
  if settings is None:
    del state["settings"]
  (tmp_path / "report.json").write_text(json.dumps(state))
  assert list(Results(tmp_path)) == []
  assert "or of an older version" in caplog.text and "measured anew" in caplog.text


@pytest.mark.parametrize("damage", [
    "entry", "weights", "title", "settings", "key", "tables", "figure", "no figures", "cut off",
    "words", "list", "picture", "no picture", "other settings", "other key"])
def test_a_damaged_entry_is_left_out(damage, tmp_path):
  table = Table("T", ["a"], {"row": ["figure"]})
  picture = Picture("P", np.zeros([2, 2, 3], np.uint8))
  results = Results(tmp_path)
  results.write("m", Findings({"figure": (1., 0., 2)}, (table,), (picture,)), **ENTRY)
  results.write("other", Findings({"figure": (1., 0., 2)}), **ENTRY)
  state = json.loads((tmp_path / "report.json").read_text())
  if damage in ("weights", "title", "settings", "key", "tables"):
    del state["metrics"]["m"][damage]
  elif damage.startswith("other "):
    state["metrics"]["m"][damage.removeprefix("other ")] = 3
  elif damage == "entry":
    state["metrics"]["m"] = None
  elif damage == "no figures":
    (tmp_path / "m.json").unlink()
  elif damage == "no picture":
    (tmp_path / "m_p.png").unlink()
  elif damage == "picture":
    (tmp_path / "m_p.png").write_bytes((tmp_path / "m_p.png").read_bytes()[:30])
  else:
    (tmp_path / "m.json").write_text({
        "figure": "{}", "cut off": '{"fig', "list": "[1]",
        "words": '{"figure": {"value": "1", "stderr": 0, "n": 2}}'}[damage])
  (tmp_path / "report.json").write_text(json.dumps(state))
  assert list(Results(tmp_path).entries) == ["other"]


def test_other_weights_are_dropped_on_disk_too(tmp_path):
  Results(tmp_path).write("m", Findings({"figure": (1., 0., 2)}), **ENTRY)
  results = Results(tmp_path)
  results.begin("w2", 30, None)
  assert results.figures("m") == {}
  assert json.loads((tmp_path / "report.json").read_text()) == {
      "step": 30, "settings": None, "metrics": {}}


def test_settings_are_kept(tmp_path):
  settings = Settings(**OF_RUN, model={"D": 4})
  results = Results(tmp_path)
  results.begin("w", 30, settings)
  results.write("m", Findings({"figure": (1., 0., 2)}), **{**ENTRY, "settings": {"K": 9}})
  state = json.loads((tmp_path / "report.json").read_text())
  assert state["settings"] == OF_RUN and state["metrics"]["m"]["settings"] == {"K": 9}


@pytest.mark.parametrize("later, kept", [
    (Settings(**OF_RUN), True),
    (Settings({"SEED": 2}, likelihoods={"scale": 0.5}, objective={"beta": 3}), True),
    (Settings({"SEED": 1}, likelihoods={"scale": 0.1}, objective={"beta": 2}), False),
    (None, True)])
def test_figures_of_other_likelihoods_are_dropped(later, kept, tmp_path):
  """The state says of all figures under which likelihoods they were found."""
  results = Results(tmp_path)
  results.begin("w", 30, Settings(**OF_RUN))
  results.write("m", Findings({"figure": (1., 0., 2)}), **ENTRY)
  again = Results(tmp_path)
  again.begin("w", 30, later)
  again.write("k", Findings({"figure": (1., 0., 2)}), **ENTRY)
  assert list(Results(tmp_path)) == (["m", "k"] if kept else ["k"])
  state = json.loads((tmp_path / "report.json").read_text())
  assert state["settings"]["likelihoods"] == (later or Settings(**OF_RUN)).likelihoods


def test_settings_of_other_weights_are_forgotten(tmp_path):
  results = Results(tmp_path)
  results.begin("w", 30, Settings(**OF_RUN))
  results.write("m", Findings({"figure": (1., 0., 2)}), **ENTRY)
  Results(tmp_path).begin("w2", 40, None)
  assert json.loads((tmp_path / "report.json").read_text())["settings"] is None


# As a mapping.


def test_figures_by_name(tmp_path):
  results = Results(tmp_path)
  figures = {"a": (1.5, 0.25, 4), "b": (float("inf"), float("nan"), 1)}
  results.write("m", Findings(figures, notes={"a": "so"}), **ENTRY)
  results.write("k", Findings({}), **ENTRY)
  for found in (results, Results(tmp_path)):
    assert (list(found), len(found), "m" in found, "l" in found) == (["m", "k"], 2, True, False)
    assert found["m"]["a"] == Figure(1.5, 0.25, 4) and found["k"] == {}
    assert math.isnan(found["m"]["b"].value) and math.isnan(found["m"]["b"].stderr)
    assert found["m"]["b"].n == 1
    with pytest.raises(KeyError, match="l"):
      found["l"]
    assert found.get("l") is None


def test_a_metric_that_failed_has_no_figures(tmp_path):
  results = Results(tmp_path)
  results.write("m", Findings({"figure": (1., 0., 2)}), **ENTRY)
  results.write_error("m", "no reader of 'sound'", **ENTRY)
  for found in (results, Results(tmp_path)):
    assert "m" in found and list(found) == ["m"] and found.figures("m") == {}
    with pytest.raises(ValueError, match="^metric 'm' was not measured: no reader of 'sound'$"):
      found["m"]
