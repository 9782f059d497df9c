"""Tests of depthwise convolutions: both ways of computing them agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import parallel
from imgbench.models import depthwise

CASES = [(3, 1, 7, 6), (5, 1, 6, 9), (7, 1, 4, 5), (3, 2, 8, 7), (5, 2, 9, 8)]


def twin_convolve(x, kernel, stride):
  """A loop over positions and channels, in float64."""
  size = len(kernel)
  padding = ((size - 1) // 2,) * 2
  x = np.pad(np.asarray(x, np.float64), ((0, 0), padding, padding, (0, 0)))
  kernel = np.asarray(kernel, np.float64)[:, :, 0]
  rows, cols = ((n - size) // stride + 1 for n in x.shape[1:3])
  result = np.empty((len(x), rows, cols, x.shape[-1]))
  for i in range(rows):
    for j in range(cols):
      top, left = stride * i, stride * j
      window = x[:, top : top + size, left : left + size]
      result[:, i, j] = (window * kernel).sum(axis=(1, 2))
  return result


def make_input(size, rows, cols, batch=2, channels=3):
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (batch, rows, cols, channels))
  return x, jax.random.normal(keys[1], (size, size, 1, channels))


@pytest.mark.parametrize(("size", "stride", "rows", "cols"), CASES)
def test_values(size, stride, rows, cols):
  x, kernel = make_input(size, rows, cols)
  expected = twin_convolve(x, kernel, stride)
  for way in (depthwise.convolve, depthwise._shifted, depthwise._grouped):
    got = way(x, kernel, stride)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "stride", "rows", "cols"), CASES)
def test_gradients(size, stride, rows, cols):
  x, kernel = make_input(size, rows, cols)

  def loss(way, x, kernel):
    return jnp.sum(jnp.sin(way(x, kernel, stride)))

  # That of XLA's own convolution.
  expected = jax.grad(loss, argnums=(1, 2))(depthwise._grouped, x, kernel)
  for way in (depthwise.convolve, depthwise._shifted):
    got = jax.jit(jax.grad(functools.partial(loss, way), (0, 1)))(x, kernel)
    for one, other in zip(got, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_half_precision_sums_in_float32():
  x, kernel = make_input(7, 9, 9)
  x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
  got = depthwise.convolve(x, kernel, 1)
  assert got.dtype == jnp.bfloat16
  exact = twin_convolve(x, kernel, 1)
  np.testing.assert_allclose(got.astype(jnp.float32), exact, rtol=2**-7)
  pulled = jax.vjp(lambda *a: depthwise.convolve(*a, 1), x, kernel)[1](got)
  assert [grad.dtype for grad in pulled] == [jnp.bfloat16] * 2


def test_a_sharded_batch():
  x, kernel = make_input(3, 6, 6, batch=8)
  loss = lambda x, kernel: jnp.sum(jnp.sin(depthwise.convolve(x, kernel, 1)))
  results = []
  for devices in (1, 8):
    strategy = parallel.create_strategy("jit", devices)
    gradient = strategy.jit(jax.grad(loss, argnums=1))
    results.append(
      gradient(strategy.shard_batch(np.asarray(x)), strategy.replicate(kernel))
    )
  np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


def test_both_ways_are_compiled_for_their_platforms():
  x, kernel = make_input(3, 6, 6)

  def text(platform):
    return (
      jax.jit(depthwise.convolve, static_argnums=2)
      .trace(x, kernel, 2)
      .lower(lowering_platforms=(platform,))
      .as_text()
    )

  assert "stablehlo.convolution" not in text("cpu")
  for platform in ("cuda", "tpu"):
    assert "stablehlo.convolution" in text(platform)
    assert "feature_group_count = 3" in text(platform)
