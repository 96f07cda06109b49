"""Reads the attributes of toy birds from pictures, by fitting the equation they are drawn with."""

import functools
import itertools

import numpy as np
import numpy.typing as npt

from tf_mmvae.data.toy_birds import attributes, drawing

_SHIFTS = range(-attributes.MAX_SHIFT, attributes.MAX_SHIFT + 1)


def read_pictures(images: npt.ArrayLike, batch_size: int = 256) -> dict[str, np.ndarray]:
  """What pictures show, somewhat blurred or noisy ones included.

  The scene is the one nearest around the bird. For every geometry and shift the colours of body,
  wing and belly are fitted by least squares; the best fit wins, and its colours are called by the
  nearest name. Every picture is read as some bird.

  Args:
    images: float32 [N, 64, 64, 3] in [0, 1].
    batch_size: pictures fitted at a time.

  Returns:
    {attribute: int [N]} for every name in ATTRIBUTES.

  Raises:
    ValueError: the pictures have another shape.
  """
  images = np.asarray(images, np.float32)
  if images.shape[1:] != (drawing.SIZE, drawing.SIZE, 3):
    raise ValueError(f"expected pictures [N, 64, 64, 3], got {list(images.shape)}")
  read = {name: np.zeros(len(images), np.int64) for name in attributes.ATTRIBUTES}
  read["scene"] = _nearest_scenes(images)
  for scene, background in enumerate(drawing.scenes()):
    members = np.flatnonzero(read["scene"] == scene)
    for start in range(0, len(members), batch_size):
      batch = members[start : start + batch_size]
      for name, values in _fit(images[batch], background).items():
        read[name][batch] = values
  return read


def _nearest_scenes(images):
  """int [N], by the pixels that no bird reaches."""
  background = _templates()["background"].min(0).reshape(drawing.SIZE, drawing.SIZE)
  shifted = [np.roll(background, shift, (0, 1)) for shift in itertools.product(_SHIFTS, _SHIFTS)]
  around = np.min(shifted, 0) == 1  # [64, 64]
  scenes = drawing.scenes()[:, around].reshape(len(drawing.scenes()), -1)  # [4, pixels]
  pixels = images[:, around].reshape(len(images), scenes.shape[1])
  return np.argmin((scenes**2).sum(1) - 2 * pixels @ scenes.T, axis=1)


def _fit(images, scene):
  """The best geometry, shift and colours of pictures [N, 64, 64, 3] before one scene."""
  least = np.full(len(images), np.inf)
  geometry, down, right = np.zeros([3, len(images)], np.int64)
  for shift in itertools.product(_SHIFTS, _SHIFTS):
    error = _errors(*_unshifted(images, scene, shift))  # [N, G]
    best = error.argmin(1)
    error = error[np.arange(len(images)), best]
    better = error < least
    least[better], geometry[better] = error[better], best[better]
    down[better], right[better] = shift
  colours = [
    _colours(*_unshifted(images[n : n + 1], scene, (down[n], right[n])), geometry[n])
    for n in range(len(images))
  ]
  keys = np.array(list(drawing.geometries()))[geometry]  # [N, 5]
  return {
    **dict(zip(drawing.GEOMETRY, keys.T, strict=True)),
    **dict(zip(drawing.PARTS, np.transpose(colours), strict=True)),
    "shift_right": right + attributes.MAX_SHIFT,
    "shift_down": down + attributes.MAX_SHIFT,
  }


def _unshifted(images, scene, shift):
  """Pictures [N, 3, P] and their scene [3, P] moved back, P pixels in a row."""
  images, scene = (_in_rows(np.roll(x, (-shift[0], -shift[1]), (-3, -2))) for x in (images, scene))
  return images, scene


def _errors(images, scene):
  """Least squared errors [N, G] of pictures [N, 3, P], less the pictures' own squares."""
  templates = _templates()
  given = templates["background"][:, None] * scene + templates["fixed"]  # [G, 3, P]
  axes = templates["axes"]  # [G, 3, P]
  shape = (-1, 3, *axes.shape[:2])  # [N, channel, G, axis]
  along = (images.reshape(-1, axes.shape[2]) @ axes.reshape(-1, axes.shape[2]).T).reshape(shape)
  given_along = np.einsum("gcp,gkp->cgk", given, axes)  # [channel, G, axis]
  given = given.reshape(len(given), -1)
  cross = images.reshape(len(images), -1) @ given.T  # [N, G]
  return (given**2).sum(1) - 2 * cross - ((along - given_along) ** 2).sum((1, 3))


def _colours(images, scene, geometry):
  """The colours [3] of the parts in one picture [1, 3, P], by index."""
  templates = _templates()
  given = templates["background"][geometry] * scene + templates["fixed"][geometry]  # [3, P]
  parts = templates["parts"][geometry]  # [3, P]
  rgb = np.linalg.solve(parts @ parts.T, parts @ (images[0] - given).T)  # [part, channel]
  return ((rgb[:, None] - drawing.PALETTE) ** 2).sum(-1).argmin(1)


@functools.cache
def _templates():
  """The G geometries with P pixels in a row, and orthonormal axes [G, 3, P] for their parts."""
  geometries = drawing.geometries().values()
  parts = _soft(np.stack([geometry.parts for geometry in geometries]))  # [G, 3, 64, 64]
  parts = parts.reshape(*parts.shape[:2], -1)
  background = _soft(np.stack([geometry.background for geometry in geometries]))
  fixed = np.stack([np.moveaxis(geometry.fixed, -1, 0) for geometry in geometries])
  return {
    "background": background.reshape(len(background), -1),  # [G, P]
    "fixed": _soft(fixed).reshape(parts.shape),  # [G, 3, P]
    "parts": parts,  # [G, 3, P]
    "axes": np.stack([np.linalg.qr(of_one.T)[0].T for of_one in parts]),
  }


def _in_rows(pictures):
  """[..., 64, 64, 3] -> [..., 3, P]."""
  return np.moveaxis(pictures, -1, -3).reshape(*pictures.shape[:-3], 3, -1)


def _soft(maps):
  """Maps [..., 64, 64] blurred by a pixel or so, between drawn and decoded pictures."""
  for axis in (-2, -1) * 3:
    maps = (np.roll(maps, 1, axis) + 2 * maps + np.roll(maps, -1, axis)) / 4
  return maps
