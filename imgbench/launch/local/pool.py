"""A pool of run processes, each in a slot of this machine."""

import collections
from collections.abc import Sequence
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any
from typing import BinaryIO

from imgbench import errors
from imgbench import interrupts
from imgbench import living
from imgbench import paths
from imgbench import timing
from imgbench.launch import board as board_lib
from imgbench.launch import units
from imgbench.launch.local import slots as slots_lib

# How long runs may take to save after their launcher has failed or is gone.
SAVE_S = 120.0
_POLL_S = 0.1
_READ_BYTES = 65536  # of a log's end


@dataclasses.dataclass
class _Running:
  unit: units.Unit
  slot: slots_lib.Slot
  process: subprocess.Popen
  log: "_Log"


class Pool:
  """Runs units in slots until all have ended or a signal comes.

  Args:
    sweep: the sweep of the units.
    slots: each takes one run at a time.
    retries: restarts of each failed unit.
    board: shows starts and ends.
  """

  def __init__(
    self,
    sweep: units.Sweep,
    slots: Sequence[slots_lib.Slot],
    retries: int,
    board: board_lib.Board,
  ):
    self._sweep = sweep
    self._free = list(slots)
    self._retries = retries
    self._board = board
    self._queue: collections.deque[units.Unit] = collections.deque()
    self._running: list[_Running] = []
    self._failures = collections.Counter()
    self._signals: list[str] = []
    self._handled = 0

  @property
  def stopped(self) -> bool:
    """Returns whether a signal came."""
    return bool(self._signals)

  def run(self, todo: Sequence[units.Unit]) -> None:
    """Runs the units; returns once all started runs have ended."""
    self._queue.extend(todo)
    with interrupts.caught(self._note_signal):
      try:
        while self._queue or self._running:
          self._handle_signals()
          self._start_some()
          self._reap()
          self._board.update()
          time.sleep(_POLL_S if self._running else 0)
      finally:
        self._end_all()

  def _note_signal(self, number: int, frame: Any) -> None:
    del frame
    # The end of a terminal may send SIGHUP twice.
    if number != signal.SIGHUP or not self._signals:
      self._signals.append(signal.Signals(number).name)

  def _handle_signals(self) -> None:
    """Handles new signals: the first stops the runs, the second kills them."""
    if len(self._signals) == self._handled:
      return
    first, self._handled = not self._handled, len(self._signals)
    self._queue.clear()
    for running in self._running:
      number = signal.SIGTERM if first else signal.SIGKILL
      running.process.send_signal(number)
    action = "save and stop; a second signal kills them"
    action = action if first else "are killed"
    self._board.say(f"{self._signals[-1]}: {len(self._running)} runs {action}")

  def _start_some(self) -> None:
    while self._queue and self._free and not self._signals:
      self._start(self._queue.popleft(), self._free.pop(0))

  def _start(self, unit: units.Unit, slot: slots_lib.Slot) -> None:
    launcher = living.describe_process(os.getpid())
    # Until the run has a process; `job` may be left from a scheduler.
    ours = dict(launcher=launcher, process=launcher, job="")
    units.record_start(unit, **ours, devices=slot.text())
    command = self._sweep.command(unit)
    cores = ",".join(map(str, slot.cores)) or "-"
    child = [sys.executable, "-m", "imgbench.launch.local.child"]
    log = _Log(unit, f"{units.now()} on {slot.text()}: {shlex.join(command)}")
    try:
      bound = [*child, str(os.getpid()), cores, *command]
      process = _spawn(bound, log.file, slot)
    except OSError as error:  # Out of processes or memory.
      log.close()
      units.record_end(unit, errors.EXIT_FAILED, f"not started: {error}")
      self._free.append(slot)
      self._board.changed(unit)
      return
    units.record(unit, process=living.describe_process(process.pid))
    self._running.append(_Running(unit, slot, process, log))
    self._board.changed(unit)

  def _reap(self) -> None:
    for running in list(self._running):
      if running.process.poll() is not None:
        self._running.remove(running)
        self._finish(running)

  def _finish(self, running: _Running) -> None:
    unit, code = running.unit, running.process.returncode
    message = units.describe_failure(code, running.log.close())
    state = units.record_end(unit, code, message)
    self._free.append(running.slot)
    again = state in (units.FAILED, units.PREEMPTED) and not self._signals
    again &= code != errors.EXIT_USAGE
    if again and self._failures[unit.name] < self._retries:
      self._failures[unit.name] += 1
      self._queue.append(unit)
    self._board.changed(unit)

  def _end_all(self) -> None:
    """Ends all runs, so that an error of the launcher leaves none."""
    for running in self._running:
      running.process.terminate()
    deadline = timing.clock() + SAVE_S
    for running in list(self._running):
      try:
        running.process.wait(max(0.0, deadline - timing.clock()))
      except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
    if self._running:
      self._signals.append("SIGTERM")  # No retries.
    self._reap()


def _spawn(command: Sequence[str], log: BinaryIO, slot: slots_lib.Slot):
  variables = {slots_lib.VISIBLE: ",".join(slot.gpus)} if slot.gpus else {}
  return subprocess.Popen(
    command,
    stdin=subprocess.DEVNULL,
    stdout=log,
    stderr=subprocess.STDOUT,
    env={**os.environ, **variables},
    # Ctrl-C in the terminal reaches only this process, which stops the runs.
    start_new_session=True,
  )


class _Log:
  """The log of an attempt, appended to log.txt in the unit's folder.

  Files in a bucket cannot be appended to; there it is written at the end.

  Args:
    unit: the unit.
    headline: first line of the attempt.
  """

  def __init__(self, unit: units.Unit, headline: str):
    self._path = unit.workdir / units.LOG
    self._remote = paths.is_bucket(self._path)
    self.file: BinaryIO = (
      tempfile.TemporaryFile()  # noqa: SIM115
      if self._remote
      else open(self._path, "a+b")  # noqa: SIM115
    )
    self.file.seek(0, os.SEEK_END)
    self.file.write(f"=== {headline}\n".encode())
    self.file.flush()
    self._begin = self.file.tell()

  def close(self) -> str:
    """Closes the log and returns the end of what the run wrote."""
    with self.file:
      end = self.file.seek(0, os.SEEK_END)
      self.file.seek(max(self._begin, end - _READ_BYTES))
      text = self.file.read().decode(errors="replace")
      if self._remote:
        self.file.seek(0)
        before = self._path.read_bytes() if self._path.exists() else b""
        self._path.write_bytes(before + self.file.read())
    return text
