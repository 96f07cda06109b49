import pytest

from tf_mmvae.reports import comparable
from tf_mmvae.reports.comparison import Metric, Run
from tf_mmvae.reports.settings import Settings

RUN = {"SEED": 0, "LATENT_DIM": 4}
ESTIMATOR = {"mm.Estimator.beta": 1.0, "mm.Estimator.screening": None}
METRICS = {
    "bounds": {
        "mm.metrics.Bounds.num_samples": 10,
        "mm.metrics.Bounds.estimator": "@mm.Estimator()",
        "mm.metrics.Bounds.seed": 0,
        "mm.metrics.Bounds.num_examples": 100},
    "shares": {"test/mm.metrics.Shares.target": "image"}}
LIKELIHOODS = {
    "image/mm.Modality.likelihood": "@mm.laplace_likelihood", "mm.laplace_likelihood.scale": 0.75}
OBJECTIVE = {"estimator": "@mm.Estimator()", **ESTIMATOR}
BOUNDS = ["objective", "elbo", "image/iwae", "log_p/image"]
OTHERS = ["ess", "kl", "spiwaek"]


def run(name="bounds", data="a", n=100, figures=(*BOUNDS, *OTHERS), scale=None, run=None,
        metric=None, likelihoods=LIKELIHOODS, objective=None):
  """A run of one metric. run, metric, objective: what is set otherwise; likelihoods: all of it."""
  found = {figure: {"value": 1.0, "stderr": 0.1, "n": n} for figure in figures}
  if scale:
    found[scale[0]] = {"value": scale[1], "stderr": 0.1, "n": n}
  of_metric = {**METRICS[name], **(metric or {})}
  settings = Settings({**RUN, **(run or {})}, {**METRICS, name: of_metric},
                      likelihoods=likelihoods, objective={**OBJECTIVE, **(objective or {})})
  return Run("r", settings, {name: Metric(found, data=data)})


def reasons(*groups, name="bounds", units=None):
  return comparable.reasons([[g] if isinstance(g, Run) else g for g in groups], name, units or {})


def test_nothing_keeps_like_runs_apart():
  assert reasons(run(), run()) == {}
  other = run(run={"LATENT_DIM": 8}, metric={
      "mm.metrics.Bounds.seed": 3, "mm.metrics.Bounds.num_examples": 200,
      "mm.metrics.Bounds.batch_size": 9})
  assert reasons(run(), other) == {}


def test_a_run_without_the_metric_says_nothing():
  assert reasons(run(), run("shares", data="b", likelihoods={}), run()) == {}
  assert reasons(run("shares"), run("shares")) == {}


def test_test_data():
  found = reasons(run(), run(data="b"))
  assert found == dict.fromkeys([*BOUNDS, *OTHERS], "the test data differ")
  seeds = [run(data="a"), run(data="b")]  # where the seed draws the pairs
  assert reasons(seeds, seeds[::-1]) == {}
  assert set(reasons(seeds, run())) == {*BOUNDS, *OTHERS}


K = "mm.metrics.Bounds.num_samples"


def test_the_settings_of_the_metric():
  found = reasons(run(), run(), run(metric={K: 20}))
  assert found == dict.fromkeys([*BOUNDS, *OTHERS], f"it was set otherwise ({K}: 10, 10, 20)")
  assert reasons(run(), run(metric={K: 10})) == {}
  other = run("shares")
  other.settings.metrics["bounds"] = {K: 20}
  assert reasons(run("shares"), other, name="shares") == {}
  found = reasons(run("shares"), run("shares", metric={"test/mm.metrics.Shares.target": "words"}),
                  name="shares")
  assert found["ess"] == "it was set otherwise (test/mm.metrics.Shares.target: image, words)"


def test_what_a_metric_refers_to_counts():
  found = reasons(run("shares", metric={"mm.metrics.AggregatePosterior.num_components": 5}),
                  run("shares"), name="shares")
  assert found["ess"] == (
      "it was set otherwise (mm.metrics.AggregatePosterior.num_components: 5, –)")


