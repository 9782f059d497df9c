"""Calls turbo.c: decodes and resizes part of a JPEG without Python's lock.

It is compiled when imgbench is installed, if possible. It is plain C, so any
Python can call it.
"""

import ctypes
import functools
from importlib import machinery
import pathlib
import zlib

import numpy as np

from imgbench import errors
from imgbench.data import jpeg_frame
from imgbench.data import resample

_FOLDER = pathlib.Path(__file__).parent
_FIX = (
  "to build it, install a C compiler and libjpeg-turbo's header (Debian:"
  " apt-get install gcc libjpeg62-turbo-dev; Ubuntu: libjpeg-turbo8-dev), then"
  " run pip install again (in a clone: pip install -e .)"
)
_MESSAGE_BYTES = 200  # JMSG_LENGTH_MAX
_CROP_TYPES = (
  *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int),  # file, its size, factor
  *(ctypes.c_int,) * 2,  # height, width
  *(ctypes.c_double,) * 4,  # the box
  *(ctypes.c_int, ctypes.c_void_p),  # method, out
  *(ctypes.c_int,) * 2,  # its height, width
  ctypes.c_char_p,  # message
)


def _load(folder: pathlib.Path) -> ctypes.CDLL | str:
  """Returns the library built for this Python, or why there is none."""
  paths = [folder / f"_turbo{end}" for end in machinery.EXTENSION_SUFFIXES]
  path = next((path for path in paths if path.exists()), None)
  if path is None:
    return f"{folder / 'turbo.c'} was not compiled"
  try:
    library = ctypes.CDLL(str(path))
    library.turbo_source.restype = ctypes.c_ulong
    library.turbo_version.restype = ctypes.c_char_p
    library.turbo_crop.argtypes = _CROP_TYPES
  except (OSError, AttributeError) as error:
    return f"{path} cannot be used: {error}"
  source = (folder / "turbo.c").read_bytes()
  if library.turbo_source() != zlib.crc32(source):
    return f"{path} was compiled from another turbo.c"
  return library


_library = functools.cache(lambda: _load(_FOLDER))


def missing() -> str:
  """Returns why the library cannot be used and the fix; "" if it can."""
  library = _library()
  return f"{library}; {_FIX}" if isinstance(library, str) else ""


def version() -> str:
  """Returns the versions that the pixels depend on.

  Raises:
    InputError: the library cannot be used.
  """
  if why := missing():
    raise errors.InputError("decoder", "one that is built", "'turbo'", why)
  number = _library().turbo_version().decode()
  return f"libjpeg-turbo {number} as it was built, resized in turbo.c"


def crop_resize(
  data: bytes,
  frame: jpeg_frame.Frame,
  factor: int,
  crop: resample.Box,
  out: np.ndarray,
  method: str,
) -> str:
  """Fills `out` with a resized crop of a JPEG.

  Args:
    data: the file, 8 bits per sample, 1 or 3 components.
    frame: its header.
    factor: 1, 2, 4 or 8: decoded at 1 / `factor` of its size.
    crop: (top, left, height, width) inside the image, in its pixels.
    out: uint8 [H, W, 3], C-contiguous.
    method: "bilinear" or "bicubic".

  Returns:
    libjpeg's first error or warning, at which it stopped; "" if none. Rows
    below the crop are not read.

  Raises:
    ValueError: `out` is another kind of array.
  """
  flags = out.flags
  if not (
    out.ndim == 3
    and out.shape[2] == 3
    and out.size
    and out.dtype == np.uint8
    and flags.c_contiguous
    and flags.writeable
  ):
    raise ValueError(
      f"expected out: uint8 [H, W, 3], C-contiguous, got {out.dtype}"
      f" {list(out.shape)}"
    )
  message = ctypes.create_string_buffer(_MESSAGE_BYTES)
  failed = _library().turbo_crop(
    data,
    len(data),
    factor,
    frame.height,
    frame.width,
    *crop,
    resample.METHODS.index(method),
    out.ctypes.data,
    *out.shape[:2],
    message,
  )
  return (message.value.decode(errors="replace") or "unknown") if failed else ""
