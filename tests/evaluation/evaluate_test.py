import json
import os

import numpy as np
import pytest

from tf_mmvae.evaluation import evaluate


def strictly(text):
  """JSON as the standard has it, without NaN and Infinity."""

  def refuse(name):
    raise ValueError(f"{name} is not JSON")

  return json.loads(text, parse_constant=refuse)


def test_strictly_refuses_nan():
  with pytest.raises(ValueError, match="NaN"):
    strictly('{"value": NaN}')


def test_results_are_returned_and_written(tmp_path):
  seen = []

  def metric(model, dataset):
    seen.append((model, dataset))
    return {"figure": (1.5, 0.25, 4), "other": (2., 0., 3)}

  evaluation = evaluate.Evaluation("data", {"first": metric, "second": metric})
  results = evaluation("model", tmp_path / "new" / "results")
  assert seen == [("model", "data")] * 2
  assert results["first"] == {"figure": (1.5, 0.25, 4), "other": (2., 0., 3)}
  assert sorted(os.listdir(tmp_path / "new" / "results")) == ["first.json", "second.json"]
  assert strictly((tmp_path / "new" / "results" / "second.json").read_text()) == {
      "figure": {"value": 1.5, "stderr": 0.25, "n": 4},
      "other": {"value": 2., "stderr": 0., "n": 3}}


def test_what_is_not_finite_is_null(tmp_path):
  metric = {"figure": (float("-inf"), float("nan"), 1)}
  results = evaluate.Evaluation(None, {"m": lambda *_: metric})(None, tmp_path)
  assert strictly((tmp_path / "m.json").read_text()) == {
      "figure": {"value": None, "stderr": None, "n": 1}}
  assert results["m"]["figure"][0] == float("-inf")


def test_numbers_of_numpy(tmp_path):
  metric = {"figure": (np.float32(0.5), np.float64(0.25), np.int64(2))}
  evaluate.Evaluation(None, {"m": lambda *_: metric})(None, tmp_path)
  assert strictly((tmp_path / "m.json").read_text()) == {
      "figure": {"value": 0.5, "stderr": 0.25, "n": 2}}


def test_a_write_cut_off_leaves_the_old_file(tmp_path, monkeypatch):
  evaluation = evaluate.Evaluation(None, {"m": lambda *_: {"figure": (1., 0., 2)}})
  evaluation(None, tmp_path)
  before = (tmp_path / "m.json").read_text()

  def cut_off(figures, file, **kwargs):
    file.write('{"fig')
    raise OSError("no space left")

  monkeypatch.setattr(json, "dump", cut_off)
  with pytest.raises(OSError, match="no space left"):
    evaluation(None, tmp_path)
  assert (tmp_path / "m.json").read_text() == before


def test_table():
  lines = evaluate.table({
      "held_out": {"elbo": (-123.456, 1.234, 1000), "iwae_tight": (-99.5, float("nan"), 1)},
      "agreement": {}}).splitlines()
  assert lines[0] == "held_out:" and lines[3] == "agreement:" and len(lines) == 4
  for line, words in ((lines[1], ["elbo", "-123.5", "1.2", "1000"]),
                      (lines[2], ["iwae_tight", "-99.5", "nan", "1"])):
    assert [word for word in words if word not in line] == []
  assert lines[1].index("+-") == lines[2].index("+-")
