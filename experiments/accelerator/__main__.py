"""Runs the accelerator suite: measurements in stages, within a budget.

imgbench accelerator --out=DIR --budget_s=540 --kit=KIT
imgbench accelerator --out=DIR --tiny    # rehearsal on a CPU

Stages run in order of value (`stages.py`), each command in fresh processes,
which are stopped at the stage's share of the budget. Results are written to DIR
after each stage; the same command again skips finished stages and retries the
others. A failed stage does not stop the others. Exit codes: 0 done (even if
stages were skipped or timed out), 1 a stage failed, 2 bad input, 75 stopped.
See docs/accelerator.md.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any
from typing import TextIO

from absl import flags
import jax

from imgbench import commands
from imgbench import environment
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import timing
from imgbench import writers
from imgbench.bench import exchange
from imgbench.experiments.accelerator import kit as kit_lib
from imgbench.experiments.accelerator import output
from imgbench.experiments.accelerator import stages as stages_lib

OK, SKIPPED, FAILED, TIMEOUT = "ok", "skipped", "failed", "timeout"
# Least seconds to start a stage with.
LEAST_S = 5.0
# Reserved for the page and the archives.
_OUTPUT_S = 15.0
# Between the request to stop and the kill.
_GRACE_S = 10.0
_LOCK_S = 60.0
_PACKAGES = (
  *("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu"),
  *("flax", "optax", "orbax-checkpoint", "chex", "numpy", "torch"),
  *("torchvision", "timm", "triton", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
)
_GPU_FIELDS = (
  *("name", "driver_version", "vbios_version", "memory.total", "pstate"),
  *("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem"),
  *("power.limit", "temperature.gpu", "persistence_mode", "ecc.mode.current"),
)


REQUIRED = ("out",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --out, --budget_s, --tiny, --stages, paths and limits."""
  for name, default, text in (
    ("out", None, "Folder for the results."),
    ("work_dir", "", "Folder for intermediate files; default: OUT.work."),
    ("kit", "", "Folder that `make accelerator-kit` filled."),
    ("cifar10_dir", "", "data_dir of CIFAR-10; default: the kit's."),
    ("imagenet_dir", "", "data_dir of imagenet2012; default: the kit's."),
    ("airbench", "", "Path of airbench94_muon.py; default: the kit's."),
  ):
    flags.DEFINE_string(name, default, text, flag_values=flag_values)
  flags.DEFINE_float(
    "budget_s", 540.0, "Seconds for all stages.", 1, flag_values=flag_values
  )
  flags.DEFINE_bool(
    "tiny", False, "Rehearse in tiny sizes on a CPU.", flag_values=flag_values
  )
  flags.DEFINE_list(
    "stages",
    [stage.name for stage in stages_lib.STAGES],
    "Names of the stages to run, in this order. Finished ones that are named"
    " continue if possible: more runs, missing rows.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "max_files", 8, "Most files in OUT.", 3, flag_values=flag_values
  )
  flags.DEFINE_float(
    "max_file_mb",
    16.0,
    "Largest size of a file in OUT, in MB.",
    0.1,
    flag_values=flag_values,
  )


def find_stages(names: Sequence[str]) -> list[stages_lib.SuiteStage]:
  """Returns stages by name. Raises InputError for an unknown one."""
  known = {stage.name: stage for stage in stages_lib.STAGES}
  for name in names:
    if name not in known:
      expected = f"some of {', '.join(known)}"
      raise errors.InputError("--stages", expected, repr(name))
  return [known[name] for name in names]


def build_suite(values: flags.FlagValues) -> stages_lib.Suite:
  """Returns the suite of the flags; unpacks the kit into the work folder.

  Raises:
    InputError: a missing path, or a broken kit.
  """
  work = pathlib.Path(values.work_dir or f"{values.out.rstrip('/')}.work")
  for name in ("kit", "cifar10_dir", "imagenet_dir", "airbench"):
    path = values[name].value
    if path and not pathlib.Path(path).exists():
      raise errors.InputError(f"--{name}", "an existing path", path)
  found = kit_lib.unpack(values.kit, work / "kit") if values.kit else {}
  path = lambda name: values[name].value or found.get(name, "")
  absolute = lambda text: str(pathlib.Path(text).resolve()) if text else ""
  return stages_lib.Suite(
    work=work.resolve(),
    tiny=values.tiny,
    cifar10_dir=absolute(path("cifar10_dir")),
    imagenet_dir=absolute(path("imagenet_dir")),
    airbench=absolute(path("airbench")),
  )


