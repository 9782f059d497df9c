"""Tests of the process that becomes a run."""

import os
import subprocess
import sys

from imgbench import errors
from imgbench.launch.local import slots


def child(launcher: int, cores: str, code: str) -> subprocess.CompletedProcess:
  head = [
    sys.executable,
    "-m",
    "imgbench.launch.local.child",
    str(launcher),
    cores,
  ]
  return subprocess.run(
    [*head, sys.executable, "-c", code], capture_output=True, text=True
  )


def test_it_runs_on_its_cores():
  code = "import os; print(sorted(os.sched_getaffinity(0)))"
  last = slots.find_cores()[-1]
  assert child(os.getpid(), str(last), code).stdout == f"[{last}]\n"
  every = child(os.getpid(), "-", code).stdout
  assert every == f"{sorted(os.sched_getaffinity(0))}\n"


def test_it_gets_a_signal_when_its_launcher_ends():
  # 2 is PR_GET_PDEATHSIG.
  code = (
    "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2,"
    " ctypes.byref(n)); print(n.value)"
  )
  assert child(os.getpid(), "-", code).stdout == "15\n"


def test_it_does_not_start_without_its_launcher():
  result = child(1, "-", "print('ran')")
  assert (result.returncode, result.stdout) == (errors.EXIT_PREEMPTED, "")


def test_it_exits_with_the_code_of_the_run():
  assert child(os.getpid(), "-", "raise SystemExit(3)").returncode == 3
