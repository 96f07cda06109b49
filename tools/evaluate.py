"""Measures a trained run on its test split and draws what it does.

  python tools/evaluate.py --run_dir=runs/toy_birds

Writes results/*.json, each figure with its standard error and number of examples, and
results/*.png into the run's directory. --gin_file and --gin_param change what is measured.
"""

import experiment
from absl import flags


def main():
  if not flags.FLAGS.run_dir:
    raise ValueError("give --run_dir, the directory of a trained run")
  from tf_mmvae.run_dir import RunDir
  run = RunDir(flags.FLAGS.run_dir)
  experiment.load(run, from_run=True)

  import gin

  from tf_mmvae.evaluation.evaluate import Evaluation, table
  from tf_mmvae.evaluation.panels import Panel
  evaluation, panel = gin.get_configurable(Evaluation)(), gin.get_configurable(Panel)()
  model, step = experiment.load_model(run)
  experiment.refuse_unused_bindings(typed_alone=True)
  evaluation.check(model)
  panel.check(model)
  print(f"Measuring {run.path}, weights after step {step:,}: {evaluation.what()}")
  print(table(evaluation(model, run.results)))
  print(f"Figures: {run.results}")
  first, *others = panel.write(model, run.results)
  print(f"Pictures: {first}, and {len(others)} beside it")


if __name__ == "__main__":
  experiment.run(main)
