"""Tests with real processes: killed, stopped, damaged, out of space."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import checkpoints
from imgbench import errors
from tests.train import processes

QUICK = ("--config.logging.report=False", "--config.logging.tensorboard=False")
TIMEOUT_S = 240
POLL_S = 0.002  # Without a pause the run that is watched loses a core.


def kill_when(seen, workdir, *overrides: str, platforms: str = "cpu") -> bool:
  """Starts a run and kills it (-9) as soon as `seen()`; whether it was."""
  process = processes.start(workdir, *QUICK, *overrides, platforms=platforms)
  deadline = time.monotonic() + TIMEOUT_S
  killed = False
  while process.poll() is None and time.monotonic() < deadline:
    if seen():
      process.send_signal(signal.SIGKILL)
      killed = True
      break
    time.sleep(POLL_S)
  process.communicate(timeout=TIMEOUT_S)
  return killed


def wait_for(seen, process: subprocess.Popen) -> None:
  """Returns as soon as `seen()`, while the process lives."""
  while not seen():
    assert process.poll() is None, process.communicate()[1]
    time.sleep(POLL_S)


def has_step(workdir: pathlib.Path, step: int):
  """Returns whether metrics.jsonl tells of a step."""

  def seen() -> bool:
    try:
      return f'{{"step": {step},' in (workdir / "metrics.jsonl").read_text()
    except FileNotFoundError:
      return False

  return seen


def is_saving(workdir: pathlib.Path):
  """Returns whether a checkpoint is half written."""

  def seen() -> bool:
    try:
      names = os.listdir(workdir / "checkpoints")
    except FileNotFoundError:
      return False
    return any("tmp" in name for name in names)

  return seen


def has_checkpoint(workdir: pathlib.Path, step: int):
  return lambda: (workdir / "checkpoints" / str(step)).is_dir()


def has_file(workdir: pathlib.Path, name: str):
  return lambda: (workdir / name).exists()


def saved_steps(workdir: pathlib.Path) -> list[str]:
  """Steps with a finished checkpoint, oldest first."""
  names = os.listdir(workdir / "checkpoints")
  return sorted((name for name in names if name.isdigit()), key=int)


def final_state(workdir: pathlib.Path) -> dict[str, int]:
  """The digests of the last checkpoint's arrays, by name."""
  newest = workdir / "checkpoints" / saved_steps(workdir)[-1]
  text = (newest / "meta" / "metadata").read_text()
  meta = json.loads(json.loads(text)["text"])
  # The window only holds what is still to be logged: stopped in the last
  # evaluation, a run is saved before the last line of metrics.jsonl.
  digests = {
    name: digest
    for name, digest in meta["digests"].items()
    if not name.startswith(".window")
  }
  return {"step": meta["step"], "seen": meta["examples_seen"], **digests}


def check_same_run(workdir: pathlib.Path, unbroken: pathlib.Path) -> None:
  """Bit for bit: parameters, metrics, results, predictions."""
  assert processes.read_metrics(workdir) == processes.read_metrics(unbroken)
  check_same_end(workdir, unbroken)


def check_same_end(workdir: pathlib.Path, unbroken: pathlib.Path) -> None:
  """Bit for bit: parameters, results, predictions."""
  assert final_state(workdir) == final_state(unbroken)
  for name in ("results.json", "warnings.json", "per_class.csv"):
    assert (workdir / name).read_bytes() == (unbroken / name).read_bytes()
  for name in ("scenes-validation", "scenes-v2"):
    with (
      np.load(workdir / f"predictions/{name}.npz") as a,
      np.load(unbroken / f"predictions/{name}.npz") as b,
    ):
      for key in a.files:
        np.testing.assert_array_equal(a[key], b[key])


# What a run prints without a fault.
USUAL = re.compile(r"\d\d:\d\d:\d\d (devices|reading|resuming at|step) ")
MOST_LINES = 5


