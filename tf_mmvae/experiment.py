"""An experiment: a model, an objective and data, trained into a run's directory and measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from tf_mmvae.data.examples import Examples
from tf_mmvae.description import describe, describe_model, describe_words
from tf_mmvae.estimators import Estimator
from tf_mmvae.metrics.held_out import HeldOut
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.reports.evaluation import Evaluation, check_metrics
from tf_mmvae.reports.settings import Settings
from tf_mmvae.run import Run
from tf_mmvae.run_dir import RunDir, replacing
from tf_mmvae.serving.saved_model import Exporter
from tf_mmvae.training import checkpoints, workers
from tf_mmvae.training.train import train
from tf_mmvae.views.latents import Latents
from tf_mmvae.views.panels import Panel


class Experiment:
  """Everything that a run needs: `run(path)` trains, keeps the best, exports and measures."""

  def __init__(self, model: Callable[[], MultimodalVAE], estimator: Estimator,
               optimizer: Callable[[], keras.optimizers.Optimizer], train_data: Examples,
               held_out_data: Examples, test_data: Examples, *, num_steps: int, num_samples: int,
               batch_size: int, seed: int = 0, clip_norm: float | None = None,
               examples_per_chunk: int | None = None, log_every: int = 50,
               evaluate_every: int = 500, checkpoint_every: int = 500, max_skipped: int = 20,
               jit_compile: bool = False, data_service: str | None = None,
               tokenizers: Mapping[str, Any] | None = None,
               viewers: Mapping[str, Callable] | None = None,
               metrics: Mapping[str, Callable] | None = None,
               at_end: Mapping[str, Callable] | None = None, max_examples: int | None = None,
               panel: Panel | None = None, latents: Latents | None = None):
    """Sets what is trained, on what, and what is measured.

    Args:
      model: function () -> `MultimodalVAE`. It is called anew wherever the model is made.
      estimator: a bound with its gradient and weights.
      optimizer: function () -> Keras optimizer.
      train_data: examples to train on.
      held_out_data: examples that choose the best checkpoint, and are looked at while it trains.
      test_data: examples that the trained model is measured on.
      num_steps: steps in all; a larger number extends a finished run.
      num_samples: K, samples from each component of the joint posterior.
      batch_size: examples a step.
      seed: decides everything random: initial weights, order of the data, noise.
      clip_norm: see `tf_mmvae.training.train`, as for the next seven.
      examples_per_chunk: examples in memory at once.
      log_every: steps between scalars in TensorBoard.
      evaluate_every: steps between evaluations of the held-out objective, and looks.
      checkpoint_every: steps between checkpoints.
      max_skipped: non-finite steps on end that stop the run.
      jit_compile: whether XLA compiles the steps.
      data_service: "HOST:PORT" of a tf.data service that reads the batches.
      tokenizers: {modality: `Tokenizer`} of those in words, which are then shown, asked for and
        exported as text.
      viewers: {modality: function} of those that something else is shown for; see `views`.
      metrics: {name: metric}, what `Run.evaluate` measures by default; None is `at_end`.
      at_end: {name: metric}, what training ends with; None is the objective and bounds of at most
        1,000 test examples, {} nothing.
      max_examples: test examples that are measured, evenly spread; None takes all.
      panel: `Panel`, what pictures show; None is one of held-out examples.
      latents: `Latents`, what is shown of the latent space; None likewise.

    Raises:
      ValueError: a model or optimizer in place of a function that makes it, data that are no
        `Examples`, a metric that is no function, or whose name is no file's.
    """
    _check_functions(model, optimizer, estimator)
    _check_data({"train_data": train_data, "held_out_data": held_out_data,
                 "test_data": test_data})
    if at_end is None:
      at_end = {"held_out": HeldOut(estimator, num_samples, num_examples=1000)}
    self.model, self.estimator, self.optimizer = model, estimator, optimizer
    self.train_data, self.held_out_data, self.test_data = train_data, held_out_data, test_data
    self.tokenizers, self.viewers = dict(tokenizers or {}), dict(viewers or {})
    self.at_end, self.metrics = at_end, at_end if metrics is None else metrics
    self.max_examples = max_examples
    for some in (self.at_end, self.metrics):
      check_metrics(some)
    self._seed, self._num_steps, self._num_samples = seed, num_steps, num_samples
    self._batch_size, self._clip_norm = batch_size, clip_norm
    self._others = {
        "examples_per_chunk": examples_per_chunk, "log_every": log_every,
        "evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every,
        "max_skipped": max_skipped, "jit_compile": jit_compile, "data_service": data_service}
    self._panel, self._latents = panel, latents

  def run(self, path: str | os.PathLike, strategy: tf.distribute.Strategy | None = None) -> Run:
    """Trains into a directory, exports the best, and measures it; resumes what was interrupted.

    Where several processes train together all of them call it, and the first writes.

    Args:
      path: of the run's directory; a new one, an empty one, or that of this experiment's run.
      strategy: `tf.distribute.Strategy`; None takes the processes of TF_CONFIG, or the local
        devices.

    Returns:
      The finished `Run`.

    Raises:
      ValueError: the directory holds something else, or the run of another experiment.
      Stopped: after SIGTERM or SIGINT, the state saved.
      ArithmeticError: the objective stays without a finite value.
    """
    run = RunDir(path)
    run.check()
    run.refuse_config()
    strategy = strategy or workers.make_strategy()
    together = workers.Workers(strategy)
    if not together.is_chief:
      follow(lambda: self, run, strategy)
    else:
      with run.locked():
        self.train(run, strategy)
    return Run(run, self.model, lambda: self, self.tokenizers)

  def train(self, run: RunDir, strategy: tf.distribute.Strategy,
            settings: Settings | None = None, on_first_step: Callable[[], None] | None = None
            ) -> None:
    """What `run` does in the process that writes, once it holds the lock of the directory.

    Args:
      run: the directory.
      strategy: of all processes.
      settings: kept with the results; None describes this experiment, and refuses to go on with
        the run of one that is described otherwise.
      on_first_step: called once a step has been traced.
    """
    panel = self.panel()
    latents = self._latents or Latents(
        self.held_out_data, self.tokenizers, viewers=self.viewers)
    exporter = Exporter(self.tokenizers)
    evaluation = Evaluation(self.test_data, self.at_end, self.max_examples)
    together = workers.Workers(strategy)
    kept = settings
    for change in self.changed_data(run):
      logging.warning("%s", change)

    def check(model):  # what would otherwise fail after all the training
      nonlocal kept
      if settings is None:
        kept = self.settings(model)
        _check_description(run, kept.run)
      for part in (panel, exporter, evaluation):
        part.check(model)
      if settings is None:
        run.write_description(kept.run)
      self._note_data(run)

    def look(model):
      latents.write(model, run.events)
      return {**panel(model), **latents(model)}

    knobs = self.settings(None).run if settings is None else settings.run
    together.meet()  # now the others may read the data and the words
    self.train_alone(run, strategy, look=look, on_model=check, on_first_step=on_first_step,
                     knobs={name: value for name, value in knobs.items() if _is_knob(name, value)})
    trained = Run(run, self.model, lambda: self, self.tokenizers)
    best = checkpoints.best_objective(run)
    model, step = trained.load(), trained.step
    print(f"Best: step {step:,}, held-out objective {best:.2f} nats" if math.isfinite(best) else
          f"Step {step:,}, the last: no checkpoint with a finite held-out objective is kept")
    exporter(model, run.export)
    first, *others = panel.write(model, run.results)
    if self.at_end:
      print(evaluation(model, run.results, kept or self.settings(model), step))
    print(f"Figures: {run.results}\nSavedModel: {run.export}\n"
          f"Pictures to look at: {first}, and {len(others)} beside it")
    together.meet()  # all is written, and the others may end

  def train_alone(self, run: RunDir, strategy: tf.distribute.Strategy, **kwargs: Any) -> None:
    """Training without what comes after it; `kwargs` are those of `training.train`."""
    train(self.model, self.estimator, self.optimizer, self.train_data, self.held_out_data,
          run.path, self._seed, self._num_steps, self._num_samples, self._batch_size,
          self._clip_norm, strategy=strategy, **self._others, **kwargs)

  def settings(self, model: MultimodalVAE | None) -> Settings:
    """What tells this experiment apart, to be kept with results; `model` is one of its own."""
    of_estimator = {f"estimator.{name}": describe(value)
                    for name, value in self.estimator.choices.items()}
    words = {f"tokenizer.{name}": describe_words(tokenizer)
             for name, tokenizer in self.tokenizers.items()}
    own = {"seed": self._seed, "num_samples": self._num_samples, "batch_size": self._batch_size,
           "clip_norm": self._clip_norm, **of_estimator, **words,
           "optimizer": describe(self.optimizer())}
    of_model = {} if model is None else describe_model(model)
    likelihoods = {name: value for name, value in of_model.items() if name.endswith("likelihood")}
    return Settings(run={**own, **of_model}, model=of_model, likelihoods=likelihoods,
                    objective={name: value for name, value in of_estimator.items()
                               if name.split(".")[1] not in ("gradient", "sample", "screening")})

  def panel(self) -> Panel:
    """What pictures show of a model."""
    return self._panel or Panel(self.held_out_data, self.tokenizers, viewers=self.viewers)

  def _note_data(self, run):
    """Keeps which data a run begins with, in data.json; what was not trained on is no beginning."""
    if not os.path.exists(run.data) or not checkpoints.steps(run.checkpoints):
      with replacing(run.data) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(self._data(), file, indent=2)

  def changed_data(self, run: RunDir) -> list[str]:
    """Sentences about those data that are others than a run began with."""
    if not os.path.exists(run.data) or not checkpoints.steps(run.checkpoints):
      return []
    try:
      with open(run.data, encoding="utf-8") as file:
        before = json.load(file)
      return [_changed(split, before[split], now) for split, now in self._data().items()
              if before.get(split, now) != now]
    except (AttributeError, KeyError, TypeError, ValueError):
      return [f"{run.data} is damaged: it cannot be told whether the data are those that the run "
              "began with."]

  def _data(self):
    """{split: what tells its data apart}."""
    splits = {"training": self.train_data, "held-out": self.held_out_data, "test": self.test_data}
    return {split: {"name": data.name, "num_examples": data.num_examples,
                    "fingerprint": data.fingerprint()} for split, data in splits.items()}


def follow(make: Callable[[], Experiment], run: RunDir, strategy: tf.distribute.Strategy) -> None:
  """Trains along with the first process, which prepares the data and writes all there is.

  It ends after that one: were it gone, and the first to fail while it exports or measures, nobody
  would come to start with it again.

  Args:
    make: function () -> the experiment, called once data and words can be read.
    run: the directory that the processes share.
    strategy: of all of them.
  """
  together = workers.Workers(strategy)
  together.meet()
  make().train_alone(run, strategy)
  together.meet()


def _changed(split, then, now):
  contents = " of other contents" if then["num_examples"] == now["num_examples"] else ""
  return (f"The {split} data are others than those that the run began with: "
          f"{then['num_examples']:,} examples of {then['name']} then, "
          f"{now['num_examples']:,} of {now['name']} now{contents}.")


def _check_description(run, description):
  """Raises ValueError where a run is that of another experiment."""
  before = run.read_description()
  if before is not None and checkpoints.steps(run.checkpoints):
    now = json.loads(json.dumps(description))
    differing = [f"{name}: {_short(before, name)} there, {_short(now, name)} now"
                 for name in sorted(before.keys() | now.keys())
                 if before.get(name) != now.get(name)]
    if differing:
      more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
      raise ValueError(f"{run.path} is a run of another experiment ({'; '.join(differing[:5])}"
                       f"{more}): give the same one, or another directory")


def _short(description, name):
  said = str(description.get(name, "not set"))
  return said if len(said) < 100 else f"{said[:97]}..."


def _check_functions(model, optimizer, estimator):
  if isinstance(model, keras.Model) or not callable(model):
    raise ValueError("model must be a function that builds a MultimodalVAE, `build` and not "
                     f"`build()`, got {type(model).__name__}")
  if isinstance(optimizer, keras.optimizers.Optimizer) or not callable(optimizer):
    raise ValueError("optimizer must be a function that makes an optimizer, such as lambda: "
                     f"keras.optimizers.Adam(1e-3), got {type(optimizer).__name__}")
  if isinstance(estimator, type) or not callable(estimator):
    raise ValueError("estimator must be an instance, such as Estimator(iwae, dreg), got "
                     f"{estimator!r}")


def _check_data(splits):
  for name, data in splits.items():
    if not all(hasattr(data, method) for method in ("batches", "shuffled_batches", "spread")):
      raise ValueError(f"{name} must be Examples, such as data.from_arrays(x) makes of arrays, got "
                       f"{type(data).__name__}")


def _is_knob(name, value):
  return ("." not in name and isinstance(value, bool | int | float | str)
          and not str(value).startswith(("@", "%")))
