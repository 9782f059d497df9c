"""Tests of devices and shardings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import parallel
from tests import raising


def test_one_device_is_a_mesh_of_one():
  strategy = parallel.create_strategy("jit", devices=1)
  assert strategy.num_devices == 1 and strategy.platform == "cpu"


@pytest.mark.smoke
def test_a_batch_is_spread_and_parameters_are_not():
  strategy = parallel.create_strategy("jit")
  assert strategy.num_devices == 8
  batch = strategy.shard_batch(np.arange(16.0))
  assert len(batch.addressable_shards) == 8
  assert batch.addressable_shards[3].data.tolist() == [6.0, 7.0]
  weights = strategy.replicate(np.ones((2, 2)))
  assert weights.addressable_shards[5].data.shape == (2, 2)
  total = strategy.jit(lambda w, x: w.sum() + x.sum())(weights, batch)
  assert float(total) == 124.0 and total.sharding == strategy.replicated


def test_batch_sizes():
  strategy = parallel.create_strategy("jit", devices=4)
  assert [strategy.round_up(size) for size in (1, 4, 5)] == [4, 4, 8]
  strategy.check_batch_size(8, "global_batch_size")
  with pytest.raises(
    errors.InputError, check=raising.about("global_batch_size", given=11)
  ):
    strategy.check_batch_size(11, "global_batch_size")


def test_donated_state_is_used_up():
  strategy = parallel.create_strategy("jit", devices=1)
  state = strategy.replicate(jnp.zeros(4))
  new = strategy.jit(lambda x: x + 1, donate=(0,))(state)
  jax.block_until_ready(new)
  assert state.is_deleted()
