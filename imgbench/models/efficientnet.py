"""EfficientNets (Tan and Le 2019, arXiv:1905.11946).

Identical to torchvision: symmetric padding, and norms with PyTorch's epsilon
and momentum (the paper's code has 1e-3 and 0.99).
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import math
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax

from imgbench import errors
from imgbench.models import base
from imgbench.models import depthwise
from imgbench.models import folding
from imgbench.models import layers

STEM_WIDTH = 32
SQUEEZE = 4  # input channels of a block over those of its squeezed mean


class Stage(NamedTuple):
  """Settings of a stage; only its first block has the stride."""

  expansion: int
  size: int
  stride: int
  width: int
  blocks: int


# Table 1 of the paper.
STAGES = (
  Stage(1, 3, 1, 16, 1),
  Stage(6, 3, 2, 24, 2),
  Stage(6, 5, 2, 40, 2),
  Stage(6, 3, 2, 80, 3),
  Stage(6, 5, 1, 112, 3),
  Stage(6, 5, 2, 192, 4),
  Stage(6, 3, 1, 320, 1),
)


class Squeeze(nn.Module):
  """Squeeze-and-excitation: scales channels by two layers of their means.

  Source: Hu et al. 2018 (arXiv:1709.01507), with SiLU.
  """

  width: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = functools.partial(
      nn.Dense, dtype=self.dtype, kernel_init=layers.kaiming_normal
    )
    y = nn.silu(dense(self.width, name="in")(layers.global_mean(x)))
    y = nn.sigmoid(dense(x.shape[-1], name="out")(y))
    return x * y[:, None, None]


class MbConvBlock(nn.Module):
  """Widening 1x1, depthwise, squeeze, narrowing 1x1 convolution, shortcut."""

  width: int
  expansion: int
  size: int
  stride: int
  drop_path: float
  conv: Callable
  norm: Callable
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    inputs, y = x.shape[-1], x
    if self.expansion > 1:
      y = self.conv(inputs * self.expansion, size=1, name="expand_conv")(y)
      y = nn.silu(self.norm(name="expand_norm")(y))
    y = depthwise.DepthwiseConv(
      self.size, self.stride, dtype=self.dtype, name="depthwise"
    )(y)
    y = nn.silu(self.norm(name="depthwise_norm")(y))
    y = Squeeze(max(1, inputs // SQUEEZE), self.dtype, name="squeeze")(y)
    y = self.conv(self.width, size=1, name="project_conv")(y)
    y = self.norm(name="project_norm")(y)
    if self.stride > 1 or inputs != self.width:
      return y
    return x + layers.drop_path(y, self.drop_path, train)


class EfficientNet(base.Classifier):
  """Strided stem, stages of blocks, 1x1 convolution, mean, linear head.

  B0 by default. Norm statistics, means over positions and head are float32.

  Attributes:
    statistics: see `layers.BatchNorm`.
    stages: five numbers each, see `Stage`.
    width_factor: multiplies B0's channels, rounded to multiples of 8.
    depth_factor: multiplies B0's blocks per stage, rounded up.
    norm_momentum: share of the old running statistics kept at each step.
    dropout: share of features dropped before the head, in [0, 1); 0.2 in the
      paper.
    drop_path: share of examples that skip a block; it grows linearly from 0 in
      the first to nearly this in the last; 0.2 in the paper. The model needs a
      key if one of the two is above 0.
  """

  statistics: layers.BatchStatistics = layers.WHOLE_BATCH
  stages: Sequence[Sequence[int]] = STAGES
  width_factor: float = 1.0
  depth_factor: float = 1.0
  norm_momentum: float = 0.9
  dropout: float = 0.0
  drop_path: float = 0.0

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    stages = [Stage(*stage) for stage in self.stages]
    fits = bool(stages) and all(min(s) >= 1 and s.size % 2 for s in stages)
    expected = "numbers of at least 1, with odd kernel sizes"
    errors.check(fits, "stages", expected, [tuple(stage) for stage in stages])
    for key in ("width_factor", "depth_factor"):
      factor = getattr(self, key)
      errors.check(factor > 0, key, "more than 0", factor)
    base.check_shares(dropout=self.dropout, drop_path=self.drop_path)

  @nn.nowrap
  def fold(self, variables: base.Variables) -> base.Variables:
    """See `base.Model`."""
    return folding.fold(variables, {"depthwise_norm": "depthwise"})

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
    wide = functools.partial(scale_width, factor=self.width_factor)
    x = conv(wide(STEM_WIDTH), stride=2, name="stem_conv")(x)
    x = nn.silu(norm(name="stem_norm")(x))
    stages = [Stage(*stage) for stage in self.stages]
    sizes = [math.ceil(s.blocks * self.depth_factor) for s in stages]
    for number, stage in enumerate(stages):
      for index in range(sizes[number]):
        before = sum(sizes[:number]) + index
        x = MbConvBlock(
          width=wide(stage.width),
          expansion=stage.expansion,
          size=stage.size,
          stride=1 if index else stage.stride,
          drop_path=self.drop_path * before / sum(sizes),
          conv=conv,
          norm=norm,
          dtype=self.dtype,
          name=f"stage{number + 1}_block{index + 1}",
        )(x, train)
    # Four times the last stage, as in torchvision.
    x = conv(4 * wide(stages[-1].width), size=1, name="last_conv")(x)
    x = nn.silu(norm(name="last_norm")(x))
    x = layers.global_mean(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return layers.Head(self.num_classes, name="head")(x)


def scale_width(channels: int, factor: float) -> int:
  """Returns the multiple of 8 nearest to the product, at least 0.9 of it."""
  product = channels * factor
  nearest = max(8, int(product + 4) // 8 * 8)
  return nearest + 8 if nearest < 0.9 * product else nearest


efficientnet_b0 = base.builder(EfficientNet)
