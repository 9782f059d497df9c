"""Fresh processes: each request gets one, and nothing leaks to the next."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any

import imgbench
from imgbench.bench import exchange

WORKER = "imgbench.bench.worker"
TORCH_PEER = "imgbench.bench.torch_peer"
# All that a peer's process imports of imgbench: beside an installed package
# lie others, which are not for its Python.
_PEER_FILES = (
  "__init__.py",
  *(
    f"bench/{name}.py"
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
    files: of the package, if the process is to find these alone.
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
      killed_before = _killed_for_memory()
      with log.open("wb") as file:
        code = self._run(json.dumps(request), path, file, timeout_s)
      if path.exists():
        return json.loads(path.read_text())
      if code is None:
        message = f"ended: it took more than the {timeout_s:g} s that it has"
        return {"status": exchange.TIMEOUT, "message": message}
      return _failure(code, _tail(log), _killed_for_memory() - killed_before)

  def _run(self, request: str, path, log, timeout_s: float) -> int | None:
    """The exit code of the process; None: it ran out of time."""
    paths = [str(self._found_at(path.parent)), os.environ.get("PYTHONPATH", "")]
    variables = {
      **os.environ,
      "PYTHONPATH": os.pathsep.join(filter(None, paths)),
      # Else the current folder comes before all others.
      "PYTHONSAFEPATH": "1",
      **self.variables,
    }
    program = subprocess.Popen(
      [self.python, "-m", self.module, str(path)],
      stdin=subprocess.PIPE,
      stdout=log,
      stderr=subprocess.STDOUT,
      text=True,
      env=variables,
      # Threads and children of libraries end with it.
      start_new_session=True,
    )
    try:
      program.communicate(request, timeout=timeout_s)
      return program.returncode
    except subprocess.TimeoutExpired:
      return None
    finally:
      if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()

  def _found_at(self, folder: pathlib.Path) -> pathlib.Path:
    """Where the process finds imgbench; copies of `files` in `folder`."""
    if not self.files:
      return self.root
    for name in self.files:
      copy = folder / "imgbench" / name
      copy.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(self.root / "imgbench" / name, copy)
    return folder


def _failure(code: int, tail: str, killed: int) -> dict[str, Any]:
  """What a process without a result says by its end."""
  last = exchange.one_line(tail[-600:])
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


def _tail(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
    return file.read().decode(errors="replace")


def _killed_for_memory() -> int:
  """Processes that the system ended for want of memory so far."""
  try:
    lines = pathlib.Path("/proc/vmstat").read_text().splitlines()
  except OSError:
    return 0
  counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
  return sum(map(int, counts))


def peer_launcher(python: Sequence[str] | str = "") -> Launcher:
  """Starts PyTorch peers.

  Args:
    python: interpreter of the environment that has them; empty: that of
      IMGBENCH_PEERS_PYTHON, else this one.
  """
  found = python or os.environ.get("IMGBENCH_PEERS_PYTHON") or sys.executable
  return Launcher(TORCH_PEER, str(found), files=_PEER_FILES)
