"""Lists the collectives that a step needs at least, derived by hand.

They have the same form as those of a compiled program (`collectives`), so both
can be compared.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import parser
from imgbench.parallel import placement
from imgbench.train import state as state_lib

_DTYPES = {"float32": "f32", "bfloat16": "bf16", "int32": "s32"}
# Loss and hits of the batch.
_METRICS = 2


def list_training_collectives(
  state: state_lib.TrainState,
  mesh: jax.sharding.Mesh,
  dtype: Any,
  *,
  mixed_shape: tuple[int, int, int] | None = None,
) -> list[collectives.Collective]:
  """Returns the collectives that a training step needs under jit.

  Data parallel: one all-reduce of the gradients. With a sharded state every
  sharded array is gathered once and its gradient reduce-scattered, then summed
  over the axis "data". Gradients and parameters are sent in the model's dtype
  (float32 norms and heads send up to twice as much). BatchNorm over the global
  batch sums its statistics in each layer's forward pass, BatchNorm per device
  sums the running ones at the end: the same bytes. The gradients of its scale
  and bias are among the gradients.

  Args:
    state: shapes of the whole arrays.
    mesh: axes "data" and "fsdp".
    dtype: of the model's computation.
    mixed_shape: shape of the image that each device gets from its neighbour,
      with its label, if images are mixed; None: they are not.
  """
  fsdp = mesh.shape.get(placement.FSDP_AXIS, 1)
  cut, whole = _split_sizes(state.params, fsdp)
  name = _DTYPES[jnp.dtype(dtype).name]
  need = _Need(mesh)
  need.add_gather(name, state.variables, "parameters")
  need.add(collectives.REDUCE_SCATTER, name, cut, fsdp, "sharded gradients")
  data = mesh.size // fsdp
  need.add(
    collectives.ALL_REDUCE,
    name,
    cut // fsdp,
    data,
    "sharded gradients, by part",
  )
  need.add(collectives.ALL_REDUCE, name, whole, mesh.size, "gradients")
  statistics = sum(
    x.size for x in jax.tree.leaves(state.model_state.get("batch_stats", {}))
  )
  need.add(
    collectives.ALL_REDUCE, "f32", statistics, mesh.size, "BatchNorm statistics"
  )
  # The gradient norm is summed over the shards of each array.
  scalars = _METRICS + (cut > 0)
  need.add(collectives.ALL_REDUCE, "f32", scalars, mesh.size, "metrics")
  if mixed_shape is not None:
    height, width, channels = mixed_shape
    pixels = height * width * channels
    need.add(collectives.PERMUTE, name, pixels, mesh.size, "mixed image")
    need.add(collectives.PERMUTE, "s32", 1, mesh.size, "mixed label")
  return need.collectives


def list_evaluation_collectives(
  variables: Mapping[str, Any],
  counted: Any,
  mesh: jax.sharding.Mesh,
  dtype: Any,
) -> list[collectives.Collective]:
  """Returns the collectives that an evaluation step needs under jit.

  Args:
    variables: of the model, shapes of the whole arrays.
    counted: int32 arrays that are summed over the devices.
    mesh: see `list_training_collectives`.
    dtype: see `list_training_collectives`.
  """
  need = _Need(mesh)
  need.add_gather(_DTYPES[jnp.dtype(dtype).name], variables, "parameters")
  numbers = sum(x.size for x in jax.tree.leaves(counted))
  need.add(collectives.ALL_REDUCE, "s32", numbers, mesh.size, "counts")
  return need.collectives


class _Need:
  """Collects collectives that are not empty."""

  def __init__(self, mesh: jax.sharding.Mesh):
    self._fsdp = mesh.shape.get(placement.FSDP_AXIS, 1)
    self.collectives = []

  def add(self, kind, dtype, elements, group_size, what) -> None:
    if elements and group_size > 1:
      self.collectives.append(
        collectives.Collective(
          kind=kind,
          arrays=(parser.Array(dtype, (elements,)),),
          group_size=group_size,
          times=1,
          asynchronous=False,
          source=what,
        )
      )

  def add_gather(self, dtype, variables, what) -> None:
    cut, _ = _split_sizes(variables, self._fsdp)
    self.add(collectives.ALL_GATHER, dtype, cut, self._fsdp, what)


def _split_sizes(tree: Any, fsdp: int) -> tuple[int, int]:
  """Returns the number of elements in sharded arrays and in the others."""
  sizes = [0, 0]
  for x in jax.tree.leaves(tree):
    spec = placement.state_spec(x.shape, fsdp)
    sizes[spec == jax.sharding.PartitionSpec()] += x.size
  return sizes[0], sizes[1]
