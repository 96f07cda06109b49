"""A run of the command line, opened from Python."""

import types

from tf_mmvae.cli import config
from tf_mmvae.cli.settings import settings
from tf_mmvae.run import Run
from tf_mmvae.run_dir import RunDir


def open_run(run_dir: RunDir, data_dir: str | None = None, manual_dir: str | None = None) -> Run:
  """Opens a run whose config.gin says what it is. gin's configuration of this process is replaced.

  Args:
    run_dir: its directory.
    data_dir: as the flag of this name, likewise the next.
    manual_dir: asked for where data are read.

  Raises:
    ValueError: config.gin is damaged, or of another format.
  """
  import gin
  flag = types.SimpleNamespace(
      gin_file=[], gin_param=[], data_dir=data_dir, manual_dir=manual_dir)

  def load():
    gin.clear_config()
    config.load(run_dir, flag, from_run=True)

  def made(name):
    from tf_mmvae import experiment, model
    load()
    what = {"model": model.MultimodalVAE, "experiment": experiment.Experiment}[name]
    return gin.get_configurable(what)()

  load()
  tokenizers = config.value_of("TOKENIZERS", {})
  return _ConfiguredRun(
      run_dir, lambda: made("model"), lambda: made("experiment"), tokenizers)


class _ConfiguredRun(Run):
  """A run whose settings are those of its configuration."""

  def evaluate(self, metrics=None, dataset=None, max_examples=None, settings=None):
    of_config = settings if settings or metrics else _settings_of(self)
    return super().evaluate(metrics, dataset, max_examples, of_config)


def _settings_of(run):
  run._experiment()  # loads the configuration
  return settings()
