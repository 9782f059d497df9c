"""Caches in the user's folder, which are optional, and arrays in them.

Arrays are written atomically, and their checksums are verified on read.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import functools
import json
import os
import pathlib
import shutil
import tempfile
import time
import zlib

from absl import logging
import numpy as np

_MANIFEST = "manifest.json"
_ABANDONED_S = 3600  # age of a temporary folder whose writer was killed


def user_cache_dir(*parts: str) -> pathlib.Path:
  """Returns a path in `$XDG_CACHE_HOME/imgbench` or `~/.cache/imgbench`.

  Raises:
    OSError: there is no home folder.
  """
  base = os.environ.get("XDG_CACHE_HOME", "")
  if not os.path.isabs(base):  # the XDG rules: a relative one is ignored
    base = os.path.expanduser("~/.cache")
  if not os.path.isabs(base):
    raise OSError("there is no home folder for a cache")
  return pathlib.Path(base, "imgbench", *parts)


@contextlib.contextmanager
def optional(what: str, folder: pathlib.Path | None = None) -> Iterator[None]:
  """Turns an OSError of the block into a warning: programs need no cache.

  Args:
    what: the content of the cache. One warning is logged for it and `folder`,
      however many files fail.
    folder: of the cache; None: that of the error.
  """
  try:
    yield
  except OSError as error:
    place = str(folder or error.filename or "")
    _warn_once(what, place, error.strerror or str(error))


@functools.cache
def _warn_once(what: str, folder: str, reason: str) -> None:
  place = f" in {folder}" if folder else ""
  logging.warning("%s are not cached%s: %s", what, place, reason)


def create_folder(folder: pathlib.Path) -> None:
  """Creates a folder if it is missing. Raises OSError if it takes no files."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:  # It names a file of its own.
    raise OSError(error.errno, error.strerror, str(folder)) from error


def _describe(array: np.ndarray) -> dict[str, object]:
  """Returns what the manifest says of an array."""
  data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
  return {
    "dtype": array.dtype.str,
    "shape": list(array.shape),
    "crc32": zlib.crc32(data),
  }


def write_arrays(
  folder: pathlib.Path, arrays: Mapping[str, np.ndarray]
) -> None:
  """Replaces `folder` by these arrays, all of them or none.

  Raises:
    OSError: it cannot be written, or takes over half of the free disk space.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  _remove_abandoned(folder)
  needed = sum(array.nbytes for array in arrays.values())
  free = shutil.disk_usage(folder.parent).free
  if 2 * needed > free:
    raise OSError(f"{needed} bytes exceed half of the {free} free bytes")
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)
  )
  try:
    manifest = {}
    for name, array in arrays.items():
      np.save(temporary / f"{name}.npy", array, allow_pickle=False)
      manifest[name] = _describe(array)
    (temporary / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    # A folder cannot be renamed over a non-empty one. A reader in between finds
    # none; a concurrent writer writes the same arrays.
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(folder: pathlib.Path) -> None:
  for path in folder.parent.glob(f".{folder.name}.*"):
    if time.time() - path.stat().st_mtime > _ABANDONED_S:
      shutil.rmtree(path, ignore_errors=True)


def read_arrays(folder: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Returns the arrays of a folder, memory-mapped and read-only.

  Every checksum is verified. A damaged cache is logged and counts as missing.

  Returns:
    name -> array, or None if there is no valid cache.
  """
  path = folder / _MANIFEST
  if not os.path.exists(path):
    return None
  try:
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return {
      name: _read_array(folder / f"{name}.npy", expected)
      for name, expected in manifest.items()
    }
  except (
    OSError,
    AttributeError,
    ValueError,
    EOFError,
    RecursionError,
  ) as error:
    logging.warning("cache %s is damaged, rebuilding it: %s", folder, error)
    return None


def _read_array(path: pathlib.Path, expected) -> np.ndarray:
  array = np.asarray(np.load(path, mmap_mode="r"))
  if _describe(array) != expected:
    raise ValueError(f"{path.name} does not match the manifest")
  return array
