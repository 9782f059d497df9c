"""Multi-process runs: joining, agreeing, and sharing out a batch."""

from collections.abc import Callable
import os
import sys
import traceback
from typing import Any
from typing import NoReturn
from typing import Protocol

from absl import logging
import jax

from imgbench import cpus
from imgbench import errors
from imgbench.parallel import watch as watch_lib
from imgbench.parallel import wire

SILENT_S = 60.0
# JAX's own watchdog aborts with a stack trace; ours must react first.
_JAX_SILENT_FACTOR = 3
_SHUTDOWN_S = 60
_LOCAL = "127.0.0.1"
leave = watch_lib.leave


class Group(Protocol):
  """Processes of a job; all make the same calls in the same order.

  Attributes:
    first: whether this is process 0, which decides and writes files.
  """

  first: bool

  def agreed(self, asked: bool) -> bool:
    """Returns whether all stop here because one was asked to; cheap.

    True in all processes at the same call, soon after one of them is asked.
    """

  def from_first(self, make: Callable[[], Any]) -> Any:
    """Returns the JSON value of `make` in process 0; waits for all."""

  def exchange(self, value: Any) -> list[Any]:
    """Returns the JSON values of all processes, by index; waits for all."""

  def on_end(self, call: Callable[[str, int], None]) -> None:
    """Sets the function called when another process ends this one.

    Args:
      call: receives one line with the reason, and the exit code.
    """

  def close(self) -> None:
    """Waits for all processes, then leaves the job."""

  def fail(self, error: BaseException, code: int, text: str = "") -> None:
    """Tells the others why this process ends.

    Args:
      error: that ends it.
      code: exit code.
      text: one line about it; "": from the error.
    """


class Alone:
  """Group of one process; for methods see `Group`."""

  first = True

  def agreed(self, asked: bool) -> bool:
    return asked

  def from_first(self, make: Callable[[], Any]) -> Any:
    return make()

  def exchange(self, value: Any) -> list[Any]:
    return [value]

  def on_end(self, call: Callable[[str, int], None]) -> None:
    """Does nothing: no other process can end this one."""

  def close(self) -> None:
    """Does nothing."""

  def fail(self, error: BaseException, code: int, text: str = "") -> None:
    """Does nothing."""


ALONE = Alone()


class Joined:
  """One of several processes; for methods see `Group`.

  Args:
    watch: of this process, connected.
  """

  def __init__(self, watch: watch_lib.Watch):
    self._watch = watch
    self._member = watch.member
    self.first = watch.index == 0

  def agreed(self, asked: bool) -> bool:
    return self._member.agreed(asked)

  def from_first(self, make: Callable[[], Any]) -> Any:
    self._member.arrive()
    return self._member.exchange(make() if self.first else None)[0]

  def exchange(self, value: Any) -> list[Any]:
    self._member.arrive()
    return self._member.exchange(value)

  def on_end(self, call: Callable[[str, int], None]) -> None:
    self._watch.on_end(call)

  def close(self) -> None:
    self._member.exchange(None, leaving=True)
    jax.distributed.shutdown()

  def fail(self, error: BaseException, code: int, text: str = "") -> NoReturn:
    """Prints the text and ends the process.

    Python's own exit would wait for collectives and for JAX's service.
    """
    known, text = errors.is_known(error), text or errors.describe(error)
    verdict = self._watch.fail(text, code, sure=known)
    if verdict is not None and not known:
      text, code = verdict.text, verdict.code
    elif not known and not self.first:  # The first process saves its own.
      traceback.print_exception(error)
    prefix = "" if isinstance(error, errors.Preempted) else "error: "
    print(f"imgbench: {prefix}{text}", file=sys.stderr, flush=True)
    leave(code)


