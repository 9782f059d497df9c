"""Runs programs in processes that are forked after JAX is imported.

python -m tests.forked FOLDER LIMIT_S < lines

Lines are a JSON list of command lines: module and arguments. Each runs in a
folder of its own, FOLDER/NUMBER. Prints the outcomes as JSON.
"""

import dataclasses
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import warnings

from tests.train import processes

# Imported before the processes are forked. None of them starts a device.
_LIBRARIES = (
  "imgbench.bench.runner",
  "imgbench.launch.sweep_table.text",
  "imgbench.papers.program",
  "imgbench.report.terminal",
  "imgbench.startup",
  "imgbench.train.loop",
  "matplotlib.pyplot",
)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """Exit code, output and memory of a program.

  Attributes:
    code: exit code; minus the number of the signal that ended it, SIGALRM
      after the time limit.
    stdout: text.
    stderr: text.
    peak_bytes: largest memory of the process, or of one of its children.
  """

  code: int
  stdout: str
  stderr: str
  peak_bytes: int


def run_all(
  lines: list[list[str]],
  folder: pathlib.Path,
  limit_s: int = 0,
  platforms: str = "cpu",
) -> list[Outcome]:
  """Runs command lines one after the other.

  Args:
    lines: module and arguments of each.
    folder: gets one folder per line, where it runs.
    limit_s: time limit of each; 0: none.
    platforms: of JAX.
  """
  done = subprocess.run(
    [sys.executable, "-m", "tests.forked", str(folder), str(limit_s)],
    input=json.dumps(lines),
    env=processes.environment(platforms),
    cwd=processes.ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return [Outcome(**fields) for fields in json.loads(done.stdout)]


def _run(line: list[str], folder: pathlib.Path, limit_s: int) -> Outcome:
  """Runs one command line in a process forked from this one."""
  folder.mkdir(parents=True, exist_ok=True)
  child = os.fork()
  if child:
    _, status, usage = os.wait4(child, 0)
    read = lambda name: (folder / name).read_text(errors="replace")
    return Outcome(
      os.waitstatus_to_exitcode(status),
      read("stdout"),
      read("stderr"),
      usage.ru_maxrss * 1024,
    )
  code = 1
  try:
    signal.alarm(limit_s)
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
      os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    module, *arguments = line
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as stop:
    code = stop.code or 0
  except BaseException:  # As the interpreter would.
    sys.excepthook(*sys.exc_info())
  finally:
    for stream in (sys.stdout, sys.stderr):
      stream.flush()
    os._exit(code)


def main() -> None:
  """Runs the lines on standard input in folders of the one that is given."""
  folder, limit_s = pathlib.Path(sys.argv[1]), int(sys.argv[2])
  warnings.simplefilter("ignore")
  for name in _LIBRARIES:
    __import__(name)
  outcomes = [
    dataclasses.asdict(_run(line, folder / f"{i}", limit_s))
    for i, line in enumerate(json.load(sys.stdin))
  ]
  print(json.dumps(outcomes))


if __name__ == "__main__":
  main()
