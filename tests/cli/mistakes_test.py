"""The table of mistakes: each ends in one sentence, and what is on disk stays as it is."""

import errno
import fcntl
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile

import pytest
import tensorflow as tf
from PIL import Image

from tests import runs
from tests.data.cub import dataset_test as cub_test
from tf_mmvae.cli import mistakes
from tf_mmvae.run_dir import RunDir

TINY = "gin/toy_birds_tiny.gin"
HINT = "(--verbosity=1 shows where it came from)"


def assert_one_sentence(code, printed, sentence):
  """Exit code 1; the sentence, in one line, and the hint are the last things said."""
  assert code == 1, printed
  assert "Traceback" not in printed
  last, hint = printed.splitlines()[-2:]
  assert re.match(r"\S*tools/\w+\.py: ", last) and sentence in last, printed
  assert hint == HINT


# Mistakes in gin files and flags: nothing is written.

_START = f'from __gin__ import dynamic_registration\ninclude "{TINY}"\n'
_NETS = "import tf_mmvae as mm\n"


@pytest.mark.parametrize("gin, sentence", [
    (_START + _NETS + "\nmm.Experiment.num_stepz = 3\n",
     "{file}, line 5: Configurable 'mm.Experiment' doesn't have a parameter named 'num_stepz': "),
    (_START + _NETS + "mm.Experiment.num_steps = %NUM_STEPZ\n",
     "macro NUM_STEPZ is used but has no value: set it in a gin file, or by "
     "--gin_param='NUM_STEPZ = ...' (did you mean NUM_STEPS?)"),
    (_START + "NUM_STEPZ = 3\n", "nothing uses the macro NUM_STEPZ: look for a misspelt name, or "
     "take it out (did you mean NUM_STEPS?)"),
    (_START + _NETS + "mm.nets.ConvDecoder.shape = @mm.nets.ConvEncodr()\n",
     "{file}, line 4: Couldn't resolve selector mm.nets.ConvEncodr; tf_mmvae.nets has no "
     "attribute ConvEncodr: correct it there"),
    (_START + "from tf_mmvae.nets import imagez\n", "No module named 'tf_mmvae.nets.imagez': "),
    (_START + "mm.nets.ConvEncoder.filters = (4,)\n",
     "{file}, line 3: 'mm' is nothing that the gin files import: correct it there"),
    (_START + "\nNUM_STEPS = = 3\n", "{file}, line 4: Unable to parse value: correct it there"),
    (_START + "NUM_STEPS = (3\n", "{file}, line 4: EOF in multi-line statement: correct it there"),
    (_START + "NUM_STEPS = abc\n", "Unable to parse value (texts need quotes): correct it there"),
    ('include "gin/nothing.gin"\n', "{file}, line 1: no gin file gin/nothing.gin to include"),
    ("\0", "{file}"),
])
def test_in_a_gin_file(tmp_path, gin, sentence):
  file = tmp_path / "mine.gin"
  file.write_text(gin)
  result = runs.call_here("train.py", *runs.train_args(file, tmp_path / "run"))
  assert_one_sentence(*result, sentence.format(file=file))
  assert str(file) in result[1] or "macro" in sentence
  assert os.listdir(tmp_path) == ["mine.gin"]


@pytest.mark.parametrize("args, sentence", [
    (["--gin_file=gin/no_birds.gin"],
     "no gin file gin/no_birds.gin: give the path of one, such as gin/toy_birds.gin"),
    (["--gin_file=gin"], "no gin file gin: give the path of one"),
    (["--gin_file=docs/toy_birds.jpg"], "docs/toy_birds.jpg: 'utf-8' codec can't decode byte"),
    (["--gin_param=NUM_STEPS"],
     "--gin_param='NUM_STEPS': Couldn't parse statement, expected ':' or '=': correct it there"),
    (["--gin_param=NUM_STEPS = = 3"], "--gin_param='NUM_STEPS = = 3': Unable to parse value"),
    (["--gin_param=NUM_STEPZ = 3"], "nothing uses the macro NUM_STEPZ: look for a misspelt"),
    (["--gin_param=mm.Experiment.num_steps = %NUM_STEP"],
     "macro NUM_STEP is used but has no value"),
    (["--gin_param=mm.views.Panel.num_example = 4"],
     "doesn't have a parameter named 'num_example'"),
    (["--gin_param=image.ConvEncoder.filters = (4,)"],
     "'image' is nothing that the gin files import"),
    (["--gin_param=ESTIMATOR = @objectives.Doubly()"], "objectives.Doubly"),
])
def test_in_a_flag(tmp_path, args, sentence):
  assert_one_sentence(*runs.call_here("train.py", *runs.train_args(TINY, tmp_path / "run"), *args),
                      sentence)
  assert not os.listdir(tmp_path)


