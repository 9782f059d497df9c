"""Tests of layers' shapes, costs, receptive fields and warnings."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import models
from imgbench.models import base
from imgbench.models import description
from imgbench.models import flops
from imgbench.models import layers


def build(name, size=32, num_classes=10, **settings):
  return models.build_model(
    name,
    num_classes=num_classes,
    image_shape=(size, size, 3),
    dtype=jnp.float32,
    **settings,
  )


def describe(name, size=32, num_classes=10, **settings):
  model = build(name, size, num_classes, **settings)
  return description.describe(model, (size, size, 3))


def describe_function(function, size, params=None):
  """Describes images [1, size, size, 1] -> anything, or with parameters."""
  params = params or {}
  call = function if params else lambda _, images: function(images)
  model = base.Model(
    init=lambda key: {"params": params},
    apply=lambda v, x, train, key=None: (call(v["params"], x), {}),
    dtype=jnp.float32,
  )
  return description.describe(model, (size, size, 1))


def pool(size, stride, padding=0):
  edges = ((padding, padding),) * 2
  return lambda x: nn.avg_pool(x, (size, size), (stride, stride), edges)


def convolve(size, stride=1, padding=0, dilation=1, spread=1):
  kernel = jnp.ones((size, size, 1, 1))
  return lambda x: jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding),) * 2,
    lhs_dilation=(spread, spread),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def chain(*functions):
  def run(x):
    for function in functions:
      x = function(x)
    return x

  return run


def as_tokens(side):
  """Patches of side x side as tokens, and back to a map of their sums."""

  def run(x):
    rows = x.shape[1] // side
    x = x.reshape(1, rows, side, rows, side, 1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(1, rows * rows, side * side) @ jnp.ones((side * side, 1))
    return x.reshape(1, rows, rows, 1)

  return run


def residual(x):
  return x[:, ::2, ::2] @ jnp.ones((1, 1)) + convolve(3, 2, 1)(x)


def test_five_by_five_with_kernel_three_gives_three_by_three():
  (layer,) = describe_function(convolve(3), 5).layers
  assert layer.shape == (3, 3, 1) and layer.field == (3, 3)
  assert layer.macs == 9 * 9


def test_a_stride_larger_than_its_window_drops_pixels():
  found = describe_function(pool(2, 3), 6)
  assert found.layers[0].shape == (2, 2, 1)
  (text,) = found.warnings
  assert "stride 3" in text and "16 of 36" in text
  assert describe_function(pool(2, 2), 6).warnings == []
  # Whether the last row is read: rows 0 to 5 of 7.
  (text,) = describe_function(pool(2, 2), 7).warnings
  assert "36 of 49" in text and "stride" not in text
  (text,) = describe_function(layers.halve, 7).warnings
  assert "36 of 49" in text


def test_pixels_that_another_layer_reads_are_not_dropped():
  assert describe_function(residual, 8).warnings == []
  (text,) = describe_function(lambda x: x[:, ::2, ::2] * 2, 8).warnings
  assert "stride 2" in text and "16 of 64" in text


def cumulate(x):
  return jnp.cumsum(x, axis=1) * 2


def add_mirrored(x):
  return x[:, ::-1] + x


MIXED = (cumulate, add_mirrored)


@pytest.mark.parametrize(
  "function",
  [
    *MIXED,
    convolve(3, 2, 1),
    convolve(3, dilation=2),
    chain(convolve(5, 2, 2), convolve(3, 1, 1), pool(2, 2)),
    chain(convolve(4, 2), layers.halve),
    chain(layers.halve, layers.halve, convolve(3, 1, 1)),
    chain(lambda x: jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), convolve(3)),
    chain(as_tokens(4), convolve(3, 1, 1)),
    chain(residual, residual),
    chain(convolve(3, 1, 1), lambda x: jnp.concatenate([x, x], axis=3)),
    chain(
      convolve(5), lambda x: sum(jnp.split(jnp.tile(x, (1, 1, 1, 2)), 2, 3))
    ),
    chain(lambda x: x.transpose(0, 2, 1, 3), convolve(3, 2, 1)),
    chain(convolve(3, 2, 1), jax.jit(jax.checkpoint(convolve(3, 1, 1)))),
    lambda x: x * x.mean(axis=(1, 2), keepdims=True),
    lambda x: x.reshape(1, -1) @ jnp.ones((x.size, 2)),
  ],
)
def test_fields_are_those_of_the_gradient(function):
  """The box of pixels that the output in the middle depends on.

  Where parts are not displaced copies of each other, the field is the image.
  """
  size = 24
  run = lambda params, x: function(x) * params["scale"]
  *_, layer = describe_function(run, size, {"scale": jnp.ones(())}).layers
  middle = (0, *(n // 2 for n in layer.shape))
  # The gradient of a maximum reaches one pixel of each image.
  images = jax.random.uniform(jax.random.key(0), (64, 1, size, size, 1)) + 0.1
  grads = jax.vmap(jax.grad(lambda x: function(x)[middle]))(images)
  _, _, rows, cols, _ = np.nonzero(np.asarray(grads))
  box = (np.ptp(rows) + 1, np.ptp(cols) + 1)
  assert layer.field in (box, (size, size))
  assert (layer.field == box) == (function not in MIXED)


# Without the fully connected part: Araujo et al. 2019, "Computing receptive
# fields of convolutional neural networks", and for the strides of v1.5, whose
# ResNet-50 strides in the 3x3 convolution, by its recursion.
@pytest.mark.parametrize(
  ("name", "last", "field"),
  [
    ("resnet18", "stage4_block2/norm2", 435),
    ("resnet50", "stage4_block3/norm3", 427),
  ],
)
def test_fields_are_those_published(name, last, field):
  found = {layer.name: layer for layer in describe(name, 224).layers}
  assert found[last].field == (field, field)
  assert found["stem_conv"].field == (7, 7)
  assert found["head/dense"].field == (224, 224)


def test_tokens_see_everything_after_attention():
  found = {x.name: x for x in describe("vit_ti16", 64, depth=2).layers}
  assert found["patches"].field == found["block1/norm1"].field == (16, 16)
  assert found["block1/attention"].field == (64, 64)
  # Query, key, value and the two products of attention.
  assert found["block1/attention"].params == 3 * (192 * 192 + 192)
  assert found["block1/attention"].macs == 3 * 16 * 192**2 + 2 * 16**2 * 192


SMALL = {
  "cnn": {},
  "mlp": {},
  "whitened": {},
  "resnet18": {},
  "wide_resnet28_10": dict(depth=10),
  "convnext_t": dict(widths=(24, 48), stage_sizes=(1, 1)),
  "efficientnet_b0": dict(stages=((1, 3, 1, 16, 1), (6, 5, 2, 48, 2))),
  "mlp_mixer_s16": dict(depth=1),
  "vit_ti16": dict(depth=1, pooling="token", posemb="learn", pre_logits=True),
}


def check_sums(name, **settings):
  model = build(name, 64, **settings)
  cost = flops.count_cost(model, (64, 64, 3))
  found = describe(name, 64, **settings).layers
  assert sum(layer.params for layer in found) == cost.params
  assert sum(layer.macs for layer in found) == cost.macs
  if not model.reconstructs:
    assert found[-1].shape == (10,) and found[-1].field == (64, 64)
  assert all(layer.shape and layer.name for layer in found)


@pytest.mark.parametrize("name", SMALL)
def test_sums_are_those_of_a_small_model(name):
  check_sums(name, **SMALL[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", models.BUILDERS)
def test_sums_are_those_of_the_model(name):
  check_sums(name)


def test_layers_by_hand():
  found = describe("cnn", 16, widths=(8, 16), stem_size=3).layers
  by_name = {layer.name: layer for layer in found}
  names = ["stem", "stem_norm"]
  names += [f"stage1_{kind}{i}" for i in (1, 2) for kind in ("conv", "norm")]
  names += ["pool"]
  names += [f"stage2_{kind}{i}" for i in (1, 2) for kind in ("conv", "norm")]
  assert [layer.name for layer in found] == [*names, "pool", "head/dense"]
  conv = by_name["stage2_conv1"]
  assert (conv.shape, conv.params) == ((4, 4, 16), 9 * 8 * 16)
  assert conv.macs == 4 * 4 * 16 * 9 * 8
  # 3, then 2 * 2 * 2 more, a pool of 2 at stride 2, and 2 at stride 4.
  assert conv.field == (3 + 8 + 2 + 8,) * 2
  assert by_name["head/dense"].params == 16 * 10 + 10


def test_a_fully_connected_model_sees_everything_at_once():
  first, second, head = describe("mlp", 16, widths=(8, 4)).layers
  assert first.field == (16, 16) and first.shape == (8,)
  inputs = 16 * 16 * 3
  assert [first.params, second.params] == [8 * inputs + 8, 8 * 4 + 4]
  assert [first.macs, second.macs, head.macs] == [8 * inputs, 32, 40]


def test_even_stems_are_named():
  assert describe("cnn", 32).warnings == []
  (text,) = describe("cnn", 32, stem_size=4).warnings
  assert text.startswith("stem: ") and "4x4" in text
  # Patches that tile the image are no such stem.
  assert (
    describe("convnext_t", 32, widths=(8,), stage_sizes=(1,)).warnings == []
  )


def test_convolutions_of_maps_of_one_pixel_are_named():
  found = describe("resnet18", 32).warnings
  assert len(found) == 2  # From 2x2 to 1x1, and on 1x1.
  assert "stage4_block1/conv1: " in found[0] and "4 of" in found[0]
  assert "stage4_block2/conv2" in found[1] and "1 of" in found[1]
  assert describe("resnet18", 32, stem="cifar").warnings == []


def test_parameters_of_plain_functions():
  params = {"a": jnp.ones((9, 2)), "b": jnp.ones(2), "c": jnp.ones(5)}
  run = lambda p, x: x.reshape(1, 9) @ p["a"] * 2 + p["b"][None]
  product, unused = describe_function(run, 3, params).layers
  assert (product.params, product.macs) == (18 + 2, 18)
  assert product.shape == (2,) and product.field == (3, 3)
  assert (unused.name, unused.params) == (description.UNUSED, 5)


class LeNet(nn.Module):
  """Flax's own layers, with a pool that drops pixels."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(6, (5, 5), padding="VALID")(x)
    x = nn.max_pool(x, (2, 2), (3, 3))
    x = nn.avg_pool(x, (2, 2), (2, 2))
    return nn.Dense(10)(x.reshape(x.shape[0], -1))


