"""A small form of the random trials, as part of the slow tests."""

import pytest

from tests.train import processes


@pytest.mark.slow
def test_random_trials_hold():
  counts = ("--kills=4", "--inputs=16", "--hostile=12")
  done = processes.run_python("-m", "tests.trials", "--seed=0", *counts)
  assert done.returncode == 0, done.stdout + done.stderr
