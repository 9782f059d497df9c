"""Tests of the convolutional autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import models
from imgbench.models import autoencoder
from imgbench.models import flops
from tests import raising


def build(dtype=jnp.float32, size=8, **settings):
  return models.build_model(
    "autoencoder",
    num_classes=5,
    image_shape=(size, size, 3),
    dtype=dtype,
    **{"widths": (4, 6), "code": 2, **settings},
  )


def test_halves_are_put_back_in_their_places():
  x = jnp.arange(2 * 2 * 8.0).reshape(1, 2, 2, 8)
  found = np.asarray(autoencoder.double(x))
  assert found.shape == (1, 4, 4, 2)
  for row in range(4):
    for column in range(4):
      place = 4 * (row % 2) + 2 * (column % 2)
      expected = x[0, row // 2, column // 2, place : place + 2]
      np.testing.assert_array_equal(found[0, row, column], expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_outputs_are_pixels_through_a_narrow_code(dtype):
  model = build(dtype)
  assert model.reconstructs and not model.needs_key
  variables = jax.jit(model.init)(jax.random.key(0))
  assert variables["params"]["code"]["kernel"].shape == (1, 1, 6, 2)
  images = 9 * jax.random.normal(jax.random.key(1), (4, 8, 8, 3), dtype)
  outputs, state = jax.jit(model.apply, static_argnums=2)(
    variables, images, True
  )
  assert outputs.shape == images.shape and outputs.dtype == jnp.float32
  assert 0 <= outputs.min() < outputs.max() <= 1
  assert state.keys() == {"batch_stats"}


def test_noise_is_drawn_by_key_in_training_only():
  noisy, clean = build(noise=0.5), build()
  variables = jax.jit(clean.init)(jax.random.key(0))
  images = jnp.zeros((2, 8, 8, 3))
  apply = jax.jit(noisy.apply, static_argnums=2)
  one, other, again = (
    apply(variables, images, True, jax.random.key(i))[0] for i in (1, 2, 1)
  )
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 0
  plain = jax.jit(clean.apply, static_argnums=2)(variables, images, False)[0]
  np.testing.assert_array_equal(apply(variables, images, False)[0], plain)


def test_sides_that_are_not_whole_after_halving_are_refused():
  with pytest.raises(errors.InputError, check=raising.about("widths")):
    build(size=10)


def test_flops_by_hand():
  model = build(size=8)
  # Positions x kernel x channels in x channels out.
  down = 16 * 9 * 3 * 4 + 4 * 9 * 4 * 6
  up = 4 * 9 * (2 * 6 + 6 * 16) + 16 * 9 * (4 * 4 + 4 * 12)
  found = flops.count_cost(model, (8, 8, 3))
  assert found.macs == down + 4 * 6 * 2 + up
