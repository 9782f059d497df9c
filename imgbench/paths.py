"""Folders of runs: on this machine's file systems, or in a bucket.

A bucket (gs://BUCKET/FOLDER) holds whole objects. Each appears at once when
its upload has ended, so that readers see the old one or the new one; but
nothing can be appended, renamed or locked, and there are no folders, only
names with slashes. What that needs stands here and in `bucket_lock`; all else
is the same code for both, through etils.epath.
"""

import functools
import importlib.util
import logging as python_logging
import os
import pathlib
import tempfile

from imgbench import errors

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

# The second is epath.Path, in a bucket. What only buckets need is imported for
# buckets only: it costs a tenth of a second.
Folder = pathlib.Path | pathlib.PurePosixPath


def of(path: str | os.PathLike) -> Folder:
  """Returns a folder as a path: pathlib's, or that of epath in a bucket.

  Raises:
    InputError: another kind of address, no bucket in it, or no gcsfs.
  """
  text = os.fspath(path)
  if not is_bucket(text):
    if "://" in text:
      raise errors.InputError(
        f"{text}: expected a folder of this machine or {BUCKET}BUCKET/FOLDER"
      )
    return pathlib.Path(path)
  parts = text.removeprefix(BUCKET).split("/")
  if len(parts) < 2 or not all(parts[:2]):
    raise errors.InputError(f"{text}: expected {BUCKET}BUCKET/FOLDER")
  _prepare(text)
  from etils import epath

  return epath.Path(text.rstrip("/"))


def is_bucket(path: str | os.PathLike) -> bool:
  """Whether a path lies in a bucket."""
  return os.fspath(path).startswith(BUCKET)


def absolute(folder: Folder) -> Folder:
  """Returns a folder as it is seen from everywhere."""
  return folder if is_bucket(folder) else folder.resolve()


def names(folder: Folder) -> list[str]:
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
    files().copy(os.fspath(source), os.fspath(target), recursive=True)
    files().rm(os.fspath(source), recursive=True)
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
      self.folder = pathlib.Path(self._temporary.name)

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


def files():
  """Returns fsspec's view of all buckets, for what epath has no words for."""
  import fsspec

  return fsspec.filesystem("gs")


def write_object(path: Folder, data: bytes) -> None:
  """Writes an object of a bucket. Raises BucketError, whatever went wrong."""
  try:
    path.write_bytes(data)
  except Exception as error:  # Of gcsfs, aiohttp, google.auth, requests.
    raise BucketError(f"{path} cannot be written: {reason(error)}") from error


def reason(error: Exception) -> str:
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

  # epath would import TensorFlow for buckets where that is installed.
  os.environ.setdefault("EPATH_USE_TF", "0")
  # Of what other processes write, a listing that is kept knows nothing.
  settings = fsspec.config.conf.setdefault("gs", {})
  settings.setdefault("use_listings_cache", False)
  # They tell of every file, and with a traceback of what they then raise.
  python_logging.getLogger("fsspec").setLevel(python_logging.WARNING)
  python_logging.getLogger("gcsfs").setLevel(python_logging.CRITICAL)
