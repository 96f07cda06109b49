import errno
import fcntl
import os
import pathlib
import subprocess
import sys

import pytest

from tf_mmvae.run_dir import RunDir, replacing


def test_a_file_is_refused_and_kept(tmp_path):
  path = tmp_path / "run"
  path.write_text("mine")
  with pytest.raises(ValueError) as error:
    RunDir(path)
  assert str(error.value) == f"{path} is a file: give a directory as run_dir"
  assert path.read_text() == "mine"


def test_what_a_run_may_begin_in(tmp_path):
  run = RunDir(tmp_path)
  for name in (".hidden", "lock", "config.gin.123"):  # the last are of a process that was killed
    (tmp_path / name).write_text("")
  run.check()
  (tmp_path / "photo.jpg").write_text("")
  with pytest.raises(ValueError, match=r"it is not empty \(photo.jpg\): give another run_dir$"):
    run.check()


def test_a_lock_that_is_held_and_freed(tmp_path):
  message = f"^process {os.getpid()} is training into {tmp_path}: wait"
  with (RunDir(tmp_path).locked(), pytest.raises(ValueError, match=message),
        RunDir(tmp_path).locked()):
    pass
  with RunDir(tmp_path).locked():
    pass


def test_a_killed_process_frees_the_lock(tmp_path):
  script = (f"import os; from tf_mmvae.run_dir import RunDir\n"
            f"with RunDir({str(tmp_path)!r}).locked(): os.kill(os.getpid(), 9)")
  assert subprocess.run([sys.executable, "-c", script]).returncode == -9
  with RunDir(tmp_path).locked():
    pass


def test_a_file_system_without_locks_is_noted(tmp_path, monkeypatch, caplog):
  def refuse(*args):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(fcntl, "flock", refuse)
  with caplog.at_level("INFO"), RunDir(tmp_path).locked():
    pass
  assert f"{tmp_path} cannot be locked (No locks available): see that no other" in caplog.text


def test_config_is_written_whole(tmp_path):
  run = RunDir(tmp_path / "new" / "run")
  run.write_config("A = 1\n")
  run.write_config("A = 2\n")
  assert run.read_config() == "A = 2\n"
  assert [p.name for p in (tmp_path / "new" / "run").iterdir()] == ["config.gin"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / "table.json"
  with replacing(path) as unfinished:
    pathlib.Path(unfinished).write_text("old")
  with pytest.raises(KeyError), replacing(path) as unfinished:
    pathlib.Path(unfinished).write_text("ne")
    assert path.read_text() == "old"
    raise KeyError
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["table.json"]


def test_a_full_disk_names_what_could_not_be_written(tmp_path):
  """Where the system does not: when a file is written to, not opened."""
  path = tmp_path / "table.json"
  with pytest.raises(OSError) as error, replacing(path), open("/dev/full", "w") as file:
    file.write("new")
  assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
  run = RunDir(tmp_path / "run")
  os.makedirs(run.path)
  os.symlink("/dev/full", run.lock)
  with pytest.raises(OSError) as error, run.locked():
    pass
  assert error.value.filename == run.lock
