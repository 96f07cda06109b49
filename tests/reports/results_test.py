import json

import numpy as np
import pytest
from PIL import Image

from tf_mmvae.metrics.findings import Findings, Picture, Table
from tf_mmvae.reports.results import Results

ENTRY = {"title": "M", "examples": "1 example", "weights": "w", "key": "k"}


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


@pytest.mark.parametrize("damage", [
    "entry", "weights", "title", "tables", "figure", "no figures", "cut off", "words", "list",
    "picture", "no picture"])
def test_a_damaged_entry_is_left_out(damage, tmp_path):
  table = Table("T", ["a"], {"row": ["figure"]})
  picture = Picture("P", np.zeros([2, 2, 3], np.uint8))
  results = Results(tmp_path)
  results.write("m", Findings({"figure": (1., 0., 2)}, (table,), (picture,)), **ENTRY)
  results.write("other", Findings({"figure": (1., 0., 2)}), **ENTRY)
  state = json.loads((tmp_path / "report.json").read_text())
  if damage in ("weights", "title", "tables"):
    del state["metrics"]["m"][damage]
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
  Results(tmp_path).begin("w2", 30)
  assert json.loads((tmp_path / "report.json").read_text()) == {"step": 30, "metrics": {}}
