import numpy as np
import pytest
from PIL import Image

from tf_mmvae import pictures


def saved(path, image, **how):
  image.save(path, **how)
  return pictures.read(path, (8, 12, 3))


def halves(mode="RGB", left="black", right="white"):
  """A picture 24 wide and 16 high of two colours."""
  image = Image.new(mode, (24, 16), left)
  image.paste(right, (12, 0, 24, 16))
  return image


def test_the_shape_is_height_width_channels(tmp_path):
  pixels = saved(tmp_path / "a.png", halves())
  assert pixels.shape == (8, 12, 3) and pixels.dtype == np.uint8
  assert pixels[:, :5].max() < 10 and pixels[:, 7:].min() > 245
  grey = pictures.read(tmp_path / "a.png", (8, 12, 1))
  np.testing.assert_array_equal(grey[..., 0], pixels[..., 0])
  assert pictures.size(tmp_path / "a.png") == (24, 16)


def test_turned_as_exif_says(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # turn it clockwise to see it
  turned = halves().transpose(Image.Transpose.ROTATE_90)
  pixels = saved(tmp_path / "a.jpg", turned, exif=exif, quality=95)
  assert pixels[:, :5].max() < 30 and pixels[:, 7:].min() > 225


def test_transparent_is_white(tmp_path):
  pixels = saved(tmp_path / "a.png", halves("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)))
  assert pixels[:, :5].max() < 10 and pixels[:, 7:].min() > 245


def test_16_bits_of_grey_are_not_cut_off(tmp_path):
  image = Image.fromarray(np.full([16, 24], 128 * 257, np.uint16))
  assert np.all(saved(tmp_path / "a.png", image) == 128)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "no file", "folder"])
def test_what_is_no_picture(tmp_path, damage):
  path = tmp_path / "a.png"
  halves().save(path)
  content = path.read_bytes()
  path.write_bytes({"cut": content[:60], "text": b"no"}.get(damage, b""))
  if damage in ("no file", "folder"):
    path.unlink()
  if damage == "folder":
    path.mkdir()
  with pytest.raises(ValueError, match=r"^\S+a.png is not a readable picture: [^\n]+$"):
    pictures.read(path, (8, 12, 3))


def test_any_damage_is_a_value_error(tmp_path):
  """Pillow's decoders raise errors of many kinds."""
  rng = np.random.default_rng(0)
  for suffix in (".png", ".jpg", ".gif", ".tif", ".webp", ".bmp"):
    path = tmp_path / f"a{suffix}"
    halves().save(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(30):
      damaged = content.copy()
      damaged[rng.integers(0, len(content), 8)] = rng.integers(0, 256, 8)
      path.write_bytes(damaged.tobytes())
      try:
        assert pictures.read(path, (8, 12, 3)).shape == (8, 12, 3)
      except ValueError as error:
        assert "is not a readable picture" in str(error)