# Mistakes that are found while the parts are made, or on the first step: nothing is trained.

@pytest.mark.parametrize("binding, sentence", [
    ("BATCH_SIZE = '4'", "batch_size must be a whole number of at least 1, got '4'"),
    ("LEARNING_RATE = -0.1", "the learning rate must be a number above 0, got -0.1"),
    ("LATENT_DIM = 0", "latent_dim must be a whole number of at least 1, got 0"),
    ('mm.views.Panel.tokenizers = {"imge": %TOKENIZER}', "Panel's tokenizers for ['imge'], but the "
     "model's modalities are ['image', 'sentence']: correct the name, or add the modality"),
    ('mm.Experiment.tokenizers = {"imge": %TOKENIZER}', "Exporter's tokenizers for ['im"),
    ('mm.metrics.Agreement.readers = {"imge": @mm.data.toy_birds.read_pictures}',
     "Agreement's readers for ['imge'], but"),
    ('mm.metrics.Agreement.tokenizers = {"imge": %TOKENIZER}', "Agreement's tokenizers for ['img"),
    ('mm.Estimator.likelihood_weights = {"imge": 1.0}',
     "likelihood_weights for ['imge'], but the model's modalities are ['image', 'sentence']"),
    ("IMAGE_SHAPE = (32, 32, 3)", "modality 'image': expected observations of shape [32, 32, 3], "
     "got [64, 64, 3]: make its shape and that of the data agree"),
    ("mm.data.run_tokenizer.length = 10",
     "modality 'sentence': expected observations of shape [6], "
     "got [10]: make its shape and that of the data agree"),
    ("imgae/mm.Modality.name = 'image'", "nothing uses the binding "
     "imgae/mm.Modality.name: look for a misspelt name or scope"),
    ("FUSION = @mm.ProductOfExperts()",
     "a product of Laplace experts has no closed form: give modalities and prior the family "
     "normal, or join them by MixtureOfExperts"),
    ("EXPERT_DIM = 3", "modality 'image': expected an encoder of 4 latent dimensions, got 3: make "
     "its latent_dim and that of the prior agree"),
    ("mm.MultimodalVAE.private_dim = 2", "private_dim must be at least 0 and leave some of the "
     "4 latent dimensions to share among 2 modalities, got 2"),
    ("mm.Experiment.examples_per_chunk = 3",
     "examples_per_chunk 3 cannot divide the 4 examples of a "
     "replica: give a divisor, or None"),
])
def test_before_training(tmp_path, binding, sentence):
  args = [*runs.train_args(TINY, tmp_path), f"--gin_param={binding}"]
  assert_one_sentence(*runs.call_here("train.py", *args), sentence)
  assert runs.last_step(tmp_path / "checkpoints") == -1


# A run directory that cannot be used, or is damaged: it stays byte for byte.


def cut(path, length):
  path.write_bytes(path.read_bytes()[:length])


def cut_all(run, kind, length):
  for path in (run / "checkpoints").rglob(f"ckpt-*.{kind}"):
    cut(path, length)


def replace(path, old, new):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


def shuffle(path):
  words = path.read_text().split("\n")
  path.write_text("\n".join([words[1], words[0], *words[2:]]))


def no_config(run):
  (run / "config.gin").unlink()


FIRST = "# tf_mmvae run, format 4"
NONE = "no checkpoint in {run}/checkpoints can be read whole: put back what is missing, or give"
OTHER_WORDS = "vocabulary.txt is not the one that checkpoint "
ANOTHER = "is a run of another configuration ("


