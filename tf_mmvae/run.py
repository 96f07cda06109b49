"""A trained run: its best weights asked for translations and samples, measured, and exported."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tf_mmvae import inference
from tf_mmvae.data.examples import Examples
from tf_mmvae.model import MultimodalVAE
from tf_mmvae.reports import report
from tf_mmvae.reports.evaluation import Evaluation
from tf_mmvae.reports.results import Results
from tf_mmvae.reports.settings import Settings
from tf_mmvae.run_dir import RunDir
from tf_mmvae.serving.saved_model import export
from tf_mmvae.training import checkpoints, summaries
from tf_mmvae.views.panels import Panel


class Origin(Protocol):
  """What a run asks of the experiment that it is of."""

  metrics: Mapping[str, Callable]
  test_data: Examples
  max_examples: int | None

  def settings(self, model: MultimodalVAE | None) -> Settings:
    """What tells it apart."""

  def panel(self) -> Panel:
    """What pictures show of a model."""

  def changed_data(self, run: RunDir) -> list[str]:
    """Sentences about data that are others than the run began with."""


class Run:
  """What training left in a directory; made by `Experiment.run` and `open_run`.

  Attributes:
    path: of the directory.
    step: steps after which the weights of `load` were saved.
  """

  def __init__(self, run_dir: RunDir, model: Callable[[], MultimodalVAE],
               experiment: Callable[[], Origin] | None = None,
               tokenizers: Mapping[str, Any] | None = None):
    """Opens a run; nothing is read before it is asked for.

    Args:
      run_dir: its directory.
      model: function () -> the model as it was trained, of any weights.
      experiment: function () -> the experiment with its data, or None where it is not at hand.
      tokenizers: {modality: `Tokenizer`} of those in words.
    """
    self.path = run_dir.path
    self._run_dir, self._make_model = run_dir, model
    self._make_experiment, self._experiment = experiment, None  # once it is asked for
    self._tokenizers = dict(tokenizers or {})
    self._loaded = None  # (model, step)

  def __repr__(self):
    return f"Run({self.path!r})"

  def load(self) -> MultimodalVAE:
    """The model with the weights of the best held-out objective.

    Raises:
      FileNotFoundError: the run has no checkpoint.
      ValueError: the checkpoint is of another model, or damaged.
    """
    if self._loaded is None:
      model = self._make_model()
      if not isinstance(model, MultimodalVAE):
        raise ValueError("the function that builds the model must return a MultimodalVAE, got a "
                         f"{type(model).__name__}")
      self._loaded = model, checkpoints.restore_model(model, self._run_dir)
    return self._loaded[0]

  @property
  def step(self) -> int:
    self.load()
    return self._loaded[1]

  def translate(self, x: Mapping[str, Any], to: str | Sequence[str] | None = None,
                num: int | None = None, seed: int = 0, mask: Mapping[str, Any] | None = None
                ) -> np.ndarray | dict[str, np.ndarray]:
    """What the model makes of observations: the decoders' modes, from samples of q(z | x).

    Args:
      x: {modality: [B, *shape]} of some of the modalities; text [B] for those in words.
      to: the modality to generate, or several; None is all that x does not hold, or all where it
        holds all.
      num: so many samples of each example; None is one, without an axis for it.
      seed: of the samples.
      mask: {modality: bool [B]}, which examples have it; None where all do.

    Returns:
      [B, *shape], or [num, B, *shape]; {modality: such an array} where `to` is no single name.
      Text for those in words.

    Raises:
      ValueError: an unknown modality, or observations of another shape or number.
    """
    model = self.load()
    x, mask = self._batch(model, x, mask)
    given = [to] if isinstance(to, str) else to
    if given is None:
      given = [name for name in model.modalities if name not in x] or list(model.modalities)
    model.check_names(given, "to")
    num_samples = _at_least_one("num", 1 if num is None else num)
    z = inference.samples_of_posterior(model, x, num_samples, [seed, 0], mask)
    return self._decoded(z[0] if num is None else z, given, single=isinstance(to, str))

  def sample(self, num: int, seed: int = 0, to: str | Sequence[str] | None = None
             ) -> np.ndarray | dict[str, np.ndarray]:
    """Joint samples: z of the prior, decoded to every modality by the decoders' modes.

    Args:
      num: how many.
      seed: of the samples.
      to: the modality to generate, or several; None is all.

    Returns:
      {modality: [num, *shape]}, or the one array where `to` is a name. Text for those in words.

    Raises:
      ValueError: an unknown modality, or `num` below 1.
    """
    model = self.load()
    given = [to] if isinstance(to, str) else list(model.modalities) if to is None else to
    model.check_names(given, "to")
    z = inference.sample_prior(model, _at_least_one("num", num), [seed, 0])
    return self._decoded(z, given, single=isinstance(to, str))

  def evaluate(self, metrics: Mapping[str, Callable] | None = None,
               dataset: Examples | None = None, max_examples: int | None = None,
               settings: Settings | None = None,
               remarks: Sequence[str] = ()) -> Results:
    """Measures the run; figures, pictures and report.html go into its results/.

    Args:
      metrics: {name: metric}; None takes those of the experiment.
      dataset: examples to measure on; None takes the experiment's test data.
      max_examples: how many of them, evenly spread; None is as the experiment says.
      settings: kept with the results, by which it is known what need not be measured again; None
        describes the experiment, and measures everything.
      remarks: sentences that the page begins with.

    Returns:
      `Results`: print it, or take `results[metric][figure]`, each a value with its standard error.

    Raises:
      ValueError: no metrics or data are given where the experiment is not at hand.
    """
    needed = metrics is None or dataset is None
    if needed and self._experiment is None and self._make_experiment:
      self._experiment = self._make_experiment()
    experiment = self._experiment
    if needed and experiment is None:
      raise ValueError("evaluate needs metrics and a dataset, such as evaluate({'likelihoods': "
                       "metrics.Likelihoods()}, test_data): a run that was opened by its model "
                       "alone has none")
    metrics = experiment.metrics if metrics is None else metrics
    changes = experiment.changed_data(self._run_dir) if experiment and dataset is None else []
    if dataset is None:
      dataset = experiment.test_data
      max_examples = experiment.max_examples if max_examples is None else max_examples
    evaluation = Evaluation(dataset, metrics, max_examples)
    model = self.load()
    print("\n".join([f"Measuring {self.path}, weights after step {self.step:,}: "
                     f"{evaluation.what()}", *remarks, *changes]), flush=True)
    known = settings or (experiment.settings(model) if experiment else None)
    found = evaluation(model, self._run_dir.results, known, self.step)
    pictures = experiment.panel().write(model, self._run_dir.results) if experiment else []
    report.write(
        found, self._run_dir.results, f"{os.path.basename(self.path)}: what the model has learnt",
        [f"Weights after step {self.step:,}, measured on {evaluation.what()}.", *remarks, *changes],
        {os.path.splitext(os.path.basename(path))[0].replace("_", " "): path for path in pictures},
        {"Configuration": known.text() if known else self._run_dir.text()})
    return found

  def history(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The curves of TensorBoard: {tag: (steps int [N], values float [N])}, such as "train/bound"
    and "held_out/objective", in nats."""
    return summaries.read_scalars(self._run_dir.events)

  def export(self, directory: str | os.PathLike | None = None) -> str:
    """Writes the SavedModel, and returns where; None is the run's export/1.

    Raises:
      ValueError: the directory holds something else than a SavedModel.
    """
    directory = self._run_dir.export if directory is None else os.path.expanduser(directory)
    export(self.load(), directory, self._tokenizers)
    return directory

  def _batch(self, model, x, mask):
    """x and mask as tensors; raises ValueError unless they are of the same examples."""
    x = {m.name: m.check(self._read(m, x[m.name])) for m in model.present(x)}
    sizes = {name: len(values) for name, values in x.items()}
    if len(set(sizes.values())) > 1:
      raise ValueError(f"x must have as many examples of each modality, got {sizes}")
    model.check_names(mask or {}, "mask")
    mask = {name: np.asarray(here) for name, here in (mask or {}).items()}
    for name, here in mask.items():
      if name not in sizes or here.dtype != bool or here.shape != (sizes[name],):
        raise ValueError(f"mask of '{name}': expected bool [{sizes.get(name, 'B')}] of a modality "
                         f"that x holds, got {here.dtype} {list(here.shape)}")
    for name, values in x.items():
      seen = values.numpy()[mask[name]] if name in mask else values.numpy()
      if seen.dtype.kind == "f" and not np.all(np.isfinite(seen)):
        raise ValueError(f"x['{name}'] holds NaN or infinite numbers where it is not masked")
    return x, {name: tf.constant(here) for name, here in mask.items()}

  def _read(self, modality, values):
    values = np.asarray(values)
    if modality.name in self._tokenizers and values.dtype.kind in "OSU":
      return self._tokenizers[modality.name].encode(values.astype(str))
    if values.dtype.kind == "f" and modality.spec.dtype.is_floating:
      with np.errstate(over="ignore"):  # refused below
        values = values.astype(modality.spec.dtype.as_numpy_dtype)
    return tf.convert_to_tensor(values)

  def _decoded(self, z, names, single):
    """Of z [..., D]: arrays, or text where there are tokenizers."""
    decoded = inference.decode(self.load(), z, names)
    found = {name: self._tokenizers[name].decode(decoded[name]) if name in self._tokenizers
             else decoded[name] for name in names}
    found = {name: value.numpy() for name, value in found.items()}
    found = {name: np.array([said.decode() for said in value.flat], object).reshape(value.shape)
             if value.dtype == object else value for name, value in found.items()}
    return found[names[0]] if single else found


def _at_least_one(name, number):
  if not isinstance(number, int) or number < 1:
    raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")
  return number
