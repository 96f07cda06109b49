r"""Whether a long training stays as it begins: memory, open files and the cost of a step.

  python benchmarks/soak.py --minutes=60 -- --gin_file=gin/toy_birds.gin --run_dir=runs/soak \
      --gin_param='NUM_STEPS = 1000000'

What follows `--` goes to tools/train.py, which is stopped by SIGTERM in the end. At each of its
lines `step N of M`, one a minute, the process is looked at; a row of the table is the mean over a
tenth of the time. Columns: minutes since the first step; steps done; resident memory in MiB; open
files; threads; seconds of the processor a step, looks and checkpoints with it. Linux alone, as it
reads /proc.
"""

import argparse
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
COLUMNS = ("minutes", "steps", "MiB", "files", "threads", "s/step")


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--minutes", type=float, default=60)
  parser.add_argument("arguments", nargs="+", help="of tools/train.py")
  args = parser.parse_args()
  process = subprocess.Popen([sys.executable, ROOT / "tools" / "train.py", *args.arguments],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  looks, until = [], None
  for line in process.stdout:
    found = re.match(r"step (\d+) of", line)
    if not found:
      print(line, end="", flush=True)
      continue
    looks.append(look(process.pid, int(found[1])))
    until = until or time.monotonic() + 60 * args.minutes
    if time.monotonic() > until:
      process.send_signal(signal.SIGTERM)
  code = process.wait()
  print(f"\nexit code {code}, {len(looks)} looks\n\n| {' | '.join(COLUMNS)} |\n{6 * '|---'}|")
  for line in table(looks):
    print(line)


def look(pid, step):
  """(time, step, MiB, files, threads, seconds of the processor)."""
  status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
  kib, threads = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads"))
  ticks = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
  seconds = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
  return (time.monotonic(), step, kib / 1024, len(os.listdir(f"/proc/{pid}/fd")), threads, seconds)


def table(looks, num_rows=10):
  """Rows of the looks from the first to the last."""
  for row in range(num_rows if len(looks) > num_rows else 0):
    part = looks[row * (len(looks) - 1) // num_rows:(row + 1) * (len(looks) - 1) // num_rows + 1]
    first, last = part[0], part[-1]
    memory, files, threads = (statistics.mean(of_look[i] for of_look in part) for i in (2, 3, 4))
    yield (f"| {(last[0] - looks[0][0]) / 60:.0f} | {last[1]:,} | {memory:,.0f} | {files:.1f} | "
           f"{threads:.0f} | {(last[5] - first[5]) / (last[1] - first[1]):.3f} |")


if __name__ == "__main__":
  main()
