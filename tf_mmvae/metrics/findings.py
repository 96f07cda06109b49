"""What a metric finds: figures with their errors, and what shows and explains them."""

from typing import NamedTuple

import numpy as np

Figure = tuple[float, float, int]  # value, standard error, number of observations


class Table(NamedTuple):
  """Figures in rows and columns, as a report shows them."""

  title: str
  columns: list[str]  # names
  rows: dict[str, list[str | None]]  # {name: a figure, or None, a column}
  unit: str = ""  # "%" shows shares as per cent; "nats" and others stand in the title
  about: str = ""  # how to read it
  better: dict[str, str] = {}  # {column: "high" or "low"} of those that rank models
  detail: bool = False  # for a second look: folded in the report, and not on the terminal


class Picture(NamedTuple):
  """A drawing, as a report shows it."""

  title: str
  pixels: np.ndarray  # uint8 [H, W, 3]
  about: str = ""  # how to read it


class Findings(NamedTuple):
  """What a metric, a function (model, dataset), returns.

  Figures that stand in no table are kept all the same.
  """

  figures: dict[str, Figure]
  tables: tuple[Table, ...] = ()
  pictures: tuple[Picture, ...] = ()
  notes: dict[str, str] = {}  # {figure: what to know where it is read}
  remarks: tuple[str, ...] = ()  # sentences about all of it
