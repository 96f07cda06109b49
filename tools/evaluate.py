"""Measures a trained run on its test split by the four criteria of Shi et al. (2019).

  python tools/evaluate.py --run_dir=runs/toy_birds
  python tools/evaluate.py --run_dir=runs/cub --manual_dir=DATA --gin_param='MAX_EXAMPLES = 200'

Writes results/report.html, a page to open, results/*.json, each figure with its standard error and
number of examples, and results/*.png into the run's directory. What is measured already, of the
same weights and data in the same way, is kept: the same command goes on where it was stopped.

NUM_SAMPLES (K of the likelihoods, 1000), MAX_EXAMPLES (None: all) and SEED are knobs for
--gin_param; METRICS is what is measured.
"""

import os
import resource
import time

import experiment
from absl import flags


def main():
  if not flags.FLAGS.run_dir:
    raise ValueError("give --run_dir, the directory of a trained run")
  from tf_mmvae.run_dir import RunDir
  run = RunDir(flags.FLAGS.run_dir)
  experiment.load(run, from_run=True, after=["gin/parts/evaluation.gin"])

  import gin

  from tf_mmvae.reports import evaluation as evaluate
  from tf_mmvae.reports import report
  from tf_mmvae.views.panels import Panel
  model, step = experiment.load_model(run)
  evaluation, panel = gin.get_configurable(evaluate.Evaluation)(), gin.get_configurable(Panel)()
  experiment.refuse_unused_bindings(typed_alone=True)
  panel.check(model)
  changes = experiment.changed_model(run) + experiment.changed_data(run)
  print("\n".join([f"Measuring {run.path}, weights after step {step:,}: {evaluation.what()}",
                   *changes]))
  started = time.monotonic()
  found = evaluation(model, run.results, experiment.settings("METRICS"), step)
  print(evaluate.table(found))
  pictures = panel.write(model, run.results)
  took = time.monotonic() - started
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
  page = report.write(
      found, run.results, f"{os.path.basename(run.path)}: what the model has learnt",
      [f"Weights after step {step:,}, measured on {evaluation.what()}.", *changes],
      {os.path.splitext(os.path.basename(path))[0].replace("_", " "): path for path in pictures},
      {"Configuration": experiment.config_text()})
  print(f"Figures and pictures: {run.results}\nTook {took / 60:.1f} min, at most {peak:.1f} GiB\n"
        f"Page to open: {page}")
  missed = [metric for metric, entry in found.entries.items() if "error" in entry]
  if missed:
    raise ValueError(f"not measured: {', '.join(missed)}; what kept them from it stands above, and "
                     "the page has the others")


if __name__ == "__main__":
  experiment.run(main)
