"""Tests of warnings: the cases an accuracy alone is blind to."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import diagnostics


def counts(count, hits, non_finite=None):
  fields = dict.fromkeys(
    counts_lib.Counts.__dataclass_fields__, np.zeros(len(count), np.int32)
  )
  return counts_lib.Counts(
    **fields
    | {
      "count": np.array(count, np.int32),
      "top1_hits": np.array(hits, np.int32),
      "non_finite": np.array(
        [0] * len(count) if non_finite is None else non_finite, np.int32
      ),
    }
  )


def names(warnings):
  return [warning["name"] for warning in warnings]


def test_otters():
  # 1,250 images, 25 of them otters, 3 of those found, 3 other errors.
  warnings = diagnostics.diagnose(
    "zoo:test", counts([1225, 25], [1222, 3]), ["other", "otter"]
  )
  assert names(warnings) == ["majority_baseline", "low_recall"]
  paradox, otter = warnings
  assert paradox["value"] == 0.0
  assert paradox["message"] == (
    "accuracy is 98.0%, and always saying other would give 98.0%"
  )
  assert otter["message"] == "98.0% accuracy, 12.0% recall on otter (3 of 25)"
  assert otter["value"] == 0.12
  assert otter["threshold"] == pytest.approx(0.73)
  assert {w["dataset"] for w in warnings} == {"zoo:test"}
  assert {tuple(w) for w in warnings} == {
    ("name", "dataset", "subset", "value", "threshold", "message")
  }
  assert json.dumps(warnings, allow_nan=False)


def test_a_good_result_gives_no_warning():
  good = counts([50] * 10, [50, 48, 45, 47, 49, 50, 50, 50, 49, 50])
  assert not diagnostics.diagnose(
    "x:test", good, list("abcdefghij"), train_accuracy=0.99
  )


def test_few_examples_are_no_evidence_of_low_recall():
  # 1 of 3 is within what an accuracy of 0.9 gives.
  result = counts([100, 100, 3], [90, 92, 1])
  assert not diagnostics.diagnose("x:y", result, ["a", "b", "c"])


def test_at_most_so_many_classes_are_named_the_worst_first():
  result = counts([1000] + [50] * 4, [1000, 3, 1, 2, 0])
  settings = diagnostics.Thresholds(recall_classes=2, baseline_skill=-1.0)
  warnings = diagnostics.diagnose(
    "x:y", result, list("abcde"), thresholds=settings
  )
  assert names(warnings) == ["low_recall", "low_recall", "low_recall_classes"]
  assert [w["value"] for w in warnings] == [0.0, 0.02, 4]
  assert warnings[2]["message"].startswith("2 more classes")


def test_train_gap():
  result = counts([50, 50], [40, 40])
  of = lambda accuracy: diagnostics.diagnose(
    "x:y", result, ["a", "b"], train_accuracy=accuracy
  )
  assert not of(None) and not of(0.7) and not of(0.89)
  (warning,) = of(0.95)
  assert warning["name"] == "train_gap"
  assert warning["value"] == pytest.approx(0.15)
  assert "95.0% in training and 80.0% here" in warning["message"]


def test_rows_not_finite():
  result = counts([50, 50], [45, 45], non_finite=[1, 2])
  (warning,) = diagnostics.diagnose("x:y", result, ["a", "b"])
  assert (warning["name"], warning["value"]) == ("non_finite", 3)
  many = diagnostics.Thresholds(non_finite=3)
  assert not diagnostics.diagnose("x:y", result, ["a", "b"], thresholds=many)


def test_one_class_alone_and_no_example():
  only = diagnostics.diagnose("x:y", counts([9, 0], [9, 0]), ["a", "b"])
  assert names(only) == ["majority_baseline"]
  assert only[0]["message"] == "all examples are of a: accuracy says nothing"
  none = diagnostics.diagnose("x:y", counts([0, 0], [0, 0]), ["a", "b"])
  assert names(none) == ["no_examples"]


def test_names_of_another_length_are_refused():
  with pytest.raises(errors.InputError, match="class_names: expected shape"):
    diagnostics.diagnose("x:y", counts([1, 1], [1, 1]), ["a"])
