"""What to do with a run that is trained: commands to type."""

import shlex

from tf_mmvae.cli.invocation import tensorboard
from tf_mmvae.cli.settings import has_viewers


def next_commands(run, flag, invocation):
  """Commands that look at a run that is trained: a list of lines."""
  where = "".join(f" {shlex.quote(f'--{name}={flag[name].value}')}"
                  for name in ("data_dir", "manual_dir") if flag[name].value)
  of_run = shlex.quote(f"--run_dir={run.path}")
  # What it makes is shown as a picture of the data set where there is a viewer.
  of_viewers = where if has_viewers() else ""
  return [f"{invocation.of('evaluate')} {of_run}{where}",
          f"{invocation.of('generate')} {of_run}{of_viewers}", tensorboard(run.events)]
