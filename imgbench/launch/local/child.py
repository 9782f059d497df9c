"""Starts a run on its cores and ties it to its launcher.

python -m imgbench.launch.local.child LAUNCHER_PID CORES COMMAND...

CORES is a comma-separated list of numbers, or "-" for all. If the launcher
ends, even by kill -9, the kernel sends the run SIGTERM: it saves and stops.
"""

import os
import signal
import sys

from imgbench import living

_EXIT_PREEMPTED = 75


def main(argv: list[str]) -> None:
  """Replaces this process by the command."""
  launcher, cores, *command = argv[1:]
  living.signal_when_parent_ends(signal.SIGTERM)
  if os.getppid() != int(launcher):
    sys.exit(_EXIT_PREEMPTED)  # It ended before the prctl call.
  if cores != "-":
    os.sched_setaffinity(0, map(int, cores.split(",")))
  os.execv(command[0], command)


if __name__ == "__main__":
  main(sys.argv)
