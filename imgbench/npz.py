"""Reads .npz files, whose headers are checked before any array is read.

A small compressed file may hold a thousand times its size.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import math
from typing import BinaryIO
import zipfile

import numpy as np

from imgbench import errors
from imgbench import paths

_MAX_TEXT = 512  # characters of the longest text in an array
_WORDS = {
  "U": "text",
  "US": "text",
  "USiu": "text",
  "iu": "integer",
  "iuf": "integer",  # also as whole floats
  "f": "floating-point",
  "b": "boolean",
  "u": "unsigned integer",
}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclasses.dataclass(frozen=True)
class Expected:
  """Type and shape of an array.

  Attributes:
    kinds: of its dtype, a key of _WORDS.
    shape: sizes; a name such as "N" is the same size in all arrays of a file.
  """

  kinds: str
  shape: tuple[int | str, ...]


def read(
  path: paths.Folder,
  expected: Mapping[str, Expected],
  most: Mapping[str, int],
  fix: str = "",
) -> dict[str, np.ndarray]:
  """Returns those of the expected arrays that a file has, in their order.

  Args:
    path: of the file.
    expected: array name -> type and shape.
    most: largest size for each name in the shapes.
    fix: what to do about a damaged file.

  Raises:
    InputError: the file cannot be read, or has an array of another type or
      shape, or a larger one.
  """
  found: dict[str, np.ndarray] = {}
  sizes: dict[str, int] = {}
  with _opened(path, fix) as archive:
    members = set(archive.namelist())
    for name, wanted in expected.items():
      if f"{name}.npy" not in members:
        continue
      info = archive.getinfo(f"{name}.npy")
      with archive.open(info) as file:
        _check(f"{path}: {name}", file, info, wanted, sizes, most)
      with archive.open(info) as file:
        found[name] = np.lib.format.read_array(file, allow_pickle=False)
  return found


def read_all(path: paths.Folder) -> dict[str, np.ndarray]:
  """Returns all arrays of a file that is trusted to fit. Raises InputError."""
  with _opened(path, "") as archive:
    members = {n.removesuffix(".npy"): n for n in archive.namelist()}
    read = lambda n: np.lib.format.read_array(archive.open(n))
    return {name: read(member) for name, member in members.items()}


def list_names(path: paths.Folder) -> list[str]:
  """Returns the names of all arrays of a file. Raises InputError."""
  with _opened(path, "") as archive:
    names = archive.namelist()
  return [n.removesuffix(".npy") for n in names if n.endswith(".npy")]


def is_whole(path: paths.Folder) -> bool:
  """Returns whether all arrays of a file have their checksums."""
  try:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
      return archive.testzip() is None
  except Exception:  # Damaged archives raise many kinds of errors.
    return False


@contextlib.contextmanager
def _opened(path: paths.Folder, fix: str) -> Iterator[zipfile.ZipFile]:
  try:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
      yield archive
  except errors.InputError:
    raise
  # Damaged archives raise many kinds of errors.
  except Exception as error:
    reason = errors.find_reason(error)
    given = f"{type(error).__name__}: {reason}"
    expected = "an .npz file with arrays of numbers and texts"
    raise errors.InputError(path, expected, given, fix) from error


def _check(
  where: str,
  file: BinaryIO,
  info: zipfile.ZipInfo,
  wanted: Expected,
  sizes: dict[str, int],
  most: Mapping[str, int],
) -> None:
  """Checks the header of an array; adds the sizes that it has to `sizes`."""
  if info.compress_type not in _COMPRESSIONS:
    raise ValueError(f"compression of type {info.compress_type}")
  shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
  wanted_shape = [sizes.get(str(n), n) for n in wanted.shape]
  text = f"{_WORDS[wanted.kinds]} [{', '.join(map(str, wanted_shape))}]"
  given = f"{dtype} {list(shape)}"
  if dtype.kind not in wanted.kinds or len(shape) != len(wanted_shape):
    raise errors.InputError(where, text, given)
  for size, name in zip(shape, wanted_shape, strict=True):
    if isinstance(name, str):
      if size > most[name]:
        raise errors.InputError(where, f"{text}, {name} <= {most[name]}", given)
      sizes[name] = size
    elif size != name:
      raise errors.InputError(where, text, given)
  if dtype.kind in "US" and dtype.itemsize > 4 * _MAX_TEXT:
    expected = f"{text} of at most {_MAX_TEXT} characters"
    raise errors.InputError(where, expected, given)
  held = info.file_size - file.tell()
  if held != math.prod(shape) * dtype.itemsize:
    raise errors.InputError(where, text, f"{given} in {held} bytes")
