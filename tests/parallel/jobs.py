"""Programs of several real processes on this machine, with Gloo."""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
import socket
import subprocess
import sys
import time
import types

from tests.train import processes

QUICK = ("--config.logging.report=False", "--config.logging.tensorboard=False")
TIMEOUT_S = 600


def free_address() -> str:
  """Returns an address with a free port."""
  with socket.create_server(("127.0.0.1", 0)) as server:
    return f"127.0.0.1:{server.getsockname()[1]}"


class Job:
  """Processes of one program, started together.

  Args:
    command: of each, without the flags of its index.
    count: of processes.
    devices: of each process.
    folder: for their logs.
    own: further arguments, by process.
    slurm: whether SLURM's variables replace the flags.
    started: how many of the processes, the first ones, are; None: all.
  """

  def __init__(
    self,
    command: list[str],
    count: int,
    devices: int,
    folder: pathlib.Path,
    own: Mapping[int, Sequence[str]] = types.MappingProxyType({}),
    slurm: bool = False,
    started: int | None = None,
  ):
    folder.mkdir(parents=True, exist_ok=True)
    self._logs = [folder / f"{i}.log" for i in range(count)][:started]
    self.processes = []
    address = free_address()
    for index, log in enumerate(self._logs):
      with log.open("w") as file:
        who, more = flags(address, count, index), {}
        if slurm:
          who, more = (), slurm_environment(address, count, index)
        self.processes.append(
          subprocess.Popen(
            [*command, *who, *own.get(index, ())],
            env={**environment(devices), **more},
            stdout=file,
            stderr=subprocess.STDOUT,
          )
        )

  def log(self, index: int) -> str:
    """Returns the log of a process."""
    return self._logs[index].read_text()

  def wait(self) -> list[int]:
    """Waits for all processes and returns their exit codes."""
    deadline = time.monotonic() + TIMEOUT_S
    try:
      return [
        p.wait(max(deadline - time.monotonic(), 1)) for p in self.processes
      ]
    finally:
      self.end()

  def wait_for(self, seen) -> None:
    """Returns as soon as `seen()`, while all processes live."""
    deadline = time.monotonic() + TIMEOUT_S
    while not seen():
      assert time.monotonic() < deadline, self.logs()
      assert all(p.poll() is None for p in self.processes), self.logs()
      time.sleep(0.01)

  def logs(self) -> str:
    return "\n".join(map(self.log, range(len(self._logs))))

  def end(self) -> None:
    """Kills the processes that still run."""
    for process in self.processes:
      if process.poll() is None:
        process.kill()
        process.wait()


def flags(address: str, count: int, index: int) -> list[str]:
  """Returns the flags of one process."""
  return [
    f"--coordinator_address={address}",
    f"--num_processes={count}",
    f"--process_id={index}",
  ]


def slurm_environment(address: str, count: int, index: int) -> dict[str, str]:
  """Returns variables of a SLURM step; JAX derives the port from its ID."""
  return {
    "SLURM_JOB_ID": address.rpartition(":")[2],
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": str(count),
    "SLURM_PROCID": str(index),
    "SLURM_LOCALID": str(index),
  }


def environment(devices: int) -> dict[str, str]:
  """Returns variables for CPU devices and quick compilation."""
  return {
    **processes.environment(),
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
  }


def start(
  workdir,
  *overrides: str,
  count: int = 2,
  devices: int = 1,
  own=None,
  slurm: bool = False,
) -> Job:
  """Starts a tiny run as several processes, see `Job`."""
  workdir = pathlib.Path(workdir)
  command = processes.command(
    workdir, *QUICK, "--config.parallel.devices=0", *overrides
  )
  logs = workdir.with_name(f"{workdir.name}.logs")
  return Job(command, count, devices, logs, own or {}, slurm)


def run(workdir, *overrides: str, count: int = 2, devices: int = 1) -> Job:
  """Completes a tiny run, which must succeed."""
  job = start(workdir, *overrides, count=count, devices=devices)
  assert job.wait() == [0] * count, job.logs()
  return job


def run_script(script: pathlib.Path, *arguments: str, count, devices, folder):
  """Runs a Python file with flags."""
  job = Job([sys.executable, str(script), *arguments], count, devices, folder)
  assert job.wait() == [0] * count, job.logs()


def log_lines(text: str, beginning: str) -> list[str]:
  return [line for line in text.splitlines() if line.startswith(beginning)]


def has_step(workdir: pathlib.Path, step: int):
  """Returns a function that looks for a step in metrics.jsonl."""

  def seen() -> bool:
    try:
      return f'{{"step": {step},' in (workdir / "metrics.jsonl").read_text()
    except FileNotFoundError:
      return False

  return seen
