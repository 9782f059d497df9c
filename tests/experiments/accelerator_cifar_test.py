"""Tests of the comparison with airbench94_muon: script, turns, clock."""

import json
import os
import pathlib

from absl import flags
import numpy as np
import pytest

from imgbench import errors
from imgbench.bench import exchange
from imgbench.bench import rows
from imgbench.bench import time_to_accuracy
from imgbench.configs import common
from imgbench.experiments.accelerator import airbench
from imgbench.experiments.accelerator import cifar
from imgbench.experiments.accelerator import cifar_worker
from imgbench.experiments.accelerator import turns
from imgbench.train import loop
from tests import raising
from tests.experiments import scripts

# Has the structure of the script. Eager and on a CPU it needs no PyTorch.
STAND_IN = """
import sys
with open(sys.argv[0]) as file:
  own_text = file.read()
from math import ceil

@torch.compile
def double(x):
  return 2 * x

class Loader:
  def device(self):
    return torch.device("cuda")
  def half_precision(self):
    return self.images.half()
  def __len__(self):
    return 5

CifarLoader = lambda name, train: Loader()

class CifarNet:
  widths = dict(block1=64, block2=256, block3=256)
  def cast(self, mod):
    mod.half()

def print_training_details(variables, is_final_entry):
  raise AssertionError("is replaced")

def main(run, model):
  batch_size = 2000
  train_loader = CifarLoader("cifar10", train=True)
  steps = ceil(8 * len(train_loader))
  starter = torch.cuda.Event(enable_timing=True)
  ender = torch.cuda.Event(enable_timing=True)
  torch.cuda.synchronize()
  return [batch_size, steps, double(model.widths["block3"])]

if __name__ == "__main__":
  model = CifarNet().cuda()
  model.compile(mode="max-autotune")
"""
SMALL = {"widths": (8, 16, 16), "epochs": 1, "batch_size": 50}
METRIC = "val/top1_accuracy"


@pytest.fixture
def script(tmp_path):
  path = tmp_path / "airbench.py"
  path.write_text(STAND_IN)
  return path


def test_on_a_gpu_the_script_stays_as_it_is():
  changes = airbench.list_patches("gpu", True, {})
  assert changes == []
  assert airbench.apply_patches(STAND_IN, changes) == STAND_IN


def test_on_a_cpu_the_script_runs_small(script):
  changes = airbench.list_patches("cpu", False, SMALL)
  module = airbench.load(str(script), changes)
  module.torch = type("torch", (), {})  # Nothing of it is left to be called.
  assert module.main(0, module.CifarNet()) == [50, 5, 32]
  assert module.own_text == STAND_IN
  with pytest.raises(NameError):
    airbench.load(str(script), [])  # Its torch.compile is left.


PATTERNS = [change.old for change in airbench.list_patches("cpu", False, SMALL)]
# These may occur more often.
ASSUMED = ['CifarLoader("cifar10"', '.compile(mode="max-autotune")']


@pytest.mark.parametrize(
  "old, twice",
  [(old, False) for old in PATTERNS + ASSUMED]
  + [(old, True) for old in PATTERNS],
)
def test_another_version_of_the_script_is_refused(old, twice):
  text = STAND_IN.replace(old, f"{old} {old}" if twice else "other", 1)
  with pytest.raises(exchange.Refused) as caught:
    airbench.apply_patches(text, airbench.list_patches("cpu", False, SMALL))
  assert repr(old.strip()) in str(caught.value)


def test_a_script_that_lacks_something_is_refused(script, tmp_path):
  with pytest.raises(exchange.Refused, match="nowhere"):
    airbench.load(str(tmp_path / "nowhere.py"), [])
  text = STAND_IN.replace("def main(", "def train(")
  script.write_text(text)
  with pytest.raises(exchange.Refused, match="main"):
    airbench.load(str(script), airbench.list_patches("cpu", False, {}))


class Process:
  """A fake process; each run takes a second of the clock."""

  def __init__(self, world, name, failing=None):
    self._world, self._name, self._failing = world, name, failing

  def converse(self):
    return self

  def __enter__(self):
    self._world.started.append(self._name)
    return self

  def __exit__(self, *error):
    pass

  def ask(self, request, timeout_s):
    assert timeout_s > 0
    result = {"status": exchange.OK, "message": ""}
    key = {
      "framework": "torch-eager" if self._name != cifar.OURS else "imgbench"
    }
    if request["kind"] == "begin":
      assert request["data"].endswith(".npz")
      self._world.now += 10
      about = {"environment": {}, "key": key, "warm_up_s": 10.0}
      return {**result, **about, "shared": {"platform": "cpu"}}
    if request["seed"] == self._failing:
      return {"status": exchange.CRASHED, "message": "it broke"}
    self._world.now += 1
    self._world.runs.append((self._name, request["seed"]))
    seconds = 0.5 + request["seed"] / 100
    return {**result, "seconds": seconds, "accuracy": 0.9}


