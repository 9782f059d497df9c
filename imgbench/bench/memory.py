"""Peak memory of this process; standard library only."""

import pathlib
import resource

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")


def reset_peak() -> None:
  """Resets the peak of this process, if Linux allows it.

  Compiling takes memory too, often more than the steps of a small model.
  """
  try:
    _CLEAR.write_text("5", encoding="utf-8")
  except OSError:
    return


def read_peak_bytes() -> int:
  """Returns the peak resident memory of this process."""
  try:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
  except OSError:
    lines = []
  for line in lines:
    if line.startswith("VmHWM:"):
      return int(line.split()[1]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
