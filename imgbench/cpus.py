"""Counts the CPUs that this process may use."""

from collections.abc import Iterator
import math
import os
import pathlib


def count_cpus(root: pathlib.Path = pathlib.Path("/")) -> int:
  """Returns how many CPUs affinity and cgroup quotas leave, at least 1.

  A quota of 1.5 CPUs counts as 2.

  Args:
    root: of the file system with `proc` and `sys`.
  """
  if hasattr(os, "sched_getaffinity"):
    count = len(os.sched_getaffinity(0))
  else:
    count = os.cpu_count() or 1
  return max(1, min([count, *map(math.ceil, _read_quotas(root))]))


def _read_quotas(root: pathlib.Path) -> Iterator[float]:
  """Yields the quotas, in CPUs, of this process's cgroups and those above."""
  try:
    lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
  except OSError:
    return
  for line in lines:
    _, controllers, path = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
      continue
    base = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
    folder = base / path.strip("/")
    # In a container the path may be that of the host: the top is its own.
    for place in (folder, *folder.parents):
      yield from _read_quota(place, controllers != "")
      if place == base:
        break


def _read_quota(folder: pathlib.Path, first_version: bool) -> Iterator[float]:
  """Yields the quota of a cgroup, if it has one."""
  try:
    if first_version:
      names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
      quota, period = (
        (folder / name).read_text(encoding="utf-8") for name in names
      )
    else:
      quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    if float(quota) > 0:
      yield float(quota) / float(period)
  except (OSError, ValueError, ZeroDivisionError):  # None, or "max".
    pass
