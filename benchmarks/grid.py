r"""A cut through the grid on pairs of MNIST digits: fusion, bound and gradient by what they learn.

  python benchmarks/grid.py --manual_dir=DATA     # a markdown table; hours in all on one core
  python benchmarks/grid.py --manual_dir=DATA --cells=moe_iwae_dreg,moe_iwae_stl --seeds=1

DATA/mnist holds the four official files (train-images-idx3-ubyte.gz and so on). An example is two
different digits of one class, the second one inverted, each a modality of 784 numbers; networks are
those of Shi et al. (2019) for MNIST, experts and prior Gaussian, likelihoods Laplace of b = 0.75.
All cells share data, steps, batches, K and seeds, so those with more components decode more.

Columns: log p(x) by the tight bound with 200 samples from each component, nats, of 500 test pairs;
the share of translations, one sample of the source's expert and the decoder's mean, that a judge
takes for the right digit; the share of prior samples for which it sees one digit in both
modalities; seconds a step. Each with the standard error over seeds.
"""

import os
import pathlib
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder with mnist/.", required=True)
CELLS = flags.DEFINE_list("cells", None, "Names of cells; all of them by default.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of each cell.")
STEPS = flags.DEFINE_integer("steps", 2000, "Steps of training.")
SAMPLES = flags.DEFINE_integer("samples", 10, "K.")
BATCH_SIZE = 64
LATENT_DIM = 20
NAMES = ("black", "white")  # modalities, by their grounds


def cells():
  """{name: (fusion, estimator)}."""
  from tf_mmvae import estimators, objectives
  from tf_mmvae import joint_posteriors as fusion
  from tf_mmvae.estimators import Estimator
  from tf_mmvae.objectives import elbo, iwae, iwae_tight
  moe, poe, mopoe = (
      fusion.MixtureOfExperts(), fusion.ProductOfExperts(), fusion.MixtureOfProducts())
  found = {f"moe_iwae_{g.__name__}": (moe, Estimator(iwae, g)) for g in objectives.GRADIENTS}
  plain, mixture_dreg = objectives.reparameterised, objectives.mixture_dreg
  return found | {
      "moe_elbo_reparameterised": (moe, Estimator(elbo, plain)),
      "moe_iwae_tight_mixture_dreg": (moe, Estimator(iwae_tight, mixture_dreg)),
      "moe_iwae_tight_dreg_independent": (moe, Estimator(
          iwae_tight, objectives.dreg, sample=fusion.independent_sample)),
      "poe_elbo_subsampled": (poe, estimators.SubsampledEstimator(Estimator(elbo, plain))),
      "poe_iwae_subsampled": (
          poe, estimators.SubsampledEstimator(Estimator(iwae, objectives.dreg))),
      "poe_elbo": (poe, Estimator(elbo, plain)),
      "mopoe_elbo_reparameterised": (mopoe, Estimator(elbo, plain)),
      "mopoe_iwae_reparameterised": (mopoe, Estimator(iwae, plain)),
      "mopoe_iwae_mixture_dreg": (mopoe, Estimator(iwae, mixture_dreg)),
  }


def digits(split):
  """Images float32 [N, 784] in [0, 1] and labels [N] of "train" or "test"."""
  from tf_mmvae.data.digits import mnist
  images, labels, _ = mnist.arrays(split, MANUAL_DIR.value)
  return images.reshape(-1, 784).astype(np.float32) / 255, labels


def pairs(split, num, seed):
  """(x, labels): digits and others of their class, the second ones inverted."""
  images, labels = digits(split)
  rng = np.random.default_rng(seed)
  first = rng.permutation(len(labels))[:num]
  of_class = [np.flatnonzero(labels == c) for c in range(10)]
  second = np.array([rng.choice(of_class[labels[i]]) for i in first])
  return {"black": images[first], "white": 1 - images[second]}, labels[first]


def examples(name, x):
  import tensorflow as tf

  from tf_mmvae.data.examples import Examples
  x = {name: tf.constant(value) for name, value in x.items()}
  return Examples(name, len(x["black"]), lambda i: (
      {name: tf.gather(value, i) for name, value in x.items()}, {}))


