"""Tests that our LayerNorm is Flax's, and so is its gradient."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench.models import tokens


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 6), (2, 3, 4, 16)])
def test_it_is_that_of_flax(shape, dtype):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(2.0, 3.0, shape), dtype)
  # A row without variance shows epsilon.
  x = x.at[0].set(x[0].ravel()[0])
  weight = jnp.asarray(rng.normal(size=shape), jnp.float32)
  ours = tokens.LayerNorm(dtype=dtype)
  theirs = nn.LayerNorm(epsilon=tokens.LAYER_NORM_EPS, dtype=dtype)
  made = theirs.init(jax.random.key(0), x)
  assert jax.tree.structure(made) == jax.tree.structure(
    ours.init(jax.random.key(0), x)
  )
  made = jax.tree.map(
    lambda p: jnp.asarray(rng.uniform(0.5, 1.5, p.shape), jnp.float32), made
  )

  def run(norm):
    def loss(variables, x):
      y = norm.apply(variables, x)
      return jnp.sum(weight * y.astype(jnp.float32)), y

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(made, x)

  (grads, y), (expected, expected_y) = run(ours), run(theirs)
  assert y.dtype == dtype and grads[1].dtype == dtype
  # Of half precision the last of its 8 bits may differ.
  tolerance = 1e-4 if dtype == jnp.float32 else 2**-7
  as_float = lambda a: np.asarray(a, np.float32)
  np.testing.assert_allclose(as_float(y), as_float(expected_y), rtol=tolerance)
  # Rows without variance have gradients of 1 / sqrt(epsilon).
  for one, other in zip(
    jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True
  ):
    one, other = as_float(one), as_float(other)
    atol = tolerance * abs(other).max()
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=atol)
