"""Runs a sweep on this machine, a SLURM cluster or TPU pods.

imgbench sweep --config=configs/scenes.py --sweep=random \\
    --executor=local --sweep_dir=runs/random

The config file defines the points, see imgbench/launch/hyper.py; --dry_run
prints them with their commands, --smoke times a few steps of the first. After a
stop or a failure, the same command resumes the unfinished runs.
--config.section.key=value overrides a value for all points. --help
--executor=NAME shows the flags of another executor.

imgbench sweep status --sweep_dir=runs/random
imgbench sweep cancel --sweep_dir=runs/random

print the status of the runs, and stop them. Exit codes: 0 all are done, 1 some
are not, 2 bad input, 75 stopped. The code is also 0 after --dry_run, once all
runs are submitted to SLURM or their TPU commands printed, and after a cancel
that stopped all runs.
"""

import functools
import importlib
import shlex

from absl import flags
import jax
from ml_collections import config_flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import registry
from imgbench import texts
from imgbench.launch import locks
from imgbench.launch import points
from imgbench.launch import smoke
from imgbench.launch import units

EXECUTORS = ("local", "slurm", "tpu")
RUN = "run"
ACTIONS = ("status", "cancel")


def load_executor(name: str):
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
  """Defines the flags of an action (RUN or one of ACTIONS) and an executor."""
  text = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  text("sweep_dir", None, "Folder of the sweep, with a folder for each run.")
  load_executor(executor).define_flags(flag_values)
  if action != RUN:
    return
  cli.define_config_flag(flag_values)
  text("sweep", "", "NAME of get_hyper_NAME in the config; empty: get_hyper.")
  text("executor", executor, f"Where to run: {', '.join(EXECUTORS)}.")
  flags.DEFINE_bool(
    "dry_run",
    False,
    "Only print the runs and their commands, and SLURM's batch script.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "smoke",
    False,
    "Only run a few steps of the first point, in the folder smoke/, and print"
    " the time per step and an estimate for the sweep.",
    flag_values=flag_values,
  )


def read_sweep(values: flags.FlagValues) -> units.Sweep:
  """Returns the sweep that the flags describe.

  Raises:
    InputError: see `points.build`; or the folder has another sweep.
  """
  config_flag = values["config"]
  config = cli.find_config_file(config_flag.config_filename)
  overrides = config_flags.get_override_values(config_flag)
  sweep = points.build(
    config,
    points.load(config, values.sweep),
    values.sweep_dir,
    sweep=values.sweep,
    executor=values.executor,
    overrides={key: _plain(value) for key, value in overrides.items()},
  )
  if _is_offline(sweep, values):
    return sweep
  paths.check_writable(sweep.sweep_dir, "--sweep_dir")
  return units.merge(sweep)


def _is_offline(sweep: units.Sweep, values: flags.FlagValues) -> bool:
  """Returns whether the executor only prints and asks no bucket."""
  check = getattr(load_executor(sweep.executor), "is_offline", None)
  return check is not None and not values.dry_run and check(sweep, values)


def _plain(value):
  return value.to_dict() if hasattr(value, "to_dict") else value


def show(sweep: units.Sweep) -> None:
  """Prints each unit with its state and command."""
  for unit in sweep.units:
    print(f"{unit.name}: {units.read_status(unit).state}")
    print(texts.printable(f"  {shlex.join(sweep.command(unit))}"))
  print(f"{len(sweep.units)} runs; none was started")


def start(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Starts the unfinished runs; returns the exit code.

  Raises:
    InputError: bad flags or sweep; nothing is started.
    RunError: a file cannot be written, or the scheduler does not answer.
    Preempted: stopped by a signal.
  """
  executor = load_executor(sweep.executor)
  executor.check(sweep, values)
  if _is_offline(sweep, values):
    return executor.run(sweep, values)
  with locks.locked(sweep.sweep_dir):
    _check_executor(sweep)
    sweep = units.write(sweep)
    try:
      code = executor.run(sweep, values)
      if values.smoke and hasattr(executor, "wait"):
        executor.wait(sweep)
      return code
    except KeyboardInterrupt:
      raise errors.Preempted("stopped; the same command resumes") from None
    except OSError as error:
      raise errors.RunError(
        f"{sweep.sweep_dir}: {error}; the same command resumes"
      ) from error


def _check_executor(sweep: units.Sweep) -> None:
  """Raises InputError if runs of another executor have not ended."""
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
  """Returns whether an executor runs the unit or has it in a queue."""
  status = units.read_status(unit)
  if status.state == units.RUNNING:
    return bool(units.read_launch(unit).get("state"))
  queued = status.state in (units.WAITING, units.PREEMPTED)
  return queued and bool(status.job)


def define_flags_for(flag_values: flags.FlagValues, argv: list[str]) -> None:
  """Defines the flags of the action and the executor of a command line."""
  action, argv = split_action(argv)
  define_flags(flag_values, action, _choose_executor(argv, action))


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
  """Runs the action; returns the exit code."""
  action = argv[1]
  values = flags.FLAGS
  cli.show_log()
  # Leave the accelerators to the runs.
  jax.config.update("jax_platforms", "cpu")
  if action != RUN:
    sweep = units.read(values.sweep_dir)
    module = load_executor(sweep.executor)
    return getattr(module, action)(sweep, values)
  sweep = read_sweep(values)
  chosen = smoke.build(sweep) if values.smoke else sweep
  if values.dry_run:
    show(chosen)
    preview = getattr(load_executor(sweep.executor), "preview", None)
    if preview is not None:
      preview(chosen, values)
    return errors.EXIT_DONE
  code = start(chosen, values)
  if values.smoke and not _is_offline(chosen, values):
    return smoke.report(chosen, len(sweep.units), values)
  return code


def _choose_executor(argv: list[str], action: str) -> str:
  """Returns the executor of the flags, or of the sweep's folder."""
  if action == RUN:
    return cli.peek(argv, "executor").executor or "local"
  sweep_dir = cli.peek(argv, "sweep_dir").sweep_dir
  return units.read(sweep_dir).executor if sweep_dir else "local"


if __name__ == "__main__":
  commands.start("sweep")
