"""Tests of the step benchmark on a tiny config."""

import pytest

from imgbench.bench import rows
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
  out = tmp_path / "step"
  result = processes.run_python(
    *("-m", "imgbench.bench.step"),
    f"--config={processes.ROOT / 'configs/tiny.py'}",
    *("--rounds=2", "--steps=3", "--starts=1", f"--out={out}"),
  )
  assert result.returncode == 0, result.stderr
  folder = rows.read_folder(out)
  found = {row.key.name: row for row in folder.rows}
  for name in ROWS:
    assert name in result.stdout
    row = found[name]
    assert row.rate_low <= row.rate <= row.rate_high
  assert found["step_ms"].processes == 2
  assert found["start_to_first_step_s"].processes == 1
  assert found["step_ms"].rate_low > 0
  assert folder.config["global_batch_size"] == 24
  assert folder.environment["versions"]["jax"]
