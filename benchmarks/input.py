r"""What the data sets give beside what training takes: examples a second of each, in one run.

  python benchmarks/input.py --manual_dir=DATA     # a markdown table; about 15 minutes on two cores

DATA holds mnist/, photos/ and cub/. House numbers are noise in a file of the official format; own
data are crops of the photographs with a sentence each, read from memory and from disk. Columns: how
many examples a second the shuffled batches give alone; how many the experiment trains on, with its
own K and batch; the ratio; and the share of its time that a step waits for its batch, as training
logs it.
"""

import csv
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of the data.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data sets are kept.")
ONLY = flags.DEFINE_list("only", None, "Names of rows; all of them by default.")
SECONDS = flags.DEFINE_float("seconds", 5, "How long batches are drawn alone.")
STEPS = flags.DEFINE_integer("steps", 30, "Steps of training, of which the last third counts.")
NUM_PICTURES = flags.DEFINE_integer("pictures", 5000, "Of the own data.")


def write_numbers(folder):
  """Noise in the format of SVHN."""
  import scipy.io
  rng = np.random.default_rng(0)
  (folder / "svhn").mkdir()
  for split, num in (("train", 20000), ("test", 2000)):
    scipy.io.savemat(folder / "svhn" / f"{split}_32x32.mat", {
        "X": rng.integers(0, 256, [32, 32, 3, num], np.uint8),
        "y": (np.arange(num) % 10 + 1).astype(np.uint8)[:, np.newaxis]})


def write_own_data(folder, photos):
  """A manifest of crops, resized when they are prepared, and sentences that tell their place."""
  from PIL import Image
  rng = np.random.default_rng(0)
  (folder / "crops").mkdir()
  with open(folder / "own.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["image", "sentence"])
    for i in range(NUM_PICTURES.value):
      photo = photos[rng.integers(len(photos))]
      top, left = (rng.integers(side - 96) for side in photo.shape[:2])
      Image.fromarray(photo[top:top + 96, left:left + 96]).save(folder / "crops" / f"{i}.jpg")
      table.writerow([f"crops/{i}.jpg", f"a part {top} down and {left} to the right."])


def alone(data, batch_size):
  """Examples a second of the shuffled batches."""
  batches = iter(data.shuffled_batches(batch_size, 0))
  for _ in range(5):
    next(batches)
  began, num = time.perf_counter(), 0
  while time.perf_counter() - began < SECONDS.value:
    next(batches)
    num += batch_size
  return num / (time.perf_counter() - began)


def trained(gin_file, run_dir, *arguments):
  """(steps a second, share of the time that they wait) of an experiment."""
  from tests import runs
  third = STEPS.value // 3
  bindings = [f"NUM_STEPS = {3 * third}", f"mm.Experiment.log_every = {third}", "METRICS = {}"]
  command = [sys.executable, str(ROOT / "tools" / "train.py"), f"--gin_file=gin/{gin_file}",
             f"--run_dir={run_dir}", *arguments, *[f"--gin_param={b}" for b in bindings]]
  if DATA_DIR.value:
    command.append(f"--data_dir={DATA_DIR.value}")
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  if done.returncode:
    raise RuntimeError(done.stderr)
  found = runs.events(os.path.join(run_dir, "events"))
  return [found[f"train/{name}", 3 * third][0] for name in ("steps_per_second", "input_wait")]


def rows(scratch):
  """{name: (gin file, function () -> examples, batch size, arguments of train.py)}."""
  from tf_mmvae.data import tokenizer
  from tf_mmvae.data.cub import dataset as cub
  from tf_mmvae.data.digits import photo_digits, svhn
  from tf_mmvae.data.own import columns
  from tf_mmvae.data.own import dataset as own_data
  from tf_mmvae.data.toy_birds import dataset as toy_birds
  where = {"manual_dir": MANUAL_DIR.value, "data_dir": DATA_DIR.value}
  words = tokenizer.Tokenizer(["a", "bird", "part"])
  given = [f"--manual_dir={MANUAL_DIR.value}"]

  def own(in_memory):
    kinds = {"image": columns.Picture(), "sentence": columns.Text()}
    source = own_data.Source(
        scratch / "own.csv", kinds, fractions={"validation": 0.1, "test": 0.1},
        data_dir=DATA_DIR.value)
    return own_data.examples("train", source, {"sentence": words}, in_memory)

  def of_own(in_memory):
    return [f"--gin_param=IN_MEMORY = {in_memory}", "--gin_param=MANIFEST = 'own.csv'",
            f"--manual_dir={scratch}"]

  return {
      "toy_birds": ("toy_birds.gin", lambda: toy_birds.examples(
          "train", words, DATA_DIR.value), 64, []),
      "cub": ("cub.gin", lambda: cub.examples(
          cub.Source(**where), "train[5%:]", words), 64, given),
      "mnist_photo": ("mnist_photo.gin", lambda: photo_digits.mnist_photo(
          "train[5%:]", **where, num_permutations=30), 64, given),
      "mnist_svhn": ("mnist_svhn.gin", lambda: svhn.mnist_svhn(
          "train[5%:]", scratch), 128, [f"--manual_dir={scratch}"]),
      "polymnist": ("polymnist.gin", lambda: photo_digits.polymnist(
          "train[5%:]", **where), 64, given),
      "own_data in memory": ("own_data.gin", lambda: own(True), 32, of_own(True)),
      "own_data on disk": ("own_data.gin", lambda: own(False), 32, of_own(False))}


def main(argv):
  del argv
  with tempfile.TemporaryDirectory() as directory:
    scratch = pathlib.Path(directory)
    from tf_mmvae.data.digits import photo_digits
    write_own_data(scratch, photo_digits.photos("train", MANUAL_DIR.value))
    write_numbers(scratch)
    (scratch / "mnist").symlink_to(pathlib.Path(MANUAL_DIR.value, "mnist").resolve())
    print("| data set | examples/s alone | examples/s trained on | ratio | waits |")
    print("|---|---|---|---|---|")
    for name, (gin_file, data, batch_size, arguments) in rows(scratch).items():
      if ONLY.value and name not in ONLY.value:
        continue
      given = alone(data(), batch_size)
      speed, waits = trained(gin_file, scratch / name.replace(" ", "_"), *arguments)
      taken = speed * batch_size
      print(f"| {name} | {given:,.0f} | {taken:,.0f} | {given / taken:.0f} | {100 * waits:.1f} % |",
            flush=True)


if __name__ == "__main__":
  app.run(main)