def test_names_from_python():
  def named(num_samples, seed):
    settings = Settings({"seed": seed}, {"bounds": {"num_samples": num_samples, "seed": seed}},
                        objective={"num_samples": num_samples})
    return run()._replace(settings=settings)

  assert reasons(named(10, 0), named(10, 1)) == {}
  found = reasons(named(10, 0), named(20, 0))  # an objective's own settings are no metric's
  assert found["kl"] == "it was set otherwise (num_samples: 10, 20)"


def test_seeds_of_a_group_that_were_measured_otherwise():
  seeds = [run(metric={K: 10}), run(metric={K: 20}), run(metric={K: 10})]
  assert reasons(seeds, run())["kl"] == f"it was set otherwise ({K}: 10, 20, 10)"
  assert reasons(seeds[::2], run()) == {}


def test_what_is_not_recorded():
  unknown = run()._replace(name="u", settings=None)
  left_out = run()._replace(name="l", settings=Settings(RUN, likelihoods={}))
  for other in (unknown, left_out):
    assert reasons(run(), other) == reasons(other, other) == {}
    assert set(reasons(run(), other, run(metric={K: 20}))) == {*BOUNDS, *OTHERS}
    assert reasons(run(), other._replace(metrics=run(n=50).metrics))["kl"].startswith("the numb")
    assert comparable.unrecorded([[run()], [other]], "bounds") == [other.name]
  groups = [[unknown, run()], [run("shares")], [left_out]]
  assert comparable.unrecorded(groups, "bounds") == ["u", "l"]
  assert comparable.unrecorded(groups[:2], "bounds") == []  # there is nothing to compare it with
  assert comparable.unrecorded([[run()], [run()]], "bounds") == []


def test_numbers_of_observations():
  assert set(reasons(run(figures=["kl"]), run(figures=["kl"], n=50))) == {"kl"}
  found = reasons(run(figures=["kl", "elbo"]), run(figures=["kl"]), run(figures=["elbo"], n=50))
  assert found == {"elbo": "the numbers n of observations differ"}
  mixed = [run(n=50), run(n=100)]
  assert reasons(mixed, mixed[::-1]) == {}
  assert set(reasons(mixed, run())) == {*BOUNDS, *OTHERS}


@pytest.mark.parametrize("likelihoods, said", [
    ({**LIKELIHOODS, "mm.laplace_likelihood.scale": 0.5}, "mm.laplace_likelihood.scale: 0.75, 0.5"),
    ({"image/mm.Modality.likelihood": "@mm.normal_likelihood"},
     "image/mm.Modality.likelihood: @mm.laplace_likelihood, @mm.normal_likelihood; "
     "mm.laplace_likelihood.scale: 0.75, –"),
    ({**LIKELIHOODS, "image/mm.laplace_likelihood.scale": 0.5},
     "image/mm.laplace_likelihood.scale: –, 0.5"),
])
def test_likelihoods_need_one_scale(likelihoods, said):
  found = reasons(run(), run(likelihoods=likelihoods))
  assert found == dict.fromkeys(
      BOUNDS, f"likelihoods compare at one family and scale alone ({said})")


@pytest.mark.parametrize("name", ["image/b", "b", "scale/image", "image/scale"])
def test_scales_that_were_measured(name):
  assert reasons(run(scale=(name, 0.1)), run(scale=(name, 0.1))) == {}
  found = reasons(run(scale=(name, 0.1)), run(scale=(name, 0.2)))
  assert set(found) == set(BOUNDS) and f"({name})" in found["elbo"]


def test_figures_in_nats_are_likelihoods():
  found = reasons(run(), run(likelihoods={}), units={"kl": "nats", "ess": "%"})
  assert set(found) == {*BOUNDS, "kl"}


@pytest.mark.parametrize("objective, said", [
    ({"mm.Estimator.beta": 2.0}, "mm.Estimator.beta: 1.0, 2.0"),
    ({"estimator": "@mm.SubsampledEstimator()"}, "estimator: @mm.Estimator(), @mm.Sub"),
])
def test_an_objective_is_compared_with_its_like(objective, said):
  found = reasons(run(), run(objective=objective))
  assert list(found) == ["objective"] and f"the objectives differ ({said}" in found["objective"]
