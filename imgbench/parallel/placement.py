"""Shardings of a training state: replicated, or sharded over "fsdp"."""

import functools
import math
from typing import Any

import jax

P = jax.sharding.PartitionSpec
DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
# Smaller arrays are replicated: a gather takes some microseconds at any size.
SMALLEST_SHARDED = 2**12
# TPUs pad shards to whole tiles of this many rows. Gradients that do not fill
# whole tiles are all-reduced and then sliced, which moves twice the bytes.
TILE = 16


def state_spec(shape: tuple[int, ...], fsdp: int) -> jax.sharding.PartitionSpec:
  """Returns how an array of a state is sharded over the axis "fsdp".

  Of the axes that the device count divides, it shards one whose shards are
  whole tiles; among those not the innermost (for which XLA:TPU often emits no
  reduce-scatter); among those the longest. Arrays of fewer than
  SMALLEST_SHARDED numbers, or without such an axis, are replicated. Only the
  shape matters, so optimizer moments are sharded like their parameters.

  Args:
    shape: of the array.
    fsdp: devices along the axis; 1: everything is replicated.
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
  """Returns the sharding of each array, or shape, of a state."""
  fsdp = mesh.shape[FSDP_AXIS]
  return jax.tree.map(
    lambda x: jax.sharding.NamedSharding(mesh, state_spec(x.shape, fsdp)), tree
  )


def gather(mesh: jax.sharding.Mesh, tree: Any) -> Any:
  """Returns a state's arrays replicated, for computing with them; traced.

  A sharded array is gathered once and kept until its gradient is computed;
  the gradient is reduce-scattered. By itself the compiler would gather again
  for the backward pass, move rows of the batch where those are fewer bytes, or
  compute the gradient as a ring of small matrix products.

  Args:
    mesh: axes "data" and "fsdp".
    tree: arrays, each with its global shape.
  """
  fsdp = mesh.shape[FSDP_AXIS]

  def gather_one(x):
    spec = state_spec(x.shape, fsdp)
    if spec == P():
      return x
    sharding = functools.partial(jax.sharding.NamedSharding, mesh)
    return _gather(x, sharding(P()), sharding(spec))

  return jax.tree.map(gather_one, tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x, whole, cut):
  del cut
  return jax.lax.with_sharding_constraint(x, whole)


def _gather_forward(x, whole, cut):
  return _gather(x, whole, cut), None


def _gather_backward(whole, cut, _, gradient):
  # Both constraints are needed: without the first the compiler splits a matrix
  # product into a ring. With both, sum and slice become one reduce-scatter (not
  # on CPUs, which lack it, nor on TPUs that also sum over "data": those run an
  # all-reduce and a slice).
  gradient = jax.lax.with_sharding_constraint(gradient, whole)
  return (jax.lax.with_sharding_constraint(gradient, cut),)


_gather.defvjp(_gather_forward, _gather_backward)
