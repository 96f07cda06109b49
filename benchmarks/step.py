"""What a training step costs: seconds, memory, and the share of what the processor can do.

  python benchmarks/step.py                                   # all; some 30 minutes on one core
  python benchmarks/step.py --configs=digits_30 --kinds=dense,screened_3 --steps=5

Models are those of the gin files that `CONFIGS` names, on random numbers and sentences of 12 to 24
words. Each row is a process of its own; rows of one configuration are stepped in turns, each step
beside a product of two matrices of 2048 x 2048, whose rate is the peak. Columns: the median step
and its ratio to the first row; the most memory above what was held before the first step, in MiB;
floating point operations of all matrix products and convolutions that a step ran, in GFLOP; the
median rate of the products, in GFLOP/s; GFLOP over seconds as a share of it. Linux alone, as it
reads /proc. Threads are as many as the process may use: `taskset -c 0` measures one core, and with
`--clock=processor` other work on that core does not count.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PEAK_SIDE = 2048
WORDS, VOCABULARY = 32, 1590
COLUMNS = ("kind", "s/step", "ratio", "MiB", "GFLOP", "peak", "share")

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

# B, K, D and the bound of the modalities of a gin file.
Config = collections.namedtuple("Config", "batch_size num_samples latent_dim bound",
                                defaults=["iwae"])
CONFIGS = {
    "digits_30": Config(128, 30, 20),  # gin/mnist_svhn.gin
    "digits_10": Config(64, 10, 20),
    "digits_elbo": Config(128, 1, 20, "elbo"),
    "photos_10": Config(8, 10, 64),  # gin/cub_released.gin
    "photos_50": Config(64, 50, 64),
    "cub_10": Config(8, 10, 64),  # the same pictures; sentences word by word, as gin/cub.gin
    "cub_50": Config(64, 50, 64),
    "cub_1000": Config(2, 1000, 64),
    "features_50": Config(64, 50, 64),  # gin/cub_features.gin
    "views_2": Config(64, 1, 64),  # gin/polymnist.gin
    "views_3": Config(64, 1, 64),
    "views_5": Config(64, 1, 64),
    "birds_30": Config(64, 30, 16),  # gin/toy_birds.gin
    "birds_1000": Config(8, 1000, 16),
}


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--configs", default=",".join(CONFIGS), help=", ".join(CONFIGS))
  parser.add_argument("--kinds", default="dense,screened_3,chunked_8",
                      help="dense; screened_N, the best N particles and one more backwards; "
                      "screened_N_bfloat16, weighed in few bits; bfloat16, all in few bits; "
                      "chunked_N, N examples a chunk; jit, compiled by XLA")
  parser.add_argument("--steps", type=int, default=5, help="timed, after one that is traced")
  parser.add_argument("--clock", choices=list(CLOCKS), default="wall",
                      help="processor: the time of all threads, so for one core alone")
  parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.row:
    serve(*args.row)
    return
  for config in args.configs.split(","):
    print(f"\n| {config} | {' | '.join(COLUMNS[1:])} |\n|---|{'---|' * len(COLUMNS[1:])}")
    for line in rows(config, args.kinds.split(","), args.steps, args.clock):
      print(line, flush=True)


def rows(config, kinds, num_steps, clock):
  """Lines of a configuration's table; the processes take steps in turns."""
  processes = {kind: start(config, kind, clock) for kind in kinds}
  refused = {kind: reason for kind in kinds
             if (reason := ask(processes[kind], "prepare").get("refused"))}
  found = {kind: [] for kind in kinds if kind not in refused}
  for _ in range(num_steps):
    for kind, steps in found.items():
      steps.append(ask(processes[kind], "step"))
  first = None
  for kind, process in processes.items():
    if kind in refused:
      yield f"| {kind} | {refused[kind]} |"
    else:
      seconds, rate = (statistics.median(step[name] for step in found[kind])
                       for name in ("seconds", "rate"))
      first = first or seconds
      memory, flop = found[kind][-1]["mib"], ask(process, "count")["flop"]
      yield (f"| {kind} | {seconds:.3f} | {seconds / first:.2f} | {memory:.0f} | "
             f"{flop / 1e9:.1f} | {rate / 1e9:.0f} | {100 * flop / seconds / rate:.0f} % |")
    process.stdin.close()
    process.wait()


