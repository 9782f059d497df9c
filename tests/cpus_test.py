"""Tests of the number of CPUs that this process may use."""

import os
import pathlib
import re

import pytest

from imgbench import cpus

ROOT = pathlib.Path(cpus.__file__).parents[1]


@pytest.fixture
def many_cpus(monkeypatch):
  """Lets the process use 16 CPUs of 64."""
  monkeypatch.setattr(
    os, "sched_getaffinity", lambda pid: set(range(16)), raising=False
  )
  monkeypatch.setattr(os, "cpu_count", lambda: 64)


def write(root, files) -> pathlib.Path:
  for name, text in files.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
  return root


GROUP = "proc/self/cgroup"
TOP = "sys/fs/cgroup"


@pytest.mark.parametrize(
  ("files", "count"),
  [
    ({}, 16),
    ({GROUP: "0::/\n", f"{TOP}/cpu.max": "max 100000\n"}, 16),
    ({GROUP: "0::/\n", f"{TOP}/cpu.max": "250000 100000\n"}, 3),
    ({GROUP: "0::/\n", f"{TOP}/cpu.max": "1000 100000\n"}, 1),
    ({GROUP: "0::/\n", f"{TOP}/cpu.max": "6400000 100000\n"}, 16),
    ({GROUP: "0::/\n", f"{TOP}/cpu.max": "damaged"}, 16),
    # The least of the cgroup and those above it.
    (
      {
        GROUP: "0::/slurm/job/step\n",
        f"{TOP}/slurm/job/cpu.max": "400000 100000",
        f"{TOP}/slurm/job/step/cpu.max": "max 100000",
      },
      4,
    ),
    # Of version 1; in a container the path is that of the host.
    (
      {
        GROUP: "5:cpu,cpuacct:/docker/0123\n1:name=systemd:/\n0::/\n",
        f"{TOP}/cpu/cpu.cfs_quota_us": "200000",
        f"{TOP}/cpu/cpu.cfs_period_us": "100000",
      },
      2,
    ),
    (
      {
        GROUP: "5:cpu,cpuacct:/docker\n",
        f"{TOP}/cpu/docker/cpu.cfs_quota_us": "-1",
        f"{TOP}/cpu/docker/cpu.cfs_period_us": "100000",
      },
      16,
    ),
  ],
)
def test_fault_16_cpus_of_affinity_and_quotas(
  tmp_path, many_cpus, files, count
):
  assert cpus.count_cpus(write(tmp_path, files)) == count


def test_without_affinity_all_cpus_count(tmp_path, many_cpus, monkeypatch):
  monkeypatch.delattr(os, "sched_getaffinity")
  assert cpus.count_cpus(tmp_path) == 64


def test_here_there_is_at_least_one():
  assert 1 <= cpus.count_cpus() <= os.cpu_count()


def test_fault_16_cpus_are_counted_in_one_place():
  counts = re.compile(r"\bcpu_count\(|len\(os\.sched_getaffinity")
  places = {
    str(path.relative_to(ROOT))
    for folder in ("imgbench", "experiments")
    for path in ROOT.joinpath(folder).rglob("*.py")
    if counts.search(path.read_text())
  }
  assert places == {"imgbench/cpus.py"}
