"""Names inside the directory of one run."""

import os


class RunDir:
  """The directory that one run writes.

    config.gin       the whole configuration, saved before step 0
    vocabulary.txt   the words of its sentences, where it has any
    checkpoints/     the last few, and the best in checkpoints/best/
    events/          TensorBoard
    results/         pictures and figures
    export/1/        SavedModel

  Raises:
    ValueError: if the path is that of a file.
  """

  def __init__(self, path):
    self.path = os.path.abspath(os.path.expanduser(path))
    if os.path.isfile(self.path):
      raise ValueError(f"{self.path} is a file: give a directory as --run_dir")
    self.config = os.path.join(self.path, "config.gin")
    self.vocabulary = os.path.join(self.path, "vocabulary.txt")
    self.checkpoints = os.path.join(self.path, "checkpoints")
    self.best = os.path.join(self.checkpoints, "best")
    self.events = os.path.join(self.path, "events")
    self.results = os.path.join(self.path, "results")
    self.export = os.path.join(self.path, "export", "1")

  def write_config(self, text):
    """Saves the configuration so that a reader sees the old file or the new one, whole."""
    os.makedirs(self.path, exist_ok=True)
    unfinished = f"{self.config}.{os.getpid()}"
    with open(unfinished, "w", encoding="utf-8") as file:
      file.write(text)
    os.replace(unfinished, self.config)
