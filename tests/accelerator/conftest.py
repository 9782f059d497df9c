"""Settings of the accelerator tests: they share the device with children."""

import os
import signal

import jax
import pytest

from tests.accelerator import places

# On GPUs JAX would take most of the memory when it starts.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# At a time limit pytest ends as by Ctrl-C, and writes its results.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items):
  """Runs the tests with child processes first.

  A TPU belongs to one process at a time, so children must run before this
  process has used it.
  """
  items.sort(key=lambda item: item.path.name != "resume_test.py")


@pytest.fixture(autouse=True)
def on_the_accelerator(request):
  """Fails if JAX has silently fallen back to CPUs."""
  if request.path.name != "resume_test.py":
    assert jax.default_backend() == places.first_platform()
