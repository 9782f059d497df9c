"""One encoded image of any size to a crop of one size, straight into a slot.

`resample` says how the crop is resized. EXIF orientation is ignored and alpha
dropped, as the field does.

Which decoder, by CPU time on 500x375 JPEGs of 115 KB, random crops to 224, one
thread: turbo 1.03 ms, simplejpeg 1.23 (1.20 with its fast DCT), OpenCV 1.39,
Pillow 2.08. tf.data's fused crop takes as long as simplejpeg, and 1.8 times
that if it is to be antialiased like these. So "auto" is turbo, which is C
compiled here (`turbo`), or else simplejpeg. Of a baseline JPEG nothing below
the crop is decoded; that saves a tenth.

`exact` is for evaluation: every decoder gives the pixels of Pillow, up to 2 of
256 levels in a few of them. Otherwise an image of which at least twice the
target is asked for is decoded at a half, a quarter or an eighth of its size.
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

BoxOf = Callable[[int, int], resample.Box]  # of the image's height, width

# Of sizes that a broken header states, too.
_UNREADABLE = (*image_decode.UNREADABLE, OverflowError, MemoryError)
_MOST_PIXELS = 2**28  # a header that states more is taken for a broken one
_KEPT_BYTES = 2**25  # of scratch memory, for each thread
_PER_THREAD = threading.local()


class DecodeError(ValueError):
  """The bytes are not a whole image; the text says what is wrong."""


class Decoder(Protocol):
  """Decodes, crops and resizes; threads may share one.

  Attributes:
    version: what the pixels depend on, beside the file.
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
      DecodeError: the bytes are not a whole image; `out` holds anything.
      ValueError: the box leaves the image.
    """


def build_decoder(name: str = "auto", exact: bool = False) -> Decoder:
  """Returns a decoder by name.

  Args:
    name: "auto" (which is "turbo", or "simplejpeg" where that was not built),
      "turbo", "simplejpeg", "simplejpeg_fast", "opencv" or "pillow". Damage
      inside of a JPEG whose end is there is noticed by the first three alone;
      a missing end is an error for all.
    exact: for evaluation: the accurate DCT, and never a smaller size.

  Raises:
    InputError: an unknown name, or "turbo" where it was not built.
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
      logging.WARNING, "JPEGs are decoded by simplejpeg: %s", 1, why
    )
    return SimpleJpegDecoder(exact)
  return known[name](exact)


def _crop(box: BoxOf, height: int, width: int) -> resample.Box:
  """Returns what `box` gives for an image of this size, if it lies inside."""
  if height * width > _MOST_PIXELS:
    raise DecodeError(f"the header states {height}x{width} pixels")
  top, left, rows, columns = box(height, width)
  slack = 1e-6 * max(height, width)  # boxes of fractions round
  if not (
    rows > 0
    and columns > 0
    and min(top, left) >= -slack
    and top + rows <= height + slack
    and left + columns <= width + slack
  ):
    box = top, left, rows, columns
    raise ValueError(f"box {box} leaves the image of {height}x{width}")
  top, left = max(top, 0), max(left, 0)
  return top, left, min(rows, height - top), min(columns, width - left)


def _scale_factor(crop: resample.Box, size: int) -> int:
  """Returns 8, 4, 2 or 1: how much smaller the decoder may make the image."""
  least = min(crop[2:]) / size
  return next((f for f in (8, 4, 2) if least >= f), 1)


def _rgb(image):
  """Returns an image as RGB: grey repeated, alpha dropped, 16 bits cut to 8."""
  if image.mode.startswith("I"):  # Pillow would clip at 255
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(
      "RGB"
    )
  if image.mode == "P":  # by a detour, or Pillow warns of transparency
    image = image.convert("RGBA")
  return image if image.mode == "RGB" else image.convert("RGB")


def _check_end(data: bytes, frame: jpeg_frame.Frame) -> None:
  """For decoders that may fill what is missing with grey."""
  if data.rfind(b"\xff\xd9", frame.height_at) < 0:
    raise DecodeError("the JPEG is damaged: its end is missing")


