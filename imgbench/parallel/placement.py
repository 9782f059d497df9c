"""Where the arrays of a training state lie: on every device, or in shards."""

import functools
import math
from typing import Any

import jax

P = jax.sharding.PartitionSpec
DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
# Smaller arrays cost more to gather than they take to hold: a gather waits a
# few microseconds whatever its size.
SMALLEST_SHARDED = 2**12
# Parts of a matrix in a TPU's memory are padded to whole tiles of so many rows;
# gradients that do not fall into whole tiles are summed everywhere and then
# cut, which moves twice the bytes.
TILE = 16


def state_spec(shape: tuple[int, ...], fsdp: int) -> jax.sharding.PartitionSpec:
  """Returns how an array of a state is spread over the axis "fsdp".

  Of the axes that the devices divide one is cut whose parts are whole tiles,
  not the innermost (of whose parts XLA:TPU often makes no reduce-scatter), and
  the longest, in this order. Arrays of fewer than SMALLEST_SHARDED numbers, or
  without such an axis, stay whole. It depends on the shape alone: an
  optimizer's moments lie as their parameters do.

  Args:
    shape: of the array.
    fsdp: devices along the axis; 1: everything stays whole.
  """
  axes = [i for i, size in enumerate(shape) if size and size % fsdp == 0]
  if fsdp == 1 or math.prod(shape) < SMALLEST_SHARDED or not axes:
    return P()

  def rank(i):
    tiles = not shape[i] // fsdp % TILE
    return tiles, tiles and i < len(shape) - 1, shape[i], i

  axis = max(axes, key=rank)
  return P(*(FSDP_AXIS if i == axis else None for i in range(axis + 1)))


def state_shardings(mesh: jax.sharding.Mesh, tree: Any) -> Any:
  """Returns a sharding for each array, or shape, of a state."""
  fsdp = mesh.shape[FSDP_AXIS]
  return jax.tree.map(
    lambda x: jax.sharding.NamedSharding(mesh, state_spec(x.shape, fsdp)), tree
  )


def whole(mesh: jax.sharding.Mesh, tree: Any) -> Any:
  """Returns a state's arrays as every device needs them to compute; traced.

  An array that is cut is gathered once, and kept until its gradient is
  computed; that gradient is summed over the devices and cut as the array is.
  Left to itself the compiler gathers again for the backward pass, moves rows of
  the batch instead where they are fewer bytes, or sends the parts of a gradient
  around in a ring of small matrix products.

  Args:
    mesh: axes "data" and "fsdp".
    tree: arrays, each with its global shape.
  """
  fsdp = mesh.shape[FSDP_AXIS]

  def gather(x):
    spec = state_spec(x.shape, fsdp)
    if spec == P():
      return x
    lies = lambda spec: jax.sharding.NamedSharding(mesh, spec)
    return _gather(x, lies(P()), lies(spec))

  return jax.tree.map(gather, tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x, whole, cut):
  del cut
  return jax.lax.with_sharding_constraint(x, whole)


def _gather_forward(x, whole, cut):
  return _gather(x, whole, cut), None


def _gather_backward(whole, cut, _, gradient):
  # Both: without the first a matrix product is taken apart into a ring; with
  # both, sum and cut become one reduce-scatter (but on CPUs, which lack it, and
  # on TPUs that sum over "data" too: there it is an all-reduce and a slice).
  gradient = jax.lax.with_sharding_constraint(gradient, whole)
  return (jax.lax.with_sharding_constraint(gradient, cut),)


_gather.defvjp(_gather_forward, _gather_backward)
