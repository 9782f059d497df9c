"""Images and encoded files shared by tests of decoding."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
  """Returns uint8 [height, width, 3] with the spectrum of a photo, 1 / f."""
  rng = np.random.default_rng(seed)
  y = np.fft.fftfreq(height)[:, None]
  x = np.fft.rfftfreq(width)[None]
  frequency = np.hypot(y, x)
  frequency[0, 0] = np.inf
  shape = (4, height, width // 2 + 1)
  noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
  waves = np.fft.irfft2(noise / frequency, (height, width))
  waves /= waves.std((1, 2), keepdims=True)
  levels = 120 + 45 * waves[0] + 20 * waves[1:]
  return np.clip(levels, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


def gradient(height: int, width: int) -> np.ndarray:
  """Returns uint8 [height, width, 3] that changes slowly everywhere."""
  y, x = np.mgrid[:height, :width]
  levels = np.stack([y / height, x / width, (y + x) / (height + width)], -1)
  return (20 + 210 * levels).astype(np.uint8)


def encode(image, kind: str = "JPEG", **options) -> bytes:
  """Returns an array or Pillow image as a file."""
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  if kind == "JPEG":
    options = {"quality": 92} | options
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def png_of_16_bits(levels: np.ndarray) -> bytes:
  """Returns a PNG of uint16 [H, W, 3]; Pillow cannot write one."""
  height, width, _ = levels.shape
  rows = levels.astype(">u2").reshape(height, -1)
  raw = b"".join(b"\0" + row.tobytes() for row in rows)

  def chunk(name: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check

  header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunk(b"IDAT", zlib.compress(raw))
    + chunk(b"IEND", b"")
  )


def resized(image, box, size: int, method: str) -> np.ndarray:
  """Returns int [size, size, 3] as Pillow resizes it, one axis at a time."""
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  top, left, height, width = box
  kernel = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[method]
  narrow = image.resize(
    (size, image.height), kernel, box=(left, 0, left + width, image.height)
  )
  result = narrow.resize((size, size), kernel, box=(0, top, size, top + height))
  return np.asarray(result).astype(int)


def far_apart(a, b) -> tuple[int, float]:
  """Returns the largest and the mean difference of two images."""
  difference = np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int))
  return int(difference.max()), float(difference.mean())
