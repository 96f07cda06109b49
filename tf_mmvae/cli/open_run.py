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
    data_dir: where the data set is prepared; see `tf_mmvae.open_run`.
    manual_dir: where its files lie.

  Raises:
    ValueError: config.gin is damaged, or of another format.
  """
  import gin

  from tf_mmvae.experiment import Experiment
  from tf_mmvae.model import MultimodalVAE
  flag = types.SimpleNamespace(
      gin_file=[], gin_param=[], data_dir=data_dir, manual_dir=manual_dir)

  def load():
    gin.clear_config()
    config.load(run_dir, flag, from_run=True)

  def made(what):
    load()  # another run may have been opened meanwhile
    return gin.get_configurable(what)()

  load()
  return _ConfiguredRun(run_dir, lambda: made(MultimodalVAE), lambda: made(Experiment),
                        config.value_of("TOKENIZERS", {}), settings())


class _ConfiguredRun(Run):
  """A run whose settings are those of its configuration."""

  def __init__(self, run_dir, model, experiment, tokenizers, settings):
    super().__init__(run_dir, model, experiment, tokenizers)
    self._settings = settings

  def evaluate(self, metrics=None, dataset=None, max_examples=None, settings=None, remarks=()):
    if settings is None:
      settings = self._settings
      if metrics is not None:  # which may be any, under a name of the configuration
        settings = settings._replace(metrics={}, references={})
    return super().evaluate(metrics, dataset, max_examples, settings, remarks)
