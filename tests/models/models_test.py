"""Tests of every model: sizes, shapes, types, and the pure boundary."""

import re

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import models
from imgbench.models import base
from tests import raising

TINY = {
  "cnn": dict(widths=(4, 8)),
  "mlp": dict(widths=(8, 4)),
  "whitened": dict(widths=(4, 8)),
  "resnet18": dict(stem="cifar", width=2),
  "resnet50": dict(width=2),
  "wide_resnet28_10": dict(depth=10, width=1),
  "convnext_t": dict(widths=(4, 8), stage_sizes=(1, 2)),
  "efficientnet_b0": dict(
    width_factor=0.25, stages=((1, 3, 1, 32, 1), (4, 5, 2, 32, 2))
  ),
  "mlp_mixer_b16": dict(
    width=8, depth=2, token_hidden=4, channel_hidden=16, patch_size=4
  ),
}
# Settings with which a model draws; each drops something.
DRAWING = [
  ("mlp", dict(dropout=0.5)),
  ("wide_resnet28_10", dict(dropout=0.5)),
  ("convnext_t", dict(drop_path=0.5, scale_init=1.0)),
  ("efficientnet_b0", dict(dropout=0.5)),
  ("efficientnet_b0", dict(drop_path=0.9)),
  ("mlp_mixer_b16", dict(drop_path=0.5, zero_head=False)),
]


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


# Convolutional: torchvision's weights for EfficientNet (B1 and B2 are its two
# factors) and ConvNeXt; imgclsmob's table for Wide ResNet, which the paper
# rounds to 36.5 million. Mixers: timm 1.0.31.
@pytest.mark.parametrize(
  ("name", "size", "num_classes", "settings", "expected"),
  [
    ("wide_resnet28_10", 32, 10, {}, 36_479_194),
    ("wide_resnet28_10", 32, 100, {}, 36_536_884),
    ("wide_resnet28_10", 32, 10, dict(depth=16), 17_116_634),
    ("convnext_t", 224, 1000, {}, 28_589_128),
    ("convnext_t", 224, 1000, dict(stage_sizes=(3, 3, 27, 3)), 50_223_688),
    ("efficientnet_b0", 224, 1000, {}, 5_288_548),
    ("efficientnet_b0", 240, 1000, dict(depth_factor=1.1), 7_794_184),
    (
      "efficientnet_b0",
      288,
      1000,
      dict(width_factor=1.1, depth_factor=1.2),
      9_109_994,
    ),
    ("mlp_mixer_s16", 224, 1000, {}, 18_528_264),
    ("mlp_mixer_b16", 224, 1000, {}, 59_880_472),
  ],
)
def test_parameter_counts_of_later_models_are_those_published(
  name, size, num_classes, settings, expected
):
  model = models.build_model(
    name,
    num_classes=num_classes,
    image_shape=(size, size, 3),
    dtype=jnp.float32,
    **settings,
  )
  variables = jax.eval_shape(model.init, jax.random.key(0))
  assert base.num_params(variables) == expected


@pytest.mark.smoke
def test_parameter_counts_of_our_own_by_hand():
  # 24 stem filters (2x2x3, both signs) feed 24 -> 4 -> 4 -> 8 -> 8 channels;
  # every 3x3 layer has a bias in its norm; the head has no bias.
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


@pytest.mark.parametrize(
  "name",
  [
    "cnn",
    "mlp",
    "whitened",
    "resnet18",
    # Long, and of layers that models above or tests of layers have.
    pytest.param("wide_resnet28_10", marks=pytest.mark.slow),
    "convnext_t",
    pytest.param("efficientnet_b0", marks=pytest.mark.slow),
    pytest.param("mlp_mixer_b16", marks=pytest.mark.slow),
  ],
)
def test_training_moves_statistics_and_reaches_every_parameter(name):
  # A head of zeros lets no gradient through.
  settings = {"zero_head": False} if name == "mlp_mixer_b16" else {}
  model = build(name, **settings)
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
    state.get("batch_stats", {}),
    variables.get("batch_stats", {}),
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


