"""Sizes that networks are made of, checked where they are given."""

from typing import Any


def check_latent_dim(network: str, latent_dim: Any) -> None:
  """Raises ValueError unless it is a whole number of at least 1. network: for the message."""
  if not _is_size(latent_dim):
    raise ValueError(f"{network}: latent_dim must be a whole number of at least 1, got "
                     f"{latent_dim!r}")


def check_shape(network: str, shape: Any, example: tuple[int, ...],
                rank: int | None = None) -> None:
  """Raises ValueError unless it is a tuple of whole numbers of at least 1, `rank` of them.

  Args:
    network: for the message.
    shape: of an observation.
    example: a shape for the message.
    rank: None takes any number from 1.
  """
  if (not isinstance(shape, (tuple, list)) or not shape or not all(map(_is_size, shape))
      or rank is not None and len(shape) != rank):
    raise ValueError(f"{network}: shape must be a tuple of whole numbers of at least 1, such as "
                     f"{example}, got {shape!r}")


def _is_size(value):
  return isinstance(value, int) and not isinstance(value, bool) and value >= 1
