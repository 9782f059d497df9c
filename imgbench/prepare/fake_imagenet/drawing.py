"""Draws pictures with the spectrum of photographs and a structure per class.

Photographs have amplitudes that fall as 1/f (Field 1987), which determines the
cost of JPEG decoding. A picture here is a mixture of two hues along a sharp
edge, stripes, and 1/f noise over all of it. The three digits of the class index
select the hues and the stripes, so classes with a digit in common look alike
and a model has something to learn.
"""

import colorsys
import functools
import io
import math

import numpy as np
from PIL import Image

_FIELDS = 12
_TEXTURE = 24.0  # grey levels: about 110 KB per picture at 500x375, quality 95
# Most pictures have the requested size; as in ImageNet, some are upright and
# some have another size.
_UPRIGHT = 0.2
_OTHER_SIZE = 0.3


@functools.lru_cache(maxsize=8)
def _make_fields(side: int, power: float) -> np.ndarray:
  """Returns periodic noise with amplitudes of 1/f**power, mean 0 and std 1.

  float32 [n, side, side].
  """
  rng = np.random.default_rng(side)
  shape = (_FIELDS, side, side // 2 + 1)
  frequency = np.hypot(
    np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
  )
  frequency[0, 0] = np.inf
  waves = rng.standard_normal((2, *shape), np.float32)
  waves = (waves[0] + 1j * waves[1]) / (frequency**power).astype(np.float32)
  fields = np.fft.irfft2(waves, s=(side, side)).astype(np.float32)
  return fields / fields.std(axis=(1, 2), keepdims=True)


def _pick_field(rng, height: int, width: int, power: float = 1.0) -> np.ndarray:
  """Returns a random part of a random field, float32 [height, width]."""
  side = 2 ** math.ceil(math.log2(1.4 * max(height, width)))
  top, left = rng.integers(0, (side - height + 1, side - width + 1))
  field = _make_fields(side, power)[rng.integers(_FIELDS)]
  field = field[top : top + height, left : left + width]
  return field[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]


@functools.cache
def _hue(hue: float, value: float) -> np.ndarray:
  colour = colorsys.hsv_to_rgb(hue, 0.6, value)
  return 255 * np.array(colour, np.float32)


def _draw_stripes(rng, digit: int, height: int, width: int) -> np.ndarray:
  """Returns stripes of one of ten widths and slopes, in [-1, 1]."""
  # Flips change the slope, so the digits use only half of the slopes.
  slope = (digit % 5 + 0.5) * np.pi / 10
  cycles = 4 + 1.5 * digit
  y, x = np.ogrid[:height, :width]
  along = (x * np.cos(slope) + y * np.sin(slope)) / max(height, width)
  phase = 2 * np.pi * (cycles * along + rng.random())
  return np.sin(phase).astype(np.float32)


def draw(
  label: int, height: int, width: int, rng: np.random.Generator, strength: float
) -> np.ndarray:
  """Returns a picture of a class, uint8 [height, width, 3].

  Args:
    label: in [0, 1000).
    height, width: in pixels.
    rng: source of everything but the class.
    strength: of the structure that identifies the class, in [0, 1].
  """
  hundreds, tens, units = label // 100, label // 10 % 10, label % 10
  grey = np.float32(127.5)
  first = grey + strength * (_hue(hundreds / 10, 0.95) - grey)
  second = grey + strength * (_hue(tens / 10, 0.6) - grey)
  # The outlines of smoother noise; those of 1/f noise would be dust.
  edge = 20 * _pick_field(rng, height, width, power=2.0) + 5 * rng.normal()
  mixed = (1 / (1 + np.exp(-edge)))[..., None]
  picture = second + mixed * (first - second)
  contrast = _TEXTURE * np.exp(rng.normal(0, 0.25))
  texture = contrast * _pick_field(rng, height, width)
  texture += 28 * strength * _draw_stripes(rng, units, height, width)
  picture += texture[..., None]
  for channel in (0, 2):  # colours vary less than brightness
    picture[..., channel] += contrast / 4 * _pick_field(rng, height, width)
  return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


def _draw_size(rng, width: int, height: int) -> tuple[int, int]:
  chance = rng.random()
  if chance < _UPRIGHT:
    return height, width
  if chance < _UPRIGHT + _OTHER_SIZE:
    scale = np.exp(rng.uniform(-0.35, 0.35, 2))
    return tuple(np.maximum(8, np.rint(scale * (width, height))).astype(int))
  return width, height


def encode_picture(
  label: int,
  size: tuple[int, int],
  seed: tuple[int, ...],
  strength: float = 1.0,
  kind: str = "rgb",
) -> bytes:
  """Returns a picture of a class as the bytes of a file.

  Args:
    label: in [0, 1000).
    size: (width, height) of most pictures, in pixels.
    seed: integers; equal seeds give equal pictures.
    strength: see `draw`.
    kind: "rgb", "grey" or "cmyk" for a JPEG of that kind, or "png".
  """
  rng = np.random.default_rng(seed)
  width, height = _draw_size(rng, *size)
  picture = Image.fromarray(draw(label, height, width, rng, strength))
  file = io.BytesIO()
  if kind == "png":
    picture.save(file, "PNG", compress_level=1)
  else:
    mode = {"rgb": "RGB", "grey": "L", "cmyk": "CMYK"}[kind]
    picture.convert(mode).save(file, "JPEG", quality=95)
  return file.getvalue()