def start(*row):
  """The process of a row, which answers what `ask` sends it."""
  return subprocess.Popen([sys.executable, __file__, "--row", *row], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ask(process, what):
  """{name: number} of a line that a row's process writes for a line that it reads."""
  print(what, file=process.stdin, flush=True)
  line = process.stdout.readline()
  if not line:
    sys.exit(f"a row ended with code {process.wait()}; what it wrote above says why")
  return json.loads(line)


def serve(*row_of):
  """Answers each line of standard input by one: first whether there can be such a row."""
  row = None
  for line in sys.stdin:
    what = line.strip()
    if what == "prepare":
      try:
        row = Row(*row_of)
        answer = {}
      except (TypeError, ValueError) as error:  # an option not there, or not for these networks
        answer = {"refused": str(error)}
    else:
      answer = row.step() if what == "step" else {"flop": row.count()}
    print(json.dumps(answer), flush=True)


def options(kind):
  """What a kind such as "chunked_8" gives to Estimator and to Trainer, each a dict."""
  from tf_mmvae.screening import Screening
  name, *rest = kind.split("_")
  return {"dense": lambda: ({}, {}), "jit": lambda: ({}, {"jit_compile": True}),
          "bfloat16": lambda: ({}, {}),
          "screened": lambda num, dtype=None: (
              {"screening": Screening(int(num), dtype=dtype)}, {}),
          "chunked": lambda num: ({}, {"examples_per_chunk": int(num)})}[name](*rest)


class Row:
  """A trainer and the batch that it steps on."""

  def __init__(self, name, kind, clock):
    """Takes the step that is traced; memory counts from before it."""
    import keras
    import tensorflow as tf

    from tf_mmvae import estimators, objectives
    from tf_mmvae.modality import computing_in
    from tf_mmvae.model import MultimodalVAE, Prior
    from tf_mmvae.training.trainer import Trainer
    config, self._clock = CONFIGS[name], CLOCKS[clock]
    of_estimator, of_trainer = options(kind)
    keras.utils.set_random_seed(0)
    self._square = tf.random.stateless_normal([PEAK_SIDE, PEAK_SIDE], [0, 0])
    self._rate()
    self._model = MultimodalVAE(modalities(name), Prior(config.latent_dim))
    self._x = {m.name: observations(m.spec, config.batch_size)
               for m in self._model.modalities.values()}
    self._estimator = estimators.Estimator(getattr(objectives, config.bound), **of_estimator)
    self._trainer = Trainer(
        self._model, self._estimator, keras.optimizers.Adam(amsgrad=True),
        tf.distribute.get_strategy(), config.num_samples, seed=0, **of_trainer)
    self._start = peak_mib()
    networks = [n for m in self._model.modalities.values() for n in (m.encoder, m.decoder)]
    with computing_in(kind if kind == "bfloat16" else None, networks):
      self._take()

  def step(self):
    """{"seconds", "mib": peak above the start, "rate": operations a second of products}."""
    began = self._clock()
    self._take()
    seconds = self._clock() - began
    return {"seconds": seconds, "mib": peak_mib() - self._start, "rate": self._rate()}

  def count(self):
    """Operations of one step, op by op as they run: a graph knows neither loops nor all shapes."""
    import tensorflow as tf
    from tensorflow.python.framework import op_callbacks
    total = []

    def note(op_type, inputs, attrs, outputs, op_name=None, graph=None):
      del attrs, op_name, graph
      total.append(operations(tf.compat.as_str(op_type), inputs, outputs))

    strata = self._estimator.num_strata(self._model, self._x)
    self._estimator.num_strata = lambda model, x: strata  # a graph leaves out what this computes
    tf.config.run_functions_eagerly(True)
    op_callbacks.add_op_callback(note)
    self._take()
    op_callbacks.remove_op_callback(note)
    return sum(total)

  def _take(self):
    import tensorflow as tf
    float(self._trainer.step(self._x, {}, tf.constant(0, tf.int64))["objective"])

  def _rate(self):
    """Operations a second of a product of two matrices, the median of five."""
    seconds = []
    for _ in range(5):
      began = self._clock()
      float((self._square @ self._square)[0, 0])
      seconds.append(self._clock() - began)
    return 2 * PEAK_SIDE**3 / statistics.median(seconds)


def operations(op_type, inputs, outputs):
  """Multiplications and additions of an op; 0 unless it is a matrix product or a convolution."""
  if op_type in ("MatMul", "BatchMatMulV2"):  # inner size squared: [m, k] [k, n] -> [m, n]
    first, second, result = (math.prod(t.shape) for t in (*inputs, outputs[0]))
    batch = math.prod(outputs[0].shape[:-2])
    return 2 * round((first * second * result / batch) ** 0.5)
  if op_type == "Conv2D":
    return 2 * math.prod(outputs[0].shape) * math.prod(inputs[1].shape[:3])
  if op_type == "Conv2DBackpropInput":  # sizes, kernel, gradient
    return 2 * math.prod(inputs[2].shape) * math.prod(inputs[1].shape[:3])
  if op_type == "Conv2DBackpropFilter":  # pictures, sizes, gradient
    return 2 * math.prod(inputs[2].shape) * math.prod(outputs[0].shape[:3])
  return 0


def modalities(name):
  """Those of a configuration by the first part of its name."""
  kind, _, number = name.partition("_")
  return {"digits": digits, "photos": photos, "cub": cub, "features": features, "birds": birds,
          "views": lambda: views(int(number))}[kind]()


def digits():
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.nets import dense, images
  small, coloured = (28, 28, 1), (32, 32, 3)
  return [
      Modality("mnist", small, dense.DenseEncoder(20),
               dense.DenseDecoder(small, final_activation="sigmoid"),
               distributions.laplace_likelihood),
      Modality("svhn", coloured, images.ConvEncoder(20, (32, 64, 128)),
               images.ConvDecoder(coloured, (128, 64, 32), shared_bias=True),
               distributions.laplace_likelihood)]


def photos():
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.nets import sentence_images
  return [
      photo(),
      Modality("sentence", (WORDS,), sentence_images.SentenceImageEncoder(64, VOCABULARY),
               sentence_images.SentenceImageDecoder(VOCABULARY, WORDS),
               distributions.sentence_likelihood, distributions.normal, dtype="int32")]


def cub():
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.nets import sentences
  return [
      photo(),
      Modality("sentence", (WORDS,), sentences.RecurrentEncoder(64, VOCABULARY, 128),
               sentences.RecurrentDecoder(VOCABULARY, WORDS, 128),
               distributions.sentence_likelihood, dtype="int32")]


def photo():
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.nets import images
  shape = (64, 64, 3)
  return Modality("image", shape, images.ConvEncoder(64, (64, 128, 256, 512)),
                  images.ConvDecoder(shape, (512, 256, 128, 64), shared_bias=True),
                  distributions.laplace_likelihood)


def features():
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.nets import dense, sentences
  shape, units = (2048,), (1024, 512, 256)
  return [
      Modality("image", shape, dense.DenseEncoder(64, units, "elu"),
               dense.DenseDecoder(shape, units[::-1], "elu"),
               distributions.laplace_likelihood, distributions.normal),
      Modality("sentence", (WORDS,), sentences.RecurrentEncoder(64, VOCABULARY, 128),
               sentences.RecurrentDecoder(VOCABULARY, WORDS, 128),
               distributions.sentence_likelihood, distributions.normal, dtype="int32")]


def birds():
  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.nets import images, sentences
  shape, vocabulary = (64, 64, 3), 80
  return [
      Modality("image", shape, images.ConvEncoder(16, (16, 32, 64, 64)),
               images.PatchDecoder(shape, (64, 32)), distributions.normal_likelihood),
      Modality("sentence", (WORDS,), sentences.RecurrentEncoder(16, vocabulary, units=64),
               sentences.RecurrentDecoder(vocabulary, WORDS, units=64),
               distributions.sentence_likelihood, dtype="int32")]


def views(num):
  from tf_mmvae import distributions, modality
  from tf_mmvae.nets import images
  shape = (28, 28, 3)

  def view(name):
    return modality.Modality(
        name, shape, images.ConvEncoder(64, (32, 64, 128), 3, hidden_units=512),
        images.ConvDecoder(shape, (128, 64, 32), 3), distributions.normal_likelihood)

  return modality.views_of(num, view)


def observations(spec, num):
  """Numbers in [0, 1), or sentences of 12 to 24 words with their end."""
  import numpy as np
  random, shape = np.random.default_rng(0), [num, *spec.shape[1:]]
  if spec.dtype.is_floating:
    return random.random(shape, np.float32)
  words = random.integers(2, 80, shape, np.int32)  # all vocabularies have these
  last = random.integers(11, 24, [num, 1])
  place = np.arange(WORDS)
  return np.where(place < last, words, np.where(place == last, 1, 0)).astype(np.int32)


def peak_mib():
  """The most memory that this process has held so far."""
  with open("/proc/self/status", encoding="ascii") as file:
    (kib,) = [int(line.split()[1]) for line in file if line.startswith("VmHWM")]
  return kib / 1024


if __name__ == "__main__":
  main()
