"""Devices of the accelerator tests: the accelerator and the CPU."""

import contextlib
import os

import jax

from imgbench import parallel
from imgbench.parallel import determinism


def platforms() -> str:
  """Returns JAX_PLATFORMS for child processes, without starting JAX."""
  return os.environ["JAX_PLATFORMS"]


def first_platform() -> str:
  """Returns what JAX calls the platform of the accelerator."""
  first = platforms().split(",")[0]
  return {"cuda": "gpu", "rocm": "gpu"}.get(first, first)


def cpu_device() -> jax.Device:
  """Returns the CPU device to compare with.

  It is the last one. Without an accelerator the tests run on the first CPU
  devices, and mixing arrays of the two is an error there too.
  """
  return jax.devices("cpu")[-1]


@contextlib.contextmanager
def strategy_at(place: str, batch_size: int = 0):
  """Yields the strategy of a place, which is the default device inside.

  Args:
    place: "cpu", or "jit" or "pmap" on the accelerators.
    batch_size: as many accelerators are used as divide it; 0: all.
  """
  if place == "cpu":
    device = cpu_device()
    with jax.default_device(device):
      yield parallel.jit_strategy([device])
  else:
    count = len(jax.devices())
    while batch_size % count:
      count -= 1
    yield parallel.create_strategy(place, count)


def repeats_bits() -> bool:
  """Returns whether equal programs give equal bits on the accelerator."""
  flags = os.environ.get("XLA_FLAGS", "").split()
  asked = set(determinism.XLA_FLAGS) <= set(flags)
  return asked or jax.default_backend() != "gpu"
