"""Variational mixture-of-experts autoencoders for several modalities (Shi et al. 2019).

  import tf_mmvae as mm

What is named here is loaded when it is first asked for.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import lazy_loader

if TYPE_CHECKING:
  from tf_mmvae.model import MultimodalVAE
  from tf_mmvae.run import Run

__version__ = "0.2.0"

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__", "open_run"]


def __dir__() -> list[str]:
  return sorted(__all__)


def open_run(path: str | os.PathLike, build: "Callable[[], MultimodalVAE] | None" = None,
             tokenizers: Mapping[str, Any] | None = None, data_dir: str | None = None,
             manual_dir: str | None = None) -> "Run":
  """Opens a run that was trained, from Python or by the command line.

  Args:
    path: of the run's directory.
    build: function () -> the model as it was trained, for a run of `Experiment`. A run of the
      command line knows its model.
    tokenizers: {modality: `Tokenizer`} of those in words, likewise.
    data_dir: where the data set of a run of the command line is prepared; None is the folder of
      tensorflow-datasets. Asked for by `evaluate`.
    manual_dir: where its files lie; None is `<data_dir>/downloads/manual`.

  Returns:
    `Run`

  Raises:
    FileNotFoundError: there is no run.
    ValueError: `build` is missing, or the run is of another format, or damaged.
  """
  from tf_mmvae.run_dir import RunDir
  run = RunDir(path)
  if run.has_config() and build is None:
    from tf_mmvae.cli.open_run import open_run as of_command_line
    return of_command_line(run, data_dir, manual_dir)
  run.check_exists()
  if build is None:
    raise ValueError(f"{run.path} is a run of an Experiment: give the function that builds its "
                     "model, open_run(path, build)")
  description = run.read_description()
  from tf_mmvae.description import check_tokenizers
  from tf_mmvae.run import Run
  check_tokenizers(tokenizers or {}, description or {})
  return Run(run, build, tokenizers=tokenizers)
