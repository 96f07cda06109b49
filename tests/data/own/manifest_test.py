import csv
import json

import numpy as np
import pytest
from PIL import Image

from tf_mmvae.data.own import manifest
from tf_mmvae.data.own.columns import Picture, Text, Vector

COLUMNS = {"image": Picture((8, 8, 3)), "sentence": Text(), "vector": Vector(2)}
HEADERS = ["image", "sentence", "vector", "class", "part"]
NUM_ROWS = 12
HALVES = {"validation": 0.3, "test": 0.3}


@pytest.fixture
def rows(tmp_path):
  """Cells of complete rows; the files are there."""
  for i in range(NUM_ROWS):
    Image.new("RGB", (20, 10), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    np.save(tmp_path / f"{i}.npy", np.array([i, -i], np.float32))
  parts = ["train", "validation", "test"]
  return [[f"{i}.png", f"bird {i}", f"{i}.npy", f"kind {i % 2}", parts[i % 3]]
          for i in range(NUM_ROWS)]


@pytest.fixture
def read(tmp_path):
  """Function (rows, arguments of `Manifest`) -> `Manifest` of a CSV file, its files checked."""
  def read(rows, headers=HEADERS, columns=COLUMNS, **how):
    path = tmp_path / "birds.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
      csv.writer(file).writerows([headers, *rows])
    return checked(path, columns, **how)

  return read


def checked(path, columns=COLUMNS, **how):
  how = how if "fractions" in how else {"split_column": "part", **how}
  table = manifest.Manifest(path, columns, **how)
  table.check_files()
  return table


def said(table):
  """The lines of the report, without the first."""
  with pytest.raises(manifest.Problems) as error:
    table.raise_problems()
  first, *lines = error.value.report.split("\n")
  count = len(table.problems)
  assert first == (f"{table.path} has {count} problem{'s' * (count > 1)} (rows are numbered as "
                   "lines of the file, the first is 1):")
  return [line.strip() for line in lines]


def test_a_good_manifest(rows, read):
  table = read(rows, label="class")
  table.raise_problems()
  assert table.num_rows == NUM_ROWS and table.rows.tolist() == list(range(2, NUM_ROWS + 2))
  assert table.cells["sentence"] == [f"bird {i}" for i in range(NUM_ROWS)]
  assert table.labels.tolist() == [i % 2 for i in range(NUM_ROWS)]
  assert table.label_names == ["kind 0", "kind 1"]
  assert table.of_split("validation").tolist() == [1, 4, 7, 10]
  assert [table.gaps(split) for split in manifest.SPLITS] == [[], [], []]
  assert table.groups.tolist() == list(range(NUM_ROWS))
  assert set(table.files["image"]) == {f"{i}.png" for i in range(NUM_ROWS)}


def test_one_report_names_all(rows, read, tmp_path):
  (tmp_path / "text.png").write_text("no picture")
  (tmp_path / "cut.png").write_bytes((tmp_path / "1.png").read_bytes()[:50])
  np.save(tmp_path / "long.npy", np.zeros(3))
  np.save(tmp_path / "nan.npy", np.array([0, np.nan]))
  rows[0][0] = "404.png"
  rows[1][0] = rows[2][0] = "text.png"
  rows[3][0] = "cut.png"
  rows[4][2] = "long.npy"
  rows[5][:4] = "", " \u200b", "", ""
  rows[6][2] = "nan.npy"
  rows[7].append("one more")
  rows[8][4] = "exam"
  rows[9][0] = "."
  headers = ["image", "sentence", "vector", "class", "part"]
  lines = said(read([[*row, ""] if len(row) == 5 else [*row, "", ""] for row in rows],
                    [*headers, "class"], label="kind"))
  assert lines == [
    "row 1, column 'class': two columns have this header: rename one",
    "row 1: no column 'kind': the columns are 'image', 'sentence', 'vector', 'class', 'part', "
    "'class'",
    f"row 2, column 'image': no file 404.png in {tmp_path}",
    "row 3, column 'image': text.png is not a readable picture: cannot identify image file "
    "'text.png' (in 2 rows)",
    "row 5, column 'image': cut.png is not a readable picture: image file is truncated",
    "row 6, column 'vector': long.npy is of shape [3]: expected numbers of shape [2]",
    "row 7: nothing in image, sentence or vector: fill a cell, or take the row out",
    "row 8, column 'vector': nan.npy holds NaN or infinity in float32: expected numbers of shape "
    "[2], all finite",
    "row 9: 8 cells, but 6 headers: look for a comma that is missing or wants quotes",
    "row 10, column 'part': expected train, validation or test, got 'exam'",
    "row 11, column 'image': . is a folder: give the path of a file",
  ]


def test_a_long_report_is_cut(rows, read):
  lines = said(read([["x.png", "", "", "", "train"] for _ in range(3)]
                    + [[f"{i}.gif", "b", "", "", "train"] for i in range(100)]))
  assert len(lines) == manifest.MAX_SHOWN + 1
  assert lines[0].startswith("row 2, column 'image': no file x.png in ")
  assert lines[0].endswith(" (in 3 rows)")
  # 101 files, 2 splits without rows, and no vector in the other one.
  assert lines[-1] == f"and {101 + 3 - manifest.MAX_SHOWN} more"


def test_empty_cells_are_missing(rows, read):
  rows[0][0] = rows[3][1] = rows[1][2] = ""
  rows[6][1] = " \u00a0\u200b\ufffd"
  table = read(rows)
  table.raise_problems()
  assert {split: table.gaps(split) for split in manifest.SPLITS} == {
    "train": ["image", "sentence"], "validation": ["vector"], "test": []}
  assert table.cells["sentence"][6] == ""


def test_rows_with_nothing_that_is_asked_for_are_left_out(rows, read):
  rows[3][1] = rows[4][1] = ""
  table = read(rows, columns={"sentence": Text()})
  table.raise_problems()
  assert (table.num_rows, table.num_left_out) == (NUM_ROWS - 2, 2)
  assert table.rows.tolist() == [2, 3, 4, *range(7, NUM_ROWS + 2)]
  assert table.cells["sentence"] == [row[1] for row in rows if row[1]]
  assert len(table.splits) == len(table.groups) == NUM_ROWS - 2
  rows[3] = ["", "", "", "kind", "train"]
  table = read(rows, columns={"sentence": Text()}, label="class")
  assert said(table)[0].startswith("row 5: nothing in sentence: fill a cell")
  assert table.num_left_out == 1


def test_a_modality_that_a_split_lacks_throughout(rows, read):
  for row in rows[1::3]:
    row[2] = ""
  assert said(read(rows)) == ["no row of split 'validation' has 'vector'"]


def test_no_rows_in_a_split(rows, read):
  assert said(read([row for row in rows if row[4] != "test"])) == [
    "no rows in split 'test': mark some in column 'part'"]
  table = read(rows[:1], fractions=HALVES)
  assert said(table) == [f"no rows in split '{split}': raise its share in fractions, or add rows"
                         for split in manifest.SPLITS if split not in table.splits]


@pytest.mark.parametrize("names", [
  ("Train", "VAL", "test"), ("training", "valid", "testing"), ("train", "dev", " test ")])
def test_usual_names_of_splits(rows, read, names):
  table = read([[*row[:4], names[i % 3]] for i, row in enumerate(rows)])
  table.raise_problems()
  assert table.splits == ["train", "validation", "test"] * (NUM_ROWS // 3)


@pytest.mark.parametrize("change", [
  lambda text: "\ufeff" + text, lambda text: text.replace("\r\n", "\n"),
  lambda text: text.replace("\r\n", "\r"), lambda text: text + "\r\n\r\n",
  lambda text: text.replace(",", " , ").replace("\r\n", "  \r\n"),
  lambda text: text.replace("bird 3", '"bird 3"'),
  lambda text: text.replace("\n0.png", "\n./0.png")])
def test_forms_of_csv_that_say_the_same(rows, read, tmp_path, change):
  expected = read(rows)
  path = tmp_path / "birds.csv"
  path.write_bytes(change(path.read_bytes().decode()).encode())
  table = checked(path)
  table.raise_problems()
  assert {**table.cells, "image": None} == {**expected.cells, "image": None}
  assert table.rows.tolist() == expected.rows.tolist()


def test_rows_are_counted_as_lines(rows, read):
  rows[0][1] = "a bird\nof two lines, and \"quotes\""
  rows[2][0] = "404.png"
  table = read(rows)
  assert table.rows[:3].tolist() == [2, 4, 5]
  assert table.cells["sentence"][0] == rows[0][1]
  assert said(table)[0].startswith("row 5, column 'image': no file 404.png")


@pytest.mark.parametrize("name, content, sentence", [
  ("a.csv", b"", "a.csv is empty: expected a line of headers and a row an example"),
  ("a.csv", b"\n \n", "a.csv is empty"),
  ("a.csv", b"image;sentence\n", "a.csv is separated by semicolons: save it with commas"),
  ("a.csv", b"image\tsentence\n", "a.csv is separated by tabs: save it with commas"),
  ("a.csv", "image,sentence".encode("utf-16"), "a.csv is text in UTF-16: save it in UTF-8"),
  ("a.csv", b"image,sentence\n,v\xf6gel", r"a.csv, line 2: not UTF-8 \(byte 0xf6"),
  ("a.csv", b"\x89PNG\0", "a.csv is no text: expected a table in UTF-8"),
  ("a.csv", b'"image', "a.csv, line 1: a quote that opens here is never closed"),
  ("a.xlsx", b"PK", "a.xlsx is no manifest: expected a .csv of commas or a .jsonl"),
  ("a", b"image", "a is no manifest: expected a .csv"),
])
def test_what_is_no_manifest(tmp_path, name, content, sentence):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ValueError, match=rf"^{tmp_path}/{sentence}"):
    manifest.Manifest(tmp_path / name, COLUMNS)


@pytest.mark.parametrize("name", ["nothing.csv", "nothing.xlsx"])
def test_no_manifest(tmp_path, name):
  with pytest.raises(FileNotFoundError, match=name):
    manifest.Manifest(tmp_path / name, COLUMNS)


def test_a_folder(tmp_path):
  with pytest.raises(ValueError, match="is a folder: give the manifest in it"):
    manifest.Manifest(tmp_path, COLUMNS)


def test_headers_alone_and_blank_lines(rows, read, tmp_path):
  path = tmp_path / "a.csv"
  path.write_text("image,sentence,vector,part\n")
  assert said(checked(path)) == ["it has no rows: give one an example"]
  read(rows)
  lines = (tmp_path / "birds.csv").read_text().split("\n")
  path.write_text("\n".join([*lines[:4], "", *lines[4:]]))
  assert said(checked(path))[0].startswith("row 5: nothing in image, sentence or vector")


def test_of_two_columns_the_first_counts(rows, read):
  table = read([[*row, "404.png"] for row in rows], [*HEADERS, "image"])
  assert said(table) == ["row 1, column 'image': two columns have this header: rename one"]


def test_a_misspelt_column_is_named(rows, read):
  headers = ["image", "sentense", "vector", "class", "part"]
  assert said(read(rows, headers)) == [
    "row 1: no column 'sentence' (did you mean 'sentense'?): the columns are 'image', 'sentense', "
    "'vector', 'class', 'part'"]
  read(rows, headers, {**COLUMNS, "sentence": Text(column="sentense")}).raise_problems()


@pytest.mark.parametrize("cell, line", [
  ('"bird', "a quote that opens here is never closed"),
  ('"a "big" bird"', "',' expected after '\"': put cells with commas or quotes into quotes, and "
   "double these"),
])
def test_quotes_gone_wrong(rows, read, tmp_path, cell, line):
  read(rows)
  path = tmp_path / "birds.csv"
  path.write_text(path.read_text().replace("bird 11", cell))
  assert f"row 13: {line}" in said(checked(path))


def json_lines(path, rows):
  path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
  return path


def test_json_lines(rows, read, tmp_path):
  expected = read(rows, label="class")
  objects = [dict(zip(HEADERS, row, strict=True)) for row in rows]
  table = checked(json_lines(tmp_path / "birds.jsonl", objects), label="class")
  table.raise_problems()
  assert table.cells == expected.cells and table.labels.tolist() == expected.labels.tolist()
  assert table.rows.tolist() == list(range(1, NUM_ROWS + 1))
  objects[0]["image"] = None
  del objects[1]["sentence"]
  table = checked(json_lines(tmp_path / "birds.ndjson", objects))
  table.raise_problems()
  assert (table.gaps("train"), table.gaps("validation")) == (["image"], ["sentence"])


def test_problems_of_json_lines(rows, tmp_path):
  objects = [dict(zip(HEADERS, row, strict=True)) for row in rows]
  objects[0]["sentence"] = 5
  objects[1]["image"] = ["1.png"]
  objects[2]["class"] = 0.5
  objects[3]["class"] = True
  objects[4] = {"part": "train"}
  objects[5] = '{"image": '
  objects[6] = "[1, 2]"
  objects[7] = '{"image": "1.png", "image": "2.png", "part": "train"}'
  path = json_lines(tmp_path / "birds.jsonl", objects)
  assert said(checked(path, label="class")) == [
    "row 1, column 'sentence': expected a text in quotes, got 5",
    "row 2, column 'image': expected a text in quotes, got ['1.png']",
    "row 3, column 'class': expected a text or a whole number, got 0.5",
    "row 4, column 'class': expected a text or a whole number, got True",
    "row 5: nothing in image, sentence or vector: fill a cell, or take the row out",
    "row 6: no JSON: Expecting value at character 11",
    'row 7: expected one object a line, such as {"image": "1.jpg"}, got [1, 2]',
    "row 8, column 'image': this row has it twice: take one out"]


@pytest.mark.parametrize("given, labels, names", [
  (["3", "0", ""], [3, 0, -1], []),
  (["b", "a", ""], [1, 0, -1], ["a", "b"]),
  (["1", "a", "-1"], [1, 2, 0], ["-1", "1", "a"]),
  (["1", "0", "-1"], [2, 1, 0], ["-1", "0", "1"]),
  (["10", "9", "09"], [10, 9, 9], []),
])
def test_labels(rows, read, given, labels, names):
  for row, label in zip(rows, given, strict=False):
    row[3] = label
  for row in rows[3:]:
    row[3] = ""
  table = read(rows, label="class")
  assert table.labels.tolist() == labels + [-1] * (NUM_ROWS - 3)
  assert table.label_names == names


def texts_alone(read, num, seed=0, first=0, **fractions):
  headers, columns = ["sentence"], {"sentence": Text()}
  rows = [[f"bird {i}"] for i in range(first, num)]
  fractions = {"validation": 0.2, "test": 0.1, **fractions}
  return read(rows, headers, columns, fractions=fractions, seed=seed).splits


def test_shares_are_drawn_of_a_seed(read):
  splits = texts_alone(read, 1000)
  for split, share in (("validation", 0.2), ("test", 0.1)):
    assert abs(splits.count(split) - 1000 * share) < 4 * (1000 * share * (1 - share)) ** 0.5
  assert texts_alone(read, 1000) == splits
  assert texts_alone(read, 1000, seed=1) != splits


def test_more_rows_move_none(read):
  splits = texts_alone(read, 300)
  assert texts_alone(read, 200) == splits[:200]
  assert texts_alone(read, 300, first=50) == splits[50:]


def test_rows_of_one_file_stay_together(rows, read):
  many = [[f"{i % 10}.png", f"bird {i}", "", "", ""] for i in range(200)]
  many[0][0] = "./0.png"
  table = read(many, fractions=HALVES, columns={**COLUMNS, "vector": Text()})
  for i in range(10):
    assert len({table.splits[row] for row in range(i, 200, 10)}) == 1
  assert len(set(table.splits)) == 3
  assert table.groups.tolist() == [i % 10 for i in range(200)]


def test_files_join_groups_and_so_does_a_column(rows, read):
  """1 and 2 share a picture, 2 and 3 a vector, 3 and 7 a class."""
  rows[2][0], rows[3][2] = rows[1][0], rows[2][2]
  for i, row in enumerate(rows):
    row[3] = "x" if i in (3, 7) else ""
  assert np.flatnonzero(read(rows).groups == 1).tolist() == [1, 2, 3]
  table = read(rows, group_column="class")
  assert np.flatnonzero(table.groups == table.groups[1]).tolist() == [1, 2, 3, 7]
  assert table.groups.max() == NUM_ROWS - 4


@pytest.mark.parametrize("fractions", [
  {"validation": 0.1}, {"validation": 0.5, "test": 0.5}, {"validation": 0, "test": 0.1},
  {"validation": 0.1, "test": "0.1"}, {"validation": 0.1, "test": 0.1, "train": 0.8}])
def test_bad_fractions(rows, read, fractions):
  with pytest.raises(ValueError, match="fractions must be such as"):
    read(rows, fractions=fractions)


@pytest.mark.parametrize("columns", [{}, ["image"], {"image": Picture}, {"image": "picture"}])
def test_no_columns(rows, read, columns):
  with pytest.raises(ValueError, match="a manifest needs columns {modality: kind}, such as "):
    read(rows, columns=columns)
