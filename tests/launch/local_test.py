"""Sweeps of real runs on this machine: failed, killed, stopped, resumed."""

import contextlib
import csv
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import threading

import pytest

from imgbench import errors
from imgbench import living
from imgbench.launch import locks
from imgbench.launch import units
from imgbench.launch.local import executor
from imgbench.launch.local import slots
from tests import raising
from tests.launch import sweeps
from tests.train import processes

QUICK = ("--config.logging.report=False", "--config.logging.tensorboard=False")
# Runs that do not end while the test waits for them.
LONG = (
  *QUICK,
  "--config.steps.total=100000 steps",
  "--config.logging.every=1 steps",
  "--config.evaluation.every=never",
)
two_cores = pytest.mark.skipif(
  len(slots.find_cores()) < 2, reason="needs two CPU cores"
)

SEEDS = """
def get_hyper(hyper):
  return hyper.sweep("seed", range(2))
"""
SIX = """
def get_hyper(hyper):
  return hyper.chainit([
    hyper.product([
      hyper.sweep("schedule.peak", [1e-2, 1e-3]),
      hyper.sweep("seed", range(2)),
    ]),
    hyper.sweep("schedule.peak", [1e38]),
    hyper.sweep("data.train_split", ["train[:0]"]),
  ])
"""


def has_step(workdir: pathlib.Path, step: int):
  """Returns a function: whether metrics.jsonl has a step."""
  return lambda: (
    (workdir / "metrics.jsonl").exists()
    and f'{{"step": {step},' in (workdir / "metrics.jsonl").read_text()
  )


def facts(workdir: pathlib.Path) -> dict:
  return processes.read_json(workdir, units.LAUNCH)


@contextlib.contextmanager
def launched(*args, **settings):
  """Starts a launcher that ends, with its runs, at the end of the block."""
  process = sweeps.start(*args, **settings)
  try:
    yield process
  finally:
    if process.poll() is None:
      process.terminate()
    process.communicate(timeout=sweeps.TIMEOUT_S)


@pytest.mark.slow
def test_one_failing_run_does_not_stop_the_others(tmp_path):
  config = sweeps.config_file(
    tmp_path,
    """
    def get_hyper(hyper):
      return hyper.zipit([
        hyper.sweep("data.name", ["no_such_set", "scenes"]),
        hyper.sweep("steps.total", ["1 steps", "2 steps"]),
      ])
    """,
  )
  # A retry would get the same bad input.
  retried = (*QUICK, "--retries=2")
  result = sweeps.launch(tmp_path / "sweep", *retried, config=config)
  assert result.returncode == errors.EXIT_FAILED, result.stderr
  bad, good = sweeps.statuses(tmp_path / "sweep").values()
  assert (bad.state, bad.exit_code, bad.attempts) == (
    "failed",
    errors.EXIT_USAGE,
    1,
  )
  assert "no_such_set" in bad.message
  assert (good.state, good.exit_code, good.step) == ("done", 0, 2)
  lines = result.stdout.splitlines()
  assert lines[0].startswith("2 runs: 2 waiting")
  assert any("failed" in x and "no_such_set" in x for x in lines)
  assert lines[-1] == "2 runs: 1 done, 1 failed"
  # Finished runs are not repeated.
  result = sweeps.launch(tmp_path / "sweep", *retried, config=config)
  assert result.returncode == errors.EXIT_FAILED, result.stderr
  bad, same = sweeps.statuses(tmp_path / "sweep").values()
  assert (bad.attempts, same) == (2, good)


