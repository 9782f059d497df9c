"""Slices of TPUs that take the units of a sweep one after another.

A slice that is taken away is asked for again, and its unit goes on from its
last checkpoint. What can be seen from here is only how commands end, so a run
that did not say itself why it ended is looked into.
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
from imgbench import living
from imgbench import run_files
from imgbench import writers
from imgbench.launch import units
from imgbench.launch.tpu import commands

ACTIVE = "ACTIVE"
_READY = "READY"
_GONE = ("SUSPENDED", "SUSPENDING")
_NODE_GONE = ("PREEMPTED", "TERMINATED")
_TERMINATED = 128 + signal.SIGTERM  # a shell's way to tell of it
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP_S = 5.0
_PATIENCE = 20  # times that Google Cloud is asked again
_LINES = 3  # of what a failed command said, in an error


class Todo:
  """Units that are to run, for several threads."""

  def __init__(self, todo: Iterable[units.Unit]):
    self._units = collections.deque(todo)
    self._lock = threading.Lock()

  def take(self) -> units.Unit | None:
    with self._lock:
      return self._units.popleft() if self._units else None

  def give_back(self, unit: units.Unit) -> None:
    with self._lock:
      self._units.appendleft(unit)


class Stop:
  """Whether a signal has come; entered, it takes signals.

  The second signal ends the program at once; slices are left as they are.
  """

  def __init__(self):
    self._came = threading.Event()

  @property
  def came(self) -> bool:
    return self._came.is_set()

  def wait(self, seconds: float) -> bool:
    """Waits, at most until a signal comes; returns whether one has come."""
    return self._came.wait(seconds)

  @contextlib.contextmanager
  def signals(self) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number, _):
      print(
        f"{signal.Signals(number).name}: runs save, slices are given back; a"
        " second signal leaves all as it is",
        flush=True,
      )
      self._came.set()
      for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)

    for number in _SIGNALS:
      signal.signal(number, handle)
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a command ended.

  Attributes:
    code: exit code.
    text: what it printed; errors too, unless they were asked for apart.
    errors: what went to standard error, if asked for apart.
  """

  code: int
  text: str
  errors: str = ""

  @property
  def is_unknown(self) -> bool:
    """Whether Google Cloud has nothing of the name that was asked for."""
    return bool(self.code) and "NOT_FOUND" in self.text + self.errors


