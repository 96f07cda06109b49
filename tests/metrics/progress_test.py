import sys

from absl import logging

from tf_mmvae.metrics import progress


def test_a_line_a_minute_without_a_terminal(monkeypatch):
  """Each of 5 batches takes 40 seconds of this clock."""
  said = []
  monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
  monkeypatch.setattr(logging, "info", lambda text, *values: said.append(text % values))
  now = [0.]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  seen = []
  for batch in progress.progress(range(5), "probes"):
    seen.append(batch)
    now[0] += 40.
  assert seen == [0, 1, 2, 3, 4]
  assert said == ["probes: 2 of 5", "probes: 4 of 5"]


def test_a_bar_on_a_terminal(monkeypatch):
  asked = []

  def bar(batches, what, total, leave):
    asked.append((what, total))
    return batches

  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  monkeypatch.setattr(progress.tqdm, "tqdm", bar)
  assert list(progress.progress(iter("abc"), "latents", 3)) == ["a", "b", "c"]
  assert asked == [("latents", 3)]
