"""Viewers: what is shown for observations that say nothing to the eye.

A viewer is a function (observations [N, ...], given) -> N cells of `drawing.draw_table`; `given`
says that they are data, and not what a model made.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tf_mmvae.views.drawing import Cell

Viewer = Callable[[np.ndarray, bool], Sequence[Cell]]


class NearestPictures:
  """Shows a vector as the picture that belongs to the nearest of known vectors (Euclidean).

  Shi et al. (2019) look at their model of image features in this way: what it makes is looked up
  among the photos that it was trained on, and what it was given is shown as the photo that it is.
  """

  def __init__(self, made: tuple[np.ndarray, np.ndarray],
               given: tuple[np.ndarray, np.ndarray] | None = None):
    """Sets where vectors are looked up.

    Args:
      made: (vectors [N, F], pictures uint8 [N, H, W, C]) for what a model made.
      given: the same for data, so that these are among it; None is `made`.

    Raises:
      ValueError: vectors and pictures differ in number, or there are none.
    """
    self._made = _Album(*made)
    self._given = self._made if given is None else _Album(*given)

  def __call__(self, vectors: np.ndarray, given: bool = False) -> list[np.ndarray]:
    """float [N, F] -> N pictures, float [H, W, C] in [0, 1]."""
    album = self._given if given else self._made
    return list(album.pictures[album.nearest(vectors)] / np.float32(255))


class _Album:
  """Vectors and a picture of each."""

  def __init__(self, vectors, pictures):
    if len(vectors) != len(pictures) or not len(vectors):
      raise ValueError("NearestPictures: expected as many pictures as vectors, at least one, got "
                       f"{len(pictures)} and {len(vectors)}")
    self.pictures = pictures
    self._centre = np.mean(vectors, 0, np.float64)  # near it, products of float32 lose least
    self._vectors = (vectors - self._centre).astype(np.float32)
    self._squares = np.einsum("nf,nf->n", self._vectors, self._vectors)

  def nearest(self, vectors):
    """[B, F] -> int [B], which is nearest."""
    if vectors.shape[1:] != self._centre.shape:
      raise ValueError(f"NearestPictures: expected vectors of {len(self._centre)} numbers, got "
                       f"{list(vectors.shape[1:])}: make the features and their modality agree")
    vectors = (vectors - self._centre).astype(np.float32)
    return np.argmin(self._squares - 2 * vectors @ self._vectors.T, axis=1)
