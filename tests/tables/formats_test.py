"""Tests of formats of numbers and names."""

import pytest

from imgbench.tables import entries
from imgbench.tables import formats


@pytest.mark.parametrize(
  "seconds, words",
  [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (11100, "3 h 5 min")],
)
def test_duration(seconds, words):
  assert formats.duration(seconds) == words


def test_only_rates_become_percent():
  assert formats.number("top1_accuracy", 0.12346) == "12.35"
  assert formats.number("nll", 0.12346) == "0.1235"
  assert formats.number("ece", 0.12346) == "0.1235"
  for metric in (
    "ece.equal_mass",
    "classwise_ece",
    "brier",
    "cohen_kappa",
    "macro_average_precision",
    "macro_roc_auc",
  ):
    assert formats.number(metric, 0.12346) == "0.1235"
  for metric in ("balanced_accuracy", "macro_precision", "real_accuracy"):
    assert formats.number(metric, 0.12346) == "12.35"
  assert formats.number("non_finite", 1234.0) == "1,234"
  assert formats.number("macro_f1", None) == "undefined"


def test_short_names_stay_on_one_line():
  assert formats.short("a\n b", 9) == "a b"
  assert formats.short("abcdefgh", 5) == "abcd…"


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
  assert formats.unreviewed(row) == words


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
  assert formats.drop(row("multilabel_accuracy.tfds.drop", *numbers)) == words


def test_what_is_left_after_a_drop():
  name = "top1_accuracy.class_mean"

  def pair(base, drop):
    return entries.Shift(row(f"{name}.base", base), row(f"{name}.drop", drop))

  assert formats.shifted(row(name, 0.5, shift=pair(0.75, 0.25))) == "50.00%"
  # The set lacks a class, the drop is over those that it has.
  assert formats.shifted(row(name, None, shift=pair(0.75, 0.5))) == "25.00%"
  assert formats.shifted(row(name, None, shift=pair(0.75, None))) == "undefined"


def test_counts_and_coverages():
  assert formats.counted(7812, 10000) == "7,812 of 10,000"
  assert formats.counted(None, 10000) == "10,000"
  assert (
    formats.short_percent(0.95) == "95%" and formats.short_percent(0.9) == "90%"
  )
  assert formats.short_percent(0.9375) == "93.75%"
  assert formats.decimal(0.65432) == "0.654"
  assert formats.decimal(None) == formats.DASH


def test_moments_without_seconds():
  assert formats.moment("2025-01-31T10:20:30+00:00") == "2025-01-31 10:20 UTC"
  assert formats.moment("2025-01-31T10:20:30.5+00:00") == "2025-01-31 10:20 UTC"
  assert formats.moment("yesterday") == "yesterday" and formats.moment("") == ""
