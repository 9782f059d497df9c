"""Sweeps on slices that are folders of this machine, see fake_gcloud.py."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from imgbench import errors
from imgbench.launch import smoke
from imgbench.launch import units
from imgbench.launch.tpu import commands
from tests.launch import sweeps
from tests.train import processes as train_processes

pytestmark = pytest.mark.slow
FAKE = pathlib.Path(__file__).with_name("fake_gcloud.py")
FLAGS = (
  *("--executor=tpu", "--submit", "--project=my-project", "--poll_s=0.2"),
  *("--zone=us-west4-a", "--config.logging.report=False"),
)
# Long enough to be interrupted.
LONG = (
  *("--config.steps.total=600 steps", "--config.checkpoint.every=20 steps"),
  *("--config.evaluation.every=never", "--config.checkpoint.best="),
)
LIMIT_S = 300.0
DEVICES = "--xla_force_host_platform_device_count"
# Replaces python on a VM; the first try ends before it has a signal handler.
ENDED_EARLY = """#!/bin/sh
for word; do
  case $word in --workdir=*) folder=${word#--workdir=} ;; esac
done
if mkdir "$folder/tried" 2>/dev/null; then kill -TERM $$; fi
echo '{"state": "done"}' >"$folder/status.json"
"""


@pytest.fixture(name="cloud")
def _cloud(tmp_path, monkeypatch):
  """Creates a folder with a fake `gcloud`; kills its runs at the end."""
  folder = tmp_path / "cloud"
  (folder / "bin").mkdir(parents=True)
  tool = folder / "bin" / "gcloud"
  tool.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
  tool.chmod(0o755)
  python = folder / "python"  # as installed on a VM
  python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
  python.chmod(0o755)
  monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
  monkeypatch.setenv("FAKE_CLOUD", str(folder))
  yield folder
  for pid in folder.glob("*/imgbench-runs/pid"):
    _kill(int(pid.read_text()))


def _kill(group):
  with contextlib.suppress(ProcessLookupError):
    os.killpg(group, signal.SIGKILL)


def _only_one(folder):
  """Marks all units of configs/tiny.py but the first as done."""
  _mark_done(folder, "0.01,seed=1", "0.001,seed=0", "0.001,seed=1")


def _mark_done(folder, *names):
  for name in names:
    workdir = folder / f"schedule.peak={name}"
    workdir.mkdir(parents=True)
    (workdir / "status.json").write_text('{"state": "done"}')


def _calls(cloud):
  """Returns group, verb and slice of each call."""
  lines = (cloud / "calls.txt").read_text().splitlines()
  words = [line.split() for line in lines]
  return [
    (w[2], w[3], next(a for a in w[4:] if "imgbench-" in a)) for w in words
  ]


def _left(cloud):
  return [path.name for path in cloud.glob("*.state")]


def _until(condition):
  deadline = time.monotonic() + LIMIT_S
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


def _begun(folder):
  """Returns the names of running units that have saved."""
  found = {}
  for path in folder.glob("*/status.json"):
    with contextlib.suppress(json.JSONDecodeError):
      found[path.parent.name] = json.loads(path.read_text())
  return [n for n, s in found.items() if s["state"] == "running" and s["step"]]


@contextlib.contextmanager
def _launched(*args):
  """Starts a launcher that is killed at the end of the block."""
  process = sweeps.start(*args)
  try:
    yield process
  finally:
    if process.poll() is None:
      process.kill()
    process.communicate()


def _ended(process):
  out, err = process.communicate(timeout=LIMIT_S)
  return process.returncode, out, err


def _launch(*args):
  """Returns code, output and errors of a launcher that ends by itself."""
  with _launched(*args) as process:
    return _ended(process)


def test_slices_take_units_until_all_are_done(cloud, tmp_path):
  folder = tmp_path / "sweep"
  code, out, err = _launch(folder, *FLAGS, "--slices=2")
  assert code == errors.EXIT_DONE, err
  assert "4 runs: 4 done" in out
  calls, names = (
    _calls(cloud),
    sorted({c[2].rstrip(":") for c in _calls(cloud)}),
  )
  names = [name for name in names if not name.endswith(".tar.gz")]
  assert len(names) == 2
  for name in names:
    verbs = [c[1] for c in calls if c[2] == name]
    # Queried, requested, awaited, set up once, used, deleted.
    assert verbs[:2] == ["describe", "create"]
    assert verbs.count("create") == verbs.count("delete") == 1
    assert verbs[-1] == "delete"
  runs = [c for c in calls if c[:2] == ("tpu-vm", "ssh")]
  assert len(runs) == 4 + 2  # and two set-ups
  assert not _left(cloud)
  log = next(folder.glob("*/log.txt")).read_text()
  assert " try 1 on imgbench-" in log and "top1_accuracy" in log
  # All are done, so nothing is requested.
  before = len(calls)
  assert _launch(folder, *FLAGS)[0] == errors.EXIT_DONE
  assert len(_calls(cloud)) == before


@pytest.mark.parametrize("seen_by", ["request", "node"])
def test_a_preempted_slice_comes_back_and_its_run_resumes(
  seen_by, cloud, tmp_path
):
  folder = tmp_path / "sweep"
  _only_one(folder)
  with _launched(folder, *FLAGS, *LONG) as process:
    _until(lambda: _begun(folder))
    (state,) = cloud.glob("*.state")
    group = int((cloud / state.stem / "imgbench-runs" / "pid").read_text())
    if seen_by == "request":
      state.write_text("SUSPENDED")
    else:
      state.with_suffix(".taken").touch()
    _kill(group)
    code, _, err = _ended(process)
  assert code == errors.EXIT_DONE, err
  assert "preempted" in err
  found = sweeps.statuses(folder)
  assert {status.state for status in found.values()} == {units.DONE}
  (taken,) = [name for name, status in found.items() if status.attempts == 2]
  log = (folder / taken / units.LOG).read_text()
  assert "try 1 on imgbench-" in log and "try 2 on imgbench-" in log
  # It resumed from its checkpoint: one line for each step.
  lines = (folder / taken / "metrics.jsonl").read_text().splitlines()
  steps = [json.loads(line)["step"] for line in lines]
  assert steps == sorted(set(steps))
  assert [c[1] for c in _calls(cloud)].count("create") == 2
  assert not _left(cloud)


def test_a_run_that_ends_before_it_has_a_handler_resumes(cloud, tmp_path):
  folder = tmp_path / "sweep"
  _only_one(folder)
  (cloud / "python").write_text(ENDED_EARLY)
  code, _, err = _launch(folder, *FLAGS, "--retries=0")
  assert code == errors.EXIT_DONE, err
  assert "preempted" in err and "SIGTERM" in err
  found = sweeps.statuses(folder).values()
  assert sorted(status.attempts for status in found) == [0, 0, 0, 2]
  # No run has a slice any more, so another executor may resume it.
  assert {status.job for status in found} == {""}


def test_stopped_runs_save_and_slices_are_deleted(cloud, tmp_path):
  folder = tmp_path / "sweep"
  # Neither ends before the other has saved, however slow.
  endless = (*LONG, "--config.steps.total=1000000 steps", "--slices=2")
  with _launched(folder, *FLAGS, *endless) as process:
    _until(lambda: len(_begun(folder)) == 2)
    process.send_signal(signal.SIGTERM)
    code, _, err = _ended(process)
  assert code == errors.EXIT_PREEMPTED
  assert "stopped" in err
  found = sorted(sweeps.states(folder).values())
  assert found == [
    units.PREEMPTED,
    units.PREEMPTED,
    units.WAITING,
    units.WAITING,
  ]
  assert not _left(cloud)


def test_cancel_stops_the_runs_of_a_killed_launcher(cloud, tmp_path):
  folder = tmp_path / "sweep"
  _only_one(folder)
  # It would end before it is cancelled where commands start slowly.
  endless = (*LONG, "--config.steps.total=1000000 steps")
  with _launched(folder, *FLAGS, *endless):  # killed at the end
    _until(lambda: _begun(folder))
  (state,) = cloud.glob("*.state")
  pid = int((cloud / state.stem / "imgbench-runs" / "pid").read_text())
  assert os.path.exists(f"/proc/{pid}")
  shown = sweeps.act("status", folder)
  assert f"{state.stem}: ACTIVE" in shown.stdout
  done = sweeps.act("cancel", folder)
  assert done.returncode == errors.EXIT_DONE, done.stderr
  assert not _left(cloud)
  _until(lambda: not os.path.exists(f"/proc/{pid}"))
  assert {status.job for status in sweeps.statuses(folder).values()} == {""}
  found = [json.loads(p.read_text()) for p in folder.glob("*/status.json")]
  assert [s["state"] for s in found].count(units.PREEMPTED) == 1


def test_the_same_command_resumes_after_a_killed_launcher(cloud, tmp_path):
  folder = tmp_path / "sweep"
  _only_one(folder)
  with _launched(folder, *FLAGS, *LONG):  # killed at the end
    _until(lambda: _begun(folder))
  code, _, err = _launch(folder, *FLAGS, *LONG)
  assert code == errors.EXIT_DONE, err
  assert max(s.attempts for s in sweeps.statuses(folder).values()) == 2
  # The slice still existed, and its run saved.
  assert [c[1] for c in _calls(cloud)].count("create") == 1
  (log,) = folder.glob(f"*/{units.LOG}")
  lines = (log.parent / "metrics.jsonl").read_text().splitlines()
  steps = [json.loads(line)["step"] for line in lines]
  assert steps == sorted(set(steps))
  assert not _left(cloud)


@pytest.mark.parametrize(
  ("how", "text"),
  [("refuse", "PERMISSION_DENIED: quota"), ("fail", "request failed")],
)
def test_a_slice_that_cannot_be_created_fails_the_sweep(
  how, text, cloud, tmp_path
):
  (cloud / how).touch()
  folder = tmp_path / "sweep"
  code, out, err = _launch(folder, *FLAGS)
  assert code == errors.EXIT_FAILED
  assert text in err.splitlines()[-1] and "Traceback" not in err
  assert set(sweeps.states(folder).values()) == {units.WAITING}
  assert not _left(cloud)


def test_the_printed_script_does_the_same(cloud, tmp_path):
  folder = tmp_path / "sweep"
  _only_one(folder)
  flags = [flag for flag in FLAGS if flag != "--submit"]
  code, script, err = _launch(folder, *flags)
  assert code == errors.EXIT_DONE, err
  script = script.replace("sleep 30", "sleep 0.1")
  done = subprocess.run(
    ["bash"], input=script, cwd=tmp_path, text=True, capture_output=True
  )
  assert done.returncode == 0, done.stderr
  assert set(sweeps.states(folder).values()) == {units.DONE}
  assert (tmp_path / commands.ARCHIVE).exists()
  assert not _left(cloud)


def test_two_workers_train_each_point_together(cloud, tmp_path, monkeypatch):
  """The script of a TPU worker starts both processes of each run."""
  folder = tmp_path / "sweep"
  _mark_done(folder, "0.001,seed=0", "0.001,seed=1")
  monkeypatch.setenv("FAKE_WORKERS", "2")
  shared = ("--config.steps.total=4 steps", "--config.parallel.devices=0")
  code, _, err = _launch(folder, *FLAGS, *shared)
  assert code == errors.EXIT_DONE, err
  assert not _left(cloud)
  for seed in range(2):
    name = f"schedule.peak=0.01,seed={seed}"
    found = train_processes.read_json(folder / name, "environment.json")
    assert (found["processes"], found["devices_used"]) == (2, 2)
  # The last one trains as a single process does.
  alone = tmp_path / "alone"
  point = (f"--config.seed={seed}", "--config.schedule.peak=0.01")
  done = subprocess.run(
    train_processes.command(alone, *shared, *point, FLAGS[-1]),
    env={**train_processes.environment(), "XLA_FLAGS": f"{DEVICES}=2"},
  )
  assert done.returncode == 0
  # Sums between processes have another order, see docs/multihost.md.
  pairs = zip(
    *map(train_processes.read_metrics, (folder / name, alone)), strict=True
  )
  for together, single in pairs:
    assert together == pytest.approx(single, rel=2e-4, abs=2e-5)


def test_a_smoke_run_uses_a_slice_of_its_own(cloud, tmp_path):
  folder = tmp_path / "sweep"
  code, out, err = _launch(folder, *FLAGS, "--smoke", "--slices=2")
  assert code == errors.EXIT_DONE, err
  assert "ms per step" in out and "4 such runs, 2 at a time" in out
  assert not _left(cloud)
  assert [path.name for path in folder.iterdir()] == [smoke.FOLDER]


def test_a_smoke_run_that_fails_shows_its_log(cloud, tmp_path):
  folder = tmp_path / "sweep"
  broken = "--config.data.train_split=absent"
  code, out, err = _launch(folder, *FLAGS, "--smoke", broken)
  assert code == errors.EXIT_FAILED
  assert "imgbench: error: " in out and "absent" in out
  # It had an error, so it was not tried again.
  assert sum(call[1] == "ssh" for call in _calls(cloud)) == 2
  assert not _left(cloud)
