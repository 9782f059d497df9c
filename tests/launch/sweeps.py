"""Sweeps of tiny runs for tests."""

import pathlib
import subprocess
import sys
import textwrap
import time

from imgbench.launch import points
from imgbench.launch import units
from tests.train import processes

ROOT = pathlib.Path(__file__).parents[2]
TINY = str(ROOT / "configs" / "tiny.py")
TIMEOUT_S = 240


def make(sweep_dir, values, key: str = "seed", **settings) -> units.Sweep:
  """Returns a sweep of configs/tiny.py over one key."""
  return points.build(
    TINY, [{key: value} for value in values], sweep_dir, **settings
  )


def config_file(folder: pathlib.Path, functions: str) -> str:
  """Writes a config file: configs/tiny.py and more functions."""
  path = folder / "configs_of_test" / "swept.py"
  path.parent.mkdir(exist_ok=True)
  head = "from configs import tiny\n\nget_config = tiny.get_config\n\n\n"
  path.write_text(head + textwrap.dedent(functions))
  return str(path)


def command(sweep_dir, *more: str, config: str = TINY) -> list[str]:
  """Returns the command line of a launcher: Python, -m, module, arguments."""
  chosen = [f"--config={config}"] if config else []
  head = [sys.executable, "-m", "imgbench.launch", *chosen]
  return [*head, f"--sweep_dir={sweep_dir}", *more]


def start(
  *args, stdout=subprocess.PIPE, variables=None, **settings
) -> subprocess.Popen:
  """Starts a launcher, see `command`; its errors are a pipe."""
  return subprocess.Popen(
    command(*args, **settings),
    env={**processes.environment(), **(variables or {})},
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
  )


def launch(*args, **settings) -> subprocess.CompletedProcess:
  """Runs a launcher to its end, see `command`."""
  return _run(command(*args, **settings))


def action(name: str, sweep_dir) -> list[str]:
  """Returns the command line of `status` or `cancel`, or of the table."""
  program = ["imgbench.launch", name]
  if name == "table":
    program = ["imgbench.launch.table"]
  return [sys.executable, "-m", *program, f"--sweep_dir={sweep_dir}"]


def act(name: str, sweep_dir) -> subprocess.CompletedProcess:
  """Runs `action` to its end."""
  return _run(action(name, sweep_dir))


def _run(line: list[str]) -> subprocess.CompletedProcess:
  return subprocess.run(
    line,
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )


def wait_for(seen, process: subprocess.Popen) -> None:
  """Waits until `seen()`; fails if the process ends before."""
  deadline = time.monotonic() + TIMEOUT_S
  while not seen():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.005)


def states(sweep_dir) -> dict[str, str]:
  """Returns the state of each unit, by name."""
  return {n: status.state for n, status in statuses(sweep_dir).items()}


def statuses(sweep_dir) -> dict[str, units.Status]:
  """Returns the status of each unit, by name."""
  found = units.read(sweep_dir).units
  return {unit.name: units.read_status(unit) for unit in found}
