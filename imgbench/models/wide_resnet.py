"""Wide ResNets for CIFAR (Zagoruyko and Komodakis 2016, arXiv:1605.07146).

Pre-activation: norm and ReLU precede each convolution; a shortcut that changes
the width projects the output of a block's first norm and ReLU.
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax

from imgbench import errors
from imgbench.models import base
from imgbench.models import folding
from imgbench.models import layers

STEM_WIDTH = 16


class WideBlock(nn.Module):
  """Two 3x3 convolutions, dropout between them, and a shortcut."""

  width: int
  stride: int
  dropout: float
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = nn.relu(self.norm(name="norm1")(x))
    if x.shape[-1] != self.width or self.stride > 1:
      shortcut = functools.partial(self.conv, size=1, stride=self.stride)
      x = shortcut(self.width, name="shortcut_conv")(y)
    y = self.conv(self.width, stride=self.stride, name="conv1")(y)
    y = nn.relu(self.norm(name="norm2")(y))
    y = nn.Dropout(self.dropout, deterministic=not train)(y)
    return x + self.conv(self.width, name="conv2")(y)


class WideResNet(base.Classifier):
  """3x3 stem, three stages of blocks, norm, mean, linear head.

  Attributes:
    depth: 6 n + 4 for n blocks per stage; counts the convolutions of the
      longest path and the three projections.
    width: k, the channels of the first stage over 16; each stage doubles them.
    statistics: see `layers.BatchNorm`.
    dropout: share of features dropped between a block's convolutions, in
      [0, 1). Above 0 the model needs a key.
    norm_momentum: share of the old running statistics kept at each step.
  """

  depth: int
  width: int
  statistics: layers.BatchStatistics = layers.WHOLE_BATCH
  dropout: float = 0.0
  norm_momentum: float = 0.9

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    fits = self.depth >= 10 and self.depth % 6 == 4
    errors.check(fits, "depth", "6 n + 4 (10, 16, 22, 28 ...)", self.depth)
    base.check_positive(width=self.width)
    base.check_shares(dropout=self.dropout)

  @nn.nowrap
  def fold(self, variables: base.Variables) -> base.Variables:
    """See `base.Model`.

    The first norm of each block and the last norm follow a sum and are not
    folded.
    """
    names = {"norm1": None, "norm2": "conv1", "norm": None}
    return folding.fold(variables, names)

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
    x = conv(STEM_WIDTH, name="stem_conv")(x)
    for stage in range(3):
      for index in range((self.depth - 4) // 6):
        x = WideBlock(
          width=STEM_WIDTH * self.width * 2**stage,
          stride=2 if stage and not index else 1,
          dropout=self.dropout,
          conv=conv,
          norm=norm,
          name=f"stage{stage + 1}_block{index + 1}",
        )(x, train)
    x = nn.relu(norm(name="norm")(x))
    return layers.Head(self.num_classes, name="head")(layers.global_mean(x))


wide_resnet28_10 = base.builder(WideResNet, depth=28, width=10)
