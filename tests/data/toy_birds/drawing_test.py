import numpy as np
import pytest

from tf_mmvae.data.toy_birds import attributes, drawing


@pytest.fixture
def bird():
  return dict.fromkeys(attributes.ATTRIBUTES, 0)


def test_every_value_of_every_attribute_changes_the_picture(bird):
  for name, values in attributes.ATTRIBUTES.items():
    pictures = {drawing.draw({**bird, name: value}).tobytes() for value in range(len(values))}
    assert len(pictures) == len(values), name


def test_a_picture_is_64_pixels_square_and_not_flat(bird):
  picture = drawing.draw(bird)
  assert picture.shape == (64, 64, 3)
  assert picture.dtype == np.uint8
  assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_a_bird_that_faces_left_is_the_mirror_image():
  for (facing, *rest), geometry in drawing.geometries().items():
    if facing == 0:
      mirror = drawing.geometries()[(1, *rest)].background[:, ::-1]
      np.testing.assert_array_equal(geometry.background, mirror)


def test_no_shift_cuts_a_bird():
  for geometry in drawing.geometries().values():
    inside = slice(attributes.MAX_SHIFT, -attributes.MAX_SHIFT)
    touched = geometry.background < 1
    assert touched.sum() == touched[inside, inside].sum()


def test_a_shift_moves_the_bird_by_pixels():
  geometry = next(iter(drawing.geometries().values()))
  moved = geometry.shifted(right=2, down=-1)
  np.testing.assert_array_equal(moved.parts[:, 4:40, 7:57], geometry.parts[:, 5:41, 5:55])
  np.testing.assert_array_equal(moved.fixed[4:40, 7:57], geometry.fixed[5:41, 5:55])
  np.testing.assert_array_equal(moved.background[4:40, 7:57], geometry.background[5:41, 5:55])


def test_a_pixel_is_shared_out_at_most_once():
  for geometry in drawing.geometries().values():
    assert geometry.parts.min() >= 0
    assert (geometry.background + geometry.parts.sum(0)).max() <= 1 + 1e-6


def test_every_part_is_a_large_region():
  for key, geometry in drawing.geometries().items():
    smallest = 60 if key[drawing.GEOMETRY.index("size")] == 0 else 130  # pixels
    assert geometry.parts.sum((1, 2)).min() > smallest, key


def test_colours_are_far_apart_and_far_from_the_scenes():
  distances = np.linalg.norm(drawing.PALETTE[:, None] - drawing.PALETTE, axis=-1)
  assert distances[~np.eye(len(distances), dtype=bool)].min() > 0.35
  scenes = drawing.scenes().reshape(-1, 1, 3)
  assert np.linalg.norm(scenes - drawing.PALETTE, axis=-1).min() > 0.2


def test_attributes_drawn_by_lot_take_every_value_about_as_often():
  rng = np.random.default_rng(0)
  birds = [attributes.draw_by_lot(rng) for _ in range(4000)]
  for name, values in attributes.ATTRIBUTES.items():
    counts = np.bincount([bird[name] for bird in birds], minlength=len(values))
    expected = len(birds) / len(values)
    assert abs(counts - expected).max() < 5 * np.sqrt(expected), name
