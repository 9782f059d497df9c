"""Tests of parameters and multiply-adds of models."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from imgbench import errors
from imgbench import models
from imgbench.models import depthwise
from imgbench.models import flops
from imgbench.models import layers
from imgbench.models import vit
from tests import raising

# "FLOPs" of these tables are multiply-adds, here in units of 1e6.
# torchvision: num_params and _ops (GFLOPS) of its weights' metadata.
# DeiT-Ti and DeiT-S: Touvron et al. 2021 (arXiv:2012.12877), table 1 and timm's
# parameter counts of the same networks (vit_tiny_patch16_224, ...).
PUBLISHED = {
  "resnet18": (11_689_512, 1_814),
  "resnet34": (21_797_672, 3_664),
  "resnet50": (25_557_032, 4_089),
  "resnet101": (44_549_160, 7_801),
  "resnet152": (60_192_808, 11_514),
  "convnext_t": (28_589_128, 4_456),
  "efficientnet_b0": (5_288_548, 386),
  "wide_resnet28_10": (36_479_194, 5_246.98),
  "mlp_mixer_s16": (18_528_264, 3_790),
  "mlp_mixer_b16": (59_880_472, 12_620),
  "vit_ti16": (5_717_416, 1_300),
  "vit_s16": (22_050_664, 4_600),
  "vit_b16": (86_567_656, 17_564),
  "vit_l16": (304_326_632, 61_555),
}
# Wide ResNet: imgclsmob's table, for CIFAR-10 (it counts norms too, 0.1% here);
# the paper has 36.5M parameters.
# Mixers: timm's results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv for
# the multiply-adds (its profiler counts norms too, 0.3% of these networks), its
# networks for the parameters.
# Rounded to so many units: those of torchvision to 1, of DeiT to 100.
ROUNDED = {
  "vit_ti16": 100,
  "vit_s16": 100,
  "wide_resnet28_10": 8,
  "mlp_mixer_s16": 40,
  "mlp_mixer_b16": 40,
}


def build(name, shape, num_classes=10, **settings):
  return models.build_model(
    name,
    num_classes=num_classes,
    image_shape=shape,
    dtype=jnp.float32,
    **settings,
  )


def count(name, shape, num_classes=10, **settings):
  return flops.count_cost(build(name, shape, num_classes, **settings), shape)


def settings(name):
  """Those of the published networks."""
  if name.startswith("vit"):
    return dict(pooling="token", posemb="learn")
  return {}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
  cifar = name == "wide_resnet28_10"
  shape, num_classes = (224, 224, 3), 1000
  if cifar:
    shape, num_classes = (32, 32, 3), 10
  cost = count(name, shape, num_classes, **settings(name))
  params, millions = PUBLISHED[name]
  assert cost.params == params
  unit = ROUNDED.get(name, 1)
  assert abs(cost.macs / 1e6 - millions) <= unit / 2


SMALL = {
  "cnn": dict(widths=(8, 16), stem_size=5),
  "resnet18": dict(stem="cifar", width=16),
  "resnet50": dict(width=16, stem="cifar"),
  "whitened": dict(widths=(8, 16), depth=3, stem_bias=True),
  "wide_resnet28_10": dict(depth=10, width=2),
  "convnext_t": dict(widths=(24, 48), stage_sizes=(1, 2)),
  "efficientnet_b0": dict(stages=((1, 3, 1, 16, 1), (6, 5, 2, 48, 2))),
  "mlp_mixer_b16": dict(depth=2),
  "vit_s16": dict(patch_size=8, depth=2, pre_logits=True),
}


@pytest.mark.parametrize("name", SMALL)
def test_xla_counts_the_same(name):
  """XLA adds norms and activations and leaves padding out: a few percent."""
  shape, batch = (96, 96, 3), 2
  model = build(name, shape, **SMALL[name])
  variables = jax.eval_shape(model.init, jax.random.key(0))
  cost = flops.count_cost(model, shape)
  images = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
  forward = jax.jit(lambda v, x: model.apply(v, x, False)[0])
  counted = forward.lower(variables, images).cost_analysis()["flops"]
  assert counted == pytest.approx(batch * cost.forward_flops, rel=0.1)


def test_a_training_step_is_three_passes():
  cost = flops.Cost(params=1, macs=100)
  assert (cost.forward_flops, cost.training_flops) == (200, 600)


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


IMAGES, ROWS, MATRIX = array(2, 9, 7, 4), array(3, 5), array(5, 7)
PRODUCT = 3 * 5 * 7


def convolve(stride=1, padding=1, groups=1):
  return lambda x, kernel: jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding),) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


@pytest.mark.parametrize(
  ("function", "kernel", "expected"),
  [
    (convolve(), (3, 3, 4, 6), 2 * 9 * 7 * 6 * (9 * 4)),
    # Rows 0, 2 ... 8 and columns 0, 2, 4, 6: padding counts as image.
    (convolve(stride=2), (3, 3, 4, 6), 2 * 5 * 4 * 6 * (9 * 4)),
    (convolve(padding=0), (3, 5, 4, 6), 2 * 7 * 3 * 6 * (15 * 4)),
    (convolve(groups=2), (3, 3, 2, 6), 2 * 9 * 7 * 6 * (9 * 2)),
    (convolve(groups=4), (3, 3, 1, 4), 2 * 9 * 7 * 4 * 9),
    (layers.convolve, (3, 3, 4, 6), 2 * 9 * 7 * 6 * (9 * 4)),
    (layers.convolve, (1, 1, 4, 6), 2 * 9 * 7 * 6 * 4),
    # The sum of shifted images that CPUs compute has no product.
    (depthwise.convolve, (3, 3, 1, 4), 2 * 9 * 7 * 4 * 9),
  ],
)
def test_convolutions_by_hand(function, kernel, expected):
  assert flops.count_macs(function, IMAGES, array(*kernel)) == expected


def test_a_small_image_counts_like_a_large_one():
  """As one product over 1x1 images it takes a ninth of the multiply-adds."""
  images, kernel = array(2, 1, 1, 4), array(3, 3, 4, 6)
  assert flops.count_macs(layers.convolve, images, kernel) == 2 * 6 * (9 * 4)


def test_products_by_hand():
  assert flops.count_macs(jnp.matmul, ROWS, MATRIX) == PRODUCT
  batched = array(2, 8, 3, 5), array(2, 8, 5, 7)
  assert flops.count_macs(jnp.matmul, *batched) == 2 * 8 * PRODUCT
  scores = lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q, k)
  heads = array(2, 6, 4, 8)
  assert flops.count_macs(scores, heads, heads) == 2 * 4 * 6 * 6 * 8
  # Neither sums nor what is done with each element.
  plain = lambda x: jnp.tanh(x / x.sum(axis=1, keepdims=True)).max()
  assert flops.count_macs(plain, ROWS) == 0


@jax.custom_vjp
def with_gradient(x, w):
  return x @ w


with_gradient.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g, g))


@jax.custom_jvp
def with_derivative(x, w):
  return x @ w


with_derivative.defjvp(lambda primals, tangents: (primals[0], tangents[0]))


@pytest.mark.parametrize(
  "function",
  [
    jax.jit(jnp.matmul),
    jax.checkpoint(jnp.matmul),
    with_gradient,
    with_derivative,
    jax.jit(jax.checkpoint(with_gradient)),
  ],
)
def test_programs_in_programs_are_followed(function):
  assert flops.count_macs(function, ROWS, MATRIX) == PRODUCT


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
  square = array(5, 5)

  def inner(x, w):
    return jax.lax.scan(lambda x, _: (x @ w, None), x, length=4)[0]

  def outer(x, w):
    return jax.lax.scan(lambda x, _: (inner(x, w), None), x, length=6)[0]

  assert flops.count_macs(inner, ROWS, square) == 4 * 3 * 5 * 5
  assert flops.count_macs(outer, ROWS, square) == 6 * 4 * 3 * 5 * 5
  assert flops.count_macs(lambda x, w: outer(x, w) @ w, ROWS, square) == (
    25 * 3 * 5 * 5
  )


def repeat_until_large(x, w):
  return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)


def choose_by_value(x, w):
  return jax.lax.cond(x.sum() < 9, lambda x: x @ w, lambda x: x, x)


@pytest.mark.parametrize(
  "function, setting, given",
  [
    (repeat_until_large, "FLOPs", "'while'"),
    (choose_by_value, "FLOPs", "'cond'"),
  ],
)
@pytest.mark.parametrize("inside", [lambda f: f, jax.jit, jax.checkpoint])
def test_other_control_flow_is_refused(function, setting, given, inside):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    flops.count_macs(inside(function), ROWS, array(5, 5))


def test_a_choice_by_platform_counts_as_its_default():
  def choose(x, w):
    return jax.lax.platform_dependent(
      x, w, cpu=lambda x, w: x[:, :1] * w[:1], default=jnp.matmul
    )

  assert flops.count_macs(choose, ROWS, MATRIX) == PRODUCT

  def for_some(x, w):
    return jax.lax.platform_dependent(
      x, w, cpu=lambda x, w: x @ w * 2, tpu=jnp.matmul
    )

  with pytest.raises(
    errors.InputError, check=raising.about("FLOPs", given="'cond'")
  ):
    flops.count_macs(for_some, ROWS, MATRIX)


@pytest.mark.parametrize("form", vit.ATTENTIONS)
def test_forms_of_attention_count_the_same(form):
  """Also where the form is not possible, as cuDNN on a CPU."""
  tiny = dict(width=8, depth=2, num_heads=2, patch_size=4)
  patch, linear, scores = 4 * 4 * 3 * 8, (4 + 8) * 8 * 8, 2 * 6 * 8
  by_hand = 6 * (patch + 2 * (linear + scores)) + 8 * 10
  assert count("vit_s16", (8, 12, 3), attention=form, **tiny).macs == by_hand


def test_convolutions_of_small_images_count_as_such():
  """The last stage of a ResNet-18 has 1x1 positions for 32x32 pixels."""
  stages = [(64, 64, 8), (64, 128, 4), (128, 256, 2), (256, 512, 1)]
  macs = 16 * 16 * 49 * 3 * 64 + 512 * 10
  for before, width, side in stages:
    macs += side**2 * 9 * (before * width + 3 * width * width)
    macs += side**2 * before * width * (before != width)
  assert count("resnet18", (32, 32, 3)).macs == macs


def test_a_model_of_functions_is_counted_by_them():
  model = build("cnn", (16, 16, 3))
  plain = dataclasses.replace(model, definition=None)
  expected = flops.count_cost(model, (16, 16, 3))
  assert flops.count_cost(plain, (16, 16, 3)) == expected
