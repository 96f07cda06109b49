r"""Asks a trained run: pictures for a caption, captions for a picture, samples, interpolations.

  RUN=runs/toy_birds
  tf-mmvae generate --run_dir=$RUN                               samples from the prior
  tf-mmvae generate --run_dir=$RUN --given='sentence=a small red bird.'
  tf-mmvae generate --run_dir=$RUN --given=image=photo.jpg --decoding=beam
  tf-mmvae generate --run_dir=$RUN --given=image=photo.jpg --given='sentence=a red bird.'
  tf-mmvae generate --run_dir=$RUN --given=image=photos/        each picture of a folder
  tf-mmvae generate --run_dir=$RUN --given=sentence=@captions.txt        each line of a file
  tf-mmvae generate --run_dir=$RUN --given=image=a.jpg --to='sentence=a red bird.'

What is given is NAME=VALUE, the name of one of the model's modalities (config.gin says which) and

  words      a text, or @FILE of one text a line
  pictures   a file of any size and mode, or a folder; the whole picture is resized to the model's
  arrays     a file that np.save wrote, or a folder; a modality's viewer shows them, where it has
             one, and may want --data_dir and --manual_dir as training does

For each input the other modalities are generated, or all, where all are given. Of several captions
the best come first, with log p(caption | input) in nats under the model, as `captions` of
tf_mmvae/generation/decoding.py estimates it. Given for two modalities, inputs are paired in their
order, and a single one goes with every other. --to walks from one input to another on a straight
line between the means of their posteriors.

Writes into --out a table to look at (-table.png, 10 inputs a page), each generated picture (.png)
or array (.npy), and all of it as JSON lines (.jsonl): what was given, the modality, rank and nats
or number, text or file. --gin_file and --gin_param change the model's configuration.
"""

import collections
import os

from absl import flags

from tf_mmvae.cli import config
from tf_mmvae.run_dir import RunDir


def define(values):
  config.define(values)
  flags.DEFINE_multi_string(
      "given", [], "NAME=VALUE: a modality and what is seen of it; repeatable. Without it, samples "
      "from the prior.", flag_values=values)
  flags.DEFINE_string("to", None, "NAME=VALUE: the other end of an interpolation.",
                      flag_values=values)
  flags.DEFINE_integer(
      "num", None, "How many pictures or captions for each input, or samples from the prior "
      "(default 4), or points of an interpolation (default 8).", flag_values=values)
  flags.DEFINE_enum("decoding", "greedy", ["greedy", "sampled", "beam"],
                    "How sentences are written.", flag_values=values)
  flags.DEFINE_integer("beam_size", 5, "Sentences that --decoding=beam keeps.", flag_values=values)
  flags.DEFINE_integer("seed", 0, "Of all that is drawn.", flag_values=values)
  flags.DEFINE_string("out", None, "Where to write. Default: generated/ in the run's directory.",
                      flag_values=values)


def main(flag, invocation):
  del invocation
  ends = [flag.to] if flag.to is not None else []
  num = _checked(flag, ends)
  run = RunDir(flag.run_dir)
  run.refuse_description()
  config.load(run, flag, from_run=True)

  import gin

  from tf_mmvae.generation import observations
  from tf_mmvae.generation.answers import Answers
  from tf_mmvae.model import MultimodalVAE
  from tf_mmvae.training import checkpoints
  model = gin.get_configurable(MultimodalVAE)()
  step = checkpoints.restore_model(model, run)
  tokenizers, viewers = config.value_of("TOKENIZERS", {}), config.value_of("VIEWERS", {})
  model.check_names(viewers, "VIEWERS")
  kinds = {name: observations.kind_of(m, tokenizers, viewers)
           for name, m in model.modalities.items()}
  inputs, ends = _inputs(kinds, flag.given), _inputs(kinds, ends)
  if ends and len(inputs + ends) > 2:
    raise ValueError("--to needs one input at either end: give no folders and no files of texts")
  print(f"Weights after step {step}.")
  out = Answers(flag.out or os.path.join(run.path, "generated"), _title(flag.given, inputs, ends),
                kinds, _paths(flag.given, inputs + ends))
  how = {"seed": (flag.seed, 0), "decoding": flag.decoding, "beam_size": flag.beam_size}
  if ends:
    left_out = interpolate(model, kinds, inputs[0], ends[0], num, out, **how)
  elif inputs:
    left_out = translate(model, kinds, inputs, num, out, **how)
  else:
    left_out = sample(model, num, out, **how)
  written = out.finish()
  print("Written: " + " ".join(written if len(written) < 4 else [written[0], "...", *written[-2:]]))
  if left_out:
    raise ValueError(f"{left_out} of {len(inputs)} inputs could not be read and were left out")


def _checked(flag, ends):
  """--num or its default; raises ValueError for what is wrong before anything is loaded."""
  if not flag.run_dir:
    raise ValueError("give --run_dir, the directory of a trained run")
  if ends and not flag.given:
    raise ValueError("--to is the other end of an interpolation: give --given as well")
  for value in [*flag.given, *ends]:
    if "=" not in value:
      raise ValueError("--given and --to must be NAME=VALUE, such as 'sentence=a red bird.', got "
                       f"'{value}'")
  least, default = (2, 8) if ends else (1, 4)
  num = default if flag.num is None else flag.num
  if num < least:
    raise ValueError(f"--num must be at least {least}{' with --to' if ends else ''}, got {num}")
  if flag.beam_size < 1:
    raise ValueError(f"--beam_size must be at least 1, got {flag.beam_size}")
  return num


