"""Tests of sanity checks on results."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import diagnostics
from tests import raising


def table(n, correct, predicted=None):
  """By default as many predictions of each class as examples."""
  columns = (n, n if predicted is None else predicted, correct)
  return confusion.PerClass(*(np.array(column) for column in columns))


def names(warnings):
  return [warning["name"] for warning in warnings]


def tells(warning, *parts):
  """Returns whether a message holds these names and numbers."""
  return all(part in warning["message"] for part in parts)


def test_otters():
  # 1,250 images, 25 of them otters, 3 of those found, 3 other errors.
  # The other errors are said to be otters.
  zoo = table([1225, 25], [1222, 3], [1244, 6])
  warnings = diagnostics.diagnose("zoo:test", zoo, ["other", "otter"])
  assert names(warnings) == [
    "majority_baseline",
    "low_recall",
    "low_precision",
    "macro_recall_gap",
    "macro_precision_gap",
  ]
  paradox, recall, precision, mean_recall, _ = warnings
  assert paradox["value"] == 0.0
  assert tells(paradox, "98.0%", "other")
  assert tells(recall, "98.0%", "12.0%", "otter", "3 of 25")
  assert recall["value"] == 0.12
  assert recall["threshold"] == pytest.approx(0.73)
  assert tells(precision, "98.0%", "50.0%", "otter", "3 of 6")
  assert mean_recall["value"] == pytest.approx(
    0.98 - (1222 / 1225 + 3 / 25) / 2
  )
  assert tells(mean_recall, "recall", "55.9%")
  assert {w["dataset"] for w in warnings} == {"zoo:test"}
  assert {tuple(w) for w in warnings} == {
    ("name", "dataset", "subset", "value", "threshold", "message")
  }
  assert json.dumps(warnings, allow_nan=False)


def test_a_model_that_says_one_class_only():
  """Accuracy paradox: 95% accuracy that no class but the first sees."""
  only = table([950, 50], [950, 0], [1000, 0])
  warnings = diagnostics.diagnose("x:y", only, ["usual", "rare"])
  assert names(warnings) == [
    "majority_baseline",
    "low_recall",
    "macro_recall_gap",
  ]
  assert tells(warnings[1], "95.0%", " 0.0%", "rare", "0 of 50")


def test_an_over_predicted_class():
  """A class that swallows others: found always, right one time in three."""
  result = table([100] * 9 + [10], [98] * 9 + [10], [98] * 9 + [28])
  (warning,) = diagnostics.diagnose("x:y", result, list("abcdefghij"))
  assert warning["name"] == "over_predicted"
  assert tells(warning, " j ", "10 of 28", "100.0%", "28 times", "10 examples")
  assert warning["value"] == pytest.approx(10 / 28)
  often = diagnostics.Thresholds(over_predicted=2.9)
  (warning,) = diagnostics.diagnose(
    "x:y", result, list("abcdefghij"), thresholds=often
  )
  assert warning["name"] == "low_precision"


def test_a_class_that_is_predicted_too_cautiously():
  result = table([100] * 9 + [50], [97] * 9 + [11], [101] * 9 + [12])
  (warning,) = diagnostics.diagnose("x:y", result, list("abcdefghij"))
  assert warning["name"] == "too_cautious"
  assert tells(warning, " j ", "11 of 50", "91.7%", "12 times", "50 examples")
  # 1 of 3, predicted once, is within what an accuracy of 0.9 gives.
  few = table([100] * 9 + [3], [90] * 9 + [1], [100] * 9 + [1])
  assert not diagnostics.diagnose("x:y", few, list("abcdefghij"))


@pytest.mark.parametrize(("right", "word"), [(60, "over"), (100, "under")])
def test_a_calibration_error_beyond_its_interval(right, word):
  confidence = np.full(100, 0.8)
  bins = calibration.reliability(confidence, np.arange(100) < right)
  result = table([50, 50], [45, 45])
  (warning,) = diagnostics.diagnose("x:y", result, ["a", "b"], bins=bins)
  assert warning["name"] == "miscalibrated" and tells(warning, word)
  assert warning["value"] == pytest.approx(0.2)
  assert warning["threshold"] == 0.05
  # As large an error of 10 examples may be chance.
  few = calibration.reliability(np.full(10, 0.8), np.arange(10) < 6)
  assert not diagnostics.diagnose("x:y", result, ["a", "b"], bins=few)


def test_a_good_result_gives_no_warning():
  good = table([50] * 10, [50, 48, 45, 47, 49, 50, 50, 50, 49, 50])
  assert not diagnostics.diagnose(
    "x:test", good, list("abcdefghij"), train_accuracy=0.99
  )


def test_few_examples_are_no_evidence_of_low_recall():
  # 1 of 3 is within what an accuracy of 0.9 gives.
  result = table([100, 100, 3], [90, 92, 1])
  assert not diagnostics.diagnose("x:y", result, ["a", "b", "c"])


def test_at_most_so_many_classes_are_named_the_worst_first():
  result = table([1000] + [50] * 4, [1000, 3, 1, 2, 0])
  settings = diagnostics.Thresholds(
    named_classes=2, baseline_skill=0, mean_gap=1, precision_gap=1
  )
  warnings = diagnostics.diagnose(
    "x:y", result, list("abcde"), thresholds=settings
  )
  warnings = [w for w in warnings if w["name"].startswith("low_recall")]
  assert names(warnings) == ["low_recall", "low_recall", "low_recall_classes"]
  assert [w["value"] for w in warnings] == [0.0, 0.02, 4]
  assert warnings[2]["message"].startswith("2 more")


def test_a_threshold_below_zero_is_refused():
  with pytest.raises(
    errors.InputError, check=raising.about("train_gap", given=-0.1)
  ):
    diagnostics.Thresholds(train_gap=-0.1)


def test_train_gap():
  result = table([50, 50], [40, 40])

  def diagnose(accuracy):
    return diagnostics.diagnose(
      "x:y", result, ["a", "b"], train_accuracy=accuracy
    )

  assert not diagnose(None) and not diagnose(0.7) and not diagnose(0.89)
  (warning,) = diagnose(0.95)
  assert warning["name"] == "train_gap"
  assert warning["value"] == pytest.approx(0.15)
  assert tells(warning, "95.0%", "80.0%")


def test_rows_not_finite():
  result = table([50, 50], [45, 45])

  def diagnose(**options):
    return diagnostics.diagnose(
      "x:y", result, ["a", "b"], non_finite=3, **options
    )

  (warning,) = diagnose()
  assert (warning["name"], warning["value"]) == ("non_finite", 3)
  many = diagnostics.Thresholds(non_finite=3)
  assert not diagnose(thresholds=many)


def test_one_class_alone_and_no_example():
  only = diagnostics.diagnose("x:y", table([9, 0], [9, 0]), ["a", "b"])
  assert names(only) == ["majority_baseline"]
  assert (only[0]["value"], only[0]["threshold"]) == (1.0, 1.0)
  none = diagnostics.diagnose("x:y", table([0, 0], [0, 0]), ["a", "b"])
  assert names(none) == ["no_examples"]


def test_names_of_another_length_are_refused():
  with pytest.raises(
    errors.InputError, check=raising.about("class_names", given=[1])
  ):
    diagnostics.diagnose("x:y", table([1, 1], [1, 1]), ["a"])


def test_fault_07_one_over_predicted_class_of_a_balanced_set():
  # Ten classes of 50; "ant" takes 40 examples of each other class, the rest is
  # right: precision 50/410 of "ant", 1 of the others.
  classes = ["ant", *"bcdefghij"]
  found = diagnostics.diagnose(
    "toy:test", table([50] * 10, [50] + [10] * 9, [410] + [10] * 9), classes
  )
  (gap,) = [w for w in found if w["name"] == "macro_precision_gap"]
  assert (
    tells(gap, "ant", "410", "50 examples") and "rare " not in gap["message"]
  )
  assert "macro_recall_gap" not in names(found)


def test_examples_that_are_known_to_be_in_the_training_data():
  # 160 of 200 are right; of 50 known ones 46, so 114 of the other 150.
  found = diagnostics.diagnose(
    "pond:test", table([100, 100], [80, 80]), ["a", "b"], leaks=(50, 46)
  )
  assert names(found) == ["known_leaks"]
  assert found[0]["value"] == 0.25 and found[0]["threshold"] == 0
  assert tells(found[0], "50 ", "80.0%", "76.0%")
  few = diagnostics.Thresholds(known_leaks=0.25)
  assert not diagnostics.diagnose(
    "pond:test",
    table([100, 100], [80, 80]),
    ["a", "b"],
    leaks=(50, 46),
    thresholds=few,
  )
  whole = diagnostics.diagnose(
    "pond:test", table([2, 2], [2, 2]), ["a", "b"], leaks=(4, 4)
  )
  assert names(whole) == ["known_leaks"] and whole[0]["value"] == 1


@pytest.mark.parametrize(
  ("share", "name"), [(0.5, "leakage"), (1.0, "trained_on_test_set")]
)
def test_training_on_the_whole_set_has_its_own_warning(share, name):
  pond = table([100, 100], [80, 80])
  found = diagnostics.diagnose(
    "pond:test", pond, ["a", "b"], trained_share=share
  )
  assert names(found) == [name] and found[0]["value"] == share
  off = diagnostics.Thresholds(trained_share=1.0)
  assert not diagnostics.diagnose(
    "pond:test", pond, ["a", "b"], trained_share=share, thresholds=off
  )


def test_reconstructions_of_new_images_that_are_much_worse():
  (row,) = diagnostics.diagnose_reconstruction(
    "a:test", np.array([0.005, 0.015]), train_mse=0.0005
  )
  assert row["name"] == "train_mse_ratio" and row["threshold"] == 2
  assert row["value"] == pytest.approx(20)
  assert tells(row, "0.0005", "0.01")
  most = diagnostics.Thresholds(train_mse_ratio=20.5)
  for settings in (
    {"train_mse": 0.0005, "thresholds": most},
    {"train_mse": 0.006},
    {"train_mse": None},
  ):
    assert not diagnostics.diagnose_reconstruction(
      "a:test", np.array([0.005, 0.015]), **settings
    )


def test_reconstructions_that_are_not_finite_or_trained_on():
  rows = diagnostics.diagnose_reconstruction(
    "a:test",
    np.array([0.1, np.nan]),
    skipped=1,
    train_mse=0.01,
    trained_share=0.5,
  )
  assert names(rows) == ["non_finite", "skipped", "leakage"]
  rows = diagnostics.diagnose_reconstruction(
    "a:test",
    np.array([0.1, np.nan, 0.3]),
    normal=np.array([True, False, False]),
    skipped=1,
    train_mse=0.01,
  )
  assert names(rows) == ["non_finite", "skipped", "train_mse_ratio"]
  assert tells(rows[0], "1 of 3") and tells(rows[1], "1 of 4")
  assert rows[2]["value"] == pytest.approx(10)
