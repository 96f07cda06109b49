import json
import re
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from tests import oracle
from tf_mmvae.data.examples import Examples
from tf_mmvae.metrics.findings import Findings, Picture, Table
from tf_mmvae.reports import evaluation as evaluate
from tf_mmvae.reports.results import Figure, Results
from tf_mmvae.reports.settings import Settings

SETTINGS = Settings(metrics=dict.fromkeys(["m", "first", "second"], {}))


def data(num_examples=5, first=0.):
  """Numbers from `first` on."""
  return Examples("numbers", num_examples, lambda i: (
      {"a": tf.cast(i, tf.float32)[:, None] + first}, {"said": tf.as_string(i)}))


class Metric:
  """Notes what it is asked, and finds the same figure each time."""

  def __init__(self, findings=None, error=None):
    self.findings, self.error, self.seen = findings or {"figure": (1.5, 0.25, 4)}, error, []

  def __call__(self, model, dataset):
    self.seen.append(dataset.num_examples)
    if self.error:
      raise self.error
    return self.findings


@pytest.fixture(scope="module")
def model():
  return oracle.LinearGaussian(1).model()


def test_figures_are_kept(tmp_path, model):
  metrics = {"first": Metric(), "second": Metric({"other": (2., 0., 3)})}
  found = evaluate.Evaluation(data(), metrics)(model, tmp_path / "new" / "results", step=70)
  assert [metric.seen for metric in metrics.values()] == [[5], [5]]
  assert list(found.entries) == ["first", "second"]
  assert found.figures("first") == {"figure": {"value": 1.5, "stderr": 0.25, "n": 4}}
  assert found.entries["second"]["examples"] == "numbers, 5 examples"
  assert found.entries["second"]["title"] == "Second"
  assert found.entries["second"]["seconds"] >= 0 < found.entries["second"]["peak_mib"]
  assert json.loads((tmp_path / "new/results/report.json").read_text())["step"] == 70
  again = Results(tmp_path / "new" / "results")
  assert (again.entries, again.figures("second")) == (found.entries, found.figures("second"))


def test_what_was_measured_is_not_measured_again(tmp_path, model):
  first, second = Metric(), Metric(error=ValueError("no reader"))
  evaluation = evaluate.Evaluation(data(), {"first": first, "second": second})
  evaluation(model, tmp_path, SETTINGS)
  evaluation(model, tmp_path, SETTINGS)
  assert (len(first.seen), len(second.seen)) == (1, 2)  # one that failed is tried again
  (tmp_path / "first.json").unlink()
  evaluation(model, tmp_path, SETTINGS)
  assert len(first.seen) == 2


@pytest.mark.parametrize("known", [True, False])
def test_what_was_set_must_be_known(known, tmp_path, model):
  """Of settings that nobody knows nobody can say that they are the same."""
  metric = Metric()
  evaluation = evaluate.Evaluation(data(), {"m": metric})
  for settings in (None, Settings({"SEED": 0}), SETTINGS if known else None, None):
    evaluation(model, tmp_path, settings)
  assert len(metric.seen) == 4
  evaluation(model, tmp_path, SETTINGS)
  evaluation(model, tmp_path, SETTINGS)
  assert len(metric.seen) == 5


SET = Settings(metrics={"m": {"K": 2, "shape": (3, 4)}}, model={"D": 4})


@pytest.mark.parametrize("change", [
    "data", "contents", "weights", "settings", "references", "model", "max_examples"])
def test_what_a_figure_depends_on_makes_it_measured_again(change, tmp_path):
  model, metric = oracle.LinearGaussian(1).model(), Metric()
  evaluate.Evaluation(data(), {"m": metric})(model, tmp_path, SET)
  dataset = {"data": data(6), "contents": data(first=1.)}.get(change, data())
  if change == "weights":
    weight = model.weights[0]
    weight.assign(weight + 1e-3)
  later = {"settings": SET._replace(metrics={"m": {"K": 3, "shape": (3, 4)}}),
           "references": SET._replace(references={"m": {"num_steps": 3}}),
           "model": SET._replace(model={"D": 5})}.get(change, SET)
  evaluate.Evaluation(dataset, {"m": metric}, 3 if change == "max_examples" else None)(
      model, tmp_path, later)
  assert len(metric.seen) == 2


def test_what_no_figure_depends_on(tmp_path, model):
  metric = Metric()
  for settings in (SET, Settings({"SEED": 1}, {"m": {"shape": [3, 4], "K": 2}, "k": {"K": 3}},
                                 model=SET.model, objective={"beta": 2})):
    found = evaluate.Evaluation(data(), {"m": metric})(model, tmp_path, settings)
  assert len(metric.seen) == 1
  assert found.entries["m"]["settings"] == {"K": 2, "shape": [3, 4]}
  state = json.loads((tmp_path / "report.json").read_text())
  assert state["settings"] == {"run": {"SEED": 1}, "likelihoods": {}, "objective": {"beta": 2}}
  before = (tmp_path / "report.json").stat().st_mtime_ns
  evaluate.Evaluation(data(), {"m": metric})(model, tmp_path, settings)
  assert (tmp_path / "report.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("settings, said", [
    (Settings({"x": float("nan")}), "settings of the run, 'x': nan cannot be kept"),
    (Settings(metrics={"m": {"x": object}}), "settings of the metrics, 'm: x': <class 'object'> "),
    (Settings(model={"x": {"y": {1}}}), r"settings of the model, 'x: y': \{1\} cannot be kept")])
