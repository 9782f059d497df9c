"""Tests of the metric benchmark on small logits: rows, results."""

import pytest

from imgbench import errors
from imgbench.bench import rows
from imgbench.experiments.benchmarks.metric_kernels import __main__ as metrics
from imgbench.experiments.benchmarks.metric_kernels import peers as baselines
from tests import raising
from tests.train import processes

ROWS = (
  "floor_ms",
  "whole_ms",
  "streamed_ms",
  "whole_over_floor",
  "streamed_over_whole",
  "streamed_one_by_one_over_whole",
  "forward_ms",
  "forward_with_counts_over_forward",
  "counts_alone_over_forward",
  "outcomes_alone_over_forward",
)


@pytest.mark.slow
def test_prints_and_writes_every_row(tmp_path):
  out = tmp_path / "metrics"
  result = processes.run_python(
    *("-m", "imgbench.bench.metrics", "--nopeers"),
    *("--examples=1100", "--batch=64", "--rounds=2", f"--out={out}"),
    *("--model=resnet18", "--step_batch=1", "--step_rounds=2"),
  )
  assert result.returncode == 0, result.stderr
  folder = rows.read_folder(out)
  found = {row.key.name: row for row in folder.rows}
  for name in ROWS:
    assert name in result.stdout
    assert found[name].processes == 2
    assert found[name].rate > 0
  assert folder.config["examples"] == 1100 and folder.environment["commit"]


def test_a_tool_with_other_results_is_refused(monkeypatch):
  def wrong(problem):
    right = metrics.build_whole(problem)
    return lambda: {**right(), "top1_accuracy": 0.0}

  baseline = baselines.MetricBaseline("numpy", wrong, "off")
  monkeypatch.setattr(baselines, "BASELINES", {"wrong": baseline})
  problem = metrics.draw(40, 10)
  with pytest.raises(errors.RunError, match="^wrong.*top1_accuracy"):
    metrics.build_tools(problem, 8, with_baselines=True)


def test_fewer_examples_than_classes_are_refused():
  with pytest.raises(
    errors.InputError, check=raising.about("--examples", given=9)
  ):
    metrics.draw(9, 10)
