"""Tests of batches of data that live on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench.data import device


def make(count):
  return device.DeviceExamples(
    image=jnp.arange(count * 4, dtype=jnp.uint8).reshape(count, 2, 2, 1),
    label=jnp.arange(count, dtype=jnp.int32),
    label_codes=None,
    left_out=None,
  )


@pytest.mark.parametrize(("count", "size"), [(10, 4), (8, 4), (3, 5), (1, 1)])
def test_a_pass_sees_every_example_once(count, size):
  gather = jax.jit(device.eval_batch, static_argnums=2)
  data, seen = make(count), []
  for start in range(0, count, size):
    batch, mask = gather(data, jnp.int32(start), size)
    assert batch.image.shape == (size, 2, 2, 1) and mask.shape == (size,)
    seen += np.asarray(batch.label)[np.asarray(mask)].tolist()
    padding = np.asarray(batch.label)[~np.asarray(mask)]
    assert (padding == count - 1).all()
  assert seen == list(range(count))
