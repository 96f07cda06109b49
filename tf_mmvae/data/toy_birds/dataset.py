"""Toy birds: an embedded data set of pictures of birds and captions, drawn by this package."""

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from tf_mmvae.data.examples import Examples, images_with_captions
from tf_mmvae.data.quiet import quiet
from tf_mmvae.data.tokenizer import Tokenizer
from tf_mmvae.data.toy_birds import attributes, drawing
from tf_mmvae.data.toy_birds import sentences as grammar

CAPTIONS_PER_IMAGE = 5

_SPLITS = ("train", "validation", "test")
_DESCRIPTION = """
Synthetic pictures of birds, 64 x 64, with five English captions each. The picture and every caption
tell the colours of body, wings and belly, the shape and length of the bill, and the size. Pose,
position and scene are in the picture only; the choice of words and their order is in the captions
only. So what the two modalities share, and what is private to each, is known exactly.
Attributes are uniform and independent. A bird depends on (seed, split, index) alone, so a larger
data set begins with the smaller one.
"""


@dataclasses.dataclass(kw_only=True)
class ToyBirdsConfig(tfds.core.BuilderConfig):
  """How many birds, and which; all of it is in the name and so in the path on disk."""

  name: str = dataclasses.field(init=False)
  num_train: int = 10000
  num_validation: int = 500
  num_test: int = 2000
  seed: int = 0

  def __post_init__(self):
    sizes = {split: getattr(self, f"num_{split}") for split in _SPLITS}
    for split, size in sizes.items():
      if size < 1:
        raise ValueError(f"num_{split} must be at least 1, got {size}")
    if self.seed < 0:
      raise ValueError(f"seed must be at least 0, got {self.seed}")
    self.name = "_".join(f"{split}{size}" for split, size in sizes.items()) + f"_seed{self.seed}"


class ToyBirds(tfds.core.GeneratorBasedBuilder):
  """Pictures of toy birds with captions and the attributes they were drawn from."""

  # Must change when the birds do: TFDS keeps what is on disk under the old version.
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First birds."}
  BUILDER_CONFIGS = [ToyBirdsConfig(description="The default sizes.")]

  def _info(self):
    labels = {
      name: tfds.features.ClassLabel(names=list(values))
      for name, values in attributes.ATTRIBUTES.items()
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(
            shape=(drawing.SIZE, drawing.SIZE, 3), encoding_format="png"
          ),
          "captions": tfds.features.Sequence(tfds.features.Text(), length=CAPTIONS_PER_IMAGE),
          **labels,
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing to download
    return {split: self._generate_examples(split) for split in _SPLITS}

  def _generate_examples(self, split):
    for index in range(getattr(self.builder_config, f"num_{split}")):
      yield index, example(self.builder_config.seed, split, index)


def example(seed: int, split: str, index: int) -> dict[str, Any]:
  """One bird, a function of its arguments alone.

  Returns:
    {"image": uint8 [64, 64, 3], "captions": list of CAPTIONS_PER_IMAGE strings,
    each attribute: int}.
  """
  rng = np.random.default_rng(np.random.SeedSequence((seed, _SPLITS.index(split), index)))
  bird = attributes.draw_by_lot(rng)
  captions = grammar.write_captions(bird, CAPTIONS_PER_IMAGE, rng)
  return {"image": drawing.draw(bird), "captions": captions, **bird}


def examples(split: str, tokenizer: Tokenizer, data_dir: str | os.PathLike | None = None,
             num_train: int = 10000, num_validation: int = 500, num_test: int = 2000,
             seed: int = 0) -> Examples:
  """Pairs of a toy bird and one of its captions; prepares the data set where it is missing.

  Args:
    split: a TFDS split such as "train" or "test[:100]".
    tokenizer: a `Tokenizer`; L is its length.
    data_dir: where TFDS keeps its data sets; None is TFDS's own default.
    num_train: pictures in the split "train".
    num_validation: pictures in the split "validation".
    num_test: pictures in the split "test".
    seed: which birds; splits never share a random stream.

  Returns:
    `Examples` with x = {"image": float32 [B, 64, 64, 3] in [0, 1], "sentence": int32 [B, L]} and
    y = {each attribute: int32 [B], ...}.

  Raises:
    ValueError: a split that does not exist or is empty.
  """
  config = ToyBirdsConfig(
    num_train=num_train, num_validation=num_validation, num_test=num_test, seed=seed
  )
  birds = _read(config, split, data_dir)
  labels = {name: birds[name] for name in attributes.ATTRIBUTES}
  written = _decoded(birds["captions"])
  return images_with_captions("toy_birds", birds["image"], written, labels, tokenizer)


def captions(data_dir: str | os.PathLike | None = None, num_train: int = 10000,
             num_validation: int = 500, num_test: int = 2000, seed: int = 0) -> list[str]:
  """Every caption of the training pictures, a list of strings; arguments as in `toy_birds`."""
  config = ToyBirdsConfig(
    num_train=num_train, num_validation=num_validation, num_test=num_test, seed=seed
  )
  birds = _read(config, "train", data_dir, fields=["captions"])
  return [caption for of_image in _decoded(birds["captions"]) for caption in of_image]


def prepare(config: ToyBirdsConfig, data_dir: str | os.PathLike | None = None) -> ToyBirds:
  """The builder of this config, its data set complete on disk."""
  # TFDS refuses a copy of a config that it knows, and warns of one that it does not.
  config = ToyBirds.builder_configs.setdefault(config.name, config)
  builder = ToyBirds(config=config, data_dir=data_dir)
  if not builder.data_path.exists():
    logging.info("Drawing toy birds into %s", builder.data_path)
  with quiet():
    builder.download_and_prepare()
  return builder


def _read(config, split, data_dir, fields=None):
  """{field: array [N, ...]} of a split, all fields unless named."""
  builder = prepare(config, data_dir)
  decoders = fields and tfds.decode.PartialDecoding(dict.fromkeys(fields, True))
  try:
    dataset = builder.as_dataset(split=split, batch_size=256, decoders=decoders)
  except (ValueError, KeyError, AssertionError) as error:
    raise ValueError(
      f"data set 'toy_birds': expected a split such as 'train', 'validation' or 'test[:100]', "
      f"got '{split}'"
    ) from error
  batches = list(tfds.as_numpy(dataset))
  return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _decoded(written):
  return [[caption.decode() for caption in of_image] for of_image in written]
