"""`train`: trains a model, or goes on with a run that was interrupted."""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from tf_mmvae.model import MultimodalVAE
from tf_mmvae.run_dir import RunDir
from tf_mmvae.training import notes, workers
from tf_mmvae.training.checkpoints import Checkpoints
from tf_mmvae.training.data_service import served, watched
from tf_mmvae.training.summaries import Summaries
from tf_mmvae.training.trainer import Trainer


class Stopped(Exception):
  """A signal asked the run to stop. `code` is the exit code to give."""

  def __init__(self, step: int, signal_number: int, saved: bool = True):
    name = signal.Signals(signal_number).name
    said = ("which is saved: run it again to resume" if saved else
            "while it waited for a batch: run it again to resume from the last checkpoint")
    super().__init__(f"stopped by {name} after step {step}, {said}")
    self.code = 128 + signal_number


def train(model: Callable[[], MultimodalVAE], estimator: Callable,
          optimizer: Callable[[], keras.optimizers.Optimizer], train_data: Any,
          validation_data: Any, run_dir: str | os.PathLike, seed: int, num_steps: int,
          num_samples: int, batch_size: int, clip_norm: float | None = None,
          examples_per_chunk: int | None = None, log_every: int = 50, evaluate_every: int = 500,
          checkpoint_every: int = 500, look: Callable[[MultimodalVAE], dict] | None = None,
          knobs: Mapping[str, float | str | bool] | None = None, max_skipped: int = 20,
          strategy: tf.distribute.Strategy | None = None,
          on_model: Callable[[MultimodalVAE], Any] | None = None,
          on_first_step: Callable[[], Any] | None = None, jit_compile: bool = False,
          data_service: str | None = None) -> None:
  """Trains a model, or goes on with a run that was interrupted.

  Leaves the last few checkpoints and that of the best held-out objective in the run's directory.
  Where several processes train together, all call it alike; the chief alone writes, evaluates and
  looks, and they stop after the same step.

  Args:
    model: function () -> `MultimodalVAE`.
    estimator: gradient estimator with its bound and weights; see `objectives`.
    optimizer: function () -> Keras optimizer. Where it keeps moving averages of the weights
      (`use_ema`), these are evaluated and saved as the best.
    train_data: `Examples`, or what has their `shuffled_batches`, `num_examples` and `fingerprint`.
    validation_data: held-out examples with `batches(batch_size)`.
    run_dir: path of the run's directory, the same for all processes.
    seed: decides everything random: initial weights, order of the data, noise.
    num_steps: steps in all; a larger number extends a finished run.
    num_samples: K, samples from each component of the joint posterior.
    batch_size: examples a step over all replicas.
    clip_norm: largest global norm of the gradient; None does not clip.
    examples_per_chunk: so many examples are in a replica's memory at once, a divisor of its share
      of the batch; gradients and figures change by rounding alone. None takes all at once.
    log_every: steps between scalars in TensorBoard.
    evaluate_every: steps between evaluations of the held-out objective, and looks.
    checkpoint_every: steps between checkpoints.
    look: function (model) -> {tag: value} for TensorBoard, or None; see `Summaries.show`.
    knobs: {name: number, string or bool}, a row of TensorBoard's HParams page; or None.
    max_skipped: so many non-finite steps on end stop the run.
    strategy: `tf.distribute.Strategy`; None is that of `workers.make_strategy`.
    on_model: called with the model before anything is restored or written.
    on_first_step: called without arguments once a step has been traced.
    jit_compile: whether XLA compiles the steps; see docs/speed.md. Figures change by rounding.
    data_service: "HOST:PORT" of a tf.data service that reads the batches; see `served`. None reads
      them here.

  Raises:
    Stopped: after SIGTERM or SIGINT in any process, the state saved.
    WorkerLost: another process ended or cannot be reached.
    ServiceLost: likewise the tf.data service.
    ArithmeticError: if non-finite steps persist.
    ValueError: for a number that makes no sense, a batch size that the replicas cannot share, a
      checkpoint that cannot be restored, a network with statistics of its batch where there are
      masks or chunks, or of its share of the batch on several devices, jit_compile with several
      replicas on processors, or processes that differ.
  """
  for name, number in {
      "num_steps": num_steps, "num_samples": num_samples, "batch_size": batch_size,
      "log_every": log_every, "evaluate_every": evaluate_every,
      "checkpoint_every": checkpoint_every, "max_skipped": max_skipped}.items():
    if not isinstance(number, int) or number < 1:
      raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")
  if not isinstance(seed, int):
    raise ValueError(f"seed must be a whole number, got {seed!r}")
  if clip_norm is not None and not (isinstance(clip_norm, (int, float)) and clip_norm > 0):
    raise ValueError(f"clip_norm must be a number above 0, or None, got {clip_norm!r}")
  strategy = strategy or workers.make_strategy()
  if batch_size % strategy.num_replicas_in_sync:
    raise ValueError(f"batch_size {batch_size} cannot be shared by "
                     f"{strategy.num_replicas_in_sync} replicas: give a multiple")
  _check_chunks(examples_per_chunk, batch_size // strategy.num_replicas_in_sync)
  together = workers.Workers(strategy)
  run = RunDir(run_dir)
  keras.utils.set_random_seed(seed)
  with strategy.scope():
    model, optimizer = model(), optimizer()
  for made, kind in ((model, MultimodalVAE), (optimizer, keras.optimizers.Optimizer)):
    if not isinstance(made, kind):
      raise ValueError(f"expected a function that returns a {kind.__name__}, got one that returns "
                       f"a {type(made).__name__}")
  rate = optimizer.get_config()["learning_rate"]
  if isinstance(rate, float) and not 0 < rate < math.inf:  # a schedule may well begin at 0
    raise ValueError(f"the learning rate must be a number above 0, got {rate:.6g}")
  if on_model:
    on_model(model)
  trainer = Trainer(model, estimator, optimizer, strategy, num_samples, seed, clip_norm,
                    examples_per_chunk, jit_compile)
  loop = _Loop(trainer, together, Checkpoints(run, model, optimizer), Summaries(run.events),
               validation_data.batches(batch_size), look, max_skipped)
  first = loop.checkpoints.resume()
  together.refuse_differing({"the checkpoint that they begin from": first},
                            f"see that {run.path} is the same directory for all of them")
  if first >= num_steps:
    if together.is_chief:
      print(notes.finished(run, first))
    return
  if together.num > 1:
    together.refuse_differing({"the training data": train_data.fingerprint()},
                              "see that all read the same files")
  trainer.check_masked(train_data.shuffled_batches(batch_size, seed).element_spec.mask)
  if together.is_chief:
    print("\n".join(notes.beginning(run, model, estimator, train_data, validation_data, first,
                                    num_steps, num_samples, batch_size, strategy)), flush=True)
    if knobs:
      loop.summaries.knobs(
          os.path.basename(run.path), knobs, ["held_out/objective", "held_out/bound"])

  def shares(context):  # one batch a local replica, which reads nothing else
    num_shares = context.num_replicas_in_sync
    of_each = num_shares // context.num_input_pipelines
    mine = context.input_pipeline_id * of_each
    data = train_data.shuffled_batches(
        batch_size, seed, first, num_shares, range(mine, mine + of_each))
    return data if data_service is None else served(data, data_service)

  data = strategy.distribute_datasets_from_function(shares)
  if data_service is not None:
    data = watched(data, data_service, loop.is_asked_to_stop)
  loop.run(data, first, num_steps, log_every, evaluate_every, checkpoint_every, on_first_step)


def _check_chunks(examples_per_chunk, share):
  """Raises ValueError unless chunks of so many examples make up a replica's share of a batch."""
  if examples_per_chunk is None:
    return
  if not isinstance(examples_per_chunk, int) or examples_per_chunk < 1:
    raise ValueError("examples_per_chunk must be a whole number of at least 1, or None, got "
                     f"{examples_per_chunk!r}")
  if share % examples_per_chunk:
    raise ValueError(f"examples_per_chunk {examples_per_chunk} cannot divide the {share} examples "
                     "of a replica: give a divisor, or None")


class _Loop:
  """Steps, and what the chief does between them while the others wait in the next."""

  def __init__(self, trainer, together, checkpoints, summaries, validation, look, max_skipped):
    self.trainer, self.checkpoints, self.summaries = trainer, checkpoints, summaries
    self._together = together
    self._validation, self._look, self._max_skipped = validation, look, max_skipped
    self._signal = None
    self._skipped_on_end = 0

  def run(self, data, first, num_steps, log_every, evaluate_every, checkpoint_every, on_first_step):
    is_chief = self._together.is_chief
    if is_chief:
      self.summaries.begin(first)
    handlers = {s: signal.signal(s, self._note_signal) for s in (signal.SIGTERM, signal.SIGINT)}
    bar = notes.Progress(num_steps, first, silent=not is_chief)
    started, since, waited = time.monotonic(), first, 0.
    batches = iter(data)
    try:
      for step in range(first, num_steps):
        asked = time.monotonic()
        batch = next(batches)
        if batch is None:  # nor will one come: see `watched`
          self._stop_waiting(step)
        x, _, mask = batch
        waited += time.monotonic() - asked
        with self._together.watched():
          metrics = self.trainer.step(x, mask, tf.constant(step, tf.int64))
        done = step + 1
        self._count_skipped(metrics, done)
        if step == first and on_first_step:
          on_first_step()
        bar.update(float(metrics["bound"]))
        last = done == num_steps
        if is_chief and (done % log_every == 0 or last):
          values = {name: float(value) for name, value in metrics.items()}
          now = max(time.monotonic(), started + 1e-6)  # a clock may be set back, or stand still
          values["steps_per_second"] = (done - since) / (now - started)
          values["input_wait"] = waited / (now - started)
          values["skipped_steps"] = float(self.checkpoints.skipped.numpy())
          self.summaries.show({f"train/{name}": v for name, v in values.items()}, done)
          started, since, waited = now, done, 0.
        if is_chief and (done % evaluate_every == 0 or last):
          self._evaluate(done, bar)
        stop = self._together.any(self._signal)
        if is_chief and (done % checkpoint_every == 0 or last or stop):
          self.checkpoints.save(done)
          if not last:
            self.summaries.begin(done)
        if stop:
          self._together.any(False)  # the checkpoint is there before a process ends
          raise Stopped(done, self._signal or signal.SIGTERM)
    finally:
      bar.close()
      if is_chief:
        self.summaries.close()
      for number, handler in handlers.items():
        signal.signal(number, handler)

  def is_asked_to_stop(self):
    """Whether this process was sent a signal."""
    return self._signal is not None

  def _stop_waiting(self, done):
    """Raises Stopped without asking the others, which may wait in the next step."""
    saved = self._together.is_chief and done > 0
    if saved:
      self.checkpoints.save(done)
    raise Stopped(done, self._signal, saved)

  def _note_signal(self, number, frame):
    del frame
    self._signal = number

  def _count_skipped(self, metrics, done):
    if float(metrics["finite"]):
      self._skipped_on_end = 0
      return
    self.checkpoints.skipped.assign_add(1)
    self._skipped_on_end += 1
    if self._skipped_on_end == 1:
      logging.warning("step %d is skipped: its objective or gradient is not finite; TensorBoard "
                      "counts such steps", done)
    if self._skipped_on_end >= self._max_skipped:
      raise ArithmeticError(
          f"the objective or its gradient was not finite in {self._skipped_on_end} steps on end, "
          f"up to step {done}: look for NaN or extreme values in the data, or lower the learning "
          "rate; the last checkpoint is from before")

  def _evaluate(self, done, bar):
    with self.trainer.averaged_weights():
      values = self.trainer.evaluate(self._validation)
      self.summaries.show({f"held_out/{name}": v for name, v in values.items()}, done)
      self.checkpoints.save_if_best(done, values["objective"])
      bar.write(f"step {done}: held-out objective {values['objective']:.2f}, "
                f"bound {values['bound']:.2f} nats")
      if self._look:
        self.summaries.show(self._look(self.trainer.model), done)
    bar.paused()
