"""Decodes, crops and resizes one encoded image into a slot of a batch.

`resample` resizes the crop. EXIF orientation is ignored and alpha dropped, as
is usual.

CPU time on 500x375 JPEGs of 115 KB, random crops to 224, one thread: turbo
1.03 ms, simplejpeg 1.23 (1.20 with its fast DCT), OpenCV 1.39, Pillow 2.08.
tf.data's fused crop takes as long as simplejpeg, and 1.8 times that if
antialiased like these. So "auto" is turbo, which is C compiled at installation
(`turbo`), or else simplejpeg. Rows of a baseline JPEG below the crop are not
decoded, which saves a tenth.

`exact` is for evaluation: every decoder gives the pixels of Pillow, up to 2 of
256 levels in a few of them. Otherwise, if the crop is at least twice the target
size, the image is decoded at a half, a quarter or an eighth of its size.
"""

from collections.abc import Callable
from importlib import metadata
import threading
from typing import Protocol

from absl import logging
import numpy as np
import PIL
from PIL import Image

from imgbench import errors
from imgbench.data import image_decode
from imgbench.data import jpeg_frame
from imgbench.data import opencv
from imgbench.data import resample
from imgbench.data import turbo

BoxOf = Callable[[int, int], resample.Box]  # (image height, width) -> box

# The last two come from sizes in broken headers.
_UNREADABLE = (*image_decode.UNREADABLE, OverflowError, MemoryError)
_MOST_PIXELS = 2**28  # a header that states more counts as broken
_KEPT_BYTES = 2**25  # of scratch memory per thread
_PER_THREAD = threading.local()


class DecodeError(ValueError):
  """The bytes are not a whole image."""


class Decoder(Protocol):
  """Decodes, crops and resizes; threads may share one.

  Attributes:
    version: libraries and options that the pixels depend on.
  """

  version: str

  def crop_resize(
    self,
    data: bytes,
    out: np.ndarray,
    box: BoxOf,
    method: str = "bilinear",
  ) -> None:
    """Fills `out` with a resized crop of an image.

    Args:
      data: a JPEG or PNG file.
      out: uint8 [S, S, 3] RGB, C-contiguous, e.g. a slot of a batch.
      box: given the image's (height, width), returns (top, left, height,
        width) of the crop in its pixels; fractions are allowed.
      method: "bilinear" or "bicubic".

    Raises:
      DecodeError: the bytes are not a whole image; `out` is undefined.
      ValueError: the box leaves the image.
    """


def build_decoder(name: str = "auto", exact: bool = False) -> Decoder:
  """Returns a decoder by name.

  Args:
    name: "auto" ("turbo", or "simplejpeg" if that was not built), "turbo",
      "simplejpeg", "simplejpeg_fast", "opencv" or "pillow". The last two do
      not detect damage inside a JPEG that has its end marker; all detect a
      missing end.
    exact: for evaluation: accurate DCT, never decoded at a smaller size.

  Raises:
    InputError: an unknown name, or "turbo" if it was not built.
  """
  known = {
    "auto": TurboDecoder,
    "turbo": TurboDecoder,
    "simplejpeg": SimpleJpegDecoder,
    "simplejpeg_fast": FastSimpleJpegDecoder,
    "opencv": OpenCvDecoder,
    "pillow": PillowDecoder,
  }
  if name not in known:
    raise errors.InputError("decoder", f"one of {', '.join(known)}", repr(name))
  if name == "auto" and (why := turbo.missing()):
    logging.log_first_n(
      logging.WARNING, "decoding JPEGs with simplejpeg: %s", 1, why
    )
    return SimpleJpegDecoder(exact)
  return known[name](exact)


def _find_crop(box: BoxOf, height: int, width: int) -> resample.Box:
  """Returns the box of an image of this size, checked to be inside it."""
  if height * width > _MOST_PIXELS:
    raise DecodeError(f"the header states {height}x{width} pixels")
  top, left, rows, columns = box(height, width)
  slack = 1e-6 * max(height, width)  # for rounding of fractional boxes
  if not (
    rows > 0
    and columns > 0
    and min(top, left) >= -slack
    and top + rows <= height + slack
    and left + columns <= width + slack
  ):
    box = top, left, rows, columns
    raise ValueError(f"box {box} is not inside the {height}x{width} image")
  top, left = max(top, 0), max(left, 0)
  return top, left, min(rows, height - top), min(columns, width - left)