def _inputs(kinds, values):
  """[{modality: Source}] of NAME=VALUEs; those of several modalities are paired."""
  found = collections.defaultdict(list)
  for name, value in (value.split("=", 1) for value in values):
    if name not in kinds:
      raise ValueError(f"no modality is named '{name}': this model has {', '.join(kinds)}")
    found[name] += kinds[name].sources(value)
  num = max(map(len, found.values()), default=0)
  if any(len(sources) not in (1, num) for sources in found.values()):
    counts = " with ".join(f"{len(sources)} of {name}" for name, sources in found.items())
    raise ValueError(f"cannot pair {counts}: give as many of each, or one")
  return [{name: sources[i % len(sources)] for name, sources in found.items()} for i in range(num)]


def _title(given, inputs, ends):
  """What the table is called: the inputs, or the folder or file that holds them."""
  from tf_mmvae.generation.observations import file_name
  if len(inputs) > 1:
    path = given[0].split("=", 1)[1].removeprefix("@").rstrip("/")
    name = os.path.basename(path)
    return file_name(name if os.path.isdir(os.path.expanduser(path)) else os.path.splitext(name)[0])
  return "-to-".join(_name(sources) for sources in inputs + ends) or "prior"


def _name(sources):
  return "+".join(source.name for source in sources.values())[:60]


def _paths(given, inputs):
  """What may be a file of the user's."""
  values = [value.split("=", 1)[1].removeprefix("@") for value in given]
  return values + [source.value for sources in inputs for source in sources.values()]


def _facts(sources):
  return {name: source.value for name, source in sources.items()}


def _read(kinds, sources):
  """x {modality: [1, *shape]} of one input, and the cells of a table that show it."""
  import tensorflow as tf
  observed = {name: kinds[name].read(source.value) for name, source in sources.items()}
  for name, source in sources.items():
    note = kinds[name].note(source.value)
    if note:
      print(f"Of '{source.value}' the model does not see all: {note}.")
  return ({name: tf.constant(value)[tf.newaxis] for name, value in observed.items()},
          {name: kinds[name].cell(value, given=True) for name, value in observed.items()})


def translate(model, kinds, inputs, num, out, **how):
  """From each input to the modalities that are not given, or to all where all are.

  Returns:
    The number of inputs that could not be read and were left out.

  Raises:
    ValueError: if the only input cannot be read.
  """
  import tensorflow as tf

  from tf_mmvae.generation import decoding as generation
  from tf_mmvae.generation.observations import Words
  targets = [name for name in kinds if name not in inputs[0]] or list(kinds)

  @tf.function(autograph=False)  # one trace for all inputs
  def answer(x):
    return {name: generation.captions(model, x, name, num, **how)
            if isinstance(kinds[name], Words)
            else (generation.translate(model, x, name, num, **how), None) for name in targets}

  left_out, names = 0, collections.Counter()
  for sources in inputs:
    try:
      x, shown = _read(kinds, sources)
    except ValueError as error:
      if len(inputs) == 1:
        raise
      left_out += 1
      print(f"Left out: {error}")
      continue
    print(", ".join(f"{name}={source.value}" for name, source in sources.items()))
    row = {f"given {name}": cell for name, cell in shown.items()}
    name = _name(sources)
    names[name] += 1  # a.jpg and a.png are two
    name += f"-{names[name]}" if names[name] > 1 else ""
    for target, (observed, nats) in answer(x).items():
      for i in range(num):
        cell = f"{target} {i + 1}"
        if i >= len(observed):  # captions that differ may be fewer
          row[cell] = ""
          continue
        score = {"number": i + 1} if nats is None else {"rank": i + 1, "nats": float(nats[i])}
        row[cell] = out.keep(target, observed[i].numpy(), f"{name}-{target}-{i + 1}",
                             given=_facts(sources), **score)
        if nats is not None:
          row[cell] = f"{nats[i]:.1f} nats: {row[cell]}"
          print(f"  {i + 1}. {row[cell]}")
    out.row(row)
  return left_out


def sample(model, num, out, **how):
  """Samples from the prior, decoded to every modality."""
  from tf_mmvae import inference
  from tf_mmvae.generation import decoding as generation
  z = inference.sample_prior(model, num, how["seed"])
  decoded = generation.decode(model, z, **how)
  for i in range(num):
    row = {name: out.keep(name, observed[i].numpy(), f"prior-{name}-{i + 1}", number=i + 1)
           for name, observed in decoded.items()}
    for cell in filter(_is_text, row.values()):
      print(f"  {i + 1}. {cell}")
    out.row(row)


def interpolate(model, kinds, first, last, num, out, **how):
  """Points on the line from one input to another, decoded to every modality."""
  from tf_mmvae.generation import decoding as generation
  (x_first, first_cells), (x_last, last_cells) = _read(kinds, first), _read(kinds, last)
  z = generation.interpolate(model, x_first, x_last, num)
  decoded = generation.decode(model, z, **how)
  name = f"{_name(first)}-to-{_name(last)}"
  empty = dict.fromkeys(kinds, "")
  out.row({"way": "given", **empty, **first_cells})
  for i in range(num):
    share = i / (num - 1)
    row = {target: out.keep(target, observed[i].numpy(), f"{name}-{target}-{i + 1}",
                            given=_facts(first), to=_facts(last), way=share)
           for target, observed in decoded.items()}
    for cell in filter(_is_text, row.values()):
      print(f"  {share:.2f}  {cell}")
    out.row({"way": f"{share:.2f}", **row})
  out.row({"way": "given", **empty, **last_cells})


def _is_text(cell):
  return isinstance(cell, str)
