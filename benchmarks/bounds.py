r"""Every bound under every fusion rule beside the exact log p(x).

  python benchmarks/bounds.py      # a markdown table; about a minute on one core

The model is the linear-Gaussian one of the tests, whose log p(x) is exact. Experts are moved off
the exact posteriors, so that no bound is tight by construction, except in the last rows: there each
expert is p(x_m | z) as a density of z, and their product with the prior is the exact posterior.
A value is the mean over runs for one x, with its standard error.
"""

import os
import pathlib
import sys

import numpy as np
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RUNS = flags.DEFINE_integer("runs", 4000, "Runs behind each value.")
MODALITIES = flags.DEFINE_integer("modalities", 3, "M, 1 to 3.")
SAMPLES = (1, 5, 30, 300)


def models(exact):
  """(name, model) of every fusion rule."""
  from tf_mmvae import joint_posteriors
  rules = (joint_posteriors.MixtureOfExperts(), joint_posteriors.ProductOfExperts(),
           joint_posteriors.MixtureOfProducts())
  for rule in rules:
    yield str(rule), exact.model(shift=0.4, joint_posterior=rule)
  yield "product_of_experts, exact", exact.model(
      joint_posterior=joint_posteriors.ProductOfExperts(), prior_in_experts=False)


def rows(exact):
  """Lines of the table."""
  import tensorflow as tf

  from tf_mmvae import joint_posteriors, objectives
  one = exact.sample(1, seed=5)
  x = {name: tf.repeat(value, RUNS.value, 0) for name, value in one.items()}
  for name, model in models(exact):
    log_pi = joint_posteriors.log_mixture_weights(model.posterior(x))
    num_strata = model.num_components(x)
    values = {}
    for num in SAMPLES:
      noise = joint_posteriors.uniform_noise([num_strata, num, RUNS.value, 2], [1, num])
      log_w = objectives.log_weights(model.particles(x, noise))
      for bound in objectives.BOUNDS:
        values.setdefault(bound.__name__, []).append(np.asarray(bound(log_w, log_pi), float))
    for bound, of_samples in values.items():
      cells = [f"{v.mean():.4f} ± {v.std(ddof=1) / np.sqrt(len(v)):.4f}" for v in of_samples]
      yield f"| {name} | {bound} | {' | '.join(cells)} |"


def main(argv):
  del argv
  from tests import oracle
  exact = oracle.LinearGaussian(MODALITIES.value)
  log_px = exact.log_evidence(exact.sample(1, seed=5))[0]
  print(f"log p(x) = {log_px:.4f} nats\n")
  print(f"| fusion | bound | {' | '.join(f'K = {num}' for num in SAMPLES)} |")
  print("|---|---|" + "---|" * len(SAMPLES))
  for line in rows(exact):
    print(line, flush=True)


if __name__ == "__main__":
  app.run(main)
