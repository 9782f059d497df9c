"""Tests of points in fresh processes, with the packages of a bare image."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from imgbench import timing
from imgbench.bench import measure
from imgbench.bench import micro
from imgbench.bench import processes
from imgbench.bench import rows
from tests.bench import model_work_test

PLAN = dict(
  warmup_steps=0,
  latency_s=0.0,
  least_steps=2,
  round_s=0.0,
  rounds=2,
)
# Missing in an image with jax, flax, optax and their dependencies.
BLOCKED = (
  *("tensorflow", "tensorflow_datasets", "grain", "array_record"),
  *("cv2", "PIL", "simplejpeg", "cykooz", "matplotlib", "pandas"),
  *("tensorboardX", "torch", "torchvision", "timm", "jinja2", "markupsafe"),
)
_BARE = f"""
import sys

class Bare:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in {BLOCKED!r}:
      raise ModuleNotFoundError("blocked: " + name)

sys.meta_path.insert(0, Bare())
import imgbench.bench.__main__  # The program that starts it.
from imgbench.bench import worker
worker.main(sys.argv)
"""


def request(key=model_work_test.KEY, **changes):
  return {
    "kind": "step",
    "key": dataclasses.asdict(key),
    "recipe": model_work_test.recipe(),
    "plan": PLAN,
    "compile_cache": "",
    "begin_cache": "",
    "platform": "cpu",
    "profile": "",
    **changes,
  }


@pytest.mark.parametrize("task", ["train", "infer", "eval"])
def test_a_synthetic_point_needs_no_reader_of_data_sets(tmp_path, task):
  path = tmp_path / "result.json"
  key = dataclasses.replace(model_work_test.KEY, task=task)
  subprocess.run(
    [sys.executable, "-c", _BARE, str(path)],
    input=json.dumps(request(key)),
    text=True,
    check=True,
    cwd=processes.Launcher().root,
  )
  result = json.loads(path.read_text())
  assert result["status"] == "ok", result["message"]
  process = rows.Process(**result["process"])
  assert len(process.latencies_ms) == 2 and len(process.throughput_s) == 2
  assert process.peak_memory_bytes > 1e7


def test_the_next_process_finds_cached_programs(tmp_path):
  asked = request(
    compile_cache=str(tmp_path / "step"),
    begin_cache=str(tmp_path / "begin"),
    profile=str(tmp_path / "trace"),
  )
  found = [processes.Launcher()(asked, 300) for _ in range(2)]
  assert [r["process"]["compile_cached"] for r in found] == [False, True]
  # The step's folder holds the step alone.
  programs = [p.name for p in (tmp_path / "step").glob("*-cache")]
  assert len(programs) == 1 and "train_step" in programs[0]
  assert (tmp_path / "trace" / "hlo.txt").read_text().startswith("HloModule")
  assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_attention_is_reported_and_cudnn_is_refused():
  key = dataclasses.replace(model_work_test.KEY, task="infer", model="vit_ti16")
  settings = {"depth": 1, "patch_size": 8}
  recipe = lambda **more: model_work_test.recipe(
    model_settings={"vit_ti16": settings | more}
  )
  found = processes.Launcher()(request(key, recipe=recipe()), 300)
  assert (found["status"], found["attention"]) == ("ok", "plain")
  found = processes.Launcher()(
    request(key, recipe=recipe(attention="cudnn")), 300
  )
  assert found["status"] == "refused"
  assert "attention" in found["message"] and "'cudnn'" in found["message"]


def test_bad_input_and_too_little_memory_are_reported(tmp_path):
  worker = processes.Launcher()
  key = dataclasses.replace(model_work_test.KEY, devices=99)
  refused = worker(request(key), 300)
  assert refused["status"] == "refused"
  assert "parallel.devices" in refused["message"]
  # A batch of 8 GiB in 6 GiB of address space.
  key = dataclasses.replace(
    model_work_test.KEY, task="infer", batch=2**23, image_size=16
  )
  asked = request(key, memory_bytes=6 * 2**30)
  full = worker(asked, 300)
  assert full["status"] == "out_of_memory", full


def test_the_environment_says_what_numbers_depend_on():
  found = processes.Launcher()({"kind": "environment"}, 300)["environment"]
  assert found["platform"] == "cpu"
  assert found["driver"] and found["host"]
  assert found["versions"]["jax"] == jax.__version__
  assert pathlib.Path(processes.Launcher().root, "imgbench").is_dir()


@pytest.mark.parametrize("name", micro.NAMES)
def test_each_microbenchmark(name):
  section = {
    "names": [name],
    "matmul_size": 32,
    "copy_mib": 1,
    "transfer_mib": 1,
  }
  (key,) = micro.list_keys(section, "cpu", 8, ["float32"], ["highest"])
  plan = measure.TimingPlan(**PLAN)
  (result,) = micro.measure_all([key], plan, timing.clock)
  assert result["status"] == "ok", result["message"]
  work = {
    micro.MATMUL: 2 * 32**3,
    micro.MEMORY_COPY: 2 * 2**20,
    micro.TO_DEVICE: 2**20,
    micro.TO_HOST: 2**20,
    micro.ALL_REDUCE: 2 * 7 / 8 * 2**20,
    micro.DISPATCH: 1,
  }
  assert result["work"] == work[name]
  assert all(seconds > 0 for seconds in result["throughput_s"])


def test_transfers_to_a_cpu_are_copied_and_not_aliased(monkeypatch):
  section = {"names": (micro.TO_DEVICE,), "matmul_size": 0, "copy_mib": 0}
  section["transfer_mib"] = 1
  (key,) = micro.list_keys(section, "cpu", 1, ["float32"], ["default"])
  room = np.empty(2**20 + 64, np.uint8)
  start = -room.ctypes.data % 64
  aligned = room[start : start + 2**20].view(np.float32)
  monkeypatch.setattr(micro, "_make_host_array", lambda key: aligned)
  ready = micro.prepare(key)
  copies = [jax.block_until_ready(ready.start()) for _ in range(2)]
  places = {copy.unsafe_buffer_pointer() for copy in copies}
  assert len(places) == 2


def test_one_device_has_no_all_reduce():
  section = dict.fromkeys(("matmul_size", "copy_mib", "transfer_mib"), 0)
  section["names"] = micro.NAMES
  for platform in ("cpu", "gpu", "tpu"):
    found = micro.list_keys(section, platform, 1, ["float32"], ["default"])
    assert micro.ALL_REDUCE not in {key.name for key in found}
    assert len(found) == len(micro.NAMES) - 1
