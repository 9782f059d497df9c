"""Arrays in the user's cache folder: written whole, checked when read."""

from collections.abc import Mapping
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
_ABANDONED_S = 3600  # a writer that was killed left its folder behind


def user_cache_dir(*parts: str) -> pathlib.Path:
  """Returns a path in `$XDG_CACHE_HOME/imgbench` or `~/.cache/imgbench`.

  Raises:
    OSError: neither variable nor home folder says where that is.
  """
  base = os.environ.get("XDG_CACHE_HOME", "")
  if not os.path.isabs(base):  # the XDG rules: a relative one is ignored
    base = os.path.expanduser("~/.cache")
  if not os.path.isabs(base):
    raise OSError("there is no home folder for a cache")
  return pathlib.Path(base, "imgbench", *parts)


def _checksum(array: np.ndarray) -> int:
  return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def write_arrays(
  folder: pathlib.Path, arrays: Mapping[str, np.ndarray]
) -> None:
  """Writes arrays into `folder`, replacing it, all of them or nothing.

  Raises:
    OSError: the folder cannot be written, or would fill the disk by half.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  _remove_abandoned(folder)
  needed = sum(array.nbytes for array in arrays.values())
  free = shutil.disk_usage(folder.parent).free
  if 2 * needed > free:
    raise OSError(f"{needed} bytes are too much for {free} free ones")
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)
  )
  try:
    manifest = {}
    for name, array in arrays.items():
      np.save(temporary / f"{name}.npy", array, allow_pickle=False)
      manifest[name] = {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "crc32": _checksum(array),
      }
    (temporary / _MANIFEST).write_text(json.dumps(manifest))
    # A folder cannot be renamed over a filled one. Whoever reads in between
    # finds none; whoever writes at the same time writes the same.
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

  Every array is compared with its checksum first. What is damaged is reported
  in the log and treated as missing.

  Returns:
    name -> array, or None if there is nothing whole.
  """
  try:
    manifest = json.loads((folder / _MANIFEST).read_text())
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError) as error:
    logging.warning("cache %s is damaged, made anew: %s", folder, error)
    return None
  arrays = {}
  for name, expected in manifest.items():
    try:
      array = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
      found = {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "crc32": _checksum(array),
      }
    except (OSError, ValueError, EOFError) as error:
      logging.warning("cache %s is damaged, made anew: %s", folder, error)
      return None
    if found != expected:
      logging.warning(
        "cache %s is damaged, made anew: %s.npy is not as written", folder, name
      )
      return None
    arrays[name] = array
  return arrays
