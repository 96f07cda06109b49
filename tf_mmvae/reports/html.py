"""Pages of HTML that need nothing beside them: tables, and figures with their errors."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

escape = html.escape

_STYLE = """
body { color: #222; background: #fff; font: 15px/1.5 system-ui, sans-serif; margin: 2em;
       width: fit-content; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin: 2.2em 0 .4em; }
p, li { max-width: 46em; margin: .4em 0; }
table { border-collapse: separate; border-spacing: 0; margin: .8em 0;
        font-variant-numeric: tabular-nums; }
th, td { padding: .25em .9em; border-bottom: 1px solid #e4e4e4; text-align: right;
         vertical-align: top; }
td { white-space: nowrap; } .words { white-space: normal; text-align: left; }
th { font-weight: 500; } th:first-child { text-align: left; }
thead th { position: sticky; top: 0; z-index: 1; background: #fff; border-bottom-color: #888;
           vertical-align: bottom; }
tbody th { position: sticky; left: 0; background: #fff; }
tbody tr:hover > * { background: #f4f6f8; }
td.best { font-weight: 700; background: #e8f3ea; }
[title] { text-decoration: underline dotted #999; text-underline-offset: .25em; }
.hints [title] { text-decoration: none; cursor: help; }
.quiet { color: #666; }
img { max-width: 100%; }
"""


class Cell(NamedTuple):
  """What a table shows in one place: text that stands out if it is `best`, and what to know of it.

  `words` are read from the left and may wrap, unlike figures.
  """

  text: str
  best: bool = False
  note: str = ""
  words: bool = False


def page(title: str, body: str) -> str:
  """A whole page with its style. title: text; body: HTML."""
  return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
          f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
          f"<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n")


def table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str | Cell | None]]],
          corner: str = "") -> str:
  """A table as HTML, with headings that stay in sight.

  Args:
    columns: text, the heading of each.
    rows: pairs of a row's name and its cells, each text, a `Cell`, or None for nothing there; a
      list.
    corner: text above the names of the rows.
  """
  head = f"<th>{escape(corner)}</th>"
  for i, text in enumerate(columns):
    words = rows and all(isinstance(cells[i], Cell) and cells[i].words for _, cells in rows)
    head += f"<th{' class=words' if words else ''}>{escape(text)}</th>"
  lines = [f"<tr><th>{escape(name)}</th>{''.join(map(_cell, cells))}</tr>" for name, cells in rows]
  return (f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines)
          + "\n</tbody>\n</table>")


def figure(value: float | None, error: float | None = None, unit: str = "") -> str:
  """A figure as text, with the digits that its error leaves: "58.2 ± 0.5 %", "-2061 ± 5".

  Args:
    value: None or NaN is shown as a dash.
    error: standard error; None or NaN where there is none.
    unit: "%" shows a share as per cent; any other is for a heading to say.
  """
  if value is None or math.isnan(value):
    return "–"
  scale, sign = (100, " %") if unit == "%" else (1, "")
  value = value * scale
  if error is None or not math.isfinite(error):
    return f"{_rounded(value, None)}{sign}"
  error = error * scale
  return f"{_rounded(value, error)} ± {_rounded(error, error)}{sign}"


def _rounded(value, error):
  """To the error's first digit, or second if it begins below 3.55; integers are kept; else 4."""
  if not math.isfinite(value) or not 1e-6 < (error or abs(value) or 1) < 1e7 > abs(value):
    return f"{value:.4g}"
  if not error:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
  first, _, exponent = f"{error:.2e}".partition("e")
  decimals = max(0, (1 if float(first) < 3.55 else 0) - int(exponent))
  return f"{round(value, decimals) + 0.0:.{decimals}f}"  # without a minus before zero


def _cell(cell):
  if cell is None:
    return "<td></td>"
  cell = cell if isinstance(cell, Cell) else Cell(cell)
  names = [name for name, is_so in (("best", cell.best), ("words", cell.words)) if is_so]
  kind = f' class="{" ".join(names)}"' if names else ""
  note = f' title="{escape(cell.note)}"' if cell.note else ""
  inner = f"<span{note}>{escape(cell.text)}</span>" if note else escape(cell.text)
  return f"<td{kind}>{inner}</td>"
