import json
import os
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from tests import runs
from tf_mmvae import distributions
from tf_mmvae.cli import generate
from tf_mmvae.data.tokenizer import Tokenizer
from tf_mmvae.generation import observations
from tf_mmvae.generation.answers import Answers
from tf_mmvae.modality import Modality
from tf_mmvae.model import MultimodalVAE, Prior
from tf_mmvae.nets import sentences
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"
HINT = "(--verbosity=1 shows where it came from)"
LENGTH = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """A folder of three pictures, one of them damaged, and a file of two texts."""
  folder = tmp_path_factory.mktemp("in") / "photos"
  folder.mkdir()
  for name, colour in [("a.png", (200, 0, 0)), ("c.jpg", (0, 0, 200))]:
    Image.new("RGB", (100, 50), colour).save(folder / name)
  (folder / "b.jpg").write_bytes((folder / "c.jpg").read_bytes()[:300])
  (folder.parent / "texts.txt").write_text("a small red bird.\n\na blue bird.\n")
  return folder


def ask(tmp_path, *args):
  """Asks the run trained on toy birds: (exit code, printed, {file: bytes}, JSON lines)."""
  run, code, printed = runs.finished(TINY)
  assert code == 0, printed
  out = tmp_path / "out"
  code, printed = runs.call_here("generate.py", f"--run_dir={run.path}", f"--out={out}", *args)
  files = {path.name: path.read_bytes() for path in sorted(out.glob("*"))}
  lines = [json.loads(line) for name, content in files.items() if name.endswith(".jsonl")
           for line in content.splitlines()]
  return code, printed, files, lines


def assert_one_sentence(code, printed, sentence):
  """Exit code 1; the sentence, in one line, and the hint are the last things said."""
  assert code == 1, printed
  assert "Traceback" not in printed
  last, hint = printed.splitlines()[-2:]
  assert "generate.py: " in last and sentence in last, printed
  assert hint == HINT


# What is generated.


def test_samples_from_the_prior(tmp_path):
  code, printed, files, lines = ask(tmp_path, "--num=3", "--seed=5")
  assert code == 0, printed
  assert list(files) == ["prior-image-1.png", "prior-image-2.png", "prior-image-3.png",
                         "prior-table.png", "prior.jsonl"]
  assert [(line["number"], line["modality"]) for line in lines] == [
      (i, name) for i in (1, 2, 3) for name in ("image", "sentence")]
  for i in (0, 1, 2):
    assert f"  {i + 1}. {lines[2 * i + 1]['text']}\n" in printed
  assert files == ask(tmp_path / "again", "--num=3", "--seed=5")[2]
  assert files != ask(tmp_path / "other", "--num=3", "--seed=6")[2]


def test_pictures_of_a_caption(tmp_path):
  code, printed, files, lines = ask(
      tmp_path, "--given=sentence=A Bird and one mouse and zebra.", "--num=2")
  assert code == 0, printed
  name = "A-Bird-and-one-mouse-and-zebra"
  assert list(files) == [f"{name}-image-1.png", f"{name}-image-2.png", f"{name}-table.png",
                         f"{name}.jsonl"]
  assert lines == [{"given": {"sentence": "A Bird and one mouse and zebra."}, "number": i,
                    "modality": "image", "file": f"{name}-image-{i}.png"} for i in (1, 2)]
  assert files[f"{name}-image-1.png"] != files[f"{name}-image-2.png"]
  assert ("the model does not see all: it does not know 'one', 'mouse', 'zebra' and it reads the "
          "first 5 words of 8.") in printed


@pytest.mark.parametrize("decoding", ["greedy", "sampled", "beam"])
def test_captions_of_a_picture(tmp_path, photos, decoding):
  code, printed, files, lines = ask(
      tmp_path, f"--given=image={photos}/a.png", f"--decoding={decoding}")
  assert code == 0, printed
  assert list(files) == ["a-table.png", "a.jsonl"]
  assert [line["rank"] for line in lines] == list(range(1, len(lines) + 1))
  assert len({line["text"] for line in lines}) == len(lines) <= 4
  assert [line["nats"] for line in lines] == sorted((line["nats"] for line in lines), reverse=True)
  assert printed.splitlines()[2:-1] == [
      f"  {line['rank']}. {line['nats']:.1f} nats: {line['text']}" for line in lines]


