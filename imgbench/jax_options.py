"""Options and platforms of JAX, which users set in the environment."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import traceback
from typing import Any

import jax
import jax.numpy as jnp

from imgbench import errors

_TRANSFERS = (None, "allow", "log", "log_explicit")
# Option -> values with which a model can be trained; the first is the default.
_TAKEN: Mapping[str, Sequence[Any]] = {
  # "fatal" ends the process when a cycle of Python objects is collected.
  "jax_array_garbage_collection_guard": (None, "allow", "log"),
  # Steps are compiled ahead of time.
  "jax_disable_jit": (False,),
  "jax_no_execution": (False,),
  "jax_no_tracing": (False,),
  "jax_numpy_dtype_promotion": ("standard",),
  # It would change the keys of every seed.
  "jax_random_seed_offset": (0,),
  "jax_transfer_guard": _TRANSFERS,
  "jax_transfer_guard_device_to_device": _TRANSFERS,
  "jax_transfer_guard_device_to_host": _TRANSFERS,
  "jax_transfer_guard_host_to_device": _TRANSFERS,
}
_PRECISION = "jax_default_matmul_precision"


def check() -> None:
  """Raises InputError if JAX has an option with which no model can be trained.

  Devices are used.
  """
  values = jax.config.values
  for name, taken in _TAKEN.items():
    if values.get(name, taken[0]) not in taken:
      known = ", ".join(str(value) for value in taken if value is not None)
      _refuse(name, f"{known} to train", values[name])
  if values[_PRECISION] is not None:
    numbers = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    try:
      jax.jit(jnp.matmul).lower(numbers, numbers).compile()
    except Exception as error:  # JAX and XLA raise several kinds.
      expected = f"a precision of products on {jax.default_backend()}"
      _refuse(_PRECISION, expected, values[_PRECISION], error)


def _refuse(
  name: str, expected: str, given: Any, reason: Exception | None = None
) -> None:
  raise errors.InputError(name.upper(), expected, given, "unset it") from reason


@contextlib.contextmanager
def platform_errors() -> Iterator[None]:
  """Turns an error of the block about JAX_PLATFORMS into an InputError."""
  try:
    yield
  except (RuntimeError, AssertionError) as error:
    given = jax.config.jax_platforms
    if not given or not _is_of_platforms(error, given):
      raise
    there = _list_platforms()
    raise errors.InputError(
      "JAX_PLATFORMS",
      f"platforms of this machine, {', '.join(there)}",
      repr(given),
      "unset it to let JAX choose",
    ) from error


def _is_of_platforms(error: Exception, given: str) -> bool:
  """Returns whether JAX raised an error because a platform is missing."""
  # Where there is no GPU, JAX skips these and asserts that others are left.
  if isinstance(error, AssertionError):
    frames = traceback.extract_tb(error.__traceback__)
    raised = frames[-1].filename if frames else ""
    is_of_jax = raised.endswith("xla_bridge.py")
    return is_of_jax and set(given.split(",")) <= {"cuda", "gpu"}
  return str(error).startswith("Unable to initialize backend")


def _list_platforms() -> list[str]:
  """Returns the names of the platforms that JAX finds here, and "cpu"."""
  found = {"cpu"}
  if not jax.distributed.is_initialized():  # The other processes would wait.
    from jax._src import xla_bridge

    jax.config.update("jax_platforms", "")
    with contextlib.suppress(Exception):  # The first error is the one to show.
      found |= set(xla_bridge.backends())
  return sorted(found)
