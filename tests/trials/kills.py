"""Runs that are stopped at random moments, damaged, and resumed."""

import pathlib
import random
import shutil
import signal
import subprocess
import time
import zipfile

from imgbench import checkpoints
from imgbench import errors
from tests import trials
from tests.train import kill_test
from tests.train import processes

LIMIT_S = 240
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DAMAGED_SHARE = 0.25
# Read by a run that resumes. The others are written again at its end.
_DAMAGED = (
  "checkpoints/*/**/*",
  "metrics.jsonl",
  "predictions/*.npz",
  "results.json",
  "status.json",
)
_VARIANTS = (
  "--config.seed=4294967295",
  "--config.ema.decay=0.5",
  "--config.optim.name=sgd",
  "--config.optim.clip_norm=1.0",
  "--config.augment.mixup=0.5",
  "--config.parallel.strategy=pmap",
  "--config.parallel.microbatches=2",
  "--config.steps.per_dispatch=2",
)


def draw_overrides(rng: random.Random) -> list[str]:
  """Returns flags of a variant of configs/tiny.py."""
  return [*kill_test.QUICK, *rng.sample(_VARIANTS, rng.randint(0, 2))]


def run_unbroken(
  workdir: pathlib.Path, overrides: list[str]
) -> tuple[float, trials.Trial]:
  """Runs to the end; returns its seconds, and the trial."""
  begin = time.monotonic()
  done = processes.run(workdir, *overrides)
  problem = trials.judge_end(done.returncode, done.stderr, codes=(0,))
  trial = trials.Trial("kills", "unbroken", " ".join(overrides), problem)
  return time.monotonic() - begin, trial


def run_chain(
  rng: random.Random,
  workdir: pathlib.Path,
  unbroken: pathlib.Path,
  overrides: list[str],
  run_s: float,
  kills: int,
) -> list[trials.Trial]:
  """Stops one run some times, then runs it to its end.

  Args:
    rng: chooses moments, signals and damage.
    workdir: of the run.
    unbroken: workdir of the same run without stops, compared bit for bit.
    overrides: flags of both.
    run_s: seconds that the unbroken run took.
    kills: how often it is stopped.
  """
  found, damaged, names = [], [], []
  for _ in range(kills):
    number = rng.choice(SIGNALS)
    delay_s = rng.uniform(0, run_s)
    names.append(f"{number.name} after {delay_s:.2f} s")
    codes = {errors.EXIT_DONE, errors.EXIT_PREEMPTED}
    codes |= {1, 2} if damaged else set()  # In one line.
    problem = _stop_once(workdir, overrides, number, delay_s, codes)
    found.append(trials.Trial("kills", number.name, names[-1], problem))
    if rng.random() < DAMAGED_SHARE and (name := _damage(rng, workdir)):
      damaged.append(name)
      names.append(name)
  done = processes.run(workdir, *overrides)
  name = ", ".join(names)
  problem = trials.judge_end(done.returncode, done.stderr)
  if not problem and done.returncode and not damaged:
    problem = f"a run that was not damaged failed: {done.stderr[-300:]}"
  if not problem and done.returncode == errors.EXIT_DONE:
    lost = any(x.startswith("metrics.jsonl") for x in damaged)
    problem = _compare(workdir, unbroken, metrics=not lost)
  if not damaged and (workdir / checkpoints.DAMAGED_FOLDER).exists():
    problem = "a checkpoint that was not damaged is quarantined"
  kind = "resumed after damage" if damaged else "resumed to the same bits"
  found.append(trials.Trial("kills", kind, name, problem))
  if not problem:
    shutil.rmtree(workdir)
  return found


def _stop_once(
  workdir: pathlib.Path,
  overrides: list[str],
  number: int,
  delay_s: float,
  codes: set[int],
) -> str:
  """Starts the run and stops it; returns what did not hold.

  The clock starts when the program catches signals: Python itself does not.
  """
  process = processes.start(workdir, *overrides)
  while process.poll() is None and not _catches(process.pid):
    time.sleep(0.002)
  try:
    _, stderr = process.communicate(timeout=delay_s)
  except subprocess.TimeoutExpired:
    process.send_signal(number)
    try:
      _, stderr = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
      process.kill()
      process.communicate()
      return f"it did not end within {LIMIT_S} s of the signal"
  code = process.returncode
  if code == -number == -signal.SIGKILL:
    return ""
  problem = trials.judge_end(code, stderr, codes)
  if not problem and code == errors.EXIT_DONE:
    state = processes.read_json(workdir, "status.json")["state"]
    problem = "" if state == "done" else f"code 0, but the run is {state}"
  return problem


def _catches(pid: int) -> bool:
  """Returns whether a process has a handler of SIGTERM."""
  try:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
  except OSError:
    return False
  (caught,) = [line.split()[1] for line in lines if line.startswith("SigCgt")]
  return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _damage(rng: random.Random, workdir: pathlib.Path) -> str:
  """Damages a random file; returns its name and the damage, "" without one."""
  pattern = rng.choice(_DAMAGED)
  paths = sorted(p for p in workdir.glob(pattern) if p.is_file())
  if not paths:
    return ""
  path = rng.choice(paths)
  kind = rng.choice(("emptied", "halved", "one bit flipped", "deleted"))
  content = bytearray(path.read_bytes())
  if kind == "deleted":
    path.unlink()
  elif kind == "one bit flipped" and content:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
  else:
    path.write_bytes(content[: 0 if kind == "emptied" else len(content) // 2])
  return f"{path.relative_to(workdir)} {kind}"


def _compare(
  workdir: pathlib.Path, unbroken: pathlib.Path, metrics: bool
) -> str:
  """Returns how a run differs from the unbroken one."""
  try:
    if metrics:
      kill_test.check_same_run(workdir, unbroken)
    else:
      kill_test.check_same_end(workdir, unbroken)
  except (AssertionError, OSError, ValueError, zipfile.BadZipFile) as error:
    return f"another result: {type(error).__name__}: {str(error)[:300]}"
  return ""
