"""What the devices have to tell each other in a step, counted by hand.

The least that the mathematics asks for, in the same terms as what a compiled
program really does (`collectives`), so that both can be laid side by side.
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

  Data parallel: one all-reduce of the gradients. Where the state is cut: every
  cut array is gathered once and its gradient reduce-scattered, then summed over
  the axis "data". Gradients and parameters travel in the type that the layers
  compute in (norms and heads, which are float32, take more, at most twice).
  BatchNorm over the global batch sums its statistics in each layer's forward
  pass, that over a device's part the running ones at the end: the same numbers.
  What the backward pass sums are the gradients of its scale and bias.

  Args:
    state: shapes of the whole arrays.
    mesh: axes "data" and "fsdp".
    dtype: that the model computes in.
    mixed_shape: of the image that each device gets from its neighbour where
      images are mixed, with its label; None where they are not.
  """
  fsdp = mesh.shape.get(placement.FSDP_AXIS, 1)
  cut, whole = _split_sizes(state.params, fsdp)
  name = _DTYPES[jnp.dtype(dtype).name]
  need = _Need(mesh)
  need.add_gather(name, state.variables, "parameters")
  need.add(collectives.REDUCE_SCATTER, name, cut, fsdp, "gradients, cut")
  data = mesh.size // fsdp
  need.add(
    collectives.ALL_REDUCE, name, cut // fsdp, data, "gradients, cut, by part"
  )
  need.add(collectives.ALL_REDUCE, name, whole, mesh.size, "gradients")
  statistics = sum(
    x.size for x in jax.tree.leaves(state.model_state.get("batch_stats", {}))
  )
  need.add(
    collectives.ALL_REDUCE, "f32", statistics, mesh.size, "BatchNorm statistics"
  )
  # The norm of the gradients sums over the parts of each cut array.
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
  """Returns the collectives that a step of an evaluation needs under jit.

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
  """Collects what is not empty."""

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
  """Numbers in the arrays that are cut, and in the others."""
  sizes = [0, 0]
  for x in jax.tree.leaves(tree):
    spec = placement.state_spec(x.shape, fsdp)
    sizes[spec == jax.sharding.PartitionSpec()] += x.size
  return sizes[0], sizes[1]
