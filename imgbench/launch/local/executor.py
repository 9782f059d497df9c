"""Executor "local": runs of a sweep on this machine, some at a time.

Each run is a process of its own with GPUs and CPU cores of its own. It writes
to log.txt in its folder. Ctrl-C and SIGTERM let the runs save and stop; a
second one kills them. When the launcher itself is killed, the kernel stops
them (on Linux).
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
import signal
import sys
import time

from absl import flags

from imgbench import errors
from imgbench import timing
from imgbench.launch import board as board_lib
from imgbench.launch import locks
from imgbench.launch import units
from imgbench.launch.local import pool as pool_lib
from imgbench.launch.local import slots as slots_lib

_POLL_S = 0.1


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --jobs, --devices_per_job and --retries."""
  flags.DEFINE_integer(
    "jobs",
    None,
    "Runs at a time, which share the GPUs and the CPU cores; default: one for"
    " each GPU, or for each --devices_per_job of them; without GPUs 1.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "devices_per_job",
    None,
    "GPUs of each run; default: all, divided by --jobs.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "retries",
    0,
    "How often a run that fails goes on from its last checkpoint by itself;"
    " one that diverged, or was given bad input, does not.",
    flag_values=flag_values,
  )


def check(sweep: units.Sweep, values: flags.FlagValues) -> None:
  """Raises InputError if the flags do not fit this machine."""
  del sweep
  _slots(values)
  if values.retries < 0:
    raise errors.InputError("--retries", "at least 0", values.retries)


def _slots(values: flags.FlagValues) -> list[slots_lib.Slot]:
  return slots_lib.divide(
    values.jobs, values.devices_per_job, slots_lib.gpus(), slots_lib.cores()
  )


def run(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Runs what is not done; returns the exit code.

  Raises:
    InputError: runs of an earlier launcher do not end.
    Preempted: stopped by a signal, with runs that are not done.
  """
  _wait_for_others(sweep)
  todo = units.pending(sweep)
  board = board_lib.Board(sweep, sys.stdout)
  board.say(_plan_text(board.statuses, todo))
  pool = pool_lib.Pool(sweep, _slots(values), values.retries, board)
  try:
    pool.run(todo)
  finally:
    board.close()
  states = [units.status(unit).state for unit in sweep.units]
  done = states.count(units.DONE)
  if pool.stopped and done < len(states):
    raise errors.Preempted(
      f"stopped; {done} of {len(states)} runs in {sweep.sweep_dir} are done;"
      " the same command resumes the rest"
    )
  return errors.EXIT_DONE if done == len(states) else errors.EXIT_FAILED


def _plan_text(
  statuses: Mapping[str, units.Status], todo: Sequence[units.Unit]
) -> str:
  text = f"{board_lib.count_text(statuses.values())}; {len(todo)} to run"
  diverged = [n for n, s in statuses.items() if s.state == units.DIVERGED]
  if diverged:
    more = f" and {len(diverged) - 3} more" if len(diverged) > 3 else ""
    text += (
      f". Diverged before and would again: {', '.join(diverged[:3])}{more};"
      " remove their folders to run them anew"
    )
  return text


def status(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Prints the table; returns the exit code."""
  del values
  statuses = {unit.name: units.status(unit) for unit in sweep.units}
  print(board_lib.text(sweep, statuses))
  done = all(s.state == units.DONE for s in statuses.values())
  return errors.EXIT_DONE if done else errors.EXIT_FAILED


def cancel(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Lets the launcher and its runs save and stop; returns the exit code.

  Raises:
    InputError: they run on another machine.
    RunError: they do not end.
  """
  del values
  runs = _living(sweep)
  launcher = locks.launcher(sweep.sweep_dir)
  if launcher is not None and _is_here_and_alive(launcher):
    # It stops its runs and says how they ended.
    waited_for = {"the launcher": launcher}
    _tell_to_stop(launcher)
  else:
    waited_for = runs
    _check_here(runs)
    for process in runs.values():
      _tell_to_stop(process)
  left = _wait(waited_for)
  if left:
    raise errors.RunError(
      f"{', '.join(left)} did not end within {pool_lib.SAVE_S:g} s of SIGTERM"
    )
  if waited_for:
    print(f"{len(runs)} runs were stopped; the same command goes on with them")
  else:
    print("nothing runs")
  return errors.EXIT_DONE


# Processes that this one did not start.


def _living(sweep: units.Sweep) -> dict[str, Mapping]:
  """Processes of units that run, of any launcher, by the unit's name."""
  living = {}
  for unit in sweep.units:
    facts = units.launch_facts(unit)
    process = facts.get("process")
    runs = facts.get("state") == units.RUNNING and process is not None
    if runs and locks.is_alive(process):
      living[unit.name] = process
  return living


def _tell_to_stop(process: Mapping) -> None:
  with contextlib.suppress(ProcessLookupError):  # It has just ended.
    os.kill(process["pid"], signal.SIGTERM)


def _is_here_and_alive(process: Mapping) -> bool:
  return locks.is_here(process) and locks.is_alive(process)


def _check_here(processes: Mapping[str, Mapping]) -> None:
  for name, process in processes.items():
    if not locks.is_here(process):
      raise errors.InputError(
        name,
        "a run on this machine",
        f"process {process['pid']} on {process['host']}",
        "run this command there; if that machine is gone, remove"
        f" {units.LAUNCH} in the folder of the run",
      )


def _wait_for_others(sweep: units.Sweep) -> None:
  """Waits for runs of a launcher that was killed: they are saving."""
  living = _living(sweep)
  _check_here(living)
  if living:
    print(
      f"{len(living)} runs of an earlier launcher are still ending:"
      f" {', '.join(living)}",
      flush=True,
    )
  left = _wait(living)
  if left:
    raise errors.InputError(
      "--sweep_dir",
      "no runs of an earlier launcher",
      ", ".join(left),
      f"wait, or run {locks.cancel_command(sweep.sweep_dir)}",
    )


def _wait(processes: Mapping[str, Mapping]) -> list[str]:
  """Waits for the end of processes; returns the names of those that go on."""
  deadline = timing.clock() + pool_lib.SAVE_S
  left = list(processes)
  while left and timing.clock() < deadline:
    left = [name for name in left if locks.is_alive(processes[name])]
    time.sleep(_POLL_S if left else 0)
  return left
