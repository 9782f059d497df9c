"""Tests of the order of measurements and their rows, with fake processes."""

import dataclasses
import json
import pathlib

import pytest

from imgbench.bench import micro
from imgbench.bench import points as points_lib
from imgbench.bench import rows
from imgbench.bench import run_settings
from imgbench.bench import runner

TRAIN = rows.Key(
  task="train",
  model="resnet18",
  batch=8,
  image_size=32,
  dtype="float32",
  matmul_precision="default",
  conv_precision="default",
  strategy="jit",
  data="device",
)
BASELINE = dataclasses.replace(TRAIN, framework="torch-eager")
INFER = dataclasses.replace(TRAIN, task="infer")
MATMUL = rows.Key(
  task="micro",
  name=micro.MATMUL,
  size="8x8x8",
  dtype="float32",
  matmul_precision="default",
)
COPY = rows.Key(task="micro", name=micro.MEMORY_COPY, size="64 bytes")
SAMPLING = run_settings.Sampling(
  processes=3, most_processes=6, relative_width=0.5, row_s=100, process_s=9
)
SETTINGS = run_settings.Settings(
  recipe={"num_classes": 10, "model_settings": {}},
  timing={},
  sampling=SAMPLING,
  platform="cpu",
  device_kind="cpu",
  compile_cache=False,
)


def failure(status: str) -> dict:
  return {"status": status, "message": f"it {status}"}


class Processes:
  """Fake `processes.Launcher`: every process takes a second.

  Args:
    answer: request -> result of a step in seconds, or a whole result.
  """

  def __init__(self, answer=lambda request: 0.5):
    self.requests = []
    self.now = 0.0
    self._answer = answer

  def __call__(self, request, timeout_s):
    json.dumps(request)  # It goes to a process.
    self.requests.append(request)
    self.now += 1.0
    if request["kind"] == "micro":
      results = [self._one(request | {"key": k}) for k in request["keys"]]
      return {"status": "ok", "message": "", "results": results}
    found = self._one(request)
    return found

  def _one(self, request):
    found = self._answer(request)
    if isinstance(found, dict):
      return found
    process = {
      "latencies_ms": [1e3 * found],
      "throughput_s": [found, found],
      "first_step_s": 1.0,
      "compile_s": 2.0,
      "compile_cached": len(self.requests) > 1,
    }
    of_micro = {"work": 100.0, "rate_unit": "FLOP/s"}
    of_step = {"process": process, "params": 5, "bytes_accessed": 1e3}
    is_micro = request["kind"] == "micro"
    more = process | of_micro if is_micro else of_step
    return {"status": "ok", "message": "", **more}

  def asked(self) -> list:
    return [request.get("key") for request in self.requests]


def make(
  folder: pathlib.Path,
  processes: Processes,
  keys=(TRAIN,),
  micros=(),
  **changes,
) -> runner.Runner:
  if not (folder / rows.ENVIRONMENT).exists():
    (folder / rows.ENVIRONMENT).write_text("{}")
  retry = changes.pop("retry", ("refused",))
  groups = points_lib._group_by_framework(keys)
  return runner.Runner(
    folder,
    points_lib.Points(list(micros), groups, [], []),
    dataclasses.replace(SETTINGS, **changes),
    dict.fromkeys(rows.FRAMEWORKS, processes),
    retry=retry,
    clock=lambda: processes.now,
  )


def test_a_row_is_of_as_many_processes_as_it_takes(tmp_path):
  steady = Processes()
  sampling = dataclasses.replace(SAMPLING, processes=5)
  one = make(tmp_path, steady, sampling=sampling)
  one.run()
  assert len(steady.requests) == 5
  (row,) = rows.read(tmp_path / rows.ROWS)
  assert (row.status, row.processes) == ("ok", 5)
  assert row.images_per_s == pytest.approx(16.0)
  assert (row.compile_cold_s, row.compile_cached_s) == (2.0, 2.0)
  assert (row.params, row.bytes_accessed) == (5, 1e3)
  # 3 x 2 x the multiply-adds of a ResNet-18 at 32 pixels.
  assert row.flops_per_image == pytest.approx(6 * 37.0e6, rel=0.01)
  assert (tmp_path / rows.CSV).read_text().count("\n") == 2


@pytest.mark.parametrize(
  "change, expected",
  [
    ({"processes": 5, "most_processes": 9}, 9),
    ({"processes": 5, "most_processes": 99, "row_s": 7.0}, 7),
    ({"processes": 5, "most_processes": 99, "relative_width": 9.0}, 5),
  ],
  ids=["most", "time is up", "narrow"],
)
def test_more_processes_until(tmp_path, change, expected):
  shaky = Processes(lambda r: 0.1 if len(shaky.requests) % 2 else 0.9)
  sampling = dataclasses.replace(SAMPLING, **change)
  make(tmp_path, shaky, sampling=sampling).run()
  assert len(shaky.requests) == expected


