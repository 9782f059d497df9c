"""Tests of benchmark rows."""

import json

import pytest

from imgbench import environment
from imgbench.bench import record


def test_spread_and_paired_ratio():
  ratio = record.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
  assert ratio.values == [2.0, 3.0, 1.0]
  assert ratio.as_json() == {
    "median": 2.0,
    "min": 1.0,
    "max": 3.0,
    "n": 3,
    "values": [2.0, 3.0, 1.0],
  }
  assert ratio.text("x") == "2 x  [1, 3]  n=3"


def test_ratio_needs_pairs():
  with pytest.raises(ValueError, match="2 and 1"):
    record.ratio([1.0, 2.0], [1.0])


def test_rows_are_written_with_their_environment(tmp_path):
  path = tmp_path / "deep" / "row.json"
  rows = {"step_ms": record.Spread([1.0, 2.0])}
  record.write(path, rows, {"config": "a.py"}, environment.collect())
  written = json.loads(path.read_text())
  assert written["config"] == "a.py"
  assert written["rows"]["step_ms"]["median"] == 1.5
  found = written["environment"]
  assert found["versions"]["jax"] and found["platform"] == "cpu"
  assert found["num_devices"] == 8 and found["cores"] >= 1


def test_commit_is_marked_when_the_code_was_changed():
  commit = environment.commit()
  assert commit == "unknown" or len(commit.rstrip("+")) == 12
