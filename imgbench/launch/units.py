"""Sweeps, the status of their runs, and the files that store them.

`sweep.json` in the sweep's folder lists the work units. Each has its own
folder, the --workdir of its run, where the run writes `status.json` and the
executor `launch.json`, because a killed run cannot record its end.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import os
import re
import signal
import sys
from typing import Any
from typing import Literal

from imgbench import config_utils
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import texts
from imgbench import typed
from imgbench import writers
from imgbench.launch import locks

SWEEP = "sweep.json"
LAUNCH = "launch.json"
LOG = "log.txt"
_JOB = re.compile(r"(?:\w[\w-]*)?")  # of SLURM, or a TPU slice
_SHOWN = 6  # differences in an error
# A signal may come before the run has a handler and anything to save.
_STOPPED_CODES = (errors.EXIT_PREEMPTED, -signal.SIGTERM, -signal.SIGINT)

WAITING = "waiting"
RUNNING = run_files.RUNNING
DONE = run_files.DONE
FAILED = run_files.FAILED
DIVERGED = run_files.DIVERGED
PREEMPTED = run_files.PREEMPTED


_SWEEP_FIELDS = {
  "config": str,
  "sweep": str,
  "executor": str,
  "overrides": Mapping[str, Any],
  "base": Mapping[str, Any],
  "units": Sequence[Mapping[str, Any]],
}
_UNIT_FIELDS = {"name": str, "overrides": Mapping[str, Any]}
_LAUNCH_FIELDS = {
  "state": Literal[WAITING, RUNNING, DONE, FAILED, DIVERGED, PREEMPTED],
  "attempts": int,
  "other_attempts": int,
  "started_at": str,
  "ended_at": str,
  "exit_code": int | None,
  "message": str,
  "job": str,
}


@dataclasses.dataclass(frozen=True)
class Unit:
  """One run of a sweep.

  Attributes:
    name: built from its overrides; stable and safe as a file name.
    overrides: dotted config key, without "config.", -> value.
    workdir: of the run.
  """

  name: str
  overrides: Mapping[str, Any]
  workdir: paths.Folder


@dataclasses.dataclass(frozen=True)
class Sweep:
  """The runs of one config, built by `points.build`.

  Attributes:
    sweep_dir: folder of the sweep, with a folder for each unit.
    config: file, with options after a colon.
    sweep: NAME of `get_hyper_NAME` in the config file; "": `get_hyper`.
    units: in the order of the points.
    executor: "local", "slurm" or "tpu".
    overrides: dotted config key -> value, the same for all units.
    base: the config with these, as of `config_utils.to_dict`.
    flags: of each run, beside overrides; not in sweep.json.
  """

  sweep_dir: paths.Folder
  config: str
  sweep: str
  units: tuple[Unit, ...]
  executor: str = "local"
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  flags: tuple[str, ...] = ()

  def command(self, unit: Unit, python: str = sys.executable) -> list[str]:
    """Returns the command line of a unit's run."""
    return [
      *(python, "-m", "imgbench.main", f"--config={self.config}"),
      f"--workdir={unit.workdir}",
      *self.flags,
      *format_overrides({**self.overrides, **unit.overrides}),
    ]


def format_overrides(overrides: Mapping[str, Any]) -> list[str]:
  """Returns overrides as flags: --config.key=value."""
  return [f"--config.{key}={value}" for key, value in overrides.items()]


def write(sweep: Sweep) -> Sweep:
  """Writes sweep.json; the sweep may be written again and may grow.

  Returns:
    The sweep; units of an earlier file come first, in their old order.

  Raises:
    InputError: the folder has another sweep or cannot be written.
  """
  sweep = merge(sweep)
  try:
    sweep.sweep_dir.mkdir(parents=True, exist_ok=True)
    writers.write_json(sweep.sweep_dir / SWEEP, to_json(sweep))
  except OSError as error:
    raise locks.unwritable(sweep.sweep_dir, error) from error
  return sweep


def merge(sweep: Sweep) -> Sweep:
  """Returns what `write` would return, with the same errors."""
  old = _read(sweep.sweep_dir)
  if old is None:
    return sweep
  differences = _find_differences(old, sweep)
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


