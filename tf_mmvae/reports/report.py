"""One page that a person opens and understands: all that an evaluation found."""

import base64
import os
from collections.abc import Mapping, Sequence

from tf_mmvae.reports import html
from tf_mmvae.reports.results import Results
from tf_mmvae.run_dir import replacing


def write(found: Results, directory: str | os.PathLike, title: str, facts: Sequence[str],
          pictures: Mapping[str, str | os.PathLike], appendix: Mapping[str, str]) -> str:
  """Writes `report.html`, which needs no file beside it; returns its path.

  Args:
    found: `Results`.
    directory: of these, where the page goes.
    title: of the page.
    facts: sentences that come first: what was measured, on what.
    pictures: {title: path of a PNG file} that come after them.
    appendix: {title: text} that is folded at the end.
  """
  body = [f"<p>{html.escape(fact)}</p>" for fact in facts]
  body.append("<ul>" + "".join(
      f'<li><a href="#{html.escape(metric)}">{html.escape(entry["title"])}</a>'
      f'{" (not measured)" if "error" in entry else ""}</li>'
      for metric, entry in found.entries.items()) + "</ul>")
  for metric, entry in found.entries.items():
    body += _section(metric, entry, found.figures(metric), directory)
  if pictures:
    body.append("<h2>What the model makes</h2>")
    body += [_folded(of_one, _image(path), i == 0)
             for i, (of_one, path) in enumerate(pictures.items())]
  body.append("<h2>Besides</h2>")
  body += [_folded(of_one, f"<pre>{html.escape(text)}</pre>") for of_one, text in appendix.items()]
  path = os.path.join(directory, "report.html")
  with replacing(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
    file.write(html.page(title, "\n".join(body)))
  return path


def _section(metric, entry, figures, directory):
  """A metric's part of the page, as pieces of HTML."""
  yield f'<h2 id="{html.escape(metric)}">{html.escape(entry["title"])}</h2>'
  if "error" in entry:
    yield f"<p>Not measured: {html.escape(entry['error'])}</p>"
    return
  yield f'<p class="quiet">{html.escape(entry["examples"])}; {html.escape(metric)}.json</p>'
  yield from (f"<p>{html.escape(remark)}</p>" for remark in entry["remarks"])
  for table in entry["tables"]:
    title = table["title"] + (f", {table['unit']}" if table["unit"] not in ("", "%") else "")
    inner = "".join(_table(table, figures))
    if table["detail"]:
      yield _folded(title, inner)
    else:
      yield f"<h3>{html.escape(title)}</h3>{inner}"
  for picture in entry["pictures"]:
    yield f"<h3>{html.escape(picture['title'])}</h3>"
    yield f"<p>{html.escape(picture['about'])}</p>" if picture["about"] else ""
    yield _image(os.path.join(directory, picture["file"]))
  rows = [(name, [_cell(figure, ""), str(figure["n"]),
                  html.Cell(figure.get("note", ""), words=True)])
          for name, figure in figures.items()]
  yield _folded(f"All {len(rows)} figures", html.table(["", "n", ""], rows, "figure"))


def _table(table, figures):
  if table["about"]:
    yield f"<p>{html.escape(table['about'])}</p>"
  yield html.table(table["columns"], [
      (name, [None if cell is None else _cell(figures[cell], table["unit"]) for cell in cells])
      for name, cells in table["rows"].items()])
  shown = {cell for cells in table["rows"].values() for cell in cells if cell}
  notes = {figures[cell]["note"] for cell in shown if "note" in figures[cell]}
  yield from (f'<p class="quiet">* {html.escape(note)}</p>' for note in sorted(notes))


def _cell(figure, unit):
  note = figure.get("note", "")
  said = html.figure(figure["value"], figure["stderr"], unit)
  return html.Cell(said + (" *" if note else ""), note=note)


def _folded(title, inner, is_open=False):
  return (f"<details{' open' if is_open else ''}><summary>{html.escape(title)}</summary>{inner}"
          "</details>")


def _image(path):
  with open(path, "rb") as file:
    data = base64.b64encode(file.read()).decode()
  return f'<img src="data:image/png;base64,{data}" alt="{html.escape(os.path.basename(path))}">'
