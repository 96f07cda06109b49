import numpy as np

from tf_mmvae.evaluation import drawing

PICTURE, WORDS, MARGIN, HEADER = 128, 180, 10, 30  # pixels


def middle(table, row, left):
  return table[HEADER + row * (PICTURE + MARGIN) + PICTURE // 2, left + PICTURE // 2].tolist()


def test_captions_of_any_kind():
  """None reaches into the next row or column."""
  cells = ["bird " * 200, "", "W" * 500, "", "ein Vögelchen \N{BIRD} \ufffd\n\tnext"]
  table = drawing.draw_table({"caption": cells, "other": [""] * 5})
  assert table.shape == (HEADER + 5 * (PICTURE + MARGIN), 2 * WORDS + 3 * MARGIN, 3)
  for row, cell in enumerate(cells):
    top = HEADER + row * (PICTURE + MARGIN)
    assert (table[top:top + PICTURE].min() < 100) == bool(cell)
    assert table[top + PICTURE:top + PICTURE + MARGIN].min() == 255
  assert table[HEADER:, MARGIN + WORDS:].min() == 255


def test_values_outside_the_range_are_clipped():
  table = drawing.draw_table({"a": [np.full([4, 4, 3], 7.)], "b": [np.full([4, 4, 1], -7.)]})
  assert middle(table, 0, MARGIN) == [255, 255, 255]
  assert middle(table, 0, 2 * MARGIN + PICTURE) == [0, 0, 0]


def test_a_vector_is_drawn_as_stripes():
  picture = drawing.draw_table({"vector": [np.array([0., 5., 10., 5.])]})
  row = picture[HEADER + PICTURE // 2, MARGIN:MARGIN + PICTURE, 0].astype(int)
  at = [row[PICTURE * (2 * i + 1) // 8] for i in range(4)]
  assert at[0] < 20 and at[2] > 235 and abs(at[1] - 128) < 20 and abs(at[3] - 128) < 20