def test_settings_that_no_file_can_hold(settings, said, tmp_path, model):
  with pytest.raises(ValueError, match=f"^{said}.*: give numbers, text, True, False or None, or "):
    evaluate.Evaluation(data(), {"m": Metric()})(model, tmp_path, settings)
  assert not list(tmp_path.iterdir())


def test_words_of_labels_tell_data_apart():
  fingerprints = [Examples("words", 3, lambda i, word=word: (
      {"a": tf.zeros([tf.shape(i)[0], 1])}, {"said": tf.fill(tf.shape(i), word)})).fingerprint()
      for word in ("crow", "crow", "jay")]
  assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_other_code_measures_again(tmp_path, model, monkeypatch):
  metric = Metric()
  evaluation = evaluate.Evaluation(data(), {"m": metric})
  evaluation(model, tmp_path / "results", SETTINGS)
  evaluation(model, tmp_path / "results", SETTINGS)
  assert len(metric.seen) == 1
  package = tmp_path / "package"
  package.mkdir()
  (package / "new.py").write_text("x = 1\n")
  monkeypatch.setattr("tf_mmvae.reports.results._PACKAGE", package)
  evaluation(model, tmp_path / "results", SETTINGS)
  assert len(metric.seen) == 2


def test_findings_of_other_weights_are_dropped(tmp_path):
  model = oracle.LinearGaussian(1).model()
  picture = Picture("a view", np.zeros([2, 3, 3], np.uint8))
  old = Metric(Findings({"f": (1., 0., 1)}, pictures=(picture,)))
  evaluate.Evaluation(data(), {"old": old})(model, tmp_path)
  assert (tmp_path / "old_a_view.png").is_file()
  evaluate.Evaluation(data(), {"new": Metric()})(model, tmp_path)
  assert list(Results(tmp_path).entries) == ["old", "new"]
  model.weights[0].assign(model.weights[0] + 1)
  found = evaluate.Evaluation(data(), {"new": Metric()})(model, tmp_path)
  assert list(found.entries) == ["new"]
  assert sorted(path.name for path in tmp_path.iterdir()) == ["new.json", "report.json"]


class Unfit(Metric):

  def check(self, model):
    raise ValueError("unfit for this model")


@pytest.mark.parametrize("metric, said", [
    (Metric(error=ValueError("no reader of 'sound'")), "no reader of 'sound'"),
    (Metric(error=OSError(2, "No such file", "/w.h5")), "No such file"),
    (Metric(error=KeyError("digit")), "there is no 'digit': look at the labels and"),
    (Metric(error=MemoryError()), "MemoryError"),
    (Unfit(), "unfit for this model")])
def test_a_metric_that_fails_leaves_the_others(metric, said, tmp_path, model):
  found = evaluate.Evaluation(data(), {"bad": metric, "good": Metric()})(model, tmp_path)
  assert said in found.entries["bad"]["error"]
  assert found.figures("bad") == {} and found.figures("good")
  assert f"not measured: {found.entries['bad']['error']}" in evaluate.table(found)


@pytest.mark.parametrize("findings, said", [
    (object(), "it returned object in place of Findings"),
    ({0: (1., 0., 1)}, "it returned dict in place of Findings"),
    ({"f": 1.5}, "TypeError|int|float"),
    ({"f": ("high", 0., 1)}, "str"),
    (Findings({"f": (1., 0., 1)}, (Table("T", ["a"], {"row": ["g"]}),)), "no figure g")])
def test_what_is_no_findings_leaves_the_others(findings, said, tmp_path, model):
  metrics = {"bad": Metric(findings), "good": Metric()}
  found = evaluate.Evaluation(data(), metrics)(model, tmp_path)
  assert re.search(said, found.entries["bad"]["error"])
  assert not (tmp_path / "bad.json").exists() and found.figures("good")
  assert list(Results(tmp_path).entries) == ["bad", "good"]