@pytest.mark.slow
def test_six_points_two_that_fail_and_one_killed(tmp_path):
  config = sweeps.config_file(tmp_path, SIX)
  folder = tmp_path / "sweep"
  diverging, failing = "schedule.peak=1e+38", "data.train_split=train__0_"
  killed = "schedule.peak=0.001,seed=0"
  jobs = f"--jobs={min(2, len(slots.find_cores()))}"
  with launched(folder, jobs, config=config) as launcher:
    sweeps.wait_for((folder / killed / "checkpoints" / "8").is_dir, launcher)
    os.kill(facts(folder / killed)["process"]["pid"], signal.SIGKILL)
    out, log = launcher.communicate(timeout=sweeps.TIMEOUT_S)
  assert launcher.returncode == errors.EXIT_FAILED, log
  found = sweeps.statuses(folder)
  failing = next(name for name in found if name.startswith("data"))
  expected = dict.fromkeys(found, "done") | {
    diverging: "diverged",
    failing: "failed",
    killed: "failed",
  }
  assert len(found) == 6
  assert {n: status.state for n, status in found.items()} == expected
  assert "not finite" in found[diverging].message
  assert "SIGKILL" in found[killed].message
  assert out.splitlines()[-1] == "6 runs: 3 done, 1 diverged, 2 failed"
  before = {n: (folder / n / "results.json") for n in found}
  times = {n: p.stat().st_mtime_ns for n, p in before.items() if p.exists()}

  result = sweeps.launch(folder, jobs, config=config)
  assert result.returncode == errors.EXIT_FAILED, result.stderr
  first = result.stdout.splitlines()[0]
  assert "2 to run" in first
  assert diverging in first.partition("kipping")[2]
  found = sweeps.statuses(folder)
  assert {n: status.state for n, status in found.items()} == {
    **expected,
    killed: "done",
  }
  attempts = {n: status.attempts for n, status in found.items()}
  assert attempts == dict.fromkeys(found, 1) | {killed: 2, failing: 2}
  assert "resuming at step" in (folder / killed / units.LOG).read_text()
  for name, time_ns in times.items():
    assert before[name].stat().st_mtime_ns == time_ns, name
  check_table(folder)


def check_table(folder: pathlib.Path) -> None:
  """Compares the table's rows and means with the files of the runs."""
  result = sweeps.act("table", folder)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  metric = "scenes:validation/all/top1_accuracy"
  found, by_peak = sweeps.statuses(folder), {}
  rows = list(csv.DictReader((folder / "table" / "table.csv").open()))
  assert [row["run"] for row in rows] == list(found)
  for row in rows:
    status = found[row["run"]]
    assert row["state"] == status.state
    assert int(row["attempts"]) == status.attempts
    if status.state != units.DONE:
      assert row[metric] == "" and row["run"] in result.stdout
      continue
    measured = processes.read_json(folder / row["run"], "results.json")[metric]
    for column, key in (("", "value"), (".ci_low", "ci_low"), (".n", "n")):
      assert float(row[metric + column]) == measured[key]
    by_peak.setdefault(row["schedule.peak"], []).append(measured["value"])
  groups = csv.DictReader((folder / "table" / "groups.csv").open())
  means = {
    row["schedule.peak"]: row
    for row in groups
    if (row["metric"], row["value"]) == (metric, "final") and row["mean"]
  }
  assert means.keys() == by_peak.keys() == {"0.01", "0.001"}
  for peak, values in by_peak.items():
    assert float(means[peak]["mean"]) == pytest.approx(sum(values) / 2)
    half = abs(values[0] - values[1]) / 2  # The standard error of two values.
    assert float(means[peak]["sem"]) == pytest.approx(half)


class Terminal:
  """A terminal for a program; keeps its output."""

  def __init__(self):
    self._ours, self.theirs = pty.openpty()
    self._parts: list[bytes] = []
    self._thread = threading.Thread(target=self._read, daemon=True)
    self._thread.start()

  def _read(self) -> None:
    with contextlib.suppress(OSError):  # Raised at the end of a terminal.
      while part := os.read(self._ours, 4096):
        self._parts.append(part)

  def close(self) -> str:
    os.close(self.theirs)
    self._thread.join(sweeps.TIMEOUT_S)
    os.close(self._ours)
    return b"".join(self._parts).decode()


