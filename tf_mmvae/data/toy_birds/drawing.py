"""Pictures of toy birds.

Shapes are drawn at four times the size and averaged down, once for each geometry. What stays is
linear in the colours, picture = background * scene + sum_parts part * colour + fixed, so that a
picture costs a few array operations and a reader can fit the same equation backwards.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tf_mmvae.data.toy_birds import attributes

SIZE = 64
PARTS = ("body_colour", "wing_colour", "belly_colour")
GEOMETRY = ("facing", "tilt", "size", "bill_shape", "bill_length")
PALETTE = np.array(attributes.RGB, np.float32) / 255  # [6, 3]

_FINE = 4  # supersampling
_GROUND = 54.0  # the row the feet stand on
_SCALES = (0.7, 1.0)
_TILTS = np.radians((10.0, 38.0))
_BACKGROUND, _BODY, _WING, _BELLY, _BILL, _LEGS, _WHITE, _PUPIL = range(8)
_FIXED = {
  _BILL: (232, 122, 24),
  _LEGS: (150, 84, 40),
  _WHITE: (255, 255, 255),
  _PUPIL: (18, 16, 20),
}

# Closed outlines in pixels of a large bird that faces right, as (forward, up) from the centre.
_TRUNK = ((15, 3), (11, 10), (2, 11), (-9, 8), (-15, 2), (-11, -7), (-1, -12), (9, -10), (15, -4))
_TAIL = ((-8, 6), (-16, 6), (-24, 5), (-25, 1), (-23, -2), (-15, -2), (-9, -4))
_BREAST = ((17, 3), (9, 3), (3, -1), (-4, -2), (-12, -4), (-11, -15), (8, -15), (18, -6))
_FLIGHT = ((7, 5), (3, 8), (-4, 9), (-12, 7), (-20, 2), (-13, -2), (-4, -3.5), (4, -1))
_FEATHERS = (((-17, 2), (-4, 1.5)), ((-13, 5), (-2, 5)), ((-11, -1), (-2, -1.5)))
# Bills from the middle of the head's edge, for a length of 1 along and pixels up.
_BILLS = (
  ((-0.2, 3.4), (1.0, 0.0), (-0.2, -3.4)),
  ((-0.2, 3.6), (0.45, 3.6), (0.85, 1.8), (1.0, -5.2), (0.7, -1.6), (0.4, -2.2), (-0.2, -2.6)),
  ((-0.2, 2.4), (0.4, 2.1), (0.85, 3.2), (1.05, 0.0), (0.85, -3.2), (0.4, -2.1), (-0.2, -2.4)),
)
_BILL_LENGTHS = (6.0, 12.0)
# Two colours of the sky and two of the ground, from top to bottom.
_SCENES = (
  ((158, 202, 232), (206, 226, 234), (164, 198, 122), (138, 178, 98)),
  ((150, 204, 208), (198, 224, 216), (230, 208, 164), (212, 184, 138)),
  ((196, 160, 190), (244, 198, 172), (176, 140, 148), (150, 116, 130)),
  ((160, 166, 186), (196, 200, 212), (150, 156, 168), (128, 134, 148)),
)
_HORIZON = 45.0


class Geometry(NamedTuple):
  """What a picture is before its colours: shares of a pixel, darker where it is shaded."""

  background: np.ndarray  # [64, 64]
  parts: np.ndarray  # [3, 64, 64], in the order of PARTS
  fixed: np.ndarray  # [64, 64, 3], the colours of bill, legs and eye

  def shifted(self, right: int, down: int) -> "Geometry":
    """The same bird some pixels away; the margin is wide enough for MAX_SHIFT."""
    return Geometry(
      np.roll(self.background, (down, right), (0, 1)),
      np.roll(self.parts, (down, right), (1, 2)),
      np.roll(self.fixed, (down, right), (0, 1)),
    )


def draw(bird: Mapping[str, int]) -> np.ndarray:
  """The picture of a bird.

  Args:
    bird: {attribute: int} with every name in ATTRIBUTES.

  Returns:
    uint8 [64, 64, 3].
  """
  geometry = geometries()[tuple(bird[name] for name in GEOMETRY)].shifted(
    bird["shift_right"] - attributes.MAX_SHIFT, bird["shift_down"] - attributes.MAX_SHIFT
  )
  colours = PALETTE[[bird[part] for part in PARTS]]  # [3, 3]
  picture = geometry.background[..., None] * scenes()[bird["scene"]] + geometry.fixed
  picture += np.tensordot(geometry.parts, colours, (0, 0))
  return np.uint8(np.rint(255 * np.clip(picture, 0, 1)))


@functools.cache
def geometries() -> dict[tuple[int, ...], Geometry]:
  """{(facing, tilt, size, bill_shape, bill_length): Geometry} of unshifted birds."""
  sizes = [len(attributes.ATTRIBUTES[name]) for name in GEOMETRY]
  return {index: _geometry(*index) for index in np.ndindex(*sizes)}


@functools.cache
def scenes() -> np.ndarray:
  """Backgrounds, float32 [4, 64, 64, 3] in [0, 1]."""
  row = (np.arange(SIZE) + 0.5)[:, None]
  column = np.arange(SIZE) + 0.5
  pictures = []
  for k, (top, low, near, front) in enumerate(_SCENES):
    horizon = _HORIZON + 1.5 * np.sin(column / 9 + 2 * k)
    sky = np.clip(row / horizon, 0, 1)[..., None]
    ground = np.clip((row - horizon) / (SIZE - _HORIZON), 0, 1)[..., None]
    is_ground = np.clip(row - horizon + 0.5, 0, 1)[..., None]
    pictures.append(
      (1 - is_ground) * ((1 - sky) * np.array(top) + sky * np.array(low))
      + is_ground * ((1 - ground) * np.array(near) + ground * np.array(front))
    )
  return np.float32(np.stack(pictures) / 255)


class _Canvas:
  """Which layer every fine pixel shows, and how bright; points are (x, y) in pixels."""

  def __init__(self):
    self.layer = Image.new("L", (SIZE * _FINE,) * 2, _BACKGROUND)
    self.light = Image.new("L", self.layer.size, 255)

  def fill(self, layer, shapes, edge=150, light=255, inside=None):
    """Paints the union of the shapes with a darker edge, only over layer `inside` if given."""
    mask = Image.new("L", self.layer.size, 0)
    for shape in shapes:
      ImageDraw.Draw(mask).polygon([(x * _FINE, y * _FINE) for x, y in shape], fill=255)
    if inside is not None:
      over = np.asarray(self.layer) == inside
      mask = Image.fromarray(np.where(over, np.asarray(mask), 0).astype(np.uint8))
    self.layer.paste(layer, mask=mask)
    self.light.paste(edge, mask=mask)
    self.light.paste(light, mask=mask.filter(ImageFilter.MinFilter(5)))

  def line(self, layer, points, width, light=255):
    """Draws a line in a layer, or with layer None only its light."""
    points = [(x * _FINE, y * _FINE) for x, y in points]
    if layer is not None:
      ImageDraw.Draw(self.layer).line(points, layer, round(width * _FINE), "curve")
    ImageDraw.Draw(self.light).line(points, light, round(width * _FINE), "curve")

  def shares(self):
    """float32 [8, 64, 64]: how much of a pixel each layer covers, times its light."""
    light = np.asarray(self.light, np.float32) / 255
    layers = np.asarray(self.layer) == np.arange(8)[:, None, None]
    fine = (layers * light).reshape(8, SIZE, _FINE, SIZE, _FINE)
    return fine.mean((2, 4), dtype=np.float32)


def _geometry(facing, tilt, size, bill_shape, bill_length):
  scale = _SCALES[size]
  centre = np.array((32 - 3.5 * scale, _GROUND - 21 * scale))
  head = _place([(13, 7)], centre, scale, _TILTS[tilt])[0]
  canvas = _Canvas()
  _draw_shadow_and_legs(canvas, centre, scale)
  _draw_feathers(canvas, centre, scale, _TILTS[tilt], head)
  # Small bills must still be legible.
  outline = np.array(_BILLS[bill_shape]) * (_BILL_LENGTHS[bill_length], -1) * max(scale, 0.85)
  outline += head + (7.2 * scale, 0.5 * scale)
  canvas.fill(_BILL, [outline if bill_shape == 0 else _smooth(outline)], edge=190)
  _draw_eye(canvas, head + (2.4 * scale, -1.8 * scale), scale)
  shares = canvas.shares()[:, :, :: 1 if facing else -1]
  # The light falls from above.
  below = (np.arange(SIZE)[:, None] - centre[1]) / (20 * scale)
  parts = shares[[_BODY, _WING, _BELLY]] * np.clip(0.94 - 0.1 * below, 0.8, 1.0)
  fixed = sum(shares[k][..., None] * np.array(rgb) / 255 for k, rgb in _FIXED.items())
  return Geometry(shares[_BACKGROUND], np.float32(parts), np.float32(fixed))


def _draw_shadow_and_legs(canvas, centre, scale):
  shadow = _ellipse((centre[0], _GROUND), 14 * scale, 2.2 * scale)
  canvas.fill(_BACKGROUND, [shadow], edge=215, light=205)
  for step in (-3.5, 2.5):
    foot = np.array((centre[0] + scale * step, _GROUND))
    canvas.line(_LEGS, (foot - (0, 14 * scale), foot), 1.1)
    canvas.line(_LEGS, (foot - (1.5 * scale, 0), foot + (3.5 * scale, 0.4)), 1.1)


def _draw_feathers(canvas, centre, scale, angle, head):
  trunk, tail, breast, flight, *feathers = (
    _place(points, centre, scale, angle) for points in (_TRUNK, _TAIL, _BREAST, _FLIGHT, *_FEATHERS)
  )
  skull = _ellipse(head, 8.2 * scale, 8 * scale)
  canvas.fill(_BODY, [_smooth(trunk), _smooth(tail), skull])
  canvas.fill(_BELLY, [_smooth(breast)], edge=235, inside=_BODY)
  canvas.fill(_WING, [_smooth(flight)])
  for feather in feathers:
    canvas.line(None, feather, 0.8, light=190)


def _draw_eye(canvas, eye, scale):
  glint = eye + (0.7 * scale, -0.7 * scale)
  for layer, centre, radius in (
    (_WHITE, eye, 2.7 * scale),
    (_PUPIL, eye + (0.3, 0), 1.8 * scale),
    (_WHITE, glint, 0.7 * scale),
  ):
    canvas.fill(layer, [_ellipse(centre, radius, radius)], edge=255)


def _place(points, centre, scale, angle):
  """Points (forward, up) of a bird -> points (x, y) [P, 2] of the picture."""
  forward = np.array((np.cos(angle), -np.sin(angle)))
  up = np.array((-np.sin(angle), -np.cos(angle)))
  points = np.asarray(points, float)
  return centre + scale * (points[:, :1] * forward + points[:, 1:] * up)


def _ellipse(centre, width, height):
  """A polygon [32, 2] of the ellipse with these half axes."""
  angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
  return np.asarray(centre) + np.stack([width * np.cos(angle), height * np.sin(angle)], -1)


def _smooth(points, steps=8):
  """A closed Catmull-Rom curve through the points [P, 2], as a polygon [P * steps, 2]."""
  p0, p1, p2, p3 = (np.roll(points, k, axis=0)[:, None] for k in (1, 0, -1, -2))
  t = np.linspace(0, 1, steps, endpoint=False)[:, None]
  curve = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
  return ((curve + (3 * p1 - p0 - 3 * p2 + p3) * t**3) / 2).reshape(-1, 2)
