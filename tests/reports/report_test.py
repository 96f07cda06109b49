import html.parser
import re

import numpy as np
from PIL import Image

from tf_mmvae.metrics.findings import Findings, Picture, Table
from tf_mmvae.reports import report
from tf_mmvae.reports.results import Results

ENTRY = {"title": "Coherence <of> birds", "weights": "w", "key": "k", "settings": {},
         "examples": "birds, 9 examples"}


class Nesting(html.parser.HTMLParser):
  """Checks that what is opened is closed."""

  def __init__(self, text):
    super().__init__()
    self.open = []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    if tag not in ("meta", "img"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def page(tmp_path, findings, **more):
  results = Results(tmp_path)
  results.write("agreement", findings, **ENTRY)
  for metric, error in more.items():
    results.write_error(metric, error, **{**ENTRY, "title": metric})
  Image.fromarray(np.zeros([2, 2, 3], np.uint8)).save(tmp_path / "panel.png")
  path = report.write(results, tmp_path, "a & b", ["Weights after step 5."],
                      {"translations": tmp_path / "panel.png"}, {"Configuration": "K < 3"})
  text = (tmp_path / "report.html").read_text()
  assert path == str(tmp_path / "report.html")
  Nesting(text)
  return text


def test_the_page_shows_all_and_needs_nothing_beside_it(tmp_path):
  table = Table("Right", ["agreement", "chance"], {"one": ["f", "g"], "two": [None, "g"]}, "%",
                "How often & why.")
  detail = Table("By class", ["0"], {"one": ["f"]}, "nats", detail=True)
  findings = Findings(
      {"f": (0.5, 0.01, 9), "g": (0.104, 0.002, 9), "only_here": (float("nan"), 0., 9)},
      (table, detail), (Picture("Ways", np.zeros([2, 2, 3], np.uint8), "Left to right."),),
      {"g": 'judge "b" is unsure'}, ("Nobody judges <sound>.",))
  text = page(tmp_path, findings)
  for expected in ("<h1>a &amp; b</h1>", "Coherence &lt;of&gt; birds", "50.0 ± 1.0 %",
                   "10.40 ± 0.20 % *", "* judge &quot;b&quot; is unsure", "How often &amp; why.",
                   "Nobody judges &lt;sound&gt;.", "Left to right.", "K &lt; 3", "only_here",
                   "birds, 9 examples", "Weights after step 5.",
                   "<summary>By class, nats</summary>", "<summary>All 3 figures</summary>"):
    assert expected in text, expected
  assert len(re.findall(r'src="data:image/png;base64,', text)) == 2
  assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_a_metric_that_failed_is_said(tmp_path):
  text = page(tmp_path, Findings({}), probes="no label 'class'")
  assert "Not measured: no label &#x27;class&#x27;" in text
  assert '<a href="#probes">probes</a> (not measured)' in text
