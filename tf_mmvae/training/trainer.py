"""One compiled training step and one compiled held-out step, over all replicas of a strategy."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator

import keras
import tensorflow as tf

from tf_mmvae import joint_posteriors, objectives
from tf_mmvae.batch import Batch
from tf_mmvae.modality import couples_examples, is_synchronized
from tf_mmvae.model import MultimodalVAE

_HELD_OUT = ("objective", "bound")
_FIGURES = (*_HELD_OUT, "log_q_over_p", "effective_sample_size", "captured_weight",
            "screening_error")


class Trainer:
  """Steps of a model under an estimator; what they compute is a function of (seed, step) alone."""

  def __init__(self, model: MultimodalVAE, estimator: Callable,
               optimizer: keras.optimizers.Optimizer, strategy: tf.distribute.Strategy,
               num_samples: int, seed: int, clip_norm: float | None = None,
               examples_per_chunk: int | None = None, jit_compile: bool = False):
    """Builds the optimizer's slots.

    Args:
      model: `MultimodalVAE`, created in the strategy's scope.
      estimator: see `objectives`.
      optimizer: Keras optimizer, created in the strategy's scope.
      strategy: `tf.distribute.Strategy`.
      num_samples: K, samples from each component.
      seed: of the noise.
      clip_norm: largest global norm of the gradient after aggregation; None does not clip.
      examples_per_chunk: so many examples of a replica's batch are in memory at once, which changes
        its sums by rounding alone; None takes all.
      jit_compile: whether XLA compiles the objective and its gradient, which changes them by
        rounding alone.

    Raises:
      ValueError: where a network computes with statistics of its batch, for chunks, and for several
        replicas unless it does so over all of them and in float32; for jit_compile with several
        replicas on processors.
    """
    if jit_compile and strategy.num_replicas_in_sync > 1 and any(
        "CPU" in device for device in strategy.extended.worker_devices):
      raise ValueError(
          f"jit_compile: XLA cannot compile for {strategy.num_replicas_in_sync} replicas on "
          "processors: take one, or leave jit_compile False")
    self.model, self.optimizer, self.strategy = model, optimizer, strategy
    self._estimator, self._num_samples, self._seed = estimator, num_samples, seed
    self._clip_norm, self._examples_per_chunk = clip_norm, examples_per_chunk
    self._jit_compile = jit_compile
    if examples_per_chunk is not None:
      self._refuse_coupled(model.modalities, "examples_per_chunk would cut in pieces: take such "
                           "layers out, or leave examples_per_chunk None")
    if strategy.num_replicas_in_sync > 1:
      self._refuse_unsynchronized()
    with strategy.scope():
      optimizer.build(model.trainable_variables)

  def check_masked(self, names: Collection[str]) -> None:
    """Raises ValueError where masks of these modalities would not hide what is absent.

    Statistics of a batch would count absent observations, and in decoders the z drawn for them. And
    where the model does not have these modalities.
    """
    advice = ("would count absent observations: take layers such as BatchNormalization out, or "
              "train on complete examples alone")
    self.model.check_names(names, "mask")
    if names:
      self._refuse_coupled(names, advice, networks=["encoder"])
      self._refuse_coupled(self.model.modalities, advice, networks=["decoder"])

  @tf.function
  def step(self, x: dict[str, tf.Tensor], mask: dict[str, tf.Tensor],
           step: tf.Tensor) -> dict[str, tf.Tensor]:
    """One update.

    Args:
      x: a global batch as the strategy distributes it.
      mask: {modality: bool [B]}, which examples have it; {} for a complete batch.
      step: int64 [].

    Returns:
      {name: float32 []}, means in nats over the examples of the global batch that have anything;
      `log_p_<modality>` over those that have it. 0 where there are none. `finite` is 0 where the
      objective or its gradient was not finite, and the step then changed nothing but the count of
      steps.
    """
    figures = self.strategy.run(self._replica_step, args=(x, mask, step))
    totals = {name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, figure, axis=None)
              for name, figure in figures.items()}
    return {name: total / tf.maximum(count, 1.)
            for name, (total, count) in ((n, tf.unstack(t)) for n, t in totals.items())}

  @tf.function
  def evaluate_batch(self, x: dict[str, tf.Tensor], mask: dict[str, tf.Tensor],
                     batch: tf.Tensor) -> dict[str, tf.Tensor]:
    """Sums over the examples of a held-out batch that have anything. batch int64 [].

    Returns:
      {"objective": (sum, count), "bound": likewise}, each float32 [2]; the noise is the batch's own
    """
    def compute(x, mask, noise):
      figures = self._figures(self._estimator(self.model, x, noise, mask), x, mask)
      return {name: figures[name] for name in _HELD_OUT}

    noise = self._noise(x, [self._seed, -1 - batch], _batch_size(x))
    return self._over_chunks(compute, dict.fromkeys(_HELD_OUT, tf.zeros([2])), x, mask, noise)

  def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
    """{"objective", "bound"}: means in nats over a finite data set of `Batch`.

    The noise is fixed. NaN where no example has anything.
    """
    sums = None
    for i, (x, _, mask) in enumerate(batches):
      new = self.evaluate_batch(x, mask, tf.constant(i, tf.int64))
      sums = new if sums is None else tf.nest.map_structure(tf.add, sums, new)
    return {name: float(total / count) for name, (total, count) in sums.items()}

  @contextlib.contextmanager
  def averaged_weights(self) -> Iterator[None]:
    """Inside, the model's weights are their moving averages, if the optimizer keeps any.

    Keras' optimizers do with `use_ema=True`.
    """
    variables = self.model.trainable_variables if self.optimizer.use_ema else []
    current = [v.numpy() for v in variables]
    with self.strategy.scope():
      self.optimizer.finalize_variable_values(variables)
    try:
      yield
    finally:
      for variable, value in zip(variables, current, strict=True):
        variable.assign(value)

  def _replica_step(self, x, mask, step):
    """{name: float32 [2]}, this replica's shares of the sums and counts that make a mean."""
    context = tf.distribute.get_replica_context()
    num_replicas = context.num_replicas_in_sync
    num_examples = _batch_size(x)  # of this replica
    first = num_examples * context.replica_id_in_sync_group
    noise = self._noise(x, [self._seed, step], num_examples * num_replicas)
    num_present = tf.cast(num_examples * num_replicas, tf.float32)
    if mask:
      here = tf.reduce_sum(tf.cast(self.model.any_present(x, mask), tf.float32))
      num_present = tf.maximum(context.all_reduce(tf.distribute.ReduceOp.SUM, here), 1.)
    variables = self.model.trainable_variables
    before = [tf.identity(v.value) for v in self._state()]  # the forward pass changes statistics

    def compute(x, mask, noise):
      with tf.GradientTape() as tape:
        estimate = self._estimator(self.model, x, noise, mask, training=True)
        loss = -tf.reduce_sum(estimate.objective) / num_present
      # A modality that is missing for the batch has no gradient; embeddings have sparse ones.
      gradients = [tf.zeros_like(v.value) if g is None else tf.convert_to_tensor(g)
                   for g, v in zip(tape.gradient(loss, variables), variables, strict=True)]
      return gradients, self._figures(estimate, x, mask)

    names = [*_FIGURES, *(f"log_p_{m.name}" for m in self.model.present(x))]
    zeros = [tf.zeros_like(v.value) for v in variables], dict.fromkeys(names, tf.zeros([2]))
    noise = noise[first:first + num_examples]
    gradients, figures = self._over_chunks(compute, zeros, x, mask, noise)
    objective, gradients = context.all_reduce(
        tf.distribute.ReduceOp.SUM, [figures["objective"][0], gradients])
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(norm) & tf.math.is_finite(objective)
    if self._clip_norm is not None:
      gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
    # Keras sums the gradients over the replicas once more.
    self.optimizer.apply([g / num_replicas for g in gradients], variables)
    context.merge_call(self._undo_unless, args=(finite, before))
    return {**figures, "gradient_norm": tf.stack([norm, 1.]),
            "finite": tf.stack([tf.cast(finite, tf.float32), 1.])}

  def _state(self):
    return self.model.variables + self.optimizer.variables

  def _undo_unless(self, strategy, finite, before):
    for variable, old in zip(self._state(), before, strict=True):
      strategy.extended.update(variable.value, _keep_if, args=(finite, old))

  def _figures(self, estimate, x, mask):
    """{name: float32 [2]}, the sum over the examples that count, and their number."""
    particles, log_pi = estimate.particles, estimate.log_pi
    log_w = objectives.log_weights(particles)
    log_q_over_p = tf.reduce_mean(particles.log_qz - particles.log_pz, objectives.SAMPLES)
    values = {
        "objective": estimate.objective,
        "bound": self._estimator.bound(log_w, log_pi),
        "log_q_over_p": _mean_of_present(log_q_over_p, log_pi),
        "effective_sample_size": _mean_of_present(objectives.effective_sample_size(log_w), log_pi),
        "captured_weight": estimate.captured_weight * tf.ones_like(estimate.objective),
        "screening_error": estimate.screening_error * tf.ones_like(estimate.objective)}
    present = self.model.any_present(x, mask)
    figures = {name: _sum_and_count(value, present) for name, value in values.items()}
    for name, log_px in particles.log_px.items():
      value = _mean_of_present(tf.reduce_mean(log_px, objectives.SAMPLES), log_pi)
      figures[f"log_p_{name}"] = _sum_and_count(value, Batch(x, mask=mask).present(name))
    return figures

  def _noise(self, x, seed, num_examples):
    """Noise [B, S, K, D] of a global batch, example by example: replicas and chunks cut it.

    What an estimator takes beside the noise of the components is drawn apart: z stays the same.
    """
    first, second = (tf.cast(s, tf.int64) for s in seed)

    def draw(num_rows, first):
      shape = [num_examples, num_rows, self._num_samples, self.model.latent_dim]
      return joint_posteriors.uniform_noise(shape, tf.stack([first, second]))

    num_components = self.model.num_components(x)
    others = self._estimator.num_strata(self.model, x) - num_components
    noise = draw(num_components, first)
    return tf.concat([noise, draw(others, first + 2**32)], 1) if others else noise

  def _over_chunks(self, compute, zeros, x, mask, noise):
    """The sum of `compute(x, mask, noise [S, K, C, D])` over chunks of C examples of a replica.

    noise: [B, S, K, D]; zeros: what the sum begins with.
    """
    size, num_examples = self._examples_per_chunk, _batch_size(x)
    if self._jit_compile:
      compute = tf.function(compute, jit_compile=True)

    def chunk(x, mask, noise):
      return compute(x, mask, tf.transpose(noise, [1, 2, 0, 3]))

    def add(first, sums):
      part = tf.nest.map_structure(lambda value: value[first:first + size], (x, mask, noise))
      return first + size, tf.nest.map_structure(tf.add, sums, chunk(*part))

    if size is None:
      return chunk(x, mask, noise)
    return tf.while_loop(lambda first, _: first < num_examples, add, (tf.constant(0), zeros),
                         parallel_iterations=1)[1]

  def _refuse_coupled(self, names, advice, networks=("encoder", "decoder")):
    for name in names:
      for network in networks:
        if couples_examples(getattr(self.model.modalities[name], network)):
          raise ValueError(f"modality '{name}': its {network} computes with statistics of its "
                           f"batch, which {advice}")

  def _refuse_unsynchronized(self):
    for name, modality in self.model.modalities.items():
      for network in ("encoder", "decoder"):
        if not is_synchronized(getattr(modality, network)):
          raise ValueError(
              f"modality '{name}': its {network} computes with statistics of a device's share of "
              "the batch: give its BatchNormalization synchronized=True, or train on one device")
        # Replicas are traced in turns, which change at such a layer: `computing_in` cannot.
        if modality.train_dtype and couples_examples(getattr(modality, network)):
          raise ValueError(
              f"modality '{name}': its {network} computes with statistics of its batch, and over "
              "several devices cannot do so in few bits: give train_dtype None, or train on one "
              "device")


def _sum_and_count(values, present):
  """Of the values [B] that are present [B]: float32 [2]."""
  values = tf.where(present, values, 0.)
  return tf.stack([tf.reduce_sum(values), tf.reduce_sum(tf.cast(present, values.dtype))])


def _mean_of_present(values, log_pi):
  """Mean over the strata that are present. [S, B], [S, B] -> [B]."""
  present = log_pi > -float("inf")
  num_present = tf.reduce_sum(tf.cast(present, values.dtype), objectives.STRATA)
  return tf.reduce_sum(tf.where(present, values, 0.), objectives.STRATA) / num_present


def _batch_size(x):
  return tf.shape(next(iter(x.values())))[0]


def _keep_if(variable, finite, old):
  variable.assign(tf.where(finite, variable, old))