def test_points_that_differ_in_framework_take_turns(tmp_path):
  processes = Processes()
  make(tmp_path, processes, [TRAIN, BASELINE, INFER]).run()
  order = [(k["task"], k["framework"]) for k in processes.asked()]
  both = [("train", "imgbench"), ("train", "torch-eager")]
  assert order[: 2 * 5] == both * 5
  assert order[2 * 5 :] == [("infer", "imgbench")] * 5


def test_micro_comes_first_and_sets_the_peaks(tmp_path):
  processes = Processes()
  sampling = dataclasses.replace(SAMPLING, processes=5)
  make(tmp_path, processes, micros=[MATMUL, COPY], sampling=sampling).run()
  kinds = [request["kind"] for request in processes.requests]
  assert kinds == ["micro"] * 5 + ["step"] * 5
  matmul, _, row = rows.read(tmp_path / rows.ROWS)
  assert matmul.rate == pytest.approx(200.0)
  share = row.images_per_s * row.flops_per_image / matmul.rate
  assert row.flops_share_of_peak == {"measured": pytest.approx(share)}
  # 1,000 bytes in half a second of 200 bytes per second.
  assert row.bandwidth_share == pytest.approx(10.0)


def test_the_datasheet_is_a_peak_too(tmp_path):
  half = dataclasses.replace(TRAIN, dtype="bfloat16")
  processes = Processes()
  kind = {"platform": "gpu", "device_kind": "NVIDIA H200"}
  make(tmp_path, processes, [half], **kind).run()
  (row,) = rows.read(tmp_path / rows.ROWS)
  share = row.images_per_s * row.flops_per_image / 989e12
  assert row.flops_share_of_peak == {"datasheet": pytest.approx(share)}


def test_a_microbenchmark_that_fails_leaves_the_others_alone(tmp_path):
  def answer(request):
    bad = request["key"]["name"] == micro.MATMUL
    return failure("out_of_memory") if bad else 0.5

  processes = Processes(answer)
  make(tmp_path, processes, [], [MATMUL, COPY]).run()
  status = {row.key.name: row.status for row in rows.read(tmp_path / rows.ROWS)}
  assert status == {micro.MATMUL: "out_of_memory", micro.MEMORY_COPY: "ok"}
  assert [len(r["keys"]) for r in processes.requests] == [2] + [1] * 4


@pytest.mark.parametrize(
  "status", ["crashed", "out_of_memory", "timeout", "refused"]
)
def test_a_failure_is_a_row_and_the_sweep_continues(tmp_path, status):
  processes = Processes(
    lambda r: failure(status) if r["key"]["task"] == "train" else 0.5
  )
  make(tmp_path, processes, [TRAIN, INFER]).run()
  bad, good = rows.read(tmp_path / rows.ROWS)
  assert (bad.status, bad.message) == (status, f"it {status}")
  assert good.status == "ok"


def test_a_failure_later_on_keeps_what_was_measured(tmp_path):
  processes = Processes(
    lambda r: failure("crashed") if len(processes.requests) > 2 else 0.5
  )
  make(tmp_path, processes).run()
  (row,) = rows.read(tmp_path / rows.ROWS)
  assert (row.status, row.processes) == ("crashed", 2)
  assert row.message == "process 3: it crashed"


def test_a_batch_that_does_not_fit_is_halved_until_it_does(tmp_path):
  processes = Processes(
    lambda r: failure("out_of_memory") if r["key"]["batch"] > 2 else 0.5
  )
  one = make(tmp_path, processes, fit_batch=True)
  one.run()
  found = rows.read(tmp_path / rows.ROWS)
  assert [(r.key.batch, r.status, r.batch_asked) for r in found] == [
    (8, "out_of_memory", None),
    (4, "out_of_memory", 8),
    (2, "ok", 8),
  ]
  assert one.is_done(TRAIN)


def test_halving_resumes_and_ends_at_other_points(
  tmp_path,
):
  tight = lambda r: failure("out_of_memory") if r["key"]["batch"] > 1 else 0.5
  make(tmp_path, Processes(tight)).run()
  one = make(tmp_path, Processes(tight), fit_batch=True)
  assert not one.is_done(TRAIN)
  smaller = dataclasses.replace(TRAIN, batch=2)
  again = Processes(tight)
  one = make(tmp_path, again, [TRAIN, smaller], fit_batch=True)
  one.run()
  # 8 is known, 2 is a point of its own.
  assert [k["batch"] for k in again.asked()][:3] == [4, 2, 1]
  assert one.is_done(TRAIN) and one.is_done(smaller)


def test_a_batch_that_devices_do_not_divide_is_not_tried(tmp_path):
  key = dataclasses.replace(TRAIN, batch=6, devices=3)
  processes = Processes(lambda r: failure("out_of_memory"))
  make(tmp_path, processes, [key], fit_batch=True).run()
  assert [k["batch"] for k in processes.asked()] == [6, 3]