def _find_differences(old: Sweep, new: Sweep) -> list[str]:
  """Returns how two sweeps differ, e.g. "--sweep: lr -> width"."""
  # Here, as it imports all models.
  from imgbench import config as config_lib

  lines = [
    f"--{name}: {before or '(none)'} -> {after or '(none)'}"
    for name, before, after in (
      ("config", old.config, new.config),
      ("sweep", old.sweep, new.sweep),
    )
    if before != after
  ]
  lines += config_utils.frozen_differences(
    old.base, new.base, config_lib.find_defaults
  )
  before, after = (
    {**config_lib.find_defaults(base), **config_utils.flatten(base)}
    for base in (old.base, new.base)
  )
  # A run may resume with these changed, but finished runs would not have them.
  lines += [
    f"{key}: {before.get(key)} -> {after.get(key)}"
    for key in sorted(before.keys() | after.keys())
    if key.startswith(("steps.", "evaluation."))
    and before.get(key) != after.get(key)
  ]
  kept = {unit.name for unit in new.units}
  lines += [f"no point {u.name}" for u in old.units if u.name not in kept]
  return lines[:_SHOWN] + [f"{len(lines) - _SHOWN} more"] * (
    len(lines) > _SHOWN
  )


def read(sweep_dir: str | os.PathLike) -> Sweep:
  """Returns the sweep of a folder.

  Raises:
    InputError: there is none.
  """
  sweep = _read(paths.as_path(sweep_dir, "--sweep_dir"))
  if sweep is None:
    expected = f"the folder of a sweep, with {SWEEP}"
    raise errors.InputError("--sweep_dir", expected, os.fspath(sweep_dir))
  return sweep


def to_json(sweep: Sweep) -> dict[str, Any]:
  """Returns the contents of sweep.json."""
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
  path = paths.reach(sweep_dir, "--sweep_dir") / SWEEP
  found = run_files.read_object(path, _SWEEP_FIELDS, tuple(_SWEEP_FIELDS))
  if found is None:
    return None
  for number, unit in enumerate(found["units"]):
    with config_utils.prefix_errors(f"{path}: units[{number}]."):
      typed.check_fields(_UNIT_FIELDS, unit, tuple(_UNIT_FIELDS))
      _check_name(unit["name"])
  names = [unit["name"] for unit in found["units"]]
  if len(set(names)) < len(names):
    raise errors.InputError(f"{path}: units", "different names", names)
  return Sweep(
    sweep_dir=sweep_dir,
    config=found["config"],
    sweep=found["sweep"],
    executor=found["executor"],
    overrides=_to_tuples(found["overrides"]),
    base=found["base"],
    units=tuple(
      Unit(
        unit["name"], _to_tuples(unit["overrides"]), sweep_dir / unit["name"]
      )
      for unit in found["units"]
    ),
  )


def _check_name(name: str) -> None:
  """Raises InputError unless a name is that of a folder in another one."""
  raw = texts.printable(name) != name
  if raw or "/" in name or name[:1] in ("", ".") or len(name) > 255:
    raise errors.InputError("name", "the name of a folder", typed.show(name))