@contextlib.contextmanager
def locked(work: pathlib.Path) -> Iterator[TextIO]:
  """Locks the work folder.

  The commands of the stages inherit the lock, so that processes of a killed
  call end before another call measures.

  Raises:
    InputError: another call has held the lock for a minute.
  """
  work.mkdir(parents=True, exist_ok=True)
  with (work / "lock").open("w", encoding="utf-8") as file:
    deadline = timing.clock() + _LOCK_S
    while True:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        if timing.clock() > deadline:
          raise errors.InputError(
            "--work_dir",
            "a folder that no other call runs in",
            work,
            "wait for the other call, or give another --out",
          ) from None
        time.sleep(0.2)
    yield file


def describe_host() -> dict[str, Any]:
  """Returns versions of packages, and the idle GPUs by nvidia-smi."""
  versions = {}
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  command = ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}"]
  try:
    out = subprocess.run(
      [*command, "--format=csv,noheader"],
      capture_output=True,
      text=True,
      timeout=30,
      encoding="utf-8",
    )
    lines = out.stdout.splitlines() if out.returncode == 0 else []
  except (OSError, subprocess.TimeoutExpired):
    lines = []
  gpus = [
    dict(zip(_GPU_FIELDS, map(str.strip, line.split(",")), strict=False))
    for line in lines
  ]
  return {"versions": versions, "gpus": gpus}


class StageRunner:
  """Runs stages and records how each ended, in WORK/stages/NAME.json.

  Args:
    suite: settings of the stages.
    budget_s: seconds for all stages.
    lock: file that commands keep open, see `locked`.
    clock: returns seconds.
  """

  def __init__(
    self,
    suite: stages_lib.Suite,
    budget_s: float,
    lock: TextIO,
    clock=timing.clock,
  ):
    self._suite, self._lock, self._clock = suite, lock, clock
    self._budget_s = budget_s
    self._end = clock() + budget_s - _OUTPUT_S * (not suite.tiny)
    host = run_files.read_json(suite.work / "host.json") or {}
    self._has_gpus = bool(host.get("gpus"))
    self._records = suite.work / "stages"
    self._logs = suite.work / "logs"
    for folder in (self._records, self._logs):
      folder.mkdir(parents=True, exist_ok=True)

  @property
  def left_s(self) -> float:
    """Seconds of the budget that are left for stages."""
    return self._end - self._clock()

  def record(self, stage: stages_lib.SuiteStage) -> dict[str, Any]:
    """Returns the record of a stage; {} if it has not run."""
    path = self._records / f"{stage.name}.json"
    return run_files.read_json(path) or {}

  def is_finished(self, stage: stages_lib.SuiteStage) -> bool:
    """Returns whether a stage is done, or still has to be skipped."""
    status = self.record(stage).get("status")
    skipped = status == SKIPPED and bool(stage.missing(self._suite))
    return status == OK or skipped

  def run(self, stage: stages_lib.SuiteStage) -> dict[str, Any]:
    """Runs a stage within its share of the budget and records the result."""
    started = self._clock()
    why = stage.missing(self._suite)
    if why:
      status, message = SKIPPED, why
    else:
      # In a rehearsal a stage is limited by the whole budget only.
      share = 1.0 if self._suite.tiny else stage.share
      seconds = min(share * self._budget_s, self.left_s)
      if seconds < LEAST_S:
        status, message = TIMEOUT, "not started: the budget is spent"
      else:
        status, message = self._run_commands(stage, seconds)
    record = {
      "stage": stage.name,
      "status": status,
      "message": message,
      "seconds": self.record(stage).get("seconds", 0.0)
      + (self._clock() - started),
    }
    writers.write_json(self._records / f"{stage.name}.json", record)
    return record

  def _run_commands(self, stage, seconds: float) -> tuple[str, str]:
    """Runs all commands; returns status and the first failure."""
    end = self._clock() + seconds
    failure = ""
    with (self._logs / f"{stage.name}.log").open("a", encoding="utf-8") as log:
      for command in stage.commands(self._suite, seconds):
        left_s = end - self._clock()
        if left_s < LEAST_S:
          return TIMEOUT, f"stopped after {seconds:.0f} s"
        log.write(f"$ python -m {' '.join(command)}\n")
        log.flush()
        code = self._run_command(command, left_s, log)
        if code in (None, errors.EXIT_PREEMPTED):
          return TIMEOUT, f"stopped after {seconds:.0f} s"
        if code:
          log.flush()
          lines = (
            pathlib.Path(log.name)
            .read_text(encoding="utf-8")
            .strip()
            .splitlines()
          )
          last = exchange.shorten(lines[-1] if lines else "")
          failure = failure or f"{command[0]} ended with code {code}: {last}"
    return (FAILED, failure) if failure else (OK, "")

  def _run_command(self, command, seconds: float, log) -> int | None:
    """Returns the exit code; None if the time limit stopped the command."""
    python = (sys.executable, "-m")
    program = subprocess.Popen(
      # Ends with this process, even if that is killed.
      [*python, "imgbench.launch.local.child", str(os.getpid()), "-"]
      + [*python, *command],
      cwd=stages_lib.ROOT,
      env=self._variables(tests=command[0] == "pytest"),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      pass_fds=(self._lock.fileno(),),
    )
    try:
      return program.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
      pass  # Stopped below.
    finally:
      if program.poll() is None:
        program.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
          program.wait(timeout=_GRACE_S)
      # Kills its children too, which would keep the device.
      with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
      program.wait()
    return None

  def _variables(self, tests: bool) -> dict[str, str]:
    variables = dict(os.environ)
    # Tests use the CPU only by default; here they compare with it. On a machine
    # with a GPU, a broken plugin must not fall back to the CPU.
    platform = self._suite.environment.get("platform")
    names = {"gpu": "cuda,cpu", "tpu": "tpu,cpu", "cpu": "cpu"}
    if tests and platform in names:
      variables["JAX_PLATFORMS"] = names[platform]
    elif self._has_gpus and not self._suite.tiny:
      variables["JAX_PLATFORMS"] = names["gpu"]
    return variables


