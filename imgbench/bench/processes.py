"""Starts worker processes and sends them requests.

By default each request gets a fresh process, so nothing leaks to the next.
`Launcher.converse` starts one that answers several and keeps compiled programs.
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
from imgbench import errors
from imgbench.bench import exchange
from imgbench.parallel import processes as parallel_processes

WORKER = "imgbench.bench.worker"
TORCH_BASELINE = "imgbench.bench.torch_peer"
# All files of imgbench that a baseline imports: the packages installed next to
# imgbench are for another Python.
BASELINE_FILES = (
  "imgbench/__init__.py",
  *(
    f"imgbench/bench/{name}.py"
    for name in ("__init__", "exchange", "measure", "memory", "torch_peer")
  ),
)
DESCRIBE_S = 300.0  # JAX starts slowly on large machines.
_TAIL_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Launcher:
  """Starts programs of one checkout in one Python environment.

  Attributes:
    module: the program, which answers by `exchange`.
    python: its interpreter.
    root: the folder that holds the package imgbench.
    variables: environment variables added to those of this process.
    files: the only files below `root` that the process finds; empty: all.
  """

  module: str = WORKER
  python: str = sys.executable
  root: pathlib.Path = pathlib.Path(imgbench.__file__).parents[1]
  variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
  files: tuple[str, ...] = ()

  def __call__(
    self, request: Mapping[str, Any], timeout_s: float
  ) -> dict[str, Any]:
    """Returns the result of a request, which may be a failure, see `exchange`.

    Raises:
      KeyboardInterrupt: this process was interrupted; the other is killed.
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
        return json.loads(path.read_text(encoding="utf-8"))
      if code is None:
        return _report_timeout(timeout_s)
      return _report_failure(
        code, _read_tail(log), _count_memory_kills() - killed_before
      )

  def converse(self) -> "Conversation":
    """Starts a process whose program calls `exchange.converse`."""
    return Conversation(self)

  def _start(
    self, folder: pathlib.Path, *arguments: str, **streams
  ) -> subprocess.Popen:
    """Starts the program; `folder` gets the copies of `files`."""
    paths = [str(self._prepare_root(folder)), os.environ.get("PYTHONPATH", "")]
    variables = {
      **os.environ,
      "PYTHONPATH": os.pathsep.join(filter(None, paths)),
      # Else the current folder comes first on the path.
      "PYTHONSAFEPATH": "1",
      exchange.PARENT: str(os.getpid()),
      **self.variables,
    }
    return subprocess.Popen(
      [self.python, "-m", self.module, *arguments],
      stdin=subprocess.PIPE,
      env=variables,
      # So that children of libraries are killed with it.
      start_new_session=True,
      **streams,
    )

  def _prepare_root(self, folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder with imgbench, `folder` if `files` are copied."""
    if not self.files:
      return self.root
    for name in self.files:
      copy = folder / name
      copy.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(self.root / name, copy)
    return folder


class GroupLauncher:
  """Starts a worker in each process of a group; the workers join each other.

  The first process calls it, the others `follow`.

  Args:
    launcher: starts the worker of this process.
    group: of the processes, which use no devices.
    join: arguments of `parallel.processes.join` for the worker.
  """

  def __init__(
    self,
    launcher: Launcher,
    group: parallel_processes.Group,
    join: Sequence[Any],
  ):
    self._launcher = launcher
    self._group = group
    self._join = list(join)

  def __call__(
    self, request: Mapping[str, Any], timeout_s: float
  ) -> dict[str, Any]:
    """Returns the result of all workers, see `merge`.

    Raises:
      KeyboardInterrupt: one of the processes was interrupted.
    """
    self._group.from_first(lambda: [dict(request), timeout_s])
    results = self._launch(request, timeout_s)
    if None in results:
      raise KeyboardInterrupt
    return merge(results)

  def follow(self) -> None:
    """Starts workers as the first process does, until it calls `stop`."""
    try:
      while order := self._group.from_first(lambda: None):
        self._launch(*order)
    except KeyboardInterrupt:
      raise errors.Preempted("stopped; the same command resumes") from None

  def stop(self) -> None:
    """Lets the other processes return from `follow`."""
    self._group.from_first(lambda: None)

  def _launch(
    self, request: Mapping[str, Any], timeout_s: float
  ) -> list[dict[str, Any] | None]:
    """Returns the results of all processes; None: it was interrupted."""
    try:
      own = self._launcher({**request, "join": self._join}, timeout_s)
    except KeyboardInterrupt:
      if self._group.first:
        raise
      own = None
    return self._group.exchange(own)


def merge(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the result of workers that measured a point together.

  A failure of one is that of all. Else it is the first one's, with the largest
  time of each step and the largest memory: a step ends when all have ended it.
  """
  failed = [r for r in results if r["status"] != exchange.OK]
  if failed:
    # A worker ends, too, if it misses another.
    return dict(min(failed, key=lambda r: r["status"] == exchange.CRASHED))
  merged = dict(results[0])
  if "process" in merged:
    found = [result["process"] for result in results]
    merged["process"] = {
      name: _merge_values([process[name] for process in found])
      for name in merged["process"]
    }
  return merged


def _merge_values(values: Sequence[Any]) -> Any:
  if isinstance(values[0], list):
    return [max(same) for same in zip(*values, strict=True)]
  return all(values) if isinstance(values[0], bool) else max(values)


class Conversation:
  """A process that answers one request after another.

  A context manager, which kills the process at its end.

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
    """Returns the result of a request, which may be a failure, see `exchange`.

    A process that takes longer than `timeout_s` is killed; later requests fail.
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
    """Returns a line, incomplete if the process ended; None at the timeout."""
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
  """Returns the exit code of the process; None at the timeout."""
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
  message = f"killed after its time limit of {seconds:g} s"
  return {"status": exchange.TIMEOUT, "message": message}


def _report_failure(code: int, tail: str, killed: int) -> dict[str, Any]:
  """Returns the result of a process that ended without one."""
  last = exchange.shorten(tail[-600:])
  if code == -signal.SIGKILL and killed:
    message = "killed by the system, which ran out of memory"
    return {"status": exchange.OUT_OF_MEMORY, "message": message}
  if code < 0:
    ended = f"ended by {signal.Signals(-code).name}"
  else:
    ended = f"ended with code {code} without a result"
  memory = exchange.says_out_of_memory(tail)
  status = exchange.OUT_OF_MEMORY if memory else exchange.CRASHED
  return {"status": status, "message": f"{ended}: {last}" if last else ended}


def _read_tail(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
    return file.read().decode(errors="replace")


def _count_memory_kills() -> int:
  """Returns how many processes the system has killed for lack of memory."""
  try:
    lines = (
      pathlib.Path("/proc/vmstat").read_text(encoding="utf-8").splitlines()
    )
  except OSError:
    return 0
  counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
  return sum(map(int, counts))


def describe_machine(launcher: Launcher) -> dict[str, Any]:
  """Returns the environment, collected by a worker process.

  This process must not use the accelerator, which the others measure.

  Raises:
    InputError: the environment names platforms that are not there.
    RunError: the worker does not start.
  """
  result = launcher({"kind": "environment"}, DESCRIBE_S)
  if "input_error" in result:
    raise errors.InputError(*result["input_error"])
  if result["status"] != exchange.OK:
    raise errors.RunError(
      f"JAX does not start in {launcher.root}: {result['message']}"
    )
  return result["environment"]


def create_baseline_launcher(python: Sequence[str] | str = "") -> Launcher:
  """Returns a launcher of PyTorch baselines.

  Args:
    python: interpreter of their environment; empty: IMGBENCH_PEERS_PYTHON, else
      this one.
  """
  return Launcher(
    TORCH_BASELINE, find_baseline_python(python), files=BASELINE_FILES
  )


def find_baseline_python(python: Sequence[str] | str = "") -> str:
  """Returns `python`, else IMGBENCH_PEERS_PYTHON, else this interpreter."""
  found = python or os.environ.get("IMGBENCH_PEERS_PYTHON") or sys.executable
  return str(found)
