"""Tests of the accelerator suite: stages, archives, numbers by hand."""

import dataclasses
import json
import pathlib
import random
import subprocess
import sys
import tarfile
import time

import pytest

from imgbench import errors
from imgbench import timing
from imgbench.bench import points
from imgbench.bench import quantities
from imgbench.bench import rows
from imgbench.bench import summaries
from imgbench.configs import bench
from imgbench.experiments.accelerator import __main__ as program
from imgbench.experiments.accelerator import kit
from imgbench.experiments.accelerator import measurements
from imgbench.experiments.accelerator import output
from imgbench.experiments.accelerator import results
from imgbench.experiments.accelerator import stages
from tests import forked
from tests import raising
from tests.train import processes

QUICK = ("this", "-h")  # a module of the standard library that ends at once
MISSING = ("no_such_module_of_ours",)
ENDLESS = ("http.server", "--bind=127.0.0.1", "0")


def stage(name, *commands, share=1.0, missing=""):
  return stages.SuiteStage(
    name, share, lambda suite, seconds: commands, lambda suite: missing
  )


@pytest.fixture
def suite(tmp_path):
  return stages.Suite(tmp_path / "work")


@pytest.fixture
def runner(suite):
  with program.locked(suite.work) as lock:
    yield program.StageRunner(suite, 60.0, lock)


def test_stages_end_as_their_commands_do(runner):
  good = stage("good", QUICK, QUICK)
  bad = stage("bad", QUICK, MISSING, QUICK)
  absent = stage("absent", missing="no data")
  slow = stage("slow", ENDLESS, share=0.1)
  ended = {s.name: runner.run(s) for s in (good, bad, absent, slow)}
  assert {k: v["status"] for k, v in ended.items()} == {
    "good": "ok",
    "bad": "failed",
    "absent": "skipped",
    "slow": "timeout",
  }
  assert "no_such_module_of_ours" in ended["bad"]["message"]
  assert ended["absent"]["message"] == "no data"
  assert ended["slow"]["seconds"] >= 6
  # Only stages that may still succeed run again.
  assert [runner.is_finished(s) for s in (good, bad, absent, slow)] == [
    *(True, False, True, False)
  ]
  assert not runner.is_finished(stage("absent", QUICK))


def test_a_spent_budget_starts_nothing(suite):
  with program.locked(suite.work) as lock:
    now = [0.0]
    runner = program.StageRunner(suite, 60.0, lock, clock=lambda: now[0])
    now[0] = 58.0
    record = runner.run(stage("late", QUICK))
  assert record["status"] == "timeout"
  assert not (suite.work / "logs" / "late.log").exists()


def test_stages_out_of_time_are_tried_again_before_the_last(runner):
  one, two, rest = (stage(name, QUICK) for name in ("one", "two", "rest"))
  order = []
  for each in program._with_second_tries([one, two, rest], runner):
    order.append(each.name)
    status = "timeout" if order == ["one"] else "ok"
    path = runner._records / f"{each.name}.json"
    path.write_text(json.dumps({"stage": each.name, "status": status}))
  assert order == ["one", "two", "one", "rest"]


def test_children_of_a_killed_call_end_before_the_next_one(tmp_path):
  """They hold the lock too, and the kernel signals them when it dies."""
  work = tmp_path / "work"
  code = f"""
import pathlib
from imgbench.experiments.accelerator import __main__ as program, stages
suite = stages.Suite(pathlib.Path({str(work)!r}))
with program.locked(suite.work) as lock:
  endless = stages.SuiteStage("endless", 1.0, lambda *_: [{ENDLESS!r}])
  program.StageRunner(suite, 600.0, lock).run(endless)
"""
  child = subprocess.Popen(
    [sys.executable, "-c", code], env=processes.environment()
  )
  log = work / "logs" / "endless.log"
  deadline = timing.clock() + 60
  while not (log.exists() and "Serving" in log.read_text()):
    assert timing.clock() < deadline and child.poll() is None
    time.sleep(0.05)
  child.kill()
  child.wait()
  with program.locked(work):
    found = subprocess.run(
      ["pgrep", "-f", "http.server --bind=127.0.0.1 0"], capture_output=True
    )
  assert found.returncode == 1


def test_another_suite_in_the_folder_is_refused(suite):
  suite.work.mkdir()
  program.check_settings(suite)
  program.check_settings(suite)
  with pytest.raises(
    errors.InputError, check=raising.about("tiny", given="'True'")
  ):
    program.check_settings(dataclasses.replace(suite, tiny=True))


