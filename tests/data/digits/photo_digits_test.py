import numpy as np
import pytest
from PIL import Image

from tests.data.cub.dataset_test import REAL_DATA
from tests.data.digits import mnist_test
from tf_mmvae.data.digits import photo_digits

SIZES = {"train": [(40, 33), (32, 50), (60, 60)], "test": [(35, 35)]}  # height, width


def photograph(part, number):
  """Every pixel differs from every other of its photograph."""
  height, width = SIZES[part][number]
  y, x = np.mgrid[:height, :width]
  return np.stack([4 * y, 4 * x, np.full_like(x, 50 * number + 10)], -1).astype(np.uint8)


def write_photos(manual_dir, suffix="jpg"):
  for part, sizes in SIZES.items():
    (manual_dir / "photos" / part).mkdir(parents=True)
    for number in range(len(sizes)):
      path = manual_dir / "photos" / part / f"{number}.jpg"
      Image.fromarray(photograph(part, number)).save(path, quality=95)


@pytest.fixture
def source(tmp_path):
  mnist_test.write_source(tmp_path)
  write_photos(tmp_path)
  return tmp_path


@pytest.fixture
def exact(source, monkeypatch):
  """Photographs without the losses of JPEG."""
  monkeypatch.setattr(photo_digits, "photos", lambda part, *_: [
      photograph(part, number) for number in range(len(SIZES[part]))])
  return source


def crop_of(picture, digit, photos):
  """(photograph, top, left) of the crop that a digit is over, found by looking for it."""
  size = len(picture)
  margin = (size - 28) // 2
  digit = np.pad(digit.astype(float), margin)[..., np.newaxis]
  found = [
      (number, top, left) for number, photo in enumerate(photos)
      for top in range(photo.shape[0] - size + 1) for left in range(photo.shape[1] - size + 1)
      if np.abs(np.abs(photo[top:top + size, left:left + size] - digit) - picture).max() < 1e-3]
  assert len(found) == 1
  return found[0]


def whole(data):
  ((x, y, _),) = data.batches(10000)
  return ({name: value.numpy() for name, value in x.items()},
          {name: value.numpy() for name, value in y.items()})


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_are_blended_by_the_absolute_difference(exact, split):
  x, y = whole(photo_digits.mnist_photo(split, exact))
  images, labels = mnist_test.digits(split)
  photos = [photograph(split, number) for number in range(len(SIZES[split]))]
  np.testing.assert_allclose(x["mnist"][..., 0], images[y["mnist_index"]] / 255, rtol=1e-6)
  np.testing.assert_array_equal(labels[y["photo_index"]], y["digit"])
  assert np.all(y["mnist_index"] != y["photo_index"])
  crops = [crop_of(255 * picture, images[index], photos)
           for picture, index in zip(x["photo"], y["photo_index"], strict=True)]
  assert {crop[0] for crop in crops} == set(range(len(photos)))
  assert len(set(crops)) > 8  # of 16 places in the smallest


def test_a_crop_belongs_to_its_digit_whatever_the_part(exact):
  whole_x, whole_y = whole(photo_digits.mnist_photo("train", exact, seed=3))
  part_x, part_y = whole(photo_digits.mnist_photo("train[50%:]", exact, seed=3))
  pictures = dict(zip(whole_y["photo_index"].tolist(), whole_x["photo"], strict=True))
  assert len(part_y["photo_index"]) == 30
  for index, picture in zip(part_y["photo_index"].tolist(), part_x["photo"], strict=True):
    np.testing.assert_array_equal(picture, pictures[30 + index])
  other, of_other = whole(photo_digits.mnist_photo("train", exact, seed=4))
  others = dict(zip(of_other["photo_index"].tolist(), other["photo"], strict=True))
  assert np.mean([np.any(others[i] != pictures[i]) for i in pictures]) > 0.8


def test_more_permutations_are_more_pairs_of_the_same_pictures(exact):
  data = photo_digits.mnist_photo("train", exact, num_permutations=4, max_per_class=5)
  x, y = whole(data)
  assert data.num_examples == 4 * 10 * 5
  assert len(np.unique(x["photo"], axis=0)) == 50


def test_views_have_photographs_of_their_own_and_digits_are_stencils(exact):
  x, y = whole(photo_digits.polymnist("test", 3, exact))
  images, labels = mnist_test.digits("test")
  assert list(x) == ["view0", "view1", "view2"]
  for view in range(3):
    index = y[f"view{view}_index"]
    np.testing.assert_array_equal(labels[index], y["digit"])
    assert x[f"view{view}"].shape == (30, 28, 28, 3)
    for picture, i in zip(x[f"view{view}"], index, strict=True):
      stencil = np.where(images[i] > 127, 255, 0)  # the noise of the digits is below one half
      number, _, _ = crop_of(255 * picture, stencil, [photograph("train", view)])
      assert number == 0
  indices = np.stack([y[f"view{view}_index"] for view in range(3)])
  assert np.all(np.diff(np.sort(indices, axis=0), axis=0) > 0)


@pytest.mark.parametrize("num", [0, 4])
def test_as_many_views_as_photographs(exact, num):
  with pytest.raises(ValueError, match=f"expected 1 to 3 views, .* got {num}"):
    photo_digits.polymnist("train", num, exact)


def test_files_are_read_in_the_order_of_their_names(source):
  found = photo_digits.photos("train", source)
  for number, photo in enumerate(found):
    assert np.abs(photo.astype(int) - photograph("train", number)).mean() < 4


def test_no_photographs(source):
  for path in (source / "photos" / "test").iterdir():
    path.unlink()
  with pytest.raises(FileNotFoundError, match=r"photos/test has no \*.jpg: put photographs there"):
    photo_digits.mnist_photo("test", source)


def test_a_file_that_is_no_photograph(source):
  (source / "photos" / "train" / "5.jpg").write_text("no photograph")
  with pytest.raises(ValueError, match="5.jpg is not a readable photograph"):
    photo_digits.mnist_photo("train", source)


def test_a_photograph_that_is_too_small(source):
  Image.new("RGB", (100, 31)).save(source / "photos" / "train" / "5.jpg")
  with pytest.raises(ValueError, match="5.jpg is smaller than 32 x 32"):
    photo_digits.polymnist("train", 1, source)


@pytest.mark.parametrize("split", ["train[", "validation", "train+test"])
def test_no_such_split(source, split):
  with pytest.raises(ValueError, match="data set 'mnist': expected a"):
    photo_digits.mnist_photo(split, source)


@pytest.mark.skipif(not (REAL_DATA / "photos").is_dir(), reason="the real photographs are not here")
def test_the_real_photographs():
  data = photo_digits.mnist_photo("test", REAL_DATA)
  assert data.num_examples == 10000
  pictures = next(iter(data.subset(np.arange(0, 10000, 100)).batches(100)))[0]["photo"].numpy()
  assert 0 <= pictures.min() < 0.05 < 0.95 < pictures.max() <= 1
  assert pictures.std((1, 2)).mean() > 0.1
