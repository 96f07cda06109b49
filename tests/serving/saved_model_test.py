"""What is exported, called in the C++ runtime, against the model in Python."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.serving import c_loader
from tf_mmvae import distributions, inference, joint_posteriors
from tf_mmvae.data.tokenizer import Tokenizer
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior
from tf_mmvae.nets import images, sentences
from tf_mmvae.serving import saved_model

LATENT_DIM, LENGTH = 4, 6
WORDS = ["a", "red", "blue", "bird", "with", "long", "wings"]
SENTENCES = [b"a red bird", b"A zebra, with LONG wings and more words than fit", b""]
SEED = np.array([7, 2**40 + 3])


def image():
  return Modality("image", (8, 8, 3), images.ConvEncoder(LATENT_DIM, (4, 8)),
                  images.ConvDecoder((8, 8, 3), (8, 4)), distributions.laplace_likelihood)


def sentence():
  size = len(WORDS) + 3
  return Modality(
      "sentence", (LENGTH,), sentences.RecurrentEncoder(LATENT_DIM, size, 5, 6),
      sentences.RecurrentDecoder(size, LENGTH, 5, 6), distributions.sentence_likelihood,
      dtype="int32")


def sound():
  return Modality("sound", (5,), keras.layers.Dense(2 * LATENT_DIM), keras.layers.Dense(5),
                  distributions.normal_likelihood)


def model_of(*modalities):
  """A model of random weights, large enough for different z to give different sentences."""
  model = MultimodalVAE([m() for m in modalities], Prior(LATENT_DIM))
  rng = np.random.default_rng(0)
  for variable in model.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))
  return model


@pytest.fixture(scope="module")
def pair():
  return model_of(image, sentence)


@pytest.fixture(scope="module")
def tokenizer():
  return Tokenizer(WORDS, LENGTH)


@pytest.fixture(scope="module")
def export(pair, tokenizer, tmp_path_factory):
  directory = str(tmp_path_factory.mktemp("run") / "export" / "1")
  saved_model.Exporter({"sentence": tokenizer})(pair, directory)
  return directory


@pytest.fixture(scope="module")
def calls():
  """{name: call} of the export, for batches of one and three."""
  rng = np.random.default_rng(1)
  made = {}
  for num in (1, 3):
    pictures = rng.uniform(size=[num, 8, 8, 3]).astype(np.float32)
    said = np.array(SENTENCES[:num], object)
    z = rng.laplace(size=[num, LATENT_DIM]).astype(np.float32)
    made |= {
        f"encode {num}": ("encode", {"image": pictures, "sentence": said}),
        f"decode {num}": ("decode", {"z": z}),
        f"generate {num}": ("generate", {"num": np.int32(num), "seed": SEED}),
        f"image_to_sentence {num}": ("image_to_sentence", {"image": pictures, "seed": SEED}),
        f"sentence_to_image {num}": ("sentence_to_image", {"sentence": said, "seed": SEED})}
    gaps = {"image_present": np.arange(num) != 2, "sentence_present": np.arange(num) != 1}
    held = np.where(gaps["image_present"][:, None, None, None], pictures, np.nan)
    made[f"translate {num}"] = (
        "translate", {"image": held, "sentence": said, **gaps, "seed": SEED})
  made |= {
      "translate nothing": ("translate", {
          **made["translate 3"][1], "image_present": np.zeros(3, bool),
          "sentence_present": np.zeros(3, bool)}),
      "generate 0": ("generate", {"num": np.int32(0), "seed": SEED}),
      "generate -1": ("generate", {"num": np.int32(-1), "seed": SEED}),
      "generate again": made["generate 3"],
      "generate another": ("generate", {"num": np.int32(3), "seed": SEED + 1}),
      "image_to_sentence again": made["image_to_sentence 3"],
      "sentence_to_image another": (
          "sentence_to_image", {**made["sentence_to_image 3"][1], "seed": SEED + 1}),
      "encode spelt": ("encode", {"image": made["encode 3"][1]["image"], "sentence": np.array(
          [b"A RED  bird", b"a <unknown> <unknown> with long", b" \t"], object)})}
  return made


@pytest.fixture(scope="module")
def served(export, calls):
  """{name: result} of the calls, all in one process of TensorFlow's C++ runtime."""
  return dict(zip(calls, c_loader.run(export, list(calls.values())), strict=True))


