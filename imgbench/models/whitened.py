"""A fast convolutional network with a frozen whitening stem.

In the style of airbench (K. Jordan, "94% on CIFAR-10 in 3.29 seconds on a
single GPU", arXiv:2404.00498): a frozen first layer decorrelates small patches
of the training images; few wide 3x3 layers, BatchNorm without scales, GELU, and
scaled-down logits.
"""

from collections.abc import Sequence
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors
from imgbench.models import base
from imgbench.models import folding
from imgbench.models import layers

STEM = "whitening"


class WhitenedConvNet(base.Classifier):
  """Whitening stem, then stages of conv, max-pool and convs.

  The stem has a positive and a negative copy of each whitening filter, so that
  the activation loses no information. Call `prepare` before training.

  Attributes:
    statistics: see `layers.BatchNorm`.
    widths: channels of each stage; each stage halves the resolution.
    depth: 3x3 convolutions in a stage.
    stem_size: side of the whitened patches.
    stem_stride: of the stem.
    stem_filters: number of whitening directions to keep, by descending
      variance; 0 keeps all stem_size * stem_size * C.
    stem_bias: whether a trained bias follows the frozen kernel.
    activation: see `layers.activation`.
    logit_scale: factor on the logits.
    norm_momentum: share of the old running statistics kept at each step.
  """

  statistics: layers.BatchStatistics = layers.WHOLE_BATCH
  widths: Sequence[int] = (48, 96)
  depth: int = 2
  stem_size: int = 4
  stem_stride: int = 2
  stem_filters: int = 0
  stem_bias: bool = False
  activation: str = "gelu"
  logit_scale: float = 1 / 9
  norm_momentum: float = 0.6

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    base.check_positive(widths=self.widths, depth=self.depth)
    layers.activation(self.activation)
    size, channels, filters = self.stem_size, image_shape[-1], self.stem_filters
    most = size * size * channels
    expected = f"0 to {most} for patches of {size}x{size}x{channels}"
    errors.check(0 <= filters <= most, "stem_filters", expected, filters)
    smallest = size - 1 + self.stem_stride * 2 ** len(self.widths)
    base.check_image_size(image_shape, smallest)

  @nn.nowrap
  def prepare(
    self, variables: base.Variables, images: jax.Array
  ) -> base.Variables:
    """See `base.Model`."""
    filters = self._num_filters(images.shape[-1])
    kernel = whitening_kernel(images, self.stem_size, filters)
    return {**variables, "frozen": {STEM: kernel}}

  @nn.nowrap
  def fold(self, variables: base.Variables) -> base.Variables:
    """See `base.Model`.

    Norms have no scale, so the factor is positive and commutes with the
    max-pool between the first convolution of a stage and its norm.
    """
    return folding.fold(variables)

  @nn.nowrap
  def _num_filters(self, channels: int) -> int:
    return self.stem_filters or self.stem_size**2 * channels

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    act = layers.activation(self.activation)
    conv = functools.partial(
      layers.Conv, dtype=self.dtype, kernel_init=_partial_identity
    )
    norm = functools.partial(
      layers.BatchNorm,
      use_running_average=not train,
      statistics=self.statistics,
      momentum=self.norm_momentum,
      use_scale=False,
      dtype=self.dtype,
    )
    x = act(self._stem(x))
    for stage, width in enumerate(self.widths, 1):
      for layer in range(1, self.depth + 1):
        x = conv(width, name=f"stage{stage}_conv{layer}")(x)
        if layer == 1:
          x = layers.halve(x)
        x = act(norm(name=f"stage{stage}_norm{layer}")(x))
    x = jnp.max(x, axis=(1, 2))
    return layers.Head(
      self.num_classes, use_bias=False, scale=self.logit_scale, name="head"
    )(x)

  def _stem(self, x: jax.Array) -> jax.Array:
    size, channels = self.stem_size, x.shape[-1]
    shape = (size, size, channels, 2 * self._num_filters(channels))
    kernel = self.variable(
      "frozen",
      STEM,
      lambda: layers.kaiming_normal(self.make_rng("params"), shape),
    ).value
    x = layers.convolve(
      x, kernel.astype(self.dtype), self.stem_stride, padding=0
    )
    if self.stem_bias:
      bias = self.param("stem_bias", nn.initializers.zeros, shape[-1:])
      x = x + bias.astype(self.dtype)[None, None, None]
    return x


def _partial_identity(key: jax.Array, shape: tuple[int, ...], dtype):
  """Initializes the first filters to pass the input channels on (Dirac)."""
  kernel = layers.kaiming_normal(key, shape, dtype)
  size, _, inputs, outputs = shape
  passed = min(inputs, outputs)
  dirac = jnp.zeros(shape[:3] + (passed,), dtype)
  dirac = dirac.at[size // 2, size // 2, :passed].set(jnp.eye(passed))
  return kernel.at[..., :passed].set(dirac)


def whitening_kernel(
  images: jax.Array, size: int, num_filters: int, eps: float = 5e-4
) -> jax.Array:
  """Returns filters that whiten the patches of images, and their negatives.

  Args:
    images: float [N, H, W, C], normalised.
    size: side k of the patches.
    num_filters: D, at most k * k * C; directions of largest variance.
    eps: added to the variances, so that directions of smaller variance are not
      amplified to 1.

  Returns:
    float32 [k, k, C, 2 D]; the outputs of the first D filters, by descending
    variance, have a covariance near the identity.
  """
  patches = functools.partial(_patches, size=size)
  mean = jnp.mean(
    jax.lax.map(lambda x: patches(x).mean(axis=0), images, batch_size=64),
    axis=0,
  )

  def scatter(image):
    centred = patches(image) - mean[None]
    return centred.T @ centred / centred.shape[0]

  covariance = jax.lax.map(scatter, images, batch_size=64).mean(axis=0)
  variances, directions = jnp.linalg.eigh(covariance)
  filters = directions / jnp.sqrt(jnp.maximum(variances, 0.0) + eps)[None]
  filters = filters[:, ::-1][:, :num_filters]
  filters = filters.reshape(size, size, images.shape[-1], num_filters)
  return jnp.concatenate([filters, -filters], axis=-1)


def _patches(image: jax.Array, size: int) -> jax.Array:
  """Returns all patches of [H, W, C] as float32 [P, size * size * C]."""
  image = image.astype(jnp.float32)
  rows, cols = (length - size + 1 for length in image.shape[:2])
  shifted = [
    image[i : i + rows, j : j + cols] for i in range(size) for j in range(size)
  ]
  return jnp.concatenate(shifted, axis=-1).reshape(rows * cols, -1)


build_whitened = base.builder(WhitenedConvNet)
