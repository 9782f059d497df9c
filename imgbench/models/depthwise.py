"""Depthwise convolutions.

XLA:CPU has no good kernel for them (26 times slower than this module, 270 times
for a strided gradient), so on the CPU they are sums over kernel positions;
elsewhere they are grouped convolutions.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

# Keeps the variance through a ReLU: each output sums k * k inputs.
_kernel_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DepthwiseConv(nn.Module):
  """Convolves each channel with its k x k kernel, k odd.

  Pads symmetrically by (k - 1) / 2, as torchvision; the kernel is [k, k, 1, C],
  as in Flax.
  """

  size: int = 3
  stride: int = 1
  use_bias: bool = False
  dtype: Any = jnp.float32
  kernel_init: Callable = _kernel_init

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    shape = (self.size, self.size, 1, channels)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    y = convolve(x, kernel.astype(self.dtype), self.stride)
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
      y += bias.astype(self.dtype)[None, None, None]
    return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """Convolves [B, H, W, C] with [k, k, 1, C], padded by (k - 1) / 2."""
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_shifted, stride=stride),
    default=functools.partial(_grouped, stride=stride),
  )


def _forward(x, kernel, stride):
  return convolve(x, kernel, stride), (x, kernel)


def _backward(stride, saved, grad):
  return jax.lax.platform_dependent(
    *saved,
    grad,
    cpu=functools.partial(_shifted_gradients, stride=stride),
    default=functools.partial(_grouped_gradients, stride=stride),
  )


convolve.defvjp(_forward, _backward)


def _grouped(x, kernel, stride):
  padding = (kernel.shape[0] - 1) // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding),) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def _grouped_gradients(x, kernel, grad, stride):
  _, pull = jax.vjp(functools.partial(_grouped, stride=stride), x, kernel)
  return pull(grad)


def _shifted(x, kernel, stride):
  """Sums over kernel positions, which XLA fuses into one loop."""
  factors = kernel.astype(jnp.float32)[:, :, :, None, None]
  rows = _shifts(x, kernel.shape[0], stride)
  parts = [
    part * factors[i, j]
    for i, row in enumerate(rows)
    for j, part in enumerate(row)
  ]
  return sum(parts[1:], parts[0]).astype(x.dtype)


def _shifted_gradients(x, kernel, grad, stride):
  if stride == 1:
    # The gradient is the convolution with the rotated kernel, if k is odd.
    grad_x = _shifted(grad, kernel[::-1, ::-1], 1)
  else:
    _, pull = jax.vjp(lambda x: _shifted(x, kernel, stride), x)
    (grad_x,) = pull(grad)
  grads = [
    _sums_of_products(row, grad) for row in _shifts(x, len(kernel), stride)
  ]
  grad_kernel = jnp.stack(grads)[:, :, None]
  return grad_x, grad_kernel.astype(kernel.dtype)


def _shifts(x, size, stride):
  """Returns [size][size] shifts of padded x, float32, of the output's shape."""
  padding = (size - 1) // 2
  x = jnp.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
  x = x.astype(jnp.float32)
  rows, cols = (stride * ((n - size) // stride) + 1 for n in x.shape[1:3])
  return [
    [x[:, i : i + rows : stride, j : j + cols : stride] for j in range(size)]
    for i in range(size)
  ]


def _sums_of_products(parts, grad):
  """Returns sum(part * grad) for each of k parts [B, H, W, C], as [k, C].

  Reduces all parts over the columns at once, so that products are not stored (8
  to 25 times faster than one sum per part).
  """
  grad = grad.astype(jnp.float32)
  sums = jax.lax.reduce(
    tuple(part * grad for part in parts),
    (jnp.float32(0),) * len(parts),
    lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)),
    (2,),
  )
  return jnp.stack([part.sum(axis=(0, 1)) for part in sums])
