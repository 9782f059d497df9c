"""The tables that a run prints."""

import pytest

from imgbench import errors
from imgbench.metrics import specs
from imgbench.report import terminal

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
TFDS = "multilabel_accuracy.tfds"
RESULTS = {
  "scenes:train[:9]/all/top1_accuracy": RATE,
  "scenes:train[:9]/all/top5_accuracy": RATE,
  "scenes:validation/dog/top5_accuracy": RATE,
  "scenes:validation/all/nll": {**PLAIN, "value": 0.71239},
  f"scenes:validation/all/{TFDS}": RATE,
  f"scenes:validation/all/{TFDS}.unreviewed": {**RATE, "value": 0.0213},
  f"scenes:validation/all/{TFDS}.bound_low": RATE,
  f"scenes:validation/all/{TFDS}.bound_high": {**RATE, "value": 0.8025},
  "scenes:validation/all/top1_accuracy": RATE,
  "scenes:validation/all/top1_accuracy.class_mean": RATE,
  "scenes:validation/all/balanced_accuracy": RATE,
  "scenes:validation/all/macro_f1": {**PLAIN, "value": 1.0},
  "scenes:validation/all/micro_f1": {**PLAIN, "value": 0.5},
  "scenes:validation/dog/nll": PLAIN,
  "scenes:validation/dog/top1_accuracy": RATE,
  f"scenes:validation/dog/{TFDS}": {**PLAIN, "n": 0, "value": None},
  "scenes:validation/cat/top1_accuracy": RATE,
  "cifar10:test/all/ece": {**PLAIN, "n": 7, "value": 0.05},
  "cifar10:test/all/top1_accuracy": {**RATE, "n": 7, "value": 0.05},
}
GOLDEN = """\
dataset            metric                      value    95% interval      n
-----------------  ------------------------  -------  --------------  -----
cifar10:test       top1_accuracy               5.00%  [77.30, 78.92]      7
cifar10:test       ece                        0.0500               -      7
scenes:validation  top1_accuracy              78.12%  [77.30, 78.92]  10000
scenes:validation  multilabel_accuracy.tfds   78.12%  [77.30, 78.92]  10000  (2.13% never reviewed: 78.12 to 80.25)
scenes:validation  nll                        0.7124               -  10000
scenes:validation  macro_f1                  100.00%               -  10000
scenes:train[:9]   top1_accuracy              78.12%  [77.30, 78.92]  10000

dataset            subset          top1_accuracy  multilabel_accuracy.tfds
-----------------  ------  ---------------------  ------------------------
scenes:validation  dog     78.12% [77.30, 78.92]                 undefined
scenes:validation  cat     78.12% [77.30, 78.92]                         -
(6 more in results.json)"""  # noqa: E501  (the width is the point)


@pytest.mark.smoke
def test_golden():
  assert terminal.format_table(RESULTS) == GOLDEN


def test_without_results_there_is_the_head():
  assert terminal.format_table({}).startswith("dataset  metric")


def test_coverage_is_in_the_heading():
  head = terminal.format_table(RESULTS, alpha=0.1).partition("\n")[0]
  assert "90% interval" in head


def test_test_time_augmentation_is_named():
  augmented = {**RATE, "definition": f"share; {specs.MIRRORED}"}
  results = {"a:test/all/top1_accuracy": augmented}
  assert terminal.format_table(results).endswith(f"\na:test: {specs.AUGMENTED}")
  results["b:test/all/top1_accuracy"] = RATE
  *_, last = terminal.format_table(results).splitlines()
  assert last == f"a:test: {specs.AUGMENTED}"


def test_other_keys_are_rejected():
  with pytest.raises(errors.InputError, match="top1_accuracy"):
    terminal.format_table({"top1_accuracy": RATE})


def shifted(name, subset="all", metric="top1_accuracy"):
  key = f"{name}/{subset}/{metric}"
  drop = {**PLAIN, "value": 0.117, "ci_low": 0.109, "ci_high": 0.1249}
  base = {**RATE, "value": 0.8982, "n": 99}
  return {key: RATE, f"{key}.base": base, f"{key}.drop": drop}


DROPS = """\
dataset      metric          value    95% interval      n
-----------  -------------  ------  --------------  -----
toy:test     top1_accuracy  78.12%  [77.30, 78.92]  10000
toy_v2:test  top1_accuracy  78.12%  [77.30, 78.92]  10000

dataset      subset          top1_accuracy
-----------  ------  ---------------------
toy_v2:test  dog     78.12% [77.30, 78.92]

dataset      metric           base   value       drop [95% interval]
-----------  -------------  ------  ------  ------------------------
toy_v2:test  top1_accuracy  89.82%  78.12%  11.7 points [10.9, 12.5]
(2 more in results.json)"""


def test_drops_have_their_own_table():
  results = {"toy:test/all/top1_accuracy": RATE}
  results |= shifted("toy_v2:test") | shifted("toy_v2:test", "dog")
  assert terminal.format_table(results) == DROPS


def test_of_many_sets_shifted_ones_are_only_in_that_table():
  results = {"toy:test/all/top1_accuracy": RATE}
  for name in "abcd":
    results |= shifted(f"{name}:test") | shifted(f"{name}:test", "dog")
  first, last = terminal.format_table(results).split("\n\n")
  assert "a:test" not in first and first.count("toy:test") == 1
  assert [line.split()[0] for line in last.splitlines()[2:-1]] == [
    *("a:test", "b:test", "c:test", "d:test")
  ]
  assert last.endswith("(12 more in results.json)")


def test_an_undefined_drop():
  results = shifted("toy:test")
  undefined = {**PLAIN, "n": 0, "value": None}
  results["toy:test/all/top1_accuracy.drop"] = undefined
  last = terminal.format_table(results).splitlines()[-1].split()
  assert last == ["toy:test", "top1_accuracy", "89.82%", "78.12%", "undefined"]
