"""A convolutional autoencoder, which reconstructs its images."""

from collections.abc import Sequence
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors
from imgbench.models import base
from imgbench.models import layers


class ConvAutoencoder(base.Classifier):
  """Halves the resolution at each stage, and doubles it again.

  The output is the sigmoid of the last convolution: pixels in [0, 1]. Classes
  are not used.

  Attributes:
    statistics: see `layers.BatchNorm`.
    widths: channels of each stage of the encoder; the decoder's are reversed.
    code: channels of the code, at the lowest resolution.
    noise: standard deviation of the noise that is added to the normalized
      images in training; the clean images stay the target (Vincent et al.
      2008). 0: not a denoising autoencoder.
  """

  statistics: layers.BatchStatistics = layers.WHOLE_BATCH
  widths: Sequence[int] = (32, 64, 128)
  code: int = 32
  noise: float = 0.0
  reconstructs = True

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    base.check_positive(widths=self.widths, code=self.code)
    errors.check(self.noise >= 0, "noise", "at least 0", self.noise)
    factor, sides = 2 ** len(self.widths), image_shape[:2]
    expected = f"images whose sides are multiples of {factor}"
    fits = not any(side % factor for side in sides)
    errors.check(fits, "widths", expected, list(sides))

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    conv = functools.partial(layers.Conv, dtype=self.dtype)

    def activate(x: jax.Array, name: str) -> jax.Array:
      norm = layers.BatchNorm(
        use_running_average=not train,
        statistics=self.statistics,
        dtype=self.dtype,
        name=name,
      )
      return nn.relu(norm(x))

    channels = x.shape[-1]
    if train and self.noise:
      drawn = jax.random.normal(self.make_rng("dropout"), x.shape, x.dtype)
      x += self.noise * drawn
    for stage, width in enumerate(self.widths, 1):
      x = conv(width, stride=2, name=f"down{stage}")(x)
      x = activate(x, f"down{stage}_norm")
    x = conv(self.code, size=1, name="code")(x)
    # Each stage has the width of the encoder at its resolution.
    widths = (channels, *self.widths)
    for stage in reversed(range(1, len(widths))):
      x = conv(widths[stage], name=f"up{stage}")(x)
      x = activate(x, f"up{stage}_norm")
      x = conv(4 * widths[stage - 1], name=f"up{stage}_double")(x)
      x = double(x)
      if stage > 1:
        x = activate(x, f"up{stage}_double_norm")
    return nn.sigmoid(x.astype(jnp.float32))


@jax.named_scope("double")
def double(x: jax.Array) -> jax.Array:
  """Returns [B, H, W, 4 C] as [B, 2 H, 2 W, C].

  Source: Shi et al. 2016 (arXiv:1609.05158), the sub-pixel convolution.
  """
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height, width, 2, 2, channels // 4)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, 2 * height, 2 * width, channels // 4)


build_autoencoder = base.builder(ConvAutoencoder)
