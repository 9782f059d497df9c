"""Tests of the program as users call it: one-line errors, exit codes."""

import subprocess
import sys

import pytest

from imgbench import errors
from tests import forked
from tests.train import processes

TINY = f"--config={processes.ROOT / 'configs/tiny.py'}"


def call(*arguments: str, cwd=processes.ROOT) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", "imgbench.main", *arguments],
    cwd=cwd,
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
    timeout=120,
  )


def check_error(code: int, stderr: str, setting: str, named: str) -> None:
  """The last line of stderr is an error about a setting that names a text."""
  assert code == errors.EXIT_USAGE
  line = stderr.strip().splitlines()[-1]
  assert line.startswith(f"imgbench: error: {setting}") and named in line
  assert "Traceback" not in stderr


def test_bad_input_ends_in_one_line_without_a_workdir(tmp_path):
  command_lines = {
    (TINY, "--config.modle.name=cnn"): ("--config.modle.name:", "model.name"),
    (TINY, "--config.optim.weight_dekay=1"): (
      "--config.optim.weight_dekay:",
      "optim.weight_decay",
    ),
    (TINY, "--config.seed=many"): ("--config.seed:", "many"),
    (f"{TINY}:fast",): ("--config:", "'fast'"),
    (TINY.replace("tiny", "tiiny"),): ("--config:", "configs/tiny.py"),
    (): ("--config:", "none"),
    (TINY, "--speed=9"): ("command line:", "'speed'"),
    (TINY, "extra"): ("command line:", "extra"),
  }
  values = {
    "--config.data.train_split=trian": ("data.train_split:", "'trian'"),
    "--config.data.name=cifar10": ("data.data_dir", "cifar10"),
    "--config.global_batch_size=-4": ("global_batch_size:", "-4"),
    "--config.model.name=cnm": ("model.name:", "'cnm'"),
    "--profile_steps=a": ("--profile_steps:", "'a'"),
    "--profile_steps=5:3": ("--profile_steps:", "'5:3'"),
    "--profile_steps=-1:4": ("--profile_steps:", "'-1:4'"),
    "--profile_steps=2:17": ("--profile_steps:", "2:17"),
  }
  cases = command_lines | {(TINY, v): found for v, found in values.items()}
  workdir = tmp_path / "run"
  results = forked.run_all(
    [["imgbench.main", *case, f"--workdir={workdir}"] for case in cases],
    tmp_path / "folders",
  )
  for case, result in zip(cases, results, strict=True):
    check_error(result.code, result.stderr, *cases[case])
    if case in command_lines:
      assert len(result.stderr.strip().splitlines()) == 1
  assert not workdir.exists()


def test_the_workdir_is_needed():
  result = call(TINY)
  check_error(result.returncode, result.stderr, "--workdir:", "none")


def test_another_config_in_the_workdir(tmp_path):
  (tmp_path / "run" / "checkpoints" / "4").mkdir(parents=True)
  (tmp_path / "run" / "config.json").write_text('{"seed": 7}')
  result = call(TINY, f"--workdir={tmp_path / 'run'}")
  assert result.returncode == errors.EXIT_USAGE
  assert "seed: 7 -> 0" in result.stderr
  left = {p.name for p in (tmp_path / "run").iterdir()}
  assert left == {"checkpoints", "config.json", "traceback.txt"}


def test_a_traceback_only_when_asked_for(tmp_path):
  bad = "--config.model.name=cnm"
  result = call(TINY, f"--workdir={tmp_path}", bad, "--traceback")
  assert result.returncode == errors.EXIT_USAGE
  assert "Traceback" in result.stderr


def test_runs_anywhere_and_prints_the_table(tmp_path):
  """From another folder, with a config that imports its neighbours."""
  result = subprocess.run(
    [
      *(sys.executable, "-c", "from imgbench import commands as c; c.main()"),
      TINY,
      f"--workdir={tmp_path / 'run'}",
      "--config.steps.total=2 steps",
      "--config.logging.report=False",
    ],
    cwd=tmp_path,
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert "scenes:validation" in result.stdout
  assert "multilabel_accuracy.tfds" in result.stdout
  assert "step 2/2" in result.stderr
  first = result.stderr.splitlines()[0]
  assert "devices 1 x cpu, platform cpu, jax " in first
  assert "dtype float32" in first and "configs/tiny.py (" in first


def run_in(locale: dict[str, str], module: str, *arguments: str):
  """Runs a program in a locale; its output is bytes."""
  return subprocess.run(
    [sys.executable, "-m", module, *arguments],
    cwd=processes.ROOT,
    env={**processes.environment(), **locale},
    capture_output=True,
    check=False,
  )


@pytest.mark.slow
def test_fault_14_names_in_the_strict_c_locale(tmp_path):
  locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
  workdir = tmp_path / "é"
  result = run_in(locale, "imgbench.main", TINY, f"--workdir={workdir}")
  assert result.returncode == errors.EXIT_USAGE
  assert b"Traceback" not in result.stderr
  line = result.stderr.splitlines()[-1]
  assert line.startswith(b"imgbench: error: --workdir: ")
  assert not workdir.exists()
  result = run_in(locale, "imgbench.main", TINY, f"--workdir={tmp_path / 'a'}")
  assert result.returncode == errors.EXIT_DONE
  assert (tmp_path / "a" / "report.html").exists()


@pytest.mark.slow
def test_fault_14_names_that_the_output_cannot_show(tmp_path):
  locale = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"}
  workdir = f"--workdir={tmp_path / 'é'}"
  for arguments in (("imgbench.main", TINY), ("imgbench.report",)):
    result = run_in(locale, *arguments, workdir)
    assert result.returncode == errors.EXIT_DONE
  assert result.stdout.decode("ascii").strip().endswith(r"\xe9/report.html")


FAILING = """
import sys
from imgbench import commands
from imgbench.train import loop

def fail(*args):
  raise ZeroDivisionError("after\\na step")

loop._measure_training = fail
commands.start("train")
"""


@pytest.mark.slow
def test_fault_17_an_error_after_the_first_step_is_one_line(tmp_path):
  """It names the file with its traceback; the same command resumes."""
  argv = processes.command(tmp_path, "--config.logging.every=6 steps")
  done = processes.run_python("-c", FAILING, *argv[3:])
  assert done.returncode == errors.EXIT_FAILED
  assert "Traceback" not in done.stderr
  line = done.stderr.splitlines()[-1]
  assert line.startswith("imgbench: error: ZeroDivisionError: after a step")
  path = tmp_path / "traceback.txt"
  assert str(path) in line
  assert path.read_text().startswith("Traceback")
  assert processes.read_json(tmp_path, "status.json")["state"] == "failed"
  assert (tmp_path / "checkpoints" / "4").is_dir()


@pytest.mark.slow
def test_fault_17_an_error_before_the_first_step_is_saved(tmp_path):
  """Also without a message, and beside the files of the folder's owner."""
  (tmp_path / "mine").touch()
  (tmp_path / "bad.py").write_text("def get_config():\n  assert False\n")
  result = call(f"--config={tmp_path / 'bad.py'}", f"--workdir={tmp_path}")
  setting, named = "--config:", "bad.py, line 2"
  check_error(result.returncode, result.stderr, setting, named)
  assert len(result.stderr.splitlines()) == 1
  saved = (tmp_path / "traceback.txt").read_text()
  assert "AssertionError" in saved and "InputError" in saved
  assert (tmp_path / "mine").exists()
