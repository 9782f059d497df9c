"""Which process has a sweep's folder, or runs a unit."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import fcntl
import os
from typing import Any

from absl import logging

from imgbench import bucket_lock
from imgbench import errors
from imgbench import living
from imgbench import paths
from imgbench import run_files
from imgbench import writers

LOCK = ".lock"
LAUNCHER = "launcher.json"


@contextlib.contextmanager
def locked(sweep_dir: paths.Folder) -> Iterator[None]:
  """Makes the folder and keeps other launchers out while the block runs.

  Raises:
    InputError: it cannot be written, or another launcher uses it.
  """
  if paths.is_bucket(sweep_dir):
    with bucket_lock.hold(sweep_dir):
      _write_launcher(sweep_dir)
      yield
    return
  try:
    sweep_dir.mkdir(parents=True, exist_ok=True)
    file = open(sweep_dir / LOCK, "a")  # noqa: SIM115
  except OSError as error:
    raise unwritable(sweep_dir, error) from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise errors.InputError(
        "--sweep_dir",
        "a folder that no other launcher uses",
        sweep_dir,
        f"wait, or run {cancel_command(sweep_dir)}",
      ) from None
    except OSError as error:
      logging.warning("%s cannot be locked: %s", sweep_dir, error)
    _write_launcher(sweep_dir)
    yield


def _write_launcher(sweep_dir: paths.Folder) -> None:
  writers.write_json(sweep_dir / LAUNCHER, process_facts(os.getpid()))


def launcher(sweep_dir: paths.Folder) -> dict[str, Any] | None:
  """Returns the last launcher in the folder, as of `process_facts`."""
  return run_files.read_json(sweep_dir / LAUNCHER)


def cancel_command(sweep_dir: paths.Folder) -> str:
  """Returns the command that stops the launcher and the runs of a sweep."""
  return f"python -m imgbench.launch cancel --sweep_dir={sweep_dir}"


def unwritable(sweep_dir: paths.Folder, error: OSError) -> errors.InputError:
  """Returns the error that the folder cannot be written."""
  given = f"{sweep_dir} ({error.strerror})"
  return errors.InputError("--sweep_dir", "a folder that can be written", given)


def process_facts(pid: int) -> dict[str, Any]:
  """Returns what tells a process from all that come later, for launch.json."""
  return living.facts(pid)


def is_here(process: Mapping[str, Any]) -> bool:
  """Whether a process, as of `process_facts`, is or was of this machine."""
  return living.is_here(process)


def is_alive(process: Mapping[str, Any] | None) -> bool:
  """Whether a process, as of `process_facts`, may still run.

  True where that cannot be seen: it is None, or of another machine.
  """
  if process is None or not living.is_here(process):
    return True
  return living.is_alive(process)
