"""Measures a trained run on its test split by the four criteria of Shi et al. (2019).

  tf-mmvae evaluate --run_dir=runs/toy_birds
  tf-mmvae evaluate --run_dir=runs/cub --manual_dir=DATA --gin_param='MAX_EXAMPLES = 200'

Writes results/report.html, a page to open, results/*.json, each figure with its standard error and
number of examples, and results/*.png into the run's directory. What is measured already, of the
same weights and data in the same way, is kept: rerun the command to resume.

EVALUATION_SAMPLES (K of the likelihoods, 1000), MAX_EXAMPLES (None: all) and SEED are knobs for
--gin_param; METRICS is what is measured.
"""

import resource
import time

from tf_mmvae.cli import config
from tf_mmvae.run_dir import RunDir

define = config.define


def main(flag, invocation):
  del invocation
  if not flag.run_dir:
    raise ValueError("give --run_dir, the directory of a trained run")
  run_dir = RunDir(flag.run_dir)
  run_dir.refuse_description()
  config.load(run_dir, flag, from_run=True)

  import gin

  from tf_mmvae.cli.settings import changed_model, settings
  from tf_mmvae.experiment import Experiment
  from tf_mmvae.model import MultimodalVAE
  from tf_mmvae.run import Run
  experiment = gin.get_configurable(Experiment)()
  run = Run(run_dir, gin.get_configurable(MultimodalVAE), lambda: experiment)
  run.load()
  config.refuse_unused_bindings(flag.gin_param, typed_alone=True)
  changes = changed_model(run_dir)
  started = time.monotonic()
  found = run.evaluate(settings=settings(), remarks=changes)
  print(found)
  took = time.monotonic() - started
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
  print(f"Figures and pictures: {run_dir.results}\nTook {took / 60:.1f} min, at most {peak:.1f} GiB"
        f"\nPage to open: {run_dir.report}")
  if missed := [metric for metric, entry in found.entries.items() if "error" in entry]:
    raise ValueError(f"not measured: {', '.join(missed)}; what kept them from it stands above, and "
                     "the page has the others")
