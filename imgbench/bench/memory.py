"""The most memory that a process has held; of the standard library alone."""

import pathlib
import resource

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")


def reset_peak() -> None:
  """Lets the peak of this process begin anew, where Linux allows it.

  Compiling takes memory too, often more than the steps of a small model.
  """
  try:
    _CLEAR.write_text("5")
  except OSError:
    return


def read_peak_bytes() -> int:
  """Returns the most memory of this process that was in RAM at once."""
  try:
    lines = _STATUS.read_text().splitlines()
  except OSError:
    lines = []
  for line in lines:
    if line.startswith("VmHWM:"):
      return int(line.split()[1]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
