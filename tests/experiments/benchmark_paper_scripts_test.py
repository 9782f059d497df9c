"""Tests of the benchmark of the paper scripts, and of its clone."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.bench import rows
from imgbench.experiments.benchmarks.paper_scripts import __main__ as testbed
from imgbench.experiments.benchmarks.paper_scripts import clone as testbed_clone
from imgbench.labels import real
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from tests.train import processes


@pytest.mark.slow
def test_prints_and_writes_every_row(tmp_path):
  out = tmp_path / "papers"
  result = processes.run_python(
    *("-m", "imgbench.bench.testbed", "--rounds=1"),
    *("--models=3", "--per_class=1", "--script=imagenet_v2", "--nofiles"),
    f"--out={out}",
  )
  assert result.returncode == 0, result.stderr
  folder = rows.read_folder(out)
  assert folder.config["rows_of_predictions"] == 3 * 5 * 1000
  found = {row.key.name: row for row in folder.rows}
  assert [*found] == [
    "imagenet_v2_first_s",
    "imagenet_v2_s",
    "imagenet_v2_cpu_s",
    "imagenet_v2_peak_memory_bytes",
  ]
  for name, row in found.items():
    assert name in result.stdout and row.processes == 1
  assert 0 < found["imagenet_v2_s"].rate < 600
  memory = found["imagenet_v2_peak_memory_bytes"].rate
  assert 1e7 < memory < 1e10
  assert folder.environment["versions"]["numpy"]


def test_a_script_that_fails_is_shown(tmp_path):
  with pytest.raises(errors.RunError, match="--repo"):
    testbed.measure(tmp_path, ["imagenet_v2"], rounds=1, files=False)


def test_the_clone_is_of_the_public_structure(tmp_path):
  testbed_clone.write(tmp_path, models=4, per_class=5)
  found = clone.read(tmp_path)
  assert {name: len(d) for name, d in found.datasets.items()} == {
    datasets.VALIDATION: 5000,
    datasets.VALIDATION_20K: 2000,
    datasets.MATCHED_FREQUENCY: 1000,
    datasets.THRESHOLD: 1000,
    datasets.TOP_IMAGES: 1000,
  }
  assert found.notes == ()
  whole = found.datasets[datasets.VALIDATION]
  part = found.datasets[datasets.VALIDATION_20K]
  assert {*part.image_ids} < {*whole.image_ids}
  np.testing.assert_array_equal(np.bincount(part.labels), np.full(1000, 2))
  hits = np.array(
    [
      p.ranking[:, 0] == whole.labels
      for p in found.predictions[datasets.VALIDATION]
    ]
  )
  # Graded models that fail on the same images.
  accuracy = hits.mean(axis=1)
  assert (np.diff(accuracy) > 0.05).all() and accuracy[0] > 0.3
  assert (np.corrcoef(hits)[~np.eye(4, dtype=bool)] > 0.3).all()
  sets = real.read(tmp_path / "real.json", num_images=5000)
  assert 0.03 < np.mean([len(labels) == 0 for labels in sets]) < 0.1


def test_the_clone_is_the_same_every_time(tmp_path):
  for name in ("a", "b"):
    testbed_clone.write(tmp_path / name, models=1, per_class=1)
  paths = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*")]
  assert len(paths) == 5 + 5 + 3
  for path in paths:
    assert (tmp_path / "a" / path).read_bytes() == (
      tmp_path / "b" / path
    ).read_bytes()