def check_settings(suite: stages_lib.Suite) -> None:
  """Raises InputError if the work folder has results of other settings."""
  path = suite.work / "suite.json"
  new = {k: str(v) for k, v in dataclasses.asdict(suite).items()}
  new["commit"] = environment.find_commit()
  old = run_files.read_json(path)
  changed = [k for k in new if old is not None and old.get(k) != new[k]]
  if changed:
    name = changed[0]
    expected = f"{old.get(name)!r} as in {suite.work}"
    fix = "give another --out"
    raise errors.InputError(name, expected, repr(new[name]), fix)
  writers.write_json(path, new)


def run_suite(values: flags.FlagValues) -> list[dict[str, Any]]:
  """Runs the stages that the flags name; returns their records.

  Raises:
    InputError: bad flags, before anything is measured.
    Preempted: SIGTERM or Ctrl-C; what was measured is written.
  """
  wanted = find_stages(values.stages)
  paths.check_writable(paths.as_path(values.out, "--out"), "--out")
  suite = build_suite(values)
  # The commit of a copy without its repository, also for commands.
  if commit := kit_lib.read_commit(suite.work / "kit"):
    os.environ.setdefault("IMGBENCH_COMMIT", commit)
  with locked(suite.work) as lock:
    check_settings(suite)
    host = suite.work / "host.json"
    if not host.exists():
      writers.write_json(host, describe_host())
    runner = StageRunner(suite, values.budget_s, lock)
    limits = output.Limits(values.max_files, values.max_file_mb * 1e6)
    out = pathlib.Path(values.out)
    records = lambda: [r for s in stages_lib.STAGES if (r := runner.record(s))]
    try:
      again = values["stages"].present
      unfinished = [s for s in wanted if again or not runner.is_finished(s)]
      for stage in _with_second_tries(unfinished, runner):
        print(f"{stage.name}: runs", flush=True)
        record = runner.run(stage)
        print(
          f"{stage.name}: {record['status']} after {record['seconds']:.0f} s"
          f" {record['message']}".rstrip(),
          flush=True,
        )
        output.write(suite, records(), out)
        if suite.environment.get("platform") == "cpu" and not suite.tiny:
          log = suite.work / "logs" / f"{stage.name}.log"
          fix = f"see {log}, or rehearse with --tiny"
          raise errors.InputError("platform", "an accelerator", "a CPU", fix)
      if unfinished or not (out / output.RESULTS).exists():
        output.finish(suite, records(), out, limits)
    except KeyboardInterrupt:
      output.finish(suite, records(), out, limits)
      raise errors.Preempted(
        f"stopped; the same command continues from {suite.work}"
      ) from None
  return records()


def _with_second_tries(
  unfinished: Sequence[stages_lib.SuiteStage], runner: StageRunner
) -> Iterator[stages_lib.SuiteStage]:
  """Yields all stages, with timed-out ones again before the last one."""
  yield from unfinished[:-1]
  for stage in unfinished[:-1]:
    timed_out = runner.record(stage).get("status") == TIMEOUT
    if timed_out and runner.left_s > LEAST_S:
      yield stage
  yield from unfinished[-1:]


def main(argv: list[str]) -> int:
  """Runs the suite and prints its table."""
  del argv
  started = timing.clock()
  # The accelerators are for the processes that measure.
  jax.config.update("jax_platforms", "cpu")
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  records = run_suite(flags.FLAGS)
  out = pathlib.Path(flags.FLAGS.out)
  results = json.loads((out / output.RESULTS).read_text(encoding="utf-8"))
  print(output.format_results(results))
  print(f"{timing.clock() - started:.0f} s; results in {out}")
  failed = any(record["status"] == FAILED for record in records)
  return errors.EXIT_FAILED if failed else errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("accelerator")
