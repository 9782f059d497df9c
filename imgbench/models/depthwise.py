"""Convolutions of each channel on its own.

XLA:CPU has no good kernel for them (26 times slower than what stands here, and
270 times for the gradient of a strided one), so that on the CPU they are sums
over the positions of the kernel; elsewhere they are grouped convolutions.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

# The variance of what comes out is that of what comes in, times two for a ReLU
# behind it: each output sums k * k inputs of one channel.
_kernel_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DepthwiseConv(nn.Module):
  """Convolves each channel with a k x k kernel of its own, k odd.

  Padded symmetrically by (k - 1) / 2, as in torchvision; the kernel is
  [k, k, 1, C], as Flax has it.
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
  """[B, H, W, C] convolved with [k, k, 1, C], padded by (k - 1) / 2."""
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
  """A sum over the positions of the kernel, which becomes one loop."""
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
    # Of an odd kernel the gradient is the convolution with it turned around.
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
  """[size][size] parts of padded x, float32, each of the output's shape."""
  padding = (size - 1) // 2
  x = jnp.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
  x = x.astype(jnp.float32)
  rows, cols = (stride * ((n - size) // stride) + 1 for n in x.shape[1:3])
  return [
    [x[:, i : i + rows : stride, j : j + cols : stride] for j in range(size)]
    for i in range(size)
  ]


def _sums_of_products(parts, grad):
  """[k] arrays and one, all [B, H, W, C] -> [k, C].

  One reduction of all parts over the columns first: their products need not be
  written down (8 to 25 times faster than a sum for each part).
  """
  grad = grad.astype(jnp.float32)
  sums = jax.lax.reduce(
    tuple(part * grad for part in parts),
    (jnp.float32(0),) * len(parts),
    lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)),
    (2,),
  )
  return jnp.stack([part.sum(axis=(0, 1)) for part in sums])
