"""Lets one process at a time use a folder of a bucket, which has no locks.

The owner creates the object `.lock`, which fails if there is one, and rewrites
it every BEAT_S. A killed process leaves it: the owner is dead if it ran on this
machine since its last boot and is gone, or if the object has not changed for
SILENT_S. That is observed, not computed by comparing clocks. If two processes
find the owner dead at the same moment, one of them sees at its first heartbeat
that it lost the folder, and ends.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import threading
import time
from typing import Any
import uuid

from absl import logging

from imgbench import errors
from imgbench import living
from imgbench import paths
from imgbench import timing
from imgbench.parallel import processes

NAME = ".lock"
BEAT_S = 15.0
SILENT_S = 60.0
LOOK_S = 2.0


@contextlib.contextmanager
def hold(folder: paths.Folder) -> Iterator[None]:
  """Keeps other processes out of a bucket's folder while the block runs.

  Raises:
    InputError: the bucket cannot be written, or another process uses it.
  """
  lock = _Lock(folder)
  try:
    lock.take()
  except errors.InputError:
    raise
  except Exception as error:  # From gcsfs, aiohttp, google.auth, requests.
    expected = "a bucket that exists and that this account may write"
    given = paths.describe_error(error)
    raise errors.InputError(folder, expected, given) from error
  try:
    yield
  finally:
    lock.release()


def read_token(folder: paths.Folder) -> str:
  """Returns the token of the owner of a folder."""
  return json.loads((folder / NAME).read_text(encoding="utf-8"))["token"]


class _Lock:
  """The lock object of one process.

  Args:
    folder: that it protects.
  """

  def __init__(self, folder: paths.Folder):
    self._path = folder / NAME
    self._token = uuid.uuid4().hex
    self._beats = 0
    self._released = threading.Event()
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def take(self) -> None:
    """Creates the object, replacing that of a dead owner."""
    while not self._create():
      owner = self._read()
      if self._is_mine(owner):  # Created, but the response was lost.
        break
      if owner is None:  # Released in between; another may have taken it.
        continue
      if not self._is_dead(owner):
        raise errors.InputError(
          self._path.parent,
          "no other process that uses it",
          f"process {owner['process']['pid']} on {owner['process']['host']}",
          "wait for it or give another folder",
        )
      if self._read() == owner:  # Not that of another process by now.
        self._path.unlink(missing_ok=True)
    self._thread.start()

  def release(self) -> None:
    """Removes the object; if that fails, it will be found dead."""
    self._released.set()
    self._thread.join()
    try:
      if self._is_mine(self._read()):
        self._path.unlink(missing_ok=True)
    except Exception as error:  # It must not hide the error of the block.
      logging.warning("%s could not be removed: %s", self._path, error)

  def _text(self) -> bytes:
    facts = {
      "token": self._token,
      "beats": self._beats,
      "process": living.describe_process(os.getpid()),
    }
    return json.dumps(facts).encode()

  def _create(self) -> bool:
    try:
      # epath cannot write only if there is none.
      text = self._text()
      buckets = paths.get_bucket_filesystem()
      buckets.pipe_file(os.fspath(self._path), text, mode="create")
    except FileExistsError:
      return False
    return True

  def _read(self) -> dict[str, Any] | None:
    try:
      return json.loads(self._path.read_text(encoding="utf-8"))
    except FileNotFoundError:
      return None

  def _is_mine(self, owner: dict[str, Any] | None) -> bool:
    return owner is not None and owner["token"] == self._token

  def _is_dead(self, owner: dict[str, Any]) -> bool:
    # Machines may share a name.
    if living.is_since_boot(owner["process"]):
      return not living.is_alive(owner["process"])
    logging.info(
      "%s belongs to process %s on %s: waiting up to %.0f s for its heartbeat",
      self._path,
      owner["process"]["pid"],
      owner["process"]["host"],
      SILENT_S,
    )
    end = timing.clock() + SILENT_S
    while timing.clock() < end:
      time.sleep(LOOK_S)
      if self._read() != owner:
        return False
    return True

  def _beat(self) -> None:
    while not self._released.wait(BEAT_S):
      try:
        if not self._is_mine(self._read()):
          # It was cut off for so long that it was considered dead.
          logging.error("%s belongs to another process now: ending", self._path)
          processes.leave(errors.EXIT_FAILED)
        self._beats += 1
        paths.write_object(self._path, self._text())
      except Exception as error:  # The next heartbeat may succeed.
        logging.warning("the heartbeat of %s failed: %s", self._path, error)
