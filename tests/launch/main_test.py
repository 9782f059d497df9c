"""Tests of the program: its output and errors."""

import dataclasses
import shlex
import subprocess
import sys

from absl import flags
import pytest

from imgbench import errors
from imgbench import run_files
from imgbench.launch import __main__ as program
from imgbench.launch import units
from tests import forked
from tests import raising
from tests.launch import sweeps
from tests.train import processes

# Most start the program, which takes two seconds of a core.
pytestmark = pytest.mark.slow

FUNCTIONS = """
def get_hyper(hyper):
  return hyper.sweep("seed", range(2))


def get_hyper_typo(hyper):
  return hyper.sweep("optim.weight_decoy", [0.1])


def get_hyper_double(hyper):
  return hyper.sweep("seed", [1, 1])
"""


@pytest.fixture
def config(tmp_path):
  return sweeps.config_file(tmp_path, FUNCTIONS)


def check_refused(folder, *cases) -> None:
  """Checks for one line on standard error with some words, exit code 2.

  Args:
    folder: of the programs, which are forked.
    *cases: command line of a launcher, and words of its error.
  """
  lines = [command[2:] for command, _ in cases]
  done = forked.run_all(lines, folder / "forked")
  for result, (_, words) in zip(done, cases, strict=True):
    assert result.code == errors.EXIT_USAGE, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.smoke
def test_a_dry_run_prints_the_commands_and_writes_nothing(tmp_path, config):
  folder = tmp_path / "sweep"
  extra = ("--dry_run", "--config.steps.total=3 steps")
  result = sweeps.launch(folder, *extra, config=config)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  lines = result.stdout.splitlines()
  assert [line for line in lines[:-1] if not line.startswith(" ")] == [
    "seed=0: waiting",
    "seed=1: waiting",
  ]
  assert lines[-1].startswith("2 runs")
  commands = [shlex.split(line) for line in lines if line.startswith(" ")]
  assert commands == [
    [
      *(sys.executable, "-m", "imgbench.main", f"--config={config}"),
      *(f"--workdir={folder}/seed={seed}", "--config.steps.total=3 steps"),
      f"--config.seed={seed}",
    ]
    for seed in range(2)
  ]
  assert not folder.exists()


def test_a_closed_pipe_is_no_error(tmp_path):
  command = sweeps.command(tmp_path, "--dry_run")
  with subprocess.Popen(
    command,
    env=processes.environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  ) as process:
    process.stdout.close()
    assert process.stderr.read() == b""


def test_bad_input_is_refused_before_anything_is_written(tmp_path, config):
  folder = tmp_path / "sweep"
  cases = (
    ("--sweep=typo", ["point 1", "weight_decoy", "optim.weight_decay"]),
    ("--sweep=double", ["point 2", "seed=1"]),
    ("--sweep=tipo", ["--sweep", "tipo", "typo?"]),
    ("--executor=slrum", ["--executor", "slrum", "slurm?"]),
    ("--config.sead=1", ["config.sead", "seed?"]),
    ("--config.seed=1", ["--config.seed"]),
    ("--jobs=100000", ["--jobs", "100000"]),
    ("--jobs=0", ["--jobs", "got 0"]),
    ("--retries=-1", ["--retries", "got -1"]),
    ("--devices_per_job=1", ["--devices_per_job", "got 1"]),
    ("--patition=gpu", ["patition"]),
    ("start", ["start"]),
  )
  check_refused(
    tmp_path,
    *((sweeps.command(folder, more, config=config), x) for more, x in cases),
  )
  assert not folder.exists()


def test_flags_that_are_missing(tmp_path, config):
  check_refused(
    tmp_path,
    (sweeps.command("", config=config), ["--sweep_dir"]),
    (sweeps.command(tmp_path, config=""), ["--config"]),
    (sweeps.action("status", ""), ["--sweep_dir"]),
    (sweeps.action("cancel", tmp_path), ["--sweep_dir", units.SWEEP]),
  )


def test_the_folder_of_another_sweep(tmp_path, config):
  folder = tmp_path / "sweep"
  units.write(sweeps.make(folder, range(2)))
  words = [f"--config: {sweeps.TINY} -> {config}"]
  check_refused(
    tmp_path,
    (sweeps.command(folder, config=config), words),
    (sweeps.command(folder, "--dry_run", config=config), words),
  )


def test_runs_of_another_executor_are_refused(tmp_path):
  points = [
    {"schedule.peak": peak, "seed": seed}
    for peak in (1e-2, 1e-3)
    for seed in range(2)
  ]
  sweep = units.write(
    program.points.build(sweeps.TINY, points, tmp_path, executor="slurm")
  )
  units.record(sweep.units[0], state=units.WAITING, job="17_0")
  words = ["--executor", sweep.units[0].name, "slurm"]
  command = sweeps.command(tmp_path, "--executor=local")
  check_refused(tmp_path, (command, words))
  assert units.read(tmp_path).executor == "slurm"


def test_ended_runs_may_change_their_executor(tmp_path):
  before = units.write(sweeps.make(tmp_path, range(3), executor="slurm"))
  failed, killed, preempted = before.units
  units.record_start(failed, job="17_0", process=None)
  units.record_end(failed, errors.EXIT_FAILED)
  # Started by hand or by a printed script.
  run_files.write_status(_made(killed), run_files.RUNNING, step=1)
  units.record_start(preempted, job="imgbench-0")
  units.record_end(preempted, errors.EXIT_PREEMPTED)
  local = dataclasses.replace(before, executor="local")
  check = raising.about("--executor", given="local")
  with pytest.raises(errors.InputError, check=check) as error:
    program._check_executor(local)
  assert preempted.name in error.value.expected
  units.record(preempted, job="")
  program._check_executor(local)


def _made(unit):
  unit.workdir.mkdir(exist_ok=True)
  return unit.workdir


def test_status_shows_every_unit_and_its_end(tmp_path):
  sweep = units.write(sweeps.make(tmp_path, range(3)))
  units.record_start(sweep.units[1])
  units.record_end(sweep.units[1], errors.EXIT_FAILED, "no\ndisk")
  result = sweeps.act("status", tmp_path)
  assert result.returncode == errors.EXIT_FAILED, result.stderr
  header, first, second, third, _, count = result.stdout.splitlines()
  assert header.split() == ["run", "state", "tries", "time", "message"]
  assert first.split() == ["seed=0", "waiting"]
  assert second.split() == ["seed=1", "failed", "1", "0:00", "no", "disk"]
  assert third.split() == ["seed=2", "waiting"]
  assert count == "3 runs: 2 waiting, 1 failed"
  result = sweeps.act("cancel", tmp_path)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("executor", program.EXECUTORS)
@pytest.mark.parametrize("action", [program.RUN, *program.ACTIONS])
def test_every_executor_has_all_its_parts(executor, action):
  module = program.load_executor(executor)
  for name in ("define_flags", "check", action):
    assert callable(getattr(module, name)), name
  values = flags.FlagValues()
  program.define_flags(values, action, executor)
  assert "sweep_dir" in values


def test_help_shows_the_flags_of_the_executor():
  result = sweeps.launch("", "--help")
  for name in ("--sweep_dir:", "--jobs:", "--[no]dry_run:", "--retries:"):
    assert name in result.stdout, name
