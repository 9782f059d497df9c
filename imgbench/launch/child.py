"""Becomes the run of a work unit, on its cores, bound to its launcher.

python -m imgbench.launch.child LAUNCHER_PID CORES COMMAND...

CORES are numbers with commas between; "-": all. When the launcher ends, even
by kill -9, the kernel sends the run SIGTERM: it saves and stops.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_EXIT_PREEMPTED = 75


def main(argv: list[str]) -> None:
  """Replaces this process by the command.

  Args:
    argv: as sys.argv.
  """
  launcher, cores, *command = argv[1:]
  if sys.platform == "linux":
    # It outlives exec.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
  if os.getppid() != int(launcher):
    sys.exit(_EXIT_PREEMPTED)  # It ended before it was said.
  if cores != "-":
    os.sched_setaffinity(0, map(int, cores.split(",")))
  os.execv(command[0], command)


if __name__ == "__main__":
  main(sys.argv)
