"""ResNets (He et al., arXiv:1512.03385) with ImageNet or CIFAR stems.

Layer by layer the networks of torchvision, so that parameter counts agree;
bottleneck blocks stride in their 3x3 convolution ("version 1.5").
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools

from flax import linen as nn
import jax

from imgbench import errors
from imgbench.models import base
from imgbench.models import folding
from imgbench.models import layers

STEMS = ("imagenet", "cifar")


class BasicBlock(nn.Module):
  """Two 3x3 convolutions and a shortcut."""

  width: int
  stride: int
  conv: Callable
  norm: Callable

  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = self.conv(self.width, stride=self.stride, name="conv1")(x)
    y = nn.relu(self.norm(name="norm1")(y))
    y = self.conv(self.width, name="conv2")(y)
    y = self.norm(name="norm2")(y)
    return nn.relu(y + _shortcut(self, x))


class BottleneckBlock(nn.Module):
  """1x1, strided 3x3 and widening 1x1 convolution, and a shortcut."""

  width: int
  stride: int
  conv: Callable
  norm: Callable

  expansion = 4

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = self.conv(self.width, size=1, name="conv1")(x)
    y = nn.relu(self.norm(name="norm1")(y))
    y = self.conv(self.width, stride=self.stride, name="conv2")(y)
    y = nn.relu(self.norm(name="norm2")(y))
    y = self.conv(self.width * self.expansion, size=1, name="conv3")(y)
    y = self.norm(name="norm3")(y)
    return nn.relu(y + _shortcut(self, x))


def _shortcut(block, x: jax.Array) -> jax.Array:
  """Returns the input, projected if the block changes its shape."""
  width = block.width * block.expansion
  if x.shape[-1] == width and block.stride == 1:
    return x
  x = block.conv(width, size=1, stride=block.stride, name="shortcut_conv")(x)
  return block.norm(name="shortcut_norm")(x)


class ResNet(base.Classifier):
  """Stem, stages of residual blocks, global mean, linear head.

  Attributes:
    stage_sizes: blocks of each stage.
    block: BasicBlock or BottleneckBlock.
    statistics: see `layers.BatchNorm`.
    stem: "imagenet" (7x7 by 2, max-pool by 2) or "cifar" (3x3 by 1).
    width: channels of the first stage; each stage doubles them.
    norm_momentum: share of the old running statistics kept at each step.
  """

  stage_sizes: Sequence[int]
  block: type[nn.Module]
  statistics: layers.BatchStatistics = layers.WHOLE_BATCH
  stem: str = "imagenet"
  width: int = 64
  norm_momentum: float = 0.9

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    names = f"one of {', '.join(STEMS)}"
    errors.check(self.stem in STEMS, "stem", names, repr(self.stem))
    base.check_positive(width=self.width)

  @nn.nowrap
  def fold(self, variables: base.Variables) -> base.Variables:
    """See `base.Model`."""
    return folding.fold(variables)

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    conv = functools.partial(layers.Conv, dtype=self.dtype)
    norm = functools.partial(
      layers.BatchNorm,
      use_running_average=not train,
      statistics=self.statistics,
      momentum=self.norm_momentum,
      dtype=self.dtype,
    )
    imagenet = self.stem == "imagenet"
    size, stride = (7, 2) if imagenet else (3, 1)
    x = conv(self.width, size=size, stride=stride, name="stem_conv")(x)
    x = nn.relu(norm(name="stem_norm")(x))
    if imagenet:
      x = layers.max_pool(x, 3, 2, padding=1)
    for stage, blocks in enumerate(self.stage_sizes):
      for index in range(blocks):
        x = self.block(
          width=self.width * 2**stage,
          stride=2 if stage and not index else 1,
          conv=conv,
          norm=norm,
          name=f"stage{stage + 1}_block{index + 1}",
        )(x)
    return layers.Head(self.num_classes, name="head")(layers.global_mean(x))


def _sized(block: type[nn.Module], *stage_sizes: int):
  return base.builder(
    ResNet, fixed={"block": block, "stage_sizes": stage_sizes}
  )


resnet18 = _sized(BasicBlock, 2, 2, 2, 2)
resnet34 = _sized(BasicBlock, 3, 4, 6, 3)
resnet50 = _sized(BottleneckBlock, 3, 4, 6, 3)
resnet101 = _sized(BottleneckBlock, 3, 4, 23, 3)
resnet152 = _sized(BottleneckBlock, 3, 8, 36, 3)
