"""MLP-Mixer (Tolstikhin et al. 2021, arXiv:2105.01601)."""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench.models import base
from imgbench.models import layers
from imgbench.models import tokens


class MixerBlock(nn.Module):
  """Residual MLPs over tokens and over channels, each after a norm."""

  token_hidden: int
  channel_hidden: int
  drop_path: float
  norm: Callable
  dtype: Any
  activation: str

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    mlp = functools.partial(
      tokens.Mlp, dropout=0.0, dtype=self.dtype, activation=self.activation
    )
    y = jnp.swapaxes(self.norm(name="norm1")(x), 1, 2)
    y = mlp(self.token_hidden, name="token_mlp")(y, train)
    x += layers.drop_path(jnp.swapaxes(y, 1, 2), self.drop_path, train)
    y = self.norm(name="norm2")(x)
    y = mlp(self.channel_hidden, name="channel_mlp")(y, train)
    return x + layers.drop_path(y, self.drop_path, train)


class Mixer(base.Classifier):
  """Patches, blocks, norm, mean of the tokens, linear head.

  Parameter shapes depend on the image size. Norm statistics, pooling and head
  are float32.

  Attributes:
    width: features of a token.
    depth: number of blocks.
    token_hidden: hidden width of the MLPs over the tokens.
    channel_hidden: hidden width of the MLPs over the features.
    patch_size: side of a patch; must divide H and W.
    zero_head: whether the head's kernel starts at zero.
    drop_path: share of examples that skip a residual branch of the last block;
      it grows linearly from 0 in the first. Above 0 the model needs a key.
    activation: of the MLPs, see `layers.activation`; timm's is "gelu_exact".
  """

  width: int
  depth: int
  token_hidden: int
  channel_hidden: int
  patch_size: int = 16
  zero_head: bool = True
  drop_path: float = 0.0
  activation: str = "gelu"

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    tokens.check_patches(image_shape, self.patch_size)
    base.check_positive(
      width=self.width,
      depth=self.depth,
      token_hidden=self.token_hidden,
      channel_hidden=self.channel_hidden,
    )
    base.check_shares(drop_path=self.drop_path)
    layers.activation(self.activation)

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    norm = functools.partial(tokens.LayerNorm, dtype=self.dtype)
    embed = tokens.PatchEmbedding(
      self.width, self.patch_size, self.dtype, name="patches"
    )
    x = embed(images)
    for index in range(self.depth):
      x = MixerBlock(
        token_hidden=self.token_hidden,
        channel_hidden=self.channel_hidden,
        drop_path=self.drop_path * index / max(1, self.depth - 1),
        norm=norm,
        dtype=self.dtype,
        activation=self.activation,
        name=f"block{index + 1}",
      )(x, train)
    x = norm(name="norm")(x)
    with jax.named_scope("pool"):
      x = jnp.mean(x, axis=1, dtype=jnp.float32)
    kernel_init = nn.initializers.lecun_normal()
    if self.zero_head:
      kernel_init = nn.initializers.zeros
    head = layers.Head(self.num_classes, kernel_init=kernel_init, name="head")
    return head(x)


mlp_mixer_s16 = base.builder(
  Mixer, width=512, depth=8, token_hidden=256, channel_hidden=2048
)
mlp_mixer_b16 = base.builder(
  Mixer, width=768, depth=12, token_hidden=384, channel_hidden=3072
)