def test_a_folder_with_a_damaged_picture(tmp_path, photos):
  """It is told and left out; the others come, as they would come alone."""
  code, printed, files, lines = ask(tmp_path, f"--given=image={photos}")
  assert_one_sentence(code, printed, "1 of 3 inputs could not be read and were left out")
  assert f"\nLeft out: {photos}/b.jpg is not a readable picture: " in printed
  assert list(files) == ["photos-table.png", "photos.jsonl"]
  names = [os.path.basename(line["given"]["image"]) for line in lines]
  assert set(names) == {"a.png", "c.jpg"}
  alone = ask(tmp_path / "alone", f"--given=image={photos}/c.jpg")[3]
  assert [line for line in lines if line["given"] == alone[0]["given"]] == alone


def test_a_file_of_texts_and_one_picture(tmp_path, photos):
  """Paired, and all modalities generated, as all are given."""
  code, printed, files, lines = ask(
      tmp_path, f"--given=sentence=@{photos.parent}/texts.txt", f"--given=image={photos}/a.png",
      "--num=1")
  assert code == 0, printed
  names = [f"texts-000{i}+a-image-1.png" for i in (1, 3)]
  assert list(files) == [*names, "texts-table.png", "texts.jsonl"]
  assert [line["modality"] for line in lines] == ["image", "sentence"] * 2
  assert {line["given"]["image"] for line in lines} == {f"{photos}/a.png"}
  assert [line["given"]["sentence"] for line in lines[::2]] == ["a small red bird.", "a blue bird."]


def test_a_folder_keeps_its_whole_name(tmp_path, photos):
  folder = tmp_path / "029.Crow"
  shutil.copytree(photos, folder)
  files = ask(tmp_path, f"--given=image={folder}/", "--num=1")[2]
  assert list(files) == ["029.Crow-table.png", "029.Crow.jsonl"]


def test_an_interpolation(tmp_path, photos):
  code, printed, files, lines = ask(
      tmp_path, f"--given=image={photos}/a.png", "--to=sentence=a blue bird.", "--num=3")
  assert code == 0, printed
  name = "a-to-a-blue-bird"
  assert list(files) == [*(f"{name}-image-{i}.png" for i in (1, 2, 3)), f"{name}-table.png",
                         f"{name}.jsonl"]
  assert [line["way"] for line in lines[::2]] == [0, 0.5, 1]
  assert {(*line["given"], *line["to"]) for line in lines} == {("image", "sentence")}
  assert re.findall(r"^  (0.00|0.50|1.00)  ", printed, re.M) == ["0.00", "0.50", "1.00"]
  with Image.open(tmp_path / "out" / f"{name}-table.png") as table:
    assert table.size[1] > 4 * 128  # the picture given, three points, and a line of words


def test_answers_are_in_the_run_by_default(tmp_path):
  run, _, _ = runs.finished(TINY)
  shutil.copytree(run.path, tmp_path / "run")
  code, printed = runs.call_here("generate.py", f"--run_dir={tmp_path / 'run'}", "--num=1")
  assert code == 0, printed
  assert printed.splitlines()[-1] == (f"Written: {tmp_path}/run/generated/prior-table.png "
                                      f"{tmp_path}/run/generated/prior.jsonl")


def test_any_number_of_modalities_of_any_kind(tmp_path):
  """A picture, a vector and two kinds of words: from one to the three others."""
  tokenizer = Tokenizer(["a", "red", "bird"], LENGTH)
  picture = keras.Sequential([keras.layers.Dense(16), keras.layers.Reshape([4, 4, 1])])
  flat = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
  model = MultimodalVAE([
      Modality("seen", (4, 4, 1), flat, picture, distributions.normal_likelihood),
      Modality("felt", (3,), keras.layers.Dense(4), keras.layers.Dense(3),
               distributions.normal_likelihood),
      *(Modality(name, (LENGTH,), sentences.RecurrentEncoder(2, 6, 2, 3),
                 sentences.PositionwiseDecoder(6, LENGTH, 2), distributions.sentence_likelihood,
                 dtype="int32") for name in ("told", "said"))], Prior(2))
  kinds = {name: observations.kind_of(m, {"told": tokenizer, "said": tokenizer})
           for name, m in model.modalities.items()}
  np.save(tmp_path / "x.npy", np.ones(3))
  (source,) = kinds["felt"].sources(str(tmp_path / "x.npy"))
  how = {"seed": (0, 0), "decoding": "beam", "beam_size": 2}
  outs = [Answers(tmp_path / "out", name, kinds) for name in ("translate", "sample", "line")]
  assert not generate.translate(model, kinds, [{"felt": source}] * 2, 2, outs[0], **how)
  generate.sample(model, 2, outs[1], **how)
  generate.interpolate(model, kinds, {"felt": source}, {"felt": source}, 2, outs[2], **how)
  for out in outs:
    out.finish()
  names = {path.name for path in (tmp_path / "out").glob("*")}
  assert names == {
      *(f"{name}-{i}.{suffix}" for i in (1, 2) for name, suffix in [
          ("x-seen", "png"), ("x-2-seen", "png"), ("prior-seen", "png"), ("prior-felt", "npy"),
          ("x-to-x-seen", "png"), ("x-to-x-felt", "npy")]),
      *(f"{name}{end}" for name in ("translate", "sample", "line")
        for end in (".jsonl", "-table.png"))}
  lines = (tmp_path / "out" / "translate.jsonl").read_text().splitlines()
  assert {json.loads(line)["modality"] for line in lines} == {"seen", "told", "said"}
  assert {json.loads(line)["modality"] for line in lines if "rank" in line} == {"told", "said"}


