r"""How long training takes to a given coherence, with all particles backpropagated and with a few.

  python benchmarks/coherence.py --manual_dir=DATA                 # hours on one core
  python benchmarks/coherence.py --manual_dir=DATA --steps=200 --num_samples=10 --kinds=dense,1

DATA is that of gin/mnist_photo.gin: pairs of MNIST digits and digits over photographs. All kinds
have the same initial weights, data and batches and take their steps in turns, so that what else the
machine does slows all alike. A kind is `dense`, or the number of the best particles that are
backpropagated beside one more; `-bfloat16` after it has convolutions and dense layers compute in
few bits: in training for `dense`, and where particles are screened for a number. Networks, initial
weights, scales and rate (warm-up, then a cosine) are those of gin/mnist_photo.gin.

Columns: step; for each kind the processor's seconds of its steps so far, the held-out objective in
nats, and what a judge says of MNIST -> photo, photo -> MNIST, and the prior, in %. Then, for shares
of coherence (the mean of both translations), the seconds to reach it, and the ratio to the first
kind; linear between looks.
"""

import os
import pathlib
import sys
import time

import numpy as np
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of mnist/ and photos/.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Of tensorflow-datasets.")
KINDS = flags.DEFINE_list("kinds", ["dense", "3", "1"], "Such as dense, 3, 3-bfloat16.")
STEPS = flags.DEFINE_integer("steps", 2000, "Steps of each kind.")
EVERY = flags.DEFINE_integer("every", 100, "Steps between looks.")
SAMPLES = flags.DEFINE_integer("num_samples", 30, "K.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Pairs a step.")
RATE = flags.DEFINE_float("learning_rate", 0.003, "The highest, after 100 steps.")
SEED = flags.DEFINE_integer("seed", 0, "Of weights, batches and noise.")
KEEP = flags.DEFINE_string("keep", None, "A folder to keep the judges in, for the next time.")
SHARES = (30, 40, 50, 60, 70)
LATENT_DIM = 20
KERNELS = {"class_name": "VarianceScaling",
           "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}}


def make_model(train_dtype):
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.model import MultimodalVAE, Prior
  from tf_mmvae.nets import dense, images

  def family(raw, scale=distributions.softmax_scale):
    return distributions.laplace(raw, scale)

  mnist, photo = (28, 28, 1), (32, 32, 3)
  kernels = {"kernel_initializer": KERNELS}
  return MultimodalVAE([
      Modality("mnist", mnist, dense.DenseEncoder(LATENT_DIM, (400,), **kernels),
               dense.DenseDecoder(mnist, (400,), final_activation="sigmoid", **kernels),
               distributions.laplace_likelihood, family, train_dtype=train_dtype),
      Modality("photo", photo, images.ConvEncoder(LATENT_DIM, (32, 64, 128), **kernels),
               images.ConvDecoder(photo, (128, 64, 32), shared_bias=True, **kernels),
               distributions.laplace_likelihood, family, train_dtype=train_dtype)],
                       Prior(LATENT_DIM, family))


def make_trainer(kind):
  import keras
  import tensorflow as tf

  from tf_mmvae.estimators import Estimator
  from tf_mmvae.screening import Screening
  from tf_mmvae.training.trainer import Trainer
  keras.utils.set_random_seed(SEED.value)
  weights = {"mnist": 32 * 32 * 3 / (28 * 28)}
  num_best, _, dtype = kind.partition("-")
  dense = num_best == "dense"
  screening = None if dense else Screening(int(num_best), dtype=dtype or None)
  model = make_model(dtype or None if dense else None)
  rate = keras.optimizers.schedules.CosineDecay(
      0., STEPS.value, warmup_target=RATE.value, warmup_steps=100)
  return Trainer(
      model, Estimator(likelihood_weights=weights, screening=screening),
      keras.optimizers.Adam(rate), tf.distribute.get_strategy(), SAMPLES.value, SEED.value)


def main(argv):
  del argv
  import tensorflow as tf

  from tf_mmvae.data.digits.photo_digits import mnist_photo
  from tf_mmvae.metrics.agreement import Agreement
  from tf_mmvae.metrics.judges import Classifier
  where = {"manual_dir": MANUAL_DIR.value, "data_dir": DATA_DIR.value}
  train, held_out, test = (
      mnist_photo(split=split, **where) for split in ("train[5%:]", "train[:5%]", "test"))
  agreement = Agreement({name: Classifier(train, name, "digit", 10, KEEP.value)
                         for name in ("mnist", "photo")}, num_examples=1000, num_prior=1000)
  trainers = {kind: make_trainer(kind) for kind in KINDS.value}
  seconds = dict.fromkeys(trainers, 0.)
  curves = {kind: [(0., 0.)] for kind in trainers}
  print(f"K = {SAMPLES.value}, batches of {BATCH_SIZE.value}, seed {SEED.value}\n\n"
        f"| step | {' | '.join(f'{k}: s | objective | coherence' for k in trainers)} |\n|---|"
        + 3 * len(trainers) * "---|", flush=True)
  batches = iter(train.shuffled_batches(BATCH_SIZE.value, SEED.value))
  held_out = held_out.spread(500).batches(BATCH_SIZE.value)
  for step in range(STEPS.value + 1):
    x, _, _ = next(batches)
    for kind, trainer in trainers.items():
      began = time.process_time()
      float(trainer.step(x, {}, tf.constant(step, tf.int64))["objective"])
      seconds[kind] += (time.process_time() - began) * (step > 0)  # the first one is traced
    if step and step % EVERY.value == 0:
      line = []
      for kind, trainer in trainers.items():
        figures = agreement(trainer.model, test).figures
        shares = [100 * figures[name][0] for name in (
            "mnist_to_photo/digit", "photo_to_mnist/digit", "prior/digit")]
        curves[kind].append((np.mean(shares[:2]), seconds[kind]))
        line.append(f"{seconds[kind]:.0f} | {trainer.evaluate(held_out)['objective']:.1f} | "
                    + " / ".join(f"{share:.1f}" for share in shares))
      print(f"| {step} | {' | '.join(line)} |", flush=True)
  print("\n| coherence | " + " | ".join(f"{kind}: s | ratio" for kind in trainers) + " |\n|---|"
        + 2 * len(trainers) * "---|")
  for share in SHARES:
    times = [reached(curve, share) for curve in curves.values()]
    if any(t is not None for t in times):
      cells = ["- | -" if t is None or times[0] is None else f"{t:.0f} | {times[0] / t:.2f}"
               for t in times]
      print(f"| {share} % | {' | '.join(cells)} |")


def reached(curve, share):
  """When a curve [(share, seconds)] first reaches a share; None if it does not."""
  for (low, before), (high, after) in zip(curve, curve[1:], strict=False):
    if high >= share:
      return before + (after - before) * (share - low) / (high - low)
  return None


if __name__ == "__main__":
  app.run(main)
