"""What a trained model says when it is asked: other modalities, ranked captions, and ways in z."""

from collections.abc import Collection, Mapping

import tensorflow as tf

from tf_mmvae import inference
from tf_mmvae.distributions import SentenceDistribution
from tf_mmvae.model import MultimodalVAE

DECODINGS = ("greedy", "sampled", "beam")


def decode(model: MultimodalVAE, z: tf.Tensor, seed: tf.Tensor,
           names: Collection[str] | None = None, decoding: str = "greedy",
           beam_size: int = 5) -> dict[str, tf.Tensor]:
  """An observation of each modality given z; only sentences are decoded in more than one way.

  Args:
    model: a `MultimodalVAE`.
    z: [N, D].
    seed: int [2], of sampled sentences.
    names: modalities to decode, None for all.
    decoding: of sentences: "greedy", the most probable word after word; "sampled" from
      p(words | z); "beam", the most probable that a beam search finds. Anything else is its mode.
    beam_size: sentences that a beam keeps.

  Returns:
    {modality: [N, *shape]}

  Raises:
    ValueError: for another decoding, or a beam_size below 1.
  """
  if decoding not in DECODINGS:
    raise ValueError(f"expected a decoding of {', '.join(DECODINGS)}, got '{decoding}'")
  decoded = {}
  for name in model.modalities:
    if names is None or name in names:
      likelihood = model.likelihood(name, z)
      if decoding == "greedy" or not isinstance(likelihood, SentenceDistribution):
        decoded[name] = likelihood.mode()
      elif decoding == "sampled":
        decoded[name] = likelihood.sample(seed=tf.cast(seed, tf.int32))
      else:
        decoded[name] = likelihood.beam(beam_size)[0][:, 0]
  return decoded


def translate(model: MultimodalVAE, x: Mapping[str, tf.Tensor], name: str, num: int,
              seed: tf.Tensor, **decoding) -> tf.Tensor:
  """Observations of one modality, each from a z of its own, drawn from q(z | x).

  Args:
    model: a `MultimodalVAE`.
    x: {modality: [1, *shape]}, one example of any modalities.
    name: modality to generate.
    num: how many.
    seed: int [2].
    **decoding: `decoding` and `beam_size` of `decode`.

  Returns:
    [num, *shape]
  """
  z = inference.samples_of_posterior(model, x, num, seed)[:, 0]  # [num, D]
  return decode(model, z, seed, [name], **decoding)[name]


def captions(model: MultimodalVAE, x: Mapping[str, tf.Tensor], name: str, num: int, seed: tf.Tensor,
             decoding: str = "greedy", beam_size: int = 5,
             num_latents: int = 32) -> tuple[tf.Tensor, tf.Tensor]:
  """The best sentences that the model writes for one example, in order.

  Twice as many as asked for, and at least 8, are written, each from a sample of q(z | x) of its own
  or, for "beam", as many from each sample as the beam keeps. Equal ones count once. They are ranked
  by `log_predictive` under samples of q(z | x) that wrote none of them. That is log p(words | x)
  with q(z | x) plugged in for the model's posterior p(z | x), so exact only where these agree.

  Args:
    model: a `MultimodalVAE`.
    x: {modality: [1, *shape]}, one example of any modalities.
    name: modality of the sentences, whose likelihood is `sentence_likelihood`.
    num: how many are returned at most.
    seed: int [2].
    decoding: as `decode` takes it.
    beam_size: likewise.
    num_latents: samples of z that rank the sentences.

  Returns:
    words: int32 [C, L], C <= num, no two rows the same.
    log_prob: nats [C], descending.

  Raises:
    ValueError: for another decoding, or a beam_size below 1.
  """
  num_written = max(8, 2 * num)
  if decoding == "beam":
    num_beams = -(-num_written // max(beam_size, 1))
    z = inference.samples_of_posterior(model, x, num_beams, seed)[:, 0]
    words, log_prob = model.likelihood(name, z).beam(beam_size)
    words = words[log_prob > -float("inf")]  # [C, L]
  else:
    words = translate(model, x, name, num_written, seed, decoding=decoding)
  words = tf.ensure_shape(tf.raw_ops.UniqueV2(x=words, axis=[0]).y, [None, words.shape[-1]])
  of_rank = tf.random.experimental.stateless_fold_in(seed, 2)
  z = inference.samples_of_posterior(model, x, num_latents, of_rank)[:, 0]
  nats = log_predictive(model, name, words, z)
  best = tf.argsort(nats, direction="DESCENDING", stable=True)[:num]
  return tf.gather(words, best), tf.gather(nats, best)


def log_predictive(model: MultimodalVAE, name: str, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
  """log of the mean of p(x_m | z) over samples of z, the same for all x_m.

  Its exponential is an unbiased estimate of E_q[p(x_m | z)] for z drawn from q independently of x.

  Args:
    model: `MultimodalVAE`.
    name: of a modality.
    x: [C, *shape], observations of it.
    z: [K, D].

  Returns:
    nats [C]
  """
  def of_one(observation):  # one by one, as K words' logits are large already
    log_px = model.likelihood(name, z[:, tf.newaxis]).log_prob(observation[tf.newaxis])  # [K, 1]
    return tf.reduce_logsumexp(log_px) - tf.math.log(tf.cast(tf.shape(z)[0], log_px.dtype))

  return tf.map_fn(of_one, x, fn_output_signature=z.dtype)


def interpolate(model: MultimodalVAE, first: Mapping[str, tf.Tensor], last: Mapping[str, tf.Tensor],
                num: int) -> tf.Tensor:
  """Points on the straight line between the means of two posteriors.

  Means and not samples, so that the line depends on nothing but its ends.

  Args:
    model: a `MultimodalVAE`.
    first: {modality: [1, *shape]}, one example of any modalities.
    last: likewise, of the same modalities or others.
    num: how many points, both ends among them.

  Returns:
    z: [num, D]

  Raises:
    ValueError: if num is below 2.
  """
  if num < 2:
    raise ValueError(f"a line has at least its 2 ends, got {num} points")
  start, end = (model.posterior(x).mean() for x in (first, last))  # [1, D]
  share = tf.linspace(0., 1., num)[:, tf.newaxis]
  return (1. - share) * start + share * end
