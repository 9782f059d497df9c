"""Identity and liveness of recorded processes; a signal when a parent ends."""

from collections.abc import Mapping
import ctypes
import os
import pathlib
import socket
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def signal_when_parent_ends(number: int, parent: int | None = None) -> None:
  """Asks Linux for a signal to this process when its parent ends; 0: none.

  The request survives exec; the end of any thread of the parent triggers it.

  Args:
    number: of the signal.
    parent: pid of the parent, which may have ended already; None: it has not.
  """
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if parent is not None and os.getppid() != parent:
      os.kill(os.getpid(), number)


def describe_process(pid: int) -> dict[str, Any]:
  """Returns JSON values that identify a process even if its pid is reused."""
  return {
    "host": socket.gethostname(),
    "boot": _read_boot_id(),
    "numbers": _read_pid_namespace(),
    "pid": pid,
    "began": _read_start_time(pid),
  }


def is_here(process: Mapping[str, Any]) -> bool:
  """Returns whether a described process is or was on this machine."""
  # Containers may share a host name but have their own pids.
  ours = (socket.gethostname(), _read_pid_namespace())
  return (process["host"], process["numbers"]) == ours


def is_since_boot(process: Mapping[str, Any]) -> bool:
  """Returns whether a described process began since this machine booted."""
  return is_here(process) and process["boot"] == _read_boot_id()


def is_alive(process: Mapping[str, Any]) -> bool:
  """Returns whether a described process runs on this machine."""
  began = _read_start_time(process["pid"])
  return is_since_boot(process) and began == process["began"] != ""


def read_command(pid: int) -> list[str]:
  """Returns program and arguments of a process; [] if there is none."""
  try:
    text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
  except OSError:
    return []
  return [os.fsdecode(part) for part in text.split(b"\0")[:-1]]


def _read_boot_id() -> str:
  """Returns an id of the current boot; "" if unknown."""
  try:
    return (
      pathlib.Path("/proc/sys/kernel/random/boot_id")
      .read_text(encoding="utf-8")
      .strip()
    )
  except OSError:
    return ""


def _read_pid_namespace() -> str:
  """Returns the pid namespace: of the machine or of a container."""
  try:
    return os.readlink("/proc/self/ns/pid")
  except OSError:
    return ""


def _read_start_time(pid: int) -> str:
  """Returns when a process began, in kernel ticks; "" if there is none."""
  try:
    text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
  except OSError:
    return ""
  # The name, in parentheses, may contain anything. A zombie has ended.
  state, *fields = text.rpartition(")")[2].split()
  return "" if state in "ZX" else fields[18]
