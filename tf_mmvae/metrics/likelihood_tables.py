"""The figures of `Likelihoods` as tables, and what they say."""

from collections.abc import Sequence

from tf_mmvae import objectives
from tf_mmvae.metrics.findings import Figure, Findings, Table

_SCALES = " Log-likelihoods compare at equal scale b of the likelihood alone."
_FEW = 2  # effective samples
_PRECISION = 2.0**-23  # of log p(x_m | z), a float32


def findings(figures: dict[str, Figure], names: Sequence[str]) -> Findings:
  """`Findings` of the figures of `Likelihoods` about modalities `names`."""
  notes = {figure: "an estimate of log p(x_m) with another modality's samples, not a conditional"
           for m in names for n in names if n != m for figure in [f"log_p_{m}/from_{n}"]}
  notes |= {figure: "a difference of two lower bounds: no bound"
            for figure in figures if figure.startswith("ratio/") and not figure.endswith("/ess")}
  tables = [_synergy(names), *_conditionals(names), _joint(), *_effective_sample_sizes(names),
            _ceilings(figures, names)]
  return Findings(figures, tuple(tables), notes=notes, remarks=tuple(
      [_verdict(figures, names, m) for m in names if len(names) > 1] + _loose(figures)))


def _sources(names):
  """{column: function of a modality -> the sources of its estimate, or None}."""
  columns = {"log p(x_m | x_m)": lambda m: m}
  if len(names) == 1:
    return columns
  every = "+".join(names)
  if len(names) == 2:
    return {"log p(x_m | x_m, x_n)": lambda m: every, **columns,
            "log p(x_m | x_n)": lambda m: names[1 - names.index(m)]}
  return {"log p(x_m | x_1..M)": lambda m: every, **columns, **{
      f"log p(x_m | {n})": lambda m, n=n: None if n == m else n for n in names}}


def _of_sources(names, suffix=""):
  """Rows of estimates of log p(x_m): {modality: [figure]}."""
  found = {m: [sources(m) for sources in _sources(names).values()] for m in names}
  return {m: [s and f"log_p_{m}/from_{s}{suffix}" for s in row] for m, row in found.items()}


def _synergy(names):
  rows, columns = _of_sources(names), list(_sources(names))
  better = dict.fromkeys(columns, "high")
  if len(names) > 1:
    columns.append("synergy")
    rows = {m: [*row, f"synergy/{m}"] for m, row in rows.items()}
  return Table(
      "Synergy", columns, rows, "nats",
      "All columns estimate log p(x_m), the modality of the row alone, from below; behind the bar "
      "stands whose posterior proposes the samples. So the last is no conditional likelihood, "
      "though its name in the paper (Shi et al. 2019) looks like one. Synergy is the first minus "
      "the second: above 0, all modalities together explain x_m better than it does itself. The "
      "first has K samples of each component of its posterior, the others K. A mixture of experts "
      "has those of the second among them: where the other experts propose nothing of weight, the "
      "two are equal." + _SCALES, better)


def _conditionals(names):
  rows = {f"{m} | {n}": [f"predictive/{m}_given_{n}", f"ratio/{m}_given_{n}"]
          for m in names for n in names if n != m}
  return [Table(
      "One modality given another", ["predictive", "ratio"], rows, "nats",
      "Predictive: log E p(x_m | z) over the posterior q(z | x_n), as good as that posterior is. "
      "Ratio: log p(x_m, x_n) - log p(x_n), the model's own conditional; a difference of two lower "
      "bounds, and so no bound." + _SCALES, {"predictive": "high"})] if rows else []


def _joint():
  bounds = [bound.__name__ for bound in objectives.BOUNDS]
  return Table(
      "All modalities", bounds, {"log p(x_1..M)": [f"joint/{bound}" for bound in bounds]}, "nats",
      "Lower bounds, the last the tightest, with likelihood weights of 1." + _SCALES,
      dict.fromkeys(bounds, "high"))


def _effective_sample_sizes(names):
  about = ("How many samples carry an estimate on average, from 1 to all that were drawn. Near 1 a "
           "single sample decides, and the bound may lie far below.")
  joint = ["joint/iwae_tight/ess"] + [None] * (len(_sources(names)) - 1)
  rows = {f"{m} | {n}": [f"predictive/{m}_given_{n}/ess", f"ratio/{m}_given_{n}/ess"]
          for m in names for n in names if n != m}
  tables = [Table("Effective sample sizes", list(_sources(names)),
                  {**_of_sources(names, "/ess"), "all modalities": joint}, about=about)]
  return tables + [Table("Effective sample sizes of the conditionals", ["predictive", "ratio"],
                         rows, about=about)] if rows else tables


def _ceilings(figures, names):
  columns = ["scale", "size", "ceiling"]
  rows = {m: [f"{c}/{m}" if f"{c}/{m}" in figures else None for c in columns] for m in names}
  return Table(
      "What a log-likelihood can be at most", columns, rows,
      about="Scale: b of a Laplace likelihood, or the standard deviation of a Gaussian one. Size: "
      "how many numbers an observation has. Ceiling, in nats: the log-density of a perfect "
      "reconstruction, which no log p(x_m) exceeds." + _SCALES)


def _verdict(figures, names, m):
  """Whether there is synergy for a modality, as a sentence."""
  value, error, num = figures[f"synergy/{m}"]
  resolved = abs(value) > _PRECISION * abs(figures[f"log_p_{m}/from_{m}"][0])
  measured = f"{abs(value):.4g} nats (standard error {error:.2g}, {num} examples)"
  everything = ", ".join(names) if len(names) == 2 else "all modalities"
  together, alone = f"q(z | {everything})", f"q(z | {m})"
  if resolved and value > 2 * error:
    return f"Synergy for {m}: {together} explains it better than {alone}, by {measured}."
  if resolved and value < -2 * error:
    return f"No synergy for {m}: {together} explains it worse than {alone}, by {measured}."
  return (f"Synergy for {m} is open: {together} and {alone} differ by {measured}, which may be "
          "chance or rounding.")


def _loose(figures):
  """How many estimates rest on few samples, as a sentence."""
  sizes = [value for figure, (value, _, _) in figures.items() if figure.endswith("/ess")]
  few = sum(size < _FEW for size in sizes)
  return [f"{few} of {len(sizes)} estimates rest on fewer than {_FEW} effective samples on "
          "average: their bounds may lie far below. See the effective sample sizes."] if few else []