def test_bad_flags_end_in_one_line(tmp_path):
  out = f"--out={tmp_path / 'out'}"
  cases = (
    ([], "--out"),
    ([out, "--stages=facts,fact"], "got 'fact'"),
    ([out, "--kit=nowhere"], "got nowhere"),
    ([out, "--budget_s=0"], "budget_s"),
  )
  module = "imgbench.experiments.accelerator"
  done = forked.run_all([[module, *x] for x, _ in cases], tmp_path / "forked")
  for result, (_, words) in zip(done, cases, strict=True):
    assert result.code == errors.EXIT_USAGE, result.stderr
    assert words in result.stderr.splitlines()[-1]
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cpu_is_no_accelerator(tmp_path):
  """Without --tiny the suite ends when the first stage shows a CPU."""
  result = subprocess.run(
    [
      *(sys.executable, "-m", "imgbench.experiments.accelerator"),
      *(f"--out={tmp_path / 'out'}", "--budget_s=120"),
    ],
    cwd=processes.ROOT,
    env=processes.environment(),
    capture_output=True,
    text=True,
  )
  assert result.returncode == 2, result.stderr
  assert "platform: expected an accelerator" in result.stderr
  assert "correctness: runs" not in result.stdout


# Numbers.


def step_row(framework, speeds, task="train", model="resnet50", **facts):
  key = rows.Key(
    task,
    framework,
    model,
    batch=256,
    image_size=224,
    dtype="bfloat16",
    matmul_precision="default",
    conv_precision="default",
    strategy="jit",
    data="device",
  )
  measured = [rows.Process(throughput_s=(256 / speed,)) for speed in speeds]
  return summaries.build_row(key, measured, summaries.Facts(**facts))


def write_bench(suite):
  suite.bench.mkdir(parents=True)
  for row in (
    step_row(
      "imgbench",
      (8000.0, 9000.0),
      flops_per_image=24e9,
      peak_flops={"datasheet": 989e12},
    ),
    step_row("torch-compile", (4000.0, 6000.0)),
    rows.Row(
      step_row("torch-compile", (1.0,), model="vit_s16").key,
      "refused",
      "no PyTorch",
    ),
  ):
    rows.append(suite.bench, row)
  environment = {
    "device_kind": "Made-up 1",
    "num_devices": 1,
    "platform": "gpu",
    "commit": "abc",
    "versions": {"jax": "0.11.2"},
  }
  (suite.bench / rows.ENVIRONMENT).write_text(json.dumps(environment))
  (suite.bench / rows.CONFIG).write_text("{}")


def test_numbers_of_networks_by_hand(suite):
  write_bench(suite)
  found = {one.name: one for one in measurements.collect(suite)}
  ours = found["train resnet50"]
  assert (ours.value, ours.low, ours.high) == pytest.approx((8500, 8000, 9000))
  assert ours.n == 2
  ratio = found["train resnet50 over PyTorch"]
  assert (ratio.low, ratio.high) == pytest.approx((1.5, 2.0))
  assert ratio.value == pytest.approx(1.75)
  mfu = found["train resnet50 MFU"]
  assert mfu.value == pytest.approx(8500 * 24e9 / 989e12)
  refused = found["train vit_s16 torch-compile"]
  assert refused.value is None and refused.note == "skipped: no PyTorch"


def test_attention_by_cudnn_is_measured_on_gpus_alone(suite):
  write_bench(suite)
  commands = stages._plan_networks(suite, 60.0)
  assert commands[-1][1] == "--config=configs/bench.py:accelerator,cudnn"
  config = bench.get_config("accelerator,cudnn")
  found = points.expand(config, points.Machine("gpu", 1)).all()
  assert [(k.task, k.model, k.framework) for k in found] == [
    ("train", "vit_s16", "imgbench"),
    ("infer", "vit_s16", "imgbench"),
  ]
  assert config.recipe.model_settings.vit_s16.attention == "cudnn"
  suite.bench_cudnn.mkdir()
  row = step_row("imgbench", (9000.0,), model="vit_s16", attention="cudnn")
  rows.append(suite.bench_cudnn, row)
  names = {one.name: one for one in measurements.collect(suite)}
  assert names["train vit_s16, attention by cuDNN"].value == 9000
  (suite.bench / rows.ENVIRONMENT).write_text('{"platform": "tpu"}')
  assert len(stages._plan_networks(suite, 60.0)) == len(commands) - 1


