"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545).

Identical to the paper's code and torchvision except for GELU, which by default
has its tanh form.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors
from imgbench.models import base
from imgbench.models import depthwise
from imgbench.models import layers
from imgbench.models import tokens

STEM_PATCH = 4

_normal = nn.initializers.normal(0.02)


class ConvNextBlock(nn.Module):
  """Residual block of depthwise 7x7, norm and scaled MLP."""

  drop_path: float
  scale_init: float
  norm: Callable
  dtype: Any
  activation: str

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    width = x.shape[-1]
    y = depthwise.DepthwiseConv(
      7,
      use_bias=True,
      dtype=self.dtype,
      kernel_init=_normal,
      name="depthwise",
    )(x)
    y = self.norm(name="norm")(y)
    y = tokens.Mlp(
      4 * width,
      dropout=0.0,
      dtype=self.dtype,
      kernel_init=_normal,
      bias_init=nn.initializers.zeros,
      activation=self.activation,
      name="mlp",
    )(y, train)
    init = nn.initializers.constant(self.scale_init)
    scale = self.param("branch_scale", init, (width,), jnp.float32)
    y *= scale.astype(self.dtype)[None, None, None]
    return x + layers.drop_path(y, self.drop_path, train)


class ConvNext(base.Classifier):
  """Patches, stages of blocks with patches between them, mean, norm, head.

  The stem divides the resolution by 4, each later stage by 2; the image sides
  must be divisible by the product. Norm statistics, pooling, the last norm and
  the head are float32.

  Attributes:
    widths: channels of each stage.
    stage_sizes: blocks of each stage.
    scale_init: initial scale of each channel of a block's branch.
    drop_path: share of examples that skip the last block's branch; it grows
      linearly from 0 in the first. Above 0 the model needs a key.
    activation: of the MLPs, see `layers.activation`; "gelu_exact" in the paper.
  """

  widths: Sequence[int]
  stage_sizes: Sequence[int]
  scale_init: float = 1e-6
  drop_path: float = 0.0
  activation: str = "gelu"

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    stages = len(self.widths)
    base.check_positive(widths=self.widths, stage_sizes=self.stage_sizes)
    fits, expected = len(self.stage_sizes) == stages, f"{stages}, as widths"
    errors.check(fits, "stage_sizes", expected, self.stage_sizes)
    base.check_shares(drop_path=self.drop_path)
    layers.activation(self.activation)
    stride = STEM_PATCH * 2 ** (stages - 1)
    height, width, _ = image_shape
    fits = not height % stride and not width % stride
    expected = f"sides that are multiples of {stride}"
    errors.check(fits, "image_shape", expected, f"{height}x{width}")

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    block_norm = functools.partial(tokens.LayerNorm, dtype=self.dtype)
    before, last = 0, max(1, sum(self.stage_sizes) - 1)
    for stage, width in enumerate(self.widths, 1):
      if stage == 1:
        x = self._patches(x, width, STEM_PATCH, "stem")
        x = block_norm(name="stem_norm")(x)
      else:
        x = block_norm(name=f"stage{stage}_norm")(x)
        x = self._patches(x, width, 2, f"stage{stage}_patches")
      for index in range(self.stage_sizes[stage - 1]):
        x = ConvNextBlock(
          drop_path=self.drop_path * (before + index) / last,
          scale_init=self.scale_init,
          norm=block_norm,
          dtype=self.dtype,
          activation=self.activation,
          name=f"stage{stage}_block{index + 1}",
        )(x, train)
      before += self.stage_sizes[stage - 1]
    x = tokens.LayerNorm(name="norm")(layers.global_mean(x))
    return layers.Head(self.num_classes, kernel_init=_normal, name="head")(x)

  def _patches(self, x: jax.Array, width: int, size: int, name: str):
    """Maps each patch linearly: [B, H, W, C] -> [B, H / p, W / p, F]."""
    batch, rows, cols, _ = x.shape
    embed = tokens.PatchEmbedding(
      width, size, self.dtype, kernel_init=_normal, name=name
    )
    return embed(x).reshape(batch, rows // size, cols // size, width)


convnext_t = base.builder(
  ConvNext, widths=(96, 192, 384, 768), stage_sizes=(3, 3, 9, 3)
)