def _scale_factor(crop: resample.Box, size: int) -> int:
  """Returns by how much the decoder may shrink the image: 8, 4, 2 or 1."""
  least = min(crop[2:]) / size
  return next((f for f in (8, 4, 2) if least >= f), 1)


def _to_rgb(image):
  """Returns an image as RGB: grey repeated, alpha dropped, 16 bits cut to 8."""
  if image.mode.startswith("I"):  # Pillow would clip at 255
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(
      "RGB"
    )
  if image.mode == "P":  # else Pillow warns about transparency
    image = image.convert("RGBA")
  return image if image.mode == "RGB" else image.convert("RGB")


def _check_end(data: bytes, frame: jpeg_frame.Frame) -> None:
  """Raises DecodeError without an end; decoders may fill the rest with grey."""
  if data.rfind(b"\xff\xd9", frame.height_at) < 0:
    raise DecodeError("the JPEG is damaged: its end is missing")


class PillowDecoder:
  """Pillow, any JPEG or PNG: the reference, and the fallback of the others."""

  def __init__(self, exact: bool = False):
    self._exact = exact
    self.version = f"pillow {PIL.__version__}{', exact' * exact}"

  def crop_resize(
    self,
    data: bytes,
    out: np.ndarray,
    box: BoxOf,
    method: str = "bilinear",
  ) -> None:
    """See `Decoder`."""
    try:
      image = image_decode.open_image(data)
      width, height = image.size
    except _UNREADABLE as error:
      raise DecodeError(f"the image cannot be read: {error}") from error
    crop = _find_crop(box, height, width)
    factor = 1 if self._exact else _scale_factor(crop, len(out))
    try:
      if factor > 1 and image.format == "JPEG":
        # The result is never smaller than this.
        image.draft("RGB", (width // factor, height // factor))
      scaled = round(width / image.size[0])
      image.load()
      image = _to_rgb(image)
    except _UNREADABLE as error:
      raise DecodeError(f"the image cannot be decoded: {error}") from error
    if (frame := jpeg_frame.parse(data)) is not None:
      _check_end(data, frame)
    crop = tuple(v / scaled for v in crop)
    resample.resize_image(image, crop, out, method)


class _JpegDecoder:
  """libjpeg-turbo for plain JPEGs, Pillow for the rest."""

  def __init__(self, exact: bool = False):
    self._exact = exact
    self._fallback = PillowDecoder(exact)
    self.version = self._version() + ", exact" * exact

  def crop_resize(
    self,
    data: bytes,
    out: np.ndarray,
    box: BoxOf,
    method: str = "bilinear",
  ) -> None:
    """See `Decoder`."""
    frame = jpeg_frame.parse(data)
    if frame is None or frame.precision != 8 or frame.components not in (1, 3):
      return self._fallback.crop_resize(data, out, box, method)
    crop = _find_crop(box, frame.height, frame.width)
    factor = 1 if self._exact else _scale_factor(crop, len(out))
    if not self._fill(data, frame, factor, crop, out, method):
      self._fallback.crop_resize(data, out, lambda h, w: crop, method)

  def _version(self) -> str:
    raise NotImplementedError

  def _fill(
    self,
    data: bytes,
    frame: jpeg_frame.Frame,
    factor: int,
    crop: resample.Box,
    out: np.ndarray,
    method: str,
  ) -> bool:
    """Fills `out` and returns True, or returns False to let Pillow decide.

    The image may be decoded at 1 / `factor` (1, 2, 4 or 8) of its size; `crop`
    is in pixels of the full size. For the rest see `Decoder`.
    """
    raise NotImplementedError


def _check_problem(problem: str) -> None:
  """Raises DecodeError if a warning of libjpeg-turbo means damage."""
  damaged = problem.startswith(("Premature end", "Corrupt JPEG data"))
  if damaged and "extraneous bytes" not in problem:
    raise DecodeError(f"the JPEG is damaged: {problem}")


class TurboDecoder(_JpegDecoder):
  """libjpeg-turbo in turbo.c: decodes only the crop and resizes it."""

  def _version(self):
    return turbo.version()

  def _fill(self, data, frame, factor, crop, out, method):
    """See `_JpegDecoder`."""
    problem = turbo.crop_resize(data, frame, factor, crop, out, method)
    _check_problem(problem)
    _check_end(data, frame)
    return not problem


class _WholeDecoder(_JpegDecoder):
  """Decodes rows of the full width with a package, then resizes them."""

  _package = ""

  def _version(self):
    package = f"{self._package} {metadata.version(self._package)}"
    return f"{package}, {resample.version()}"

  def _fill(self, data, frame, factor, crop, out, method):
    """See `_JpegDecoder`."""
    top, _, rows, _ = crop
    _, last = resample.reach(
      top / factor, rows / factor, len(out), method, frame.height
    )
    last = last * factor + frame.rows_per_block  # the last may lack chroma
    pixels = self._decode(data, frame, last, factor)
    if pixels is None:
      return False
    resample.resize(pixels, tuple(v / factor for v in crop), out, method)
    return True

  def _decode(
    self, data: bytes, frame: jpeg_frame.Frame, rows: int, factor: int
  ) -> np.ndarray | None:
    """Returns at least the first rows at 1 / `factor` of the size.

    Args:
      data: the file.
      frame: its header.
      rows: how many are needed, in rows of the full size.
      factor: 1, 2, 4 or 8.

    Returns:
      uint8 [rows or more, columns, 3], valid until the thread's next call;
      None to let Pillow decide.

    Raises:
      DecodeError: the image is damaged.
    """
    raise NotImplementedError


def _scratch(height: int, width: int) -> tuple[bytearray, np.ndarray]:
  """Returns a buffer and its view; the thread keeps one that is not large."""
  size = height * width * 3
  memory = getattr(_PER_THREAD, "scratch", b"")
  if len(memory) < size:
    memory = bytearray(size)
    if size <= _KEPT_BYTES:
      _PER_THREAD.scratch = memory
  view = np.frombuffer(memory, np.uint8, size)
  return memory, view.reshape(height, width, 3)


class SimpleJpegDecoder(_WholeDecoder):
  """simplejpeg, which reports every warning of libjpeg-turbo."""

  _package = "simplejpeg"
  _fast_dct = False

  def _version(self):
    fast = self._fast_dct and not self._exact
    return super()._version() + ", fast DCT" * fast

  def _decode(self, data, frame, rows, factor):
    """See `_WholeDecoder`."""
    cut, height = jpeg_frame.cut_rows(data, frame, rows)
    pixels, problem = self._attempt(cut, height, frame.width, factor)
    if problem and height != frame.height:
      pixels, problem = self._attempt(data, frame.height, frame.width, factor)
    _check_problem(problem)
    return None if problem else pixels

  def _attempt(self, data, height: int, width: int, factor: int):
    """Decodes; returns uint8 [rows, columns, 3] and the first problem or ""."""
    import simplejpeg

    rows, columns = -(-height // factor), -(-width // factor)
    memory, pixels = _scratch(rows, columns)
    try:
      simplejpeg.decode_jpeg(
        data,
        "RGB",
        fastdct=self._fast_dct and not self._exact,
        min_height=rows,
        min_width=columns,
        min_factor=factor,
        buffer=memory,
      )
    except ValueError as error:
      problem = str(error) or "unknown"
      # Harmless and expected if rows were cut off: all was read up to the end
      # marker. Any earlier problem would have been reported instead.
      if "extraneous bytes" in problem and problem.endswith("marker 0xd9"):
        problem = ""
      return pixels, problem
    return pixels, ""


class FastSimpleJpegDecoder(SimpleJpegDecoder):
  """simplejpeg with the fast DCT: 5% faster, the pixels of tf.data.

  Values are off by 1 level on average, with a bias: red and blue are darker by
  1.2. A model trained on these sees other colours in evaluation.
  """

  _fast_dct = True


class OpenCvDecoder(_WholeDecoder):
  """OpenCV, which does not report damage: only a missing end is detected."""

  _package = "opencv-python-headless"

  def _decode(self, data, frame, rows, factor):
    """See `_WholeDecoder`."""
    cv2 = opencv.load()
    _check_end(data, frame)
    # The whole file: OpenCV warns on stderr about a JPEG cut to fewer rows.
    flags = {
      1: cv2.IMREAD_COLOR_RGB,
      2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
      4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
      8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
    }
    try:
      return cv2.imdecode(
        np.frombuffer(data, np.uint8),
        flags[factor] | cv2.IMREAD_IGNORE_ORIENTATION,
      )
    except cv2.error:
      return None