def join(
  address: str | None = None,
  count: int | None = None,
  index: int | None = None,
  silent_s: float = SILENT_S,
  devices: bool = True,
) -> Group:
  """Starts `jax.distributed` if asked to, or if JAX detects a cluster.

  JAX detects SLURM, Open MPI, Cloud TPU and Kubernetes. Call this before any
  device is used. Its client would wait without a word and abort with a stack
  trace if a process is missing, so the processes meet before, at the same port.

  Args:
    address: host:port, with a free port of process 0.
    count: of processes.
    index: of this process.
    silent_s: seconds after which a silent process counts as gone.
    devices: whether to start `jax.distributed`, which joins the devices;
      without it, the processes only exchange values.

  Returns:
    ALONE for a single process.

  Raises:
    InputError: some arguments are missing and cannot be detected, or the port
      is not free.
    RunError: process 0 does not answer.
  """
  address, count, index, device_ids = _detect(address, count, index, silent_s)
  if count == 1 or (address, count, index) == (None, None, None):
    return ALONE
  _check(address, count, index, silent_s)
  watch = watch_lib.Watch(address, count, index, silent_s)
  group = Joined(watch)
  try:
    if devices:
      _prepare_cpu()
      _avoid_proxy()
      # It would catch SIGTERM; the process that gets it tells the others.
      jax.config.update("jax_enable_preemption_service", False)
    watch.meet()
    if devices:
      _, port = wire.split_address(address)
      jax.distributed.initialize(
        wire.Relay(address).address if index else f"{_LOCAL}:{port}",
        count,
        index,
        device_ids,
        cluster_detection_method="deactivate",
        heartbeat_timeout_seconds=round(_JAX_SILENT_FACTOR * silent_s) + 60,
        shutdown_timeout_seconds=_SHUTDOWN_S,
      )
  except errors.Preempted as stop:
    if watch.connected:
      group.fail(stop, errors.EXIT_PREEMPTED)
    raise
  except RuntimeError as error:
    if not watch.connected:
      raise
    reason = str(error).strip().splitlines()[0][:300]
    text = f"process {index} of {count} could not join the others at {address}"
    group.fail(errors.RunError(f"{text}: {reason}"), errors.EXIT_FAILED)
  if index:  # The log of process 0 starts with the devices of all.
    logging.info("process %d of %d has met the others", index, count)
  return group


def _detect(address, count, index, timeout_s):
  """Returns the arguments, completed by JAX's cluster detection."""
  if count == 1 or None not in (address, count, index):
    return address, count, index, None
  # Private: JAX's public interface would start at once.
  from jax._src import clusters

  try:
    return clusters.ClusterEnv.auto_detect_unset_distributed_params(
      address, count, index, None, None, round(timeout_s)
    )
  except Exception as error:  # Each kind of cluster raises its own.
    raise errors.InputError(
      "--process_id",
      "a cluster in which JAX finds the processes",
      f"{type(error).__name__}: {error}",
      "give --coordinator_address, --num_processes and --process_id, or"
      " --num_processes=1",
    ) from error


def _check(address, count, index, silent_s) -> None:
  names = ("--coordinator_address", "--num_processes", "--process_id")
  given = dict(zip(names, (address, count, index), strict=True))
  missing = [name for name, value in given.items() if value is None]
  if missing:
    others = " and ".join(name for name in given if name not in missing)
    setting, expected = ", ".join(missing), f"values beside {others}"
    raise errors.InputError(setting, expected, "none")
  if count < 1 or not 0 <= index < count:
    expected = f"0 to {count - 1} for --num_processes={count}"
    raise errors.InputError("--process_id", expected, index)
  if silent_s <= 0:
    raise errors.InputError("--process_timeout_s", "more than 0", silent_s)
  try:
    wire.split_address(address)
  except ValueError as error:
    name = "--coordinator_address"
    raise errors.InputError(name, "host:port", repr(address)) from error


def _prepare_cpu() -> None:
  """Configures CPU devices; accelerators ignore these settings.

  Each device that waits in a collective holds a thread of a shared pool; with
  too few threads all of them wait forever.
  """
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  # JAX adds its settings as attributes when it is imported.
  configured = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
  local = max(configured, _forced_devices(), 1)
  threads = max(cpus.count_cpus(), 4 * local)
  os.environ.setdefault("PJRT_NPROC", str(threads))


def _avoid_proxy() -> None:
  """Keeps JAX's client, which connects to this host only, from a web proxy."""
  name = "no_grpc_proxy"
  known = os.environ.get(name) or os.environ.get("no_proxy", "")
  os.environ[name] = f"{known},{_LOCAL}".removeprefix(",")
  # JAX would warn of the variable.
  jax.config.update("jax_check_proxy_envs", False)


def _forced_devices() -> int:
  """Returns the CPU device count in XLA_FLAGS; 0 if it is not set."""
  name = "--xla_force_host_platform_device_count="
  flags = os.environ.get("XLA_FLAGS", "").split()
  counts = [f.removeprefix(name) for f in flags if f.startswith(name)]
  return int(counts[-1]) if counts and counts[-1].isdigit() else 0


def share(batch_size: int, process: int, processes: int) -> slice:
  """Returns the rows of every global batch that a process feeds.

  The shares are disjoint and cover the batch, so the stream of examples does
  not depend on the number of processes.

  Args:
    batch_size: of the global batch.
    process: in [0, processes).
    processes: number of processes.

  Raises:
    InputError: the processes do not divide the batch.
  """
  if not 0 <= process < processes or batch_size % processes:
    expected = f"a multiple of the {processes} processes"
    raise errors.InputError("global_batch_size", expected, batch_size)
  size = batch_size // processes
  return slice(process * size, (process + 1) * size)
