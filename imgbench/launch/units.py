"""What a sweep is, how its runs stand, and the files that say so.

`sweep.json` in the sweep's folder names the work units, each with a folder of
its own, which is the --workdir of its run. There the run writes `status.json`
and the executor `launch.json`: a run that was killed cannot say so itself.
"""

from collections.abc import Mapping
import dataclasses
import datetime
import os
import signal
import sys
from typing import Any

from imgbench import config_utils
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import writers
from imgbench.launch import locks

SWEEP = "sweep.json"
LAUNCH = "launch.json"
LOG = "log.txt"
_SHOWN = 6  # differences in an error
# A signal may come before the run has a handler, with nothing to save.
_STOPPED_CODES = (errors.EXIT_PREEMPTED, -signal.SIGTERM, -signal.SIGINT)

WAITING = "waiting"
RUNNING = run_files.RUNNING
DONE = run_files.DONE
FAILED = run_files.FAILED
DIVERGED = run_files.DIVERGED
PREEMPTED = run_files.PREEMPTED


@dataclasses.dataclass(frozen=True)
class Unit:
  """One run of a sweep.

  Attributes:
    name: made of its overrides: stable, and safe for a file system.
    overrides: dotted config key, without "config.", -> value.
    workdir: of the run.
  """

  name: str
  overrides: Mapping[str, Any]
  workdir: paths.Folder


@dataclasses.dataclass(frozen=True)
class Sweep:
  """The runs of one config; `points.build` makes and checks it.

  Attributes:
    sweep_dir: folder of the sweep; each unit has a folder in it.
    config: file, and options behind a colon.
    sweep: which `get_hyper_NAME` of the config file; "": `get_hyper`.
    units: in the order of the points.
    executor: "local", "slurm" or "tpu".
    overrides: dotted config key -> value, the same for all units.
    base: the config with these, as of `config_utils.to_dict`.
  """

  sweep_dir: paths.Folder
  config: str
  sweep: str
  units: tuple[Unit, ...]
  executor: str = "local"
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  base: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def command(self, unit: Unit, python: str = sys.executable) -> list[str]:
    """Returns the command line of a unit's run.

    Args:
      unit: of this sweep.
      python: the interpreter.
    """
    return [
      *(python, "-m", "imgbench.main", f"--config={self.config}"),
      f"--workdir={unit.workdir}",
      *override_flags({**self.overrides, **unit.overrides}),
    ]


def override_flags(overrides: Mapping[str, Any]) -> list[str]:
  """Returns overrides as a command line has them: --config.key=value."""
  return [f"--config.{key}={value}" for key, value in overrides.items()]


# sweep.json.


def write(sweep: Sweep) -> Sweep:
  """Writes sweep.json; the same sweep may be written again, and may grow.

  Returns:
    The sweep with the units that were there first, in their old order.

  Raises:
    InputError: the folder holds another sweep, or cannot be written.
  """
  sweep = merged(sweep)
  try:
    sweep.sweep_dir.mkdir(parents=True, exist_ok=True)
    writers.write_json(sweep.sweep_dir / SWEEP, _as_json(sweep))
  except OSError as error:
    raise locks.unwritable(sweep.sweep_dir, error) from error
  return sweep


def merged(sweep: Sweep) -> Sweep:
  """Returns the sweep as `write` would, which raises the same InputErrors."""
  old = _read(sweep.sweep_dir)
  if old is None:
    return sweep
  differences = _differences(old, sweep)
  if differences:
    raise errors.InputError(
      "--sweep_dir",
      "a new folder or the same sweep",
      f"{sweep.sweep_dir}, which holds another ({'; '.join(differences)})",
      "give another --sweep_dir or the old values",
    )
  named = {unit.name: unit for unit in sweep.units}
  known = {unit.name for unit in old.units}
  units = [named[unit.name] for unit in old.units]
  units += [unit for unit in sweep.units if unit.name not in known]
  return dataclasses.replace(sweep, units=tuple(units))


