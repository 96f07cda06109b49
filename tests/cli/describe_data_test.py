import os
import pathlib
import re

import pytest

from tests import runs
from tests.data.own import dataset_test as own_data_test

HINT = "(--verbosity=1 shows where it came from)"


@pytest.fixture
def birds(tmp_path):
  """A folder with a manifest."""
  own_data_test.write_source(tmp_path / "birds")
  return tmp_path / "birds"


def describe(folder, *args):
  return runs.call_here("describe_data.py", "--gin_file=gin/own_data_tiny.gin", *args,
                        f"--manual_dir={folder.parent}", f"--data_dir={folder.parent / 'data'}")


def test_help_is_instant():
  code, printed = runs.call("describe_data.py", "--help")
  assert code == 0 and "Checks your own data" in printed and "--out" in printed


def test_what_is_suggested_can_be_trained(birds, tmp_path):
  out = tmp_path / "mine.gin"
  code, printed = describe(birds, f"--out={out}", "--gin_param=GROUP_COLUMN = 'class'")
  assert code == 0, printed
  assert f"{birds / 'birds.csv'}: 24 rows in " in printed
  assert "principal components leave" in printed
  suggested = re.findall(r"^(?:IMAGE_SCALE|LIKELIHOOD_WEIGHTS) = .*$", printed, re.M)
  assert len(suggested) == 2
  text = out.read_text()
  assert 'include "gin/own_data_tiny.gin"' in text and all(line in text for line in suggested)
  code, printed = runs.call_here(
    "describe_data.py", f"--gin_file={out}", f"--manual_dir={tmp_path}",
    f"--data_dir={tmp_path / 'data'}")
  assert code == 0 and all(line in printed for line in suggested), printed


def test_the_scale_is_that_of_the_likelihood(birds):
  laplace = "--gin_param=image/mm.Modality.likelihood = @mm.laplace_likelihood"
  found = []
  for args in ((), (laplace,)):
    code, printed = describe(birds, *args)
    assert code == 0, printed
    b, normal = re.search(r"leave ([\d.]+) \(mean.* or ([\d.]+) \(stand", printed).groups()
    scale = re.search(r"IMAGE_SCALE = (.*)", printed).group(1)
    found.append((float(scale), float(b), float(normal)))
  (normal_scale, _, normal), (laplace_scale, b, _) = found
  assert normal_scale == pytest.approx(normal, rel=0.06)
  assert laplace_scale == pytest.approx(b, rel=0.06) and laplace_scale < normal_scale


@pytest.mark.parametrize("tool", ["describe_data.py", "train.py"])
def test_one_report_of_all_problems(birds, tmp_path, tool):
  manifest = birds / "birds.csv"
  lines = manifest.read_text().split("\n")
  lines[0] += ",image"
  lines[1:] = [line and line + "," for line in lines[1:]]
  lines[3] = ",,,,train,"
  manifest.write_text("\n".join(lines))
  (birds / "photo 0.png").unlink()
  (birds / "photo 3.png").write_text("no picture")
  args = [arg for arg in runs.train_args("gin/own_data_tiny.gin", tmp_path / "run")
          if tool == "train.py" or not arg.startswith("--run_dir")]
  code, printed = runs.call_here(tool, *args, f"--manual_dir={tmp_path}")
  assert code == 1 and "Traceback" not in printed
  *_, first, a, b, c, d, hint = printed.splitlines()
  assert first.endswith(f"tools/{tool}: {manifest} has 4 problems (rows are numbered as lines of "
                        "the file, the first is 1):")
  assert a == "  row 1, column 'image': two columns have this header: rename one"
  assert b == f"  row 2, column 'image': no file photo 0.png in {birds} (in 2 rows)"
  assert c.startswith("  row 4: nothing in image or sentence: fill a cell")
  assert d.startswith("  row 8, column 'image': photo 3.png is not a readable picture: ")
  assert hint == HINT
  assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("args, sentence", [
  ([], "give --gin_file=gin/own_data.gin, or a file that includes it"),
  (["--gin_file=gin/toy_birds_tiny.gin"], "this describes your own data: give --gin_file=gin/own"),
  (["--gin_file=gin/own_data.gin"], "macro MANIFEST is used but has no value: set it in a"),
  (["--gin_file=gin/own_data.gin", "--gin_param=MANIFEST = 'a.csv'"], "no such file or directory:"),
  (["--gin_file=gin/own_data.gin", "--gin_param=MANIFEST = '.'"], "is a folder: give the manifest"),
  (["--gin_file=gin/own_data_tiny.gin", "--out=/no/where.gin"], "no folder for --out=/no/where"),
])
def test_mistakes(tmp_path, args, sentence):
  code, printed = runs.call_here("describe_data.py", *args, f"--manual_dir={tmp_path}",
                                 f"--data_dir={tmp_path}")
  assert code == 1 and "Traceback" not in printed
  last, hint = printed.splitlines()[-2:]
  assert sentence in last and hint == HINT
  assert not os.listdir(tmp_path)


def test_other_columns(birds, tmp_path):
  """A sentence by itself, and vectors beside it under another name."""
  text = (pathlib.Path(runs.ROOT) / "docs" / "own_data.md").read_text()
  (vector,) = [block for block in re.findall(r"```\n(.*?)```", text, re.S) if "Vector" in block]
  file = tmp_path / "vector.gin"
  file.write_text(vector.replace("gin/own_data.gin", "gin/own_data_tiny.gin").replace("128", "2"))
  code, printed = runs.call_here(
    "describe_data.py", f"--gin_file={file}", f"--manual_dir={tmp_path}",
    f"--data_dir={tmp_path / 'data'}", '--gin_param=sound/mm.data.own.Vector.column = "vector"')
  assert code == 0, printed
  assert "SOUND_SCALE = " in printed and '"sound": ' in printed
  code, printed = describe(birds, '--gin_param=COLUMNS = {"sentence": @mm.data.own.Text()}',
                           "--gin_param=MODALITIES = [@sentence/mm.Modality()]")
  assert code == 0, printed
  assert "SCALE" not in printed.split("\n\n")[-1] and 'WEIGHTS = {"sentence": ' in printed