def run_command(command: commands.Argv, apart: bool = False) -> Ended:
  """Runs a command that a Ctrl-C in this terminal does not reach.

  Args:
    command: program and arguments.
    apart: whether errors and warnings are kept out of `Ended.text`.
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
  )
  return Ended(done.returncode, done.stdout, done.stderr or "")


def run_or_raise(
  command: commands.Argv, what: str, unknown: bool = False
) -> Ended:
  """Runs a command that is to end well.

  Args:
    command: as of `run_command`.
    what: the beginning of an error.
    unknown: whether it may ask for something that is not there.

  Raises:
    RunError: it does not.
  """
  ended = run_command(command, apart=True)
  if ended.code and not (unknown and ended.is_unknown):
    last = f"{ended.text}\n{ended.errors}".strip().splitlines()[-_LINES:]
    raise errors.RunError(
      f"{what} ended with code {ended.code}: {' / '.join(last)}"
    )
  return ended


def read_state(place: commands.SliceConfig, name: str) -> str:
  """Returns the state of a request for a slice; "" where there is none.

  Raises:
    RunError: Google Cloud does not say.
  """
  ended = run_or_raise(place.state(name), f"{name}: describe", unknown=True)
  return "" if ended.code else ended.text.strip()


class Slice:
  """One slice, used by one thread.

  Args:
    name: of the request and of the node.
    place: where and which.
    sweep: whose units; its config is a place in the copied code.
    archive: file with the code.
    stop: asked everywhere.
    retries: how often a unit that ended without a word is started again.
    poll_s: seconds between two looks at a request.
  """

  def __init__(
    self,
    name: str,
    place: commands.SliceConfig,
    sweep: units.Sweep,
    archive: str,
    stop: Stop,
    *,
    retries: int,
    poll_s: float,
  ):
    self.name = name
    self._place = place
    self._sweep = sweep
    self._archive = archive
    self._stop = stop
    self._retries = retries
    self._poll_s = poll_s
    self._is_set_up = False
    self._lost: collections.Counter[str] = collections.Counter()

  def work(self, todo: Todo) -> None:
    """Runs units until there are none, then gives the slice back.

    Raises:
      RunError: the slice cannot be had or set up; its unit is given back.
    """
    unit = None
    try:
      while not self._stop.came and (unit := todo.take()) is not None:
        if not self._get_ready():
          break
        if self._run(unit):
          todo.give_back(unit)
        unit = None
    finally:
      if unit is not None:
        todo.give_back(unit)
      self._say("is given back")
      self._must(self._place.delete(self.name), "delete", unknown=True)

  def _say(self, text: str) -> None:
    logging.info("%s %s", self.name, text)

  def _must(self, command, what: str, unknown: bool = False) -> Ended:
    return run_or_raise(command, f"{self.name}: {what}", unknown)

  # The slice.

  def _get_ready(self) -> bool:
    """Waits for the slice and sets it up; False: a signal came first."""
    if self._is_set_up:
      return True
    state = self._state()
    while state != ACTIVE:
      if state in ("", *_GONE):
        if state:
          self._must(self._place.delete(self.name), "delete", unknown=True)
        self._say("is asked for")
        self._must(self._place.create(self.name), "create")
      elif state == "FAILED":
        about = " ".join(
          run_command(self._place.state(self.name)[:-1]).text.split()
        )
        raise errors.RunError(f"{self.name}: the request failed: {about}")
      if self._stop.wait(self._poll_s):
        return False
      before, state = state, self._state()
      if state != before:
        self._say(f"is {state or 'gone'}")
    self._say("is set up")
    self._must(self._place.copy(self._archive, self.name), "copy")
    self._must(self._place.setup(self.name), "setup")
    self._is_set_up = True
    return not self._stop.came

  def _state(self) -> str:
    """Of the request; but that lags behind when the node is taken away.

    Google Cloud may be out of reach for a while.
    """
    for left in reversed(range(_PATIENCE)):
      try:
        state = read_state(self._place, self.name)
        gone = state == ACTIVE and self._node_state() in _NODE_GONE
        return _GONE[0] if gone else state
      except errors.RunError as error:
        if not left or self._stop.wait(self._poll_s):
          raise
        logging.warning("%s; tried again", error)

  def _node_state(self) -> str:
    """Of the VMs; "" where it is not known."""
    ended = run_command(self._place.node_state(self.name), apart=True)
    return "" if ended.code else ended.text.strip()

  def _is_whole(self) -> bool:
    """Whether the slice is still there and works."""
    return self._state() == ACTIVE and self._node_state() == _READY

  def _was_taken(self) -> bool:
    """Whether it was taken away; its state may lag behind."""
    if not self._is_whole():
      return True
    if not self._place.spot or self._stop.wait(self._poll_s):
      return False
    return not self._is_whole()

  # A unit.

  def _run(self, unit: units.Unit) -> bool:
    """Runs a unit; returns whether it is to run again."""
    attempt = units.read_launch(unit).get("attempts", 0) + 1
    process = living.describe_process(os.getpid())
    ours = dict(job=self.name, process=process, launcher=process)
    units.record_start(unit, **ours)
    self._say(f"runs {unit.name}, try {attempt}")
    command = self._place.run(self.name, self._sweep, unit, attempt)
    ended = self._call_until_stopped(command)
    _add_to_log(unit, attempt, self.name, ended.text)
    if ended.code == _TERMINATED:  # Before it had a handler.
      ended = dataclasses.replace(ended, code=-signal.SIGTERM)
    state = units.record_end(unit, ended.code, _describe_failure(ended))
    # It is with this slice no more: another executor may take it.
    units.record(unit, job="")
    again = self._again(unit, ended.code, state)
    why = units.read_status(unit).message
    self._say(
      f"{unit.name}: {state}{', to go on' if again else ''}"
      f"{f': {why}' if why else ''}"
    )
    return again

  def _call_until_stopped(self, command) -> Ended:
    """Waits for a run; once a signal came, lets it save and end."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run_command(command)))
    thread.start()
    while thread.is_alive() and not self._stop.wait(0.2):
      pass
    while thread.is_alive():
      # More than once: the run may just be about to start there.
      ended = run_command(self._place.stop(self.name))
      if ended.code:
        logging.warning("%s: stop: %s", self.name, ended.text.strip())
      thread.join(_STOP_S)
    return found[0]

  def _again(self, unit: units.Unit, code: int, state: str) -> bool:
    said = run_files.read_json(unit.workdir / run_files.STATUS) or {}
    if state in (units.DONE, units.DIVERGED) or self._stop.came:
      return False
    if self._was_taken():
      self._is_set_up = False
      message = f"slice {self.name} was taken away"
      units.record(unit, state=units.PREEMPTED, message=message)
      return True
    return state == units.PREEMPTED or self._goes_on(unit, code, said)

  def _goes_on(self, unit, code: int, said: Mapping) -> bool:
    """Whether one that failed is tried again: it did not say why."""
    if code == errors.EXIT_USAGE or said.get("state") == units.FAILED:
      return False
    self._lost[unit.name] += 1
    return self._lost[unit.name] <= self._retries


def _describe_failure(ended: Ended) -> str:
  """What is known of why a run did not end well; "" if it did."""
  if ended.code in (errors.EXIT_DONE, errors.EXIT_PREEMPTED):
    return ""
  if ended.code < 0:
    return f"ended by {signal.Signals(-ended.code).name}"
  last = ended.text.strip().splitlines()[-1:] or [f"code {ended.code}"]
  return units.find_last_error(ended.text) or last[0]


def _add_to_log(unit: units.Unit, attempt: int, name: str, text: str) -> None:
  """Buckets cannot append: the whole log is written anew."""
  path = unit.workdir / units.LOG
  try:
    before = path.read_text()
  except FileNotFoundError:
    before = ""
  headline = f"# {units.now()} try {attempt} on {name}\n"
  writers.write_atomically(path, f"{before}{headline}{text}\n")


def run(slices: list[Slice], todo: Todo, stop: Stop) -> list[str]:
  """Lets slices work side by side; returns what went wrong with them."""
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
