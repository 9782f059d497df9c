"""Keeps freed memory in the process between steps on a CPU.

XLA allocates the temporaries of a CPU program as one block at each call and
frees it at the end. By default glibc returns a block of that size to the system
at once, so each training step takes a page fault for every 4 KiB of it and the
system clears all of it again.
"""

import ctypes
import importlib.metadata
import importlib.util
import os

import jax

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_ARENA_MAX = -8
# Blocks of any size come from the heap of the main thread (the only one that
# grows to any size), which all threads share and which never shrinks.
_SETTINGS = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))


def keep() -> bool:
  """Makes malloc keep freed memory if JAX will use a CPU.

  Call it before the first device is used: it does not change running threads.
  It does nothing on accelerators, where the environment sets up malloc
  (MALLOC_*, GLIBC_TUNABLES), or without glibc. The process may hold up to three
  times its temporaries: a step frees them a little after the next one has
  allocated its own, and smaller blocks may take their place.

  Returns:
    Whether freed memory is kept.
  """
  if not _on_cpu() or _is_configured():
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  return all([mallopt(name, value) == 1 for name, value in _SETTINGS])


def _on_cpu() -> bool:
  """Returns whether JAX will use a CPU; asking JAX would start its devices."""
  if platforms := jax.config.jax_platforms:
    return platforms.split(",")[0] == "cpu"
  plugins = importlib.metadata.entry_points(group="jax_plugins")
  found = map(importlib.util.find_spec, ("jax_plugins", "libtpu"))
  return not plugins and not any(found)


def _is_configured() -> bool:
  """Returns whether the environment sets up malloc."""
  return "GLIBC_TUNABLES" in os.environ or any(
    name.startswith("MALLOC_") for name in os.environ
  )