@pytest.mark.slow
@two_cores
def test_ctrl_c_stops_runs_and_the_same_command_resumes_them(tmp_path):
  config, folder = sweeps.config_file(tmp_path, SEEDS), tmp_path / "sweep"
  runs = [folder / f"seed={seed}" for seed in range(2)]
  terminal = Terminal()
  start = (folder, "--jobs=2", *LONG)
  with launched(*start, config=config, stdout=terminal.theirs) as launcher:
    for run in runs:
      sweeps.wait_for(has_step(run, 5), launcher)
    cores = [os.sched_getaffinity(facts(run)["process"]["pid"]) for run in runs]
    assert not cores[0] & cores[1] and all(cores)
    # A second launcher is refused.
    second = sweeps.launch(*start, config=config)
    assert second.returncode == errors.EXIT_USAGE, second.stderr
    assert f"--sweep_dir={folder}" in second.stderr
    assert sweeps.act("status", folder).stdout.count("running") == 3
    launcher.send_signal(signal.SIGINT)
    _, log = launcher.communicate(timeout=sweeps.TIMEOUT_S)
  shown = terminal.close()
  assert launcher.returncode == errors.EXIT_PREEMPTED, log
  assert "0 of 2" in log and str(folder) in log
  assert "SIGINT: 2 runs" in shown
  assert "\x1b[4F\x1b[J" in shown  # The table overwrites the previous one.
  found = sweeps.statuses(folder)
  for run, status in zip(runs, found.values(), strict=True):
    assert (status.state, status.exit_code) == ("preempted", 75)
    assert status.step >= 5
    assert (run / "checkpoints" / str(status.step)).is_dir()

  # The same command resumes the runs, and cancel stops it.
  with launched(*start, config=config) as launcher:
    for run, status in zip(runs, found.values(), strict=True):
      sweeps.wait_for(has_step(run, status.step + 5), launcher)
    result = sweeps.act("cancel", folder)
    assert result.returncode == errors.EXIT_DONE, result.stderr
    assert result.stdout.startswith("2 runs")
    assert launcher.wait(sweeps.TIMEOUT_S) == errors.EXIT_PREEMPTED
  for run, status in zip(runs, found.values(), strict=True):
    text = (run / units.LOG).read_text()
    assert f"resuming at step {status.step}" in text
  assert set(sweeps.states(folder).values()) == {"preempted"}


@pytest.mark.slow
def test_a_second_signal_kills(tmp_path):
  config, folder = sweeps.config_file(tmp_path, SEEDS), tmp_path / "sweep"
  run = folder / "seed=0"
  with launched(folder, "--jobs=1", *LONG, config=config) as launcher:
    sweeps.wait_for(has_step(run, 5), launcher)
    # A stopped process reacts only to SIGKILL.
    os.kill(facts(run)["process"]["pid"], signal.SIGSTOP)
    launcher.send_signal(signal.SIGTERM)
    assert "1 run" in _line_with(launcher, "SIGTERM")
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(sweeps.TIMEOUT_S) == errors.EXIT_PREEMPTED
  assert sweeps.states(folder) == {"seed=0": "failed", "seed=1": "waiting"}


def _line_with(process: subprocess.Popen, text: str) -> str:
  return next(line for line in process.stdout if text in line)


@pytest.mark.slow
def test_runs_end_with_a_launcher_that_is_killed(tmp_path):
  config, folder = sweeps.config_file(tmp_path, SEEDS), tmp_path / "sweep"
  run = folder / "seed=0"
  start = (folder, "--jobs=1", *LONG)
  with launched(*start, config=config) as launcher:
    sweeps.wait_for(has_step(run, 5), launcher)
    process = facts(run)["process"]
    assert locks.is_alive(process)
    launcher.kill()
    launcher.wait(sweeps.TIMEOUT_S)
  # Another launcher waits until the run has saved, then resumes it.
  with launched(*start, config=config) as launcher:
    sweeps.wait_for(lambda: facts(run)["attempts"] == 2, launcher)
    assert not locks.is_alive(process)
    saved = processes.read_json(run, "status.json")["step"]
    sweeps.wait_for(has_step(run, saved + 5), launcher)
  assert saved >= 5
  assert f"resuming at step {saved}" in (run / units.LOG).read_text()


@pytest.mark.slow
def test_a_killed_run_is_retried(tmp_path):
  config, folder = sweeps.config_file(tmp_path, SEEDS), tmp_path / "sweep"
  run = folder / "seed=0"
  start = (folder, "--jobs=1", "--retries=1", *QUICK)
  with launched(*start, config=config) as launcher:
    sweeps.wait_for((run / "checkpoints" / "4").is_dir, launcher)
    os.kill(facts(run)["process"]["pid"], signal.SIGKILL)
    out, log = launcher.communicate(timeout=sweeps.TIMEOUT_S)
  assert launcher.returncode == errors.EXIT_DONE, log
  assert "seed=0: failed in" in out and "seed=0: running, try 2" in out
  attempts = [s.attempts for s in sweeps.statuses(folder).values()]
  assert attempts == [2, 1]


