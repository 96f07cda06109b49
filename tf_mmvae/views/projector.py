"""Files that TensorBoard's projector reads: points, labels, thumbnails, and what says where."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from tf_mmvae.run_dir import replacing

_CONFIG = """embeddings {{
  tensor_name: "latents"
  tensor_path: "latents.tsv"
  metadata_path: "labels.tsv"
  sprite {{
    image_path: "thumbnails.png"
    single_image_dim: [{size}, {size}]
  }}
}}
"""


def write_projector(directory: str, points: np.ndarray, labels: Mapping[str, Sequence[str]],
                    thumbnails: Sequence[np.ndarray]) -> None:
  """Writes the files beside a run's events; each appears whole, the one that names them last.

  Args:
    directory: of the events; the paths in `projector_config.pbtxt` are relative to it.
    points: float [N, D].
    labels: {column: N strings}, at least two: a single one would have to go without its name.
    thumbnails: N squares, uint8 [size, size, 3].
  """
  os.makedirs(directory, exist_ok=True)
  rows = [labels, *zip(*labels.values(), strict=True)]
  _write(directory, "latents.tsv", _as_tsv([[f"{v:.6g}" for v in point] for point in points]))
  _write(directory, "labels.tsv", _as_tsv(rows))
  _write(directory, "thumbnails.png", _sprite(thumbnails))
  _write(directory, "projector_config.pbtxt", _CONFIG.format(size=len(thumbnails[0])))


def _as_tsv(rows):
  return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)


def _sprite(thumbnails):
  """N squares as one picture, row by row, as many in a row as in a column."""
  side = int(np.ceil(np.sqrt(len(thumbnails))))
  size = len(thumbnails[0])
  page = np.full([side, side, size, size, 3], 255, np.uint8)
  page.reshape([side * side, size, size, 3])[:len(thumbnails)] = thumbnails
  return Image.fromarray(page.transpose([0, 2, 1, 3, 4]).reshape([side * size, side * size, 3]))


def _write(directory, name, content):
  with replacing(os.path.join(directory, name)) as path:
    if isinstance(content, str):
      with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    else:
      content.save(path, "PNG")
