"""Processes: whether one that was written down runs, and the parent's end."""

from collections.abc import Mapping
import ctypes
import os
import pathlib
import socket
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def ask_for_signal_at_end_of_parent(number: int) -> None:
  """Has Linux send this process a signal when its parent ends; 0: none.

  It outlives exec, and comes with the end of each of the parent's threads.
  """
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def facts(pid: int) -> dict[str, Any]:
  """Returns what tells a process from all that come later, as JSON values."""
  return {
    "host": socket.gethostname(),
    "boot": _boot(),
    "numbers": _numbers(),
    "pid": pid,
    "began": _began(pid),
  }


def is_here(process: Mapping[str, Any]) -> bool:
  """Whether a process, as of `facts`, is or was of this machine."""
  # Containers may share a name, and number their processes each for itself.
  ours = (socket.gethostname(), _numbers())
  return (process["host"], process["numbers"]) == ours


def is_of_this_start(process: Mapping[str, Any]) -> bool:
  """Whether a process, as of `facts`, began since this machine started."""
  return is_here(process) and process["boot"] == _boot()


def is_alive(process: Mapping[str, Any]) -> bool:
  """Whether a process, as of `facts`, is of this machine and runs."""
  began = _began(process["pid"])
  return is_of_this_start(process) and began == process["began"] != ""


def _boot() -> str:
  """Differs each time that the machine starts."""
  try:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
  except OSError:
    return ""


def _numbers() -> str:
  """Names what a process's number belongs to: the machine or a container."""
  try:
    return os.readlink("/proc/self/ns/pid")
  except OSError:
    return ""


def _began(pid: int) -> str:
  """When a process began, in the kernel's ticks; "" if there is none."""
  try:
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except OSError:
    return ""
  # The name, in parentheses, may hold anything. A zombie has ended.
  state, *fields = text.rpartition(")")[2].split()
  return "" if state in "ZX" else fields[18]
