"""Builds a program of another's collectives alone, to time them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import parser

P = jax.sharding.PartitionSpec
_DTYPES = {
  "f32": jnp.float32,
  "bf16": jnp.bfloat16,
  "f16": jnp.float16,
  "s32": jnp.int32,
}


def build(
  found: Sequence[collectives.Collective], mesh: jax.sharding.Mesh
) -> tuple[jax.stages.Compiled, list[jax.Array]]:
  """Returns a program that runs collectives one after the other.

  Each waits for the one before and overlaps with nothing: an upper bound of
  their time.

  Args:
    found: collectives of a step compiled for the devices of the mesh.
    mesh: with one or two axes.

  Returns:
    The compiled program and its arguments.

  Raises:
    ValueError: an unsupported kind or group.
  """
  wanted = [one for one in found for _ in range(one.times)]
  inputs = [_make_input(one, mesh) for one in wanted]
  axes = [_find_axes(one.group_size, mesh) for one in wanted]

  def run(*arrays):
    done = jnp.zeros((), jnp.float32)
    for one, axis, array in zip(wanted, axes, arrays, strict=True):
      array, done = jax.lax.optimization_barrier((array, done))
      # Uses the whole result; else XLA would remove the collective.
      result = jax.lax.optimization_barrier(_run(one, axis, array[0]))
      done += result.reshape(-1)[0].astype(jnp.float32)
    return done[None]

  spec = P(mesh.axis_names)
  program = jax.jit(
    jax.shard_map(
      run,
      mesh=mesh,
      in_specs=(spec,) * len(inputs),
      out_specs=spec,
      check_vma=False,
    )
  )
  return program.lower(*inputs).compile(), inputs


def _make_input(
  one: collectives.Collective, mesh: jax.sharding.Mesh
) -> jax.Array:
  """Returns zeros, one row per device."""
  size = one.elements // one.times
  if one.kind == collectives.ALL_GATHER:
    size //= one.group_size
  if one.kind in (collectives.REDUCE_SCATTER, collectives.ALL_TO_ALL):
    size = -(-size // one.group_size) * one.group_size
  dtype = max((array.dtype for array in one.arrays), key=_count_bytes)
  sharding = jax.sharding.NamedSharding(mesh, P(mesh.axis_names))
  return jnp.zeros(
    (mesh.size, max(size, 1)), _DTYPES.get(dtype, jnp.int32), device=sharding
  )


def _count_bytes(dtype: str) -> int:
  return parser.Array(dtype, (1,)).num_bytes


def _find_axes(group_size: int, mesh: jax.sharding.Mesh) -> tuple[str, ...]:
  """Returns the axes with this many devices."""
  choices = [(name,) for name in mesh.axis_names] + [tuple(mesh.axis_names)]
  for names in choices:
    size = 1
    for name in names:
      size *= mesh.shape[name]
    if size == group_size:
      return names
  raise ValueError(f"no axes of {dict(mesh.shape)} have {group_size} devices")


def _run(one: collectives.Collective, axis, array: jax.Array) -> jax.Array:
  if one.kind == collectives.ALL_REDUCE:
    return jax.lax.psum(array, axis)
  if one.kind == collectives.ALL_GATHER:
    return jax.lax.all_gather(array, axis, tiled=True)
  if one.kind == collectives.REDUCE_SCATTER:
    return jax.lax.psum_scatter(array, axis, tiled=True)
  if one.kind == collectives.ALL_TO_ALL:
    return jax.lax.all_to_all(array, axis, 0, 0, tiled=True)
  if one.kind == collectives.PERMUTE:
    size = one.group_size
    right = [(i, (i + 1) % size) for i in range(size)]
    return jax.lax.ppermute(array, axis, right)
  raise ValueError(f"expected a supported collective, got {one.kind}")
