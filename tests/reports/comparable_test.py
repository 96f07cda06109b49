import pytest

from tf_mmvae.reports import comparable
from tf_mmvae.reports.comparison import Metric, Run

SETTINGS = {
    "SEED": 0, "B": 0.75, "K": 10, "BETA": 1.0, "LATENT_DIM": 4, "LIKELIHOOD": "@ours.laplace",
    "METRICS": {"bounds": "@bounds.Bounds()", "shares": "@test/shares.Shares()"},
    "ESTIMATOR": "@estimators.Estimator()",
    "evaluate.Evaluation.metrics": "%METRICS",
    "bounds.Bounds.num_samples": "%K",
    "bounds.Bounds.estimator": "%ESTIMATOR",
    "bounds.Bounds.seed": 0,
    "bounds.Bounds.num_examples": 100,
    "test/shares.Shares.target": "image",
    "train.train.estimator": "%ESTIMATOR",
    "estimators.Estimator.beta": "%BETA",
    "estimators.Estimator.gradient": "@objectives.dreg",
    "image/modality.Modality.likelihood": "%LIKELIHOOD",
    "ours.laplace.scale": "%B",
}
BOUNDS = ["objective", "elbo", "image/iwae", "log_p/image"]
OTHERS = ["ess", "kl", "spiwaek"]


def run(name="bounds", data="a", n=100, figures=(*BOUNDS, *OTHERS), scale=None, **settings):
  found = {figure: {"value": 1.0, "stderr": 0.1, "n": n} for figure in figures}
  if scale:
    found[scale[0]] = {"value": scale[1], "stderr": 0.1, "n": n}
  return Run("r", {**SETTINGS, **settings}, {name: Metric(found, data=data)})


def reasons(*groups, name="bounds", units=None):
  return comparable.reasons([[g] if isinstance(g, Run) else g for g in groups], name, units or {})


def test_nothing_keeps_like_runs_apart():
  assert reasons(run(), run()) == {}
  other = run(LATENT_DIM=8, **{"bounds.Bounds.seed": 3, "bounds.Bounds.num_examples": 200,
                               "estimators.Estimator.gradient": "@objectives.stl"})
  assert reasons(run(), other) == {}


def test_a_run_without_the_metric_says_nothing():
  assert reasons(run(), run("shares", data="b", B=0.1), run()) == {}
  assert reasons(run("shares"), run("shares")) == {}


def test_test_data():
  found = reasons(run(), run(data="b"))
  assert found == dict.fromkeys([*BOUNDS, *OTHERS], "the test data differ")
  seeds = [run(data="a"), run(data="b")]  # where the seed draws the pairs
  assert reasons(seeds, seeds[::-1]) == {}
  assert set(reasons(seeds, run())) == {*BOUNDS, *OTHERS}


def test_the_settings_of_the_metric():
  found = reasons(run(), run(), run(K=20))
  assert found == dict.fromkeys(
      [*BOUNDS, *OTHERS], "it was set otherwise (bounds.Bounds.num_samples: 10, 10, 20)")
  assert reasons(run(), run(K="%NUM", NUM="%TEN", TEN=10)) == {}  # macros of macros
  assert reasons(run("shares"), run("shares", K=20), name="shares") == {}
  found = reasons(run("shares"), run("shares", **{"test/shares.Shares.target": "words"}),
                  name="shares")
  assert found["ess"] == "it was set otherwise (test/shares.Shares.target: image, words)"


def test_numbers_of_observations():
  assert set(reasons(run(figures=["kl"]), run(figures=["kl"], n=50))) == {"kl"}
  found = reasons(run(figures=["kl", "elbo"]), run(figures=["kl"]), run(figures=["elbo"], n=50))
  assert found == {"elbo": "the numbers n of observations differ"}
  mixed = [run(n=50), run(n=100)]
  assert reasons(mixed, mixed[::-1]) == {}
  assert set(reasons(mixed, run())) == {*BOUNDS, *OTHERS}


@pytest.mark.parametrize("settings, said", [
    ({"B": 0.5}, "ours.laplace.scale: 0.75, 0.5"),
    ({"LIKELIHOOD": "@ours.normal"},
     "image/modality.Modality.likelihood: @ours.laplace, @ours.normal; "
     "ours.laplace.scale: 0.75, –"),
    ({"image/ours.laplace.scale": 0.5}, "image/ours.laplace.scale: –, 0.5"),
])
def test_likelihoods_need_one_scale(settings, said):
  found = reasons(run(), run(**settings))
  assert found == dict.fromkeys(
      BOUNDS, f"likelihoods compare at one family and scale alone ({said})")


@pytest.mark.parametrize("name", ["image/b", "b", "scale/image", "image/scale"])
def test_scales_that_were_measured(name):
  assert reasons(run(scale=(name, 0.1)), run(scale=(name, 0.1))) == {}
  found = reasons(run(scale=(name, 0.1)), run(scale=(name, 0.2)))
  assert set(found) == set(BOUNDS) and f"({name})" in found["elbo"]


def test_figures_in_nats_are_likelihoods():
  found = reasons(run(), run(B=0.5), units={"kl": "nats", "ess": "%"})
  assert set(found) == {*BOUNDS, "kl"}


@pytest.mark.parametrize("settings, said", [
    ({"BETA": 2.0}, "estimators.Estimator.beta: 1.0, 2.0"),
    ({"train.train.estimator": "@objectives.Other()"}, "estimator: @estimators.Estimator(), @ob"),
])
def test_an_objective_is_compared_with_its_like(settings, said):
  found = reasons(run(), run(**settings))
  assert list(found) == ["objective"] and f"the objectives differ ({said}" in found["objective"]
