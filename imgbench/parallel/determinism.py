"""Equal runs end in equal bits: what has to be asked for."""

import os

import jax

from imgbench import errors

# On GPUs sums over atomics come in any order, and which kernel is the fastest
# is measured anew at each start. CPUs and TPUs give equal bits without.
XLA_FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


def require() -> None:
  """Sets what XLA reads when the first device is used.

  Raises:
    InputError: GPUs are used already, and were started without.
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
