"""The Python script of the README, from an empty folder."""

import os
import re
import subprocess
import sys

from tests import runs

MAX_LINES = 30


def test_the_script_of_the_readme(tmp_path):
  """It needs nothing beside it; what it translates is nearer than the mean; its run is there."""
  readme = (runs.ROOT / "README.md").read_text()
  (script,) = re.findall(r"```python\n(import keras\n.*?)```", readme, re.S)
  assert len(script.splitlines()) <= MAX_LINES
  script = script.replace("num_steps=1000", "num_steps=200")
  done = subprocess.run(
      [sys.executable, "-c", script], cwd=tmp_path, text=True, capture_output=True, timeout=300,
      env={**os.environ, "PYTHONPATH": str(runs.ROOT)})
  assert done.returncode == 0, done.stderr
  error, size = map(float, re.search(r"^error of b: (\S+) of (\S+)$", done.stdout, re.M).groups())
  assert error < 0.7 * size
  assert "Best: step 200" in done.stdout and "log p(x_1..M)" in done.stdout
  assert (tmp_path / "runs" / "mine" / "export" / "1" / "saved_model.pb").is_file()
