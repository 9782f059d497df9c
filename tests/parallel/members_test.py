"""Tests of what processes agree on, without processes."""

import itertools
import socket
import threading

import pytest

from imgbench import errors
from imgbench.parallel import members
from imgbench.parallel import wire

NAMES = ["a", "b", "c"]
TIMEOUT_S = 30


class Together:
  """Members whose messages go straight to a hub."""

  def __init__(self, silent_s=60.0):
    self.lock = threading.Condition()
    self.members = [
      members.Member(self._sender(index), self.lock)
      for index in range(len(NAMES))
    ]
    self.now = 0.0
    self.hub = members.Hub("host:1", 3, silent_s, self._send_all, self.now)
    for index, name in enumerate(NAMES):
      self.hub.arrive(index, name, self.now)

  def _sender(self, index):
    return lambda message: self.hub.receive(index, message, self.now)

  def _send_all(self, message):
    with self.lock:
      for member in self.members:
        member.receive(message)

  def run(self, work):
    """Results of work(index, member) in a thread for each."""
    results = {}

    def call(index):
      results[index] = work(index, self.members[index])

    threads = [
      threading.Thread(target=call, args=(i,), daemon=True) for i in range(3)
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join(TIMEOUT_S)
    return [results[i] for i in range(3)]

  @property
  def verdicts(self):
    return [member.verdict for member in self.members]


@pytest.mark.parametrize("asking", [0, 2])
def test_all_stop_at_the_same_call_whoever_is_asked(asking):
  for _ in range(10):
    together = Together()

    def work(index, member):
      return next(
        call
        for call in itertools.count(1)
        if member.agreed(index == asking and call >= 7)
      )

    calls = together.run(work)
    assert len(set(calls)) == 1 and calls[0] > 7


def test_nobody_stops_unasked():
  together = Together()
  stops = together.run(
    lambda index, member: [member.agreed(False) for _ in range(50)]
  )
  assert not any(map(any, stops))


def test_values_come_in_the_order_of_processes():
  together = Together()
  found = together.run(
    lambda index, member: [member.exchange([index, n]) for n in range(5)]
  )
  expected = [[[index, n] for index in range(3)] for n in range(5)]
  assert found == [expected] * 3


def test_a_lost_process_is_named_to_all_once():
  together = Together()
  together.hub.lost(1)
  together.hub.lost(2)
  text = members.blame(1, 3, "b", members.GONE)
  assert "(b)" in text
  assert together.verdicts == [members.Verdict(1, text)] * 3


def test_who_leaves_together_is_not_lost():
  together = Together()
  together.run(lambda index, member: member.exchange(None, leaving=True))
  together.hub.lost(1)
  assert together.verdicts == [None] * 3
  assert all(member.over for member in together.members)


def test_an_error_is_told_with_its_exit_code():
  together = Together()
  together.members[2].fail("no such file", errors.EXIT_USAGE)
  (verdict,) = set(together.verdicts)
  assert "(c)" in verdict.text and "no such file" in verdict.text
  assert (verdict.index, verdict.code) == (2, errors.EXIT_USAGE)


def test_a_silent_process():
  together = Together(silent_s=10.0)
  together.now = 9.0
  for index in (0, 2):
    together.members[index].beat()
  together.hub.judge(9.0)
  assert together.verdicts == [None] * 3
  together.hub.judge(11.0)
  verdict = together.verdicts[0]
  assert verdict.index == 1 and "10 s" in verdict.text


def test_a_process_that_others_wait_for():
  together = Together(silent_s=10.0)
  for index in (0, 1):
    together.members[index].arrive()
  limit_s = 10.0 * members.STUCK_TIMES
  for now in (0.0, limit_s, limit_s + 1):
    together.now = now
    for member in together.members:
      member.beat()
    together.hub.judge(now)
    if now <= limit_s:
      assert together.verdicts == [None] * 3
  verdict = together.verdicts[0]
  assert verdict.index == 2 and f"{limit_s:g} s" in verdict.text


def test_long_work_of_all_is_no_wait():
  """Of processes that end long work, the last one is not behind for long."""
  together = Together(silent_s=10.0)
  limit_s = 10.0 * members.STUCK_TIMES
  for now in (0.0, 9 * limit_s, 10 * limit_s, 10 * limit_s + 1):
    if now == 9 * limit_s:
      for index in (0, 1):
        together.members[index].arrive()
    together.now = now
    for member in together.members:
      member.beat()
    together.hub.judge(now)
    if now <= 10 * limit_s:
      assert together.verdicts == [None] * 3
  assert together.verdicts[0].index == 2


def test_all_waiting_is_nobodys_fault():
  """A long evaluation, or the first process writing a report."""
  together = Together(silent_s=10.0)
  for now in (0.0, 1e6):
    together.now = now
    for member in together.members:
      member.beat()
    together.hub.judge(now)
  assert together.verdicts == [None] * 3


def test_messages_come_whole_and_an_end_is_seen():
  near, far = map(wire.Channel, _pair())
  long = {"text": "x" * 3_000_000}
  near.send({"n": 1})
  near.send(long)
  found = []
  while len(found) < 2:
    near.flush()
    found += far.receive()
  assert found == [{"n": 1}, long] and not far.lost
  near.connection.close()
  while not far.lost:
    assert far.receive() == []


def _pair():
  with socket.create_server(("127.0.0.1", 0)) as server:
    near = socket.create_connection(server.getsockname())
    far, _ = server.accept()
  return near, far


def test_a_relay_does_not_pass_on_an_end():
  with socket.create_server(("127.0.0.1", 0)) as server:
    relay = wire.Relay(f"127.0.0.1:{server.getsockname()[1]}")
    client = socket.create_connection(wire.split_address(relay.address))
    client.sendall(b"question")
    far, _ = server.accept()
    assert far.recv(100) == b"question"
    far.sendall(b"answer")
    assert client.recv(100) == b"answer"
    far.close()
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
      client.recv(100)


@pytest.mark.parametrize(
  "address, expected",
  [
    ("host:80", ("host", 80)),
    ("[::1]:80", ("::1", 80)),
    ("host", None),
    ("host:x", None),
  ],
)
def test_addresses(address, expected):
  if expected is None:
    with pytest.raises(ValueError):
      wire.split_address(address)
  else:
    assert wire.split_address(address) == expected
