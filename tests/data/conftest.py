"""Gives every test of data an empty user cache."""

import pytest


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
  """Returns imgbench's folder in the user cache, not created yet."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
  return tmp_path / "user_cache" / "imgbench"
