"""Layers that several models share; NHWC, parameters in float32.

Flax names the operations of a module, so profiles show blocks and layers;
operations outside of modules have a `jax.named_scope`.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import math
import re
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors

# Fan-out, as in He et al. 2015 and torchvision's ResNets.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
  """Returns GELU in its tanh form; the gradient keeps only its input.

  The exact form needs an erf, which is slower than tanh everywhere.

  Source: Hendrycks and Gimpel 2016 (arXiv:1606.08415).
  """
  return nn.gelu(x, approximate=True)


def _gelu_forward(x):
  return gelu(x), x


def _gelu_backward(x, grad):
  # Without the barrier XLA keeps the tanh for the backward pass, which on GPUs
  # costs more memory traffic than recomputing it.
  x = jax.lax.platform_dependent(
    x, cuda=jax.lax.optimization_barrier, default=lambda x: x
  )
  _, pull = jax.vjp(functools.partial(nn.gelu, approximate=True), x)
  return pull(grad)


gelu.defvjp(_gelu_forward, _gelu_backward)

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "relu": nn.relu,
  "gelu": gelu,
  "gelu_exact": functools.partial(nn.gelu, approximate=False),
  "silu": nn.silu,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
  """Returns an activation by name. Raises InputError for an unknown one."""
  if name not in _ACTIVATIONS:
    expected = f"one of {', '.join(sorted(_ACTIVATIONS))}"
    raise errors.InputError("activation", expected, repr(name))
  return _ACTIVATIONS[name]


def global_mean(x: jax.Array) -> jax.Array:
  """Returns the mean over positions: [B, H, W, C] -> float32 [B, C]."""
  with jax.named_scope("pool"):
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def drop_path(x: jax.Array, rate: float, train: bool) -> jax.Array:
  """Drops whole examples of [B, ...] and scales up the others.

  Called in a module; draws with its "dropout" key.

  Source: Huang et al. 2016 (arXiv:1603.09382).
  """
  whole = nn.Dropout(rate, broadcast_dims=tuple(range(1, x.ndim)))
  return whole(x, deterministic=not train)


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
  padding: int | None = None,
) -> jax.Array:
  """Convolves [B, H, W, C] with [k, k, C, F], padded by (k - 1) // 2."""
  size = kernel.shape[0]
  if padding is None:
    padding = (size - 1) // 2
  if size == 1 and not padding:
    return x[:, ::stride, ::stride] @ kernel[0, 0]
  return _convolve(x, kernel, stride, padding)


def _form(x, kernel, padding) -> Callable:
  """Chooses a matrix product if kernels mostly cover padding."""
  size, (height, width) = kernel.shape[0], x.shape[1:3]
  meets = min(height, width) + 2 * padding >= size >= padding
  small = meets and 0 < 2 * height * width <= size * size
  return _convolve_small if small else _plain_convolve


def _convolve_small(x, kernel, stride, padding):
  """Convolves by one matrix product from all inputs to all outputs.

  Used in the last stages of ResNets on 32 pixels: ResNet-18 trains 2.7 times as
  fast on a CPU.
  """
  size, (height, width) = kernel.shape[0], x.shape[1:3]
  rows = range(-padding, height + padding - size + 1, stride)
  cols = range(-padding, width + padding - size + 1, stride)
  edges = ((height, height), (width, width), (0, 0), (0, 0))
  wide = jnp.pad(kernel, edges)
  weights = [
    wide[height - row : 2 * height - row, width - col : 2 * width - col]
    for row in rows
    for col in cols
  ]
  inputs = math.prod(x.shape[1:])
  weights = jnp.stack(weights, axis=3).reshape(inputs, -1)
  y = x.reshape(x.shape[0], inputs) @ weights
  return y.reshape(x.shape[0], len(rows), len(cols), kernel.shape[-1])


def _plain_convolve(x, kernel, stride, padding):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding),) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, stride, padding):
  form = _form(x, kernel, padding)
  return form(x, kernel, stride, padding)


def _convolve_forward(x, kernel, stride, padding):
  return _convolve(x, kernel, stride, padding), (x, kernel)