@pytest.mark.parametrize("damage, sentence", [
    (lambda run: cut_all(run, "data-00000-of-00001", 300), NONE),
    (lambda run: cut_all(run, "index", 0), NONE),
    (lambda run: shuffle(run / "vocabulary.txt"), OTHER_WORDS),
    (lambda run: replace(run / "vocabulary.txt", "a\n", ""), OTHER_WORDS),
    (lambda run: cut(run / "vocabulary.txt", 0), "vocabulary.txt holds no words: put back the fi"),
    (lambda run: cut(run / "config.gin", 900), "config.gin is cut short: put back the whole file, "
     "or train again into another --run_dir"),
    (lambda run: cut(run / "config.gin", 0), "config.gin is cut short: put back the whole file"),
    (lambda run: replace(run / "config.gin", FIRST, "# tf_mmvae run, format 3"),
     "config.gin is of format 3, and this version of tf_mmvae reads format 4: use the version that "
     "wrote it, or give another --run_dir"),
    (lambda run: replace(run / "config.gin", FIRST + "\n", ""), "config.gin names no format, and "),
    (no_config, "is no run, as it has neither config.gin nor experiment.json, but it is not empty "
     "(checkpoints, data.json, events, ...): give another --run_dir"),
])
def test_a_damaged_run(copy, damage, sentence):
  damage(pathlib.Path(copy.path))
  before = runs.files(copy.path)
  assert_one_sentence(*runs.call_here("train.py", *runs.train_args(TINY, copy.path)),
                      sentence.format(run=copy.path))
  assert runs.files(copy.path) == before


