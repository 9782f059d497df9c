"""The lock on a sweep's folder, and whether recorded processes are alive."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import fcntl
import os
import re
import shlex
import signal
from typing import Any

from absl import logging

from imgbench import bucket_lock
from imgbench import config_utils
from imgbench import errors
from imgbench import living
from imgbench import paths
from imgbench import run_files
from imgbench import typed
from imgbench import writers

LOCK = ".lock"
LAUNCHER = "launcher.json"
_PROCESS = dict(host=str, boot=str, numbers=str, pid=int, began=str)
# A program or a module of imgbench in a command line.
_OURS = re.compile(r"(.*/)?imgbench((\.\w+)*|(/\w+)*/(__main__|main)\.py)")
_SHOWN = 80  # characters of a command


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
  """Returns the last launcher of the folder, as of `describe_process`.

  Raises:
    InputError: the file does not describe a process.
  """
  found = run_files.read_json(sweep_dir / LAUNCHER)
  if found is not None:
    check_process(f"{sweep_dir / LAUNCHER}", found)
  return found


def check_process(where: str, process: Any) -> None:
  """Raises InputError unless a JSON value is one of `describe_process`."""
  with config_utils.prefix_errors(f"{where}: "):
    typed.check_fields(_PROCESS, process, tuple(_PROCESS))
    if not 0 < process["pid"] < 2**31:
      raise errors.InputError("pid", "the number of a process", process["pid"])


def check_command(
  file: paths.Folder,
  process: Mapping[str, Any],
  flag: str,
  folder: paths.Folder,
) -> None:
  """Raises InputError unless a process is one of imgbench in a folder.

  Args:
    file: that describes the process.
    process: as of `describe_process`, of this machine.
    flag: of its command line that names the folder.
    folder: of the sweep or the run.
  """
  command = living.read_command(process["pid"])
  given = _find_flag(command, flag)
  if given is None:
    fits = any(argument.startswith("--flagfile") for argument in command)
  else:
    fits = _locate(given, process["pid"]) == _locate(folder, "self")
  if command and not (fits and any(map(_OURS.fullmatch, command))):
    raise errors.InputError(
      file,
      f"a process of imgbench with --{flag}={folder}",
      f"process {process['pid']}, which is {shlex.join(command)[:_SHOWN]!r}",
      "remove the file; no process was stopped",
    )


def _find_flag(command: Sequence[str], name: str) -> str | None:
  """Returns the last value of a flag of a command line."""
  found = None
  for argument, following in zip(command, [*command[1:], ""], strict=True):
    flag, equals, value = argument.partition("=")
    if flag in (f"--{name}", f"-{name}"):
      found = value if equals else following
  return found


def _locate(folder: paths.Folder | str, pid: int | str) -> str:
  """Returns the absolute path of a folder that a process names."""
  text = os.fspath(folder)
  if paths.is_bucket(text):
    return text.rstrip("/")
  return os.path.realpath(os.path.join(f"/proc/{pid}/cwd", text))


def stop(process: Mapping[str, Any]) -> None:
  """Sends SIGTERM to a process, unless it has ended."""
  if living.is_alive(process):
    with contextlib.suppress(ProcessLookupError):  # It has just ended.
      os.kill(process["pid"], signal.SIGTERM)


def cancel_command(sweep_dir: paths.Folder) -> str:
  """Returns the command that stops the launcher and the runs of a sweep."""
  return f"imgbench sweep cancel --sweep_dir={sweep_dir}"


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
