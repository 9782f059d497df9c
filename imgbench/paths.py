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
import re
import sys
import tempfile
import threading
from typing import TypeAlias

from etils import epath

from imgbench import errors

# epath would import TensorFlow where it is installed, and decides that once,
# on the first use of any path.
os.environ.setdefault("EPATH_USE_TF", "0")

Folder: TypeAlias = epath.Path
BUCKET = "gs://"
# Seconds within which a bucket has to answer a program's first request. Clients
# of buckets try again for a minute.
REACH_S = 10.0
# For files, and for Orbax's requests to a bucket.
_PACKAGES = ("gcsfs", "google.cloud.storage")

# Transport errors: the packages that raise them, and TensorStore's names.
_TRANSPORT = ("aiohttp", "gcsfs", "google", "requests", "urllib3")
_SIGNS = (
  "DEADLINE_EXCEEDED",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "UNAUTHENTICATED",
  "UNAVAILABLE",
)


def as_path(path: str | os.PathLike, setting: str = "folder") -> Folder:
  """Returns the path of a folder, local or in a bucket.

  Args:
    path: the address.
    setting: that gave it, named in errors.

  Raises:
    InputError: another kind of address, a name that cannot be decoded, or a
      package is missing.
  """
  text = os.fspath(path)
  if "://" in text and not re.match(f"{BUCKET}[^/]+/[^/]", text):
    expected = f"a local folder or {BUCKET}BUCKET/FOLDER"
    raise errors.InputError(setting, expected, text)
  if is_bucket(text):
    _prepare_buckets(setting, text)
  else:
    check_name(text, setting)
  return epath.Path(text)


def check_name(path: str | os.PathLike, setting: str) -> None:
  """Raises InputError for a local path that no file can have, or no text.

  Libraries in C++, which write checkpoints and read records, take text only.

  Args:
    path: may be relative.
    setting: that gave it, named in errors.
  """
  try:
    os.path.abspath(path).encode()
  except UnicodeEncodeError as error:
    encoding = sys.getfilesystemencoding()
    expected = f"a path in the encoding of file names, {encoding}"
    fix = "set PYTHONUTF8=1 if it is UTF-8, or rename it"
    given = ascii(os.fspath(path))
    raise errors.InputError(setting, expected, given, fix) from error
  try:
    os.lstat(path)
  except (FileNotFoundError, NotADirectoryError, PermissionError):
    pass
  except (OSError, ValueError) as error:  # ValueError: a null byte.
    text = os.fspath(path)[:60]
    given = f"{text!r}: {errors.find_reason(error)}"
    raise errors.InputError(setting, "a name of a file", given) from error


def check_writable(folder: Folder, setting: str) -> None:
  """Raises InputError if a local folder can be neither written nor created.

  Nothing is created: the caller may still refuse its user for another reason.

  Args:
    folder: need not exist.
    setting: that gave it.
  """
  if is_bucket(folder):
    return
  place = folder
  while not place.exists():
    place = place.parent
  writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
  given = f"{folder}: {place} is none"
  errors.check(writable, setting, "a writable folder", given)


def reach(path: str | os.PathLike, setting: str = "folder") -> Folder:
  """Returns `as_path` of a folder; a bucket has to answer a request for it.

  Raises:
    InputError: see `as_path`; or there is no answer within REACH_S.
  """
  folder = as_path(path, setting)
  if is_bucket(folder):
    answers: list[Exception | None] = []
    # A thread, as no timeout covers finding credentials and trying again.
    thread = threading.Thread(target=_ask, args=(folder, answers), daemon=True)
    thread.start()
    thread.join(REACH_S)
    error = answers[0] if answers else TimeoutError(f"none in {REACH_S:.0f} s")
    if error is not None and is_out_of_reach(folder, error):
      raise errors.InputError(
        setting,
        f"an answer from the bucket of {folder}",
        describe_error(error),
        "check its name, the network and the credentials",
      ) from error
  return folder


def _ask(folder: Folder, answers: list[Exception | None]) -> None:
  """Appends the error of a request to a bucket, None without one."""
  try:
    get_bucket_filesystem().info(os.fspath(folder))
    answers.append(None)
  except Exception as error:  # From gcsfs, aiohttp, google.auth, requests.
    answers.append(error)


def is_bucket(path: str | os.PathLike) -> bool:
  """Returns whether a path is in a bucket."""
  return os.fspath(path).startswith(BUCKET)


def make_absolute(folder: Folder) -> Folder:
  """Returns a folder's path from the root, or from its bucket."""
  # epath resolves a bucket's address against the working directory.
  return folder if folder.is_absolute() else folder.resolve()


def list_names(folder: Folder) -> list[str]:
  """Returns the sorted names in a folder; none if it does not exist."""
  try:
    return sorted(path.name for path in folder.iterdir())
  except FileNotFoundError:
    return []


def move_folder(source: Folder, target: Folder) -> None:
  """Moves a folder; in a bucket, by copying it.

  Args:
    source: moved with its content.
    target: its new path, which must not exist; its parent is created.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  if is_bucket(source):
    buckets = get_bucket_filesystem()
    buckets.copy(os.fspath(source), os.fspath(target), recursive=True)
    buckets.rm(os.fspath(source), recursive=True)
  else:
    source.rename(target)


class BucketError(errors.RunError, OSError):
  """A request to a bucket failed, after its client's retries."""


class AppendFolder:
  """A folder for files that are appended to, also for a run in a bucket.

  Args:
    folder: of the run.

  Attributes:
    folder: to write to: that of the run, or for a bucket a temporary local one
      that `upload` copies from.
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
    """Uploads the files that have grown, each as a whole."""
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


def get_bucket_filesystem():
  """Returns fsspec's file system of all buckets, for what epath lacks."""
  import fsspec

  return fsspec.filesystem("gs")


def write_object(path: Folder, data: bytes) -> None:
  """Writes an object of a bucket; every failure is a BucketError."""
  try:
    path.write_bytes(data)
  except Exception as error:  # From gcsfs, aiohttp, google.auth, requests.
    text = f"{path} cannot be written: {describe_error(error)}"
    raise BucketError(text) from error


def describe_error(error: Exception) -> str:
  """Returns the text of an error as one line, or its type without a text."""
  return " ".join(str(error).split())[:300] or type(error).__name__


def is_out_of_reach(folder: str | os.PathLike, error: Exception) -> bool:
  """Returns whether an error is about reaching a bucket, not its content."""
  kinds = (ConnectionError, TimeoutError, PermissionError)
  return is_bucket(folder) and (
    isinstance(error, kinds)
    or type(error).__module__.split(".")[0] in _TRANSPORT
    or any(sign in str(error) for sign in _SIGNS)
  )


@functools.cache
def _prepare_buckets(setting: str, address: str) -> None:
  """Checks that the packages for buckets are there and configures them."""
  for name in _PACKAGES:
    try:
      found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # The parent package is missing.
      found = None
    if found is None:
      expected = "a local folder, or a bucket with its packages installed"
      fix = f"{name} is missing: run pip install 'imgbench[gcs]'"
      raise errors.InputError(setting, expected, address, fix)
  import fsspec

  # A cached listing misses what other processes write.
  settings = fsspec.config.conf.setdefault("gs", {})
  settings.setdefault("use_listings_cache", False)
  # They log every file, and a traceback of each error that they raise.
  python_logging.getLogger("fsspec").setLevel(python_logging.WARNING)
  python_logging.getLogger("gcsfs").setLevel(python_logging.CRITICAL)