@pytest.mark.slow
@two_cores
def test_each_run_has_its_own_gpus(tmp_path):
  """Tests names only; without a GPU, JAX uses the CPU."""
  config, folder = sweeps.config_file(tmp_path, SEEDS), tmp_path / "sweep"
  runs = [folder / f"seed={seed}" for seed in range(2)]
  gpus = {slots.VISIBLE: "4,5,6,7", "JAX_PLATFORMS": ""}
  start = (folder, "--devices_per_job=2", *LONG)
  with launched(*start, config=config, variables=gpus) as launcher:
    for run in runs:
      sweeps.wait_for(has_step(run, 1), launcher)
    pids = [facts(run)["process"]["pid"] for run in runs]
    seen = [
      pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
      for pid in pids
    ]
  assert b"CUDA_VISIBLE_DEVICES=4,5" in seen[0]
  assert b"CUDA_VISIBLE_DEVICES=6,7" in seen[1]


@contextlib.contextmanager
def _sleeping(*arguments: str):
  """Yields a process that has these in its command line and ends by SIGTERM."""
  code = "import sys; print(1, flush=True); sys.stdin.read()"
  with subprocess.Popen(
    [sys.executable, "-c", code, *arguments],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as process:
    process.stdout.readline()  # It runs its own program now.
    try:
      yield process
    finally:
      process.kill()


def _write_facts(sweep: units.Sweep, kind: str, process: dict) -> pathlib.Path:
  """Records a process as the launcher or the run of a sweep."""
  if kind == "launcher":
    path = sweep.sweep_dir / locks.LAUNCHER
    path.write_text(json.dumps(process))
    return path
  units.record_start(sweep.units[0], process=process)
  return sweep.units[0].workdir / units.LAUNCH


def _arguments(kind: str, sweep_dir: pathlib.Path) -> tuple[str, ...]:
  if kind == "launcher":
    return "imgbench.launch", f"--sweep_dir={sweep_dir}"
  return "imgbench.main", f"--workdir={sweep_dir}/seed=0"


KINDS = pytest.mark.parametrize("kind", ["launcher", "run"])


@KINDS
def test_fault_22_cancel_stops_only_processes_of_the_sweep(tmp_path, kind):
  sweep = units.write(sweeps.make(tmp_path / "a", [0]))
  program, flag = _arguments(kind, tmp_path / "a")
  _, other = _arguments(kind, tmp_path / "b")
  for arguments in ((), ("vi", flag), (program,), (program, other)):
    with _sleeping(*arguments) as stranger:
      process = living.describe_process(stranger.pid)
      path = _write_facts(sweep, kind, process)
      check = raising.about(str(path))
      with pytest.raises(errors.InputError, check=check) as raised:
        executor.cancel(sweep, None)
      assert str(stranger.pid) in raised.value.given
      assert stranger.poll() is None and locks.is_alive(process)


@KINDS
def test_fault_22_cancel_leaves_a_later_process_of_the_number(tmp_path, kind):
  sweep = units.write(sweeps.make(tmp_path, [0]))
  with _sleeping(*_arguments(kind, tmp_path)) as stranger:
    facts = living.describe_process(stranger.pid)
    _write_facts(sweep, kind, {**facts, "began": str(int(facts["began"]) - 1)})
    assert executor.cancel(sweep, None) == errors.EXIT_DONE
    assert locks.is_alive(facts)


@KINDS
def test_fault_22_cancel_stops_a_process_of_the_sweep(
  tmp_path, kind, monkeypatch
):
  """Also if the folder is written in another way."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "link").symlink_to(tmp_path)
  sweep = units.write(sweeps.make("link/a", [0]))
  for folder in ("a", tmp_path / "a", "link/a"):
    with _sleeping(*_arguments(kind, folder)) as process:
      facts = living.describe_process(process.pid)
      _write_facts(sweep, kind, facts)
      reaper = threading.Thread(target=process.wait)
      reaper.start()
      assert executor.cancel(sweep, None) == errors.EXIT_DONE
      reaper.join(sweeps.TIMEOUT_S)
      assert process.returncode == -signal.SIGTERM
