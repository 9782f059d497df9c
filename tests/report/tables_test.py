"""The table that a run prints."""

import pytest

from imgbench import errors
from imgbench.report import tables

RATE = {
  "n": 10000,
  "correct": 7812,
  "value": 0.7812,
  "ci_low": 0.77299,
  "ci_high": 0.78919,
  "ci_method": "wilson",
  "definition": "d",
}
PLAIN = {**RATE, "correct": None, "ci_low": None, "ci_high": None}
RESULTS = {
  "scenes:train[:9]/all/top1_accuracy": RATE,
  "scenes:validation/dog/top5_accuracy": RATE,
  "scenes:validation/all/nll": {**PLAIN, "value": 0.71239},
  "scenes:validation/all/top1_accuracy": RATE,
  "scenes:validation/all/macro_f1": {**PLAIN, "value": 1.0},
  "scenes:validation/all/micro_f1": {**PLAIN, "value": 0.5},
  "scenes:validation/dog/nll": PLAIN,
  "scenes:validation/dog/multilabel_accuracy.tfds": {
    **PLAIN,
    "n": 0,
    "value": None,
  },
  "cifar10:test/all/top1_accuracy": {**RATE, "n": 7, "value": 0.05},
}
GOLDEN = """\
dataset            subset  metric                        value    95% interval      n
-----------------  ------  ------------------------  ---------  --------------  -----
scenes:validation  all     top1_accuracy                78.12%  [77.30, 78.92]  10000
cifar10:test       all     top1_accuracy                 5.00%  [77.30, 78.92]      7
scenes:train[:9]   all     top1_accuracy                78.12%  [77.30, 78.92]  10000
scenes:validation  dog     multilabel_accuracy.tfds  undefined               -      0
scenes:validation  all     nll                          0.7124               -  10000
scenes:validation  all     macro_f1                    100.00%               -  10000
(3 more in results.json)"""  # noqa: E501  (the width is the point)


def test_golden():
  assert tables.terminal_table(RESULTS) == GOLDEN


def test_without_results_there_is_the_head():
  assert tables.terminal_table({}).startswith("dataset  subset  metric")


def test_other_keys_are_refused():
  with pytest.raises(errors.InputError, match="expected keys"):
    tables.terminal_table({"top1_accuracy": RATE})
