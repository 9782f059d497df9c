"""Tests of the collectives that a step needs, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import need
from imgbench.parallel import placement
from imgbench.train import state as state_lib

PARAMS = {"kernel": (64, 128), "bias": (10,)}
STATISTICS = {"mean": (10,), "var": (10,)}


def state():
  zeros = lambda shapes: {k: jnp.zeros(v) for k, v in shapes.items()}
  variables = {"params": zeros(PARAMS), "batch_stats": zeros(STATISTICS)}
  return state_lib.TrainState.create(variables, optax.adam(1e-3))


def mesh(fsdp):
  devices = np.array(jax.devices()).reshape(-1, fsdp)
  names = (placement.DATA_AXIS, placement.FSDP_AXIS)
  return jax.sharding.Mesh(devices, names)


def rows(found):
  return [(one.kind, one.dtypes, one.elements, one.group_size) for one in found]


def test_data_parallel():
  found = need.list_training_collectives(
    state(), mesh(1), jnp.bfloat16, mixed_shape=(4, 4, 3)
  )
  assert rows(found) == [
    ("all-reduce", "bf16", 64 * 128 + 10, 8),
    ("all-reduce", "f32", 20, 8),
    ("all-reduce", "f32", 2, 8),
    ("collective-permute", "bf16", 48, 8),
    ("collective-permute", "s32", 1, 8),
  ]


def test_a_sharded_state():
  """Arrays that are too small to be sharded are summed as before."""
  found = need.list_training_collectives(state(), mesh(8), jnp.float32)
  assert rows(found) == [
    ("all-gather", "f32", 64 * 128, 8),
    ("reduce-scatter", "f32", 64 * 128, 8),
    ("all-reduce", "f32", 10, 8),
    ("all-reduce", "f32", 20, 8),
    ("all-reduce", "f32", 3, 8),
  ]


@pytest.mark.parametrize("fsdp", [2, 4, 8])
def test_bytes_sent_are_those_of_the_document(fsdp):
  found = need.list_training_collectives(state(), mesh(fsdp), jnp.float32)
  of_kernel = [one for one in found if one.elements > 100]
  size, n, f = 4 * 64 * 128, 8, fsdp
  expected = 2 * size * (f - 1) / f
  if f < n:
    expected += 2 * size / f * (n / f - 1) / (n / f)
  assert collectives.sum_sent(of_kernel) == pytest.approx(expected)


def test_an_evaluation():
  counts = jax.ShapeDtypeStruct((11, 12), jnp.int32)
  found = need.list_evaluation_collectives(
    state().variables, counts, mesh(8), jnp.float32
  )
  assert rows(found) == [
    ("all-gather", "f32", 64 * 128, 8),
    ("all-reduce", "s32", 132, 8),
  ]


def test_one_device_needs_no_collectives():
  alone = jax.sharding.Mesh(
    np.array(jax.devices()[:1]).reshape(1, 1),
    (placement.DATA_AXIS, placement.FSDP_AXIS),
  )
  assert need.list_training_collectives(state(), alone, jnp.float32) == []