def check_few_lines(log: str, code: int) -> None:
  """Checks the lines of a log that a run without a fault does not print.

  There are at most five; the last line of a run that failed is its error.
  """
  lines = log.splitlines()
  assert len([x for x in lines if not USUAL.match(x)]) <= MOST_LINES, log
  assert code in (errors.EXIT_DONE, errors.EXIT_FAILED)
  if code == errors.EXIT_FAILED:
    assert lines[-1].startswith("imgbench: error: "), log


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  result = processes.run(workdir, *QUICK)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize(
  "moment",
  [
    "before the first checkpoint",
    "between checkpoints",
    "while saving",
    "just saved",
    "after an evaluation",
    "last step",
    "writing results",
  ],
)
def test_killed_runs_end_like_the_unbroken_one(tmp_path, unbroken, moment):
  seen = {
    "before the first checkpoint": has_step(tmp_path, 3),
    "between checkpoints": has_step(tmp_path, 6),
    "while saving": is_saving(tmp_path),
    "just saved": has_checkpoint(tmp_path, 8),
    "after an evaluation": has_step(tmp_path, 8),
    "last step": has_checkpoint(tmp_path, 16),
    "writing results": has_file(tmp_path, "predictions"),
  }[moment]
  assert kill_when(seen, tmp_path), f"the run ended before: {moment}"
  result = processes.run(tmp_path, *QUICK)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  check_same_run(tmp_path, unbroken)


@pytest.mark.slow
def test_killed_again_and_again(tmp_path, unbroken):
  for step in (3, 6, 9, 12):
    assert kill_when(has_step(tmp_path, step), tmp_path)
  assert processes.run(tmp_path, *QUICK).returncode == errors.EXIT_DONE
  check_same_run(tmp_path, unbroken)


def test_sigterm_saves_and_the_same_command_resumes(tmp_path):
  # Logged at every step, so that there is much to see and to be stopped in;
  # not evaluated, as what is stopped there is logged when it goes on.
  often = (
    "--config.steps.total=4000 steps",
    "--config.logging.every=1 steps",
    "--config.evaluation.every=never",
  )
  process = processes.start(tmp_path, *QUICK, *often)
  wait_for(has_step(tmp_path, 5), process)
  process.send_signal(signal.SIGTERM)
  _, log = process.communicate(timeout=TIMEOUT_S)
  assert process.returncode == errors.EXIT_PREEMPTED, log
  status = processes.read_json(tmp_path, "status.json")
  assert status["state"] == "preempted"
  stopped = status["step"]
  assert f"step {stopped} of 4000" in log
  assert (tmp_path / "checkpoints" / str(stopped)).is_dir()
  assert processes.read_metrics(tmp_path)[-1]["step"] == stopped
  # On, to one step more.
  short = f"--config.steps.total={stopped + 1} steps"
  result = processes.run(tmp_path, *QUICK, short)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert f"step {stopped} of {stopped + 1}" in result.stderr
  assert processes.read_metrics(tmp_path)[-1]["step"] == stopped + 1


@pytest.mark.slow
def test_sigterm_in_training_and_in_evaluation(tmp_path, unbroken):
  """Stopped wherever the signal falls, the run ends like the unbroken one."""
  for step in (3, 6, 9, 15):
    process = processes.start(tmp_path, *QUICK)
    seen = has_step(tmp_path, step)
    while not seen() and process.poll() is None:
      time.sleep(POLL_S)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT_S)
    # Behind the last step the run is finished instead.
    done = processes.read_json(tmp_path, "status.json")["state"] == "done"
    assert done or process.returncode == errors.EXIT_PREEMPTED
  assert processes.run(tmp_path, *QUICK).returncode == errors.EXIT_DONE
  check_same_run(tmp_path, unbroken)


