"""Tests that a killed run resumes bit for bit on the accelerator."""

import pytest

from imgbench import errors
from tests.accelerator import places
from tests.train import kill_test
from tests.train import processes

pytestmark = pytest.mark.accelerator

# Four steps per dispatch, and each checkpoint is whole before the next step.
OVERRIDES = (
  "--config.deterministic=True",
  "--config.steps.total=24 steps",
  "--config.steps.per_dispatch=4",
  "--config.logging.every=4 steps",
  "--config.evaluation.every=16 steps",
  "--config.checkpoint.every=4 steps",
  "--config.checkpoint.asynchronous=False",
)


def run(workdir):
  """Runs to the end; returns the log."""
  result = processes.run(
    workdir, *kill_test.QUICK, *OVERRIDES, platforms=places.platforms()
  )
  assert result.returncode == errors.EXIT_DONE, result.stderr
  environment = processes.read_json(workdir, "environment.json")
  assert environment["platform"] == places.first_platform()
  assert "--xla_gpu_deterministic_ops=true" in environment["xla_flags"]
  return result.stderr


def test_a_killed_run_ends_like_an_unbroken_one(tmp_path):
  unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
  run(unbroken)
  assert kill_test.kill_when(
    kill_test.has_step(killed, 12),
    killed,
    *OVERRIDES,
    platforms=places.platforms(),
  )
  log = run(killed)
  assert "resuming at step 8" in log or "resuming at step 12" in log
  kill_test.check_same_run(killed, unbroken)
