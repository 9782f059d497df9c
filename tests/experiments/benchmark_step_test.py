"""The step benchmark on a tiny config: all rows are there and sane."""

import json

import pytest

from tests.train import processes

ROWS = (
  "step_ms",
  "step_with_input_ms",
  "loop_ms",
  "step_images_per_s",
  "step_with_input_images_per_s",
  "loop_images_per_s",
  "input_over_bare",
  "share_outside_step",
  "cold_start_to_first_step_s",
  "start_to_first_step_s",
)


@pytest.mark.slow
def test_prints_and_writes_every_row(tmp_path):
  out = tmp_path / "step.json"
  result = processes.run_python(
    *("-m", "imgbench.bench.step"),
    f"--config={processes.ROOT / 'configs/tiny.py'}",
    *("--rounds=2", "--steps=3", "--starts=1", f"--out={out}"),
  )
  assert result.returncode == 0, result.stderr
  written = json.loads(out.read_text())
  for name in ROWS:
    assert name in result.stdout
    row = written["rows"][name]
    assert row["min"] <= row["median"] <= row["max"]
  assert written["rows"]["step_ms"]["n"] == 2
  assert written["rows"]["start_to_first_step_s"]["n"] == 1
  assert written["rows"]["step_ms"]["min"] > 0
  assert written["global_batch_size"] == 24
  assert written["environment"]["versions"]["jax"]
