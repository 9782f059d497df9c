"""Tests of the files of a run."""

import json

import pytest

from imgbench import errors
from imgbench import run_files


def test_only_a_finished_run_of_this_config_has_results(tmp_path):
  (tmp_path / "results.json").write_text('{"a": 1}')
  assert run_files.finished_results(tmp_path, "abc") is None
  run_files.write_status(tmp_path, run_files.RUNNING, config_hash="abc")
  assert run_files.finished_results(tmp_path, "abc") is None
  run_files.write_status(tmp_path, run_files.DONE, config_hash="abc")
  assert run_files.finished_results(tmp_path, "abc") == {"a": 1}
  assert run_files.finished_results(tmp_path, "other") is None


def test_a_file_that_is_not_json_is_named(tmp_path):
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(errors.InputError, match="config.json is not JSON"):
    run_files.check_config(tmp_path, {})


def test_every_start_is_kept(tmp_path):
  environment = {"commit": "1", "command": "run", "jax": "0"}
  for number in "12":
    run_files.write_start(
      tmp_path, {"seed": 0}, {**environment, "started_at": number}
    )
  written = json.loads((tmp_path / "environment.json").read_text())
  assert [start["started_at"] for start in written["starts"]] == ["1", "2"]
  assert written["started_at"] == "2"
