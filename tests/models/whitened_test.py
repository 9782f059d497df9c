"""Tests of the whitening stem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import models
from imgbench.models import layers
from imgbench.models import whitened


@pytest.fixture(scope="module")
def images():
  """Smooth coloured noise, whose patches are strongly correlated."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(300, 20, 20, 3))
  for axis in (1, 2):
    x = sum(np.roll(x, shift, axis) for shift in range(4)) / 2
  mixing = np.array([[1.0, 0.8, 0.5], [0.0, 0.6, 0.4], [0.0, 0.0, 0.3]])
  return jnp.asarray(x @ mixing, jnp.float32)


def covariance(outputs):
  outputs = np.asarray(outputs, np.float64)
  return np.cov(outputs.reshape(-1, outputs.shape[-1]), rowvar=False)


def test_outputs_are_white(images):
  patches = jax.vmap(lambda image: whitened._patches(image, 2))(images)
  assert np.linalg.cond(covariance(patches)) > 100
  kernel = whitened.whitening_kernel(images, 2, 12, eps=1e-7)
  assert kernel.shape == (2, 2, 3, 24)
  np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
  outputs = layers.convolve(images, kernel, padding=0)[..., :12]
  np.testing.assert_allclose(covariance(outputs), np.eye(12), atol=0.01)
  # Images of the same kind that the kernel has not seen: sampling error only.
  half = whitened.whitening_kernel(images[:150], 2, 12, eps=1e-7)
  outputs = layers.convolve(images[150:], half, padding=0)[..., :12]
  np.testing.assert_allclose(covariance(outputs), np.eye(12), atol=0.15)


def test_weak_directions_are_not_blown_up(images):
  # Grey images: two thirds of the directions have no variance at all.
  grey = jnp.broadcast_to(images[..., :1], images.shape)
  kernel = whitened.whitening_kernel(grey, 2, 12, eps=1e-2)
  variances = np.diag(
    covariance(layers.convolve(grey, kernel, padding=0)[..., :12])
  )
  assert np.isfinite(kernel).all()
  assert (np.diff(variances) < 1e-3).all()
  assert variances[:2].min() > 0.9 and variances[4:].max() < 1e-3


def test_fewer_filters_are_the_strongest(images):
  everything = whitened.whitening_kernel(images, 3, 27)
  some = whitened.whitening_kernel(images, 3, 5)
  np.testing.assert_allclose(some[..., :5], everything[..., :5], rtol=1e-5)
  np.testing.assert_allclose(some[..., 5:], -everything[..., :5], rtol=1e-5)


@pytest.mark.parametrize("stem_filters", [0, 4])
def test_prepare_sets_the_frozen_kernel_only(images, stem_filters):
  model = models.build_model(
    "whitened",
    num_classes=5,
    image_shape=(20, 20, 3),
    dtype=jnp.float32,
    widths=(4,),
    stem_size=2,
    stem_filters=stem_filters,
  )
  variables = jax.jit(model.init)(jax.random.key(0))
  prepared = jax.jit(model.prepare)(variables, images)
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(prepared) == shapes(variables)
  expected = whitened.whitening_kernel(images, 2, stem_filters or 12)
  kernel = prepared["frozen"][whitened.STEM]
  # An eigenvector's sign is arbitrary; both signs are in the kernel.
  count = kernel.shape[-1] // 2
  np.testing.assert_allclose(
    abs(kernel[..., :count]), abs(expected[..., :count]), rtol=1e-3, atol=1e-4
  )
  for name in ("params", "batch_stats"):
    jax.tree.map(np.testing.assert_array_equal, prepared[name], variables[name])


def test_first_filters_pass_the_input_on():
  kernel = whitened._partial_identity(
    jax.random.key(0), (3, 3, 4, 6), jnp.float32
  )
  x = jax.random.normal(jax.random.key(1), (2, 5, 5, 4))
  np.testing.assert_allclose(
    layers.convolve(x, kernel)[..., :4], x, rtol=1e-6, atol=1e-6
  )