@pytest.mark.slow
def test_a_damaged_checkpoint_falls_back_and_ends_the_same(tmp_path, unbroken):
  assert kill_when(has_checkpoint(tmp_path, 12), tmp_path)
  newest = tmp_path / "checkpoints" / saved_steps(tmp_path)[-1]
  # All of its arrays: the end of a single file may hold nothing that counts.
  for path in (newest / "state").rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  result = processes.run(tmp_path, *QUICK)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert "damaged" in result.stderr
  check_same_run(tmp_path, unbroken)


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 8 MB."""
  folder = tmp_path / "small"
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
  if (
    shutil.which("mount") is None
    or subprocess.run(mount, check=False).returncode
  ):
    pytest.skip("a tmpfs cannot be mounted here (needs root)")
  yield folder
  subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_nothing_is_lost(small_disk, tmp_path):
  workdir = small_disk / "run"
  assert kill_when(has_checkpoint(workdir, 4), workdir)
  saved = saved_steps(workdir)
  free = os.statvfs(small_disk)
  filler = small_disk / "filler"
  filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 20_000))
  result = processes.run(workdir, *QUICK)
  assert result.returncode == errors.EXIT_FAILED, result.stderr
  lines = [x for x in result.stderr.splitlines() if "imgbench: error" in x]
  assert len(lines) == 1
  check_few_lines(result.stderr, result.returncode)
  assert "space" in lines[0]
  filler.unlink()
  assert set(saved) <= {p.name for p in (workdir / "checkpoints").iterdir()}
  result = processes.run(workdir, *QUICK)
  assert result.returncode == errors.EXIT_DONE, result.stderr


@pytest.mark.slow
def test_a_disk_that_fills_while_saving(small_disk, monkeypatch):
  """The check of free space beforehand did not help."""
  store = checkpoints.Checkpoints(small_disk, keep=3)
  small = {"kernel": np.zeros(1000, np.float32)}
  store.save(1, jax.tree.map(jnp.asarray, small), {"step": 1})
  store.wait()
  monkeypatch.setattr(store, "_check_space", lambda step, state: None)
  rng = np.random.default_rng(0)  # What cannot be compressed.
  large = {"kernel": jnp.asarray(rng.normal(size=4_000_000), jnp.float32)}
  with pytest.raises(errors.RunError, match="could not write a checkpoint"):
    store.save(2, large, {"step": 2})
    store.wait()
  assert store.steps() == [1]
  whole = checkpoints.Checkpoints(small_disk, keep=3)
  state, meta = whole.restore(jax.tree.map(jnp.asarray, small))
  assert meta["step"] == 1


def damage(workdir: pathlib.Path, step: str, name: str) -> None:
  (workdir / "checkpoints" / step / "state" / name).write_bytes(b"{")


@pytest.mark.slow
def test_fault_10_a_damaged_checkpoint_takes_few_lines(tmp_path, unbroken):
  # Orbax reads its arrays in parallel, and abandons all after one error.
  name = "array_metadatas/process_0"
  workdir = tmp_path / "run"
  shutil.copytree(unbroken, workdir)
  older, newest = saved_steps(workdir)[-2:]
  damage(workdir, newest, name)
  longer = "--config.steps.total=18 steps"
  result = processes.run(workdir, *QUICK, longer)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  check_few_lines(result.stderr, result.returncode)
  assert f"resuming at step {older} of 18" in result.stderr
  assert os.listdir(workdir / "damaged_checkpoints") == [newest]
  for step in saved_steps(workdir):
    damage(workdir, step, name)
  result = processes.run(workdir, *QUICK, "--config.steps.total=20 steps")
  assert result.returncode == errors.EXIT_FAILED
  check_few_lines(result.stderr, result.returncode)


@pytest.mark.slow
def test_fault_10_a_write_that_fails_takes_few_lines(tmp_path):
  limited = ["sh", "-c", 'ulimit -f 5; exec "$@"', "sh"]  # At most 5 KB.
  result = subprocess.run(
    [*limited, *processes.command(tmp_path, *QUICK)],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == errors.EXIT_FAILED
  check_few_lines(result.stderr, result.returncode)


@pytest.mark.slow
def test_fault_10_deleted_checkpoints_while_saving(tmp_path):
  """Unfinished saves are deleted again and again, until one of them fails."""
  rare = ("--config.logging.every=never", "--config.evaluation.every=never")
  long = "--config.steps.total=100000 steps"
  process = processes.start(tmp_path, *QUICK, *rare, long)
  deadline = time.monotonic() + TIMEOUT_S
  while process.poll() is None and time.monotonic() < deadline:
    for path in (tmp_path / "checkpoints").glob("*tmp*"):
      shutil.rmtree(path, ignore_errors=True)
    time.sleep(POLL_S)
  _, log = process.communicate(timeout=TIMEOUT_S)
  assert process.returncode == errors.EXIT_FAILED
  check_few_lines(log, process.returncode)


@pytest.mark.slow
def test_fault_10_deleted_checkpoints_between_saves(tmp_path):
  often = (
    "--config.steps.total=100000 steps",
    "--config.evaluation.every=never",
  )
  rare = "--config.checkpoint.every=500 steps"
  process = processes.start(tmp_path, *QUICK, *often, rare)
  folder = tmp_path / "checkpoints"
  first, saving = has_checkpoint(tmp_path, 500), is_saving(tmp_path)
  wait_for(lambda: first() and not saving(), process)
  folder.rename(tmp_path / "gone")
  wait_for(has_checkpoint(tmp_path, 1500), process)
  process.send_signal(signal.SIGTERM)
  _, log = process.communicate(timeout=TIMEOUT_S)
  assert process.returncode == errors.EXIT_PREEMPTED, log
  assert "Traceback" not in log
