r"""Trains a model as a gin file says, or resumes an interrupted run, and exports it.

  tf-mmvae train --gin_file=gin/toy_birds.gin
  tf-mmvae train --gin_file=gin/cub.gin --manual_dir=DATA --run_dir=runs/cub \
      --gin_param='NUM_STEPS = 2000'

Writes into the run's directory: config.gin, checkpoints/, events/ (TensorBoard), results/
(pictures and figures on the test split) and export/1/ (SavedModel). Rerun the command to resume; a
larger NUM_STEPS extends a finished run. gin files that come with the package are found from any
folder.
"""

import os

from tf_mmvae.cli import config, mistakes
from tf_mmvae.cli.advice import next_commands
from tf_mmvae.run_dir import RunDir

define = config.define


def main(flag, invocation):
  if not flag.gin_file and not flag.run_dir:
    raise ValueError("give --gin_file, such as --gin_file=gin/toy_birds.gin")
  name = os.path.splitext(os.path.basename(flag.gin_file[-1]))[0] if flag.gin_file else ""
  run = RunDir(flag.run_dir or os.path.join("runs", name))
  run.check()
  run.refuse_description()
  strategy = config.make_strategy()
  from tf_mmvae.training.train import Stopped
  from tf_mmvae.training.workers import Workers
  together = Workers(strategy)
  config.load(run, flag, from_run=not flag.gin_file)
  together.refuse_differing({"the configuration": config.config_text()},
                            "give the same command to all")
  try:
    if not together.is_chief:
      from tf_mmvae.experiment import follow
      follow(lambda: _experiment_of(run), run, strategy)
      return
    with run.locked():
      config.refuse_another_config(run)
      run.write_config(config.config_text())  # before the words are counted for it
      _train(run, strategy, flag)
  except Stopped as stop:
    print(mistakes.sentence(stop))
    raise SystemExit(stop.code) from None
  print("Next:")
  for line in next_commands(run, flag, invocation):
    print(f"  {line}")


def _experiment():
  import gin

  from tf_mmvae.experiment import Experiment
  return gin.get_configurable(Experiment)()


def _experiment_of(run):
  if not run.has_config():
    raise ValueError(f"there is no {run.config}, which the first process has written: give all a "
                     "--run_dir that they share")
  return _experiment()


def _train(run, strategy, flag):
  from tf_mmvae.cli.settings import settings
  _experiment().train(
      run, strategy, settings(), lambda: config.refuse_unused_bindings(flag.gin_param))