@pytest.mark.parametrize(("name", "settings"), DRAWING)
def test_what_is_dropped_follows_the_key_and_is_off_in_evaluation(
  name, settings
):
  model, plain = build(name, **settings), build(name)
  assert model.needs_key and not plain.needs_key
  variables = jax.jit(model.init)(jax.random.key(0))
  images = make_images()
  check = raising.about("dropout, drop_path, noise")
  with pytest.raises(errors.InputError, check=check):
    model.apply(variables, images, True)
  train = jax.jit(lambda key: model.apply(variables, images, True, key)[0])
  one, again = train(jax.random.key(0)), train(jax.random.key(0))
  np.testing.assert_array_equal(one, again)
  assert (one != train(jax.random.key(1))).any()
  evaluate = jax.jit(lambda key: model.apply(variables, images, False, key)[0])
  np.testing.assert_array_equal(
    evaluate(jax.random.key(0)), evaluate(jax.random.key(1))
  )


@pytest.mark.parametrize("name", ["whitened", "resnet18", "convnext_t"])
def test_a_profile_can_name_every_block(name):
  model = build(name)
  variables = jax.eval_shape(model.init, jax.random.key(0))

  def loss(params, state, images):
    logits, _ = model.apply({"params": params, **state}, images, True)
    return jnp.sum(logits**2)

  state = {k: v for k, v in variables.items() if k != "params"}
  step = jax.jit(jax.grad(loss))
  text = step.lower(variables["params"], state, make_images()).as_text(
    debug_info=True
  )
  for part in [*variables["params"], "pool"]:
    # In the forward pass and in the gradient.
    assert re.search(rf"/jvp\(\w+\)/([\w.]+/)?{part}/", text)
    assert re.search(rf"/transpose\(jvp\(\w+\)\)/([\w.]+/)?{part}/", text)


@pytest.mark.parametrize(
  ("name", "settings", "setting", "given"),
  [
    ("cmm", {}, "name", "'cmm'"),
    ("cnn", {"width": 3}, "width", 3),
    ("vit_s16", {"heads": 2}, "heads", 2),
    ("cnn", {"widths": ()}, "widths", "()"),
    ("cnn", {"widths": (2,) * 6}, "image_shape", "16x16"),
    ("mlp", {"widths": (4, 0)}, "widths", (4, 0)),
    ("mlp", {"dropout": 1}, "dropout", 1),
    ("whitened", {"depth": 0}, "depth", 0),
    ("whitened", {"activation": "tahn"}, "activation", "'tahn'"),
    ("whitened", {"stem_filters": 49}, "stem_filters", 49),
    ("resnet18", {"stem": "mnist"}, "stem", "'mnist'"),
    ("resnet18", {"width": 0}, "width", 0),
    ("wide_resnet28_10", {"depth": 27}, "depth", 27),
    ("wide_resnet28_10", {"width": 0}, "width", 0),
    ("wide_resnet28_10", {"dropout": 1}, "dropout", 1),
    ("convnext_t", {"widths": (4,)}, "stage_sizes", "(1, 2)"),
    (
      "convnext_t",
      {"widths": (4, 4, 4, 4), "stage_sizes": (1, 1, 1, 1)},
      "image_shape",
      "16x16",
    ),
    ("convnext_t", {"drop_path": -0.1}, "drop_path", -0.1),
    (
      "efficientnet_b0",
      {"stages": ((1, 4, 1, 8, 1),)},
      "stages",
      [(1, 4, 1, 8, 1)],
    ),
    ("efficientnet_b0", {"width_factor": 0}, "width_factor", 0),
    ("efficientnet_b0", {"dropout": 1.5}, "dropout", 1.5),
    ("mlp_mixer_b16", {"patch_size": 5}, "patch_size", 5),
    ("mlp_mixer_b16", {"token_hidden": 0}, "token_hidden", 0),
  ],
)
def test_bad_settings(name, settings, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    build(name, **settings)


def test_a_builder_takes_classifiers_only():
  with pytest.raises(TypeError, match="Classifier"):
    base.builder(nn.Dense)