def make_model(rule):
  import keras

  from tf_mmvae import distributions
  from tf_mmvae.modality import Modality
  from tf_mmvae.model import MultimodalVAE, Prior
  parts = []
  for name in NAMES:
    encoder = keras.Sequential([
        keras.layers.Dense(400, "relu"), keras.layers.Dense(2 * LATENT_DIM)])
    decoder = keras.Sequential([
        keras.layers.Dense(400, "relu"), keras.layers.Dense(784, "sigmoid")])
    parts.append(Modality(name, (784,), encoder, decoder, distributions.laplace_likelihood,
                          distributions.normal))
  return MultimodalVAE(parts, Prior(LATENT_DIM, distributions.normal), rule)


def judge(images, labels):
  """A classifier of digits on black: function images [N, 784] -> classes [N]."""
  import keras
  keras.utils.set_random_seed(0)
  network = keras.Sequential([
      keras.layers.Reshape([28, 28, 1]), keras.layers.Conv2D(16, 5, 2, activation="relu"),
      keras.layers.Conv2D(32, 5, 2, activation="relu"), keras.layers.Flatten(),
      keras.layers.Dropout(0.3), keras.layers.Dense(10)])
  network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
  network.fit(images, labels, 128, 3, verbose=0)
  return lambda x: np.argmax(network.predict(x, 1000, verbose=0), -1)


def measure(model, classify, test, labels):
  """{column: value} of a trained model."""
  from tf_mmvae import estimators, inference, objectives
  from tf_mmvae.metrics.held_out import HeldOut
  plain = estimators.Estimator(gradient=objectives.reparameterised)
  found = HeldOut(plain, 200, 500, 5)(model, examples("test", test))
  on_black = {"black": lambda x: x, "white": lambda x: 1 - x}
  values = {"log p(x)": found["iwae_tight"][0]}
  for source, target in (NAMES, NAMES[::-1]):
    z = inference.sample_posterior(model, {source: test[source]}, [0, 1])
    seen = classify(on_black[target](np.asarray(model.likelihoods(z)[target].mean())))
    values[f"{source} -> {target}, %"] = 100 * np.mean(seen == labels)
  decoded = model.likelihoods(inference.sample_prior(model, 5000, [0, 2]))
  first, second = (classify(on_black[n](np.asarray(decoded[n].mean()))) for n in NAMES)
  return {**values, "joint, %": 100 * np.mean(first == second)}


def run(name, seed, data, classify, test, labels):
  """Trains one cell by one seed: {column: value}."""
  import keras

  from tf_mmvae.training.train import train
  rule, estimator = cells()[name]
  models = []
  with tempfile.TemporaryDirectory() as directory:
    began = time.perf_counter()
    train(lambda: make_model(rule), estimator, lambda: keras.optimizers.Adam(1e-3, amsgrad=True),
          data, examples("held out", {n: v[:64] for n, v in test.items()}), f"{directory}/run",
          seed, STEPS.value, SAMPLES.value, BATCH_SIZE, evaluate_every=STEPS.value,
          checkpoint_every=STEPS.value, log_every=STEPS.value, on_model=models.append)
    seconds = (time.perf_counter() - began) / STEPS.value
  return {**measure(models[0], classify, test, labels), "s a step": seconds}


def main(argv):
  del argv
  x, _ = pairs("train", 60000, 0)
  data = examples("pairs", x)
  test, labels = pairs("test", 5000, 1)
  classify = judge(*digits("train"))
  accuracy = np.mean(classify(test["black"]) == labels)
  print(f"The judge is right on {100 * accuracy:.1f} % of the test digits.", file=sys.stderr)
  header = None
  for name in CELLS.value or cells():
    runs = [run(name, seed, data, classify, test, labels) for seed in range(SEEDS.value)]
    if header is None:
      header = list(runs[0])
      print(f"| cell | {' | '.join(header)} |\n|---|{'---|' * len(header)}", file=sys.stderr)
    cols = []
    for column in header:
      values = np.array([r[column] for r in runs])
      error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
      digits_shown = 3 if column == "s a step" else 1
      cols.append(f"{values.mean():.{digits_shown}f} ± {error:.{digits_shown}f}")
    print(f"| {name} | {' | '.join(cols)} |", file=sys.stderr, flush=True)


if __name__ == "__main__":
  app.run(main)
