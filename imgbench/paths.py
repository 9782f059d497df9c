"""Folders of runs, on a local file system or in a bucket, as etils.epath.

A bucket (gs://BUCKET/FOLDER) holds whole objects. An object appears when its
upload ends, so readers see the old one or the new one; but nothing can be
appended, renamed or locked, and there are no folders, only names with slashes.
This module and `bucket_lock` work around that; all other code is the same for
both.
"""

import functools
import importlib.util
import logging as python_logging
import os
import tempfile
from typing import TypeAlias

from etils import epath

from imgbench import errors

# epath would import TensorFlow where it is installed, and decides that once,
# on the first use of any path.
os.environ.setdefault("EPATH_USE_TF", "0")

Folder: TypeAlias = epath.Path
BUCKET = "gs://"
# What reads and writes them: files, and what Orbax asks of a bucket.
_PACKAGES = ("gcsfs", "google.cloud.storage")

# Errors of the way to a bucket: the packages that raise them, and the names
# that TensorStore has for them.
_TRANSPORT = ("aiohttp", "gcsfs", "google", "requests", "urllib3")
_SIGNS = (
  "DEADLINE_EXCEEDED",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "UNAUTHENTICATED",
  "UNAVAILABLE",
)


def as_path(path: str | os.PathLike) -> Folder:
  """Returns the path of a folder, local or in a bucket.

  Raises:
    InputError: another kind of address, no bucket in it, or no gcsfs.
  """
  text = os.fspath(path)
  if not is_bucket(text):
    if "://" in text:
      raise errors.InputError(
        f"{text}: expected a folder of this machine or {BUCKET}BUCKET/FOLDER"
      )
    return epath.Path(text)
  parts = text.removeprefix(BUCKET).split("/")
  if len(parts) < 2 or not all(parts[:2]):
    raise errors.InputError(f"{text}: expected {BUCKET}BUCKET/FOLDER")
  _prepare(text)
  return epath.Path(text.rstrip("/"))


def is_bucket(path: str | os.PathLike) -> bool:
  """Whether a path lies in a bucket."""
  return os.fspath(path).startswith(BUCKET)


def make_absolute(folder: Folder) -> Folder:
  """Returns a folder's path from the root, or from its bucket."""
  # epath resolves a bucket's address against the working directory.
  return folder if folder.is_absolute() else folder.resolve()


def list_names(folder: Folder) -> list[str]:
  """Returns what a folder holds, sorted; nothing if it is not there."""
  try:
    return sorted(path.name for path in folder.iterdir())
  except FileNotFoundError:
    return []


def move_folder(source: Folder, target: Folder) -> None:
  """Moves a folder to a place where nothing is; in a bucket, by copying it.

  Args:
    source: moved with all that is in it.
    target: its new path; the folder above it is made.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  if is_bucket(source):
    buckets = bucket_filesystem()
    buckets.copy(os.fspath(source), os.fspath(target), recursive=True)
    buckets.rm(os.fspath(source), recursive=True)
  else:
    source.rename(target)


class BucketError(errors.RunError, OSError):
  """What failed on the way to a bucket, after the retries of its clients."""


class Growing:
  """A place for files that grow, in a folder or on their way to a bucket.

  Args:
    folder: of the run.

  Attributes:
    folder: to write to: the run's own, or a temporary one of this machine for
      a bucket, which `upload` copies from.
  """

  def __init__(self, folder: Folder):
    self.folder = folder
    self._bucket: Folder | None = None
    self._uploaded: dict[str, int] = {}
    if is_bucket(folder):
      self._bucket = folder
      self._temporary = tempfile.TemporaryDirectory(prefix="imgbench-")
      self.folder = epath.Path(self._temporary.name)

  def upload(self) -> None:
    """Puts the files that have grown into the bucket, each as a whole."""
    if self._bucket is None:
      return
    for path in sorted(self.folder.iterdir()):
      data = path.read_bytes()
      if self._uploaded.get(path.name) != len(data):
        write_object(self._bucket / path.name, data)
        self._uploaded[path.name] = len(data)

  def close(self) -> None:
    """Removes the temporary folder, uploaded or not."""
    if self._bucket is not None:
      self._temporary.cleanup()


def bucket_filesystem():
  """Returns fsspec's view of all buckets, for what epath has no words for."""
  import fsspec

  return fsspec.filesystem("gs")


def write_object(path: Folder, data: bytes) -> None:
  """Writes an object of a bucket. Raises BucketError, whatever went wrong."""
  try:
    path.write_bytes(data)
  except Exception as error:  # Of gcsfs, aiohttp, google.auth, requests.
    text = f"{path} cannot be written: {describe_error(error)}"
    raise BucketError(text) from error


def describe_error(error: Exception) -> str:
  """Returns what an error says, in one line, or what it is called."""
  return " ".join(str(error).split())[:300] or type(error).__name__


def is_out_of_reach(folder: Folder, error: Exception) -> bool:
  """Whether an error says that a bucket, not what is in it, is at fault."""
  kinds = (ConnectionError, TimeoutError, PermissionError)
  return is_bucket(folder) and (
    isinstance(error, kinds)
    or type(error).__module__.split(".")[0] in _TRANSPORT
    or any(sign in str(error) for sign in _SIGNS)
  )


@functools.cache
def _prepare(address: str) -> None:
  """Looks for what buckets need, and sets it up for this process."""
  for name in _PACKAGES:
    try:
      found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # Of the package around it.
      found = None
    if found is None:
      raise errors.InputError(
        f"{address}: a bucket needs the package {name}: pip install"
        " 'imgbench[gcs]'"
      )
  import fsspec

  # Of what other processes write, a listing that is kept knows nothing.
  settings = fsspec.config.conf.setdefault("gs", {})
  settings.setdefault("use_listings_cache", False)
  # They tell of every file, and with a traceback of what they then raise.
  python_logging.getLogger("fsspec").setLevel(python_logging.WARNING)
  python_logging.getLogger("gcsfs").setLevel(python_logging.CRITICAL)