def test_numbers_of_the_other_stages_by_hand(suite):
  suite.work.mkdir()
  (suite.work / stages.TESTS).write_text(
    '<testsuites><testsuite tests="22" skipped="2" failures="1" errors="1"/>'
    "</testsuites>"
  )
  cost = lambda *values: quantities.Samples("relative cost", values)
  write = lambda folder, task, found, about: quantities.write(
    suite.work / folder,
    task,
    found,
    {"model": "resnet50", **about},
    {},
  )
  write(
    stages.METRICS,
    "metrics",
    {
      "forward_with_outcomes_over_forward": cost(1.004, 1.002, 1.008),
      "outcomes_alone_over_forward": cost(0.001),
    },
    {"step_batch": 256, "step_dtype": "bfloat16"},
  )
  write(
    stages.INPUT.format(name="imagenet"),
    "step",
    {"share_outside_step_without_checkpoint": cost(0.1, 0.2, 0.4)},
    {"global_batch_size": 256},
  )
  suite.cifar.mkdir()
  run = lambda seconds, accuracy, pair: rows.Process(
    seed=0,
    seconds=seconds,
    final_accuracy=accuracy,
    seconds_to_target=seconds if accuracy >= 0.94 else None,
    pair=pair,
  )
  for framework, name, runs in (
    ("imgbench", "ours", (run(2.0, 0.95, "a"), run(4.0, 0.93, "b"))),
    ("torch-compile", "airbench", (run(3.0, 0.94, "b"),)),
  ):
    key = rows.Key("time_to_accuracy", framework, name=name, target=0.94)
    rows.append(suite.cifar, summaries.build_row(key, runs))
  found = {one.name: one for one in measurements.collect(suite)}
  value = lambda name: found[name].value
  assert value("tests passed") == 18 / 20
  assert value("metrics in the evaluation step") == pytest.approx(0.004)
  assert value("imagenet: share of time outside the step") == 0.2
  assert value("ours") == 3.0 and value("airbench") == 3.0
  accuracy, reached = found["ours"].note.split(", ")
  assert "94.00%" in accuracy and "augmentation" in accuracy
  assert reached == "1 of 2 at 94%"
  assert value("CIFAR-10, baseline's time over ours") == 0.75
  assert measurements.meets_goal("metrics in the evaluation step", 0.004)
  assert measurements.meets_goal("train resnet50", 7949.0) is False
  assert measurements.meets_goal("ours", 3.0) is None


# Files.


def test_the_folder_keeps_its_limits(suite, tmp_path):
  write_bench(suite)
  trace = suite.bench / "traces" / "train_resnet50"
  trace.mkdir(parents=True)
  noise = random.Random(0).randbytes
  (trace / "small.txt").write_bytes(noise(10_000))
  (trace / "large.txt").write_bytes(noise(900_000))
  out = tmp_path / "out"
  output.finish(suite, [], out, output.Limits(8, 100_000))
  names = {path.name for path in out.iterdir()}
  assert names == set(output.FILES) - {output.PROFILES}
  assert all(path.stat().st_size <= 100_000 for path in out.iterdir())
  with tarfile.open(out / output.TRACES) as packed:
    assert packed.getnames() == ["train_resnet50/small.txt"]
  written = json.loads((out / output.RESULTS).read_text())
  assert written["left_out"] == ["traces.tar.xz: train_resnet50/large.txt"]
  assert rows.read(out / rows.ROWS) == rows.read(suite.bench / rows.ROWS)

  output.finish(suite, [], tmp_path / "few", output.Limits(3, 1e6))
  assert {path.name for path in (tmp_path / "few").iterdir()} == set(
    output.FILES[:3]
  )


def test_a_kit_is_unpacked_as_it_was_packed(tmp_path):
  data = tmp_path / "data" / "cifar10" / "3.0.2"
  data.mkdir(parents=True)
  (data / "records").write_bytes(b"abc")
  folder = tmp_path / "kit"
  folder.mkdir()
  kit.pack(tmp_path / "data", "cifar10", folder / kit.DATA["cifar10_dir"])
  (folder / kit.FACTS).write_text('{"commit": "abc"}')
  for _ in range(2):
    found = kit.unpack(str(folder), tmp_path / "there")
    assert set(found) == {"cifar10_dir"}
    copy = pathlib.Path(found["cifar10_dir"]) / "cifar10" / "3.0.2" / "records"
    assert copy.read_bytes() == b"abc"
  assert kit.read_commit(tmp_path / "there") == "abc"


def test_the_kit_is_pinned_and_disjoint_from_the_host():
  names = lambda file: {
    line
    for line in (kit.REQUIREMENTS / file).read_text().split("\n")
    if line and not line.startswith("#")
  }
  assert len(kit.list_pins()) == len(names("accelerator-kit.txt"))
  assert all("==" in pin for pin in kit.list_pins())
  assert not names("accelerator-kit.txt") & names("accelerator-host.txt")


def test_results_are_checked(suite, tmp_path):
  write_bench(suite)
  ended = [{"stage": "facts", "status": "ok", "message": "", "seconds": 1.0}]
  out = tmp_path / "results" / "made_up"
  output.write(suite, ended, out)
  found = results.check(out)
  assert found["environment"]["device_kind"] == "Made-up 1"
  path = out / output.RESULTS
  check = raising.about(f"{path}, stage correctness", given="missing: ")
  with pytest.raises(errors.InputError, check=check):
    results.check(out, complete=True)
  text = results.format_tables(results.read_all(tmp_path / "results"))
  assert text.startswith("1 × Made-up 1 (jax 0.11.2, commit abc).")
  assert "| train resnet50, images/s" in text
  (out / rows.ROWS).unlink()
  check = raising.about(str(out), given="none")
  with pytest.raises(errors.InputError, check=check):
    results.check(out)


def test_the_readme_has_the_table_of_the_committed_results():
  shown = (processes.ROOT / "README.md").read_text()
  table = shown.partition(results.BEGIN)[2].partition(results.END)[0]
  assert table == results.format_tables(results.read_all())
