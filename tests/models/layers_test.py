"""Tests of the shared layers against independent formulations."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import parallel
from imgbench.bench.hlo import collectives
from imgbench.models import layers


def twin_convolve(x, kernel, stride, padding):
  """A sum over kernel positions, in float64."""
  x = np.asarray(x, np.float64)
  kernel = np.asarray(kernel, np.float64)
  x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  size = kernel.shape[0]
  rows, cols = ((n - size) // stride + 1 for n in x.shape[1:3])
  result = 0.0
  for i in range(size):
    for j in range(size):
      part = x[
        :,
        i : i + stride * (rows - 1) + 1 : stride,
        j : j + stride * (cols - 1) + 1 : stride,
      ]
      result = result + part @ kernel[i, j]
  return result


def make_input(batch, size, kernel_size):
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (batch, size, size + 1, 3))
  return x, jax.random.normal(keys[1], (kernel_size, kernel_size, 3, 5))


@pytest.mark.parametrize(
  ("kernel_size", "stride", "padding"),
  [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3), (2, 1, 0), (4, 2, 0)],
)
def test_convolve(kernel_size, stride, padding):
  x, kernel = make_input(4, 9, kernel_size)
  got = layers.convolve(x, kernel, stride, padding)
  expected = twin_convolve(x, kernel, stride, padding)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [6, 7])
def test_gradients_in_parts_are_those_of_the_convolution(
  monkeypatch, stride, batch
):
  x, kernel = make_input(batch, 8, 3)
  weight = jnp.cos(jnp.arange(batch * 8 * 9 * 5)).reshape(batch, 8, 9, 5)
  weight = weight[:, ::stride, ::stride]

  def loss(convolve, x, kernel):
    return jnp.sum(convolve(x, kernel, stride, 1) * weight)

  expected = jax.grad(loss, argnums=(1, 2))(layers._plain_convolve, x, kernel)
  monkeypatch.setattr(layers, "POSITIONS_PER_PART", 40)
  assert layers._num_parts(weight.shape) > 1
  got = jax.jit(jax.grad(functools.partial(loss, layers.convolve), (0, 1)))(
    x, kernel
  )
  for one, other in zip(got, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("size", "kernel_size", "stride", "padding"),
  [(1, 3, 1, 1), (2, 3, 1, 1), (2, 3, 2, 1), (2, 7, 2, 3), (3, 5, 2, 2)]
  + [(1, 7, 3, 3), (3, 7, 3, 4)],
)
def test_small_images(size, kernel_size, stride, padding):
  x, kernel = make_input(2, size, kernel_size)
  if kernel_size == 3:
    x = x[:, :, :2]  # 2x3 pixels are too many.
  weight = jnp.cos(jnp.arange(5))

  def loss(convolve, x, kernel):
    y = convolve(x, kernel, stride, padding)
    return jnp.sum(jnp.sin(y).reshape(-1, 5) @ weight), y

  def gradients(convolve):
    return jax.grad(functools.partial(loss, convolve), (0, 1), has_aux=True)(
      x, kernel
    )

  got, y = gradients(layers.convolve)
  expected, _ = gradients(layers._plain_convolve)
  for one, other in zip(got, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
  twin = twin_convolve(x, kernel, stride, padding)
  np.testing.assert_allclose(y, twin, rtol=1e-4, atol=1e-4)
  text = str(
    jax.make_jaxpr(layers.convolve, (2, 3))(x, kernel, stride, padding)
  )
  assert "conv_general_dilated" not in text


@pytest.mark.parametrize(
  ("batch", "size", "kernel_size", "padding"),
  [(2, 1, 5, 0), (2, 1, 3, 0), (0, 2, 5, 2), (2, 1, 2, 3)],
)
def test_nothing_comes_out_or_goes_in(batch, size, kernel_size, padding):
  x, kernel = make_input(batch, size, kernel_size)
  got = layers.convolve(x, kernel, 1, padding)
  expected = layers._plain_convolve(x, kernel, 1, padding)
  assert got.shape == expected.shape
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_number_of_parts(monkeypatch):
  monkeypatch.setattr(layers, "POSITIONS_PER_PART", 4096)
  assert layers._num_parts((500, 16, 16, 8)) == 25  # 31.25 wanted
  assert layers._num_parts((512, 16, 16, 8)) == 32
  assert layers._num_parts((251, 16, 16, 8)) in (1, 251)  # a prime
  assert layers._num_parts((1, 3, 3, 8)) == 1


@pytest.mark.parametrize(("size", "kernel_size"), [(8, 3), (2, 5)])
def test_gradients_of_a_sharded_batch(monkeypatch, size, kernel_size):
  """Each device takes its own rows in parts; they are summed once."""
  monkeypatch.setattr(layers, "POSITIONS_PER_PART", 64)
  x, kernel = make_input(32, size, kernel_size)
  loss = lambda x, kernel: jnp.sum(layers.convolve(x, kernel) ** 2)
  gradient = lambda x, kernel: (jax.grad(loss, argnums=1)(x, kernel),)
  results, summed = [], []
  for devices in (1, 8):
    strategy = parallel.create_strategy("jit", devices)
    arguments = strategy.shard_batch(x), strategy.replicate(kernel)
    compiled = (
      strategy.spread(gradient, ("batch", "replicated"), ("replicated",))
      .lower(*arguments)
      .compile()
    )
    results.append(compiled(*arguments)[0])
    found = collectives.find(compiled.as_text())
    summed.append([(one.kind, one.elements) for one in found])
  np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-3)
  assert summed == [[], [(collectives.ALL_REDUCE, kernel.size)]]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu(dtype):
  x = jnp.linspace(-6, 6, 101, dtype=dtype)
  plain = functools.partial(jax.nn.gelu, approximate=True)

  def gradient(gelu):
    return jax.jit(
      jax.grad(lambda x: jnp.sum(jnp.cos(gelu(x).astype(jnp.float32))))
    )(x)

  np.testing.assert_array_equal(jax.jit(layers.gelu)(x), jax.jit(plain)(x))
  got = gradient(layers.gelu)
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, gradient(plain))
  _, kept = jax.eval_shape(layers._gelu_forward, x)
  assert kept.shape == x.shape and kept.dtype == dtype


def test_halve_is_a_max_pool():
  x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
  np.testing.assert_array_equal(layers.halve(x), layers.max_pool(x, 2, 2))
  gradient = lambda pool: jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))(x)
  np.testing.assert_allclose(
    gradient(layers.halve),
    gradient(lambda x: layers.max_pool(x, 2, 2)),
    rtol=1e-6,
  )


def flax_max_pool(x):
  return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def pooled(pool, x, weight):
  """Values of a max-pool 3x3 by 2, and the gradient."""
  y, pull = jax.vjp(pool, x)
  grad = weight[:, : y.shape[1], : y.shape[2]].astype(y.dtype)
  return y, pull(grad)[0]


@pytest.mark.parametrize("height, width", [(8, 8), (7, 6), (9, 5), (2, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_is_that_of_flax(height, width, ties):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(3, height, width, 4)).astype(np.float32)
  if ties:
    # As after a ReLU: most windows have several zeros.
    x = np.maximum(np.round(x), 0)
  weight = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
  expected = pooled(flax_max_pool, x, weight)
  ours = lambda x: layers.max_pool(x, 3, 2, 1)
  for got in (
    pooled(ours, x, weight),
    jax.jit(pooled, static_argnums=0)(ours, x, weight),
  ):
    jax.tree.map(np.testing.assert_array_equal, got, expected)
  np.testing.assert_array_equal(ours(x), expected[0])
  text = str(jax.make_jaxpr(functools.partial(pooled, ours))(x, weight))
  assert "u8[" in text and "scatter" not in text and "sort" not in text


def test_max_pool_of_values_that_are_not_finite():
  x = np.full((1, 5, 5, 3), -np.inf, np.float32)
  x[..., 1] = 1.0
  x[0, 2, 2, 1] = np.nan
  x[0, 1, 3, 2] = -3.0
  ours = lambda x: layers.max_pool(x, 3, 2, 1)
  y, got = pooled(ours, x, jnp.ones_like(x))
  np.testing.assert_array_equal(y, flax_max_pool(x))
  assert np.isnan(y[..., 1]).sum() == 1  # the window around (2, 2)
  assert np.isfinite(got).all()
  assert got[0, 1, 3, 2] == 4  # in an odd row and an odd column