def expected(model, tokenizer, name, inputs):
  """The outputs of a signature by the model in Python."""
  x = {m: tokenizer.encode(v) if m == "sentence" else tf.constant(v)
       for m, v in inputs.items() if m in model.modalities}
  if name == "encode":
    experts = {m: model.posterior({m: v}) for m, v in x.items()}
    return {f"{m}_{what}": getattr(q, what)() for m, q in experts.items()
            for what in ("mean", "stddev")}
  seen = inference.decode(model, latents(model, name, inputs, x))
  seen["sentence"] = tokenizer.decode(seen["sentence"])
  if name in ("generate", "translate"):
    return {**seen, "z": latents(model, name, inputs, x)}
  return seen if name == "decode" else {t: seen[t] for t in seen if t not in x}


def latents(model, name, inputs, x):
  if name == "decode":
    return tf.constant(inputs["z"])
  if name == "generate":
    return inference.sample_prior(model, inputs["num"], inputs["seed"])
  if name == "translate":
    num = len(inputs["image"])
    return tf.concat([latent_of(model, inputs, x, b) for b in range(num)], axis=0)
  return inference.sample_posterior(model, x, inputs["seed"])


def latent_of(model, inputs, x, b):
  """z [1, D] of one example of `translate`, from what it has alone."""
  present = [n for n in x if inputs[f"{n}_present"][b]]
  noise = joint_posteriors.uniform_noise([1, 1, len(inputs["image"]), LATENT_DIM], inputs["seed"])
  noise = noise[:, :, b:b + 1]
  if not present:
    return model.prior.distribution().distribution.quantile(noise)[0, 0]
  posterior = model.posterior({n: x[n][b:b + 1] for n in present})
  return joint_posteriors.independent_sample(posterior, noise)[0][0, 0]