def _convolve_backward(stride, padding, saved, grad):
  x, kernel = saved
  form = _form(x, kernel, padding)
  _, pull_x = jax.vjp(lambda x: form(x, kernel, stride, padding), x)

  def plain(x, grad):
    convolve = lambda k: form(x, k, stride, padding)
    return jax.linear_transpose(convolve, kernel)(grad)[0]

  def in_parts(x, grad):
    parts = _num_parts(grad.shape)
    split = lambda a: a.reshape(a.shape[0] // parts, parts, *a.shape[1:])
    x, grad = split(x), split(grad)
    part = lambda i: plain(x[:, i], grad[:, i]).astype(jnp.float32)
    return sum(part(i) for i in range(parts)).astype(kernel.dtype)

  if form is _convolve_small:
    # Otherwise devices would all-reduce the gradient of the larger matrix.
    grad_kernel = _summed_over_devices(plain)(x, grad)
  else:
    grad_kernel = jax.lax.platform_dependent(
      x, grad, cpu=_summed_over_devices(in_parts), default=plain
    )
  return pull_x(grad)[0], grad_kernel


_convolve.defvjp(_convolve_forward, _convolve_backward)
# Name of `_convolve` in a jaxpr; `flops` recognizes both of its forms by it.
CONVOLUTION = "_convolve"

# XLA:CPU computes a kernel's gradient over all positions of a batch in one
# matrix product that overflows its caches; summing over parts of about this
# many positions is up to six times faster.
POSITIONS_PER_PART = 4096


def _num_parts(shape: tuple[int, ...]) -> int:
  """Returns the number of parts, a divisor of B, nearest to the ideal."""
  batch, height, width, _ = shape
  wanted = max(1.0, batch * height * width / POSITIONS_PER_PART)
  divisors = [n for n in range(1, batch + 1) if batch % n == 0]
  return min(divisors, key=lambda n: abs(math.log(n / wanted)))


def _summed_over_devices(function):
  """Wraps a sum over rows of [B, ...] so that devices sum their rows first.

  The compiler would move rows between devices to form the parts. If the context
  has a mesh (`parallel.strategies`), arrays are global and sharded by rows;
  otherwise a device sees its own rows only.
  """
  mesh = jax.sharding.get_abstract_mesh()
  axes = mesh.axis_names
  if mesh.size == 1 or not mesh.are_all_axes_auto:
    return function
  return jax.shard_map(
    lambda *own: jax.lax.psum(function(*own), axes),
    in_specs=jax.sharding.PartitionSpec(axes),
    out_specs=jax.sharding.PartitionSpec(),
    check_vma=False,
  )


@dataclasses.dataclass(frozen=True)
class BatchStatistics:
  """Images over which BatchNorm computes mean and variance in training.

  Attributes:
    groups: number of consecutive parts of the batch with separate statistics.
    axis_name: pmap axis over which statistics are averaged; None: none.
    frozen: patterns of names; BatchNorm whose running mean matches one uses and
      keeps its running statistics.
  """

  groups: int = 1
  axis_name: str | None = None
  frozen: tuple[str, ...] = ()

  def is_frozen(self, path: Sequence[str]) -> bool:
    """Returns whether the BatchNorm of a path keeps its statistics."""
    name = "/".join((*path, "mean"))
    return any(re.fullmatch(pattern, name) for pattern in self.frozen)


WHOLE_BATCH = BatchStatistics()
SHIFT = "shift"  # the only parameter of a folded BatchNorm


class BatchNorm(nn.Module):
  """Normalises channels over batch and positions; statistics in float32.

  Parameters and running statistics are those of flax.linen.BatchNorm. The
  variance is the mean square minus the squared mean (one pass over x); running
  statistics average over groups and are biased as in Flax.

  Forward and backward of [4, 28, 28, 512] with a ReLU on one CPU core takes 6.3
  ms, Flax's 12.2 ms. As x * a + b, or with a custom gradient, it takes 3.6 ms,
  but that is 2% of a ResNet-50 step and changes the numbers.

  In inference a norm folded into the convolution before it (`folding`) only
  adds its shift.

  Source: Ioffe and Szegedy 2015.
  """

  use_running_average: bool
  statistics: BatchStatistics = WHOLE_BATCH
  momentum: float = 0.9
  epsilon: float = 1e-5
  use_scale: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.use_running_average and self.has_variable("params", SHIFT):
      shift: jax.Array = self.get_variable("params", SHIFT)
      return x + shift.astype(self.dtype)[None, None, None]
    shape = (x.shape[-1],)
    zeros, ones = (lambda: jnp.zeros(shape)), (lambda: jnp.ones(shape))
    running_mean = self.variable("batch_stats", "mean", zeros)
    running_var = self.variable("batch_stats", "var", ones)
    if self.use_running_average or self.statistics.is_frozen(self.path):
      mean, var = running_mean.value, running_var.value
    else:
      mean, var = self._statistics(x)
      if not self.is_initializing():
        for running, new in ((running_mean, mean), (running_var, var)):
          new = new.reshape(-1, shape[0]).mean(axis=0)
          running.value = (
            self.momentum * running.value + (1 - self.momentum) * new
          )
    grouped = x.reshape(*mean.shape[:-1], -1, *x.shape[1:])

    def wide(a):
      return a.reshape(*a.shape[:-1], *(1,) * (grouped.ndim - a.ndim), *shape)

    factor = wide(jax.lax.rsqrt(var + self.epsilon))
    if self.use_scale:
      factor *= wide(self.param("scale", nn.initializers.ones, shape))
    bias = self.param("bias", nn.initializers.zeros, shape)
    y = (grouped - wide(mean)) * factor + wide(bias)
    return y.reshape(x.shape).astype(self.dtype)

  def _statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance, float32 [C], or [groups, C] if several."""
    groups, axis_name = self.statistics.groups, self.statistics.axis_name
    x = x.astype(jnp.float32)
    if groups > 1:
      x = x.reshape(groups, -1, *x.shape[1:])
    axes = tuple(range(groups > 1, x.ndim - 1))
    mean, square = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
    if axis_name is not None:
      mean, square = jax.lax.pmean((mean, square), axis_name)
    return mean, jnp.maximum(square - jnp.square(mean), 0.0)


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0):
  """Returns the maximum over size x size windows.

  Of equal elements the first in row-major order gets the gradient. A window
  with NaN has the maximum NaN. The gradient of such a window, and of one of
  only -inf, may go to another element than in nn.max_pool, or to none.

  XLA's own gradient recomputes the windows with four index arrays and scatters,
  on GPUs with atomics or, for deterministic ops, after a sort of all elements.
  On a CPU this version takes less than a third of the time.
  """
  with jax.named_scope("pool"):
    return _max_pool(x, size, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, size, stride, padding):
  return nn.max_pool(
    x, (size, size), (stride, stride), ((padding, padding),) * 2
  )


def _max_pool_forward(x, size, stride, padding):
  y, place = _max_and_place(x, size, stride, padding)
  return y, (x, place)


def _max_pool_backward(size, stride, padding, saved, grad):
  x, place = saved  # only the shape of x is used
  return (_gather_gradient(place, grad, x.shape, size, stride, padding),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _max_and_place(x, size, stride, padding):
  """Returns maxima and their row-major position in the window, uint8."""
  edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
  x = jnp.pad(x, edges, constant_values=-jnp.inf)
  rows, cols = ((n - size) // stride * stride + 1 for n in x.shape[1:3])
  best, place = x[:, :rows:stride, :cols:stride], jnp.uint8(0)
  for position in range(1, size * size):
    i, j = divmod(position, size)
    part = x[:, i : i + rows : stride, j : j + cols : stride]
    place = jnp.where(part > best, jnp.uint8(position), place)
    best = jnp.maximum(best, part)
  return best, place


def _gather_gradient(place, grad, shape, size, stride, padding):
  """Returns the gradient of the input, a sum over each element's windows."""
  wide = grad.astype(jnp.float32)
  total = jnp.zeros(shape, jnp.float32)
  # From the last position to the first, so that windows add up in order.
  for position in reversed(range(size * size)):
    pads = [(0, 0, 0)]
    for start, n, count in zip(
      divmod(position, size), shape[1:3], grad.shape[1:3], strict=True
    ):
      low = start - padding
      pads.append((low, n - low - stride * (count - 1) - 1, stride - 1))
    taken = jnp.where(place == position, wide, 0.0)
    total += jax.lax.pad(taken, jnp.float32(0), [*pads, (0, 0, 0)])
  return total.astype(grad.dtype)


@jax.named_scope("pool")
def halve(x: jax.Array) -> jax.Array:
  """Returns the maximum over 2x2 tiles; drops an odd last row or column.

  Three maxima: on XLA:CPU the gradient of a windowed maximum takes ten times
  longer.
  """
  batch, height, width, channels = x.shape
  rows, cols = height // 2, width // 2
  x = x[:, : 2 * rows, : 2 * cols]
  x = x.reshape(batch, rows, 2, cols, 2, channels)
  upper = jnp.maximum(x[:, :, 0, :, 0], x[:, :, 0, :, 1])
  lower = jnp.maximum(x[:, :, 1, :, 0], x[:, :, 1, :, 1])
  return jnp.maximum(upper, lower)


class Head(nn.Module):
  """Linear classifier in float32: [B, F] -> logits float32 [B, K].

  `scale` multiplies the logits without the bias. Optimizers identify the module
  by its name, "head".
  """

  num_classes: int
  use_bias: bool = True
  scale: float = 1.0
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    # Scale before the product: the compiler may recompute scaled logits for
    # each use and round them differently. Then a label's score would not equal
    # the logit at its index, and its rank would be wrong.
    return nn.Dense(
      self.num_classes,
      use_bias=self.use_bias,
      kernel_init=self.kernel_init,
      name="dense",
    )(x.astype(jnp.float32) * self.scale)