class World:
  """A folder, a clock, and a record of events."""

  def __init__(self, folder, target=0.8):
    self.folder, self.now, self.started, self.runs = folder, 0.0, [], []
    self._common = {"target": target, "overrides": ("a",)}

  def turns(self, failing=None):
    ours, baseline = (
      turns.Side(name, {"name": name, "framework": framework}, process, {})
      for name, framework, process in (
        (cifar.OURS, "imgbench", Process(self, cifar.OURS)),
        (
          cifar.BASELINE,
          "torch-compile",
          Process(self, cifar.BASELINE, failing),
        ),
      )
    )
    return turns.Turns(
      self.folder, self._common, ours, baseline, clock=lambda: self.now
    )

  def run(self, runs, budget_s=1000.0, failing=None):
    found = self.turns(failing)
    early = found.run(runs, self.now + budget_s)
    written = found.write_rows()
    assert rows.read(self.folder / rows.ROWS) == written
    return early, written


@pytest.fixture
def world(tmp_path):
  return World(tmp_path)


def test_sides_take_turns(world):
  early, (ours, theirs) = world.run(3)
  assert early == ""
  a, b = cifar.OURS, cifar.BASELINE
  assert world.runs == [(a, 0), (b, 0), (b, 1), (a, 1), (a, 2), (b, 2)]
  assert [p.seed for p in ours.raw] == [0, 1, 2]
  assert theirs.key.framework == "torch-eager"
  assert [p.pair for p in ours.raw] == [p.pair for p in theirs.raw]
  assert ours.seconds_to_target == pytest.approx(0.51)
  text = cifar.format_summary([ours, theirs])
  assert "n=3" in text and "0.510 s" in text and "3 of 3" in text
  assert "1.000" in text.splitlines()[-1]


def test_seconds_are_kept_where_the_target_was_missed(tmp_path):
  _, (ours, _) = World(tmp_path, target=0.95).run(2)
  assert ours.seconds_to_target is None
  assert [p.seconds for p in ours.raw] == [0.5, 0.51]
  assert ours.message == "seeds that did not reach it: [0, 1]"


def test_the_same_command_does_what_is_missing(world):
  world.run(2)
  path = world.folder / turns.RUNS
  path.write_text(path.read_text() + '{"side": "img')  # Killed as it wrote.
  world.runs.clear()
  world.run(3)
  assert world.runs == [(cifar.OURS, 2), (cifar.BASELINE, 2)]
  assert len(path.read_text().splitlines()) == 6
  world.started.clear()
  early, (ours, _) = world.run(3)
  assert (early, world.started, ours.processes) == ("", [], 3)


def test_no_run_starts_that_does_not_fit(world):
  early, (ours, theirs) = world.run(9, budget_s=23.5)
  assert "budget" in early
  assert (ours.processes, theirs.processes) == (1, 2)  # A B, B
  assert world.now == 23


def test_other_settings_are_refused(world):
  world.run(1)
  with pytest.raises(
    errors.InputError, check=raising.about("--out", given=world.folder)
  ):
    World(world.folder, target=0.9).turns()


@pytest.mark.parametrize("failing, done", [(0, 0), (1, 1)])
def test_a_baseline_that_crashes_leaves_our_rows(world, failing, done):
  early, (ours, theirs) = world.run(3, failing=failing)
  assert (early, ours.status, ours.processes) == ("", rows.OK, 3)
  assert (theirs.status, theirs.message) == (exchange.CRASHED, "it broke")
  assert len(theirs.raw) == done


def make_config():
  overrides = ["steps.total=4 steps", "logging.tensorboard=False"]
  config = time_to_accuracy.load_config("configs/tiny.py", 0, overrides)
  common.use_whitened_muon(config)
  config.model.widths = (8,)
  config.schedule = {"name": "piecewise_linear", "peak": 0.1}
  config.checkpoint.best = ""
  return config


@pytest.fixture(scope="module")
def trainer():
  return cifar_worker.Trainer(make_config())


