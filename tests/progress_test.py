"""Tests of what a person sees go by."""

import sys

from absl import logging

from imgbench import progress

RECORD = {
  "epoch": 2.5,
  "train/loss": 1.23456,
  "train/images_per_s": 12345.6,
  "train/grad_norm": 3.0,
  "val/top1_accuracy": 0.75,
  "val/macro_f1": 0.5,
}


class Terminal:
  """A terminal, on which a bar is drawn."""

  def __init__(self):
    self.text = ""

  def write(self, text):
    self.text += text

  def flush(self):
    pass

  def isatty(self):
    return True


def test_plain_lines_without_a_terminal(monkeypatch):
  lines = []
  monkeypatch.setattr(
    logging, "info", lambda text, *args: lines.append(text % args)
  )
  monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
  shown = progress.Progress(total=200, done=0, global_batch_size=500)
  shown.advance(1, 2.0)
  shown.report(100, RECORD)
  shown.close()
  assert lines == [
    "step 100/200, epoch 2.5, train/loss 1.235, train/images_per_s 12,346,"
    " val/top1_accuracy 0.75, 0:00:04 left"
  ]


def test_a_bar_on_a_terminal(monkeypatch):
  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  shown = progress.Progress(total=10, done=4, global_batch_size=500)
  for _ in range(6):
    shown.advance(1, [3.0, 1.5])
  shown.report(10, RECORD)
  shown.close()
  assert "10/10" in terminal.text and "loss 1.5000" in terminal.text
  assert "val/top1_accuracy 0.75" in terminal.text
