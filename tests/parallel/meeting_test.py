"""Tests of processes that meet, and of those that never start."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import logging
import pytest

from imgbench import errors
from imgbench.parallel import watch as watch_lib
from imgbench.parallel import wire
from tests import raising
from tests.parallel import jobs
from tests.train import processes as runs

SILENT_S = 1.0
# Until processes that wait have ended, on a busy machine.
AT_ONCE_S = 30
JOIN = """
from absl import app, flags
from imgbench import cli
cli.define_process_flags(flags.FLAGS)
app.run(lambda argv: cli.join_processes().close())
"""
SHORT = (
  "--config.steps.total=2 steps",
  "--config.evaluation.every=never",
)


class Meeting:
  """Watches of one job, each in a thread; records what ends them."""

  def __init__(self, monkeypatch):
    self.address = jobs.free_address()
    self.silent_s = jobs.TIMEOUT_S
    self.watches: list[watch_lib.Watch] = []
    self.codes: list[int] = []
    self.notices: list[str] = []
    self.met: list[int] = []
    monkeypatch.setattr(watch_lib, "NOTICE_S", SILENT_S / 4)
    monkeypatch.setattr(watch_lib, "leave", self._leave)
    monkeypatch.setattr(
      logging, "warning", lambda text, *args: self.notices.append(text % args)
    )

  def _leave(self, code: int):
    self.codes.append(code)
    threading.Event().wait()  # A process would be gone.

  def build(self, index: int, count: int) -> watch_lib.Watch:
    watch = watch_lib.Watch(self.address, count, index, self.silent_s)
    self.watches.append(watch)
    return watch

  def start(self, index: int, count: int) -> watch_lib.Watch:
    watch = self.build(index, count)

    def meet():
      watch.meet()
      self.met.append(index)

    threading.Thread(target=meet, daemon=True).start()
    return watch

  def wait_for(self, seen) -> None:
    deadline = time.monotonic() + AT_ONCE_S
    while not seen():
      assert time.monotonic() < deadline, (self.codes, self.notices, self.met)
      time.sleep(0.01)


@pytest.fixture
def meeting(monkeypatch):
  """A meeting whose threads do not end the tests' process."""
  meeting = Meeting(monkeypatch)
  yield meeting
  for watch in meeting.watches:
    watch._failing = True


def error_lines(text: str) -> list[str]:
  """Returns the last words of processes."""
  return jobs.log_lines(text, "imgbench: error: ")


def test_fault_08_processes_meet_and_leave_the_port_to_jax(meeting):
  meeting.start(2, 3)
  meeting.start(0, 3)
  where = wire.split_address(meeting.address)
  seen = []
  meeting.wait_for(lambda: seen or not _connect(where, b"GET /\r\n\n", seen))
  meeting.start(1, 3)
  meeting.wait_for(lambda: len(meeting.met) == 3)
  wire.listen(where[1]).close()
  assert meeting.codes == []


def _connect(where, text: bytes, seen: list) -> None:
  """Lets a program of another kind connect."""
  try:
    stranger = socket.create_connection(where)
  except OSError:
    return
  stranger.sendall(text)
  seen.append(stranger)


def test_fault_08_missing_processes_are_named_to_all(meeting, capfd):
  meeting.silent_s = SILENT_S
  for index in (0, 2):
    meeting.start(index, 4)
  meeting.wait_for(lambda: len(meeting.codes) == 2)
  assert meeting.codes == [errors.EXIT_FAILED] * 2
  lines = error_lines(capfd.readouterr().err)
  assert len(lines) == 2
  assert all("processes 1, 3 of 4" in line for line in lines)
  for text in (*lines, *meeting.notices):
    assert " of 4 " in text and meeting.address in text
    assert "--num_processes=1" in text
  assert sorted(text.split()[1] for text in meeting.notices) == ["0", "2"]


def test_fault_08_a_coordinator_that_does_not_answer(meeting):
  meeting.silent_s = SILENT_S
  watch = meeting.build(1, 2)
  began = time.monotonic()
  with pytest.raises(errors.RunError) as raised:
    watch.meet()
  assert SILENT_S < time.monotonic() - began < AT_ONCE_S
  for text in (str(raised.value), *meeting.notices):
    assert "process 0 of 2" in text and meeting.address in text
  assert len(meeting.notices) == 1


def test_fault_08_a_process_that_is_lost_before_all_met(meeting, capfd):
  meeting.start(0, 3)
  lost = meeting.start(1, 3)
  meeting.wait_for(lambda: lost.connected)
  lost._channels[0].connection.shutdown(socket.SHUT_RDWR)
  meeting.wait_for(lambda: len(meeting.codes) == 2)
  assert meeting.codes == [errors.EXIT_FAILED] * 2
  lines = error_lines(capfd.readouterr().err)
  assert sorted(line.split()[3] for line in lines) == ["0", "1"]


