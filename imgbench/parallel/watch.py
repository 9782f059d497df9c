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
import time
from typing import NoReturn

from absl import logging

from imgbench import errors
from imgbench import timing
from imgbench.parallel import members
from imgbench.parallel import wire

TICK_S = 0.2  # longest wait for messages before the clock is checked
GRACE_S = 3.0  # how long a failing process waits for an answer
NOTICE_S = 5.0  # after which it is logged who is missing at the start


class Watch:
  """Link of this process to the others, from start to end of a job.

  Args:
    address: host:port of process 0, where the processes meet.
    count: of processes.
    index: of this process.
    silent_s: seconds after which a silent process counts as gone.

  Attributes:
    connected: whether other processes can hear of this one.
  """

  def __init__(self, address: str, count: int, index: int, silent_s: float):
    self.index = index
    self.member = members.Member(self._send, threading.Condition())
    self.connected = False
    self._lock = self.member.lock
    self._address = address
    self._count = count
    self._silent_s = silent_s
    self._hub: members.Hub | None = None
    self._server: socket.socket | None = None  # until all have met
    self._strangers: list[wire.Channel] = []  # connected, not yet let in
    self._channels: dict[int, wire.Channel] = {}  # by process
    self._lost_ones: set[int] = set()  # processes reported as lost
    self._heard = self._began = timing.clock()
    self._noticed = False
    self._failing = False
    self._on_end: Callable[[str, int], None] = lambda text, code: None

  def meet(self) -> None:
    """Returns when all processes have met; logs if that takes NOTICE_S.

    Ends the process with one line if one does not come within `silent_s` after
    the one before it, or is lost.

    Raises:
      InputError: process 0 cannot listen at the address.
      RunError: process 0 does not answer.
    """
    if self.index == 0:
      self._open()
    else:
      self._channels[0] = wire.Channel(self._reach_first())
      self.member.missing = [0]
      self._channels[0].send(
        {"index": self.index, "count": self._count, "name": _own_name()}
      )
      self._heard = timing.clock()
    self.connected = True
    threading.Thread(target=self._run, name="watch", daemon=True).start()
    met = lambda: bool(self.member.names)
    with self._lock:
      while not self._lock.wait_for(met, TICK_S):
        self._notice_missing(self.member.missing)

  def _open(self) -> None:
    """Lets process 0 listen for the others."""
    _, port = wire.split_address(self._address)
    try:
      self._server = wire.listen(port)
    except OSError as error:
      raise errors.InputError(
        "--coordinator_address",
        "host:port with a free port of process 0",
        self._address,
        str(error),
      ) from error
    now = timing.clock()
    self._hub = members.Hub(
      self._address, self._count, self._silent_s, self._send_all, now
    )
    with self._lock:
      self._hub.arrive(0, _own_name(), now)

  def _reach_first(self) -> socket.socket:
    """Returns a connection to process 0."""
    host, port = wire.split_address(self._address)
    while True:
      try:
        return socket.create_connection((host, port), timeout=GRACE_S)
      except OSError as error:
        if timing.clock() - self._began > self._silent_s:
          text = members.describe_missing([0], self._count, self._address)
          raise errors.RunError(
            f"{text} for {self._silent_s:g} s (--process_timeout_s): {error};"
            f" {members.ALONE}"
          ) from error
      self._notice_missing([0])
      time.sleep(TICK_S)

  def _notice_missing(self, missing: list[int]) -> None:
    """Logs who is missing, once."""
    if not self._noticed and timing.clock() - self._began > NOTICE_S:
      self._noticed = True
      text = members.describe_missing(missing, self._count, self._address)
      logging.warning(
        "process %d waits: %s for %g s; %s",
        *(self.index, text, NOTICE_S, members.ALONE),
      )

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
            self._send_all({"kind": "beat", "missing": self._hub.missing})
        self._judge(now)
        if self.member.verdict is not None and not self._failing:
          self._end(self.member.verdict)

  def _wait_for_messages(self) -> None:
    with selectors.DefaultSelector() as selector:
      if self._server is not None:
        selector.register(self._server, selectors.EVENT_READ)
      for channel in (*self._channels.values(), *self._strangers):
        if not channel.lost:
          events = selectors.EVENT_READ
          if channel.waits:
            events |= selectors.EVENT_WRITE
          selector.register(channel.connection, events)
      selector.select(TICK_S)

  def _let_in(self, server: socket.socket, hub: members.Hub) -> None:
    """Lets processes in that connect to process 0."""
    with contextlib.suppress(OSError):  # Nobody, or one that is gone again.
      self._strangers.append(wire.Channel(server.accept()[0]))
    for channel in list(self._strangers):
      for hello in channel.receive()[:1]:
        self._strangers.remove(channel)
        index = hello.get("index")
        if index in hub.missing and hello.get("count") == self._count:
          self._channels[index] = channel
          if hub.missing == [index]:
            # The port is for JAX's coordinator from here on.
            server.close()
            self._server = None
          hub.arrive(index, str(hello.get("name")), timing.clock())
        else:
          _refuse(channel, index, f"one of {hub.missing} of {self._count}")

  def _read(self) -> None:
    if self._server is not None and self._hub is not None:
      self._let_in(self._server, self._hub)
    for index, channel in self._channels.items():
      channel.flush()
      for message in channel.receive():
        if self._hub is not None:
          self._hub.receive(index, message, timing.clock())
        else:
          self._heard = timing.clock()
          self.member.receive(message)
      if channel.lost and index not in self._lost_ones:
        self._lost_ones.add(index)
        self._lost(index)

  def _lost(self, index: int) -> None:
    if self._hub is not None:
      self._hub.lost(index)
    elif not self.member.over:
      early = "ended before all had met, or another program has its port"
      self._blame_first(members.GONE if self.member.names else early)

  def _judge(self, now: float) -> None:
    if self._hub is not None:
      self._hub.judge(now)
    elif now - self._heard > self._silent_s and not self.member.over:
      self._blame_first(members.silence(self._silent_s))

  def _blame_first(self, reason: str) -> None:
    name = self.member.names[0] if self.member.names else self._address
    text = members.blame(0, self._count, name, reason)
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
    line = f"{own_line}imgbench: error: {verdict.text}\n"
    # Another thread may hold Python's lock of the stream.
    with contextlib.suppress(OSError):  # Closed, or full.
      os.write(2, line.encode(errors="backslashreplace"))
    leave(verdict.code)


def leave(code: int) -> NoReturn:
  """Ends the process at once; Python's own exit could wait forever."""
  try:
    sys.stdout.flush()
  finally:
    os._exit(code)


def _own_name() -> str:
  return f"{socket.gethostname()}, pid {os.getpid()}"


def _refuse(channel: wire.Channel, index: object, expected: str) -> None:
  """Tells a process that it does not belong to this job."""
  error = errors.InputError("--process_id, --num_processes", expected, index)
  over = {"index": index, "text": str(error), "code": errors.EXIT_USAGE}
  channel.send({"kind": "over", **over})
  channel.connection.close()
