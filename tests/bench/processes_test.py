"""Tests of fresh processes and how they end, with a test program."""

import pathlib
import sys
import textwrap
import time

import pytest

from imgbench.bench import exchange
from imgbench.bench import processes

_PROGRAM = """
  import os, signal, subprocess, sys, time
  from imgbench.bench import exchange

  def say(request):
    print("noise on standard output")
    return {"said": request["word"]}

  def overflow(request):
    return {"size": len(bytearray(1 << 42))}

  def exhaust(request):
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes")

  def refuse(request):
    raise exchange.Refused("there is no such thing")

  def fail(request):
    raise ValueError("something\\n broke")

  def kill(request):
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

  def leave(request):
    print("terminate called after throwing 'std::bad_alloc'", flush=True)
    os._exit(3)

  def wait(request):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(60)

  names = (say, overflow, exhaust, refuse, fail, kill, leave, wait)
  handlers = {f.__name__: f for f in names}
  if len(sys.argv) > 1:
    exchange.serve(handlers, sys.argv)
  else:
    exchange.converse(handlers)
"""


@pytest.fixture
def launcher(tmp_path: pathlib.Path) -> processes.Launcher:
  (tmp_path / "program.py").write_text(textwrap.dedent(_PROGRAM))
  return processes.Launcher(
    module="program",
    root=tmp_path,
    variables={
      "PYTHONPATH": f"{tmp_path}:{pathlib.Path(processes.__file__).parents[2]}"
    },
  )


def test_a_result_comes_back_whatever_is_printed(launcher):
  result = launcher({"kind": "say", "word": "moin"}, 60)
  assert result == {"status": "ok", "message": "", "said": "moin"}


@pytest.mark.parametrize(
  "kind, status, words",
  [
    ("overflow", exchange.OUT_OF_MEMORY, "MemoryError"),
    ("exhaust", exchange.OUT_OF_MEMORY, "RESOURCE_EXHAUSTED"),
    ("leave", exchange.OUT_OF_MEMORY, "code 3"),
    ("refuse", exchange.REFUSED, "no such thing"),
    ("fail", exchange.CRASHED, "ValueError: something broke"),
    ("kill", exchange.CRASHED, "SIGSEGV: last words"),
  ],
)
def test_an_end_is_a_status_with_a_message(launcher, kind, status, words):
  result = launcher({"kind": kind, "memory_bytes": 2**33}, 60)
  assert result["status"] == status
  assert words in result["message"]


def test_a_process_that_takes_too_long_is_ended_with_its_children(launcher):
  started = time.monotonic()
  result = launcher({"kind": "wait"}, 1.5)
  assert result["status"] == exchange.TIMEOUT
  assert "1.5 s" in result["message"]
  assert time.monotonic() - started < 30


def test_a_baseline_imports_its_own_files_of_imgbench_alone(monkeypatch):
  """It runs in an environment without the packages of this one."""
  launcher = processes.create_baseline_launcher(sys.executable)
  assert launcher.files
  monkeypatch.setenv("PYTHONPATH", "")
  result = launcher({"kind": "environment"}, 60)
  # Refused where this environment has no torch, which says why.
  if result["status"] == exchange.REFUSED:
    assert "torch" in result["message"]
  else:
    assert result["environment"]["versions"]["torch"] != "absent"


def test_the_python_of_baselines_is_that_of_the_variable(monkeypatch):
  monkeypatch.setenv("IMGBENCH_PEERS_PYTHON", "/somewhere/python")
  assert processes.create_baseline_launcher().python == "/somewhere/python"
  monkeypatch.delenv("IMGBENCH_PEERS_PYTHON")
  assert processes.create_baseline_launcher().python == sys.executable


def test_one_process_answers_until_it_ends(launcher):
  with launcher.converse() as process:
    for word in ("one", "two"):
      result = process.ask({"kind": "say", "word": word}, 60)
      assert result["status"] == exchange.OK and result["said"] == word
    refused = process.ask({"kind": "refuse"}, 60)
    assert refused["status"] == exchange.REFUSED
    killed = process.ask({"kind": "kill"}, 60)
    assert killed["status"] == exchange.CRASHED
    assert "SIGSEGV" in killed["message"] and "last words" in killed["message"]
    later = process.ask({"kind": "say", "word": "three"}, 60)
    assert later["status"] == exchange.CRASHED


def test_a_conversation_has_its_time(launcher):
  with launcher.converse() as process:
    result = process.ask({"kind": "wait"}, 0.5)
  assert result["status"] == exchange.TIMEOUT
