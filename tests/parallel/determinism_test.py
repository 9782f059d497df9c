"""Tests of what is asked of XLA for equal bits."""

import os

from imgbench.parallel import determinism


def test_flags_are_added_once_and_others_kept(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_other=1")
  for _ in range(2):
    determinism.require()
    flags = os.environ["XLA_FLAGS"].split()
    assert flags == ["--xla_other=1", *determinism.XLA_FLAGS]
