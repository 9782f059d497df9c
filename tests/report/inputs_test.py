"""Reading the files of a run: broken ones are refused by name."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.report import inputs
from tests.report import samples


@pytest.fixture
def workdir(tmp_path):
  drawn = [samples.Sample("toy:test", ("ant", "bee", "cow"), 60, 0.7, 5)]
  return samples.write(tmp_path / "toy", drawn, "imgbench")


def entry(**changes):
  return {**samples.accuracy(3, 4, "share"), **changes}


def test_rows_keep_what_the_file_says(workdir):
  run = inputs.read(workdir)
  row = run.results[0]
  assert (row.dataset, row.subset, row.metric, row.n) == (
    "toy:test",
    "all",
    "top1_accuracy",
    60,
  )
  assert run.datasets[0].class_names == ("ant", "bee", "cow")
  assert sum(c.n for c in run.datasets[0].classes) == 60
  assert run.datasets[0].confusion.sum() == 60
  assert run.datasets[0].predictions.top5.shape == (60, 5)


def test_a_slash_in_a_name_is_part_of_it():
  (row,) = inputs.parse_results({"set/config:test/all/nll": entry()})
  assert (row.dataset, row.subset, row.metric) == (
    "set/config:test",
    "all",
    "nll",
  )


@pytest.mark.parametrize(
  "content, words",
  [
    ("{", "expected JSON"),
    ("[]", "expected a JSON dict, got list"),
    ('{"toy/top1_accuracy": {}}', "expected keys <name>:<split>/<subset>/"),
    ('{"toy:test/all/nll": {"n": 3}}', "expected the fields n, correct"),
    ('{"toy:test/all/nll": 3}', "expected the fields n, correct"),
    (
      json.dumps({"toy:test/all/nll": entry(value="high")}),
      "expected a finite number in 'value', got 'high'",
    ),
    (
      json.dumps({"toy:test/all/nll": entry(value=float("nan"))}),
      "expected a finite number in 'value', got nan",
    ),
    (
      json.dumps({"toy:test/all/nll": entry(n=None)}),
      "expected a finite number in 'n', got None",
    ),
  ],
)
def test_broken_results_are_refused(workdir, content, words):
  (workdir / "results.json").write_text(content)
  with pytest.raises(errors.InputError, match="results.json") as caught:
    inputs.read(workdir)
  assert words in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "name", ["confusion.npz", "predictions/toy-test.npz", "per_class.csv"]
)
def test_other_broken_files_are_refused_by_name(workdir, name):
  (workdir / name).write_text("dataset,n\ntoy:test,x\n")
  with pytest.raises(errors.InputError) as caught:
    inputs.read(workdir)
  assert str(workdir / name) in str(caught.value)


def test_arrays_that_do_not_fit_are_refused(workdir):
  np.savez(workdir / "predictions" / "toy-test.npz", label=np.zeros(3))
  with pytest.raises(errors.InputError, match="expected the arrays image_id"):
    inputs.read(workdir)
  np.savez(workdir / "confusion.npz", **{"toy-test": np.zeros((2, 2), int)})
  with pytest.raises(errors.InputError, match=r"counts \[K, K\] with the 3"):
    inputs.read(workdir)


def test_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(errors.InputError, match="expected the folder of a run"):
    inputs.read(tmp_path)
