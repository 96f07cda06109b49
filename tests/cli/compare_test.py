import json
import re

import pytest

from tests import runs
from tests.cli.mistakes_test import HINT, assert_one_sentence
from tf_mmvae.run_dir import RunDir

CONFIG = """from __gin__ import dynamic_registration
import tf_mmvae as mm
LATENT_DIM = {dim}
SEED = {seed}
mm.Experiment.seed = %SEED
"""


@pytest.fixture
def make(tmp_path):
  """Makes a run that has results: function (name, dim, seed, value) -> its path."""
  def make(name, dim=4, seed=0, value=1.0):
    run = RunDir(tmp_path / "runs" / name)
    run.write_config(CONFIG.format(dim=dim, seed=seed))
    (tmp_path / "runs" / name / "results").mkdir()
    found = {"f": {"value": value, "stderr": 0.1, "n": 9}}
    (tmp_path / "runs" / name / "results" / "m.json").write_text(json.dumps(found))
    report = {"step": 7, "settings": {"run": {"SEED": seed, "LATENT_DIM": dim},
                                      "likelihoods": {}, "objective": {}},
              "metrics": {"m": {"better": {"f": "high"}, "data": "1", "settings": {}}}}
    (tmp_path / "runs" / name / "results" / "report.json").write_text(json.dumps(report))
    return run.path

  return make


def compare(tmp_path, *args):
  return runs.call_here("compare.py", *map(str, args), f"--out={tmp_path / 'page.html'}")


def test_three_runs_in_two_columns(make, tmp_path):
  paths = [make("a"), make("b", seed=1, value=2.0), make("more/a", dim=8, value=9.0)]
  code, printed = compare(tmp_path, *paths)
  assert code == 0, printed
  lines = [re.split("  +", line.strip()) for line in printed.splitlines()]
  assert lines[:4] == [
      ["Settings that differ", "a … b, 2 seeds", "more/a, 1 seed"], ["SEED", "0, 1", "0"],
      ["weights after step", "7, 7", "7"], ["LATENT_DIM", "4", "8"]]
  assert ["f", "1.5 ± 0.7", "*9.00 ± 0.10"] in lines
  assert printed.splitlines()[-1] == f"Page: {tmp_path / 'page.html'}"
  page = (tmp_path / "page.html").read_text()
  assert "9.00 ± 0.10" in page and page.rstrip().endswith("</html>")


def test_flags_before_and_after_in_a_process(make, tmp_path):
  a, b = make("a"), make("b", dim=8)
  out = tmp_path / "page.html"
  for args in ([f"--out={out}", a, b], [a, b, f"--out={out}"]):
    code, printed = runs.call("compare.py", *args)
    assert code == 0 and out.exists(), printed
    out.unlink()


@pytest.mark.parametrize("args, sentence", [
    ([], "give the directories of two runs or more"),
    (["{a}"], "give the directories of two runs or more"),
    (["{a}", "{a}/"], "{a}/ is given twice: give each run once"),
    (["{a}", "{tmp}"], "no run at {tmp}: it has neither config.gin nor experiment.json; give"),
    (["{a}", "{tmp}/file"], "{tmp}/file is a file"),
    (["{a}", "{empty}"], "no results in {empty}/results: measure it with "),
    (["{a}", "{damaged}"], "{damaged}/results/m.json is damaged: measure it with "),
    (["{a}", "{typed}"], "the results in {typed}/results are not as they were written: measure"),
    (["{a}", "{a}", "--out={tmp}"], "--out={tmp} is a folder: give the page to write in it a name"),
    (["{a}", "{a}", "--out=/no/where.html"], "no folder for --out=/no/where.html"),
])
def test_mistakes(make, tmp_path, args, sentence):
  places = {"a": make("a"), "empty": make("empty"), "damaged": make("damaged"), "tmp": tmp_path,
            "typed": make("typed")}
  (tmp_path / "runs" / "typed" / "results" / "report.json").write_text('{"step": "last"}')
  (tmp_path / "file").write_text("")
  results = tmp_path / "runs" / "empty" / "results"
  (results / "m.json").unlink()
  (results / "report.json").unlink()
  (tmp_path / "runs" / "damaged" / "results" / "m.json").write_text("{")
  code, printed = runs.call_here(
      "compare.py", f"--out={tmp_path / 'page.html'}", *(arg.format(**places) for arg in args))
  assert_one_sentence(code, printed, sentence.format(**places))
  assert not (tmp_path / "page.html").exists()
  if "measure" in sentence:
    assert f"tools/evaluate.py --run_dir={places[args[1][1:-1]]}\n" in printed


def test_all_mistakes_at_once(make, tmp_path):
  a = make("a")
  code, printed = compare(tmp_path, a, tmp_path / "b", tmp_path / "c", a)
  assert code == 1 and "Traceback" not in printed
  first, b, c, twice, hint = printed.splitlines()
  assert first.endswith("tools/compare.py: 3 problems:") and hint == HINT
  assert b.startswith(f"  no run at {tmp_path / 'b'}: ")
  assert c.startswith(f"  no run at {tmp_path / 'c'}: ")
  assert twice == f"  {a} is given twice: give each run once"