def test_finished_rows_are_kept_and_an_interrupted_one_is_repeated(tmp_path):
  def answer(request):
    if request["key"]["task"] == "infer" and len(first.requests) > 8:
      raise KeyboardInterrupt
    return 0.5

  first = Processes(answer)
  with pytest.raises(KeyboardInterrupt):
    make(tmp_path, first, [TRAIN, INFER]).run()
  before = (tmp_path / rows.ROWS).read_text()
  second = Processes()
  one = make(tmp_path, second, [TRAIN, INFER])
  assert one.is_done(TRAIN) and not one.is_done(INFER)
  one.run()
  assert {k["task"] for k in second.asked()} == {"infer"}
  after = (tmp_path / rows.ROWS).read_text()
  assert after.startswith(before) and after.count("\n") == 2


@pytest.mark.parametrize(
  "status, retry, again",
  [
    ("refused", ("refused",), True),
    ("crashed", ("refused",), False),
    ("crashed", runner.RETRIED, True),
    ("out_of_memory", runner.RETRIED, False),
  ],
)
def test_which_failures_are_tried_again(tmp_path, status, retry, again):
  make(tmp_path, Processes(lambda r: failure(status))).run()
  processes = Processes()
  make(tmp_path, processes, retry=retry).run()
  assert bool(processes.requests) == again
  (row,) = rows.read(tmp_path / rows.ROWS)
  assert row.status == ("ok" if again else status)


def test_processes_of_a_point_share_programs_and_no_other_does(tmp_path):
  seen = []

  def answer(request):
    folder = pathlib.Path(request["compile_cache"])
    seen.append((request["key"]["task"], folder, folder.is_dir()))
    return 0.5

  processes = Processes(answer)
  make(tmp_path, processes, [TRAIN, INFER], compile_cache=True).run()
  assert all(there for _, _, there in seen)
  assert len({(task, folder) for task, folder, _ in seen}) == 2
  assert len({folder for _, folder, _ in seen}) == 2
  assert not any(folder.exists() for _, folder, _ in seen)


def test_a_profile_is_made_in_a_process_that_does_not_count(tmp_path):
  processes = Processes()
  make(tmp_path, processes, [TRAIN, BASELINE], profile=True).run()
  traced = [r for r in processes.requests if r["profile"]]
  (request,) = traced
  assert request["key"]["framework"] == "imgbench"
  assert request["profile"].startswith(str(tmp_path / runner.TRACES))
  assert {r.processes for r in rows.read(tmp_path / rows.ROWS)} == {5}


def test_a_trace_that_fails_costs_no_row(tmp_path):
  answer = lambda request: failure("crashed") if request["profile"] else 0.5
  make(
    tmp_path, Processes(answer), [TRAIN, BASELINE, INFER], profile=True
  ).run()
  found = rows.read(tmp_path / rows.ROWS)
  assert {row.key for row in found} == {TRAIN, BASELINE, INFER}
  assert {row.status for row in found} == {"ok"}


@pytest.mark.parametrize("least, kept", [(0, []), (1, [1, 2]), (2, [2])])
def test_a_stop_keeps_points_with_enough_processes(tmp_path, least, kept):
  """Ours has two processes by then, the baseline one."""

  def answer(request):
    if len(processes.requests) == 4:
      raise KeyboardInterrupt
    return 0.5

  processes = Processes(answer)
  sampling = dataclasses.replace(SAMPLING, stopped_processes=least)
  with pytest.raises(KeyboardInterrupt):
    make(tmp_path, processes, [TRAIN, BASELINE], sampling=sampling).run()
  found = rows.read(tmp_path / rows.ROWS)
  assert sorted(row.processes for row in found) == kept
  assert all(row.message.startswith("stopped after") for row in found)


def test_a_stop_keeps_microbenchmarks_too(tmp_path):
  def answer(request):
    if len(processes.requests) == 2:
      raise KeyboardInterrupt
    return 0.5

  processes = Processes(answer)
  sampling = dataclasses.replace(SAMPLING, stopped_processes=1)
  with pytest.raises(KeyboardInterrupt):
    make(tmp_path, processes, [], [MATMUL, COPY], sampling=sampling).run()
  found = rows.read(tmp_path / rows.ROWS)
  assert [row.processes for row in found] == [1, 1]
  assert found[0].rate == 200.0


def test_seeds_of_whole_runs_are_one_row(tmp_path):
  key = rows.Key(task="time_to_accuracy", name="tiny", target=0.5)
  section = {
    **{"config": "tiny.py", "metric": "val/top1_accuracy", "target": 0.5},
    **{"runs": 3, "seed": 7, "run_s": 50.0, "overrides": []},
  }

  def answer(request):
    reached = request["seed"] != 8
    process = {
      "seed": request["seed"],
      "seconds_to_target": 2.0 if reached else None,
      "final_accuracy": 0.6 if reached else 0.4,
    }
    return {"status": "ok", "message": "", "process": process}

  processes = Processes(answer)
  (tmp_path / rows.ENVIRONMENT).write_text("{}")
  runner.Runner(
    tmp_path,
    points_lib.Points([], [], [key], []),
    dataclasses.replace(SETTINGS, runs=section),
    {"imgbench": processes},
  ).run()
  (row,) = rows.read(tmp_path / rows.ROWS)
  assert [p.seed for p in row.raw] == [7, 8, 9]
  assert row.seconds_to_target is None
  assert row.message == "seeds that did not reach it: [8]"