def test_a_full_disk_stops_before_the_others_are_measured(tmp_path, model, monkeypatch):
  def full(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(Results, "write", full)
  second = Metric()
  with pytest.raises(OSError, match="No space left"):
    evaluate.Evaluation(data(), {"first": Metric(), "second": second})(model, tmp_path)
  assert not second.seen


@pytest.mark.parametrize("metrics", [
    {"a/b": Metric()}, {"": Metric()}, {"..": Metric()}, {"report": Metric()}, {1: Metric()},
    {"m": "m"}, [Metric()]])
def test_wrong_metrics(metrics):
  with pytest.raises(ValueError, match="cannot name a metric|must be"):
    evaluate.Evaluation(data(), metrics)


def test_figures_of_before_go_when_a_metric_fails(tmp_path, model):
  evaluate.Evaluation(data(), {"m": Metric()})(model, tmp_path)
  evaluate.Evaluation(data(6), {"m": Metric(error=ValueError("no"))})(model, tmp_path)
  assert Results(tmp_path).figures("m") == {} and not (tmp_path / "m.json").exists()


def test_an_interruption_keeps_what_is_done(tmp_path, model):
  first, second = Metric(), Metric(error=KeyboardInterrupt())
  evaluation = evaluate.Evaluation(data(), {"first": first, "second": second})
  with pytest.raises(KeyboardInterrupt):
    evaluation(model, tmp_path, SETTINGS)
  second.error = None
  evaluation(model, tmp_path, SETTINGS)
  assert (len(first.seen), len(second.seen)) == (1, 2)


def test_a_class_is_no_metric():
  said = r"^metric 'm' is the class Metric: give an instance, Metric\(\)$"
  with pytest.raises(ValueError, match=said):
    evaluate.Evaluation(data(), {"m": Metric})


@pytest.mark.parametrize("asked, expected", [(None, 5), (9, 5), (3, 3), (1, 1)])
def test_max_examples(asked, expected, tmp_path, model):
  metric = Metric()
  evaluation = evaluate.Evaluation(data(), {"m": metric}, asked)
  evaluation(model, tmp_path)
  assert metric.seen == [expected]
  assert f"m on numbers, {expected} examples" == evaluation.what()
  if expected == 3:
    x, _, _ = next(iter(evaluation.dataset.batches(3)))
    np.testing.assert_array_equal(x["a"][:, 0], [0, 2, 4])


@pytest.mark.parametrize("asked", [0, -1, 2.5, "all"])
def test_wrong_max_examples(asked):
  with pytest.raises(ValueError, match="max_examples must be a whole number of at least 1, or"):
    evaluate.Evaluation(data(), {}, asked)


def test_check_raises_at_once(model):
  with pytest.raises(ValueError, match="unfit"):
    evaluate.Evaluation(data(), {"m": Unfit()}).check(model)


def test_without_a_run(model, tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  picture = Picture("a view", np.zeros([2, 3, 3], np.uint8))
  metrics = {"m": Metric(Findings({"f": (1.5, 0.25, 4)}, pictures=(picture,))),
             "bad": Metric(error=ValueError("no reader"))}
  found = evaluate.evaluate(model, data(), metrics, max_examples=3)
  assert metrics["m"].seen == [3] and not list(tmp_path.iterdir())
  assert list(found) == ["m", "bad"] and found["m"] == {"f": Figure(1.5, 0.25, 4)}
  assert str(found) == evaluate.table(found) == (
      "m:\n  f     1.50 ± 0.25  (n = 4)\nbad:\n  not measured: no reader")
  evaluate.evaluate(model, data(), metrics, tmp_path / "kept")
  assert metrics["m"].seen == [3, 5] and Results(tmp_path / "kept")["m"] == found["m"]


def test_table_of_bare_figures(tmp_path, model):
  metrics = {"held_out": Metric({"elbo": (-123.456, 1.234, 1000),
                                 "iwae_tight": (-99.5, float("nan"), 1)}), "empty": Metric({})}
  metrics["empty"].findings = {}
  lines = evaluate.table(evaluate.Evaluation(data(), metrics)(model, tmp_path)).splitlines()
  assert lines[0] == "held_out:" and lines[3] == "empty:" and len(lines) == 4
  assert re.fullmatch(r"  elbo +-123\.5 ± 1\.2  \(n = 1000\)", lines[1])
  assert re.fullmatch(r"  iwae_tight +-99\.5  \(n = 1\)", lines[2])
  assert lines[1].index("(n") == lines[2].index("(n")


def test_table_of_tables(tmp_path, model):
  """Per cent, gaps, notes beside their figures; what is for a second look is left out."""
  figures = {"a": (0.5, 0.01, 9), "b": (0.25, 0.01, 9), "nats": (-3.21, 0.1, 9)}
  findings = Findings(
      figures, (Table("Shares", ["left", "right"], {"one": ["a", "b"], "two": [None, "a"]}, "%"),
                Table("Bounds", ["elbo"], {"x": ["nats"]}, "nats"),
                Table("Details", ["deep"], {"x": ["nats"]}, detail=True)),
      notes={"b": "the judge is 90 % right"}, remarks=("No reader of sound.",))
  found = evaluate.Evaluation(data(), {"m": Metric(findings)})(model, tmp_path)
  assert evaluate.table(found).splitlines() == [
      "m:", "  Shares", "                 left           right",
      "    one  50.0 ± 1.0 %  25.0 ± 1.0 % *", "    two                  50.0 ± 1.0 %",
      "    * the judge is 90 % right", "  Bounds, nats", "               elbo",
      "    x  -3.21 ± 0.10", "  No reader of sound."]
  assert json.loads((tmp_path / "m.json").read_text())["b"]["note"] == "the judge is 90 % right"
