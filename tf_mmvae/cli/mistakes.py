"""A user's mistake, or a trouble of the machine, as one sentence, or a report of several."""

import errno
import os
import re
import sys
import tokenize

# What to say of a path, by the system's number of the error, or its words in TensorFlow's errors.
_FULL = ("no space left for {}: make room there and give the same command again; a run goes on "
         "from its last checkpoint, which is kept")
_DENIED = "no permission for {}: change who may read or write there, or give another directory"
_TROUBLES = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: _FULL,
    errno.EACCES: _DENIED, errno.EPERM: _DENIED, errno.EROFS: _DENIED,
    errno.ENOENT: "no such file or directory: {}", errno.ENOTDIR: "not a directory: {}"}


def kinds():
  """What a user's mistake raises, or a damaged file: anything else is a bug and shows where."""
  found = (ValueError, OSError, TypeError, ArithmeticError, SyntaxError, ImportError)
  tf = sys.modules.get("tensorflow")
  return (*found, tf.errors.OpError) if tf else found


def sentence(error):
  """What an error says to a user, in one line; all of its `report`, if it has one."""
  if report := getattr(error, "report", None):
    return _of_flags(report)
  trouble = _trouble(error)
  if trouble:
    return trouble
  # TensorFlow puts the place of an error before its sentence, gin after it.
  lines = [line.strip() for line in str(error).split("\n")
           if line.strip() and not line.strip().startswith("In call to configurable")]
  if not lines:
    return type(error).__name__
  chosen = lines[-1 if lines[0] == "in user code:" else 0]
  chosen = re.sub(r"^{{.*?}} (Error in user-defined function .*?: (?=\w+Error: ))?", "", chosen)
  return _of_flags(re.sub(r"^\w+(Error|Exception): ", "", chosen))


def _of_flags(said):
  """What the library says of its arguments, of the flags that set them."""
  return re.sub(r"(?<![\w/.-])`?\b(run_dir|manual_dir|data_dir)\b`?(?![\w/.=])", r"--\1", said)


def _trouble(error):
  """What to say where the system refused a path; None for anything else."""
  tf = sys.modules.get("tensorflow")
  if not isinstance(error, (OSError, tf.errors.OpError) if tf else OSError):
    return None
  for number, said in _TROUBLES.items():
    words = os.strerror(number)
    if getattr(error, "errno", None) == number or words in str(error):
      found = re.search(r"/[^\s:;,'\"]+", re.sub(r"{{.*?}}", "", str(error)))
      path = getattr(error, "filename", None) or (found and found.group())
      while path and said is _FULL and (not os.path.isdir(path) or path.endswith("_temp")):
        path = os.path.dirname(path)  # of a file that could not be written: its directory
      return said.format(path or "what is written here")
  return None


def in_gin(error, source):
  """An error of gin's parser as a ValueError that names the file, or flag, and the line.

  Args:
    error: what was raised.
    source: the gin file, or the flag, that was being read.
  """
  file, line = getattr(error, "filename", None), getattr(error, "lineno", None)
  found = re.search(r'In file "(.*)", line (\d+)', str(error))
  if found:
    file, line = found.groups()
  said = error.msg if isinstance(error, SyntaxError) else str(error)
  if isinstance(error, tokenize.TokenError) and error.args:
    said, (line, _) = error.args
  said = said.strip().split("\n")[0].rstrip(".")
  said = re.sub(r"<module '([\w.]+)' from '[^']*'>", r"\1", said)
  said = said.replace("was not provided by an import statement",
                      "is nothing that the gin files import")
  missing = re.match(r"Unable to open file: (.*)\. Searched config paths", said)
  if missing and missing.group(1) == source:
    return ValueError(f"no gin file {source}: give the path of one, such as gin/toy_birds.gin")
  if missing:
    said = f"no gin file {missing.group(1)} to include"
  elif said.startswith("malformed node"):
    said = "Unable to parse value (texts need quotes)"
  place = file if file and not source.startswith("--") else source
  if line and not source.startswith("--"):
    place += f", line {line}"
  return ValueError(f"{place}: {said}: correct it there")
