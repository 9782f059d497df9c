"""Tests of the division of a machine among runs."""

import os

import hypothesis
from hypothesis import strategies as st
import pytest

from imgbench import errors
from imgbench.launch.local import slots
from tests import raising


def devices(tmp_path, *names: str):
  for name in names:
    (tmp_path / name).touch()
  return tmp_path


def test_gpus_are_those_of_the_driver_in_numeric_order(tmp_path):
  folder = devices(tmp_path, "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm")
  assert slots.find_gpus({}, folder) == ("2", "10")
  assert slots.find_gpus({"JAX_PLATFORMS": "cpu"}, folder) == ()
  assert slots.find_gpus({"JAX_PLATFORMS": "cuda,cpu"}, folder) == ("2", "10")


@pytest.mark.parametrize(
  "visible, found",
  [
    ("3,1", ("3", "1")),
    ("GPU-8932f937, MIG-7", ("GPU-8932f937", "MIG-7")),
    ("", ()),
    ("-1", ()),
    ("0,-1,1", ("0",)),
  ],
)
def test_gpus_are_those_visible_to_cuda(tmp_path, visible, found):
  folder = devices(tmp_path, "nvidia0")
  assert slots.find_gpus({slots.VISIBLE: visible}, folder) == found


@pytest.mark.parametrize(
  "jobs, per_job, expected",
  [
    (None, None, [("0", range(3)), ("1", range(3, 6))]),
    (2, None, [("0", range(3)), ("1", range(3, 6))]),
    (1, None, [("0,1", range(6))]),
    (None, 2, [("0,1", range(6))]),
    (1, 1, [("0", range(6))]),
  ],
)
def test_the_whole_machine_is_divided(jobs, per_job, expected):
  found = slots.divide(jobs, per_job, ("0", "1"), tuple(range(6)))
  assert found == [
    slots.Slot(tuple(gpus.split(",")), tuple(cores)) for gpus, cores in expected
  ]


def test_without_gpus_the_cores_are_divided():
  assert slots.divide(None, None, (), (4, 5)) == [slots.Slot((), (4, 5))]
  found = slots.divide(2, None, (), (0, 1, 2, 5, 6))
  assert [slot.text() for slot in found] == ["CPU 0-1", "CPU 2,5-6"]


@pytest.mark.parametrize(
  "jobs, per_job, gpus, setting, given",
  [
    (0, None, (), "--jobs", 0),
    (3, None, (), "--jobs", 3),
    (None, 1, (), "--devices_per_job", 1),
    (2, 2, ("0", "1"), "--jobs, --devices_per_job", None),
    (2, None, ("0",), "--jobs, --devices_per_job", None),
    (None, 0, ("0",), "--devices_per_job", 0),
  ],
)
def test_more_than_the_machine_has(jobs, per_job, gpus, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    slots.divide(jobs, per_job, gpus, (0, 1))


@hypothesis.given(st.integers(1, 8), st.integers(0, 16), st.integers(1, 64))
def test_slots_are_disjoint_and_none_is_empty(jobs, num_gpus, num_cores):
  hypothesis.assume(jobs <= num_cores and (jobs <= num_gpus or not num_gpus))
  gpus, cores = tuple(map(str, range(num_gpus))), tuple(range(num_cores))
  found = slots.divide(jobs, None, gpus, cores)
  assert len(found) == jobs
  assert all(slot.cores and (slot.gpus or not gpus) for slot in found)
  assert sum((slot.cores for slot in found), ()) == cores
  used = sum((slot.gpus for slot in found), ())
  assert len(set(used)) == len(used)


def test_cores_are_those_of_this_process():
  assert set(slots.find_cores()) == os.sched_getaffinity(0)
