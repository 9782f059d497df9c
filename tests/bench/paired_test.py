"""Tests of two checkouts measured side by side: files, order, pairs."""

import json
import pathlib
import shutil
import subprocess

import ml_collections
import pytest

from imgbench import errors
from imgbench.bench import comparison
from imgbench.bench import paired
from imgbench.bench import points as points_lib
from imgbench.bench import rows
from imgbench.bench import run_settings
from imgbench.configs import bench as bench_config
from tests import raising
from tests.bench import row_samples

ROOT = pathlib.Path(__file__).parents[2]
KEY = row_samples.key("cnn", batch=8, image_size=32, dtype="float32")


def git(folder, *arguments):
  identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
  subprocess.run(
    ["git", "-C", str(folder), *identity, *arguments],
    check=True,
    capture_output=True,
  )


@pytest.fixture
def small(tmp_path):
  """A repository with a commit and a newer harness."""
  root = tmp_path / "small"
  package = root / "imgbench"
  (package / "bench").mkdir(parents=True)
  (package / "models.py").write_text("old\n")
  (package / "typed.py").write_text("old\n")
  (package / "config.py").write_text("old\n")
  (package / "bench" / "gone.py").write_text("old\n")
  git(tmp_path, "init", "--quiet", str(root))
  git(root, "add", ".")
  git(root, "commit", "--quiet", "--message=one")
  (package / "models.py").write_text("new\n")
  (package / "typed.py").write_text("new\n")
  (package / "bench" / "gone.py").unlink()
  (package / "bench" / "worker.py").write_text("new\n")
  return root


class Machine:
  """Fake worker processes that record the order of requests.

  Args:
    step_s: side -> seconds per step of its processes, one after the other; the
      last one is repeated. None: the process crashes.
  """

  def __init__(self, **step_s):
    self.step_s = {side: list(times) for side, times in step_s.items()}
    self.asked = []

  def launcher(self, side):
    def launch(request, timeout_s):
      assert request["kind"] == "step" and timeout_s > 0
      self.asked.append(side)
      times = self.step_s[side]
      step_s = times.pop(0) if len(times) > 1 else times[0]
      if step_s is None:
        return {"status": "crashed", "message": "ended by SIGSEGV"}
      process = {"throughput_s": [step_s], "latencies_ms": [1e3 * step_s]}
      return {
        **{"status": "ok", "message": "", "process": process},
        **{"params": 7, "bytes_accessed": 1e6},
      }

    return launch


def sides(tmp_path, machine, **sampling):
  settings = {
    **{"processes": 4, "most_processes": 9, "relative_width": 0.05},
    **{"row_s": 1e6, "process_s": 10.0},
  }
  made = []
  for name in ("a", "b"):
    folder = tmp_path / name
    folder.mkdir()
    environment = {"platform": "cpu", "device_kind": "cpu"}
    (folder / rows.ENVIRONMENT).write_text(json.dumps(environment))
    made.append(
      paired.SideRunner(
        folder,
        points_lib.Points([], [[KEY]], [], []),
        run_settings.Settings(
          recipe={"model_settings": {}, "num_classes": 10},
          timing={},
          sampling=run_settings.Sampling(**(settings | sampling)),
          platform="cpu",
          device_kind="cpu",
          compile_cache=False,
        ),
        {"imgbench": machine.launcher(name)},
      )
    )
  return made


def measured(tmp_path):
  return [rows.read(tmp_path / name / rows.ROWS) for name in ("a", "b")]


def test_a_commit_is_checked_out_with_this_harness(small, tmp_path):
  folder = tmp_path / "out"
  folder.mkdir()
  name = paired.check_out("HEAD", folder, small)
  assert len(name) == 12
  files = {
    str(path.relative_to(folder)): path.read_text()
    for path in folder.rglob("*.py")
  }
  assert files == {
    "imgbench/config.py": "old\n",
    "imgbench/models.py": "old\n",
    "imgbench/typed.py": "new\n",
    "imgbench/bench/worker.py": "new\n",
  }
  listed = subprocess.run(
    ["git", "-C", str(small), "worktree", "list"],
    capture_output=True,
    text=True,
    check=True,
  )
  assert len(listed.stdout.splitlines()) == 1  # The archive leaves no traces.


