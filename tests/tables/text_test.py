"""Numbers and names as people read them."""

import pytest

from imgbench.tables import entries
from imgbench.tables import text


@pytest.mark.parametrize(
  "seconds, words",
  [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (11100, "3 h 5 min")],
)
def test_duration(seconds, words):
  assert text.duration(seconds) == words


@pytest.mark.parametrize(
  "metric, label",
  [
    ("top1_accuracy", "top-1 accuracy"),
    ("multilabel_accuracy.lenient_mean", "multi-label accuracy (lenient mean)"),
    ("nll", "negative log-likelihood"),
    ("weighted_f1", "weighted F1"),
    ("multilabel_accuracy.imagenet_m", "multi-label accuracy (ImageNet-M)"),
    ("real_top5_accuracy", "ReaL top-5 accuracy"),
    ("ece.equal_mass", "expected calibration error (equal mass)"),
    ("classwise_ece", "class-wise expected calibration error"),
    ("brier", "Brier score"),
    ("cohen_kappa", "Cohen's kappa"),
    ("macro_roc_auc", "macro ROC AUC"),
  ],
)
def test_metric_label(metric, label):
  assert text.metric_label(metric) == label


def test_only_rates_become_percent():
  assert text.number("top1_accuracy", 0.12346) == "12.35"
  assert text.number("nll", 0.12346) == "0.1235"
  assert text.number("ece", 0.12346) == "0.1235"
  for metric in (
    "ece.equal_mass",
    "classwise_ece",
    "brier",
    "cohen_kappa",
    "macro_average_precision",
    "macro_roc_auc",
  ):
    assert text.number(metric, 0.12346) == "0.1235"
  for metric in ("balanced_accuracy", "macro_precision", "real_accuracy"):
    assert text.number(metric, 0.12346) == "12.35"
  assert text.number("non_finite", 1234.0) == "1,234"
  assert text.number("macro_f1", None) == "undefined"


def test_short_names_stay_on_one_line():
  assert text.short("a\n b", 9) == "a b"
  assert text.short("abcdefgh", 5) == "abcd…"


def test_escape():
  assert text.escape("<a>&\"'\x00\n") == "&lt;a&gt;&amp;&quot;&#x27;  "


def test_accuracies_and_those_worth_a_chart():
  for metric in (
    "top1_accuracy",
    "multilabel_accuracy.lenient_mean",
    "real_accuracy",
    "real_top5_accuracy",
  ):
    assert text.is_accuracy(metric) and text.is_headline(metric)
  for metric in ("top1_accuracy.class_mean", "real_accuracy.class_mean"):
    assert text.is_accuracy(metric) and not text.is_headline(metric)
  for metric in (
    "balanced_accuracy",
    "multilabel_accuracy.tfds.unreviewed",
    "multilabel_accuracy.tfds.bound_high",
    "macro_recall",
    "ece",
    "top1_accuracy.drop",
    "top1_accuracy.base",
    "top1_accuracy.class_mean.drop",
    "multilabel_accuracy.tfds.base",
  ):
    assert not text.is_accuracy(metric) and not text.is_headline(metric)


@pytest.mark.parametrize(
  "bounds, words",
  [
    (None, ""),
    ((0.0, 0.5, 0.5), ""),
    ((None, None, None), ""),
    ((0.021, 0.952, 0.973), "2.10% never reviewed: 95.20 to 97.30"),
  ],
)
def test_what_unreviewed_predictions_may_do(bounds, words):
  row = entries.Row(
    *("toy:test", "all", "multilabel_accuracy.tfds", 9),
    *(None, 0.5, None, None, None, ""),
    bounds and entries.Unreviewed(*bounds),
  )
  assert text.unreviewed(row) == words


def row(metric, value, low=None, high=None, **more):
  method = None if low is None else "newcombe"
  return entries.Row(
    "toy:test", "all", metric, 9, None, value, low, high, method, "", **more
  )


@pytest.mark.parametrize(
  "numbers, words",
  [
    ((0.117, 0.109, 0.1249), "11.7 points [10.9, 12.5]"),
    ((-0.021, -0.0333, 0.0004), "-2.1 points [-3.3, 0.0]"),
    ((-0.0004, -0.1, 0.1), "0.0 points [-10.0, 10.0]"),
    ((0.25, None, None), "25.0 points"),
    ((None, None, None), "undefined"),
  ],
)
def test_drops_are_in_percentage_points(numbers, words):
  assert text.drop(row("multilabel_accuracy.tfds.drop", *numbers)) == words


def test_what_is_left_after_a_drop():
  name = "top1_accuracy.class_mean"
  pair = lambda base, drop: entries.Shift(
    row(f"{name}.base", base), row(f"{name}.drop", drop)
  )
  assert text.shifted(row(name, 0.5, shift=pair(0.75, 0.25))) == "50.00%"
  # The set lacks a class, the drop is over those that it has.
  assert text.shifted(row(name, None, shift=pair(0.75, 0.5))) == "25.00%"
  assert text.shifted(row(name, None, shift=pair(0.75, None))) == "undefined"


def test_accuracies_against_label_sets():
  assert text.is_of_label_set("multilabel_accuracy.tfds")
  assert text.is_of_label_set("real_accuracy")
  assert not text.is_of_label_set("multilabel_accuracy.tfds.drop")
  assert not text.is_of_label_set("top1_accuracy")
