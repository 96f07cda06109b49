"""How a command was called, so that what it advises can be typed."""

import os
import shlex
import sys
from typing import NamedTuple


class Invocation(NamedTuple):
  """The program, and the command of it that runs."""

  program: str | None  # such as "tf-mmvae"; None for a script of tools/
  command: str  # such as "tf-mmvae train", or "tools/train.py"

  def of(self, command: str) -> str:
    """How another command is called in the same way, such as "tf-mmvae evaluate"."""
    if self.program == "python -m tf_mmvae":
      return f"{_beside('python')} -m tf_mmvae {command}"
    if self.program:
      return f"{_beside(self.program)} {command}"
    script = os.path.join(os.path.dirname(self.command), f"{command.replace('-', '_')}.py")
    return f"{_beside('python')} {shlex.quote(script)}"


def _beside(name):
  """The path of a program of this environment, from the present folder where it is below it."""
  folder = os.path.dirname(sys.executable)
  if not folder.startswith(os.getcwd() + os.sep):
    return os.path.join(folder, name)
  return os.path.join(os.path.relpath(folder), name)


def tensorboard(events: str) -> str:
  """The command that shows a directory of events."""
  return f"{_beside('tensorboard')} --logdir {shlex.quote(events)}"
