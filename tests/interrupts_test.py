"""Tests of signals to the training program, from its first line to its last."""

import signal
import sys

import pytest

from imgbench import errors
from imgbench import interrupts
from imgbench.configs import tiny
from imgbench.train import journal
from imgbench.train import loop
from tests.train import processes

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Runs the program and sends it a signal when it imports a module.
AT_IMPORT = """
import os, runpy, signal, sys
module, number, hangup = sys.argv[1:4]
del sys.argv[1:4]
signal.signal(signal.SIGINT, signal.SIG_DFL)  # A shell's background ignores it.
signal.signal(signal.SIGHUP, int(hangup))
class Finder:
  def find_spec(self, name, path=None, target=None):
    if name == module:
      sys.meta_path.remove(self)
      os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Finder())
runpy.run_module("imgbench.main", run_name="__main__", alter_sys=True)
"""
# Sends signals when the run is done and at the last line of the program.
AT_END = """
import atexit, os, runpy, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGHUP)
from imgbench.report import terminal
format_table = terminal.format_table
def stop_at_table(*args):
  os.kill(os.getpid(), signal.SIGTERM)
  os.kill(os.getpid(), signal.SIGINT)
  return format_table(*args)
terminal.format_table = stop_at_table
runpy.run_module("imgbench.main", run_name="__main__", alter_sys=True)
"""


def stop_at_import(module, number, *arguments, hangup=signal.SIG_DFL):
  """Returns the completed program that got a signal at an import.

  Args:
    module: imported then.
    number: of the signal.
    *arguments: of the program.
    hangup: what SIGHUP does at the start.
  """
  numbers = [str(int(number)), str(int(hangup))]
  return processes.run_python("-c", AT_IMPORT, module, *numbers, *arguments)


@pytest.fixture
def handlers():
  """The handlers of a program that starts; restores others."""
  restored = {number: signal.getsignal(number) for number in SIGNALS}
  before = dict.fromkeys(SIGNALS, signal.SIG_DFL)
  for number, handler in before.items():
    signal.signal(number, handler)
  yield before
  for number, handler in restored.items():
    signal.signal(number, handler)


def short_config():
  """A tiny run of a few steps without the report."""
  config = tiny.get_config()
  config.steps.total = "4 steps"
  config.logging.every = "1 steps"
  config.logging.update(report=False, tensorboard=False)
  return config


def test_a_signal_that_a_library_makes_an_error_of_still_stops():
  with (
    pytest.raises(errors.Preempted, match="^SIGTERM "),
    interrupts.StopRequest(),
  ):
    try:
      signal.raise_signal(signal.SIGTERM)
    except errors.Preempted as error:
      raise RuntimeError("the device cannot be opened") from error


def test_fault_09_a_signal_in_a_callback_stops_later(handlers, monkeypatch):
  shown = []
  monkeypatch.setattr(sys, "unraisablehook", shown.append)

  class Stopping:
    def __del__(self):
      signal.raise_signal(signal.SIGTERM)

  with interrupts.StopRequest() as stop:
    Stopping()
    assert stop.requested()
  assert shown == []


def test_other_errors_are_themselves():
  with (
    pytest.raises(ValueError, match="of its own"),
    interrupts.StopRequest(),
  ):
    raise ValueError("of its own")


@pytest.mark.parametrize("signal_number", SIGNALS)
def test_a_signal_before_training_is_no_error(handlers, signal_number):
  with (
    pytest.raises(errors.Preempted),
    interrupts.StopRequest(),
  ):
    signal.raise_signal(signal_number)


def test_a_signal_in_training_only_sets_a_flag(handlers):
  with interrupts.StopRequest() as stop:
    stop.defer()
    assert not stop.requested()
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested()
  assert {n: signal.getsignal(n) for n in SIGNALS} == handlers


@pytest.mark.parametrize(
  "number, module",
  [
    (signal.SIGTERM, "absl"),
    (signal.SIGINT, "absl"),
    (signal.SIGHUP, "jax"),
    (signal.SIGTERM, "imgbench.config_utils"),
  ],
)
def test_fault_09_a_signal_during_imports(tmp_path, number, module):
  run = tmp_path / "run"
  done = stop_at_import(module, number, *processes.command(run)[3:])
  assert done.returncode == errors.EXIT_PREEMPTED, done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert number.name in done.stderr
  assert not run.exists()


def test_fault_09_signals_that_were_ignored_stay_so(handlers):
  """As SIGHUP under nohup."""
  done = stop_at_import("absl", signal.SIGHUP, hangup=signal.SIG_IGN)
  assert done.returncode == errors.EXIT_USAGE, done.stderr
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  with interrupts.StopRequest() as stop:
    signal.raise_signal(signal.SIGHUP)
    stop.defer()
    signal.raise_signal(signal.SIGHUP)
    assert not stop.requested()
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_fault_09_the_end_of_a_terminal_may_send_sighup_twice(handlers):
  with interrupts.StopRequest() as stop:
    stop.defer()
    for _ in range(2):
      signal.raise_signal(signal.SIGHUP)
    assert stop.requested()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert {n: signal.getsignal(n) for n in SIGNALS} == handlers


