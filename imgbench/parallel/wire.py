"""JSON lines over TCP, and a relay that hides broken connections."""

import contextlib
import json
import socket
import threading
import time
from typing import Any

from imgbench import timing

Message = dict[str, Any]
_BLOCK = 2**16
_REACH_S = 10.0
_AGAIN_S = 0.05


class Channel:
  """Sends and receives messages, one JSON line each; never blocks.

  Args:
    connection: connected; the channel owns it.
  """

  def __init__(self, connection: socket.socket):
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    self.connection = connection
    self.lost = False
    self._unsent = b""
    self._unread = b""

  @property
  def waits(self) -> bool:
    """Returns whether something is still to be sent."""
    return bool(self._unsent) and not self.lost

  def send(self, message: Message) -> None:
    """Sends as much as the connection takes; `flush` sends the rest."""
    self._unsent += encode(message)
    self.flush()

  def flush(self) -> None:
    while self.waits:
      try:
        sent = self.connection.send(self._unsent)
      except BlockingIOError:
        return
      except OSError:
        self.lost = True
        return
      self._unsent = self._unsent[sent:]

  def receive(self) -> list[Message]:
    """Returns new messages; sets `lost` if the connection has ended.

    So it does at anything else than a message: another program is there.
    """
    while not self.lost:
      try:
        block = self.connection.recv(_BLOCK)
      except BlockingIOError:
        break
      except OSError:
        block = b""
      self.lost = not block
      self._unread += block
    *lines, self._unread = self._unread.split(b"\n")
    messages = []
    for line in lines:
      try:
        message = json.loads(line)
      except ValueError:
        message = None
      if not isinstance(message, dict):
        self.lost = True
        break
      messages.append(message)
    return messages


def encode(message: Message) -> bytes:
  return json.dumps(message).encode() + b"\n"


def listen(port: int) -> socket.socket:
  """Returns a server on all addresses of this host; it never blocks."""
  if socket.has_dualstack_ipv6():
    server = socket.create_server(
      ("", port), family=socket.AF_INET6, dualstack_ipv6=True
    )
  else:
    server = socket.create_server(("", port))
  server.setblocking(False)
  return server


def split_address(address: str) -> tuple[str, int]:
  """Returns host and port of "host:port" or "[v6]:port". Raises ValueError."""
  host, colon, port = address.rpartition(":")
  if not host or not colon:
    raise ValueError(f"expected host:port, got {address!r}")
  return host.removeprefix("[").removesuffix("]"), int(port)


class Relay:
  """Forwards connections to an address, but not their end.

  JAX's client aborts the program with a stack trace as soon as its connection
  to the coordinator breaks. Through a relay it does not notice, and `watch` has
  time to report which process is gone.

  Args:
    address: of the coordinator.
  """

  def __init__(self, address: str):
    self._target = split_address(address)
    self._server = socket.create_server(("127.0.0.1", 0))
    self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
    self._kept: list[socket.socket] = []  # their other end is gone
    _in_background(self._serve)

  def _serve(self) -> None:
    while True:
      near, _ = self._server.accept()
      try:
        far = self._reach()
      except OSError:  # The client tries again.
        near.close()
        continue
      far.settimeout(None)
      for connection in (near, far):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      _in_background(self._pass_on, far, near)
      _in_background(self._pass_back, near, far)

  def _reach(self) -> socket.socket:
    """Returns a connection to the address, which may not listen yet."""
    deadline = timing.clock() + _REACH_S
    while True:
      try:
        return socket.create_connection(self._target, timeout=_REACH_S)
      except OSError:
        if timing.clock() > deadline:
          raise
        time.sleep(_AGAIN_S)

  def _pass_on(self, source: socket.socket, to: socket.socket) -> None:
    _copy(source, to)
    self._kept.append(to)

  def _pass_back(self, source: socket.socket, to: socket.socket) -> None:
    _copy(source, to)
    with contextlib.suppress(OSError):  # may be gone already
      to.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, to: socket.socket) -> None:
  """Copies bytes until one side closes."""
  try:
    while block := source.recv(_BLOCK):
      to.sendall(block)
  except OSError:
    pass  # A reset is an end, too.


def _in_background(function, *arguments) -> None:
  threading.Thread(target=function, args=arguments, daemon=True).start()
