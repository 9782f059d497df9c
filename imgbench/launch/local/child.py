"""Becomes the run of a work unit, on its cores, bound to its launcher.

python -m imgbench.launch.local.child LAUNCHER_PID CORES COMMAND...

CORES are numbers with commas between; "-": all. When the launcher ends, even
by kill -9, the kernel sends the run SIGTERM: it saves and stops.
"""

import os
import signal
import sys

from imgbench import living

_EXIT_PREEMPTED = 75


def main(argv: list[str]) -> None:
  """Replaces this process by the command.

  Args:
    argv: as sys.argv.
  """
  launcher, cores, *command = argv[1:]
  living.ask_for_signal_at_end_of_parent(signal.SIGTERM)
  if os.getppid() != int(launcher):
    sys.exit(_EXIT_PREEMPTED)  # It ended before it was said.
  if cores != "-":
    os.sched_setaffinity(0, map(int, cores.split(",")))
  os.execv(command[0], command)


if __name__ == "__main__":
  main(sys.argv)
