"""The status table of a sweep in the terminal, printed once or live."""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import shutil
import textwrap
from typing import TextIO

from imgbench import errors
from imgbench import paths
from imgbench import texts
from imgbench import timing
from imgbench.launch import units
from imgbench.tables import table

_EVERY_S = 1.0
_BUCKET_EVERY_S = 15.0  # every request costs
_TAIL_BYTES = 8192
# If not all units fit, those in the first of these states are shown.
_ORDER = (
  units.RUNNING,
  units.FAILED,
  units.DIVERGED,
  units.PREEMPTED,
  units.WAITING,
  units.DONE,
)


def format_table(
  sweep: units.Sweep, statuses: Mapping[str, units.Status] | None = None
) -> str:
  """Returns a line for each unit of a sweep, and one with counts.

  Args:
    sweep: the sweep.
    statuses: by unit name; None: read from the units' folders.
  """
  if statuses is None:
    statuses = {unit.name: units.read_status(unit) for unit in sweep.units}
  lines = _format_lines(
    {unit.name: statuses[unit.name] for unit in sweep.units}
  )
  return "\n".join([*lines, "", format_counts(statuses.values())])


def print_table(sweep: units.Sweep, prefix: str = "") -> int:
  """Prints the table; returns the exit code, 0 if all units are done.

  Args:
    sweep: the sweep.
    prefix: of each line.
  """
  statuses = {unit.name: units.read_status(unit) for unit in sweep.units}
  print(textwrap.indent(format_table(sweep, statuses), prefix))
  done = all(s.state == units.DONE for s in statuses.values())
  return errors.EXIT_DONE if done else errors.EXIT_FAILED


def format_counts(statuses: Iterable[units.Status]) -> str:
  """Returns e.g. "6 runs: 3 done, 2 failed, 1 diverged"."""
  counts = collections.Counter(status.state for status in statuses)
  parts = [f"{counts[s]} {s}" for s in reversed(_ORDER) if counts[s]]
  return f"{counts.total()} runs: {', '.join(parts)}"


def _format_lines(statuses: Mapping[str, units.Status]) -> list[str]:
  rows = list(statuses.items())
  return table.Table("", _COLUMNS, rows).without_empty().lines()


def format_time(status: units.Status) -> str:
  """Returns the time of the last attempt, e.g. "1:02:03"; "" if unknown."""
  if not status.started_at:
    return ""
  end = status.ended_at
  if not end and status.state != units.RUNNING:
    return ""  # The end was not recorded.
  seconds = units.seconds_between(status.started_at, end or units.now())
  minutes, seconds = divmod(max(0, round(seconds)), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02d}:{seconds:02d}"
  return f"{minutes}:{seconds:02d}"


def _format_steps(status: units.Status) -> str:
  return f"{status.step}/{status.total_steps}" if status.total_steps else ""


# Of rows (name, status); columns that are empty in every row are not shown.
_COLUMNS = (
  table.Column(0, "run"),
  table.Column(lambda row: row[1].state, "state"),
  table.Column(lambda row: _format_steps(row[1]), "step"),
  table.Column(lambda row: row[1].attempts or "", "tries"),
  table.Column(lambda row: format_time(row[1]), "time"),
  table.Column(lambda row: row[1].job, "job"),
  table.Column(lambda row: " ".join(row[1].message.split()), "message"),
)


class Board:
  """A live status table in a terminal; elsewhere a line for each change.

  Args:
    sweep: the sweep.
    stream: where to write.
  """

  def __init__(self, sweep: units.Sweep, stream: TextIO):
    self._sweep = sweep
    self._stream = stream
    self._live = stream.isatty()
    self._units = {unit.name: unit for unit in sweep.units}
    self._statuses = {n: units.read_status(u) for n, u in self._units.items()}
    self._drawn = 0  # lines on the screen
    self._next_s = 0.0

  @property
  def statuses(self) -> Mapping[str, units.Status]:
    """The last read status of each unit, by name."""
    return self._statuses

  def changed(self, unit: units.Unit) -> None:
    """Shows that a unit was started or has ended."""
    status = self._statuses[unit.name] = units.read_status(unit)
    if self._live:
      self._next_s = 0.0
      return
    took = f" in {format_time(status)}" if status.ended_at else ""
    line = f"{unit.name}: {status.state}{took}"
    line += f", try {status.attempts}" if status.attempts > 1 else ""
    message = " ".join(status.message.split())
    self.say(f"{line}: {message}" if message else line)

  def say(self, line: str) -> None:
    """Prints a line above the table."""
    self._erase()
    self._write(f"{texts.printable(line)}\n")
    self._next_s = 0.0

  def update(self) -> None:
    """Redraws the table if it is time to; called often."""
    if not self._live or timing.clock() < self._next_s:
      return
    for name, status in self._statuses.items():
      if status.state == units.RUNNING:
        self._statuses[name] = _read_live_status(self._units[name])
    self._draw()
    remote = paths.is_bucket(self._sweep.sweep_dir)
    self._next_s = timing.clock() + (_BUCKET_EVERY_S if remote else _EVERY_S)

  def close(self) -> None:
    """Prints the whole current table."""
    self._erase()
    self._write(f"{format_table(self._sweep)}\n")

  def _draw(self) -> None:
    columns, height = shutil.get_terminal_size()
    shown = _choose_rows(self._statuses, max(1, height - 4))
    lines = _format_lines(shown)
    if len(shown) < len(self._statuses):
      lines.append(f"and {len(self._statuses) - len(shown)} more")
    lines.append(format_counts(self._statuses.values()))
    self._erase()
    self._write("".join(f"{line[: columns - 1]}\n" for line in lines))
    self._drawn = len(lines)

  def _erase(self) -> None:
    if self._drawn:
      # Moves to the first line of the table and clears all below.
      self._write(f"\x1b[{self._drawn}F\x1b[J")
      self._drawn = 0

  def _write(self, shown: str) -> None:
    try:
      self._stream.write(shown)
      self._stream.flush()
    except OSError:  # The terminal is gone; the runs continue.
      self._live = False


def _choose_rows(
  statuses: Mapping[str, units.Status], limit: int
) -> dict[str, units.Status]:
  """Returns the `limit` most important ones (see _ORDER), in their order."""
  rank = lambda name: _ORDER.index(statuses[name].state)
  kept = set(sorted(statuses, key=rank)[:limit])
  return {name: s for name, s in statuses.items() if name in kept}


def _read_live_status(unit: units.Unit) -> units.Status:
  """Returns the status with the last logged step if it is later."""
  status = units.read_status(unit)
  step = _read_logged_step(unit)
  return dataclasses.replace(status, step=max(status.step, step))


def _read_logged_step(unit: units.Unit) -> int:
  path = pathlib.Path(os.fspath(unit.workdir)) / "metrics.jsonl"
  try:
    with path.open("rb") as file:
      file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
      lines = file.read().splitlines()
    return int(json.loads(lines[-1])["step"])
  except (OSError, LookupError, TypeError, RecursionError, ValueError):
    return 0  # Nothing is logged, or the line is incomplete.
