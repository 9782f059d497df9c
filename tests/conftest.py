"""Settings of all tests: 8 CPU devices, strict rank promotion; a browser."""

import importlib.util
import os
import shutil

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import hypothesis
import jax
import pytest

from imgbench import cli

jax.config.update("jax_numpy_rank_promotion", "raise")
# Otherwise most of the time would go into compiling the same programs.
cli.keep_compiled("default")
# No deadlines on a shared machine. CI uses the same examples each time, so that
# it judges the commit; local runs search for new ones.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
  """Compiles fast tests with few optimizations, in less than half the time.

  Tests with the markers `slow` or `optimized` compile as programs do.
  """
  optimized = any(map(item.get_closest_marker, ("slow", "optimized")))
  jax.config.update("jax_disable_most_optimizations", not optimized)
  os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not optimized))


@pytest.fixture(scope="session")
def browser():
  """The system's Chromium; nothing is downloaded."""
  chromium = shutil.which("chromium")
  missing = [] if chromium else ["chromium (apt-get install chromium)"]
  if not importlib.util.find_spec("playwright"):
    missing.append("playwright (make test-browser)")
  if missing and os.environ.get("IMGBENCH_BROWSER"):  # by make test-browser
    pytest.fail(f"not installed: {', '.join(missing)}")
  if missing:
    pytest.skip(f"not installed: {', '.join(missing)}")
  from playwright import sync_api

  with sync_api.sync_playwright() as playwright:
    launched = playwright.chromium.launch(
      executable_path=chromium, args=["--no-sandbox"]
    )
    yield launched
    launched.close()
