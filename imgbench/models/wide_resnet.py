"""Wide ResNets for CIFAR (Zagoruyko and Komodakis 2016, arXiv:1605.07146).

Norms and ReLUs stand before the convolutions; a shortcut that changes the width
is projected behind the first of them.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors
from imgbench.models import base
from imgbench.models import folding
from imgbench.models import layers

STEM_WIDTH = 16


class Block(nn.Module):
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


class WideResNet(nn.Module):
  """3x3 stem, three stages of blocks, norm, mean, linear head."""

  num_classes: int
  stage_size: int
  width: int
  dropout: float
  norm_momentum: float
  dtype: Any
  statistics: layers.BatchStatistics

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
      for index in range(self.stage_size):
        x = Block(
          width=self.width * 2**stage,
          stride=2 if stage and not index else 1,
          dropout=self.dropout,
          conv=conv,
          norm=norm,
          name=f"stage{stage + 1}_block{index + 1}",
        )(x, train)
    x = nn.relu(norm(name="norm")(x))
    return layers.Head(self.num_classes, name="head")(layers.global_mean(x))


def build_wide_resnet(
  *,
  num_classes: int,
  image_shape: tuple[int, int, int],
  dtype: Any = jnp.float32,
  statistics: layers.BatchStatistics = layers.WHOLE_BATCH,
  depth: int,
  width: int,
  dropout: float = 0.0,
  norm_momentum: float = 0.9,
) -> base.Model:
  """Returns a WideResNet.

  Args:
    num_classes: K.
    image_shape: (H, W, C).
    dtype: of the computation.
    statistics: see `layers.BatchNorm`.
    depth: convolutions on the longest way, 6 n + 4 for n blocks a stage; the
      projections of three shortcuts count.
    width: k, the channels of the first stage over 16; each stage doubles them.
    dropout: share of features dropped between a block's convolutions, in
      [0, 1). Above 0 the model needs a key.
    norm_momentum: share of the old running statistics kept at each step.

  Raises:
    InputError: a setting out of range.
  """
  if depth < 10 or (depth - 4) % 6:
    raise errors.InputError(
      f"wide_resnet: expected a depth of 6 n + 4 (10, 16, 22, 28 ...), got"
      f" {depth}"
    )
  if width < 1:
    raise errors.InputError(
      f"wide_resnet: expected a width of at least 1, got {width}"
    )
  base.check_shares(dropout=dropout)
  module = WideResNet(
    num_classes=num_classes,
    stage_size=(depth - 4) // 6,
    width=STEM_WIDTH * width,
    dropout=dropout,
    norm_momentum=norm_momentum,
    dtype=dtype,
    statistics=statistics,
  )
  needs_key = dropout > 0
  # The first norm of a block and the last one follow a sum, and a ReLU stands
  # between them and the next convolution.
  names = {"norm1": None, "norm2": "conv1", "norm": None}
  return base.from_module(
    module,
    image_shape,
    dtype,
    needs_key=needs_key,
    fold=functools.partial(folding.fold, convolutions=names),
  )


wide_resnet28_10 = functools.partial(build_wide_resnet, depth=28, width=10)
