"""Thread of each process that carries messages and ends a broken job.

A collective waits forever for a process that is gone, and the waiting thread
cannot be interrupted: so this thread prints the reason and ends the process.
"""

from collections.abc import Callable
import contextlib
import os
import selectors
import socket
import sys
import threading
from typing import Any
from typing import NoReturn

from imgbench import errors
from imgbench import timing
from imgbench.parallel import members
from imgbench.parallel import wire

TICK_S = 0.2  # longest wait for messages before the clock is checked
GRACE_S = 3.0  # how long a failing process waits for an answer
MEET_S = 300.0  # how long processes wait for each other at the start


class Watch:
  """Link of this process to the others, from start to end of a job.

  Args:
    index: of this process.
    silent_s: seconds after which a silent process counts as gone.
  """

  def __init__(self, index: int, silent_s: float):
    self.index = index
    self.member = members.Member(self._send, threading.Condition())
    self._lock = self.member.lock
    self._silent_s = silent_s
    self._hub: members.Hub | None = None
    self._channels: dict[int, wire.Channel] = {}  # by process
    self._names: list[str] = []
    self._heard = timing.clock()
    self._failing = False
    self._on_end: Callable[[str, int], None] = lambda text, code: None

  def gather(self, server: socket.socket, count: int, token: str) -> None:
    """Waits in process 0 until all others connect, then watches them.

    Raises:
      RunError: some did not connect in time.
    """
    names = {0: _own_name()}
    deadline = timing.clock() + MEET_S
    while len(names) < count:
      server.settimeout(max(deadline - timing.clock(), 0.001))
      try:
        connection, _ = server.accept()
      except TimeoutError as error:
        raise errors.RunError(
          f"processes {sorted(set(range(count)) - set(names))} of {count} did"
          f" not connect within {MEET_S:g} s"
        ) from error
      hello = _hello(connection, token)
      if hello is not None:
        names[hello["index"]] = hello["name"]
        self._channels[hello["index"]] = wire.Channel(connection)
    self._names = [names[i] for i in range(count)]
    self._hub = members.Hub(
      self._names, self._silent_s, self._send_all, timing.clock()
    )
    with self._lock:
      self._send_all({"kind": "names", "names": self._names})
    self._start()

  def meet(self, host: str, port: int, token: str) -> None:
    """Connects another process to process 0. Raises RunError."""
    try:
      connection = socket.create_connection((host, port), timeout=MEET_S)
      hello = {"token": token, "index": self.index, "name": _own_name()}
      connection.sendall(wire.encode(hello))
      first = wire.read_line(connection)
    except OSError as error:
      raise errors.RunError(
        f"process 0 on {host} does not answer on port {port}: {error}; open"
        " the ports between the hosts"
      ) from error
    self._names = first["names"]
    self._channels[0] = wire.Channel(connection)
    self._heard = timing.clock()
    self._start()

  def _start(self) -> None:
    threading.Thread(target=self._run, name="watch", daemon=True).start()

  # The methods that send run under the lock.

  def _send(self, message: wire.Message) -> None:
    """Sends a message to the hub."""
    if self._hub is not None:
      self._hub.receive(self.index, message, timing.clock())
    else:
      self._channels[0].send(message)

  def _send_all(self, message: wire.Message) -> None:
    for channel in self._channels.values():
      channel.send(message)
    self.member.receive(message)

  def _run(self) -> None:
    beat_s = min(1.0, self._silent_s / 5)
    next_beat = 0.0
    while True:
      self._wait_for_messages()
      with self._lock:
        # Read all messages before judging: this process itself may have been
        # stopped for a while.
        self._read()
        now = timing.clock()
        if now >= next_beat:
          next_beat = now + beat_s
          self.member.beat()
          if self._hub is not None:
            self._send_all({"kind": "beat"})
        self._judge(now)
        if self.member.verdict is not None and not self._failing:
          self._end(self.member.verdict)

  def _wait_for_messages(self) -> None:
    with selectors.DefaultSelector() as selector:
      for channel in self._channels.values():
        if not channel.lost:
          events = selectors.EVENT_READ
          if channel.waits:
            events |= selectors.EVENT_WRITE
          selector.register(channel.connection, events)
      selector.select(TICK_S)

  def _read(self) -> None:
    for index, channel in self._channels.items():
      channel.flush()
      before = channel.lost
      for message in channel.receive():
        if self._hub is not None:
          self._hub.receive(index, message, timing.clock())
        else:
          self._heard = timing.clock()
          self.member.receive(message)
      if channel.lost and not before:
        self._lost(index)

  def _lost(self, index: int) -> None:
    if self._hub is not None:
      self._hub.lost(index)
    elif not self.member.over:
      self._blame_first(members.GONE)

  def _judge(self, now: float) -> None:
    if self._hub is not None:
      self._hub.judge(now)
    elif now - self._heard > self._silent_s and not self.member.over:
      self._blame_first(members.silence(self._silent_s))

  def _blame_first(self, reason: str) -> None:
    text = members.blame(0, self._names, reason)
    over = {"kind": "over", "index": 0, "text": text}
    self.member.receive({**over, "code": errors.EXIT_FAILED})

  def on_end(self, call: Callable[[str, int], None]) -> None:
    """Sets the function called with reason and exit code before the end."""
    self._on_end = call

  def fail(self, text: str, code: int, sure: bool) -> members.Verdict | None:
    """Tells the others that this process fails; the thread no longer ends it.

    Args:
      text: why.
      code: exit code of all.
      sure: whether the cause is here. An error in a collective is more often
        caused by another process, so its message is awaited first.

    Returns:
      The verdict, if another process caused the failure.
    """
    judged = lambda: self.member.verdict is not None
    with self._lock:
      self._failing = True
      if not sure:
        self._lock.wait_for(judged, GRACE_S)
      if not judged():
        self.member.fail(text, code)
        self._lock.wait_for(judged, GRACE_S)
      verdict = self.member.verdict
    if verdict is None or verdict.index == self.index:
      return None
    return verdict

  def _end(self, verdict: members.Verdict) -> None:
    """Prints one line and ends this process, even if its main thread hangs."""
    call = threading.Thread(
      target=self._on_end, args=(verdict.text, verdict.code), daemon=True
    )
    call.start()
    call.join(GRACE_S)
    own_line = "\n" if os.isatty(2) else ""  # after a progress bar
    line = f"{own_line}imgbench: error: {verdict.text}; {RERUN}\n"
    # Another thread may hold Python's lock of the stream.
    with contextlib.suppress(OSError):  # Closed, or full.
      os.write(2, line.encode())
    leave(verdict.code)


RERUN = "rerun the same command to resume from the last checkpoint"


def leave(code: int) -> NoReturn:
  """Ends the process at once; Python's own exit could wait forever."""
  try:
    sys.stdout.flush()
  finally:
    os._exit(code)


def _own_name() -> str:
  return f"{socket.gethostname()}, pid {os.getpid()}"


def _hello(connection: socket.socket, token: str) -> dict[str, Any] | None:
  """Returns the first message of a connection that knows the token, or None."""
  connection.settimeout(GRACE_S)
  try:
    hello = wire.read_line(connection)
  except (OSError, ValueError):
    hello = {}
  if isinstance(hello, dict) and hello.get("token") == token:
    return hello
  connection.close()
  return None