@pytest.mark.parametrize("number", SIGNALS)
def test_fault_09_signals_save(tmp_path, monkeypatch, handlers, number):
  log = journal.Journal.log

  def log_and_stop(self, step, record):
    log(self, step, record)
    if step == 2:
      signal.raise_signal(number)

  monkeypatch.setattr(journal.Journal, "log", log_and_stop)
  with pytest.raises(errors.Preempted):
    loop.train_and_evaluate(short_config(), str(tmp_path))
  assert (tmp_path / "checkpoints/2").is_dir()
  status = processes.read_json(tmp_path, "status.json")
  assert (status["state"], status["step"]) == ("preempted", 2)
  assert {n: signal.getsignal(n) for n in SIGNALS} == handlers


def test_fault_09_a_finished_run_is_no_longer_stopped(handlers):
  interrupts.begin()
  with interrupts.StopRequest() as stop:
    stop.defer()
    signal.raise_signal(signal.SIGINT)
    stop.finish()
    for number in SIGNALS:
      signal.raise_signal(number)
  for number in SIGNALS:
    signal.raise_signal(number)
  assert {signal.getsignal(n) for n in SIGNALS} == {signal.SIG_IGN}


@pytest.mark.slow
def test_fault_09_signals_after_the_end_of_the_run(tmp_path):
  command = processes.command(
    tmp_path,
    "--config.steps.total=2 steps",
    "--config.logging.report=False",
    "--config.logging.tensorboard=False",
  )
  for _ in range(2):  # The second one finds the results.
    done = processes.run_python("-c", AT_END, *command[3:])
    assert done.returncode == errors.EXIT_DONE, done.stderr
    assert "top1_accuracy" in done.stdout
  assert processes.read_json(tmp_path, "status.json")["state"] == "done"


@pytest.mark.parametrize("later", [None, lambda raised: None])
def test_fault_10_a_later_hook_of_unraisable_errors_stays(monkeypatch, later):
  def first(raised):
    pass

  monkeypatch.setattr(sys, "unraisablehook", first)
  with interrupts.StopRequest():
    if later is not None:
      sys.unraisablehook = later
  assert sys.unraisablehook is (later or first)


def test_fault_09_a_late_signal_has_its_effect_after_the_block(handlers):
  """Between two runs of a notebook: the next one does not start."""
  for number in SIGNALS:
    signal.signal(number, signal.default_int_handler)
  with pytest.raises(KeyboardInterrupt), interrupts.StopRequest() as stop:
    stop.defer()
    signal.raise_signal(signal.SIGINT)
  with interrupts.StopRequest() as stop:
    stop.defer()
    signal.raise_signal(signal.SIGINT)
    assert stop.requested()  # The run has stopped for it.


def test_fault_09_a_second_ctrl_c_does_what_it_did_before(handlers):
  signal.signal(signal.SIGINT, signal.default_int_handler)
  with pytest.raises(KeyboardInterrupt), interrupts.StopRequest() as stop:
    stop.defer()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def test_fault_09_a_failed_program_keeps_its_code(handlers):
  signal.signal(signal.SIGTERM, interrupts._end)
  with pytest.raises(ValueError), interrupts.StopRequest():
    raise ValueError
  signal.raise_signal(signal.SIGTERM)  # Ignored: the program ends.
  signal.signal(signal.SIGTERM, interrupts._end)
  with interrupts.StopRequest():
    pass
  assert signal.getsignal(signal.SIGTERM) is interrupts._end


def test_fault_09_a_signal_within_a_write_is_no_error():
  """A buffered stream refuses to be used by a handler in its own write."""
  script = (
    "import os, signal, sys\n"
    "from imgbench import interrupts, streams\n"
    "class Raw(streams._File):\n"
    "  def write(self, data):\n"
    "    if not stop._requested:\n"
    "      os.kill(os.getpid(), signal.SIGTERM)\n"
    "    return super().write(data)\n"
    "import io\n"
    "file = io.BufferedWriter(Raw(2, 'w', closefd=False))\n"
    "sys.stderr = io.TextIOWrapper(file, write_through=False)\n"
    "with interrupts.StopRequest() as stop:\n"
    "  stop.defer()\n"
    "  print('x' * 10_000, file=sys.stderr, flush=True)\n"
    "  assert stop.requested()\n"
    "os._exit(3)"
  )
  assert processes.run_python("-c", script).returncode == 3