def _differences(old: Sweep, new: Sweep) -> list[str]:
  """What makes two sweeps two; e.g. "--sweep: lr -> width"."""
  lines = [
    f"--{name}: {before or '(none)'} -> {after or '(none)'}"
    for name, before, after in (
      ("config", old.config, new.config),
      ("sweep", old.sweep, new.sweep),
    )
    if before != after
  ]
  lines += config_utils.frozen_differences(old.base, new.base)
  # A run may go on with these changed; those that are done would lack it.
  for section in ("steps", "evaluation"):
    before = config_utils.flatten(old.base.get(section, {}))
    after = config_utils.flatten(new.base.get(section, {}))
    lines += [
      f"{section}.{key}: {before.get(key)} -> {after.get(key)}"
      for key in sorted(before.keys() | after.keys())
      if before.get(key) != after.get(key)
    ]
  kept = {unit.name for unit in new.units}
  lines += [f"no point {u.name}" for u in old.units if u.name not in kept]
  return lines[:_SHOWN] + [f"{len(lines) - _SHOWN} more"] * (
    len(lines) > _SHOWN
  )


def read(sweep_dir: str | os.PathLike) -> Sweep:
  """Returns the sweep that a folder holds.

  Raises:
    InputError: there is none.
  """
  sweep = _read(paths.as_path(sweep_dir))
  if sweep is None:
    expected = f"the folder of a sweep, with {SWEEP}"
    raise errors.InputError("--sweep_dir", expected, os.fspath(sweep_dir))
  return sweep


def _as_json(sweep: Sweep) -> dict[str, Any]:
  return {
    "config": sweep.config,
    "sweep": sweep.sweep,
    "executor": sweep.executor,
    "overrides": dict(sweep.overrides),
    "base": dict(sweep.base),
    "units": [
      {"name": unit.name, "overrides": dict(unit.overrides)}
      for unit in sweep.units
    ],
  }


def _read(sweep_dir: paths.Folder) -> Sweep | None:
  path = sweep_dir / SWEEP
  found = run_files.read_json(path)
  if found is None:
    return None
  try:
    return Sweep(
      sweep_dir=sweep_dir,
      config=found["config"],
      sweep=found["sweep"],
      executor=found["executor"],
      overrides=_tuples(found["overrides"]),
      base=found["base"],
      units=tuple(
        Unit(unit["name"], _tuples(unit["overrides"]), sweep_dir / unit["name"])
        for unit in found["units"]
      ),
    )
  except (KeyError, TypeError) as error:
    expected = "a file that imgbench.launch wrote"
    raise errors.InputError(path, expected, f"one without {error}") from error


