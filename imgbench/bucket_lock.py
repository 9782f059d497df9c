"""One process at a time in a folder of a bucket, which has no locks.

The owner makes the object `.lock`, which a bucket does only if there is none,
and writes it again every BEAT_S. A process that was killed leaves it behind:
it is dead if this machine, not started anew since, ran it and it is gone, or
once the object has stood still for SILENT_S. That is seen by looking, not by
comparing clocks. Should two find it dead in the same moment, one of them learns
by its first writing that the folder is not its own, and ends.
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
    InputError: the bucket cannot be written, or another process is in it.
  """
  lock = _Lock(folder)
  try:
    lock.take()
  except errors.InputError:
    raise
  except Exception as error:  # Of gcsfs, aiohttp, google.auth, requests.
    raise errors.InputError(
      f"{folder} cannot be written: {paths.describe_error(error)}; expected a"
      " bucket that is there and that this machine's account may write"
    ) from error
  try:
    yield
  finally:
    lock.release()


class _Lock:
  """See the module."""

  def __init__(self, folder: paths.Folder):
    self._path = folder / NAME
    self._token = uuid.uuid4().hex
    self._beats = 0
    self._released = threading.Event()
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def take(self) -> None:
    """Makes the object, if needed when its owner was seen to be dead."""
    while not self._make():
      owner = self._read()
      if self._is_mine(owner):  # Made, but the answer was lost.
        break
      if owner is None:  # Released in between; another may have come.
        continue
      if not self._is_dead(owner):
        raise errors.InputError(
          f"another process is running in {self._path.parent}: number"
          f" {owner['process']['pid']} on {owner['process']['host']}; wait for"
          " it or give another folder"
        )
      if self._read() == owner:  # Not one that came in between.
        self._path.unlink(missing_ok=True)
    self._thread.start()

  def release(self) -> None:
    """Removes the object; one that cannot be removed is left to fall still."""
    self._released.set()
    self._thread.join()
    try:
      if self._is_mine(self._read()):
        self._path.unlink(missing_ok=True)
    except Exception as error:  # It must not hide what ended the block.
      logging.warning("%s could not be removed: %s", self._path, error)

  def _text(self) -> bytes:
    facts = {
      "token": self._token,
      "beats": self._beats,
      "process": living.facts(os.getpid()),
    }
    return json.dumps(facts).encode()

  def _make(self) -> bool:
    try:
      # epath has no way to say: only if there is none.
      text = self._text()
      buckets = paths.bucket_filesystem()
      buckets.pipe_file(os.fspath(self._path), text, mode="create")
    except FileExistsError:
      return False
    return True

  def _read(self) -> dict[str, Any] | None:
    try:
      return json.loads(self._path.read_text())
    except FileNotFoundError:
      return None

  def _is_mine(self, owner: dict[str, Any] | None) -> bool:
    return owner is not None and owner["token"] == self._token

  def _is_dead(self, owner: dict[str, Any]) -> bool:
    # Machines may share a name.
    if living.is_of_this_start(owner["process"]):
      return not living.is_alive(owner["process"])
    logging.info(
      "%s is of process %s on %s: looking for up to %.0f s whether it lives",
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
          # It was cut off for so long that it was taken to be dead.
          logging.error("%s is of another process now: ending", self._path)
          processes.leave(errors.EXIT_FAILED)
        self._beats += 1
        paths.write_object(self._path, self._text())
      except Exception as error:  # Whatever it is, the run may go on.
        logging.warning("while it was to say that it lives: %s", error)
