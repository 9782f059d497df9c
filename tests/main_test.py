"""Tests of the program as a person calls it: one-line errors, exit codes."""

import subprocess
import sys

import pytest

from imgbench import errors
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
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      (TINY, "--config.modle.name=cnn"),
      "--config.modle.name: unknown config key; did you mean model.name",
    ),
    (
      (TINY, "--config.optim.weight_dekay=1"),
      "did you mean optim.weight_decay?",
    ),
    ((TINY, "--config.seed=many"), "--config.seed=many: invalid literal"),
    ((TINY + ":fast",), "unknown option 'fast'; known: none"),
    ((TINY.replace("tiny", "tiiny"),), "no such file; did you mean"),
    ((), "--config is missing"),
    ((TINY, "--speed=9"), "Unknown command line flag 'speed'"),
    ((TINY, "extra"), "expected only flags, got extra"),
  ],
)
def test_bad_command_lines(tmp_path, arguments, message):
  workdir = tmp_path / "run"
  result = call(*arguments, f"--workdir={workdir}")
  assert result.returncode == errors.EXIT_USAGE
  assert message in result.stderr
  assert len(result.stderr.strip().splitlines()) == 1
  assert not workdir.exists()


def test_the_workdir_is_needed():
  result = call(TINY)
  assert result.returncode == errors.EXIT_USAGE
  assert "--workdir is missing" in result.stderr


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("--config.data.train_split=trian",), "expected one of train"),
    (
      ("--config.data.name=cifar10", "--config.data.options={}"),
      "data.data_dir: ",
    ),
    (("--config.global_batch_size=-4",), "expected a positive multiple"),
    (("--config.model.name=cnm",), "unknown model 'cnm'"),
    (("--profile_steps=a",), "FIRST below LAST, such as 10:15, got 'a'"),
    (("--profile_steps=5:3",), "FIRST below LAST, such as 10:15, got '5:3'"),
    (("--profile_steps=-1:4",), "FIRST below LAST, such as 10:15, got '-1:4'"),
    (("--profile_steps=2:17",), "within the 16 steps of the run, got 2:17"),
  ],
)
def test_bad_values(tmp_path, arguments, message):
  workdir = tmp_path / "run"
  result = call(TINY, f"--workdir={workdir}", *arguments)
  assert result.returncode == errors.EXIT_USAGE
  lines = result.stderr.strip().splitlines()
  assert lines[-1].startswith("imgbench: error: ") and message in lines[-1]
  assert "Traceback" not in result.stderr
  assert not workdir.exists()


def test_another_config_in_the_workdir(tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text('{"seed": 7}')
  result = call(TINY, f"--workdir={tmp_path / 'run'}")
  assert result.returncode == errors.EXIT_USAGE
  assert "seed: 7 -> 0" in result.stderr
  assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]


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