class PillowDecoder:
  """Whatever Pillow can read; the reference, and what others fall back on."""

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
    crop = _crop(box, height, width)
    factor = 1 if self._exact else _scale_factor(crop, len(out))
    try:
      if factor > 1 and image.format == "JPEG":
        # Nothing for a PNG, and never smaller than what is asked for.
        image.draft("RGB", (width // factor, height // factor))
      scaled = round(width / image.size[0])
      image.load()
      image = _rgb(image)
    except _UNREADABLE as error:
      raise DecodeError(f"the image cannot be decoded: {error}") from error
    if (frame := jpeg_frame.parse(data)) is not None:
      _check_end(data, frame)
    crop = tuple(v / scaled for v in crop)
    resample.resize_image(image, crop, out, method)


class _JpegDecoder:
  """JPEGs by libjpeg-turbo; what is not a plain one goes to Pillow."""

  def __init__(self, exact: bool = False):
    self._exact = exact
    self._odd = PillowDecoder(exact)
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
      return self._odd.crop_resize(data, out, box, method)
    crop = _crop(box, frame.height, frame.width)
    factor = 1 if self._exact else _scale_factor(crop, len(out))
    if not self._fill(data, frame, factor, crop, out, method):
      self._odd.crop_resize(data, out, lambda h, w: crop, method)

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
    """Fills `out`, or returns False: Pillow shall decide.

    The image may be decoded at 1 / `factor` (1, 2, 4 or 8) of its size, in
    whose pixels `crop` is. For the rest see `Decoder`.
    """
    raise NotImplementedError


def _check_problem(problem: str) -> None:
  """Raises DecodeError where a warning of libjpeg-turbo means damage."""
  damaged = problem.startswith(("Premature end", "Corrupt JPEG data"))
  if damaged and "extraneous bytes" not in problem:
    raise DecodeError(f"the JPEG is damaged: {problem}")


class TurboDecoder(_JpegDecoder):
  """libjpeg-turbo itself: no more than the crop, resized in the same call."""

  def _version(self):
    return turbo.version()

  def _fill(self, data, frame, factor, crop, out, method):
    """See `_JpegDecoder`."""
    problem = turbo.crop_resize(data, frame, factor, crop, out, method)
    _check_problem(problem)
    _check_end(data, frame)
    return not problem


class _WholeDecoder(_JpegDecoder):
  """A package decodes rows as wide as the image, then they are resized."""

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
    last = last * factor + frame.rows_per_block  # whose chroma may be wrong
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
      uint8 [rows or more, columns, 3], good until the thread's next call;
      None where Pillow shall decide.

    Raises:
      DecodeError: damaged.
    """
    raise NotImplementedError


def _scratch(height: int, width: int) -> tuple[bytearray, np.ndarray]:
  """Returns memory, the thread's own if it is not large, and its view."""
  size = height * width * 3
  memory = getattr(_PER_THREAD, "scratch", b"")
  if len(memory) < size:
    memory = bytearray(size)
    if size <= _KEPT_BYTES:
      _PER_THREAD.scratch = memory
  view = np.frombuffer(memory, np.uint8, size)
  return memory, view.reshape(height, width, 3)


class SimpleJpegDecoder(_WholeDecoder):
  """simplejpeg: every warning of libjpeg-turbo can be seen."""

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
    """Returns uint8 [rows, columns, 3] and the first problem, "" if none."""
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
      # Harmless, and due where rows are left out: all was read, then came the
      # end. Any problem before it would have been reported in its place.
      if "extraneous bytes" in problem and problem.endswith("marker 0xd9"):
        problem = ""
      return pixels, problem
    return pixels, ""


class FastSimpleJpegDecoder(SimpleJpegDecoder):
  """With libjpeg-turbo's fast DCT: 5% faster, the pixels of tf.data.

  A value is off by 1 level in the mean, and not around 0: red and blue are
  darker by 1.2. A model trained on these sees other colours in evaluation.
  """

  _fast_dct = True


class OpenCvDecoder(_WholeDecoder):
  """OpenCV: says nothing of damage, so only a missing end is seen."""

  _package = "opencv-python-headless"

  def _decode(self, data, frame, rows, factor):
    """See `_WholeDecoder`."""
    cv2 = opencv.load()
    _check_end(data, frame)
    # A JPEG of fewer rows would make it complain on stderr, for each image.
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
