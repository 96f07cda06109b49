r"""Bias and variance of every gradient against the reparameterised one, and the time of a step.

  python benchmarks/gradients.py              # three markdown tables; about 15 minutes on one core
  python benchmarks/gradients.py --runs=1     # coarser

The model is the linear-Gaussian one of the tests with experts moved off the exact posteriors. Each
run is one noise for one x; gradients are by the experts' raw parameters. The criterion:
a gradient counts as unbiased where |bias| < 4 standard errors in every coordinate, and these are
below 2 % of the gradient's norm together. Variances are relative to `reparameterised` with strata.

The second table has screened gradients beside the same ones of all particles, from the same noise.
`generalised_dreg` is the other unbiased form of docs/gradients.md, kept here for comparison.
"""

import os
import pathlib
import sys
import time

import numpy as np
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RUNS = flags.DEFINE_integer("runs", 4, "Batches of 100,000 runs each.")
SAMPLES = flags.DEFINE_integer("samples", 5, "K, samples from each component.")
BATCH = 100_000


def generalised_dreg(bound, beta, posterior, z, score):
  """Every component's score as a path (Bauer & Mnih 2021, eq. 11), for stratified mixtures.

  Through z as component m would have drawn it, each m receives
  -beta r_m ((1 - w_k) c_k g_k + e_k dlog r_s / dz), and the own one c_k g_k besides.
  """
  import tensorflow as tf

  from tf_mmvae import distributions, joint_posteriors, objectives
  frozen = distributions.stop_gradient(posterior)
  parts = posterior.components_distribution.distribution  # loc [B, S, D]
  z_frozen = tf.stop_gradient(z)
  as_drawn = parts.loc + parts.scale * tf.stop_gradient(
      (z_frozen[..., tf.newaxis, :] - parts.loc) / parts.scale)  # [S, K, B, S, D]
  log_pi = tf.transpose(joint_posteriors.log_mixture_weights(posterior))
  with tf.GradientTape() as tape:
    tape.watch(z_frozen)
    of_each = joint_posteriors.component_log_prob(frozen, z_frozen)  # [S, K, B, S]
    own = tf.eye(z.shape[0])[:, tf.newaxis, tf.newaxis]
    log_r = tf.reduce_sum(own * of_each, -1) - frozen.log_prob(z_frozen)
  h = tape.gradient(log_r, z_frozen)
  r = tf.nn.softmax(log_pi + of_each)[..., tf.newaxis]  # [S, K, B, S, 1]
  known = {}

  @tf.custom_gradient
  def join(z, as_drawn):
    def gradient(dz):
      others = -beta * r * ((1. - known["w"]) * dz + known["e"] * h)[..., tf.newaxis, :]
      return dz, others

    del as_drawn
    return tf.identity(z), gradient

  estimate = score(join(z, as_drawn), frozen)
  known["w"] = tf.stop_gradient(objectives.normalised_weights(
      bound, estimate.log_w, estimate.log_pi))[..., tf.newaxis]
  even = objectives.coefficients(objectives.elbo, estimate.log_w, estimate.log_pi)
  c = objectives.coefficients(bound, estimate.log_w, estimate.log_pi)
  known["e"] = tf.stop_gradient(c - even)[..., tf.newaxis]
  return estimate


def settings():
  """(number of modalities, family, absent modalities, bound, sample)."""
  from tf_mmvae.joint_posteriors import independent_sample, stratified_sample
  from tf_mmvae.objectives import elbo, iwae, iwae_tight
  for family in ("normal", "laplace"):
    yield 1, family, "", iwae, stratified_sample
    for bound in (elbo, iwae, iwae_tight):
      yield 2, family, "", bound, stratified_sample
    yield 2, family, "", iwae_tight, independent_sample
    for bound in (iwae, iwae_tight):
      yield 3, family, "", bound, stratified_sample
      yield 3, family, "c", bound, stratified_sample


def gradients_of(setting, estimates, batch):
  """Gradients of each run by one noise for all: {name: [BATCH, M, 2 D]}.

  estimates: {name: (gradient, screening)}.
  """
  import tensorflow as tf

  from tests import oracle
  from tf_mmvae import estimators, joint_posteriors
  num, family, absent, bound, sample = setting
  exact = oracle.LinearGaussian(num)
  model = exact.model(shift=0.4, stretch=1.2, family=family)
  x = {n: tf.repeat(v, BATCH, 0) for n, v in exact.sample(1, seed=5).items()}
  mask = {n: tf.fill([BATCH], n not in absent) for n in x} if absent else {}
  noise = joint_posteriors.uniform_noise([num, SAMPLES.value, BATCH, 2], [3, batch])
  choice = joint_posteriors.uniform_noise([1, SAMPLES.value, BATCH, 2], [4, batch])
  return {name: np.moveaxis(oracle.encoder_gradients(
      model, estimators.Estimator(bound, gradient, sample=sample, screening=screening), x,
      tf.concat([noise, choice], 0) if screening else noise, mask), 1, 0)
          for name, (gradient, screening) in estimates.items()}


