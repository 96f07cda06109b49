"""tools/evaluate.py on tiny runs: all criteria, gone on with, and what goes wrong."""

import html
import json
import pathlib
import re
import shutil

import pytest

from tests import runs
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"
BOUNDS = '--gin_param=METRICS = {"likelihoods": @mm.metrics.Likelihoods()}'


def evaluate(run, *args):
  """The tool on a run with few samples: (exit code, what it printed)."""
  return runs.call_here(
      "evaluate.py", f"--run_dir={run.path}", f"--data_dir={runs.scratch() / 'data'}",
      "--gin_param=EVALUATION_SAMPLES = 2", *args)


def figures(run, metric):
  return json.loads((pathlib.Path(run.results) / f"{metric}.json").read_text())


@pytest.fixture
def copy(tmp_path):
  """A copy of a finished run."""
  shutil.copytree(runs.finished(TINY)[0].path, tmp_path / "run")
  return RunDir(tmp_path / "run")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  """A run that is measured: (run, exit code, what was printed)."""
  path = tmp_path_factory.mktemp("measured") / "run"
  shutil.copytree(runs.finished(TINY)[0].path, path)
  return RunDir(path), *evaluate(RunDir(path))


def test_all_criteria(measured):
  run, code, printed = measured
  assert code == 0, printed
  results = pathlib.Path(run.results)
  entries = json.loads((results / "report.json").read_text())["metrics"]
  assert set(entries) == {"held_out", "probes", "latent_use", "traversals", "density", "agreement",
                          "likelihoods", "image_quality"}
  for metric, entry in entries.items():
    assert "error" not in entry and f"\n{metric}:" in printed
    for figure in figures(run, metric).values():
      assert figure.keys() - {"note"} == {"value", "stderr", "n"}
  assert "prior/size" in figures(run, "agreement") and "fitted/size" in figures(run, "agreement")
  page = (results / "report.html").read_text()
  assert all(html.escape(entry["title"]) in page for entry in entries.values())
  assert "LATENT_DIM = 4" in page and "Synergy" in page
  assert page.count("data:image/png;base64") >= 6 + sum(
      len(entry["pictures"]) for entry in entries.values())
  assert re.search(rf"Took \d+\.\d min, at most \d+\.\d GiB\nPage to open: "
                   rf"{run.results}/report.html", printed)
  assert not list(results.rglob("*unfinished*"))


def test_a_second_time_measures_nothing_again(measured):
  run, _, printed = measured
  before = {path: path.stat().st_mtime_ns for path in pathlib.Path(run.results).glob("*.json")}
  code, again = evaluate(run)
  assert code == 0
  assert {path: path.stat().st_mtime_ns for path in before} == before
  first, last = printed.index("held_out:"), printed.index("Figures and")
  assert again[again.index("held_out:"):again.index("Figures and")] == printed[first:last]
  code, _ = evaluate(run, "--gin_param=mm.metrics.Likelihoods.num_samples = 3", BOUNDS)
  changed = {path.name for path in before if path.stat().st_mtime_ns != before[path]}
  assert code == 0 and changed == {"likelihoods.json", "report.json"}


@pytest.mark.parametrize("args, expected", [
    ([], 1000), ([f"--gin_file={TINY}"], 1000), (["--gin_param=EVALUATION_SAMPLES = 7"], 7)])
def test_own_number_of_samples(copy, args, expected):
  """K of training, in the run and in its experiment's file, is not that of the likelihoods."""
  code, printed = runs.call_here(
      "evaluate.py", f"--run_dir={copy.path}", f"--data_dir={runs.scratch() / 'data'}", *args,
      "--gin_param=METRICS = {}")
  assert code == 0, printed
  page = (pathlib.Path(copy.results) / "report.html").read_text()
  assert f"\nEVALUATION_SAMPLES = {expected}\n" in page and "\nNUM_SAMPLES = 2\n" in page


def test_one_example(copy):
  code, printed = evaluate(
      copy, "--gin_param=MAX_EXAMPLES = 1")
  assert code == 0, printed
  assert " on toy_birds, 1 examples" in printed
  assert all(figure["n"] <= 1 for figure in figures(copy, "likelihoods").values())
  assert figures(copy, "likelihoods")["joint/iwae_tight"]["stderr"] is None


def test_other_data_than_the_run_began_with(copy):
  with open(copy.data, encoding="utf-8") as file:
    data = json.load(file)
  assert data["test"]["num_examples"] == 20 and len(data["training"]["fingerprint"]) == 64
  code, printed = evaluate(copy, BOUNDS)
  assert code == 0 and "are others than" not in printed
  data["test"].update(num_examples=25, fingerprint="another")
  data["held-out"]["fingerprint"] = "another"
  pathlib.Path(copy.data).write_text(json.dumps(data))
  code, printed = evaluate(copy, BOUNDS)
  assert code == 0
  sentences = ["The test data are others than those that the run began with: 25 examples of "
               "toy_birds then, 20 of toy_birds now.",
               "The held-out data are others than those that the run began with: 20 examples of "
               "toy_birds then, 20 of toy_birds now of other contents."]
  page = (pathlib.Path(copy.results) / "report.html").read_text()
  for sentence in sentences:
    assert sentence in printed and sentence in page
  assert "The training data" not in printed


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"test": {"name": "x"}}', '{"test": 1}'])
def test_a_damaged_note_of_the_data(copy, text):
  pathlib.Path(copy.data).write_text(text)
  code, printed = evaluate(copy, "--gin_param=METRICS = {}")
  assert code == 0, printed
  assert f"{copy.data} is damaged: it cannot be told whether the data are those" in printed