def test_modules_of_flax_are_layers():
  module = LeNet()
  images = jnp.zeros((1, 14, 14, 3))
  model = base.Model(
    init=lambda key: dict(module.init(key, images)),
    apply=lambda v, x, train, key=None: (module.apply(v, x), {}),
    dtype=jnp.float32,
  )
  found = description.describe(model, (14, 14, 3))
  rows = [(x.name, x.shape, x.params, x.field[0]) for x in found.layers]
  assert rows == [
    ("Conv_0", (10, 10, 6), 5 * 5 * 3 * 6 + 6, 5),
    ("reduce_window_max", (3, 3, 6), 0, 6),
    ("reduce_window_sum", (1, 1, 6), 0, 9),
    ("Dense_0", (10,), 6 * 10 + 10, 9),
  ]
  assert len(found.warnings) == 2
  assert found.warnings[0].startswith("reduce_window_max: ")


def test_a_scan_is_one_layer_that_sees_everything():
  params = {"w": jnp.ones((4, 3, 3, 1, 1))}

  def run(params, x):
    step = lambda x, w: (layers.convolve(x, w), None)
    return jax.lax.scan(step, x, params["w"])[0]

  (layer,) = describe_function(run, 8, params).layers
  assert (layer.params, layer.macs) == (36, 4 * 9 * 64)
  assert layer.field == (8, 8) and layer.shape == (8, 8, 1)


def test_a_transposed_convolution_has_half_the_step():
  down, up, after = convolve(3, 2, 1), convolve(3, 1, 1, spread=2), convolve(3)
  down, up = jax.named_scope("down")(down), jax.named_scope("up")(up)
  first, _, last = describe_function(chain(down, up, after), 16).layers
  assert first.field == (3, 3)
  assert last.shape == (13, 13, 1) and 5 <= last.field[0] <= 8
