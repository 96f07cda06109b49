"""Compares what several runs measured.

  tf-mmvae compare runs/toy_birds runs/toy_birds_wide --out=compare.html

Prints one table and writes it as a page. Runs whose configurations differ in SEED alone share a
column: their mean, and the standard deviation over seeds.
"""

import os

from absl import flags

from tf_mmvae.cli import mistakes
from tf_mmvae.run_dir import RunDir, replacing


def define(values):
  flags.DEFINE_string("out", "compare.html", "The page to write.", flag_values=values)


class Unfit(ValueError):
  """All that is wrong with the runs. `report` has a line for each."""

  def __init__(self, problems):
    self.report = problems[0] if len(problems) == 1 else "\n  ".join(
        [f"{len(problems)} problems:", *problems])
    super().__init__(self.report)


def main(flag, invocation, *paths):
  if len(paths) < 2:
    raise ValueError("give the directories of two runs or more")
  if not os.path.isdir(os.path.dirname(os.path.abspath(flag.out))):
    raise ValueError(f"no folder for --out={flag.out}: make it, or give another")
  if os.path.isdir(flag.out):
    raise ValueError(f"--out={flag.out} is a folder: give the page to write in it a name")
  from tf_mmvae.reports import comparison
  compared = comparison.compare(_read(paths, invocation))
  print(compared.text())
  with replacing(flag.out) as path, open(path, "w", encoding="utf-8") as file:
    file.write(compared.html())
  print(f"Page: {os.path.abspath(flag.out)}")


def _read(paths, invocation):
  """A list of `comparison.Run`; a mistake in one does not hide those in others."""
  runs, problems, seen = [], [], set()
  for path, name in zip(paths, _names(paths), strict=True):
    try:
      run = RunDir(path)
      run.check_exists()
      if os.path.realpath(run.path) in seen:
        raise ValueError(f"{path} is given twice: give each run once")
      seen.add(os.path.realpath(run.path))
      runs.append(_results(run, name, invocation))
    except mistakes.kinds() as error:
      problems.append(mistakes.sentence(error))
  if problems:
    raise Unfit(problems)
  return runs


def _results(run, name, invocation):
  from tf_mmvae.reports import comparison
  try:
    return comparison.Run(name, *comparison.read(run.results))
  except (FileNotFoundError, ValueError) as error:
    raise ValueError(f"{error}: measure it with {invocation.of('evaluate')} "
                     f"--run_dir={run.path}") from error


def _names(paths):
  """Short names: paths below the folder that holds all of the runs."""
  paths = [os.path.abspath(os.path.expanduser(path)) for path in paths]
  top = os.path.commonpath([os.path.dirname(path) for path in paths])
  return [os.path.relpath(path, top) for path in paths]
