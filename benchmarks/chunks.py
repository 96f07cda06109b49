"""What chunks of a batch cost and save: peak memory and seconds of a training step.

  python benchmarks/chunks.py --num_samples=30 --batch_size=64 --chunks=0,16,4,1

Each row is a process of its own: a model as large as that of gin/toy_birds.gin on random numbers.
0 is the whole batch at once. Memory is the peak of the process above what it held before its first
step; both columns are ratios to the first row. Linux alone, as it reads /proc.
"""

import argparse
import json
import os
import subprocess
import sys
import time

IMAGE, WORDS, VOCABULARY, LATENT_DIM = (64, 64, 3), 32, 80, 16


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--num_samples", type=int, default=30, help="K")
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--chunks", default="0,16,4,1", help="examples a chunk, a row each")
  parser.add_argument("--steps", type=int, default=5, help="timed, after one that is traced")
  parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.row is not None:
    print(json.dumps(measure(args.num_samples, args.batch_size, args.row or None, args.steps)))
    return
  print(f"K = {args.num_samples}, batches of {args.batch_size}")
  print(f"{'chunk':>8} {'MiB':>8} {'ratio':>6} {'s/step':>8} {'ratio':>6}")
  first = None
  for size in map(int, args.chunks.split(",")):
    row = run(args, size)
    first = first or row
    print(f"{size or 'whole':>8} {row['mib']:8.0f} {row['mib'] / first['mib']:6.2f} "
          f"{row['seconds']:8.3f} {row['seconds'] / first['seconds']:6.2f}", flush=True)


def run(args, size):
  """One row, in a process of its own."""
  command = [sys.executable, __file__, f"--num_samples={args.num_samples}", f"--row={size}",
             f"--batch_size={args.batch_size}", f"--steps={args.steps}"]
  env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def measure(num_samples, batch_size, size, num_steps):
  """{"mib": peak above the start, "seconds": the least of the steps}."""
  import keras
  import numpy as np
  import tensorflow as tf

  from tf_mmvae import estimators
  from tf_mmvae.training.trainer import Trainer

  strategy = tf.distribute.get_strategy()
  keras.utils.set_random_seed(0)
  model, optimizer = make_model(), keras.optimizers.Adam()
  random = np.random.default_rng(0)
  x = {"image": tf.constant(random.random([batch_size, *IMAGE]), tf.float32),
       "sentence": tf.constant(random.integers(3, VOCABULARY, [batch_size, WORDS]), tf.int32)}
  trainer = Trainer(model, estimators.Estimator(), optimizer, strategy, num_samples, seed=0,
                    examples_per_chunk=size)
  start, seconds = peak_mib(), []
  for step in range(num_steps + 1):
    began = time.perf_counter()
    float(trainer.step(x, {}, tf.constant(step, tf.int64))["objective"])
    seconds.append(time.perf_counter() - began)
  return {"mib": peak_mib() - start, "seconds": min(seconds[1:])}


def make_model():
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.model import MultimodalVAE, Prior
  from tf_mmvae.nets import images, sentences

  image = Modality("image", IMAGE, images.ConvEncoder(LATENT_DIM, (16, 32, 64, 64)),
                   images.PatchDecoder(IMAGE, (64, 32)), distributions.normal_likelihood)
  sentence = Modality("sentence", (WORDS,),
                      sentences.RecurrentEncoder(LATENT_DIM, VOCABULARY, units=64),
                      sentences.RecurrentDecoder(VOCABULARY, WORDS, units=64),
                      distributions.sentence_likelihood, dtype="int32")
  return MultimodalVAE([image, sentence], Prior(LATENT_DIM))


def peak_mib():
  """The most memory that this process has held so far."""
  with open("/proc/self/status", encoding="ascii") as file:
    (kib,) = [int(line.split()[1]) for line in file if line.startswith("VmHWM")]
  return kib / 1024


if __name__ == "__main__":
  main()
