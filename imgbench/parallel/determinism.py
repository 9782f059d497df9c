"""Settings of XLA and of random keys for runs that repeat bit for bit."""

from collections.abc import Iterator
import contextlib
import dataclasses
import os

import jax

from imgbench import errors

# On GPUs atomics sum in any order, and each start measures again which kernel
# is fastest. CPUs and TPUs are deterministic without flags.
XLA_FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")

IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")


@dataclasses.dataclass(frozen=True)
class Prng:
  """Settings of jax.random, on which all random numbers of a run depend.

  Attributes:
    impl: of keys, one of IMPLEMENTATIONS; with the last two, augmentation of an
      example depends on its batch.
    partitionable: whether devices draw numbers of their shards only, with
      threefry2x32.
  """

  impl: str = "threefry2x32"
  partitionable: bool = True

  def __post_init__(self):
    if self.impl not in IMPLEMENTATIONS:
      known = f"one of {', '.join(IMPLEMENTATIONS)}"
      raise errors.InputError("impl", known, repr(self.impl))

  @contextlib.contextmanager
  def active(self) -> Iterator[None]:
    """Sets JAX's options in this thread while the block runs.

    JAX reads them when a key is made or split and when a program is lowered.
    """
    with (
      jax.default_prng_impl(self.impl),
      jax.threefry_partitionable(self.partitionable),
    ):
      yield


def reset_prng() -> None:
  """Sets JAX's options to those of `Prng()`, whatever the environment says.

  A run uses its own, see `Prng.active`.
  """
  jax.config.update("jax_default_prng_impl", Prng.impl)
  jax.config.update("jax_threefry_partitionable", Prng.partitionable)


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