# Mistakes.


@pytest.mark.parametrize("args, sentence", [
    (["--given=red bird"],
     "--given and --to must be NAME=VALUE, such as 'sentence=a red bird.', got 'red bird'"),
    (["--given=sentence=a", "--to=image"], "must be NAME=VALUE"),
    (["--to=sentence=a"], "--to is the other end of an interpolation: give --given as well"),
    (["--num=0"], "--num must be at least 1, got 0"),
    (["--num=1", "--given=sentence=a", "--to=sentence=a"],
     "--num must be at least 2 with --to, got 1"),
    (["--beam_size=0"], "--beam_size must be at least 1, got 0"),
    (["--given=sound=a"], "no modality is named 'sound': this model has image, sentence"),
    (["--given==a"], "no modality is named '': this model has image, sentence"),
    (["--given=sentence= "], "the text is empty: give at least a word"),
    (["--given=sentence=@IN/none.txt"], "no such file or directory: IN/none.txt"),
    (["--given=sentence=@IN/empty.txt"], "IN/empty.txt holds no text: expected one sentence a"),
    (["--given=image=IN/none.jpg"], "no such file or directory: IN/none.jpg"),
    (["--given=image=IN/photos/b.jpg"], "IN/photos/b.jpg is not a readable picture"),
    (["--given=image=IN/nothing"], "IN/nothing holds no files of .png, .jpg"),
    (["--given=image=IN/photos", "--given=sentence=@IN/texts.txt"],
     "cannot pair 3 of image with 2 of sentence: give as many of each, or one"),
    (["--given=image=IN/photos", "--to=sentence=a"], "--to needs one input at either end"),
])
def test_mistakes(tmp_path, photos, args, sentence):
  inputs = photos.parent
  (inputs / "nothing").mkdir(exist_ok=True)
  (inputs / "empty.txt").write_text("\n")
  before = runs.files(inputs)
  code, printed, files, _ = ask(tmp_path, *(arg.replace("IN", str(inputs)) for arg in args))
  assert_one_sentence(code, printed, sentence.replace("IN", str(inputs)))
  assert not files
  assert runs.files(inputs) == before


def test_an_input_is_never_overwritten(tmp_path):
  name = "a-red-bird-image-1"
  Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
  run, _, _ = runs.finished(TINY)
  before = runs.files(tmp_path)
  code, printed = runs.call_here(
      "generate.py", f"--run_dir={run.path}", f"--out={tmp_path}", "--given=sentence=a red bird",
      f"--given=image={tmp_path}/{name}.png")
  assert code == 0, printed  # under other names
  assert {name: before[name] for name in before} == {
      name: value for name, value in runs.files(tmp_path).items() if name in before}


def test_without_a_run(tmp_path):
  assert_one_sentence(*runs.call_here("generate.py"),
                      "give --run_dir, the directory of a trained run")
  assert_one_sentence(*runs.call_here("generate.py", f"--run_dir={tmp_path}"),
                      f"no run at {tmp_path}: it has no config.gin")
  run, _, _ = runs.finished(TINY)
  shutil.copytree(run.path, tmp_path / "run")
  copy = RunDir(tmp_path / "run")
  shutil.rmtree(copy.checkpoints)
  assert_one_sentence(*runs.call_here("generate.py", f"--run_dir={copy.path}"),
                      f"no checkpoint in {copy.checkpoints}: train first, or give another --run")
  assert not pathlib.Path(copy.path, "generated").exists()
