"""Transforms from an encoded image to a slot of a batch.

`transform(decoder, data, out, rng)` fills the slot `out` and draws from `rng`
alone, so a generator of (seed, epoch, index) gives the same image in any
process. Flips and normalisation are part of the compiled step.
"""

import dataclasses
import math

import numpy as np

from imgbench import errors
from imgbench.data import randaugment
from imgbench.data import resample

_ATTEMPTS = 10


def _check(size: int, method: str) -> None:
  if size < 1:
    raise errors.InputError("size", "at least 1", size)
  if method not in resample.METHODS:
    raise errors.InputError(
      "method", f"one of {', '.join(resample.METHODS)}", repr(method)
    )


@dataclasses.dataclass(frozen=True)
class InceptionCrop:
  """A random part of the image, stretched to a square.

  Up to ten times an area (uniform) and a ratio of width to height (uniform in
  its logarithm) are drawn, until the box fits; its place is uniform. If none
  fits, it takes the largest centred box with an allowed ratio.

  Attributes:
    size: S, pixels of the result.
    area: (least, most) share of the image.
    ratio: (least, most) width / height.
    method: "bilinear" or "bicubic".

  Source: Szegedy et al. 2015, section 6, as torchvision and timm draw it. TF's
  `sample_distorted_bounding_box` draws the ratio itself uniformly and falls
  back on the whole image.
  """

  size: int
  area: tuple[float, float] = (0.08, 1.0)
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  method: str = "bilinear"

  def __post_init__(self):
    _check(self.size, self.method)
    if not 0 < self.area[0] <= self.area[1] <= 1:
      raise errors.InputError("area", "0 < least <= most <= 1", self.area)
    if not 0 < self.ratio[0] <= self.ratio[1]:
      raise errors.InputError("ratio", "0 < least <= most", self.ratio)

  def box(
    self, height: int, width: int, rng: np.random.Generator
  ) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a crop, in whole pixels."""
    low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
    for _ in range(_ATTEMPTS):
      area = height * width * rng.uniform(*self.area)
      ratio = math.exp(rng.uniform(low, high))
      columns = round(math.sqrt(area * ratio))
      rows = round(math.sqrt(area / ratio))
      if 0 < columns <= width and 0 < rows <= height:
        top = int(rng.integers(height - rows + 1))
        left = int(rng.integers(width - columns + 1))
        return top, left, rows, columns
    return self._fallback(height, width)

  def _fallback(self, height: int, width: int) -> tuple[int, int, int, int]:
    rows, columns = height, width
    if width / height < self.ratio[0]:
      rows = min(height, round(width / self.ratio[0]))
    elif width / height > self.ratio[1]:
      columns = min(width, round(height * self.ratio[1]))
    rows, columns = max(rows, 1), max(columns, 1)
    return (height - rows) // 2, (width - columns) // 2, rows, columns

  def __call__(self, decoder, data, out, rng) -> None:
    """Fills `out` with a random crop."""
    decoder.crop_resize(
      data, out, lambda h, w: self.box(h, w, rng), self.method
    )


@dataclasses.dataclass(frozen=True)
class CentreCrop:
  """The centre of the image, for evaluation: a resize and a crop in one step.

  The short side becomes floor(size / crop_fraction) pixels, the long side is
  rounded down, and the crop starts at half of the remainder, rounded to even:
  the rules of torchvision (256, then 224) and timm.

  Attributes:
    size: S, pixels of the result.
    crop_fraction: share of the resized short side that is kept.
    method: "bilinear" or "bicubic".
  """

  size: int
  crop_fraction: float = 0.875
  method: str = "bicubic"

  def __post_init__(self):
    _check(self.size, self.method)
    if not 0 < self.crop_fraction <= 1:
      raise errors.InputError(
        "crop_fraction", "a share in (0, 1]", self.crop_fraction
      )

  def box(self, height: int, width: int) -> tuple[float, float, float, float]:
    """Returns (top, left, height, width) of the crop, in source pixels."""
    short = math.floor(self.size / self.crop_fraction)
    long = int(short * max(height, width) / min(height, width))
    rows, columns = (short, long) if height <= width else (long, short)
    top = round((rows - self.size) / 2)
    left = round((columns - self.size) / 2)
    # They differ because the long side was rounded.
    y, x = height / rows, width / columns
    return top * y, left * x, self.size * y, self.size * x

  def __call__(self, decoder, data, out, rng=None) -> None:
    """Fills `out` with the centre crop; `rng` is not used."""
    del rng
    decoder.crop_resize(data, out, self.box, self.method)


@dataclasses.dataclass(frozen=True)
class Augmented:
  """A crop followed by RandAugment."""

  crop: InceptionCrop | CentreCrop
  augment: randaugment.RandAugment

  @property
  def size(self) -> int:
    return self.crop.size

  def __call__(self, decoder, data, out, rng) -> None:
    """Fills `out` with the augmented crop."""
    self.crop(decoder, data, out, rng)
    self.augment(out, rng)
