"""Protocol by which the processes of a job agree, message by message.

Each process has a `Member`. Process 0 also has the `Hub`: all members send to
it, and it answers to all. `watch` carries the messages. All methods of one
process run under its lock.
"""

from collections.abc import Callable
import dataclasses
import math
import threading
from typing import Any

from imgbench import errors
from imgbench.parallel import wire

# A process that is alive but behind the others gets this many times the limit
# of a silent one: reading or writing files may take long.
STUCK_TIMES = 10


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Reason for the end of a job.

  Attributes:
    index: of the process that caused it.
    text: one line that names the process.
    code: exit code of the others.
  """

  index: int
  text: str
  code: int = errors.EXIT_FAILED


class Member:
  """One process's side of the protocol.

  The main threads of all processes call `agreed` and `exchange` in the same
  order.

  Args:
    send: sends a message to the hub.
    lock: of the process; reentrant, as that of a Condition is.
  """

  def __init__(
    self, send: Callable[[wire.Message], None], lock: threading.Condition
  ):
    self._send = send
    self.lock = lock
    self._calls = 0
    self._asked = False
    self._held = False
    self._stop_at = math.inf
    self._exchanges = 0
    self._answers: dict[int, list[Any]] = {}
    self.place = 0  # calls that the main thread has reached
    self.missing: list[int] = []  # processes that have not come yet
    self.names: list[str] = []  # of all processes, once they have met
    self.verdict: Verdict | None = None
    self.over = False  # all processes are leaving

  def agreed(self, asked: bool) -> bool:
    """Returns whether all stop here; true in all processes at the same call.

    A process that is asked to stop tells the hub. Every process then reports
    the call it has reached and waits. The hub answers with the call at which
    all stop: the one after the farthest. Nothing is sent before a process is
    asked.
    """
    with self.lock:
      self._calls += 1
      self.place += 1
      if asked and not self._asked:
        self._asked = True
        self._send({"kind": "stop"})
      if not self._held:
        return False
      self.lock.wait_for(lambda: self._stop_at < math.inf)
      return self._calls >= self._stop_at

  def arrive(self) -> None:
    """Counts a call, before work that the other processes wait for."""
    with self.lock:
      self.place += 1

  def exchange(self, value: Any, leaving: bool = False) -> list[Any]:
    """Returns the JSON values of all processes, by process index."""
    with self.lock:
      number = self._exchanges
      self._exchanges += 1
      self._send(
        {"kind": "value", "n": number, "value": value, "leaving": leaving}
      )
      self.lock.wait_for(lambda: number in self._answers)
      return self._answers.pop(number)

  def fail(self, text: str, code: int) -> None:
    """Tells the others that this process ends."""
    self._send({"kind": "failed", "text": text, "code": code})

  def beat(self) -> None:
    """Reports that this process is alive, and which call it has reached."""
    self._send({"kind": "beat", "place": self.place})

  def receive(self, message: wire.Message) -> None:
    """Handles a message of the hub."""
    kind = message["kind"]
    if kind == "hold" and not self._held:
      self._held = True
      self._send({"kind": "held", "call": self._calls})
    elif kind == "stop_at":
      self._stop_at = message["call"]
    elif kind == "values":
      self._answers[message["n"]] = message["values"]
      self.over = message["leaving"]
    elif kind == "beat":
      self.missing = message["missing"]
    elif kind == "names":
      self.names = message["names"]
    elif kind == "over" and self.verdict is None:
      self.verdict = Verdict(message["index"], message["text"], message["code"])
    self.lock.notify_all()


class Hub:
  """Coordinator in process 0.

  Args:
    address: where the processes meet, shown in messages.
    count: of processes.
    silent_s: seconds after which a silent process counts as gone.
    send_all: sends a message to every member, that of process 0 too.
    now: seconds, see `heard`.
  """

  def __init__(
    self,
    address: str,
    count: int,
    silent_s: float,
    send_all: Callable[[wire.Message], None],
    now: float,
  ):
    self._address = address
    self._count = count
    self._silent_s = silent_s
    self._send_all = send_all
    self._names: dict[int, str] = {}
    self._last_came = now
    self._heard = [now] * count
    self._places = [0] * count
    # When each process fell behind the others, or moved since.
    self._waited_for: dict[int, float] = {}
    self._asked = False
    self._held: dict[int, int] = {}
    self._values: dict[int, dict[int, Any]] = {}
    self._ended = False
    self.over = False

  @property
  def missing(self) -> list[int]:
    """Returns the processes that have not come yet."""
    return [i for i in range(self._count) if i not in self._names]

  def arrive(self, index: int, name: str, now: float) -> None:
    """Lets a process in; `name` is shown in messages."""
    self._names[index] = name
    self._heard[index] = self._last_came = now
    self._send_all({"kind": "beat", "missing": self.missing})
    if not self.missing:
      names = [self._names[i] for i in range(self._count)]
      self._send_all({"kind": "names", "names": names})

  def receive(self, index: int, message: wire.Message, now: float) -> None:
    """Handles a message of a member, received at `now` (seconds)."""
    self._heard[index] = now
    kind = message["kind"]
    if kind == "beat":
      if message["place"] != self._places[index]:
        self._places[index] = message["place"]
        self._waited_for.pop(index, None)
    elif kind == "stop" and not self._asked:
      self._asked = True
      self._send_all({"kind": "hold"})
    elif kind == "held":
      self._held[index] = message["call"]
      if len(self._held) == self._count:
        last = max(self._held.values())
        self._send_all({"kind": "stop_at", "call": last + 1})
    elif kind == "value":
      self._take_value(index, message)
    elif kind == "failed":
      code = message["code"]
      verb = "stops" if code == errors.EXIT_PREEMPTED else "failed"
      self.end(index, f"{verb}: {message['text']}", code)

  def _take_value(self, index: int, message: wire.Message) -> None:
    number, leaving = message["n"], message["leaving"]
    values = self._values.setdefault(number, {})
    values[index] = message["value"]
    if len(values) == self._count:
      del self._values[number]
      self.over = leaving
      ordered = [values[i] for i in range(self._count)]
      self._send_all(
        {"kind": "values", "n": number, "values": ordered, "leaving": leaving}
      )

  def judge(self, now: float) -> None:
    """Ends the job if a process does not come, is silent, or is stuck.

    Stuck is one that is behind others, which wait for it.
    """
    if self.missing and now - self._last_came > self._silent_s:
      text = describe_missing(self.missing, self._count, self._address)
      self._end(
        self.missing[0],
        f"{text} for {self._silent_s:g} s (--process_timeout_s); {ALONE}",
        errors.EXIT_FAILED,
      )
    farthest = max(self._places)
    for index in self._names:
      if now - self._heard[index] > self._silent_s:
        self.end(index, silence(self._silent_s))
      stuck_s = STUCK_TIMES * self._silent_s
      if self._places[index] == farthest:
        self._waited_for.pop(index, None)
      elif now - self._waited_for.setdefault(index, now) > stuck_s:
        self.end(
          index, f"is alive, but the others have waited {stuck_s:g} s for it"
        )

  def lost(self, index: int) -> None:
    """Ends the job because the connection to a process has ended."""
    self.end(index, GONE)

  def end(
    self, index: int, reason: str, code: int = errors.EXIT_FAILED
  ) -> None:
    """Tells all members that the job ends, and which process caused it."""
    text = blame(index, self._count, self._names[index], reason)
    self._end(index, text, code)

  def _end(self, index: int, text: str, code: int) -> None:
    if not self._ended and not self.over:
      self._ended = True
      self._send_all(
        {"kind": "over", "index": index, "text": text, "code": code}
      )


GONE = "exited without a message (killed, or out of memory)"
RERUN = "rerun the same command to resume from the last checkpoint"
ALONE = "start them, or run this one alone with --num_processes=1"


def silence(seconds: float) -> str:
  return f"was silent for {seconds:g} s (stopped, or its host is gone)"


def blame(index: int, count: int, name: str, reason: str) -> str:
  """Returns one line about the process that ends a job."""
  return f"process {index} of {count} ({name}) {reason}; {RERUN}"


def describe_missing(missing: list[int], count: int, address: str) -> str:
  """Returns one line about the processes that others wait for."""
  shown = ", ".join(map(str, missing[:8])) + ", ..." * (len(missing) > 8)
  noun = "process" if len(missing) == 1 else "processes"
  where = f"the coordinator at {address}"
  return f"{noun} {shown} of {count} did not come to {where}"
