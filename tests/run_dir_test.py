import pytest

from tf_mmvae.run_dir import RunDir


def test_a_file_is_refused_and_kept(tmp_path):
  path = tmp_path / "run"
  path.write_text("mine")
  with pytest.raises(ValueError) as error:
    RunDir(path)
  assert str(error.value) == f"{path} is a file: give a directory as --run_dir"
  assert path.read_text() == "mine"


def test_config_is_written_whole(tmp_path):
  run = RunDir(tmp_path / "new" / "run")
  run.write_config("A = 1\n")
  run.write_config("A = 2\n")
  assert run.read_config() == "A = 2\n"
  assert [p.name for p in (tmp_path / "new" / "run").iterdir()] == ["config.gin"]
