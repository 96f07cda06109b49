import numpy as np
import pytest

from tf_mmvae.views import drawing

MARGIN, HALF = 10, 5  # pixels
LONG = ("this bird has a very long orange beak with a black tip, white wings with dark grey "
        "feathers at their ends, a short tail, pink webbed feet and, as far as one can tell from "
        "the side, a yellow ring around each of its small dark eyes.")
WORDS = ["", "a red bird.", LONG, "bird " * 200, "W" * 500,
         "ein Vögelchen \N{BIRD} \ufffd\n\tnext"]
BLUE = [226, 234, 246]


def cell(value):
  return np.asarray(drawing.draw_cell(value))


@pytest.mark.parametrize("text", WORDS)
def test_words_are_shown_in_full(text):
  """No letter touches the right or the lower edge, and each line that they need has ink."""
  drawn = cell(text)
  assert drawn[:, -2:].min() == drawn[-2:].min() == 255
  inked = (drawn.min((1, 2)) < 128).astype(int)
  letters = len(" ".join(text.split()))
  assert np.sum(np.diff(inked) == 1) >= letters / 31  # with the space between lines
  assert drawn.shape[1] < 300 or text[:1] == "W"


def test_cells_stand_where_no_other_reaches():
  """In rows as high and columns as wide as the largest cell, with margins."""
  columns = {"words": WORDS[:4], "other": ["x"] * 4, "picture": [np.ones([8, 8, 3])] * 4}
  table = drawing.draw_table(columns)
  titled = [[cell(title), *map(cell, cells)] for title, cells in columns.items()]
  heights = [max(c.shape[0] for c in row) + MARGIN for row in zip(*titled, strict=True)]
  widths = [max(c.shape[1] for c in column) + MARGIN for column in titled]
  assert table.shape == (sum(heights), sum(widths), 3) and table.dtype == np.uint8
  expected = np.full_like(table, 255)
  for column, left in zip(titled, np.cumsum([0, *widths]), strict=False):
    for value, top in zip(column, np.cumsum([0, *heights]), strict=False):
      height, width, _ = value.shape
      expected[top + HALF:top + HALF + height, left + HALF:left + HALF + width] = value
  np.testing.assert_array_equal(table, expected)


def test_what_is_given_stands_on_blue_ground():
  columns = {"a": ["bird", LONG], "b": ["bird", LONG]}
  table = drawing.draw_table(columns, given=["b"])
  half = table.shape[1] // 2
  np.testing.assert_array_equal(table[:, :half], drawing.draw_table({"a": columns["a"]}))
  for corner in (table[0, half], table[-1, half], table[0, -1], table[-1, -1]):
    assert corner.tolist() == BLUE
  assert not np.any(np.all(table[:, half:] == 255, axis=-1))  # also between the letters


@pytest.mark.parametrize("shape, size", [
    ((4, 4, 3), (128, 128)), ((64, 32, 1), (128, 64)), ((3, 12, 2), (32, 128)),
    ((1, 1000, 3), (1, 128))])
def test_pictures_keep_their_proportions(shape, size):
  assert cell(np.full(shape, 0.5)).shape == (*size, 3)
  assert np.all(cell(np.full(shape, 0.5)) == 128)


def test_colours_and_values_outside_the_range():
  assert cell(np.full([4, 4, 3], [7., 0.2, -7.]))[64, 64].tolist() == [255, 51, 0]
  assert cell(np.full([4, 4, 3], np.nan)).max() == 0


def heights(values):
  """How far each bar reaches from the first line of the picture: its top and its end."""
  drawn = cell(np.array(values))
  blue = np.all(drawn == (70, 110, 170), axis=-1)
  at = [int(256 * (i + 0.4) / len(values)) for i in range(len(values))]
  return [(int(np.argmax(blue[:, i])), int(np.flatnonzero(blue[:, i])[-1])) for i in at]


def test_a_vector_is_drawn_as_bars_from_zero():
  assert heights([0., 5., 10.]) == [(107, 107), (53, 107), (0, 107)]
  assert heights([5., 10.]) == [(53, 107), (0, 107)]
  assert heights([3., -1.]) == [(0, 80), (80, 107)]
  assert heights([0., 0.]) == [(0, 0)] * 2
  assert heights([-2.]) == [(0, 107)]
  assert cell(np.arange(1000.)).shape == (128, 256, 3)


def test_lines_stay_lines():
  assert cell("1. a\n2. b").shape[0] > 1.8 * cell("1. a").shape[0]


@pytest.mark.parametrize("value", [*WORDS, np.zeros([8, 4, 1]), np.arange(5.)])
def test_tiles(value):
  tile = drawing.draw_tile(value, 48)
  assert tile.shape == (48, 48, 3) and tile.dtype == np.uint8
  assert (tile.min() < 100) == (not isinstance(value, str) or bool(value))


def test_an_empty_cell_is_paper():
  assert cell(None).min() == 255
  table = drawing.draw_table({"picture": [None, np.zeros([8, 8, 3])]}, given=["picture"])
  title = cell("picture").shape[0] + MARGIN
  row = cell(None).shape[0] + MARGIN
  assert np.all(table[title:title + row] == BLUE) and table[title + row:].min() == 0


def bars_of(page):
  """Where the first row's bars are blue: {column of pixels: number of blue ones}."""
  blue = np.sum(np.all(page == (70, 110, 170), axis=-1), axis=0)
  return {x: int(num) for x, num in enumerate(blue) if num}


def test_bars_are_as_high_as_their_values():
  page = drawing.draw_bars({"a": [1., 4., 0.]}, {"a": [np.nan] * 3}, height=100)
  heights = list(bars_of(page).values())
  assert max(heights) == 101 and sorted(set(heights)) == [1, 26, 101]


def test_bars_have_one_scale_and_whiskers_room():
  one = drawing.draw_bars({"a": [3.], "b": [6.]}, {"a": [0.], "b": [2.]}, height=100)
  half = len(one) // 2
  assert one.dtype == np.uint8 and len(one) % 2 == 0
  top, bottom = (max(bars_of(part).values()) for part in (one[:half], one[half:]))
  assert (top, bottom) == (31, 61)  # of 6 and its whisker up to 10


def test_many_bars_stay_on_a_page():
  for num in (1, 64, 300):
    page = drawing.draw_bars({"a": np.ones(num)}, {"a": np.zeros(num)})
    assert page.shape[1] < 2000 and len(bars_of(page)) >= 2 * num


def test_strips_are_tiles_side_by_side():
  pictures = [np.full([4, 4, 3], level) for level in (0., 0.4, 0.8)]
  strip = np.asarray(drawing.draw_strip(pictures, 20))
  assert strip.shape == (20, 66, 3)
  for i, picture in enumerate(pictures):
    np.testing.assert_array_equal(strip[:, 23 * i:23 * i + 20], drawing.draw_tile(picture, 20))
  assert np.all(strip[:, 20:23] == 255)


def test_drawn_pictures_are_taken_as_they_are():
  strip = drawing.draw_strip([np.zeros([4, 4, 3])] * 5, 40)
  table = drawing.draw_table({"strip": [strip]})
  assert np.sum(np.all(table[-40 - HALF:-HALF] == 0, axis=-1)) == 5 * 40 * 40


def test_words_of_a_size():
  small, large = (drawing.draw_words(LONG, letters, 12) for letters in (90, 30))
  assert small.width > 2 * large.width and large.height > 2 * small.height
  assert drawing.draw_words("a", 30, 24).height > drawing.draw_words("a", 30, 12).height
