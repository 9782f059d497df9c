"""Layers that several models share; NHWC, parameters in float32."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors

# Fan-out, as in He et al. 2015 and torchvision's ResNets.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

_ACTIVATIONS = {
  "relu": nn.relu,
  # The exact form costs an erf; tanh is what accelerators and CPUs do fast.
  "gelu": functools.partial(nn.gelu, approximate=True),
  "silu": nn.silu,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
  """Returns an activation by name. Raises InputError for an unknown one."""
  if name not in _ACTIVATIONS:
    raise errors.InputError(
      f"unknown activation {name!r}; known: {', '.join(sorted(_ACTIVATIONS))}"
    )
  return _ACTIVATIONS[name]


def global_mean(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> float32 [B, C], the mean over all positions."""
  return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


class Conv(nn.Module):
  """Convolution without bias, padded symmetrically as in torchvision.

  Flax's "SAME" pads strided convolutions by (0, 1) and (2, 3); published
  weights and parameter-for-parameter comparisons expect the same amount on
  both sides. A 1x1 convolution is a matrix product over the channels (the
  same numbers; 1.4 times faster on XLA:CPU), its kernel keeps 4 axes.
  """

  features: int
  size: int = 3
  stride: int = 1
  dtype: Any = jnp.float32
  kernel_init: Callable = kaiming_normal

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    return convolve(x, kernel.astype(self.dtype), self.stride)


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  stride: int = 1,
  padding: int | Sequence[tuple[int, int]] | None = None,
) -> jax.Array:
  """[B, H, W, C] convolved with [k, k, C, F], padded by (k - 1) // 2."""
  size = kernel.shape[0]
  if size == 1 and not padding:
    return x[:, ::stride, ::stride] @ kernel[0, 0]
  if padding is None:
    padding = (size - 1) // 2
  if isinstance(padding, int):
    padding = ((padding, padding),) * 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0):
  """Maximum over size x size windows."""
  return nn.max_pool(
    x, (size, size), (stride, stride), ((padding, padding),) * 2
  )


class Head(nn.Module):
  """Linear classifier in float32: [B, F] -> logits float32 [B, K].

  Optimizers know it by its name, "head".
  """

  num_classes: int
  use_bias: bool = True
  scale: float = 1.0
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Dense(
      self.num_classes,
      use_bias=self.use_bias,
      kernel_init=self.kernel_init,
      name="dense",
    )(x.astype(jnp.float32))
    return x * self.scale
