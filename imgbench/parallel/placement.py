"""Where the arrays of a training state lie: on every device, or in shards."""

import math
from typing import Any

import jax

P = jax.sharding.PartitionSpec
DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
# Smaller arrays cost more to gather than they take to hold: a gather waits a
# few microseconds whatever its size.
SMALLEST_SHARDED = 2**12


def state_spec(shape: tuple[int, ...], fsdp: int) -> jax.sharding.PartitionSpec:
  """Returns how an array of a state is spread over the axis "fsdp".

  The longest axis that the devices divide is cut, the last of equal ones;
  arrays of fewer than SMALLEST_SHARDED numbers, or without such an axis, stay
  whole. It depends on the shape alone: an optimizer's moments lie as their
  parameters do.

  Args:
    shape: of the array.
    fsdp: devices along the axis; 1: everything stays whole.
  """
  axes = [i for i, size in enumerate(shape) if size and size % fsdp == 0]
  if fsdp == 1 or math.prod(shape) < SMALLEST_SHARDED or not axes:
    return P()
  axis = max(axes, key=lambda i: (shape[i], i))
  return P(*(FSDP_AXIS if i == axis else None for i in range(axis + 1)))


def state_shardings(mesh: jax.sharding.Mesh, tree: Any) -> Any:
  """Returns a sharding for each array, or shape, of a state."""
  fsdp = mesh.shape[FSDP_AXIS]
  return jax.tree.map(
    lambda x: jax.sharding.NamedSharding(mesh, state_spec(x.shape, fsdp)), tree
  )
