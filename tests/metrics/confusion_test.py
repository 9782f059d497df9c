"""Tests of the confusion matrix and per-class rates: hand-worked values."""

import math

import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import confusion
from tests import raising

CAT_DOG_RABBIT = np.array([[50, 2, 3], [4, 45, 1], [2, 3, 40]])
CAT_DOG = np.array([[90, 10], [5, 95]])


def ten_classes():
  matrix = np.diag([50, 48, 45, 47, 49, 50, 50, 50, 49, 50])
  mistakes = {
    (1, 0): 1,
    (1, 8): 1,
    (2, 3): 2,
    (2, 8): 3,
    (3, 2): 1,
    (3, 8): 2,
    (4, 8): 1,
    (8, 2): 1,
  }
  for cell, count in mistakes.items():
    matrix[cell] = count
  return matrix


def examples(matrix):
  """Labels and predictions, one by one, that give the matrix."""
  cells = np.repeat(np.arange(matrix.size), matrix.reshape(-1))
  return divmod(np.random.default_rng(0).permutation(cells), len(matrix))


def test_three_classes_by_hand():
  table = confusion.from_matrix(CAT_DOG_RABBIT)
  means = confusion.means(table)
  assert means["micro_recall"] == 135 / 150 == 0.9
  assert table.precision[0] == 50 / 56
  assert table.recall[0] == 50 / 55
  assert table.f1[0] == 100 / 111
  assert math.isclose(
    means["macro_recall"], (50 / 55 + 45 / 50 + 40 / 45) / 3, rel_tol=1e-15
  )
  assert math.isclose(
    means["weighted_precision"],
    (55 * 50 / 56 + 50 * 45 / 50 + 45 * 40 / 44) / 150,
    rel_tol=1e-15,
  )


def test_two_classes_by_hand():
  table = confusion.from_matrix(CAT_DOG)
  assert table.precision[0] == 90 / 95
  assert table.recall[0] == 0.9
  assert confusion.means(table)["micro_recall"] == 0.925


def test_ten_classes_by_hand():
  matrix = ten_classes()
  assert matrix.sum(axis=1).tolist() == [50] * 10
  table = confusion.from_matrix(matrix)
  assert table.correct.sum() == 488 and table.n.sum() == 500
  assert table.predicted[8] == 49 + 7
  means = confusion.means(table)
  for name in ("micro_precision", "micro_recall", "micro_f1"):
    assert means[name] == 488 / 500
  # Equal class sizes.
  assert math.isclose(means["macro_recall"], 488 / 500, rel_tol=1e-15)
  assert math.isclose(means["weighted_recall"], 488 / 500, rel_tol=1e-15)


@pytest.mark.parametrize(
  "matrix", [CAT_DOG_RABBIT, CAT_DOG, ten_classes()], ids=["3", "2", "10"]
)
def test_matrix_of_single_examples(matrix):
  labels, predicted = examples(matrix)
  result = confusion.confusion_matrix(labels, predicted, len(matrix))
  np.testing.assert_array_equal(result, matrix)
  assert result.dtype == np.int64


def test_matrix_against_a_loop():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 5, 300).astype(np.int32)
  predicted = rng.integers(-1, 5, 300).astype(np.int32)
  matrix = np.zeros((5, 5), int)
  missing = np.zeros(5, int)
  for label, prediction in zip(labels, predicted, strict=True):
    if prediction < 0:
      missing[label] += 1
    else:
      matrix[label, prediction] += 1
  np.testing.assert_array_equal(
    confusion.confusion_matrix(labels, predicted, 5), matrix
  )
  np.testing.assert_array_equal(
    confusion.without_prediction(labels, predicted, 5), missing
  )


@pytest.mark.parametrize("missing", [False, True])
def test_counts_of_examples_equal_those_of_their_matrix(missing):
  rng = np.random.default_rng(1)
  labels = rng.integers(0, 6, 500)
  predicted = rng.integers(-1 if missing else 0, 5, 500)
  matrix = confusion.confusion_matrix(labels, predicted, 6)
  expected = confusion.from_matrix(matrix, np.bincount(labels, minlength=6))
  got = confusion.count_by_class(labels, predicted, 6)
  for field in ("n", "predicted", "correct"):
    np.testing.assert_array_equal(getattr(got, field), getattr(expected, field))


def test_confused_pairs_by_hand():
  labels, predicted = examples(ten_classes())
  pairs = confusion.confused_pairs(labels, predicted, 10, 4)
  assert pairs == [(2, 8, 3), (2, 3, 2), (3, 8, 2), (1, 0, 1)]
  every = confusion.confused_pairs(labels, predicted, 10, 100)
  assert len(every) == 8 and sum(count for *_, count in every) == 12
  # Of so many classes no matrix would fit.
  far = confusion.confused_pairs(
    np.array([7, 0]), np.array([10**6 - 1, -1]), 10**6, 5
  )
  assert far == [(7, 10**6 - 1, 1)]


