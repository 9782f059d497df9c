"""A SLURM cluster of two nodes on this machine."""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import pytest

from tests.train import processes

SCRIPT = pathlib.Path(__file__).with_suffix(".sh")
NODES = ("127.0.0.1", "127.0.0.2")
TIMEOUT_S = 240
_DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")
# Debian's folder of daemons is not in every user's PATH.
_PATH = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))


@contextlib.contextmanager
def started(folder: pathlib.Path) -> Iterator[dict[str, str]]:
  """Starts a cluster and yields its users' environment; skips without SLURM.

  Args:
    folder: for all of its files.
  """
  missing = [n for n in _DAEMONS if shutil.which(n, path=_PATH) is None]
  if missing:
    pytest.skip(
      f"no SLURM here ({', '.join(missing)}): as root, tests/launch/"
      f"{SCRIPT.name} install"
    )
  environment = {
    **processes.environment(),
    "SLURM_CONF": str(folder / "slurm.conf"),
    "IMGBENCH_SLURM_PORT": str(_free_ports(3)),
  }
  try:
    subprocess.run(
      [SCRIPT, "start", folder, str(os.getpid())], env=environment, check=True
    )
    yield environment
  finally:
    subprocess.run([SCRIPT, "stop", folder], env=environment, check=True)


def _free_ports(count: int) -> int:
  """Returns the first of `count` consecutive free ports."""
  for first in range(17000, 30000, count):
    with contextlib.ExitStack() as stack:
      try:
        for port in range(first, first + count):
          stack.enter_context(socket.create_server(("", port)))
      except OSError:
        continue
      return first
  raise AssertionError("no free ports")


class Cluster:
  """Commands on the cluster.

  Args:
    environment: as of `started`.
  """

  def __init__(self, environment: dict[str, str]):
    self.environment = environment

  def ask(self, *command: str) -> str:
    """Returns the output of a SLURM command."""
    return subprocess.run(
      command,
      env=self.environment,
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()

  def launch(self, *arguments) -> subprocess.CompletedProcess:
    """Runs imgbench.launch to its end; jobs get its environment.

    Args:
      *arguments: of the command line.
    """
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(
      [sys.executable, "-m", "imgbench.launch", *map(str, arguments)],
      env={**self.environment, **quick},
      capture_output=True,
      text=True,
      check=False,
    )

  def queue(self) -> list[str]:
    """Returns lines "<job> <state> <reason>"."""
    return self.ask("squeue", "-h", "-r", "-o", "%i %T %r").splitlines()

  def wait_for(self, seen, folder: pathlib.Path) -> None:
    """Returns as soon as `seen()`; shows the logs in the folder if never."""
    deadline = time.monotonic() + TIMEOUT_S
    while not seen():
      if time.monotonic() > deadline:
        raise AssertionError(f"{self.queue()}\n{logs(folder)}")
      time.sleep(0.1)

  def wait_until_empty(self, folder: pathlib.Path) -> None:
    self.wait_for(lambda: not self.queue(), folder)


def logs(folder: pathlib.Path) -> str:
  """Returns all logs of runs and scripts in a sweep's folder."""
  texts = sorted(folder.glob("**/*.txt"))
  return "\n".join(f"== {path}\n{path.read_text()}" for path in texts)


def read_json(path: pathlib.Path):
  return json.loads(path.read_text())
