"""Processes that answer requests.

By default each request gets a fresh process, and nothing leaks to the next.
`Launcher.converse` starts one that answers several and keeps what it compiled.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import imgbench
from imgbench.bench import exchange

WORKER = "imgbench.bench.worker"
TORCH_BASELINE = "imgbench.bench.torch_peer"
# All that a peer's process imports of imgbench: beside an installed package
# lie others, which are not for its Python.
BASELINE_FILES = (
  "imgbench/__init__.py",
  *(
    f"imgbench/bench/{name}.py"
    for name in ("__init__", "exchange", "measure", "memory", "torch_peer")
  ),
)
_TAIL_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Launcher:
  """Starts programs of one checkout in one Python environment.

  Attributes:
    module: the program, which answers by `exchange`.
    python: its interpreter.
    root: the folder that holds the package imgbench.
    variables: of the process's environment, beside those of this one.
    files: below `root`, if the process is to find these alone.
  """

  module: str = WORKER
  python: str = sys.executable
  root: pathlib.Path = pathlib.Path(imgbench.__file__).parents[1]
  variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
  files: tuple[str, ...] = ()

  def __call__(
    self, request: Mapping[str, Any], timeout_s: float
  ) -> dict[str, Any]:
    """Returns the result of a request, a failure among them, see `exchange`.

    Raises:
      KeyboardInterrupt: this process was interrupted; that one is ended.
    """
    with tempfile.TemporaryDirectory(prefix="imgbench-") as name:
      folder = pathlib.Path(name)
      path = folder / "result.json"
      log = folder / "log"
      killed_before = _count_memory_kills()
      with log.open("wb") as file:
        program = self._start(
          folder, str(path), stdout=file, stderr=subprocess.STDOUT
        )
        code = _finish(program, json.dumps(request).encode(), timeout_s)
      if path.exists():
        return json.loads(path.read_text())
      if code is None:
        return _report_timeout(timeout_s)
      return _report_failure(
        code, _read_tail(log), _count_memory_kills() - killed_before
      )

  def converse(self) -> "Conversation":
    """Starts a process whose program ends in `exchange.converse`."""
    return Conversation(self)

  def _start(
    self, folder: pathlib.Path, *arguments: str, **streams
  ) -> subprocess.Popen:
    """Starts the program; `folder` is for copies of `files`."""
    paths = [str(self._prepare_root(folder)), os.environ.get("PYTHONPATH", "")]
    variables = {
      **os.environ,
      "PYTHONPATH": os.pathsep.join(filter(None, paths)),
      # Else the current folder comes before all others.
      "PYTHONSAFEPATH": "1",
      **self.variables,
    }
    return subprocess.Popen(
      [self.python, "-m", self.module, *arguments],
      stdin=subprocess.PIPE,
      env=variables,
      # Threads and children of libraries end with it.
      start_new_session=True,
      **streams,
    )

  def _prepare_root(self, folder: pathlib.Path) -> pathlib.Path:
    """Where the process finds imgbench; copies of `files` in `folder`."""
    if not self.files:
      return self.root
    for name in self.files:
      copy = folder / name
      copy.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(self.root / name, copy)
    return folder


class Conversation:
  """A process that answers one request after another.

  A context: at its end the process is killed.

  Args:
    launcher: starts it.
  """

  def __init__(self, launcher: Launcher):
    self._temporary = tempfile.TemporaryDirectory(prefix="imgbench-")
    folder = pathlib.Path(self._temporary.name)
    self._log = folder / "log"
    self._killed_before = _count_memory_kills()
    with self._log.open("wb") as file:
      self._program = launcher._start(
        folder, stdout=subprocess.PIPE, stderr=file, bufsize=0
      )

  def __enter__(self) -> "Conversation":
    return self

  def __exit__(self, *error) -> None:
    self.close()

  def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Returns the result of a request, a failure among them, see `exchange`.

    A process that takes longer than `timeout_s`, or that has died, is ended;
    later requests fail too.
    """
    try:
      self._program.stdin.write(json.dumps(request).encode() + b"\n")
      line = self._read_line(timeout_s)
    except BrokenPipeError:
      line = b""
    if line is None:
      _kill(self._program)
      return _report_timeout(timeout_s)
    if line.endswith(b"\n"):
      return json.loads(line)
    self._program.wait()
    killed = _count_memory_kills() - self._killed_before
    return _report_failure(
      self._program.returncode, _read_tail(self._log), killed
    )

  def _read_line(self, timeout_s: float) -> bytes | None:
    """A line, torn where the process ended; None: there was no time."""
    line, output = b"", self._program.stdout
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
      selector.register(output, selectors.EVENT_READ)
      while not line.endswith(b"\n"):
        if not selector.select(max(0.0, deadline - time.monotonic())):
          return None
        part = os.read(output.fileno(), 1 << 16)
        if not part:
          break
        line += part
    return line

  def close(self) -> None:
    """Kills the process."""
    _kill(self._program)
    self._program.stdin.close()
    self._program.stdout.close()
    self._temporary.cleanup()


def _finish(
  program: subprocess.Popen, request: bytes, timeout_s: float
) -> int | None:
  """The exit code of the process; None: it ran out of time."""
  try:
    program.communicate(request, timeout=timeout_s)
    return program.returncode
  except subprocess.TimeoutExpired:
    return None
  finally:
    _kill(program)


def _kill(program: subprocess.Popen) -> None:
  if program.poll() is None:
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()


def _report_timeout(seconds: float) -> dict[str, Any]:
  message = f"ended: it took more than the {seconds:g} s that it has"
  return {"status": exchange.TIMEOUT, "message": message}


def _report_failure(code: int, tail: str, killed: int) -> dict[str, Any]:
  """What a process without a result says by its end."""
  last = exchange.shorten(tail[-600:])
  if code == -signal.SIGKILL and killed:
    message = "killed by the system, which was out of memory"
    return {"status": exchange.OUT_OF_MEMORY, "message": message}
  if code < 0:
    ended = f"ended by {signal.Signals(-code).name}"
  else:
    ended = f"ended with code {code} and without a result"
  memory = exchange.says_out_of_memory(tail)
  status = exchange.OUT_OF_MEMORY if memory else exchange.CRASHED
  return {"status": status, "message": f"{ended}: {last}" if last else ended}


def _read_tail(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
    return file.read().decode(errors="replace")


def _count_memory_kills() -> int:
  """Processes that the system ended for want of memory so far."""
  try:
    lines = pathlib.Path("/proc/vmstat").read_text().splitlines()
  except OSError:
    return 0
  counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
  return sum(map(int, counts))


def create_baseline_launcher(python: Sequence[str] | str = "") -> Launcher:
  """Starts PyTorch peers.

  Args:
    python: interpreter of the environment that has them; empty: that of
      IMGBENCH_PEERS_PYTHON, else this one.
  """
  return Launcher(
    TORCH_BASELINE, find_baseline_python(python), files=BASELINE_FILES
  )


def find_baseline_python(python: Sequence[str] | str = "") -> str:
  """Returns `python`, else that of IMGBENCH_PEERS_PYTHON, else this one."""
  found = python or os.environ.get("IMGBENCH_PEERS_PYTHON") or sys.executable
  return str(found)