def test_cohen_kappa_by_hand():
  # Agreement 0.925; chance (100 * 95 + 100 * 105) / 200^2 = 0.5.
  table = confusion.from_matrix(CAT_DOG)
  assert math.isclose(confusion.cohen_kappa(table), 0.85, rel_tol=1e-15)
  # Cohen's own kind of example: always saying one class is worth nothing.
  paradox = confusion.from_matrix(np.array([[98, 0], [2, 0]]))
  assert confusion.cohen_kappa(paradox) == 0.0
  worst = confusion.from_matrix(np.array([[0, 5], [5, 0]]))
  assert confusion.cohen_kappa(worst) == -1.0
  for certain in ([[7, 0], [0, 0]], [[0, 0], [0, 0]]):
    table = confusion.from_matrix(np.array(certain))
    assert math.isnan(confusion.cohen_kappa(table))


def test_cohen_kappa_of_counts_whose_products_pass_64_bits():
  table = confusion.from_matrix(CAT_DOG * 10**8)
  assert math.isclose(confusion.cohen_kappa(table), 0.85, rel_tol=1e-15)


def test_rows_without_prediction_lower_the_recall_alone():
  labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, -1, 1])
  matrix = confusion.confusion_matrix(labels, predicted, 2)
  assert matrix.tolist() == [[2, 0], [0, 1]]
  table = confusion.count_by_class(labels, predicted, 2)
  rows = confusion.per_class_rows(table)
  assert rows[0]["n"] == 3 and rows[0]["predicted"] == 2
  assert rows[0]["precision"] == 1.0
  assert rows[0]["recall"] == 2 / 3
  assert rows[0]["f1"] == 4 / 5
  means = confusion.means(confusion.from_matrix(matrix, np.array([3, 1])))
  assert means["micro_precision"] == 1.0
  assert means["micro_recall"] == 0.75
  assert means["micro_f1"] == 6 / 7


def test_undefined_is_explicit_and_never_zero():
  # Class 1 has no example but a prediction, class 2 no prediction, class 3
  # neither.
  matrix = np.array([[8, 2, 0, 0], [0] * 4, [10, 0, 0, 0], [0] * 4])
  table = confusion.from_matrix(matrix)
  nan = np.nan
  np.testing.assert_array_equal(table.precision, [8 / 18, nan, nan, nan])
  np.testing.assert_array_equal(table.recall, [0.8, nan, 0.0, nan])
  np.testing.assert_array_equal(table.f1, [16 / 28, nan, 0.0, nan])
  rows = confusion.per_class_rows(table)
  assert rows[1] == {
    "n": 0,
    "predicted": 2,
    "correct": 0,
    "false_positives": 2,
    "false_negatives": 0,
    "true_negatives": 18,
    "precision": None,
    "recall": None,
    "recall_ci_low": None,
    "recall_ci_high": None,
    "f1": None,
  }
  assert rows[2]["recall"] == 0.0 and rows[2]["precision"] is None
  means = confusion.means(table)
  assert means["macro_precision"] == 8 / 18
  assert means["macro_recall"] == 0.4
  assert means["weighted_f1"] == 8 / 28
  assert means["micro_recall"] == 8 / 20


def test_no_example_at_all_is_undefined():
  means = confusion.means(confusion.from_matrix(np.zeros((3, 3), int)))
  assert len(means) == 9
  assert all(math.isnan(value) for value in means.values())


def test_the_four_counts_of_a_class_by_hand():
  # Three of the dogs have no prediction.
  table = confusion.from_matrix(CAT_DOG, np.array([100, 103]))
  names = ("correct", "false_positives", "false_negatives", "true_negatives")
  rows = confusion.per_class_rows(table)
  assert [[row[name] for name in names] for row in rows] == [
    [90, 5, 10, 98],
    [95, 10, 8, 90],
  ]


def test_rows_hold_plain_numbers_and_an_interval():
  row = confusion.per_class_rows(confusion.from_matrix(CAT_DOG))[0]
  kinds = {name: type(value) for name, value in row.items()}
  assert {kinds[name] for name in ("n", "predicted", "correct")} == {int}
  assert kinds["recall"] is float
  # The exact interval of 90 in 100.
  assert abs(row["recall_ci_low"] - 0.82378) < 1e-5
  assert abs(row["recall_ci_high"] - 0.95099) < 1e-5


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (
      lambda: confusion.confusion_matrix(np.zeros(3, int), np.zeros(2, int), 2),
      "predicted",
      [2],
    ),
    (
      lambda: confusion.confusion_matrix(np.array([2]), np.array([0]), 2),
      "labels[0]",
      2,
    ),
    (
      lambda: confusion.confusion_matrix(np.array([0]), np.array([-2]), 2),
      "predicted[0]",
      -2,
    ),
    (
      lambda: confusion.confusion_matrix(np.array([0.5]), np.array([0]), 2),
      "labels",
      "float64",
    ),
    (lambda: confusion.from_matrix(np.zeros((2, 3), int)), "matrix", [2, 3]),
    (lambda: confusion.from_matrix(CAT_DOG, np.array([100, 99])), "n[1]", 99),
  ],
)
def test_bad_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call()
