"""A trained model as a SavedModel with named signatures, for TensorFlow Serving."""

import os
import shutil
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_mmvae import inference
from tf_mmvae.model import MultimodalVAE


def export(model: MultimodalVAE, directory: str | os.PathLike,
           tokenizers: Mapping[str, Any] | None = None) -> None:
  """Writes a model as a SavedModel with the signatures of `Exporter`.

  Args:
    model: of any weights.
    directory: of the SavedModel; one that is there is replaced, anything else is left alone.
    tokenizers: {modality: `Tokenizer`} of those in words.

  Raises:
    ValueError: a tokenizer of a modality that the model does not have, or a directory that holds
      something else than a SavedModel.
  """
  directory = os.path.abspath(os.path.expanduser(directory))
  if os.path.isfile(directory) or os.path.isdir(directory) and os.listdir(directory) and not (
      os.path.isfile(os.path.join(directory, "saved_model.pb"))):
    raise ValueError(f"{directory} is no SavedModel that another could replace: give a new "
                     "directory, or that of an export")
  exporter = Exporter(tokenizers)
  exporter.check(model)
  exporter(model, directory)


class Exporter:
  """Writes a model's signatures; words go in and out as strings, tokenised in the graph.

  With modalities `image` and `sentence`, z float32 [B, D], seeds int64 [2]:

    encode              image, sentence -> mean and stddev [B, D] of q(z | x_m), as image_mean, ...
    decode              z -> image, sentence
    generate            num int32 [] >= 0, seed -> z, image, sentence of num samples of the prior
    image_to_sentence   image, seed -> sentence, from one sample of the image's expert; likewise
                        `sentence_to_image` and so on for every pair of modalities
    translate           image, image_present bool [B], sentence, sentence_present, seed -> z, image,
                        sentence, from one sample of the posterior of what is present in each
                        example; the prior where nothing is. What is absent may hold anything

  Decoded observations are the most probable ones given z, greedy for sentences.
  """

  def __init__(self, tokenizers: Mapping[str, Any] | None = None):
    """`tokenizers`: {modality: object with `encode`, `decode` and `tables`} of those in words."""
    self.tokenizers = tokenizers or {}

  def check(self, model: MultimodalVAE) -> None:
    """Raises ValueError if the tokenizers are of modalities that the model does not have."""
    model.check_names(self.tokenizers, "Exporter's tokenizers")

  def __call__(self, model: MultimodalVAE, directory: str | os.PathLike) -> None:
    """Writes the SavedModel to a directory, whole: if saving fails, the old one stays.

    Only raw variables, tables and functions are saved: the C++ loader takes no Keras objects.
    """
    directory = os.path.abspath(directory)
    root = tf.Module()
    root.variables_ = [v.value for v in model.variables]
    root.tables = [table for t in self.tokenizers.values() for table in t.tables]
    signatures = self._signatures(model)
    root.functions = dict(signatures)
    unfinished, old = f"{directory}.unfinished", f"{directory}.old"
    if os.path.isdir(old) and not os.path.isdir(directory):
      os.rename(old, directory)  # an export was cut off between its renames
    for path in (unfinished, old):
      shutil.rmtree(path, ignore_errors=True)
    tf.saved_model.save(root, unfinished, signatures=signatures)
    if os.path.isdir(directory):
      os.rename(directory, old)
    os.rename(unfinished, directory)
    shutil.rmtree(old, ignore_errors=True)

  def _signatures(self, model):
    specs = {name: self._spec(m) for name, m in model.modalities.items()}
    seed = tf.TensorSpec([2], tf.int64, "seed")
    z = tf.TensorSpec([None, model.latent_dim], tf.float32, "z")

    def encode(**x):
      experts = {name: model.posterior({name: self._read(name, value)})
                 for name, value in x.items()}
      return {f"{name}_{what}": getattr(expert, what)()
              for name, expert in experts.items() for what in ("mean", "stddev")}

    def decode(z):
      return {name: self._write(name, value)
              for name, value in inference.decode(model, z).items()}

    def generate(num, seed):
      z = inference.sample_prior(model, num, seed)
      return {"z": z, **decode(z)}

    def translate(seed, **given):
      x = {name: self._read(name, given[name]) for name in specs}
      mask = {name: given[f"{name}_present"] for name in specs}
      z = inference.sample_posterior(model, x, seed, mask)
      return {"z": z, **decode(z)}

    present = {f"{name}_present": tf.TensorSpec([None], tf.bool, f"{name}_present")
               for name in specs}
    functions = {"encode": (encode, specs), "decode": (decode, {"z": z}),
                 "generate": (generate, {"num": tf.TensorSpec([], tf.int32, "num"), "seed": seed})}
    if len(model.modalities) > 1:
      functions["translate"] = translate, {**specs, **present, "seed": seed}
    for source in model.modalities:
      for target in model.modalities:
        if source != target:
          functions[f"{source}_to_{target}"] = (
              self._from_one(model, source, target), {source: specs[source], "seed": seed})
    return {name: tf.function(f).get_concrete_function(**arguments)
            for name, (f, arguments) in functions.items()}

  def _from_one(self, model, source, target):
    def translate(seed, **x):
      z = inference.sample_posterior(model, {source: self._read(source, x[source])}, seed)
      return {target: self._write(target, inference.decode(model, z, [target])[target])}

    return translate

  def _spec(self, modality):
    if modality.name in self.tokenizers:
      return tf.TensorSpec([None], tf.string, modality.name)
    return modality.spec

  def _read(self, name, value):
    return self.tokenizers[name].encode(value) if name in self.tokenizers else value

  def _write(self, name, value):
    return self.tokenizers[name].decode(value) if name in self.tokenizers else value
