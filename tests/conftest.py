"""Settings of all tests: 8 CPU devices, strict rank promotion."""

import os

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
