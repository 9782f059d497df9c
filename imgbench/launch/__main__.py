"""Starts the runs of a sweep: here, on a SLURM cluster or on TPU pods.

python -m imgbench.launch --config=configs/scenes.py --sweep=random \
    --executor=local --sweep_dir=runs/random

The config file defines the points, see imgbench/launch/hyper.py; --dry_run
prints them with their commands. Stopped or failed, the same command runs what
is not done. Config values that hold for all points are overridden with
--config.section.key=value. --help --executor=NAME shows the flags of another
executor.

python -m imgbench.launch status --sweep_dir=runs/random
python -m imgbench.launch cancel --sweep_dir=runs/random

show how the runs stand, and stop those that run. Exit codes: 0 all are done, 1
some are not, 2 bad input, 75 stopped. 0 is also the code of a start that leaves
the rest to others (all is submitted to SLURM, commands for TPUs are printed),
of --dry_run, and of cancel once it has stopped what ran.
"""

import functools
import importlib
import shlex
import signal

from absl import flags
import jax
from ml_collections import config_flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import registry
from imgbench.launch import locks
from imgbench.launch import points
from imgbench.launch import units

EXECUTORS = ("local", "slurm", "tpu")
RUN = "run"
ACTIONS = ("status", "cancel")


def executor_module(name: str):
  """Returns the module of an executor, see `imgbench.launch`.

  Raises:
    InputError: an unknown name.
  """
  if name not in EXECUTORS:
    near = registry.near_names(name, EXECUTORS)
    raise errors.InputError("--executor", "a known name", name, near)
  return importlib.import_module(f"imgbench.launch.{name}.executor")


def define_flags(
  flag_values: flags.FlagValues, action: str = RUN, executor: str = "local"
) -> None:
  """Defines the flags of an action.

  Args:
    flag_values: where.
    action: RUN or one of ACTIONS.
    executor: whose flags are defined with them.
  """
  text = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  text("sweep_dir", None, "Folder of the sweep, with one folder for each run.")
  executor_module(executor).define_flags(flag_values)
  if action != RUN:
    return
  cli.define_config_flag(flag_values)
  text("sweep", "", "NAME of get_hyper_NAME in the config; empty: get_hyper.")
  text("executor", executor, f"Where runs go: {', '.join(EXECUTORS)}.")
  flags.DEFINE_bool(
    "dry_run",
    False,
    "Print the runs and their commands, and leave it at that.",
    flag_values=flag_values,
  )


def read_sweep(values: flags.FlagValues) -> units.Sweep:
  """Returns the sweep that the flags describe.

  Raises:
    InputError: see `points.build`; or the folder holds another sweep.
  """
  config_flag = values["config"]
  config = config_flag.config_filename
  overrides = config_flags.get_override_values(config_flag)
  sweep = points.build(
    config,
    points.load(config, values.sweep),
    values.sweep_dir,
    sweep=values.sweep,
    executor=values.executor,
    overrides={key: _plain(value) for key, value in overrides.items()},
  )
  return units.merged(sweep)


def _plain(value):
  return value.to_dict() if hasattr(value, "to_dict") else value


def show(sweep: units.Sweep) -> None:
  """Prints each unit and the command of its run."""
  for unit in sweep.units:
    print(f"{unit.name}: {units.status(unit).state}")
    print(f"  {shlex.join(sweep.command(unit))}")
  print(f"{len(sweep.units)} runs; nothing was started")


def start(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Starts what is not done; returns the exit code.

  Raises:
    InputError: what does not fit, before anything is started.
    RunError: files cannot be written, the scheduler does not answer.
    Preempted: stopped by a signal.
  """
  executor = executor_module(sweep.executor)
  executor.check(sweep, values)
  with locks.locked(sweep.sweep_dir):
    _check_executor(sweep)
    sweep = units.write(sweep)
    try:
      return executor.run(sweep, values)
    except KeyboardInterrupt:
      raise errors.Preempted("stopped; the same command resumes") from None
    except OSError as error:
      raise errors.RunError(
        f"{sweep.sweep_dir}: {error}; the same command resumes"
      ) from error


def _check_executor(sweep: units.Sweep) -> None:
  """Runs of another executor must have ended."""
  if not (sweep.sweep_dir / units.SWEEP).exists():
    return
  before = units.read(sweep.sweep_dir)
  if before.executor == sweep.executor:
    return
  busy = [unit.name for unit in before.units if _is_busy(unit)]
  if busy:
    raise errors.InputError(
      "--executor",
      f"{before.executor}, which runs {busy[0]} ({len(busy)} runs in all)",
      sweep.executor,
      "cancel them first",
    )


def _is_busy(unit: units.Unit) -> bool:
  """Whether its executor has it running, or in a scheduler's queue."""
  status = units.status(unit)
  if status.state == units.RUNNING:
    return bool(units.launch_facts(unit).get("state"))
  queued = status.state in (units.WAITING, units.PREEMPTED)
  return queued and bool(status.job)


def define_flags_for(flag_values: flags.FlagValues, argv: list[str]) -> None:
  """Defines the flags of the action and the executor of a command line."""
  action, argv = split_action(argv)
  try:
    define_flags(flag_values, action, _executor(argv, action))
  except (errors.InputError, flags.Error) as error:
    cli.fail(str(error), errors.EXIT_USAGE)


def split_action(argv: list[str]) -> tuple[str, list[str]]:
  """Returns the action of a command line, and the line without it."""
  if argv[1:2] and argv[1] in ACTIONS:
    return argv[1], [argv[0], *argv[2:]]
  return RUN, argv


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags of an action; returns [program, action]."""
  action, argv = split_action(argv)
  required = ("config", "sweep_dir") if action == RUN else ("sweep_dir",)
  return [*cli.parse_flags(argv, required=required), action]


def main(argv: list[str]) -> int:
  """Does what action and flags ask for; returns the exit code."""
  action = argv[1]
  values = flags.FLAGS
  cli.show_log()
  # The accelerators are for the runs.
  jax.config.update("jax_platforms", "cpu")
  if action == "status" or (action == RUN and values.dry_run):
    # A reader that has seen enough (head) ends the program without a word.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  with cli.one_line_errors():
    if action != RUN:
      sweep = units.read(values.sweep_dir)
      module = executor_module(sweep.executor)
      return getattr(module, action)(sweep, values)
    sweep = read_sweep(values)
    if values.dry_run:
      show(sweep)
      return errors.EXIT_DONE
    return start(sweep, values)


def _value_in(argv: list[str], name: str) -> str | None:
  """The last value of a flag, before flags are defined."""
  values = flags.FlagValues()
  flags.DEFINE_string(name, None, "", flag_values=values)
  values(argv, known_only=True)
  return values[name].value


def _executor(argv: list[str], action: str) -> str:
  """Whose flags are wanted: that of the flags, else of the sweep's folder."""
  if action == RUN:
    return _value_in(argv, "executor") or "local"
  sweep_dir = _value_in(argv, "sweep_dir")
  return units.read(sweep_dir).executor if sweep_dir else "local"


if __name__ == "__main__":
  commands.start("sweep")
