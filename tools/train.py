r"""Trains a model as a gin file says, or goes on with an interrupted run, and exports it.

  python tools/train.py --gin_file=gin/toy_birds.gin
  python tools/train.py --gin_file=gin/cub.gin --manual_dir=DATA --run_dir=runs/cub \
      --gin_param='NUM_STEPS = 2000'

Writes into the run's directory: config.gin, checkpoints/, events/ (TensorBoard), results/
(pictures and figures on the test split) and export/1/ (SavedModel). The same command goes on where
an interrupted one stopped; a larger NUM_STEPS extends a finished run.
"""

import math
import os

import experiment
import mistakes
from absl import flags, logging


def main():
  flag = flags.FLAGS
  if not flag.gin_file and not flag.run_dir:
    raise ValueError("give --gin_file, such as --gin_file=gin/toy_birds.gin")
  from tf_mmvae.run_dir import RunDir
  name = os.path.splitext(os.path.basename(flag.gin_file[-1]))[0] if flag.gin_file else ""
  run = RunDir(flag.run_dir or os.path.join("runs", name))
  strategy = experiment.make_strategy()
  from tf_mmvae.training.workers import Workers
  together = Workers(strategy)
  experiment.load(run, from_run=not flag.gin_file)
  together.refuse_differing({"the configuration": experiment.config_text()},
                            "give the same command to all")
  if not together.is_chief:
    _follow(run, strategy, together)
    return
  run.check()
  with run.locked():
    experiment.refuse_another_config(run)
    run.write_config(experiment.config_text())  # before the words are counted for it
    _train(run, strategy, together)


def _follow(run, strategy, together):
  """Trains along with the chief, which prepares the data and writes all that there is to write.

  It ends after the chief: were it gone, and the chief to fail while it exports or measures, nobody
  would come to start with it again.
  """
  together.meet()
  if not os.path.exists(run.config):
    raise ValueError(f"there is no {run.config}, which the first process has written: give all a "
                     "--run_dir that they share")
  _call_train(run, strategy)
  together.meet()


def _call_train(run, strategy, **kwargs):
  import gin

  from tf_mmvae.training.train import Stopped, train
  try:
    gin.get_configurable(train)(run_dir=run.path, strategy=strategy, **kwargs)
  except Stopped as stop:
    print(mistakes.sentence(stop))
    raise SystemExit(stop.code) from None


def _train(run, strategy, together):
  import gin

  from tf_mmvae.reports.evaluation import Evaluation, table
  from tf_mmvae.serving.saved_model import Exporter
  from tf_mmvae.training import checkpoints
  from tf_mmvae.views.latents import Latents
  from tf_mmvae.views.panels import Panel
  panel, latents, exporter = (gin.get_configurable(c)() for c in (Panel, Latents, Exporter))
  with gin.config_scope("at_end"):
    evaluation = gin.get_configurable(Evaluation)()
  for change in experiment.changed_data(run):
    logging.warning("%s", change)
  experiment.note_data(run)

  def check(model):  # what would otherwise fail after all the training
    for part in (panel, exporter, evaluation):
      part.check(model)

  def look(model):
    latents.write(model, run.events)
    return {**panel(model), **latents(model)}

  together.meet()  # now the others may read the data and the words
  _call_train(run, strategy, look=look, knobs=experiment.knobs(), on_model=check,
              on_first_step=experiment.refuse_unused_bindings)
  model, step = experiment.load_model(run)
  best = checkpoints.best_objective(run)
  print(f"Best: step {step:,}, held-out objective {best:.2f} nats" if math.isfinite(best) else
        f"Step {step:,}, the last: no held-out objective was finite")
  exporter(model, run.export)
  first, *others = panel.write(model, run.results)
  print(table(evaluation(model, run.results, experiment.settings("AT_END"), step)))
  print(f"Figures: {run.results}\nSavedModel: {run.export}\nNext:")
  for line in experiment.next_commands(run):
    print(f"  {line}")
  print(f"Pictures to look at: {first}, and {len(others)} beside it")
  together.meet()  # all is written, and the others may end


if __name__ == "__main__":
  experiment.run(main)
