"""Selection of what pages show, on hand-made cases."""

import numpy as np

from imgbench.report import inputs
from imgbench.report import probabilities
from imgbench.report import selection
from imgbench.tables import entries

MATRIX = np.array([[5, 2, 0], [2, 4, 3], [0, 0, 0]])


def class_row(index, n, recall):
  return inputs.ClassRow(
    index, f"c{index}", n, 0, 0, None, recall, None, None, None
  )


def test_pairs_are_sorted_and_leave_the_diagonal_out():
  pairs = selection.find_confused_pairs(MATRIX, 9)
  assert pairs == [(1, 2, 3), (0, 1, 2), (1, 0, 2)]
  assert selection.find_confused_pairs(MATRIX, 1) == [(1, 2, 3)]
  assert MATRIX[0, 0] == 5  # the counts themselves are left as they are


def test_taken_for():
  assert selection.find_top_confusion(MATRIX, 1) == (2, 3)
  assert selection.find_top_confusion(MATRIX, 2) is None
  assert selection.find_top_confusion(None, 0) is None


def test_worst_classes_leave_out_undefined_and_prefer_many_examples():
  rows = [
    class_row(0, 5, 0.5),
    class_row(1, 0, None),
    class_row(2, 9, 0.5),
    class_row(3, 5, 0.1),
  ]
  worst = selection.select_worst_classes(rows, 2)
  assert [row.class_index for row in worst] == [3, 2]


def test_mistakes_are_wrong_finite_and_sorted():
  top1 = np.array([1, 1, -1, 0, 2, 0])
  predictions = inputs.Predictions(
    image_id=np.array(list("abcdef")),
    label=np.array([1, 0, 0, 2, 0, 1], np.int32),
    top5=np.repeat(top1[:, None], 5, axis=1).astype(np.int32),
    top5_prob=np.array([[0.99], [0.5], [np.nan], [0.9], [np.nan], [0.9]]),
  )
  found = selection.select_mistakes(predictions, 5)
  assert [mistake.image_id for mistake in found] == ["d", "f", "b"]
  assert (found[0].label, found[0].predicted) == (2, 0)
  assert found[0].confidence == 0.9
  assert selection.hash_mistakes(found) != selection.hash_mistakes(found[:2])


def test_mistakes_that_annotators_call_wrong_come_first():
  predictions = inputs.Predictions(
    image_id=np.array(list("abcdef")),
    label=np.array([0, 0, 0, 0, 0, 0], np.int32),
    top5=np.array([[1], [1], [2], [2], [0], [1]], np.int32),
    top5_prob=np.array([[0.9], [0.8], [0.7], [0.6], [1.0], [0.5]]),
    review=np.array([3, 2, 0, 1, 3, 3], np.int8),
  )
  found = selection.select_mistakes(predictions, 9)
  assert [(m.image_id, m.review) for m in found] == [
    ("d", "wrong"),
    ("c", "unreviewed"),
    ("b", "unclear"),
    ("a", "accepted"),
    ("f", "accepted"),
  ]
  confusion = np.array([[1, 3, 2], [0, 0, 0], [0, 0, 0]])
  # All three of 0 -> 1 would lead; two of them are accepted.
  pairs = selection.find_confused_pairs(confusion, 9, predictions)
  assert pairs == [(0, 2, 2), (0, 1, 3)]
  reviews = selection.describe_reviews(predictions, 0, 1)
  assert reviews == "1 unclear, 2 accepted"
  assert selection.describe_reviews(None, 0, 1) == ""


def test_series_and_keys_skip_null():
  records = [
    {"step": 1, "train/loss": 2.0, "val/nll": None},
    {"step": 2, "train/loss": None, "val/loss": 1.5},
    {"step": 3, "train/loss": 1.0},
  ]
  assert selection.read_series(records, "train/loss") == ([1, 3], [2.0, 1.0])
  assert selection.find_logged_keys(records, "loss") == [
    "train/loss",
    "val/loss",
  ]
  assert selection.find_logged_keys(records, "nll") == []
  assert selection.find_last(records, "val/loss") == 1.5
  assert selection.find_last(records, "absent") is None


def test_curves_are_of_what_was_logged_often():
  records = [{"step": 1, "a": 1.0, "b": 1.0}, {"step": 2, "a": 2.0, "c": 1.0}]
  assert selection.select_curves(records, ["c", "b", "a"], 3) == ["a"]
  assert selection.select_curves(records[:1], ["a", "b"], 3) == ["a", "b"]
  assert selection.select_curves(records, ["a", "a", "a"], 2) == ["a", "a"]


def result(metric, subset="all", dataset="toy:test", shift=None):
  return entries.Row(
    *(dataset, subset, metric, 9, None, 0.5, None, None, None, ""), shift=shift
  )


def test_of_many_sets_those_without_a_base_set_lead():
  shift = entries.Shift(result("top1_accuracy.base"), result("top1_accuracy"))
  rows = [
    result("top1_accuracy", dataset=f"{name}:test", shift=shift if on else None)
    for name, on in (("a", 0), ("b", 1), ("c", 0), ("d", 1), ("e", 1))
  ]
  assert selection.find_leading(rows) == ["a:test", "c:test"]
  assert selection.find_leading(rows[:4]) == [
    "a:test",
    "b:test",
    "c:test",
    "d:test",
  ]
  assert selection.fit_across(rows[:3]) and not selection.fit_across(rows[:4])


def test_kinds_come_in_one_order():
  subsets = ("all", "organism_not_dog", "dog", "frog", "object")
  rows = [result("nll", subset) for subset in subsets]
  assert selection.find_kinds(rows) == ["object", "dog", "organism_not_dog"]
  assert selection.find_kinds(rows[:1]) == []


def test_main_rows_headline_and_charted_rows():
  metrics = (
    "top5_accuracy",
    "top1_accuracy",
    "top1_accuracy.class_mean",
    "multilabel_accuracy.tfds",
    "brier",
    "ece",
    "balanced_accuracy",
  )
  rows = [result(m, subset) for subset in ("all", "dog") for m in metrics]
  names = lambda chosen: [row.metric for row in chosen]
  assert names(selection.select_headline(rows, "toy:test")) == [
    "top1_accuracy",
    "top5_accuracy",
    "multilabel_accuracy.tfds",
  ]
  main = selection.select_main(rows)
  assert {row.subset for row in main} == {"all"}
  assert set(metrics) - set(names(main)) == {"brier", "balanced_accuracy"}
  charted = selection.select_subsets(rows, "toy:test")
  assert set(names(charted)) == set(
    names(selection.select_headline(rows, "toy:test"))
  )
  assert selection.sort_metrics(main, 9)[:4] == [
    "top1_accuracy",
    "top5_accuracy",
    "multilabel_accuracy.tfds",
    "top1_accuracy.class_mean",
  ]


def test_bins_of_few_examples_are_not_shown():
  bins = probabilities.Reliability(
    edges=(0, 0.2, 0.5, 1),
    count=(0, 9, 10),
    confidence=(None, 0.4, 0.7),
    accuracy=(None, 0.5, 0.6),
    ece=0.1,
  )
  assert selection.select_bins(bins, 10) == [2]
  assert selection.select_bins(bins, 11) == []
  assert selection.select_bins(None, 1) == []