def test_another_model_than_was_trained(copy):
  """Weights fit, and mean something else."""
  code, printed = evaluate(copy, "--gin_param=METRICS = {}", "--gin_param=SEED = 5",
                           "--gin_param=mm.normal_likelihood.scale = 0.3")
  said = ("The model is configured otherwise than it was trained: "
          "mm.normal_likelihood.scale = 0.1 then, "
          "mm.normal_likelihood.scale = 0.3 now.")
  assert code == 0 and said in printed
  assert html.escape(said) in (pathlib.Path(copy.results) / "report.html").read_text()
  code, printed = evaluate(copy, "--gin_param=METRICS = {}")
  assert code == 0 and "configured otherwise" not in printed


def test_a_modality_that_nobody_judges(copy):
  code, printed = evaluate(
      copy, '--gin_param=METRICS = {"agreement": @mm.metrics.Agreement()}',
      '--gin_param=mm.metrics.Agreement.readers = {"sentence": @mm.data.toy_birds.read_captions}')
  assert code == 0, printed
  assert "No reader tells attributes of 'image': what is translated to it is not judged." in printed
  assert "image to sentence: size" in printed


@pytest.mark.parametrize("metric, sentence", [
    ('"agreement": @mm.metrics.Agreement(), ', "Agreement's readers for ['sound']"),
    ('"probes": @mm.metrics.Probe(), ', "'colour'")])
def test_a_metric_that_fails(copy, metric, sentence):
  code, printed = evaluate(
      copy, f'--gin_param=METRICS = {{{metric}"likelihoods": @mm.metrics.Likelihoods()}}',
      '--gin_param=mm.metrics.Agreement.readers = {"sound": @mm.data.toy_birds.read_captions}',
      '--gin_param=LABELS = ["colour"]')
  assert code == 1 and "Traceback" not in printed
  name = metric.split('"')[1]
  assert re.search(f"{name}:\n  not measured: .*{re.escape(sentence)}", printed), printed
  assert f"not measured: {name}; what kept them from it stands above" in printed
  assert "All modalities, nats" in printed and figures(copy, "likelihoods")
  page = (pathlib.Path(copy.results) / "report.html").read_text()
  assert "(not measured)" in page and "All modalities, nats" in page


@pytest.mark.parametrize("binding, sentence", [
    ("MAX_EXAMPLES = 0", "max_examples must be a whole number of at least 1, or None, got 0"),
    ('METRICS = {"a/b": @mm.metrics.HeldOut()}', "'a/b' cannot name a metric, whose figures go"),
    ('METRICS = {"report": @mm.metrics.HeldOut()}', "'report' cannot name a metric"),
    ('METRICS = {"m": "held_out"}', "metric 'm' must be a function (model, dataset), got 'held"),
    ("METRICS = {'m': @mm.metrics.HeldOut}", "metric 'm' is the class HeldOut: give an instance"),
    ("METRICS = [@mm.metrics.HeldOut()]", "metrics must be {name: metric}, got ["),
    ("NUM_SAMPLE = 3", "nothing uses the macro NUM_SAMPLE: look for a misspelt name")])
def test_wrong_knobs(copy, binding, sentence):
  before = runs.files(copy.path)
  code, printed = evaluate(copy, f"--gin_param={binding}")
  assert code == 1 and sentence in printed and "Traceback" not in printed
  assert runs.files(copy.path) == before


def test_a_failure_of_before_is_not_held_against_other_metrics(copy):
  wrong = ["--gin_param=METRICS = {'p': @mm.metrics.Probe()}", "--gin_param=LABELS = ['colour']"]
  assert evaluate(copy, *wrong)[0] == 1
  code, printed = evaluate(copy, "--gin_param=METRICS = {'held_out': @mm.metrics.HeldOut()}")
  assert code == 0, printed
  assert "not measured" not in printed


@pytest.mark.parametrize("name, text", [
    ("report.json", '{"step": 20, "metrics": {"held_out": {"title": "x"}}}'),
    ("held_out.json", '{"elbo'), ("held_out.json", '{"elbo": {"value": "1"}}')])
def test_damaged_results(copy, name, text):
  results = pathlib.Path(copy.results)
  (results / name).write_text(text)
  code, printed = evaluate(copy, "--gin_param=METRICS = {'held_out': @mm.metrics.HeldOut()}")
  assert code == 0, printed
  assert "Traceback" not in printed and "damaged" in printed
  assert "value" in figures(copy, "held_out")["elbo"]


def test_photographs_with_captions(tmp_path):
  from tests import gin_files_test
  gin_files_test.write_sources()
  run, code, printed = runs.finished("gin/cub_tiny.gin")
  assert code == 0, printed
  shutil.copytree(run.path, tmp_path / "run")
  code, printed = evaluate(
      RunDir(tmp_path / "run"), f"--manual_dir={runs.scratch() / 'manual'}",
      '--gin_param=METRICS = {"correlation": @mm.metrics.Correlation(), '
      '"caption_words": @mm.metrics.CaptionWords()}')
  assert code == 0, printed
  assert "Correlation of 'image' and 'sentence'" in printed
  assert "Attribute words of 'sentence'" in printed
