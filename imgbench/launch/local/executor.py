"""Executor "local": runs the sweep on this machine, several runs at a time.

Each run is a process with its own GPUs and CPU cores that writes to log.txt in
its folder. Ctrl-C or SIGTERM lets the runs save and stop; a second one kills
them. If the launcher is killed, the kernel stops the runs (on Linux).
"""

from collections.abc import Mapping
from collections.abc import Sequence
import sys
import time

from absl import flags

from imgbench import errors
from imgbench import living
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
    "Concurrent runs, which share the GPUs and CPU cores; default: one for each"
    " --devices_per_job GPUs (or each GPU), 1 without GPUs.",
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
    "How often a failed run is resumed from its last checkpoint, unless it"
    " diverged or got bad input.",
    flag_values=flag_values,
  )


def check(sweep: units.Sweep, values: flags.FlagValues) -> None:
  """Raises InputError if the flags do not fit this machine."""
  del sweep
  _build_slots(values)
  if values.retries < 0:
    raise errors.InputError("--retries", "at least 0", values.retries)


def _build_slots(values: flags.FlagValues) -> list[slots_lib.Slot]:
  return slots_lib.divide(
    values.jobs,
    values.devices_per_job,
    slots_lib.find_gpus(),
    slots_lib.find_cores(),
  )


def run(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Runs the unfinished units; returns the exit code.

  Raises:
    InputError: runs of an earlier launcher do not end.
    Preempted: a signal came before all runs were done.
  """
  _wait_for_others(sweep)
  todo = units.find_pending(sweep)
  board = board_lib.Board(sweep, sys.stdout)
  board.say(_format_plan(board.statuses, todo))
  pool = pool_lib.Pool(sweep, _build_slots(values), values.retries, board)
  try:
    pool.run(todo)
  finally:
    board.close()
  states = [units.read_status(unit).state for unit in sweep.units]
  done = states.count(units.DONE)
  if pool.stopped and done < len(states):
    raise errors.Preempted(
      f"stopped; {done} of {len(states)} runs in {sweep.sweep_dir} are done;"
      " the same command resumes the rest"
    )
  return errors.EXIT_DONE if done == len(states) else errors.EXIT_FAILED


def _format_plan(
  statuses: Mapping[str, units.Status], todo: Sequence[units.Unit]
) -> str:
  text = f"{board_lib.format_counts(statuses.values())}; {len(todo)} to run"
  diverged = [n for n, s in statuses.items() if s.state == units.DIVERGED]
  if diverged:
    more = f" and {len(diverged) - 3} more" if len(diverged) > 3 else ""
    text += (
      f". Skipping diverged runs {', '.join(diverged[:3])}{more}; remove their"
      " folders to rerun them"
    )
  return text


def status(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Prints the table; returns the exit code."""
  del values
  return board_lib.print_table(sweep)


def cancel(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Lets the launcher and its runs save and stop; returns the exit code.

  Raises:
    InputError: they run on another machine.
    RunError: they do not end in time.
  """
  del values
  runs = _find_running(sweep)
  launcher = locks.read_launcher(sweep.sweep_dir)
  if launcher is not None and _is_here_and_alive(launcher):
    # It stops its runs and records how they ended.
    waited_for = {"the launcher": launcher}
    file = sweep.sweep_dir / locks.LAUNCHER
    locks.check_command(file, launcher, "sweep_dir", sweep.sweep_dir)
  else:
    waited_for = runs
    _check_here(runs)
    for name, process in runs.items():
      workdir = sweep.sweep_dir / name
      file = workdir / units.LAUNCH
      locks.check_command(file, process, "workdir", workdir)
  for process in waited_for.values():
    locks.stop(process)
  left = _wait(waited_for)
  if left:
    raise errors.RunError(
      f"{', '.join(left)} did not end within {pool_lib.SAVE_S:g} s of SIGTERM"
    )
  if waited_for:
    print(f"{len(runs)} runs were stopped; the same command resumes them")
  else:
    print("nothing is running")
  return errors.EXIT_DONE


def _find_running(sweep: units.Sweep) -> dict[str, Mapping]:
  """Returns the live process of each running unit, of any launcher."""
  found = {}
  for unit in sweep.units:
    facts = units.read_launch(unit)
    process = facts.get("process")
    runs = facts.get("state") == units.RUNNING and process is not None
    if runs and locks.is_alive(process):
      found[unit.name] = process
  return found


def _is_here_and_alive(process: Mapping) -> bool:
  return living.is_here(process) and locks.is_alive(process)


def _check_here(processes: Mapping[str, Mapping]) -> None:
  for name, process in processes.items():
    locks.check_here(name, process, f"remove {units.LAUNCH} in its folder")


def _wait_for_others(sweep: units.Sweep) -> None:
  """Waits for the runs of a killed launcher to save and end."""
  running = _find_running(sweep)
  _check_here(running)
  if running:
    names = ", ".join(running)
    print(f"waiting for runs of an earlier launcher: {names}", flush=True)
  left = _wait(running)
  if left:
    raise errors.InputError(
      "--sweep_dir",
      "no runs of an earlier launcher",
      ", ".join(left),
      f"wait, or run {locks.cancel_command(sweep.sweep_dir)}",
    )


def _wait(processes: Mapping[str, Mapping]) -> list[str]:
  """Waits for processes to end; returns the names of those that have not."""
  deadline = timing.clock() + pool_lib.SAVE_S
  left = list(processes)
  while left and timing.clock() < deadline:
    left = [name for name in left if locks.is_alive(processes[name])]
    time.sleep(_POLL_S if left else 0)
  return left