@pytest.mark.parametrize("damage, sentence", [
    (lambda run: shuffle(run / "vocabulary.txt"), OTHER_WORDS),
    (lambda run: cut_all(run, "index", 100), NONE),
    (lambda run: cut(run / "config.gin", 900), "config.gin is cut short: put back the whole file"),
    (no_config, "no run at {run}: it has no config.gin; give the --run_dir of one, or train it"),
    (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint in {run}/checkpoints: train"),
    (lambda run: shutil.rmtree(run), "no run at {run}: it has no config.gin"),
])
def test_a_damaged_run_is_not_measured(copy, damage, sentence):
  damage(pathlib.Path(copy.path))
  before = runs.files(copy.path)
  args = [f"--run_dir={copy.path}", f"--data_dir={runs.scratch() / 'data'}"]
  assert_one_sentence(*runs.call_here("evaluate.py", *args), sentence.format(run=copy.path))
  assert runs.files(copy.path) == before


@pytest.mark.parametrize("args, said", [
    (["--gin_param=NUM_SAMPLES = 3"], f"{ANOTHER}NUM_SAMPLES: 2 there, 3 now): give"),
    (["--gin_param=NUM_STEPS = 30", "--gin_param=SEED = 1"], f"{ANOTHER}SEED: 0 there, 1 now)"),
    (["--gin_param=mm.nets.ConvEncoder.filters = (4, 4, 4, 8)"],
     f"{ANOTHER}mm.nets.ConvEncoder.filters: (4, 4, 4, 4) there, (4, 4, 4, 8) now)"),
    (["--gin_param=mm.Experiment.max_skipped = 3"],
     f"{ANOTHER}mm.Experiment.max_skipped: not set there, 3 now)"),
    (["--gin_param=mm.Estimator.bound = @mm.iwae()"],
     f"{ANOTHER}mm.Estimator.bound: %BOUND there, @mm.iwae() now)"),
    (["--gin_param=mm.Experiment.seed = %BATCH_SIZE"],
     f"{ANOTHER}mm.Experiment.seed: %SEED there, %BATCH_SIZE now)"),
    (["--gin_param=imgae/mm.Modality.name = 'image'"],
     f"{ANOTHER}imgae/mm.Modality.name: not set there, image now)"),
])
def test_another_configuration(copy, args, said):
  before = runs.files(copy.path)
  assert_one_sentence(*runs.call_here("train.py", *runs.train_args(TINY, copy.path), *args), said)
  assert runs.files(copy.path) == before


@pytest.mark.parametrize("binding, sentence", [
    ("hedl_out/mm.metrics.HeldOut.num_examples = 3",
     "nothing uses the binding hedl_out/mm.metrics.HeldOut.num_examples: look for a misspelt"),
    ('METRICS = {"held_out": @mm.metrics.HeldOt()}',
     "tf_mmvae.metrics has no attribute HeldOt"),
])
def test_misspelt_when_measuring(copy, binding, sentence):
  before = runs.files(copy.path)
  args = [f"--run_dir={copy.path}", f"--data_dir={runs.scratch() / 'data'}"]
  assert_one_sentence(*runs.call_here("evaluate.py", *args, f"--gin_param={binding}"), sentence)
  assert runs.files(copy.path) == before


@pytest.fixture
def copy(tmp_path):
  """A copy of a finished run."""
  run, _, _ = runs.finished(TINY)
  shutil.copytree(run.path, tmp_path / "run")
  return RunDir(tmp_path / "run")


def test_a_directory_of_something_else(tmp_path):
  (tmp_path / "results").mkdir()
  (tmp_path / "results" / "prior.png").write_text("mine")
  before = runs.files(tmp_path)
  assert_one_sentence(*runs.call_here("train.py", *runs.train_args(TINY, tmp_path)),
                      f"{tmp_path} is no run, as it has neither config.gin nor experiment.json, "
                      "but it is not empty (")
  assert runs.files(tmp_path) == before


def test_a_second_process(copy):
  """It may measure, but not train."""
  before = runs.files(copy.path)
  with open(copy.lock, "a+") as held:
    fcntl.flock(held, fcntl.LOCK_EX)
    held.truncate(0)
    held.write("12345\n")
    held.flush()
    assert_one_sentence(
        *runs.call_here("train.py", *runs.train_args(TINY, copy.path)),
        f"process 12345 is training into {copy.path}: wait for it or stop it, or give another --ru")
    assert runs.files(copy.path) == before
    code, printed = runs.call_here(
        "evaluate.py", f"--run_dir={copy.path}", f"--data_dir={runs.scratch() / 'data'}",
        '--gin_param=METRICS = {"likelihoods": @mm.metrics.Likelihoods()}',
        "--gin_param=NUM_SAMPLES = 2")
    assert code == 0, printed


# Data.


@pytest.mark.parametrize("damage, sentence", [
    (lambda cub: shutil.rmtree(cub), "{cub} has no train/<class>/*.jpg: put there the"),
    (lambda cub: cut(cub / "train/001.Albatross/2.jpg", 200),
     "{cub}/train/001.Albatross/2.jpg is not a readable photo: "),
    (lambda cub: replace(cub / "text_trainvalclasses.txt", "bird train 001.Albatross 0 0\n", ""),
     "{cub}/text_trainvalclasses.txt has 119 lines, expected 120: 10 for each of 12 photos"),
    (lambda cub: replace(cub / "text_testclasses.txt", "bird test 001.Albatross 0 0\n", "\n\n"),
     "{cub}/text_testclasses.txt has 41 lines, expected 40: 10 for each of 4 photos"),
])
def test_damaged_birds(tmp_path, damage, sentence):
  cub_test.write_source(tmp_path / "manual")
  damage(tmp_path / "manual" / "cub")
  before = runs.files(tmp_path / "manual")
  args = ["--gin_file=gin/cub_tiny.gin", f"--run_dir={tmp_path / 'run'}",
          f"--manual_dir={tmp_path / 'manual'}", f"--data_dir={tmp_path / 'data'}"]
  assert_one_sentence(*runs.call_here("train.py", *args),
                      sentence.format(cub=tmp_path / "manual" / "cub"))
  assert runs.files(tmp_path / "manual") == before


# The machine's troubles.


@pytest.fixture
def foreign(tmp_path_factory):
  """A copy of a finished run where one may read but not write."""
  run, _, _ = runs.finished(TINY)
  with tempfile.TemporaryDirectory() as directory:  # pytest's own is closed to other users
    os.chmod(directory, 0o755)
    path = pathlib.Path(directory) / "run"
    shutil.copytree(run.path, path)
    for name in [path, *path.rglob("*")]:
      name.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # root passes over permissions
      os.seteuid(65534)
    try:
      yield path
    finally:
      os.seteuid(user)
      for name in [path, *path.rglob("*")]:
        name.chmod(0o755)


@pytest.mark.parametrize("below, where", [("", ""), ("/new", " below {foreign}")])
def test_no_permission(foreign, below, where):
  before = runs.files(foreign)
  assert_one_sentence(
      *runs.call_here("train.py", *runs.train_args(TINY, f"{foreign}{below}")),
      f"the run's directory {foreign}{below} cannot be written{where.format(foreign=foreign)}: "
      "Permission denied; give another --run_dir, or change who may write there")
  assert runs.files(foreign) == before


def test_an_unreadable_photo(tmp_path, monkeypatch):
  cub_test.write_source(tmp_path / "manual")

  def refuse(path):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

  monkeypatch.setattr(Image, "open", refuse)
  args = ["--gin_file=gin/cub_tiny.gin", f"--run_dir={tmp_path / 'run'}",
          f"--manual_dir={tmp_path / 'manual'}", f"--data_dir={tmp_path / 'data'}"]
  assert_one_sentence(*runs.call_here("train.py", *args), ".jpg is not a readable photo: ")


@pytest.fixture
def small_files():
  """Function (bytes): files may grow so long, beyond which writing fails as on a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size, named", [(50_000, "checkpoints/best"), (1000, "")])
def test_no_space(copy, small_files, size, named):
  """While checkpoints are written, or the configuration; the last checkpoint stays."""
  before = runs.files(copy.path)
  args = [*runs.train_args(TINY, copy.path), "--gin_param=NUM_STEPS = 22",
          "--gin_param=mm.Experiment.evaluate_every = 100"]
  small_files(size)
  result = runs.call_here("train.py", *args)
  small_files(resource.RLIM_INFINITY)
  assert_one_sentence(*result, f"no space left for {os.path.join(copy.path, named).rstrip('/')}: "
                      "make room there and give the same command again; a run goes on from its "
                      "last checkpoint, which is kept")
  after = runs.files(copy.path)
  for name in before.keys() - {"config.gin"}:
    if not name.endswith(".knobs"):  # written anew at each start
      assert before[name] == after[name], name
  assert runs.last_step(copy.checkpoints) == 20


def test_arguments_that_are_flags_are_told_as_flags():
  said = mistakes.sentence(ValueError(
      "no files below manual_dir: give another run_dir, or `run_dir`; my_run_dir/run_dirs stay"))
  assert said == ("no files below --manual_dir: give another --run_dir, or --run_dir; "
                  "my_run_dir/run_dirs stay")


def test_what_tensorflow_puts_around_a_sentence_is_left_out():
  said = "OSError: /data/rows is damaged: put back the file\nTraceback (most recent call last):"
  for before in ("{{function_node a}} Error in user-defined function passed to Map:1 "
                 "transformation with iterator: Iterator::Root::Map: ", "{{function_node a}} ", ""):
    error = tf.errors.UnknownError(None, None, before + said)
    assert mistakes.sentence(error) == "/data/rows is damaged: put back the file"


@pytest.mark.parametrize("flag", ["run_dir", "data_dir"])
def test_below_a_file(tmp_path, flag):
  (tmp_path / "file").write_text("mine")
  args = [*runs.train_args(TINY, tmp_path / "run"), f"--{flag}={tmp_path}/file/below"]
  assert_one_sentence(*runs.call_here("train.py", *args), f"{tmp_path}/file")
  assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_that_cannot_be_written_is_told_before_tensorflow_loads():
  """By the system's own words, and without a trace; /proc takes no files, not even from root."""
  script = ("import sys\n"
            "from tf_mmvae.cli.main import run_tool\n"
            "try:\n"
            "  run_tool('train.py', ['tools/train.py', '--gin_file=a', '--run_dir=/proc/a/b'])\n"
            "finally:\n"
            "  print('loaded', 'tensorflow' in sys.modules)\n")
  done = subprocess.run([sys.executable, "-c", script], cwd=runs.ROOT, text=True,
                        capture_output=True, timeout=60)
  assert done.returncode == 1 and done.stdout == "loaded False\n"
  first, hint = done.stderr.splitlines()
  assert first.startswith("tools/train.py: the run's directory /proc/a/b cannot be written below "
                          "/proc: No such file or directory; give another --run_dir, or")
  assert hint == HINT
