"""Settings of XLA for runs that repeat bit for bit."""

import os

import jax

from imgbench import errors

# On GPUs atomics sum in any order, and each start measures again which kernel
# is fastest. CPUs and TPUs are deterministic without flags.
XLA_FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


def require() -> None:
  """Sets the flags that XLA reads when the first device is used.

  Raises:
    InputError: GPUs were initialized without them.
  """
  flags = os.environ.get("XLA_FLAGS", "").split()
  missing = [flag for flag in XLA_FLAGS if flag not in flags]
  if not missing:
    return
  # Not in JAX's public interface; asking it would start the devices.
  from jax._src import xla_bridge

  if xla_bridge.backends_are_initialized() and jax.default_backend() == "gpu":
    raise errors.InputError(
      "deterministic",
      f"XLA_FLAGS with {' '.join(missing)} before GPUs are used",
      repr(" ".join(flags)),
      f"restart with XLA_FLAGS={' '.join(flags + missing)!r}",
    )
  os.environ["XLA_FLAGS"] = " ".join(flags + missing)
