"""Tests of the benchmark over several processes."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from imgbench import errors
from imgbench import living
from imgbench.bench import __main__ as program
from imgbench.bench import compare
from imgbench.bench import exchange
from imgbench.bench import measure
from imgbench.bench import points
from imgbench.bench import processes
from imgbench.bench import rows
from tests import raising
from tests.bench import main_test
from tests.bench import runner_test
from tests.parallel import jobs
from tests.train import processes as runs

BENCH = pathlib.Path(main_test.bench.__file__)
OK = {"status": "ok", "message": ""}
TWO = points.Machine("cpu", 4, 2)
FLAGS = (
  *("--config.models=cnn", "--config.image_sizes=16"),
  *("--config.batch_sizes=8", "--config.frameworks=imgbench"),
  *("--config.recipe.num_classes=10", "--config.micro.transfer_mib=1"),
  *("--config.timing.latency_s=0.05", "--config.timing.round_s=0.05"),
  *("--config.sampling.processes=1", "--config.sampling.most_processes=1"),
)


class _Group:
  """One of two processes in threads; for methods see `processes.Group`."""

  def __init__(self, index, barrier, values):
    self.first = index == 0
    self._index, self._barrier, self._values = index, barrier, values

  def exchange(self, value):
    self._values[self._index] = value
    self._barrier.wait(60)
    found = list(self._values)
    self._barrier.wait(60)
    return found

  def from_first(self, make):
    return self.exchange(make() if self.first else None)[0]


def _pair():
  barrier, values = threading.Barrier(2), [None, None]
  return [_Group(i, barrier, values) for i in range(2)]


def _launch(answers):
  """Returns results of the first process, and requests of both."""
  requests = ([], [])

  def start(index):
    def launcher(request, timeout_s):
      requests[index].append((request, timeout_s))
      answer = answers[index]
      if answer is KeyboardInterrupt:
        raise KeyboardInterrupt
      return answer

    return launcher

  first, second = (
    processes.GroupLauncher(start(i), group, ["host:1", 2, i, 60.0])
    for i, group in enumerate(_pair())
  )
  follower = threading.Thread(target=second.follow, daemon=True)
  follower.start()
  try:
    found = first({"kind": "step"}, 5.0)
  finally:
    first.stop()
    follower.join(60)
  assert not follower.is_alive()
  return found, requests


def test_each_process_starts_a_worker_that_joins_the_others():
  found, requests = _launch([OK, OK])
  assert found == OK
  for index, ((request, timeout_s),) in enumerate(requests):
    join = ["host:1", 2, index, 60.0]
    assert (request, timeout_s) == ({"kind": "step", "join": join}, 5.0)


def test_a_stop_in_another_process_is_one_in_the_first():
  with pytest.raises(KeyboardInterrupt):
    _launch([OK, KeyboardInterrupt])


def test_a_step_ends_when_all_have_ended_it():
  one = {"throughput_s": [1.0, 4.0], "compile_cached": True, "compile_s": 3.0}
  two = {"throughput_s": [2.0, 3.0], "compile_cached": False, "compile_s": 1.0}
  merged = processes.merge(
    [{**OK, "params": 5, "process": process} for process in (one, two)]
  )
  assert merged["params"] == 5
  assert merged["process"] == {
    "throughput_s": [2.0, 4.0],
    "compile_cached": False,
    "compile_s": 3.0,
  }


@pytest.mark.parametrize("status", ["out_of_memory", "refused", "timeout"])
def test_a_failure_is_that_of_the_process_which_caused_it(status):
  lost = {"status": "crashed", "message": "process 1 of 2 exited"}
  cause = {"status": status, "message": "it did"}
  for results in ([lost, cause], [cause, lost], [OK, cause]):
    assert processes.merge(results) == cause


def test_the_first_process_decides_the_numbers_of_steps():
  plan = measure.TimingPlan(warmup_steps=0, latency_s=5.0, round_s=6.0)
  counts = [0, 0]

  def work(index, group):
    now = [0.0]

    def start():  # The second one is ten times faster.
      counts[index] += 1
      now[0] += (1.0, 0.1)[index]

    clock = lambda: now[0]
    return measure.measure(start, lambda x: x, plan, clock, group.from_first)

  threads = [
    threading.Thread(target=work, args=pair, daemon=True)
    for pair in enumerate(_pair())
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  assert counts == [1 + 5 + 3 * 6] * 2


@pytest.mark.parametrize(
  "change, setting, given",
  [
    ({"devices": (2,)}, "devices", 2),
    ({"strategies": ("pmap",)}, "strategies", "pmap"),
    (
      {"time_to_accuracy.config": str(BENCH)},
      "time_to_accuracy.config",
      str(BENCH),
    ),
  ],
)
def test_points_that_several_processes_cannot_measure(change, setting, given):
  config = main_test.tiny()
  config.devices = (0,)
  assert {k.devices for k in points.expand(config, TWO).all()[1:]} == {4}
  config.update_from_flattened_dict(change)
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    points.expand(config, TWO)


def test_rows_record_the_number_of_processes(tmp_path):
  fails = runner_test.Processes(
    lambda r: runner_test.failure("crashed") if r["key"]["batch"] == 16 else 0.5
  )
  larger = dataclasses.replace(runner_test.TRAIN, batch=16)
  keys = [runner_test.TRAIN, larger]
  runner_test.make(tmp_path, fails, keys, num_processes=2).run()
  found = rows.read(tmp_path / rows.ROWS)
  assert [row.status for row in found] == ["ok", "crashed"]
  assert {row.num_processes for row in found} == {2}


def test_rows_of_another_number_of_processes_are_refused(tmp_path):
  known = main_test.ENVIRONMENT | {"num_processes": 2, "how": {}}
  (tmp_path / rows.ENVIRONMENT).write_text(json.dumps(known))
  environment = main_test.ENVIRONMENT | {"num_processes": 1}
  check = raising.about("--out", given="num_processes: 2 -> 1")
  with pytest.raises(errors.InputError, check=check):
    program.check_folder(tmp_path, environment, {})


def _start(folder, logs, *more, slurm=False):
  command = [sys.executable, "-m", "imgbench.bench", f"--out={folder}"]
  command += [f"--config={BENCH}:quick", *FLAGS, *more]
  return jobs.Job(command, 2, 2, logs, slurm=slurm)


@pytest.mark.slow
def test_two_processes_measure_their_devices_together(tmp_path):
  folder = tmp_path / "rows"
  job = _start(
    *(folder, tmp_path / "logs", "--config.tasks=train,infer"),
    "--config.micro.names=all_reduce,host_to_device",
    slurm=True,
  )
  assert job.wait() == [0, 0], job.logs()
  found = rows.read_folder(folder)
  names = [row.key.name or row.key.task for row in found.rows]
  assert names == ["all_reduce", "host_to_device", "train", "infer"]
  assert {row.status for row in found.rows} == {"ok"}
  assert {row.num_processes for row in found.rows} == {2}
  assert found.rows[0].key.devices == 4
  for row in found.rows[2:]:
    assert (row.key.batch, row.key.devices) == (8, 4)
    step_s = sorted(row.raw[0].throughput_s)[1]  # the median of three
    assert row.images_per_s == pytest.approx(8 / step_s)
    assert row.images_per_s_per_device == pytest.approx(2 / step_s)
  assert found.environment["num_devices"] == 4
  assert found.environment["num_processes"] == 2
  # Only the first process shows rows.
  assert "images/s" in job.log(0) and "images/s" not in job.log(1)
  # The gate reads them.
  fewer = tmp_path / "fewer"
  shutil.copytree(folder, fewer)
  rows.write(fewer, found.rows[:-1])
  report, _ = compare.compare_folders([folder, fewer], None, "throughput")
  failures = compare.find_failures(report, allow_missing=False, strict=False)
  assert [key for key, _ in failures] == [found.rows[-1].key]


@pytest.mark.slow
def test_a_killed_process_ends_all_with_one_line(tmp_path):
  folder, logs = tmp_path / "rows", tmp_path / "logs"
  flags = ("--config.tasks=infer", "--config.micro.names=dispatch")
  job = _start(folder, logs, *flags)
  try:
    job.wait_for((folder / rows.ROWS).exists)  # The step is measured next.
    workers = []

    def both_have_workers():
      workers[:] = [_find_children(p.pid) for p in job.processes]
      return all(workers)

    job.wait_for(both_have_workers)
    described = [living.describe_process(pid) for pid in sum(workers, [])]
    job.processes[1].send_signal(signal.SIGKILL)
    codes = job.wait()
  finally:
    job.end()
  assert codes == [errors.EXIT_FAILED, -signal.SIGKILL]
  lines = [line for line in job.log(0).splitlines() if "error" in line]
  assert len(lines) == 1 and "process 1 of 2" in lines[0]
  deadline = time.monotonic() + 60
  while any(map(living.is_alive, described)):
    assert time.monotonic() < deadline
  assert len(rows.read(folder / rows.ROWS)) == 1


def _find_children(pid: int) -> list[int]:
  path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
  return [int(child) for child in path.read_text().split()]


def test_a_worker_whose_parent_has_ended_does_not_start(tmp_path):
  variables = {**os.environ, exchange.PARENT: "1"}
  done = subprocess.run(
    [sys.executable, "-m", "imgbench.bench.worker", str(tmp_path / "result")],
    input=b'{"kind": "environment"}',
    env=variables,
    cwd=runs.ROOT,
    check=False,
  )
  assert done.returncode == -signal.SIGKILL
  assert not (tmp_path / "result").exists()
