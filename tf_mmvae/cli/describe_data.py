r"""Checks your own data, tells what they hold, and suggests likelihood scales and weights.

  tf-mmvae describe-data --gin_file=gin/own_data.gin --manual_dir=DATA \
      --gin_param='MANIFEST = "birds.csv"' --out=birds.gin

Whatever is wrong with the manifest is told at once, by row and column. Where nothing is, the data
set is prepared, described, and lines for a gin file are printed; with --out they are written into
one that includes what was given here, to train with: tf-mmvae train --gin_file=birds.gin.

A scale is the most likely one (a Laplace's b: the mean absolute residual; a Gaussian's standard
deviation) for what a linear code of LATENT_DIM numbers, fitted to other rows, leaves of a picture
or vector. Weights make what each modality has to tell worth the same against the KL, 5 nats a
latent dimension: for a picture or vector the nats that the linear code gains over the mean, for a
text a fifth of the nats that its words cost when told by their frequencies. They are where to
begin: more weight on a modality makes the latents keep more of it, at the cost of the others.
"""

import os
import re

from absl import flags

from tf_mmvae.cli import config


def define(values):
  config.define(values, run_dir=False)
  flags.DEFINE_string("out", None, "Where to write a gin file with what is suggested.",
                      flag_values=values)


def main(flag, invocation):
  del invocation
  if not flag.gin_file:
    raise ValueError("give --gin_file=gin/own_data.gin, or a file that includes it")
  if flag.out and not os.path.isdir(os.path.dirname(os.path.abspath(flag.out))):
    raise ValueError(f"no folder for --out={flag.out}: make it, or give another")
  config.load(None, flag, from_run=False)

  import gin

  from tf_mmvae.data.own import description
  from tf_mmvae.data.own.dataset import Source
  if "mm.data.own.Source" not in gin.config_str():
    raise ValueError("this describes your own data: give --gin_file=gin/own_data.gin, or a file "
                     "that includes it")
  source = gin.get_configurable(Source)()
  lengths = dict.fromkeys(source.manifest.columns, config.value_of("WORDS", None))
  min_count = _value("mm.data.run_tokenizer.min_count", 3)
  print("\n".join(description.describe(source, lengths, min_count)))
  latent_dim = config.value_of("LATENT_DIM", None)
  suggested = description.suggest(source, latent_dim)
  lines = []
  for name, (_, left) in suggested.items():
    if left is None:
      continue
    print(f"{name}: {latent_dim} principal components leave {left.laplace:.3g} (mean absolute: a "
          f"Laplace's b) or {left.normal:.3g} (standard deviation: a Gaussian's), by {left.num:,} "
          "files")
    laplace = "laplace" in str(_value(f"{name}/mm.Modality.likelihood", ""))
    lines.append(f"{name.upper()}_SCALE = {left.laplace if laplace else left.normal:.2g}")
  weights = ", ".join(f'"{name}": {s.weight:.2g}' for name, s in suggested.items())
  lines.append(f"LIKELIHOOD_WEIGHTS = {{{weights}}}")
  print("\n" + "\n".join(lines))
  if flag.out:
    _write(flag, lines, source.manifest.path)


def _value(parameter, default):
  """The value of a binding, or the default where there is none."""
  import gin
  try:
    return gin.query_parameter(parameter)
  except ValueError:
    return default


def _write(flag, lines, manifest):
  typed = flag.gin_param
  text = [f"# Suggested by tf-mmvae describe-data for {manifest.name}.", ""]
  if any(re.search(r"@|^[^=]*\.", binding) for binding in typed):
    import gin
    text += ["from __gin__ import dynamic_registration", ""]
    text += [*re.findall(r"^(?:from(?! __gin__)|import) .*", gin.config_str(), re.M), ""]
  text += [f'include "{file}"' for file in flag.gin_file] + [""]
  with open(flag.out, "w", encoding="utf-8") as file:
    file.write("\n".join([*text, *typed, *lines]) + "\n")
  print(f"Written: {flag.out}; train with --gin_file={flag.out}")
