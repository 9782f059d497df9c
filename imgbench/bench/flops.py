"""Parameters and multiply-adds of models, from their definitions alone.

A multiply-add (MAC) counts once here, as in the tables of torchvision and timm,
which call it a FLOP; hardware counts two FLOPs. Convolutions, linear layers and
the two matrix products of attention are counted; norms, activations, biases and
pooling are not. Padding counts as if it were image, as in those tables.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math

from imgbench import errors
from imgbench import registry
from imgbench.models import convnext
from imgbench.models import efficientnet
from imgbench.models import wide_resnet

FLOPS_PER_MAC = 2
# Forward, and backward for the inputs and for the weights of each layer. The
# first layer's inputs need no gradient; that is below 3% in any of the models.
TRAINING_PASSES = 3


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one image and one forward pass.

  Attributes:
    params: numbers that are trained.
    macs: multiply-adds.
  """

  params: int = 0
  macs: int = 0

  def __add__(self, other: "Cost") -> "Cost":
    return Cost(self.params + other.params, self.macs + other.macs)

  def __mul__(self, times: int) -> "Cost":
    return Cost(self.params * times, self.macs * times)

  @property
  def training_flops(self) -> int:
    """Of one image in a training step."""
    return FLOPS_PER_MAC * TRAINING_PASSES * self.macs

  @property
  def forward_flops(self) -> int:
    """Of one image."""
    return FLOPS_PER_MAC * self.macs


def _linear(inputs: int, outputs: int, rows: int = 1, bias: bool = True):
  return Cost((inputs + bias) * outputs, rows * inputs * outputs)


def _conv(
  size: int, inputs: int, outputs: int, positions: int, norm: bool = True
) -> Cost:
  """Without bias; with the scale and bias of a norm behind it."""
  kernel = size * size * inputs * outputs
  return Cost(kernel + 2 * norm * outputs, positions * kernel)


def _out(side: int, size: int, stride: int, padding: int) -> int:
  return (side + 2 * padding - size) // stride + 1


def _resnet(
  stage_sizes: Sequence[int],
  expansion: int,
  *,
  image_shape,
  num_classes,
  stem="imagenet",
  width=64,
  norm_momentum=0.9,
) -> Cost:
  del norm_momentum
  sides, channels = list(image_shape[:2]), image_shape[2]
  if stem == "imagenet":
    sides = [_out(side, 7, 2, 3) for side in sides]
  cost = _conv(7 if stem == "imagenet" else 3, channels, width, _area(sides))
  if stem == "imagenet":
    sides = [_out(side, 3, 2, 1) for side in sides]
  channels = width
  for stage, blocks in enumerate(stage_sizes):
    for index in range(blocks):
      stride = 2 if stage and not index else 1
      before = _area(sides)
      sides = [_out(side, 3, stride, 1) for side in sides]
      narrow = width * 2**stage
      wide = narrow * expansion
      cost += _block(channels, narrow, wide, before, _area(sides))
      channels = wide
  return cost + _linear(channels, num_classes)


def _block(inputs: int, narrow: int, wide: int, before: int, after: int):
  """A residual block; `before` and `after` it so many positions."""
  if narrow == wide:
    cost = _conv(3, inputs, narrow, after) + _conv(3, narrow, narrow, after)
  else:
    cost = _conv(1, inputs, narrow, before)
    cost += _conv(3, narrow, narrow, after) + _conv(1, narrow, wide, after)
  if inputs != wide or before != after:
    cost += _conv(1, inputs, wide, after)
  return cost


def _area(sides: Sequence[int]) -> int:
  return sides[0] * sides[1]


