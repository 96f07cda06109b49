"""What a toy bird can be: the values of every attribute, and how one bird is drawn by lot.

A bird is a dict {attribute: index of its value}. TOLD attributes are in the picture and in every
caption; SHOWN attributes are in the picture only. Wording is in the caption only.
"""

import numpy as np

COLOURS = ("red", "yellow", "green", "blue", "white", "black")
RGB = (
  (208, 46, 42),
  (246, 206, 48),
  (46, 132, 62),
  (44, 82, 190),
  (250, 250, 247),
  (44, 42, 50),
)
MAX_SHIFT = 3  # pixels
SHIFTS = tuple(str(pixels) for pixels in range(-MAX_SHIFT, MAX_SHIFT + 1))

TOLD = {
  "body_colour": COLOURS,
  "wing_colour": COLOURS,
  "belly_colour": COLOURS,
  "bill_shape": ("pointed", "hooked", "flat"),
  "bill_length": ("short", "long"),
  "size": ("small", "large"),
}
SHOWN = {
  "facing": ("left", "right"),
  "tilt": ("level", "upright"),
  "scene": ("meadow", "beach", "dusk", "mist"),
  "shift_right": SHIFTS,
  "shift_down": SHIFTS,
}
ATTRIBUTES = {**TOLD, **SHOWN}


def draw_by_lot(rng: np.random.Generator) -> dict[str, int]:
  """One bird, every attribute uniform and independent of the others.

  Args:
    rng: a np.random.Generator.

  Returns:
    {attribute: int}, the index of a value for every name in ATTRIBUTES.
  """
  return {name: int(rng.integers(len(values))) for name, values in ATTRIBUTES.items()}