def assert_same(result, expected):
  if isinstance(result, c_loader.CError):
    raise result
  assert set(result) == set(expected)
  for name, value in expected.items():
    value = np.asarray(value)
    assert result[name].shape == value.shape, name
    if value.dtype.kind == "f":
      np.testing.assert_allclose(result[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    else:
      assert result[name].tolist() == value.tolist(), name


NAMES = ["encode", "decode", "generate", "image_to_sentence", "sentence_to_image", "translate"]


@pytest.mark.parametrize(
    "call", [f"{name} {num}" for name in NAMES for num in (1, 3)] + ["translate nothing"])
def test_signature_equals_the_model(served, calls, pair, tokenizer, call):
  assert_same(served[call], expected(pair, tokenizer, *calls[call]))


def test_translations_of_gaps_are_those_of_what_is_there(served):
  """With the same seed, the second example is only a picture and the third only words."""
  both = served["translate 3"]
  assert both["sentence"][1] == served["image_to_sentence 3"]["sentence"][1]
  np.testing.assert_allclose(
      both["image"][2], served["sentence_to_image 3"]["image"][2], rtol=1e-4, atol=1e-5)


def test_sentences_differ(served):
  """The numbers compared above are not those of a model that ignores its input."""
  assert len(set(served["decode 3"]["sentence"])) > 1
  assert np.ptp(served["sentence_to_image 3"]["image"], axis=0).max() > 0.1
  assert np.ptp(served["encode 3"]["sentence_mean"], axis=0).max() > 0.1


def test_generate_nothing(served):
  shapes = {name: value.shape for name, value in served["generate 0"].items()}
  assert shapes == {"z": (0, LATENT_DIM), "image": (0, 8, 8, 3), "sentence": (0,)}


def test_generate_refuses_a_negative_number(served):
  assert isinstance(served["generate -1"], c_loader.CError)
  assert "-1" in str(served["generate -1"])


def test_seed_decides(served):
  assert_same(served["generate again"], served["generate 3"])
  assert_same(served["image_to_sentence again"], served["image_to_sentence 3"])
  assert np.all(served["generate another"]["z"] != served["generate 3"]["z"])
  assert np.any(
      served["sentence_to_image another"]["image"] != served["sentence_to_image 3"]["image"])


def test_examples_of_a_batch_have_noise_of_their_own(served):
  z = served["generate 3"]["z"]
  assert len(np.unique(z)) == z.size


def test_words_are_read_as_in_training(served):
  """Capitals, unknown words, words past the end, and the empty sentence."""
  spelt, plain = served["encode spelt"], served["encode 3"]
  np.testing.assert_allclose(spelt["sentence_mean"], plain["sentence_mean"], rtol=1e-6)
  np.testing.assert_allclose(spelt["image_mean"], plain["image_mean"], rtol=1e-6)


def test_signatures_in_the_file(export):
  shapes = {name: ({k: (v.dtype, [d.size for d in v.tensor_shape.dim])
                    for k, v in signature.inputs.items()}, set(signature.outputs))
            for name, signature in c_loader.signatures(export).items()
            if not name.startswith("__")}
  words, seed = (tf.string.as_datatype_enum, [-1]), (tf.int64.as_datatype_enum, [2])
  pictures = (tf.float32.as_datatype_enum, [-1, 8, 8, 3])
  present = tf.bool.as_datatype_enum, [-1]
  assert shapes == {
      "encode": ({"image": pictures, "sentence": words},
                 {"image_mean", "image_stddev", "sentence_mean", "sentence_stddev"}),
      "decode": ({"z": (tf.float32.as_datatype_enum, [-1, LATENT_DIM])}, {"image", "sentence"}),
      "generate": ({"num": (tf.int32.as_datatype_enum, []), "seed": seed},
                   {"z", "image", "sentence"}),
      "image_to_sentence": ({"image": pictures, "seed": seed}, {"sentence"}),
      "sentence_to_image": ({"sentence": words, "seed": seed}, {"image"}),
      "translate": ({"image": pictures, "image_present": present, "sentence": words,
                     "sentence_present": present, "seed": seed}, {"z", "image", "sentence"})}


def test_loads_in_python(export, calls, served):
  loaded = tf.saved_model.load(export)
  for call in ("encode 3", "generate 3", "sentence_to_image 3"):
    name, inputs = calls[call]
    arguments = {
        k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in inputs.items()}
    result = {k: v.numpy() for k, v in loaded.signatures[name](**arguments).items()}
    assert_same(result, served[call])


def test_command_line_shows_the_signatures(export):
  shown = subprocess.run(
      [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show", "--dir", export,
       "--tag_set", "serve"], capture_output=True, text=True, check=True, timeout=120).stdout
  for name in NAMES:
    assert f'"{name}"' in shown


def test_three_modalities_have_every_pair_and_ids_without_a_tokenizer(tmp_path):
  model = model_of(image, sentence, sound)
  saved_model.Exporter()(model, tmp_path / "3")
  pairs = {f"{a}_to_{b}" for a in model.modalities for b in model.modalities if a != b}
  assert len(pairs) == 6
  names = {n for n in c_loader.signatures(tmp_path / "3") if not n.startswith("__")}
  assert names == {"encode", "decode", "generate", "translate"} | pairs

  words = np.array([[3, 5, 1, 0, 0, 0]], np.int32)
  x = {"sound": np.ones([1, 5], np.float32)}
  z = inference.sample_posterior(model, {"sound": tf.ones([1, 5])}, SEED)
  to_words, from_words = c_loader.run(tmp_path / "3", [
      ("sound_to_sentence", {**x, "seed": SEED}),
      ("sentence_to_sound", {"sentence": words, "seed": SEED})])
  assert_same(to_words, inference.decode(model, z, ["sentence"]))
  z = inference.sample_posterior(model, {"sentence": tf.constant(words)}, SEED)
  assert_same(from_words, inference.decode(model, z, ["sound"]))


def test_one_modality_has_no_translations(tmp_path):
  saved_model.Exporter()(model_of(sound), tmp_path / "1")
  names = {n for n in c_loader.signatures(tmp_path / "1") if not n.startswith("__")}
  assert names == {"encode", "decode", "generate"}


@pytest.fixture
def small():
  return model_of(sound)


def content(directory):
  return {path.relative_to(directory): path.read_bytes()
          for path in sorted(directory.rglob("*")) if path.is_file()}


def test_a_second_export_replaces_the_first(small, tmp_path):
  directory = tmp_path / "export" / "1"
  saved_model.Exporter()(small, directory)
  first = content(directory)
  small.modalities["sound"].decoder.bias.assign([9.] * 5)
  saved_model.Exporter()(small, f"{directory}{os.sep}")  # one directory, however it is spelt
  assert os.listdir(tmp_path / "export") == ["1"]
  assert content(directory).keys() == first.keys()
  z = tf.zeros([1, LATENT_DIM])
  (seen,) = tf.saved_model.load(directory).signatures["decode"](z=z).values()
  np.testing.assert_allclose(seen, [[9.] * 5], rtol=1e-6)


def test_a_failed_export_leaves_the_old_one(small, tmp_path, monkeypatch):
  saved_model.Exporter()(small, tmp_path / "1")
  before = content(tmp_path / "1")

  def fail(root, path, **kwargs):
    os.makedirs(os.path.join(path, "variables"))
    raise OSError("no space left")

  with monkeypatch.context() as patch:
    patch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="no space left"):
      saved_model.Exporter()(small, tmp_path / "1")
  assert content(tmp_path / "1") == before
  saved_model.Exporter()(small, tmp_path / "1")
  assert os.listdir(tmp_path) == ["1"]


def test_an_export_cut_off_between_its_renames_loses_nothing(small, tmp_path, monkeypatch):
  saved_model.Exporter()(small, tmp_path / "1")
  before = content(tmp_path / "1")
  rename = os.rename

  def cut_off(old, new):
    if old.endswith(".unfinished"):
      raise OSError("cut off")
    rename(old, new)

  def fail(root, path, **kwargs):
    raise OSError("no space left")

  monkeypatch.setattr(os, "rename", cut_off)
  with pytest.raises(OSError, match="cut off"):
    saved_model.Exporter()(small, tmp_path / "1")
  monkeypatch.setattr(tf.saved_model, "save", fail)
  with pytest.raises(OSError, match="no space left"):
    saved_model.Exporter()(small, tmp_path / "1")
  assert content(tmp_path / "1") == before


def test_an_export_without_its_weights_fails_in_the_c_runtime(small, tmp_path):
  """What tells this runtime from Python's: nothing but the files of the export reaches it."""
  saved_model.Exporter()(small, tmp_path / "1")
  (tmp_path / "1" / "variables" / "variables.index").unlink()
  (result,) = c_loader.run(
      tmp_path / "1", [("decode", {"z": np.zeros([1, LATENT_DIM], np.float32)})])
  assert isinstance(result, c_loader.CError)
  assert "Could not find variable" in str(result)


def test_the_c_loader_refuses_a_directory_without_a_graph(small, tmp_path):
  saved_model.Exporter()(small, tmp_path / "1")
  names = c_loader.signatures(tmp_path / "1")
  (tmp_path / "1" / "saved_model.pb").write_bytes(b"no graph")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(c_loader, "signatures", lambda directory: names)
    with pytest.raises(c_loader.CError, match="\nCError: "):
      c_loader.run(tmp_path / "1", [])
