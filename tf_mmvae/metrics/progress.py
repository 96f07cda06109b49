"""How far a long measurement is: a bar on a terminal, a line a minute in a log."""

import sys
import time
from collections.abc import Iterable, Iterator

import tqdm
from absl import logging

_SECONDS = 60


def progress(batches: Iterable, what: str, total: int | None = None) -> Iterator:
  """Yields from `batches` and shows how many are done.

  Args:
    batches: iterable.
    what: is measured, in a word or two.
    total: how many there are; None asks `len`.
  """
  total = len(batches) if total is None else total
  if sys.stderr.isatty():
    yield from tqdm.tqdm(batches, what, total, leave=False)
    return
  said = time.monotonic()
  for done, batch in enumerate(batches):
    if time.monotonic() - said >= _SECONDS:
      logging.info("%s: %d of %d", what, done, total)
      said = time.monotonic()
    yield batch