def _vit(
  *,
  width,
  depth,
  num_heads,
  image_shape,
  num_classes,
  mlp_ratio=4,
  patch_size=16,
  pooling="gap",
  posemb="sincos2d",
  pre_logits=False,
  zero_head=True,
  dropout=0.0,
  drop_path=0.0,
  attention="auto",
) -> Cost:
  # No sizes depend on them.
  del num_heads, zero_head, dropout, drop_path, attention
  height, cols, channels = image_shape
  patches = (height // patch_size) * (cols // patch_size)
  cost = _linear(patch_size**2 * channels, width, patches)
  tokens = patches + (pooling == "token")
  cost += Cost(width * (pooling == "token"))
  cost += Cost(tokens * width * (posemb == "learn"))
  norm, hidden = Cost(2 * width), mlp_ratio * width
  block = norm + _linear(width, width, tokens) * 4  # query, key, value, out
  block += Cost(macs=2 * tokens * tokens * width)
  block += (
    norm + _linear(width, hidden, tokens) + _linear(hidden, width, tokens)
  )
  cost += block * depth + norm
  if pre_logits:
    cost += _linear(width, width)
  return cost + _linear(width, num_classes)


def _cnn(
  *, image_shape, num_classes, widths=(24, 48, 96), stem_size=5, stem_stride=2
) -> Cost:
  padding = (stem_size - 1) // 2
  sides = [_out(side, stem_size, stem_stride, padding) for side in image_shape]
  cost = _conv(stem_size, image_shape[2], widths[0], _area(sides))
  inputs = widths[0]
  for stage, width in enumerate(widths):
    sides = [side // 2 for side in sides] if stage else sides
    cost += _conv(3, inputs, width, _area(sides))
    cost += _conv(3, width, width, _area(sides))
    inputs = width
  return cost + _linear(inputs, num_classes)


def _whitened(
  *,
  image_shape,
  num_classes,
  widths=(48, 96),
  depth=2,
  stem_size=4,
  stem_stride=2,
  stem_filters=0,
  stem_bias=False,
  activation="gelu",
  logit_scale=1 / 9,
  norm_momentum=0.6,
) -> Cost:
  del activation, logit_scale, norm_momentum
  patch = stem_size**2 * image_shape[2]
  inputs = 2 * (stem_filters or patch)
  sides = [_out(side, stem_size, stem_stride, 0) for side in image_shape[:2]]
  # The kernel is not trained.
  cost = Cost(inputs * stem_bias, _area(sides) * patch * inputs)
  for width in widths:
    for layer in range(depth):
      # The norm has no scale.
      conv = _conv(3, inputs, width, _area(sides), norm=False)
      cost += conv + Cost(width)
      sides = [side // 2 for side in sides] if not layer else sides
      inputs = width
  return cost + _linear(inputs, num_classes, bias=False)


def _wide_resnet(
  *, depth, width, image_shape, num_classes, dropout=0.0, norm_momentum=0.9
) -> Cost:
  del dropout, norm_momentum
  sides, channels = image_shape[:2], wide_resnet.STEM_WIDTH
  cost = _conv(3, image_shape[2], channels, _area(sides), norm=False)
  for stage in range(3):
    wide = wide_resnet.STEM_WIDTH * width * 2**stage
    for index in range((depth - 4) // 6):
      stride = 2 if stage and not index else 1
      sides = [_out(side, 3, stride, 1) for side in sides]
      conv = functools.partial(_conv, positions=_area(sides), norm=False)
      # Norms stand before the convolutions.
      cost += conv(3, channels, wide) + conv(3, wide, wide)
      cost += Cost(2 * channels + 2 * wide)
      if channels != wide or stride > 1:
        cost += conv(1, channels, wide)
      channels = wide
  return cost + Cost(2 * channels) + _linear(channels, num_classes)


def _convnext(
  *,
  widths,
  stage_sizes,
  image_shape,
  num_classes,
  scale_init=1e-6,
  drop_path=0.0,
) -> Cost:
  del scale_init, drop_path
  positions, inputs = _area(image_shape), image_shape[2]
  cost, size = Cost(), convnext.STEM_PATCH
  for width, blocks in zip(widths, stage_sizes, strict=True):
    positions //= size**2
    cost += _linear(size**2 * inputs, width, positions)
    # Behind the patches of the stem, before those of other stages.
    cost += Cost(2 * (inputs if size == 2 else width))
    # A norm behind it, and the branch's factors.
    block = _depthwise(7, width, positions) + Cost(2 * width + width)
    block += _linear(width, 4 * width, positions)
    cost += (block + _linear(4 * width, width, positions)) * blocks
    inputs, size = width, 2
  return cost + Cost(2 * inputs) + _linear(inputs, num_classes)


def _depthwise(size: int, channels: int, positions: int) -> Cost:
  """With a bias; a norm has one number more for each channel."""
  kernel = size * size * channels
  return Cost(kernel + channels, positions * kernel)


def _efficientnet(
  *,
  image_shape,
  num_classes,
  stages=efficientnet.STAGES,
  width_factor=1.0,
  depth_factor=1.0,
  norm_momentum=0.9,
  dropout=0.0,
  drop_path=0.0,
) -> Cost:
  del norm_momentum, dropout, drop_path
  widened = functools.partial(efficientnet.widened, factor=width_factor)
  sides = [_out(side, 3, 2, 1) for side in image_shape[:2]]
  inputs = widened(efficientnet.STEM_WIDTH)
  cost = _conv(3, image_shape[2], inputs, _area(sides))
  for expansion, size, stride, width, blocks in stages:
    width = widened(width)
    for index in range(math.ceil(blocks * depth_factor)):
      wide = inputs * expansion
      if expansion > 1:
        cost += _conv(1, inputs, wide, _area(sides))
      step = 1 if index else stride
      sides = [_out(side, size, step, (size - 1) // 2) for side in sides]
      cost += _depthwise(size, wide, _area(sides)) + Cost(wide)
      squeezed = max(1, inputs // efficientnet.SQUEEZE)
      cost += _linear(wide, squeezed) + _linear(squeezed, wide)
      cost += _conv(1, wide, width, _area(sides))
      inputs = width
  last = 4 * inputs
  cost += _conv(1, inputs, last, _area(sides))
  return cost + _linear(last, num_classes)


def _mixer(
  *,
  width,
  depth,
  token_hidden,
  channel_hidden,
  image_shape,
  num_classes,
  patch_size=16,
  zero_head=True,
  drop_path=0.0,
) -> Cost:
  del zero_head, drop_path
  height, cols, channels = image_shape
  tokens = (height // patch_size) * (cols // patch_size)
  norm = Cost(2 * width)
  mlp = lambda size, hidden, rows: (
    _linear(size, hidden, rows) + _linear(hidden, size, rows)
  )
  block = norm * 2 + mlp(tokens, token_hidden, width)
  block += mlp(width, channel_hidden, tokens)
  cost = _linear(patch_size**2 * channels, width, tokens)
  return cost + block * depth + norm + _linear(width, num_classes)


COSTS = {
  "cnn": _cnn,
  "whitened": _whitened,
  "resnet18": functools.partial(_resnet, (2, 2, 2, 2), 1),
  "resnet34": functools.partial(_resnet, (3, 4, 6, 3), 1),
  "resnet50": functools.partial(_resnet, (3, 4, 6, 3), 4),
  "resnet101": functools.partial(_resnet, (3, 4, 23, 3), 4),
  "resnet152": functools.partial(_resnet, (3, 8, 36, 3), 4),
  "wide_resnet28_10": functools.partial(_wide_resnet, depth=28, width=10),
  "convnext_t": functools.partial(
    _convnext, widths=(96, 192, 384, 768), stage_sizes=(3, 3, 9, 3)
  ),
  "efficientnet_b0": _efficientnet,
  "mlp_mixer_s16": functools.partial(
    _mixer, width=512, depth=8, token_hidden=256, channel_hidden=2048
  ),
  "mlp_mixer_b16": functools.partial(
    _mixer, width=768, depth=12, token_hidden=384, channel_hidden=3072
  ),
  "vit_ti16": functools.partial(_vit, width=192, depth=12, num_heads=3),
  "vit_s16": functools.partial(_vit, width=384, depth=12, num_heads=6),
  "vit_b16": functools.partial(_vit, width=768, depth=12, num_heads=12),
  "vit_l16": functools.partial(_vit, width=1024, depth=24, num_heads=16),
}


def cost(
  name: str,
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  **settings,
) -> Cost:
  """Returns parameters and multiply-adds of a model.

  Args:
    name: one of COSTS.
    image_shape: (H, W, C).
    num_classes: K.
    **settings: of the model, as `models.build_model` takes them.

  Raises:
    InputError: a model that is not in the table yet.
  """
  if name not in COSTS:
    raise errors.InputError(
      f"FLOPs of model {name!r} are not in the table of imgbench.bench.flops;"
      f" {registry.near_names(name, COSTS)}"
    )
  return COSTS[name](
    image_shape=image_shape, num_classes=num_classes, **settings
  )
