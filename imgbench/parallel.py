"""Devices, meshes and shardings; nothing else names them."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import numpy as np

from imgbench import errors

P = jax.sharding.PartitionSpec
DATA_AXIS = "data"


@dataclasses.dataclass(frozen=True)
class JitStrategy:
  """Data parallelism by jit over one mesh; one device is a mesh of one.

  Attributes:
    mesh: one axis, "data".
    replicated: sharding of parameters and of data that every device holds.
    batch: sharding of arrays whose first axis is the batch.
    batch_sequence: the same behind a leading axis of steps, [S, B, ...].
  """

  mesh: jax.sharding.Mesh
  replicated: jax.sharding.NamedSharding
  batch: jax.sharding.NamedSharding
  batch_sequence: jax.sharding.NamedSharding

  @property
  def num_devices(self) -> int:
    return self.mesh.size

  @property
  def platform(self) -> str:
    return self.mesh.devices.flat[0].platform

  def check_batch_size(self, size: int, key: str) -> None:
    """Raises InputError unless the devices divide a global batch size."""
    if size < 1 or size % self.num_devices:
      raise errors.InputError(
        f"{key}: expected a positive multiple of the {self.num_devices}"
        f" devices, got {size}; the nearest is"
        f" {max(1, round(size / self.num_devices)) * self.num_devices}"
      )

  def round_up(self, size: int) -> int:
    """The smallest batch size >= `size` that the devices divide."""
    return -(-size // self.num_devices) * self.num_devices

  def replicate(self, tree: Any) -> Any:
    return jax.device_put(tree, self.replicated)

  def shard_batch(self, tree: Any) -> Any:
    return jax.device_put(tree, self.batch)

  def shard_batch_sequence(self, tree: Any) -> Any:
    return jax.device_put(tree, self.batch_sequence)

  def jit(
    self, function: Callable, *, out: Any = None, donate: tuple[int, ...] = ()
  ) -> Callable:
    """Compiles `function`; its inputs carry their shardings.

    Args:
      function: positional arguments only.
      out: sharding (prefix) of what it returns; replicated if None.
      donate: positions of arguments whose memory may be reused.
    """
    return jax.jit(
      function,
      out_shardings=self.replicated if out is None else out,
      donate_argnums=donate,
    )


def create_jit_strategy(num_devices: int) -> JitStrategy:
  """Returns the strategy over the first `num_devices` devices (0: all)."""
  devices = jax.devices()
  if not 0 <= num_devices <= len(devices):
    raise errors.InputError(
      f"parallel.devices: expected 0 (all) to {len(devices)}, got {num_devices}"
    )
  devices = devices[: num_devices or len(devices)]
  # Auto axes: under explicit ones a segment_sum over a sharded batch is
  # refused.
  mesh = jax.sharding.Mesh(
    np.array(devices),
    (DATA_AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
  )
  sharding = lambda *spec: jax.sharding.NamedSharding(mesh, P(*spec))
  return JitStrategy(
    mesh=mesh,
    replicated=sharding(),
    batch=sharding(DATA_AXIS),
    batch_sequence=sharding(None, DATA_AXIS),
  )


STRATEGIES = {"jit": create_jit_strategy}


def create_strategy(strategy: str, devices: int = 0) -> JitStrategy:
  """Returns a strategy by name. Raises InputError for an unknown one."""
  if strategy not in STRATEGIES:
    raise errors.InputError(
      f"parallel.strategy: expected one of {sorted(STRATEGIES)},"
      f" got {strategy!r}"
    )
  return STRATEGIES[strategy](devices)
