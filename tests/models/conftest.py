"""Models are compiled with few optimizations; runs as processes with all."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def few_optimizations(compile_quickly) -> None:
  """Applies `compile_quickly` to every test of models."""
