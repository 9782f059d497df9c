"""Runs the accelerator tests on CPU devices, so that CI keeps them alive."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.train import processes

NUM_TESTS = 22


@pytest.mark.slow
def test_all_accelerator_tests_pass_on_cpu(tmp_path):
  report = tmp_path / "report.xml"
  result = subprocess.run(
    [
      *(sys.executable, "-m", "pytest", "-m", "accelerator"),
      *("tests/accelerator", "-q", "-p", "no:cacheprovider"),
      f"--junitxml={report}",
    ],
    cwd=processes.ROOT,
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stdout + result.stderr
  suite = ElementTree.parse(report).getroot().find("testsuite")
  counts = {
    name: int(suite.get(name))
    for name in ("tests", "failures", "errors", "skipped")
  }
  assert counts.pop("tests") >= NUM_TESTS, result.stdout
  assert not any(counts.values()), result.stdout
