"""Fixtures of the scripts' tests."""

import pytest

from imgbench.papers import program


@pytest.fixture(name="without_figures")
def leave_figures_out(monkeypatch):
  """Figures take most of a run's time and have their own tests."""
  monkeypatch.setattr(program.Output, "wanted", False)