def test_a_commit_that_the_harness_does_not_fit_is_refused(small, tmp_path):
  git(small, "rm", "--quiet", "imgbench/config.py")
  git(small, "commit", "--quiet", "--message=two")
  check = raising.about("--paired", given="'HEAD'")
  with pytest.raises(errors.InputError, check=check):
    paired.check_out("HEAD", tmp_path / "out", small)


def test_unknown_commits_and_folders_without_git_are_refused(small, tmp_path):
  check = raising.about("--paired", given="'nix'")
  with pytest.raises(errors.InputError, check=check):
    paired.check_out("nix", tmp_path, small)
  check = raising.about("--paired", given=tmp_path)
  with pytest.raises(errors.InputError, check=check):
    paired.check_out("HEAD", tmp_path, tmp_path)


def test_processes_run_in_turn_and_know_their_partners(tmp_path):
  machine = Machine(a=[0.1], b=[0.2])
  paired.measure_point(KEY, *sides(tmp_path, machine), "s/1")
  assert "".join(machine.asked) == "abba" * 2
  before, after = measured(tmp_path)
  assert [p.pair for p in before[0].raw] == [f"s/1/{n}" for n in range(4)]
  assert {p.pair for p in after[0].raw} == {p.pair for p in before[0].raw}
  (found,) = comparison.compare(before, after, 0.15).comparisons
  assert found.paired and found.is_regression and found.ratio == 0.5


def test_pairs_are_added_until_the_ratio_is_known(tmp_path):
  machine = Machine(a=[0.1, 0.2] * 5, b=[0.2, 0.1] * 5)
  first, second = sides(tmp_path, machine)
  paired.measure_point(KEY, first, second, "s/1")
  assert len(machine.asked) == 2 * first.sampling.most_processes


def test_drift_of_both_asks_for_no_more(tmp_path):
  drift = [0.1 * 1.5**n for n in range(4)]
  machine = Machine(a=list(drift), b=list(drift))
  paired.measure_point(KEY, *sides(tmp_path, machine), "s/1")
  assert len(machine.asked) == 8


def test_a_side_that_fails_ends_the_point(tmp_path):
  machine = Machine(a=[0.1], b=[0.1, None])
  paired.measure_point(KEY, *sides(tmp_path, machine), "s/1")
  assert len(machine.asked) == 4
  before, after = measured(tmp_path)
  (found,) = comparison.compare(before, after, 0.15).regressions
  assert found.verdict == comparison.BROKEN
  assert found.reason == "crashed: process 2: ended by SIGSEGV"


def tiny_config() -> ml_collections.ConfigDict:
  config = bench_config.get_config("quick")
  config.models = ("cnn",)
  config.tasks = ("infer",)
  config.image_sizes, config.batch_sizes = (32,), (16,)
  config.timing.update(latency_s=0.1, round_s=0.1)
  config.sampling.update(processes=3, most_processes=3)
  return config


def test_rows_of_before_are_not_mixed_in(tmp_path):
  machine = row_samples.Machine()
  row_samples.write(tmp_path / "a", row_samples.micro(machine), machine)
  check = raising.about("--out", given=tmp_path)
  with pytest.raises(errors.InputError, check=check):
    paired.measure(tiny_config(), "HEAD", tmp_path)


@pytest.mark.slow
def test_a_slower_model_is_found_in_real_processes(tmp_path):
  root = tmp_path / "clone"
  ignored = shutil.ignore_patterns("__pycache__", "*.so")
  shutil.copytree(ROOT / "imgbench", root / "imgbench", ignore=ignored)
  git(tmp_path, "init", "--quiet", str(root))
  git(root, "add", ".")
  git(root, "commit", "--quiet", "--message=fast")
  path = root / "imgbench" / "models" / "cnn.py"
  fast = path.read_text()
  slow = fast.replace("(24, 48, 96)", "(96, 192, 384)")
  assert slow != fast
  path.write_text(slow)

  out = tmp_path / "out"
  folders = paired.measure(tiny_config(), "HEAD", out, root)
  read = [rows.read_folder(folder) for folder in folders]
  for folder in read:
    (row,) = folder.rows
    assert row.status == "ok", row.message
    assert row.processes == 3 and row.raw[1].compile_cached
  assert read[0].rows[0].params < read[1].rows[0].params
  commits = [folder.environment["commit"] for folder in read]
  assert commits[1] == f"{commits[0]}+"
  (found,) = comparison.compare(read[0].rows, read[1].rows, 0.15).comparisons
  assert found.paired and found.is_regression and found.ratio < 0.5
