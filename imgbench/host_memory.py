"""Memory of a CPU that serves as device: kept between steps, not given back.

XLA allocates the temporaries of a CPU program anew at each call, as one block,
and frees them at its end. By default glibc returns a block of that size to the
system at once, so that each step of training takes a page fault for every 4 KiB
of it and has the system clear all of it again.
"""

import ctypes
import importlib.metadata
import importlib.util
import os

import jax

# glibc's malloc.h: the names of mallopt's settings.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_ARENA_MAX = -8
# Blocks of any size come from the heap, which all threads share (only that of
# the main thread grows to any size) and which never shrinks.
_SETTINGS = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))


def keep() -> bool:
  """Lets this process keep freed memory, where a CPU is to be its device.

  To be called before the first device is used: threads that run already go on
  as they are. On accelerators nothing is changed, nor where the environment
  says what malloc is to do (a variable MALLOC_*, GLIBC_TUNABLES), nor with
  another C library than glibc. The process may then hold up to three times its
  temporaries: one step's are freed a little after the next has taken its own,
  and where they lay smaller things may lie by then.

  Returns:
    Whether it does.
  """
  if not _on_cpu() or _is_set():
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  return all([mallopt(name, value) == 1 for name, value in _SETTINGS])


def _on_cpu() -> bool:
  """Whether JAX will use a CPU; asking JAX would start its devices."""
  if platforms := jax.config.jax_platforms:
    return platforms.split(",")[0] == "cpu"
  plugins = importlib.metadata.entry_points(group="jax_plugins")
  found = map(importlib.util.find_spec, ("jax_plugins", "libtpu"))
  return not plugins and not any(found)


def _is_set() -> bool:
  return "GLIBC_TUNABLES" in os.environ or any(
    name.startswith("MALLOC_") for name in os.environ
  )
