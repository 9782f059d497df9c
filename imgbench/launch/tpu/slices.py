"""TPU slices that run the units of a sweep one after another.

A preempted slice is requested again, and its unit resumes from its last
checkpoint. The launcher sees only the exit codes of commands, so for a run that
ended without an error it checks the state of the slice.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import signal
import subprocess
import threading

from absl import logging

from imgbench import errors
from imgbench import interrupts
from imgbench import living
from imgbench import run_files
from imgbench import writers
from imgbench.launch import units
from imgbench.launch.tpu import commands

ACTIVE = "ACTIVE"
_READY = "READY"
_GONE = ("SUSPENDED", "SUSPENDING")
_NODE_GONE = ("PREEMPTED", "TERMINATED")
_TERMINATED = 128 + signal.SIGTERM  # exit code of a shell
_STOP_S = 5.0
_PATIENCE = 20  # queries of Google Cloud before giving up
_LINES = 3  # of a failed command's output in an error


class UnitQueue:
  """A queue of units to run, shared by threads."""

  def __init__(self, todo: Iterable[units.Unit]):
    self._units = collections.deque(todo)
    self._lock = threading.Lock()

  def take(self) -> units.Unit | None:
    with self._lock:
      return self._units.popleft() if self._units else None

  def put_back(self, unit: units.Unit) -> None:
    with self._lock:
      self._units.appendleft(unit)


class Stop:
  """Notes a signal that came within its `signals` context.

  The second signal ends the program at once and leaves slices as they are.
  """

  def __init__(self):
    self._requested = threading.Event()

  @property
  def requested(self) -> bool:
    return self._requested.is_set()

  def wait(self, seconds: float) -> bool:
    """Waits until a signal or the time limit; returns whether one has come."""
    return self._requested.wait(seconds)

  @contextlib.contextmanager
  def signals(self) -> Iterator[None]:

    def handle(number, _):
      if self.requested:
        return  # SIGHUP again.
      interrupts.write_line(
        f"{signal.Signals(number).name}: runs save, slices are deleted; a"
        " second signal leaves both as they are"
      )
      self._requested.set()
      interrupts.end_at_next(before)

    with interrupts.caught(handle) as before:
      yield


@dataclasses.dataclass(frozen=True)
class CommandResult:
  """Exit code and output of a command.

  Attributes:
    code: exit code.
    text: standard output; with standard error unless that is in `errors`.
    errors: standard error, or "".
  """

  code: int
  text: str
  errors: str = ""

  @property
  def is_unknown(self) -> bool:
    """Returns whether Google Cloud has nothing of the requested name."""
    return bool(self.code) and "NOT_FOUND" in self.text + self.errors


def run_command(command: commands.Argv, apart: bool = False) -> CommandResult:
  """Runs a command that Ctrl-C in this terminal does not reach.

  Args:
    command: program and arguments.
    apart: whether standard error is kept out of `CommandResult.text`.
  """
  done = subprocess.run(
    command,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE if apart else subprocess.STDOUT,
    text=True,
    errors="replace",
    start_new_session=True,
    check=False,
    encoding="utf-8",
  )
  return CommandResult(done.returncode, done.stdout, done.stderr or "")


def run_or_raise(
  command: commands.Argv, prefix: str, unknown: bool = False
) -> CommandResult:
  """Runs a command and checks its exit code.

  Args:
    command: as of `run_command`.
    prefix: the beginning of an error.
    unknown: whether its target may be missing.

  Raises:
    RunError: the command fails.
  """
  ended = run_command(command, apart=True)
  if ended.code and not (unknown and ended.is_unknown):
    last = f"{ended.text}\n{ended.errors}".strip().splitlines()[-_LINES:]
    raise errors.RunError(
      f"{prefix} ended with code {ended.code}: {' / '.join(last)}"
    )
  return ended


def read_state(spec: commands.SliceSpec, name: str) -> str:
  """Returns the state of a request for a slice; "" if there is none.

  Raises:
    RunError: Google Cloud does not return it.
  """
  ended = run_or_raise(spec.state(name), f"{name}: describe", unknown=True)
  return "" if ended.code else ended.text.strip()


class Slice:
  """One slice, used by one thread.

  Args:
    name: of the request and of the node.
    spec: location and type.
    sweep: the sweep; its config is a path in the copied code.
    archive: file with the code.
    stop: whether to stop.
    retries: restarts of a unit that ended without an error.
    poll_s: seconds between two queries of the state.
  """

  def __init__(
    self,
    name: str,
    spec: commands.SliceSpec,
    sweep: units.Sweep,
    archive: str,
    stop: Stop,
    *,
    retries: int,
    poll_s: float,
  ):
    self.name = name
    self._spec = spec
    self._sweep = sweep
    self._archive = archive
    self._stop = stop
    self._retries = retries
    self._poll_s = poll_s
    self._is_set_up = False
    self._lost: collections.Counter[str] = collections.Counter()

  def work(self, todo: UnitQueue) -> None:
    """Runs units until there are none, then deletes the slice.

    Raises:
      RunError: the slice cannot be created or set up; its unit is put back.
    """
    unit = None
    try:
      while not self._stop.requested and (unit := todo.take()) is not None:
        if not self._get_ready():
          break
        if self._run(unit):
          todo.put_back(unit)
        unit = None
    finally:
      if unit is not None:
        todo.put_back(unit)
      self._log("is deleted")
      self._run_or_raise(self._spec.delete(self.name), "delete", unknown=True)

  def _log(self, text: str) -> None:
    logging.info("%s %s", self.name, text)

  def _run_or_raise(
    self, command, prefix: str, unknown: bool = False
  ) -> CommandResult:
    return run_or_raise(command, f"{self.name}: {prefix}", unknown)

  def _get_ready(self) -> bool:
    """Waits for the slice and sets it up; returns False if a signal came."""
    if self._is_set_up:
      return True
    state = self._read_state()
    while state != ACTIVE:
      if state in ("", *_GONE):
        if state:
          self._run_or_raise(
            self._spec.delete(self.name), "delete", unknown=True
          )
        self._log("is requested")
        self._run_or_raise(self._spec.create(self.name), "create")
      elif state == "FAILED":
        about = " ".join(
          run_command(self._spec.state(self.name)[:-1]).text.split()
        )
        raise errors.RunError(f"{self.name}: the request failed: {about}")
      if self._stop.wait(self._poll_s):
        return False
      before, state = state, self._read_state()
      if state != before:
        self._log(f"is {state or 'gone'}")
    self._log("is set up")
    self._run_or_raise(self._spec.copy(self._archive, self.name), "copy")
    self._run_or_raise(self._spec.setup(self.name), "setup")
    self._is_set_up = True
    return not self._stop.requested

  def _read_state(self) -> str:
    """Returns the state of the request, or of a preempted node: that lags.

    Retries, because Google Cloud may be out of reach for a while.
    """
    for left in reversed(range(_PATIENCE)):
      try:
        state = read_state(self._spec, self.name)
        gone = state == ACTIVE and self._read_node_state() in _NODE_GONE
        return _GONE[0] if gone else state
      except errors.RunError as error:
        if not left or self._stop.wait(self._poll_s):
          raise
        logging.warning("%s; retrying", error)

  def _read_node_state(self) -> str:
    """Returns the state of the VMs; "" if unknown."""
    ended = run_command(self._spec.node_state(self.name), apart=True)
    return "" if ended.code else ended.text.strip()

  def _is_ready(self) -> bool:
    """Returns whether the slice exists and works."""
    return self._read_state() == ACTIVE and self._read_node_state() == _READY

  def _was_preempted(self) -> bool:
    """Returns whether the slice was preempted; its state may lag."""
    if not self._is_ready():
      return True
    if not self._spec.spot or self._stop.wait(self._poll_s):
      return False
    return not self._is_ready()

  def _run(self, unit: units.Unit) -> bool:
    """Runs a unit; returns whether to run it again."""
    attempt = units.read_launch(unit).get("attempts", 0) + 1
    process = living.describe_process(os.getpid())
    ours = dict(job=self.name, process=process, launcher=process)
    units.record_start(unit, **ours)
    self._log(f"runs {unit.name}, try {attempt}")
    command = self._spec.run(self.name, self._sweep, unit, attempt)
    ended = self._call_until_stopped(command)
    _add_to_log(unit, attempt, self.name, ended.text)
    if ended.code == _TERMINATED:  # Before it had a handler.
      ended = dataclasses.replace(ended, code=-signal.SIGTERM)
    message = units.describe_failure(ended.code, ended.text)
    state = units.record_end(unit, ended.code, message)
    # Another executor may take it.
    units.record(unit, job="")
    again = self._decide_retry(unit, ended.code, state)
    why = units.read_status(unit).message
    self._log(
      f"{unit.name}: {state}{', will resume' if again else ''}"
      f"{f': {why}' if why else ''}"
    )
    return again

  def _call_until_stopped(self, command) -> CommandResult:
    """Waits for a run; after a signal, lets it save and end."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run_command(command)))
    thread.start()
    while thread.is_alive() and not self._stop.wait(0.2):
      pass
    while thread.is_alive():
      # Repeated, because the run may be about to start.
      ended = run_command(self._spec.stop(self.name))
      if ended.code:
        logging.warning("%s: stop: %s", self.name, ended.text.strip())
      thread.join(_STOP_S)
    return found[0]

  def _decide_retry(self, unit: units.Unit, code: int, state: str) -> bool:
    reported = run_files.read_status(unit.workdir)
    if state in (units.DONE, units.DIVERGED) or self._stop.requested:
      return False
    if self._was_preempted():
      self._is_set_up = False
      message = f"slice {self.name} was preempted"
      units.record(unit, state=units.PREEMPTED, message=message)
      return True
    return state == units.PREEMPTED or self._is_retried(unit, code, reported)

  def _is_retried(self, unit, code: int, reported: Mapping) -> bool:
    """Returns whether to retry a run that failed without an error."""
    if code == errors.EXIT_USAGE or reported.get("state") == units.FAILED:
      return False
    self._lost[unit.name] += 1
    return self._lost[unit.name] <= self._retries


def _add_to_log(unit: units.Unit, attempt: int, name: str, text: str) -> None:
  """Adds to the unit's log, rewriting it: buckets cannot append."""
  path = unit.workdir / units.LOG
  try:
    before = path.read_text(encoding="utf-8")
  except FileNotFoundError:
    before = ""
  headline = f"# {units.now()} try {attempt} on {name}\n"
  writers.write_atomically(path, f"{before}{headline}{text}\n")


def run(slices: list[Slice], todo: UnitQueue, stop: Stop) -> list[str]:
  """Lets slices work in parallel; returns their errors."""
  problems: list[str] = []

  def work(each: Slice) -> None:
    try:
      each.work(todo)
    except errors.RunError as error:
      logging.error("%s", error)
      problems.append(str(error))
    except Exception as error:
      logging.exception("%s", each.name)
      problems.append(f"{each.name}: {error}")

  threads = [threading.Thread(target=work, args=[each]) for each in slices]
  with stop.signals():
    for thread in threads:
      thread.start()
    for thread in threads:
      while thread.is_alive():
        thread.join(0.2)
  return problems