def test_runs_share_programs_and_keep_compiling_off_the_clock(trainer):
  first, again, other = (trainer.run(s, METRIC, 1.0) for s in (3, 3, 4))
  assert first["accuracy"] == again["accuracy"]
  assert first["compiled"] > 0  # Else nothing is counted.
  assert again["compiled"] == other["compiled"] == 0
  times = other["times"]
  counted = (*time_to_accuracy.COUNTED, cifar_worker.PREPARE)
  assert other["seconds"] == pytest.approx(sum(times[k] for k in counted))
  assert set(times) - set(counted) == {"setup_s", "compile_s", "checkpoint_s"}


def test_a_run_is_that_of_its_seed(trainer, tmp_path):
  """The program with the key as an argument trains like the usual one."""
  config = make_config()
  config.seed = 5
  loop.train_and_evaluate(config, str(tmp_path))
  wanted = time_to_accuracy.best_value(tmp_path / "metrics.jsonl", METRIC)
  assert trainer.run(5, METRIC, 1.0)["accuracy"] == wanted


def test_the_baseline_gets_the_pixels(trainer, tmp_path):
  trainer.write_data(str(tmp_path / "pixels.npz"), "val")
  with np.load(tmp_path / "pixels.npz") as arrays:
    assert arrays["train_images"].shape == (96, 16, 16, 3)
    assert arrays["test_images"].dtype == np.uint8
    assert arrays["test_labels"].shape == (72,)


def test_models_whose_keys_are_compiled_in_are_refused():
  config = make_config()
  config.augment.mixup = 0.2
  with pytest.raises(errors.InputError, check=raising.about("config")):
    cifar_worker.Trainer(config)


def run(folder, *args):
  return scripts.run("accelerator.cifar", f"--out={folder}", *args)


@pytest.mark.parametrize(
  "argument, setting",
  [
    ("--target=0", "--target"),
    ("--runs=0", "--runs"),
    ("--airbench=nowhere.py", "--airbench"),
    ("--metric=val/top1_accuracy", "time_to_accuracy.metric"),
  ],
)
def test_bad_input_is_refused(argument, setting):
  values = flags.FlagValues()
  cifar.define_flags(values)
  values(["cifar", argument])
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    cifar.read_settings(values)


@pytest.mark.slow  # Tests above run the same in this process.
def test_without_pytorch_the_program_gives_our_row(tmp_path, script):
  out = tmp_path / "out"
  args = ("--config=configs/tiny.py", f"--metric={METRIC}", "--runs=2")
  script.write_text("import no_such_library\n")
  args += (f"--airbench={script}", "--target=0.01")
  ended = run(out, *args, "--overrides=steps.total=4 steps")
  assert ended.returncode == 0, ended.stderr
  ours, theirs = rows.read(out / rows.ROWS)
  assert ours.status == rows.OK and len(ours.raw) == 2
  assert ours.environment and ours.key.batch == 24
  assert theirs.status != rows.OK and theirs.message
  assert theirs.message in ended.stdout
  runs = [json.loads(x) for x in (out / turns.RUNS).read_text().splitlines()]
  assert [r["compiled"] for r in runs] == [0, 0]


@pytest.mark.skipif(
  "IMGBENCH_AIRBENCH" not in os.environ,
  reason="IMGBENCH_AIRBENCH names no copy of airbench94_muon.py",
)
def test_the_real_script_trains_on_our_pixels(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {}
  for split, count in (("train", 100), ("test", 50)):
    shape = (count, 32, 32, 3)
    arrays[f"{split}_images"] = rng.integers(0, 256, shape, np.uint8)
    arrays[f"{split}_labels"] = np.arange(count, dtype=np.int32) % 10
  np.savez(tmp_path / "pixels.npz", **arrays)
  script = pathlib.Path(os.environ["IMGBENCH_AIRBENCH"]).resolve()
  values = flags.FlagValues()
  cifar.define_flags(values)
  values(["cifar", f"--airbench={script}", "--tiny"])
  _, baseline = cifar.build_sides(values, {})
  with baseline.launcher.converse() as process:
    request = {
      "kind": "begin",
      **baseline.begin,
      "data": str(tmp_path / "pixels.npz"),
      "platform": "cpu",
      "compile": False,
    }
    begun = process.ask(request, 300)
    assert begun["status"] == exchange.OK, begun["message"]
    assert begun["key"]["dtype"] == "float32"
    found = [process.ask({"kind": "run", "seed": s}, 300) for s in (1, 1)]
  assert found[0]["accuracy"] == found[1]["accuracy"] <= 1
  assert all(result["seconds"] > 0 for result in found)
  assert [result["compiled"] for result in found] == [0, 0]
