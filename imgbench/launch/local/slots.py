"""Slots of this machine: GPUs and CPU cores for one run at a time."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import re

from imgbench import errors

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclasses.dataclass(frozen=True)
class Slot:
  """GPUs and CPU cores for one run at a time.

  Attributes:
    gpus: names as in CUDA_VISIBLE_DEVICES; empty: none.
    cores: numbers of CPU cores; empty: any.
  """

  gpus: tuple[str, ...] = ()
  cores: tuple[int, ...] = ()

  def text(self) -> str:
    """Returns e.g. "GPU 0,1; CPU 0-7"."""
    parts = [f"GPU {','.join(self.gpus)}"] if self.gpus else []
    parts += [f"CPU {_format_ranges(self.cores)}"] if self.cores else []
    return "; ".join(parts) or "all devices"


def find_gpus(
  variables: Mapping[str, str] | None = None,
  devices: pathlib.Path = pathlib.Path("/dev"),
) -> tuple[str, ...]:
  """Returns the GPUs that JAX may use, named as in CUDA_VISIBLE_DEVICES.

  Args:
    variables: environment variables; None: those of this process.
    devices: folder with the device files of NVIDIA's driver.
  """
  variables = os.environ if variables is None else variables
  platforms = variables.get("JAX_PLATFORMS", "")
  if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
    return ()
  if VISIBLE in variables:
    named = [name.strip() for name in variables[VISIBLE].split(",")]
    # CUDA ignores all names from the first empty or negative one on.
    end = [i for i, n in enumerate(named) if not n or n.startswith("-")]
    return tuple(named[: min(end, default=len(named))])
  found = [re.fullmatch(r"nvidia(\d+)", p.name) for p in devices.iterdir()]
  return tuple(map(str, sorted(int(match[1]) for match in found if match)))


def find_cores() -> tuple[int, ...]:
  """Returns the CPU cores that this process may use; empty: unknown."""
  if not hasattr(os, "sched_getaffinity"):
    return ()
  return tuple(sorted(os.sched_getaffinity(0)))


def divide(
  jobs: int | None,
  devices_per_job: int | None,
  all_gpus: Sequence[str],
  all_cores: Sequence[int],
) -> list[Slot]:
  """Returns disjoint slots of cores and, if there are any, GPUs.

  Args:
    jobs: how many; None: one for each `devices_per_job` GPUs, 1 without GPUs.
    devices_per_job: GPUs of each; None: all, divided among `jobs`.
    all_gpus: as of `find_gpus`.
    all_cores: as of `find_cores`.

  Raises:
    InputError: the machine has fewer GPUs or cores.
  """
  for name, number in (("jobs", jobs), ("devices_per_job", devices_per_job)):
    if number is not None and number < 1:
      raise errors.InputError(f"--{name}", "at least 1", number)
  if not all_gpus and devices_per_job is not None:
    expected = "no value on a machine without GPUs"
    raise errors.InputError("--devices_per_job", expected, devices_per_job)
  if jobs is None:
    jobs = max(1, len(all_gpus) // (devices_per_job or 1))
  each = devices_per_job or len(all_gpus) // jobs
  if all_gpus and not 0 < jobs * each <= len(all_gpus):
    expected = f"at most {len(all_gpus)} GPUs in all"
    given = f"{jobs} jobs, each with {max(each, 1)}"
    raise errors.InputError("--jobs, --devices_per_job", expected, given)
  if all_cores and jobs > len(all_cores):
    expected = f"at most {len(all_cores)}, the number of CPU cores"
    raise errors.InputError("--jobs", expected, jobs)
  bounds = [len(all_cores) * i // jobs for i in range(jobs + 1)]
  return [
    Slot(
      gpus=tuple(all_gpus[i * each : (i + 1) * each]),
      cores=tuple(all_cores[bounds[i] : bounds[i + 1]]),
    )
    for i in range(jobs)
  ]


def _format_ranges(numbers: Sequence[int]) -> str:
  """Returns (0, 1, 2, 5) as "0-2,5"."""
  ranges: list[list[int]] = []
  for number in numbers:
    if ranges and number == ranges[-1][1] + 1:
      ranges[-1][1] = number
    else:
      ranges.append([number, number])
  return ",".join(
    str(first) if first == last else f"{first}-{last}" for first, last in ranges
  )