def _to_tuples(value: Any) -> Any:
  """Returns a JSON value with lists as tuples."""
  if isinstance(value, Mapping):
    return {name: _to_tuples(v) for name, v in value.items()}
  return tuple(map(_to_tuples, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True)
class Status:
  """The status of a unit.

  Attributes:
    state: WAITING, RUNNING, DONE, FAILED, DIVERGED or PREEMPTED.
    step: steps done at the last checkpoint.
    total_steps: of the run; 0 if it never began.
    attempts: number of starts.
    started_at: time of the last start, as of `now`, or "".
    ended_at: time of its end; "" while it runs.
    exit_code: of the last attempt that ended; minus a signal's number; None if
      unknown.
    message: why it failed or waits, or "".
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


def read_status(unit: Unit) -> Status:
  """Returns the status of a unit from launch.json and the run's status.json.

  A run that says it is done is done. Before that, the executor knows better: a
  killed run still says that it is running.
  """
  reported = run_files.read_status(unit.workdir)
  launch = read_launch(unit)
  state = launch.get("state") or reported.get("state", WAITING)
  message = launch.get("message", reported.get("message", ""))
  if reported.get("state") == DONE:
    state, message = DONE, ""
  elif state == RUNNING and not launch.get("state"):
    message = "not started by a launcher; may have ended"
  elif state == RUNNING and not _is_alive(launch):
    state, message = _infer_end(reported)
  return Status(
    state=state,
    step=reported.get("step", 0),
    total_steps=reported.get("total_steps", 0),
    attempts=launch.get("attempts", 0),
    started_at=launch.get("started_at", ""),
    ended_at=launch.get("ended_at", ""),
    exit_code=launch.get("exit_code"),
    message=message,
    job=launch.get("job", ""),
  )


def _is_alive(launch: Mapping[str, Any]) -> bool:
  """Returns whether a run, or a launcher to record its end, may be alive."""
  known = [launch[name] for name in ("process", "launcher") if name in launch]
  return not known or any(map(locks.is_alive, known))


def _infer_end(reported: Mapping[str, Any]) -> tuple[str, str]:
  """Returns state and message of a run whose end was not recorded."""
  state = reported.get("state")
  if state == PREEMPTED:
    return PREEMPTED, "stopped with its launcher"
  if state in (FAILED, DIVERGED):
    return state, reported.get("message", "")
  return FAILED, "its process and its launcher are gone"


def read_launch(unit: Unit) -> dict[str, Any]:
  """Returns what `record` has written for a unit, or {}.

  Raises:
    InputError: the file was written by something else.
  """
  path = unit.workdir / LAUNCH
  found = run_files.read_object(path, _LAUNCH_FIELDS) or {}
  for name in ("process", "launcher"):
    if found.get(name) is not None:
      locks.check_process(f"{path}: {name}", found[name])
  for name in ("started_at", "ended_at"):
    if found.get(name) and not is_time(found[name]):
      expected = "a time with its zone in ISO 8601"
      raise errors.InputError(f"{path}: {name}", expected, found[name])
  if not _JOB.fullmatch(found.get("job", "")):
    raise errors.InputError(f"{path}: job", "the id of a job", found["job"])
  return found


def is_time(text: str) -> bool:
  """Returns whether a text is a time as of `now`."""
  try:
    return datetime.datetime.fromisoformat(text).tzinfo is not None
  except ValueError:
    return False


def record(unit: Unit, **facts) -> None:
  """Adds facts to a unit's launch.json; one process at a time may do so.

  Args:
    unit: its folder is created.
    **facts: of `Status`: state, attempts, started_at, ended_at, exit_code,
      message, job; process and launcher, as of `living.describe_process`, which
      `read_status` checks for life; and what else the executor needs.
  """
  unit.workdir.mkdir(parents=True, exist_ok=True)
  writers.write_json(unit.workdir / LAUNCH, {**read_launch(unit), **facts})


def record_start(unit: Unit, **facts) -> None:
  """Records another start of a unit, see `record`."""
  attempts = read_launch(unit).get("attempts", 0) + 1
  started = dict(state=RUNNING, attempts=attempts, started_at=now())
  ended = dict(ended_at="", exit_code=None, message="")
  record(unit, **{**started, **ended, **facts})


def record_end(unit: Unit, exit_code: int, message: str = "") -> str:
  """Records the end of a unit's run and returns its state.

  Args:
    unit: started by `record_start`.
    exit_code: of the run; minus a signal's number.
    message: why the run failed, see `describe_failure`.
  """
  reported = run_files.read_status(unit.workdir)
  state = FAILED
  if reported.get("state") == DONE:
    state, message = DONE, ""  # Whatever happened afterwards.
  elif exit_code in _STOPPED_CODES:
    state = PREEMPTED
  elif exit_code == errors.EXIT_FAILED and reported.get("state") == DIVERGED:
    state = DIVERGED
  record(
    unit, state=state, ended_at=now(), exit_code=exit_code, message=message
  )
  return state


def find_pending(sweep: Sweep) -> list[Unit]:
  """Returns the units that a start of the sweep has to run.

  Left out are those that are done, running, or diverged: from the same
  checkpoint they would diverge again, bit for bit. A run that says it is
  running but was started by no executor may have been killed; it is included,
  and if it is alive, the lock on its folder keeps a second run out.
  """
  return [unit for unit in sweep.units if _is_due(unit)]


def _is_due(unit: Unit) -> bool:
  state = read_status(unit).state
  if state == RUNNING:
    return not read_launch(unit).get("state")
  return state not in (DONE, DIVERGED)


def find_last_error(log: str) -> str:
  """Returns the last error in a run's log, or ""."""
  for line in reversed(log.splitlines()):
    _, found, text = line.partition("imgbench: error: ")
    if found:
      return text.strip()
  return ""


def describe_failure(code: int, log: str) -> str:
  """Returns why a run failed, from its exit code and log; "" if it did not."""
  if code in (errors.EXIT_DONE, errors.EXIT_PREEMPTED):
    return ""
  signals = {-number: number.name for number in signal.Signals}
  if code in signals:
    hint = ", perhaps out of memory" if code == -signal.SIGKILL else ""
    return f"ended by {signals[code]}{hint}"
  last = log.strip().splitlines()[-1:] or [f"ended with code {code}"]
  return find_last_error(log) or last[0].strip()


def now() -> str:
  """Returns the UTC time in ISO 8601, to the millisecond."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def seconds_between(start: str, end: str) -> float:
  """Returns the seconds between two times of `now`."""
  parse = datetime.datetime.fromisoformat
  return (parse(end) - parse(start)).total_seconds()
