"""Tests of cuDNN attention against the plain form, on a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import models

pytestmark = pytest.mark.accelerator

# Relative to the norm, of two ways to round in bfloat16.
TOLERANCE = 0.05


@pytest.mark.skipif(
  "jax.default_backend() != 'gpu'", reason="cuDNN needs an NVIDIA GPU"
)
@pytest.mark.parametrize("pooling", ["gap", "token"])  # 196 and 197 tokens
def test_cudnn_agrees_with_the_plain_form(pooling):
  """Logits and all gradients of a network of two blocks agree."""

  def results(attention):
    model = models.build_model(
      "vit_s16",
      num_classes=10,
      image_shape=(224, 224, 3),
      dtype=jnp.bfloat16,
      depth=2,
      pooling=pooling,
      zero_head=False,
      attention=attention,
    )
    assert model.attention() == attention
    variables = model.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (8, 224, 224, 3))
    images = images.astype(jnp.bfloat16)

    def loss(variables):
      logits, _ = model.apply(variables, images, True)
      return jnp.sum(jnp.sin(logits)), logits

    grads, logits = jax.jit(jax.grad(loss, has_aux=True))(variables)
    # A key's bias has no effect: its gradient is noise.
    for block in ("block1", "block2"):
      del grads["params"][block]["attention"]["key"]["bias"]
    return [logits, *jax.tree.leaves(grads)]

  for got, wanted in zip(results("cudnn"), results("plain"), strict=True):
    got, wanted = np.asarray(got), np.asarray(wanted)
    error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    assert error < TOLERANCE
