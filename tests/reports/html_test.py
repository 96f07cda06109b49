from html import parser

import pytest

from tf_mmvae.reports import html

NAN = float("nan")


@pytest.mark.parametrize("given, text", [
    ((0.5823, 0.00493, "%"), "58.2 ± 0.5 %"),
    ((-2060.996, 4.62), "-2061 ± 5"),
    ((-2060.996, 4.62, "nats"), "-2061 ± 5"),
    ((12.34, 1.23), "12.3 ± 1.2"),  # two digits where one would be coarse
    ((0.96, 0.0354), "0.960 ± 0.035"),
    ((0.96, 0.0356), "0.96 ± 0.04"),
    ((0.96, 0.0096), "0.960 ± 0.010"),
    ((1234.6, 35.2), "1235 ± 35"),  # integers are kept
    ((-0.0004, 0.05), "0.00 ± 0.05"),
    ((1.0, 0.0, "%"), "100 ± 0 %"),
    ((0.0, 0.0), "0 ± 0"),
    ((0.25, NAN, "%"), "25 %"),
    ((0.23456,), "0.2346"),
    ((0.23456, float("inf")), "0.2346"),
    ((-123456.7, None), "-123457"),
    ((1.5e12, 1e10), "1.5e+12 ± 1e+10"),
    ((3e-9, 1e-10), "3e-09 ± 1e-10"),
    ((float("inf"), NAN), "inf"),
    ((None, NAN), "–"),
    ((NAN, 1.0, "%"), "–"),
])
def test_figure(given, text):
  assert html.figure(*given) == text


class Tags(parser.HTMLParser):
  """Reads a page back: tags that are open, {tag: texts}, and the attributes of each tag."""

  def __init__(self, text):
    super().__init__()
    self.open, self.texts, self.attributes = [], {}, []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.attributes.append((tag, dict(attrs)))
    if tag != "meta":
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open:
      self.texts.setdefault(self.open[-1], []).append(data)


def test_a_page_holds_what_it_is_given():
  table = html.table(["a <b>", "c"], [
      ("row & 1", ["1", html.Cell("2", best=True)]),
      ("row 2", [None, html.Cell("3", note='said "so"')])], corner="figure")
  tags = Tags(html.page("Runs <1>", table))
  assert tags.open == []
  assert tags.texts["h1"] == tags.texts["title"] == ["Runs <1>"]
  assert tags.texts["th"] == ["figure", "a <b>", "c", "row & 1", "row 2"]
  assert tags.texts["td"] == ["1", "2"]
  assert tags.texts["span"] == ["3"]
  assert [a for tag, a in tags.attributes if tag == "td"] == [{}, {"class": "best"}, {}, {}]
  assert ("span", {"title": 'said "so"'}) in tags.attributes


def test_words_and_the_best_of_them():
  tags = Tags(html.table(["a"], [("b", [html.Cell("c", best=True, words=True)])]))
  assert ("td", {"class": "best words"}) in tags.attributes


def test_a_heading_stands_as_its_column_does():
  words = html.Cell("b", words=True)
  tags = Tags(html.table(["a", "b"], [("c", [words, words]), ("d", [words, "1"])]))
  assert [a for tag, a in tags.attributes if tag == "th"] == [{}, {"class": "words"}, {}, {}, {}]


def test_a_page_needs_nothing_beside_it():
  tags = Tags(html.page("a", html.table(["b"], [])))
  assert not [a for _, a in tags.attributes if {"src", "href"} & a.keys()]
  assert "url(" not in html.page("a", "") and "@import" not in html.page("a", "")
