import numpy as np
import pytest

from tf_mmvae.views.viewers import NearestPictures

NUM, SIZE = 50, 7


def album(seed, offset=0.):
  """Vectors far from 0, and pictures of which each says which it is."""
  vectors = np.random.default_rng(seed).normal(size=[NUM, SIZE]).astype(np.float32) + offset
  pictures = np.zeros([NUM, 2, 2, 3], np.uint8)
  pictures[:, 0, 0, 0] = np.arange(NUM)
  pictures[:, 1, 1, 1] = seed
  return vectors, pictures


def shown(cells):
  """(number, album) of each picture."""
  assert all(cell.shape == (2, 2, 3) and cell.max() <= 1 for cell in cells)
  return [(round(cell[0, 0, 0] * 255), round(cell[1, 1, 1] * 255)) for cell in cells]


@pytest.mark.parametrize("offset", [0., 1000.])
def test_the_nearest_is_that_of_a_loop(offset):
  vectors, pictures = album(1, np.float32(offset))
  asked = album(2, np.float32(offset))[0]
  expected = []
  for one in asked.astype(np.float64):
    distances = [np.sqrt(sum((a - b)**2 for a, b in zip(one, other, strict=True)))
                 for other in vectors.astype(np.float64)]
    expected.append((int(np.argmin(distances)), 1))
  assert len(set(expected)) > 15
  assert shown(NearestPictures((vectors, pictures))(asked)) == expected


def test_it_is_not_the_angle_that_counts():
  viewer = NearestPictures((np.float32([[1, 1], [9, 8]]), album(1)[1][:2]))
  assert shown(viewer(np.float32([[8, 8], [0, 1]]))) == [(1, 1), (0, 1)]


def test_data_are_shown_as_themselves():
  viewer = NearestPictures(album(1), album(2))
  asked = album(2)[0]
  assert shown(viewer(asked, given=True)) == [(i, 2) for i in range(NUM)]
  assert {seed for _, seed in shown(viewer(asked))} == {1}
  alone = NearestPictures(album(1))
  assert shown(alone(asked, given=True)) == shown(alone(asked))


def test_what_does_not_fit():
  vectors, pictures = album(1)
  for made in ((vectors[1:], pictures), (vectors[:0], pictures[:0])):
    with pytest.raises(ValueError, match="expected as many pictures as vectors, at least one, got"):
      NearestPictures(made)
  with pytest.raises(ValueError, match=r"expected vectors of 7 numbers, got \[6\]: make"):
    NearestPictures((vectors, pictures))(vectors[:, 1:])
