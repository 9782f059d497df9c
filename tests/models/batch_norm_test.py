"""Tests that our BatchNorm is Flax's, on the whole batch and on its parts."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench.models import layers

GROUPS = 4
SHAPE = (8, 5, 6, 3)


def images(dtype=jnp.float32):
  rng = np.random.default_rng(0)
  x = rng.normal(2.0, 3.0, SHAPE) * [1.0, 0.1, 20.0]
  return jnp.asarray(x, dtype)


def run(norm, variables, x, train):
  """(outputs, running statistics, gradients of variables and input)."""

  def loss(params, x):
    y, updated = norm.apply(
      {**variables, "params": params}, x, mutable=["batch_stats"]
    )
    weight = jnp.arange(y.size, dtype=jnp.float32).reshape(y.shape) / y.size
    return (weight * y.astype(jnp.float32)).sum(), (y, updated)

  grads, (y, updated) = jax.grad(loss, (0, 1), has_aux=True)(
    variables["params"], x
  )
  return y, updated if train else {}, grads


def pair(train, dtype=jnp.float32, **settings):
  common = dict(
    use_running_average=not train, momentum=0.7, epsilon=1e-4, dtype=dtype
  )
  ours = layers.BatchNorm(**common, **settings)
  return ours, nn.BatchNorm(**common)


def variables_of(norm):
  made = norm.init(jax.random.key(0), images())
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), jnp.float32), made
  )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("train", [True, False])
def test_it_is_that_of_flax(train, dtype):
  ours, theirs = pair(train, dtype)
  variables = variables_of(theirs)
  assert jax.tree.structure(variables) == jax.tree.structure(variables_of(ours))
  x = images(dtype)
  found, expected = (run(n, variables, x, train) for n in (ours, theirs))
  assert found[0].dtype == dtype
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=1e-5, atol=1e-5
    ),
    found,
    expected,
  )


def test_groups_are_normalised_each_on_its_own():
  statistics = layers.BatchStatistics(groups=GROUPS)
  ours, theirs = pair(True, statistics=statistics)
  variables, x = variables_of(theirs), images()
  y, updated, _ = run(ours, variables, x, True)
  parts = [run(theirs, variables, p, True) for p in jnp.split(x, GROUPS)]
  expected = jnp.concatenate([part[0] for part in parts])
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
  # What runs is the mean over the groups.
  mean = jax.tree.map(
    lambda *running: sum(running) / GROUPS, *[part[1] for part in parts]
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updated, mean
  )


def test_devices_average_their_statistics():
  statistics = layers.BatchStatistics(axis_name="data")
  ours, theirs = pair(True, statistics=statistics)
  variables, x = variables_of(theirs), images()
  expected = run(theirs, variables, x, True)
  apply = jax.pmap(
    lambda x: ours.apply(variables, x, mutable=["batch_stats"]),
    axis_name="data",
    devices=jax.devices()[:GROUPS],
  )
  y, updated = apply(x.reshape(GROUPS, -1, *SHAPE[1:]))
  np.testing.assert_allclose(
    y.reshape(SHAPE), expected[0], rtol=1e-5, atol=1e-5
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5),
    updated,
    expected[1],
  )


def test_without_a_scale():
  ours, theirs = pair(True, use_scale=False)
  variables = variables_of(ours)
  assert set(variables["params"]) == {"bias"}
  with_scale = {
    **variables,
    "params": {**variables["params"], "scale": jnp.ones(SHAPE[-1])},
  }
  y = run(ours, variables, images(), True)[0]
  expected = run(theirs, with_scale, images(), True)[0]
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
