"""Real data that may be next to the checkout."""

import os
import pathlib

import pytest

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def shared_path(*parts: str) -> pathlib.Path:
  """Returns a path in $IMGBENCH_SHARED or ../shared; skips if absent."""
  root = os.environ.get("IMGBENCH_SHARED") or _REPOSITORY.parent / "shared"
  path = pathlib.Path(root, *parts)
  if not path.exists():
    pytest.skip(f"no real data: {path} is absent (set IMGBENCH_SHARED)")
  return path
