"""Tests of every model: sizes, shapes, types, and the pure boundary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import models
from imgbench.models import base

TINY = {
  "cnn": dict(widths=(4, 8)),
  "whitened": dict(widths=(4, 8)),
  "resnet18": dict(stem="cifar", width=2),
  "resnet50": dict(width=2),
}


def build(name, dtype=jnp.float32, num_classes=5, size=16, **settings):
  return models.build_model(
    name,
    num_classes=num_classes,
    image_shape=(size, size, 3),
    dtype=dtype,
    **{**TINY.get(name, {}), **settings},
  )


def make_images(dtype=jnp.float32, batch=4, size=16):
  shape = (batch, size, size, 3)
  return jax.random.normal(jax.random.key(1), shape, dtype)


# The counts that torchvision states for its weights (1,000 classes), and
# those of ResNet-18 with a 3x3 stem and 10 classes (the public CIFAR ports).
@pytest.mark.parametrize(
  ("name", "stem", "size", "num_classes", "expected"),
  [
    ("resnet18", "imagenet", 224, 1000, 11_689_512),
    ("resnet34", "imagenet", 224, 1000, 21_797_672),
    ("resnet50", "imagenet", 224, 1000, 25_557_032),
    ("resnet101", "imagenet", 224, 1000, 44_549_160),
    ("resnet152", "imagenet", 224, 1000, 60_192_808),
    ("resnet18", "cifar", 32, 10, 11_173_962),
  ],
)
def test_parameter_counts_are_those_published(
  name, stem, size, num_classes, expected
):
  model = models.build_model(
    name,
    num_classes=num_classes,
    image_shape=(size, size, 3),
    dtype=jnp.float32,
    stem=stem,
  )
  variables = jax.eval_shape(model.init, jax.random.key(0))
  assert base.num_params(variables) == expected


def test_parameter_counts_of_our_own_by_hand():
  # 24 stem filters (2x2x3, both signs) feed 24 -> 4 -> 4 -> 8 -> 8 channels;
  # every 3x3 layer has a bias behind its norm; the head has no bias.
  model = build("whitened", stem_size=2, stem_stride=1, num_classes=5)
  variables = jax.eval_shape(model.init, jax.random.key(0))
  kernels = 9 * (24 * 4 + 4 * 4 + 4 * 8 + 8 * 8)
  assert base.num_params(variables) == kernels + 4 + 4 + 8 + 8 + 8 * 5
  assert variables["frozen"]["whitening"].shape == (2, 2, 3, 24)
  # 5x5 stem, then 4 -> 4 -> 4, 4 -> 8 -> 8, five norms, head with bias.
  model = build("cnn", num_classes=5)
  variables = jax.eval_shape(model.init, jax.random.key(0))
  kernels = 25 * 3 * 4 + 9 * (4 * 4 + 4 * 4 + 4 * 8 + 8 * 8)
  norms = 2 * (4 + 4 + 4 + 8 + 8)
  assert base.num_params(variables) == kernels + norms + 8 * 5 + 5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", sorted(TINY))
def test_shapes_and_types(name, dtype):
  model = build(name, dtype)
  assert model.dtype == dtype
  variables = jax.eval_shape(model.init, jax.random.key(0))
  images = make_images(dtype)
  for train in (False, True):
    logits, state = jax.eval_shape(
      lambda v, x, train=train: model.apply(v, x, train), variables, images
    )
    assert logits.shape == (4, 5) and logits.dtype == jnp.float32
    # What goes round the loop keeps its structure, shapes and types.
    old = {k: v for k, v in variables.items() if k != "params"}
    assert state == old
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", ["cnn", "whitened", "resnet18"])
def test_training_moves_statistics_and_reaches_every_parameter(name):
  model = build(name)
  variables = jax.jit(model.init)(jax.random.key(0))
  assert set(variables) <= {"params", "batch_stats", "frozen"}
  params = variables.pop("params")
  images = make_images()

  @jax.jit
  def forward_and_backward(params):
    def loss(params):
      logits, state = model.apply({"params": params, **variables}, images, True)
      return jnp.sum(logits * jnp.arange(20.0).reshape(4, 5)), state

    return jax.grad(loss, has_aux=True)(params)

  grads, state = forward_and_backward(params)
  for leaf in jax.tree.leaves(grads):
    assert np.isfinite(leaf).all() and abs(leaf).max() > 0
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()),
    state["batch_stats"],
    variables["batch_stats"],
  )
  assert all(jax.tree.leaves(moved))
  assert ("frozen" in state) == (name == "whitened")
  for collection in set(state) - {"batch_stats"}:
    jax.tree.map(
      np.testing.assert_array_equal, state[collection], variables[collection]
    )


def test_evaluation_keeps_the_state():
  model = build("whitened")
  variables = jax.jit(model.init)(jax.random.key(0))
  _, state = jax.jit(lambda v, x: model.apply(v, x, False))(
    variables, make_images()
  )
  del variables["params"]
  jax.tree.map(np.testing.assert_array_equal, state, variables)


def test_evaluation_of_an_image_does_not_depend_on_its_batch():
  model = build("cnn")
  variables = jax.jit(model.init)(jax.random.key(0))
  images = make_images(batch=6)
  apply = jax.jit(model.apply, static_argnums=2)
  whole, _ = apply(variables, images, False)
  part, _ = apply(variables, images[2:4], False)
  np.testing.assert_allclose(part, whole[2:4], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("name", "settings", "message"),
  [
    ("cmm", {}, "unknown model 'cmm'; known: cnn, resnet101"),
    ("cnn", {"width": 3}, "model 'cnn' has no setting 'width'; .* widths"),
    ("cnn", {"widths": ()}, "expected widths of at least 1"),
    ("cnn", {"widths": (2,) * 6}, "images of at least 64x64 pixels, got 16x16"),
    ("whitened", {"depth": 0}, "expected widths and a depth of at least 1"),
    ("whitened", {"activation": "tahn"}, "unknown activation 'tahn'; known"),
    ("whitened", {"stem_filters": 49}, "expected 0 to 48 stem_filters"),
    ("resnet18", {"stem": "mnist"}, "one of imagenet, cifar, got 'mnist'"),
    ("resnet18", {"width": 0}, "expected a width of at least 1"),
  ],
)
def test_bad_settings(name, settings, message):
  with pytest.raises(errors.InputError, match=message):
    build(name, **settings)
