"""Decodes JPEG and PNG, always with Pillow.

Two decoders give different pixels for one JPEG, so the choice must not depend
on what happens to be installed.
"""

from collections.abc import Sequence
import io
import re
import struct
import zlib

import numpy as np
import PIL
from PIL import Image
from PIL import JpegImagePlugin
from PIL import PngImagePlugin
from PIL import features

_MODES = {1: "L", 3: "RGB"}
# Lossless conversions: grey repeated, palette looked up, alpha dropped.
_CONVERTIBLE = {"L": ("L",), "RGB": ("RGB", "L", "P", "RGBA")}
_READERS = (
  (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
  (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
)
# Kinds of images by what they begin with.
_KINDS = {
  "JPEG": rb"\xff\xd8\xff",
  "PNG": rb"\x89PNG\r\n\x1a\n",
  "GIF": rb"GIF8[79]a",
  "BMP": rb"BM.{4}\0{4}",
  "TIFF": rb"II\*\0|MM\0\*",
  "WebP": rb"RIFF.{4}WEBP",
  "AVIF or HEIC": rb".{4}ftyp(avi|hei|mif)",
}
# What Pillow raises for damaged files.
UNREADABLE = (
  OSError,
  SyntaxError,  # Pillow's word for a broken header
  ValueError,
  TypeError,
  IndexError,
  EOFError,
  struct.error,
  zlib.error,
)


class BatchDecodeError(ValueError):
  """The image at `index` of a batch is damaged or has another shape."""

  def __init__(self, index: int, reason: str):
    self.index = index
    super().__init__(reason)


def decoder_version() -> str:
  """Returns the versions that the pixels of a JPEG depend on."""
  turbo = features.version("libjpeg_turbo")
  return f"pillow {PIL.__version__}, libjpeg {features.version('jpg')} {turbo}"


def open_image(data: bytes) -> Image.Image:
  """Returns a JPEG or PNG, known by its bytes. Raises one of UNREADABLE."""
  for magic, reader in _READERS:
    if data.startswith(magic):
      return reader(io.BytesIO(data))
  kind = find_kind(data)
  given = f"a {kind} image" if kind else f"a file that begins {data[:8]!r}"
  raise ValueError(f"expected a JPEG or PNG image, got {given}")


def find_kind(data: bytes) -> str | None:
  """Returns the kind of an image by its first 16 bytes; None: no image."""
  for kind, pattern in _KINDS.items():
    if re.match(pattern, data, re.DOTALL):
      return kind
  return None


def decode_batch(encoded: Sequence[bytes], out: np.ndarray) -> None:
  """Decodes images of one size into an array.

  Args:
    encoded: B JPEG or PNG files.
    out: uint8 [B, H, W, C] to be filled; C is 1 (grey) or 3 (RGB).

  Raises:
    BatchDecodeError: an image is damaged or has another shape.
  """
  batch, height, width, channels = out.shape
  mode = _MODES[channels]
  # Converting one tall sheet to an array is cheaper than each image.
  sheet = Image.new(mode, (width, height * batch))
  for i, data in enumerate(encoded):
    try:
      image = open_image(data)
      if image.size != (width, height) or image.mode not in _CONVERTIBLE[mode]:
        raise BatchDecodeError(
          i,
          f"expected an image of {height}x{width} ({mode}), got"
          f" {image.size[1]}x{image.size[0]} ({image.mode})",
        )
      if image.mode != mode:
        image = image.convert(mode)
      sheet.paste(image, (0, i * height))
    except BatchDecodeError:
      raise
    except UNREADABLE as error:
      raise BatchDecodeError(
        i, f"the image cannot be decoded: {error}"
      ) from error
  out[...] = np.asarray(sheet).reshape(out.shape)


def decode(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
  """Returns one image as uint8 [H, W, C]. Raises BatchDecodeError."""
  out = np.empty((1, *shape), np.uint8)
  decode_batch([data], out)
  return out[0]
