"""Compares what several runs measured.

  python tools/compare.py runs/toy_birds runs/toy_birds_wide --out=compare.html

Prints one table and writes it as a page. Runs whose configurations differ in SEED alone share a
column: their mean, and the standard deviation over seeds.
"""

import os

import experiment
import mistakes
from absl import flags

flags.DEFINE_string("out", "compare.html", "The page to write.")


class Unfit(ValueError):
  """All that is wrong with the runs. `report` has a line for each."""

  def __init__(self, problems):
    self.report = problems[0] if len(problems) == 1 else "\n  ".join(
        [f"{len(problems)} problems:", *problems])
    super().__init__(self.report)


def main(*paths):
  flag = flags.FLAGS
  for name in ("gin_file", "gin_param", "run_dir"):
    if flag[name].value:
      raise ValueError(f"--{name} says nothing here: give the directories of runs, and --out")
  if len(paths) < 2:
    raise ValueError("give the directories of two runs or more")
  if not os.path.isdir(os.path.dirname(os.path.abspath(flag.out))):
    raise ValueError(f"no folder for --out={flag.out}: make it, or give another")
  if os.path.isdir(flag.out):
    raise ValueError(f"--out={flag.out} is a folder: give the page to write in it a name")
  from tf_mmvae.reports import comparison
  from tf_mmvae.run_dir import replacing
  compared = comparison.compare(_read(paths))
  print(compared.text())
  with replacing(flag.out) as path, open(path, "w", encoding="utf-8") as file:
    file.write(compared.html())
  print(f"Page: {os.path.abspath(flag.out)}")


def _read(paths):
  """A list of `comparison.Run`; a mistake in one does not hide those in others."""
  from tf_mmvae.reports import comparison
  from tf_mmvae.run_dir import RunDir
  runs, problems, seen = [], [], set()
  names = _names(paths)
  for path, name in zip(paths, names, strict=True):
    try:
      run = RunDir(path)
      if os.path.realpath(run.path) in seen:
        raise ValueError(f"{path} is given twice: give each run once")
      seen.add(os.path.realpath(run.path))
      settings = {experiment.name_of(key): value
                  for key, value in experiment.bindings(run.read_config()).items()}
      metrics, step = _results(run, comparison)
      runs.append(comparison.Run(name, settings, metrics, step))
    except mistakes.kinds() as error:
      problems.append(mistakes.sentence(error))
  if problems:
    raise Unfit(problems)
  return runs


def _results(run, comparison):
  try:
    return comparison.read_results(run.results)
  except (FileNotFoundError, ValueError) as error:
    command = experiment.next_commands(run)[0]
    raise ValueError(f"{error}: measure it with {command}") from error


def _names(paths):
  """Short names: paths below the folder that holds all of the runs."""
  paths = [os.path.abspath(os.path.expanduser(path)) for path in paths]
  top = os.path.commonpath([os.path.dirname(path) for path in paths])
  return [os.path.relpath(path, top) for path in paths]


if __name__ == "__main__":
  experiment.run(main)