def moments(setting, estimates, target):
  """{name: (mean, variance, mean of the difference to `target`, its standard error)}, [M, 2 D]."""
  sums, n = {}, RUNS.value * BATCH
  for batch in range(RUNS.value):
    found = gradients_of(setting, estimates, batch)
    for name, value in found.items():
      difference = value - found[target(name)]
      new = np.stack([value.sum(0), (value**2).sum(0), difference.sum(0), (difference**2).sum(0)])
      sums[name] = sums.get(name, 0.) + new / n
  return {name: (mean, second - mean**2, bias, np.sqrt(np.maximum(square - bias**2, 0.) / n))
          for name, (mean, second, bias, square) in sums.items()}


def cells(bias, error, norm):
  """Bias and standard error in % of the norm, and the greatest bias in standard errors."""
  worst = np.max(np.abs(bias[error > 0]) / error[error > 0], initial=0.)
  return (f"{100 * np.linalg.norm(bias) / norm:.1f} ± {100 * np.linalg.norm(error) / norm:.1f} | "
          f"{worst:.1f}")


def rows(setting, plain):
  """A line of the table for each gradient; `plain` keeps the noise that others are divided by."""
  from tf_mmvae import joint_posteriors, objectives
  estimates = {g.__name__: (g, None) for g in objectives.GRADIENTS}
  if setting[-1] is joint_posteriors.stratified_sample:
    estimates["generalised_dreg"] = generalised_dreg, None
  found = moments(setting, estimates, lambda name: "reparameterised")
  norm = np.linalg.norm(found["reparameterised"][0])
  reference = plain.setdefault(setting[:-1], found["reparameterised"][1].sum())
  for name, (_, variance, bias, error) in found.items():
    yield (f"| {described(setting)} | {name} | {cells(bias, error, norm)} | "
           f"{variance.sum() / reference:.2f} |")


def screened_rows(setting):
  """A line of the second table for each gradient and number of the best."""
  from tf_mmvae import objectives
  from tf_mmvae.screening import Screening
  for gradient in (objectives.stl, objectives.dreg, objectives.mixture_dreg):
    estimates = {0: (gradient, None), **{n: (gradient, Screening(n)) for n in (1, 2, 3)}}
    found = moments(setting, estimates, lambda name: 0)
    norm, reference = np.linalg.norm(found[0][0]), found[0][1].sum()
    for n in (1, 2, 3):
      _, variance, bias, error = found[n]
      yield (f"| {described(setting)} | {gradient.__name__} | {n} | {cells(bias, error, norm)} | "
             f"{variance.sum() / reference:.2f} |")


def described(setting):
  num, family, absent, bound, sample = setting
  return (f"{num} | {family} | {absent or '-'} | {bound.__name__} | "
          f"{sample.__name__.removesuffix('_sample')}")


def step_times():
  """Seconds of a gradient of two convolutional modalities, in turns: {name: seconds}."""
  import tensorflow as tf

  from tf_mmvae import distributions, estimators, joint_posteriors, objectives
  from tf_mmvae.modality import Modality
  from tf_mmvae.model import MultimodalVAE, Prior
  from tf_mmvae.nets import images
  shape = (32, 32, 3)
  model = MultimodalVAE(
      [Modality(name, shape, images.ConvEncoder(20, (32, 64, 128)),
                images.ConvDecoder(shape, (128, 64, 32)), distributions.laplace_likelihood)
       for name in "ab"], Prior(20))
  x = {name: tf.random.stateless_uniform([16, *shape], [0, i]) for i, name in enumerate("ab")}
  noise = joint_posteriors.uniform_noise([2, 10, 16, 20], [0, 3])
  steps = {}
  for gradient in [*objectives.GRADIENTS, generalised_dreg]:
    estimator = estimators.Estimator(objectives.iwae, gradient)

    @tf.function
    def step(estimator=estimator):
      with tf.GradientTape() as tape:
        objective = estimator(model, x, noise, training=True).objective
      return tape.gradient(objective, model.trainable_variables)

    step()
    steps[gradient.__name__] = step
  times = {name: [] for name in steps}
  for _ in range(12):
    for name, step in steps.items():
      began = time.perf_counter()
      step()
      times[name].append(time.perf_counter() - began)
  return {name: np.median(seconds) for name, seconds in times.items()}


def main(argv):
  from tf_mmvae import objectives
  del argv
  print("| M | experts | absent | bound | samples | gradient | bias, % of the norm ± s.e. | "
        "greatest bias / s.e. | variance |\n|---|---|---|---|---|---|---|---|---|")
  plain = {}
  for setting in settings():
    for line in rows(setting, plain):
      print(line, flush=True)
  print("\n| M | experts | absent | bound | samples | gradient | n | bias to all particles' | "
        "greatest bias / s.e. | variance beside theirs |\n" + 10 * "|---" + "|")
  for setting in settings():
    if setting[3] is not objectives.elbo:
      for line in screened_rows(setting):
        print(line, flush=True)
  print("\n| gradient | time of a step |\n|---|---|")
  times = step_times()
  for name, seconds in times.items():
    print(f"| {name} | {seconds / times['reparameterised']:.2f} |")


if __name__ == "__main__":
  app.run(main)
