"""Which rows of a manifest train, validate and test: as a column says, or drawn by groups."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

SPLITS = ("train", "validation", "test")
_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
          "val": "validation", "dev": "validation", "test": "test", "testing": "test"}


def named(text: str) -> str | None:
  """The split that a cell names, in either case and by usual short names, or None."""
  return _NAMES.get(text.lower())


def check_fractions(fractions: Mapping[str, float] | None) -> dict[str, float]:
  """{"validation": share, "test": share}; raises ValueError for other names and shares."""
  fractions = {"validation": 0.1, "test": 0.1} if fractions is None else dict(fractions)
  of_numbers = all(isinstance(share, (int, float)) and 0 < share < 1
                   for share in fractions.values())
  if set(fractions) != {"validation", "test"} or not of_numbers or sum(fractions.values()) >= 1:
    raise ValueError('fractions must be such as {"validation": 0.1, "test": 0.1}, both above 0 and '
                     f"together below 1, got {fractions!r}")
  return fractions


def group_keys(cells: Mapping[str, Sequence[str]], of_files: Sequence[str],
               shared: Sequence[str] | None = None) -> list[str]:
  """The key of each row's group: rows that share a file, or a text of `shared`, are one group.

  Args:
    cells: {modality: N strings}; "" is missing.
    of_files: the modalities whose cells are paths.
    shared: N strings, "" where there is none, or None.

  Returns:
    N strings; a key is the least path or shared text of the group, or all the cells of a row that
    has neither.
  """
  num = len(next(iter(cells.values())))
  marks = []  # of each row, what joins it to others
  for i in range(num):
    mark = [f"file {os.path.normpath(cells[name][i])}" for name in of_files if cells[name][i]]
    if shared is not None and shared[i]:
      mark.append(f"group {shared[i]}")
    marks.append(mark or [json.dumps([[name, cells[name][i]] for name in sorted(cells)])])
  least = {}

  def find(mark):
    while (above := least.setdefault(mark, mark)) != mark:
      least[mark] = least[above]
      mark = above
    return mark

  for mark in marks:
    roots = [find(m) for m in mark]
    for root in roots:
      least[root] = min(roots)
  return [find(mark[0]) for mark in marks]


def draw(keys: Sequence[str], fractions: Mapping[str, float], seed: int) -> list[str]:
  """N splits; that of a group depends on (seed, key) alone, so a row more moves no other."""
  split_of = {}
  for key in dict.fromkeys(keys):
    digest = hashlib.sha256(f"{seed} {key}".encode("utf-8", "surrogatepass")).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2.0**64
    if uniform < fractions["validation"]:
      split_of[key] = "validation"
    else:
      split_of[key] = "test" if uniform < sum(fractions.values()) else "train"
  return [split_of[key] for key in keys]
