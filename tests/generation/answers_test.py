import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tf_mmvae.generation.answers import ROWS_A_PAGE, Answers
from tf_mmvae.generation.observations import Arrays, Pictures

KINDS = {"seen": Pictures((4, 4, 3)), "felt": Arrays((2,), np.float32),
         "counted": Arrays((1,), np.int32)}
PICTURE, VECTOR = np.full([4, 4, 3], 0.5, np.float32), np.array([1., 2.], np.float32)


def names(directory):
  return sorted(path.name for path in pathlib.Path(directory).iterdir())


def test_what_is_written(tmp_path):
  out = Answers(tmp_path / "new" / "out", "birds", KINDS)
  out.row({"seen": out.keep("seen", PICTURE, "a-seen-1", rank=1),
           "felt": out.keep("felt", VECTOR, "a-felt-1", nats=-0.5)})
  paths = out.finish()
  assert names(tmp_path / "new" / "out") == [
      "a-felt-1.npy", "a-seen-1.png", "birds-table.png", "birds.jsonl"]
  assert [pathlib.Path(path).name for path in paths] == ["birds-table.png", "birds.jsonl"]
  lines = [json.loads(line) for line in pathlib.Path(paths[1]).read_text().splitlines()]
  assert lines == [{"rank": 1, "modality": "seen", "file": "a-seen-1.png"},
                   {"nats": -0.5, "modality": "felt", "file": "a-felt-1.npy"}]
  with Image.open(paths[0]) as table:
    assert table.size[0] > 256


def test_pages(tmp_path):
  for num_rows, num_pages in [(1, 1), (ROWS_A_PAGE, 1), (ROWS_A_PAGE + 1, 2), (25, 3)]:
    out = Answers(tmp_path / str(num_rows), "a", KINDS)
    for _ in range(num_rows):
      out.row({"felt": VECTOR})
    assert [pathlib.Path(path).name for path in out.finish()] == [
        f"a-table{number}.png" for number in ("", "-2", "-3")[:num_pages]]


def test_inputs_stay_and_old_answers_go(tmp_path):
  (tmp_path / "mine-seen-1.png").write_bytes(b"mine")
  (tmp_path / "a.jsonl").write_bytes(b"old")
  (tmp_path / "link").symlink_to(tmp_path)
  out = Answers(tmp_path / "link", "a", KINDS, [str(tmp_path / "mine-seen-1.png")])
  with pytest.raises(ValueError, match="mine-seen-1.png is an input and would be over"):
    out.keep("seen", PICTURE, "mine-seen-1")
  assert (tmp_path / "mine-seen-1.png").read_bytes() == b"mine"
  assert (tmp_path / "a.jsonl").read_bytes() == b"old"
  out.keep("counted", np.array([3], np.int32), "a-counted-1")
  out.keep("counted", np.array([4], np.int32), "a-counted-2")
  assert (tmp_path / "a.jsonl").read_text().splitlines() == [
      f'{{"modality": "counted", "file": "a-counted-{i}.npy"}}' for i in (1, 2)]
  with pytest.raises(ValueError, match="a.jsonl is an input"):
    Answers(tmp_path, "a", KINDS, [str(tmp_path / "a.jsonl")])
