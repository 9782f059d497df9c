"""The lock on a sweep's folder, and whether recorded processes are alive."""

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
  """Creates the folder and keeps other launchers out while the block runs.

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
    file = open(sweep_dir / LOCK, "a", encoding="utf-8")  # noqa: SIM115
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
  facts = living.describe_process(os.getpid())
  writers.write_json(sweep_dir / LAUNCHER, facts)


def read_launcher(sweep_dir: paths.Folder) -> dict[str, Any] | None:
  """Returns the last launcher of the folder, as of `describe_process`."""
  return run_files.read_json(sweep_dir / LAUNCHER)


def cancel_command(sweep_dir: paths.Folder) -> str:
  """Returns the command that stops the launcher and the runs of a sweep."""
  return f"python -m imgbench.launch cancel --sweep_dir={sweep_dir}"


def unwritable(sweep_dir: paths.Folder, error: OSError) -> errors.InputError:
  """Returns the error that the folder cannot be written."""
  given = f"{sweep_dir} ({error.strerror})"
  return errors.InputError("--sweep_dir", "a folder that can be written", given)


def check_here(setting: str, process: Mapping[str, Any], fix: str) -> None:
  """Raises InputError if a process is on another machine.

  Args:
    setting: what is in error.
    process: as of `living.describe_process`.
    fix: what to do if that machine is gone.
  """
  if not living.is_here(process):
    raise errors.InputError(
      setting,
      "a process on this machine",
      f"process {process['pid']} on {process['host']}",
      f"run this command there; if that machine is gone, {fix}",
    )


def is_alive(process: Mapping[str, Any] | None) -> bool:
  """Returns whether a process of `living.describe_process` may still run.

  True if unknown: it is None or on another machine.
  """
  if process is None or not living.is_here(process):
    return True
  return living.is_alive(process)