def _tuples(value: Any) -> Any:
  """JSON's lists as the tuples they were."""
  if isinstance(value, Mapping):
    return {name: _tuples(v) for name, v in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


# How a unit stands.


@dataclasses.dataclass(frozen=True)
class Status:
  """How a unit stands.

  Attributes:
    state: WAITING, RUNNING, DONE, FAILED, DIVERGED or PREEMPTED.
    step: steps done at the last checkpoint.
    total_steps: of the run; 0 where it never began.
    attempts: how often it was started.
    started_at: the last of them, as `now` gives it; "" if there was none.
    ended_at: of the same; "" while it runs.
    exit_code: of the last attempt that ended; minus a signal's number; None
      where it is not known.
    message: why it did not end well; "" else.
    job: the scheduler's id, or "".
  """

  state: str = WAITING
  step: int = 0
  total_steps: int = 0
  attempts: int = 0
  started_at: str = ""
  ended_at: str = ""
  exit_code: int | None = None
  message: str = ""
  job: str = ""


def status(unit: Unit) -> Status:
  """Returns how a unit stands, by launch.json and the run's status.json.

  Once a run says that it is done, it is. Before, the executor knows: a run
  that was killed still says that it runs.
  """
  said = run_files.read_json(unit.workdir / run_files.STATUS) or {}
  launch = launch_facts(unit)
  state = launch.get("state") or said.get("state", WAITING)
  message = launch.get("message", said.get("message", ""))
  if said.get("state") == DONE:
    state, message = DONE, ""
  elif state == RUNNING and not launch.get("state"):
    message = "started by no launcher, it may have ended"
  elif state == RUNNING and not _is_alive(launch):
    state, message = _left(said)
  return Status(
    state=state,
    step=said.get("step", 0),
    total_steps=said.get("total_steps", 0),
    attempts=launch.get("attempts", 0),
    started_at=launch.get("started_at", ""),
    ended_at=launch.get("ended_at", ""),
    exit_code=launch.get("exit_code"),
    message=message,
    job=launch.get("job", ""),
  )


def _is_alive(launch: Mapping[str, Any]) -> bool:
  """Whether a run goes on, or there is one to record that it has ended."""
  known = [launch[name] for name in ("process", "launcher") if name in launch]
  return not known or any(map(locks.is_alive, known))


def _left(said: Mapping[str, Any]) -> tuple[str, str]:
  """State and message of a run that ended when no executor looked."""
  state = said.get("state")
  if state == PREEMPTED:
    return PREEMPTED, "stopped with its launcher"
  if state in (FAILED, DIVERGED):
    return state, said.get("message", "")
  return FAILED, "its process is gone, and so is its launcher"


def launch_facts(unit: Unit) -> dict[str, Any]:
  """Returns what `record` has written of a unit; empty: nothing."""
  return run_files.read_json(unit.workdir / LAUNCH) or {}


def record(unit: Unit, **facts) -> None:
  """Adds facts to a unit's launch.json; one process at a time does so.

  Args:
    unit: its folder is made.
    **facts: of `Status`: state, attempts, started_at, ended_at, exit_code,
      message, job; process and launcher, as of `locks.process_facts`, for
      `status` to look whether it still runs; and what else the executor has
      to know.
  """
  unit.workdir.mkdir(parents=True, exist_ok=True)
  writers.write_json(unit.workdir / LAUNCH, {**launch_facts(unit), **facts})


def record_start(unit: Unit, **facts) -> None:
  """Records that a unit is started once more, see `record`."""
  attempts = launch_facts(unit).get("attempts", 0) + 1
  started = dict(state=RUNNING, attempts=attempts, started_at=now())
  ended = dict(ended_at="", exit_code=None, message="")
  record(unit, **{**started, **ended, **facts})


def record_end(unit: Unit, exit_code: int, message: str = "") -> str:
  """Records that a unit's run has ended, and returns the state it is in.

  Args:
    unit: started by `record_start`.
    exit_code: of the run; minus a signal's number.
    message: what a failed run said, see `last_error`.
  """
  said = run_files.read_json(unit.workdir / run_files.STATUS) or {}
  state = FAILED
  if said.get("state") == DONE:
    state, message = DONE, ""  # Whatever befell it then.
  elif exit_code in _STOPPED_CODES:
    state = PREEMPTED
  elif exit_code == errors.EXIT_FAILED and said.get("state") == DIVERGED:
    state = DIVERGED
  record(
    unit, state=state, ended_at=now(), exit_code=exit_code, message=message
  )
  return state


def pending(sweep: Sweep) -> list[Unit]:
  """Returns the units that a start of the sweep has to run.

  Not those that are done, nor those that run; and not those that diverged:
  from the same checkpoint they would do so again, bit for bit. A run that says
  that it runs, but that no executor knows of, may have been killed: it is due,
  and should it live, the lock on its folder keeps a second one out.
  """
  return [unit for unit in sweep.units if _is_due(unit)]


def _is_due(unit: Unit) -> bool:
  state = status(unit).state
  if state == RUNNING:
    return not launch_facts(unit).get("state")
  return state not in (DONE, DIVERGED)


def last_error(log: str) -> str:
  """Returns the error that a run's log ends with; "" if it has none."""
  for line in reversed(log.splitlines()):
    _, found, text = line.partition("imgbench: error: ")
    if found:
      return text.strip()
  return ""


def now() -> str:
  """Returns the time, UTC, as ISO 8601 has it, to the millisecond."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def seconds_between(start: str, end: str) -> float:
  """Returns the seconds between two times of `now`."""
  parse = datetime.datetime.fromisoformat
  return (parse(end) - parse(start)).total_seconds()
