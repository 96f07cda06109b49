"""What training says while it runs: lines that read as well in a log file as on a terminal."""

import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from tf_mmvae.model import MultimodalVAE
from tf_mmvae.run_dir import RunDir

_STEADY = 5  # seconds of steps from which the time to go is told
_LOG_EVERY = 60  # seconds between lines where there is no bar


def beginning(run: RunDir, model: MultimodalVAE, estimator: Any, train_data: Any,
              validation_data: Any, first: int, num_steps: int, num_samples: int, batch_size: int,
              strategy: tf.distribute.Strategy) -> list[str]:
  """What is about to be trained, on what, and where to: a list of lines."""
  shapes = ", ".join(f"{name} {m.spec.shape.as_list()[1:]}" for name, m in model.modalities.items())
  weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
  devices = strategy.num_replicas_in_sync
  lines = [
      f"Model: {shapes}; {model.joint_posterior}, {model.latent_dim} latent dimensions, "
      f"{weights:,} weights",
      f"Objective: {estimator}, K = {num_samples}, batches of {batch_size}",
      f"Data: {train_data.name}, {train_data.num_examples:,} examples to train on, "
      f"{validation_data.num_examples:,} held out; {devices} device{'s' if devices > 1 else ''}",
      f"Run: {run.path}, " + (f"goes on after step {first:,}" if first else "new")
      + f", to step {num_steps:,}"]
  if batch_size > train_data.num_examples:
    lines.append(f"A batch of {batch_size} holds examples more than once: there are "
                 f"{train_data.num_examples} to train on")
  return lines


def finished(run: RunDir, step: int) -> str:
  """That a run has no step to go."""
  return (f"{run.path} is finished: its {step:,} steps are done. A larger num_steps goes "
          "on.")


def duration(seconds: float) -> str:
  """About how long, in words: "40 s", "3 min" or "2 h 10 min"."""
  if seconds < 90:
    return f"{max(seconds, 1):.0f} s"
  minutes = round(seconds / 60)
  return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
  """How far training is: a bar on a terminal, a line a minute elsewhere; and once, how long yet.

  A silent one, of a process that another one speaks for, shows nothing.
  """

  def __init__(self, num_steps: int, first: int, silent: bool = False):
    self._num_steps, self._done, self._silent = num_steps, first, silent
    self._on_terminal = sys.stderr.isatty()
    self._bar = tqdm.tqdm(total=num_steps, initial=first, unit="step", dynamic_ncols=True,
                          mininterval=0.5, desc="training",
                          disable=silent or not self._on_terminal)
    self._start = None  # (time, steps done) after the first step, which is traced
    self._told = False
    self._last_line = time.monotonic()

  def update(self, bound: float | None = None) -> None:
    """One step is done. bound: in nats, where it is at hand."""
    self._done += 1
    self._bar.update()
    if bound is not None:
      self._bar.set_postfix(bound=f"{bound:.1f}", refresh=False)
    now = time.monotonic()
    if self._start is None:
      self._start = now, self._done
    elif not self._told and now - self._start[0] >= _STEADY and self._done < self._num_steps:
      rate = (self._done - self._start[1]) / (now - self._start[0])
      self._told = True
      self.write(f"About {duration((self._num_steps - self._done) / rate)} to go "
                 f"({rate:.2g} steps a second; looks at held-out data come on top)")
    elif not self._on_terminal and now - self._last_line >= _LOG_EVERY:
      self.write(f"step {self._done} of {self._num_steps}")

  def write(self, line: str) -> None:
    """Prints a line."""
    self._last_line = time.monotonic()
    if not self._silent:
      tqdm.tqdm.write(line)
      sys.stdout.flush()

  def paused(self) -> None:
    """Something other than steps took time: what is measured of their speed begins anew."""
    self._start = time.monotonic(), self._done

  def close(self) -> None:
    self._bar.close()