def test_a_process_that_is_lost_before_it_is_let_in(meeting):
  hub = meeting.start(0, 3)
  meeting.wait_for(lambda: hub.connected)
  where = wire.split_address(meeting.address)
  # Under the lock, the hub's thread then reads the message and the end at once.
  with hub._lock, socket.create_connection(where) as lost:
    lost.sendall(wire.encode({"index": 1, "count": 3, "name": "lost"}))
  meeting.wait_for(lambda: meeting.codes == [errors.EXIT_FAILED])


def test_a_process_that_is_found_lost_when_a_message_is_sent(meeting):
  hub = meeting.start(0, 3)
  meeting.start(1, 3)
  meeting.wait_for(lambda: 1 in hub._channels)
  with hub._lock:
    hub._channels[1].connection.shutdown(socket.SHUT_WR)
    hub._channels[1].send({"kind": "beat", "missing": [2]})
    assert hub._channels[1].lost
  meeting.wait_for(lambda: len(meeting.codes) == 2)
  assert meeting.codes == [errors.EXIT_FAILED] * 2


def test_fault_08_a_port_that_is_taken(meeting):
  with wire.listen(wire.split_address(meeting.address)[1]):
    watch = meeting.build(0, 2)
    about = raising.about("--coordinator_address", given=meeting.address)
    with pytest.raises(errors.InputError, check=about):
      watch.meet()


@pytest.mark.parametrize("index, count", [(1, 3), (2, 2)])
def test_fault_08_a_process_of_another_job(meeting, capfd, index, count):
  meeting.start(0, 3)
  first = meeting.start(1, 3)
  meeting.wait_for(lambda: first.connected)
  meeting.wait_for(lambda: first.member.missing == [2])
  meeting.start(index, count)
  meeting.wait_for(lambda: errors.EXIT_USAGE in meeting.codes)
  assert "--process_id" in error_lines(capfd.readouterr().err)[0]


@pytest.mark.slow
def test_fault_08_processes_whose_peers_never_start(tmp_path):
  """Plain `python` in allocations, and either process alone."""
  address = jobs.free_address()
  port = address.rpartition(":")[2]
  settings = {
    "slurm": ((), jobs.slurm_environment(jobs.free_address(), 4, 0)),
    "open mpi": (
      (),
      {
        "OMPI_MCA_orte_hnp_uri": f"{int(port) << 12}.0;tcp://127.0.0.1:1",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "0",
        "OMPI_COMM_WORLD_LOCAL_RANK": "0",
      },
    ),
    "first": (jobs.flags(jobs.free_address(), 2, 0), {}),
    "second": (jobs.flags(jobs.free_address(), 2, 1), {}),
  }
  started = {}
  for name, (flags, variables) in settings.items():
    command = runs.command(tmp_path / name, "--process_timeout_s=6", *flags)
    started[name] = subprocess.Popen(
      command,
      env={**jobs.environment(1), **variables},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
  for name, process in started.items():
    try:
      log, _ = process.communicate(timeout=2 * AT_ONCE_S)
    finally:
      process.kill()
    assert process.returncode == errors.EXIT_FAILED, (name, log)
    notice, last = log.splitlines()
    assert last.startswith("imgbench: error: process")
    for line in (notice, last):
      assert "--num_processes=1" in line, log
      assert (" process 0 of 2 " in line) == (name == "second"), log
    assert not (tmp_path / name).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
  "number, index, code",
  [
    (signal.SIGKILL, 0, errors.EXIT_FAILED),
    (signal.SIGKILL, 1, errors.EXIT_FAILED),
    (signal.SIGTERM, 1, errors.EXIT_PREEMPTED),
  ],
)
def test_fault_08_a_process_that_ends_before_all_met(
  tmp_path, number, index, code
):
  """The fourth of them never starts."""
  command = runs.command(tmp_path / "run", *SHORT)
  job = jobs.Job(command, 4, 1, tmp_path, started=3)
  missing = "process 3 of 4"
  job.wait_for(lambda: all(missing in job.log(i) for i in range(3)))
  os.kill(job.processes[index].pid, number)
  began = time.monotonic()
  codes = job.wait()
  assert time.monotonic() - began < AT_ONCE_S
  expected = [code] * 3
  if number == signal.SIGKILL:
    expected[index] = -signal.SIGKILL
  assert codes == expected, job.logs()
  assert "stack trace" not in job.logs() and "Traceback" not in job.logs()
  for other in {0, 1, 2} - {index}:
    (line,) = error_lines(job.log(other))
    assert f"process {index} of 4" in line


@pytest.mark.slow
def test_fault_08_a_web_proxy_does_not_keep_processes_apart(
  tmp_path, monkeypatch
):
  for name in ("http_proxy", "https_proxy"):
    monkeypatch.setenv(name, f"http://{jobs.free_address()}")
  job = jobs.Job([sys.executable, "-c", JOIN], 2, 1, tmp_path)
  try:
    codes = [process.wait(2 * AT_ONCE_S) for process in job.processes]
  finally:
    job.end()
  assert codes == [errors.EXIT_DONE] * 2, job.logs()
