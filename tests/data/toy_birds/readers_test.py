import numpy as np
import pytest
from PIL import Image, ImageFilter

from tf_mmvae.data.toy_birds import attributes, drawing, readers

NUM_BIRDS = 300


@pytest.fixture(scope="module")
def labels():
  rng = np.random.default_rng(77001)
  birds = [attributes.draw_by_lot(rng) for _ in range(NUM_BIRDS)]
  return {name: np.array([bird[name] for bird in birds]) for name in attributes.ATTRIBUTES}


@pytest.fixture(scope="module")
def pictures(labels):
  birds = [{name: values[n] for name, values in labels.items()} for n in range(NUM_BIRDS)]
  return np.stack([drawing.draw(bird) for bird in birds])


def _accuracies(read, labels):
  return {name: np.mean(read[name] == values) for name, values in labels.items()}


def test_pictures_are_read_and_other_pictures_by_chance(pictures, labels):
  read = readers.read_pictures(pictures.astype(np.float32) / 255)
  for name, accuracy in _accuracies(read, labels).items():
    assert accuracy >= 0.98, name
  others = {name: np.roll(values, 1) for name, values in read.items()}
  for name, accuracy in _accuracies(others, labels).items():
    assert accuracy < 1 / len(attributes.ATTRIBUTES[name]) + 0.12, name


def test_blurred_and_noisy_pictures_are_read(pictures, labels):
  blur = ImageFilter.GaussianBlur(1)
  blurred = np.stack([np.asarray(Image.fromarray(picture).filter(blur)) for picture in pictures])
  noise = np.random.default_rng(0).normal(0, 0.02, blurred.shape)
  read = readers.read_pictures(blurred / 255 + noise)
  for name in attributes.TOLD:
    assert np.mean(read[name] == labels[name]) >= 0.98, name


def test_the_batch_size_does_not_matter(pictures, labels):
  images = pictures[labels["scene"] == 0][:5].astype(np.float32) / 255
  small, large = (readers.read_pictures(images, batch_size=size) for size in (3, 256))
  for name in attributes.ATTRIBUTES:
    np.testing.assert_array_equal(small[name], large[name])


def test_anything_of_the_right_shape_is_read_as_some_bird():
  images = np.stack([np.zeros([64, 64, 3]), np.ones([64, 64, 3]), np.full([64, 64, 3], 0.5)])
  for name, values in readers.read_pictures(images).items():
    assert values.shape == (3,)
    assert values.min() >= 0
    assert values.max() < len(attributes.ATTRIBUTES[name])
  assert readers.read_pictures(np.zeros([0, 64, 64, 3]))["size"].shape == (0,)


def test_another_shape_is_refused():
  with pytest.raises(ValueError, match=r"expected pictures \[N, 64, 64, 3\], got \[2, 32, 32, 3\]"):
    readers.read_pictures(np.zeros([2, 32, 32, 3]))
