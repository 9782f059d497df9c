"""A small convolutional network for images of 32 to 64 pixels."""

from collections.abc import Sequence
import functools

from flax import linen as nn
import jax

from imgbench.models import base
from imgbench.models import folding
from imgbench.models import layers


class SmallCnn(base.Classifier):
  """A strided stem, then stages of convolution, BatchNorm and max-pool.

  The stem halves the resolution, so that the model trains on a CPU. Each stage
  has two 3x3 convolutions; max-pools separate the stages.

  Attributes:
    statistics: see `layers.BatchNorm`.
    widths: channels of each stage; between stages the resolution is halved.
    stem_size: side of the stem's kernel, odd.
    stem_stride: of the stem.
  """

  statistics: layers.BatchStatistics = layers.WHOLE_BATCH
  widths: Sequence[int] = (24, 48, 96)
  stem_size: int = 5
  stem_stride: int = 2

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    base.check_positive(widths=self.widths)
    smallest = self.stem_stride * 2 ** (len(self.widths) - 1)
    base.check_image_size(image_shape, smallest)

  @nn.nowrap
  def fold(self, variables: base.Variables) -> base.Variables:
    """See `base.Model`."""
    return folding.fold(variables, {"stem_norm": "stem"})

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    conv = functools.partial(layers.Conv, dtype=self.dtype)
    norm = functools.partial(
      layers.BatchNorm,
      use_running_average=not train,
      statistics=self.statistics,
      momentum=0.9,
      dtype=self.dtype,
    )
    x = conv(
      self.widths[0],
      size=self.stem_size,
      stride=self.stem_stride,
      name="stem",
    )(x)
    x = nn.relu(norm(name="stem_norm")(x))
    for stage, width in enumerate(self.widths, 1):
      if stage > 1:
        x = layers.halve(x)
      for layer in (1, 2):
        x = conv(width, name=f"stage{stage}_conv{layer}")(x)
        x = nn.relu(norm(name=f"stage{stage}_norm{layer}")(x))
    return layers.Head(self.num_classes, name="head")(layers.global_mean(x))


build_cnn = base.builder(SmallCnn)
