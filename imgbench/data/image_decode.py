"""JPEG and PNG to pixels, always by Pillow.

Two decoders give two sets of pixels for one JPEG, so the decoder is chosen
here and not by what happens to be installed.
"""

from collections.abc import Sequence
import io
import struct
import zlib

import numpy as np
import PIL
from PIL import Image
from PIL import JpegImagePlugin
from PIL import PngImagePlugin
from PIL import features

_MODES = {1: "L", 3: "RGB"}
# Conversions that invent nothing: grey repeated, palette looked up, alpha cut.
_CONVERTIBLE = {"L": ("L",), "RGB": ("RGB", "L", "P", "RGBA")}
_READERS = (
  (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
  (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
)
# What Pillow raises for files that are not whole.
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


class DecodeError(ValueError):
  """The image at `index` of a batch is not what was promised."""

  def __init__(self, index: int, reason: str):
    self.index = index
    super().__init__(reason)


def decoder_version() -> str:
  """Returns what the pixels of a JPEG depend on."""
  turbo = features.version("libjpeg_turbo")
  return f"pillow {PIL.__version__}, libjpeg {features.version('jpg')} {turbo}"


def open_image(data: bytes) -> Image.Image:
  """Returns a JPEG or PNG, whatever it is called. Raises one of UNREADABLE."""
  for magic, reader in _READERS:
    if data.startswith(magic):
      return reader(io.BytesIO(data))
  raise ValueError(f"neither JPEG nor PNG, begins with {data[:8]!r}")


def decode_batch(encoded: Sequence[bytes], out: np.ndarray) -> None:
  """Decodes images of one size into an array.

  Args:
    encoded: B JPEG or PNG files.
    out: uint8 [B, H, W, C] to be filled; C is 1 (grey) or 3 (RGB).

  Raises:
    DecodeError: an image that cannot be read, or is of another shape.
  """
  batch, height, width, channels = out.shape
  mode = _MODES[channels]
  # One array conversion for a tall sheet is cheaper than one for each image.
  sheet = Image.new(mode, (width, height * batch))
  for i, data in enumerate(encoded):
    try:
      image = open_image(data)
      if image.size != (width, height) or image.mode not in _CONVERTIBLE[mode]:
        raise DecodeError(
          i,
          f"expected an image of {height}x{width} ({mode}), got"
          f" {image.size[1]}x{image.size[0]} ({image.mode})",
        )
      if image.mode != mode:
        image = image.convert(mode)
      sheet.paste(image, (0, i * height))
    except DecodeError:
      raise
    except UNREADABLE as error:
      raise DecodeError(i, f"the image cannot be decoded: {error}") from error
  out[...] = np.asarray(sheet).reshape(out.shape)


def decode(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
  """Returns one image as uint8 [H, W, C]. Raises DecodeError."""
  out = np.empty((1, *shape), np.uint8)
  decode_batch([data], out)
  return out[0]
