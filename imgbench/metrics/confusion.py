"""Confusion matrix, precision, recall and F1, on the host.

Undefined rates are NaN in arrays and None in rows, never 0.0: all three for a
class without examples, precision for a class that is never predicted. A class
with examples that is never predicted has recall 0 and F1 0.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from imgbench.metrics import checks
from imgbench.metrics import intervals


def confusion_matrix(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
  """Returns int64 [K, K], rows true labels, columns predictions.

  Args:
    labels: integer [N] in [0, K).
    predicted: integer [N] in [0, K), or -1 for rows of logits that are not
      finite, which are in no cell; see `without_prediction`.
    num_classes: K.

  Raises:
    InputError: wrong shapes, or a value outside.
  """
  labels, predicted = _checked(labels, predicted, num_classes)
  cells = _cells(labels, predicted, num_classes)
  matrix = np.bincount(cells, minlength=num_classes**2)
  return matrix.reshape(num_classes, num_classes)


def confused_pairs(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int, limit: int
) -> list[tuple[int, int, int]]:
  """Returns the most frequent (true, predicted, count) of wrong predictions.

  Needs memory for the examples only; a matrix of many thousand classes would
  not fit.

  Args:
    labels: integer [N]; for this and the rest see `confusion_matrix`.
    predicted: integer [N].
    num_classes: K.
    limit: maximal number of pairs; equal counts are in class order.
  """
  labels, predicted = _checked(labels, predicted, num_classes)
  cells = _cells(labels, predicted, num_classes)
  wrong = cells[cells // num_classes != cells % num_classes]
  cells, counts = np.unique(wrong, return_counts=True)
  order = np.argsort(-counts, kind="stable")[:limit]
  return [(*divmod(int(cells[i]), num_classes), int(counts[i])) for i in order]


def without_prediction(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
  """Returns int64 [K], the examples of each class without a prediction."""
  labels, predicted = _checked(labels, predicted, num_classes)
  return np.bincount(labels[predicted < 0], minlength=num_classes)


@dataclasses.dataclass(frozen=True)
class PerClass:
  """Counts by class; the rates are float64 [K], NaN where undefined.

  Attributes:
    n: int64 [K] examples, also those without a prediction.
    predicted: int64 [K] predictions.
    correct: int64 [K] right predictions.
  """

  n: np.ndarray
  predicted: np.ndarray
  correct: np.ndarray

  @functools.cached_property
  def precision(self) -> np.ndarray:
    """correct / predicted."""
    return self._ratio(self.correct, self.predicted)

  @functools.cached_property
  def recall(self) -> np.ndarray:
    """correct / n."""
    return self._ratio(self.correct, self.n)

  @functools.cached_property
  def f1(self) -> np.ndarray:
    """2 correct / (n + predicted), the harmonic mean if both are defined."""
    return self._ratio(2 * self.correct, self.n + self.predicted)

  def _ratio(self, part, whole) -> np.ndarray:
    defined = (whole > 0) & (self.n > 0)
    return np.where(defined, part / np.maximum(whole, 1), np.nan)


def count_by_class(
  labels: np.ndarray, predicted: np.ndarray | jax.Array, num_classes: int
) -> PerClass:
  """Returns the same as `from_matrix` without building the matrix.

  Args:
    labels: integer [N]; for this and the rest see `confusion_matrix`.
    predicted: integer [N]; -1 counts as an example without a prediction.
    num_classes: K.
  """
  labels, predicted = _checked(labels, predicted, num_classes)
  count = lambda values: np.bincount(values, minlength=num_classes)
  return PerClass(
    n=count(labels),
    predicted=count(predicted[predicted >= 0]),
    correct=count(labels[labels == predicted]),
  )


def from_matrix(matrix: np.ndarray, n: np.ndarray | None = None) -> PerClass:
  """Returns the counts and rates of every class.

  Args:
    matrix: integer [K, K] of `confusion_matrix`.
    n: integer [K], examples of each class, if some have no prediction.

  Raises:
    InputError: wrong shapes, or a class with fewer examples than the matrix
      has.
  """
  matrix = checks.integers("matrix", np.asarray(matrix), ("K", "K"))
  checks.shape("matrix", matrix, (len(matrix), len(matrix)))
  matrix = matrix.astype(np.int64)
  in_matrix = matrix.sum(axis=1)
  if n is None:
    n = in_matrix
  n = checks.integers("n", np.asarray(n), in_matrix.shape).astype(np.int64)
  checks.at_least("n", n, in_matrix, "the row sums of the matrix")
  return PerClass(n, matrix.sum(axis=0), np.diagonal(matrix).copy())


def per_class_rows(
  table: PerClass, alpha: float = 0.05
) -> list[dict[str, Any]]:
  """Returns the numbers of per_class.csv, one row per class; None: undefined.

  True positives are the column "correct".

  Args:
    table: of all K classes.
    alpha: 1 - the coverage of the (Clopper-Pearson) interval of the recall.
  """
  low, high = intervals.clopper_pearson(table.correct, table.n, alpha)
  columns = {
    "n": table.n,
    "predicted": table.predicted,
    "correct": table.correct,
    "false_positives": table.predicted - table.correct,
    "false_negatives": table.n - table.correct,
    "true_negatives": table.n.sum() - table.n - table.predicted + table.correct,
    "precision": table.precision,
    "recall": table.recall,
    "recall_ci_low": low,
    "recall_ci_high": high,
    "f1": table.f1,
  }
  values = {name: none_for_nan(column) for name, column in columns.items()}
  return [
    dict(zip(values, row, strict=True))
    for row in zip(*values.values(), strict=True)
  ]


def means(table: PerClass) -> Mapping[str, float]:
  """Returns micro, macro and weighted means, e.g. "macro_f1"; NaN: undefined.

  Macro and weighted (by n) means are over the classes whose rate is defined:
  classes without examples never count, classes never predicted do not count for
  precision. Micro rates pool all examples: correct over predictions, over
  examples, and their harmonic mean.
  """
  n, predicted = table.n.sum(), table.predicted.sum()
  correct = table.correct.sum()
  together = PerClass(*(np.array([x]) for x in (n, predicted, correct)))
  result = {}
  for name in ("precision", "recall", "f1"):
    rates = getattr(table, name)
    weights = np.where(np.isnan(rates), 0, table.n)
    known = rates[~np.isnan(rates)]
    result[f"macro_{name}"] = known.mean() if known.size else np.nan
    result[f"micro_{name}"] = getattr(together, name)[0]
    result[f"weighted_{name}"] = (
      np.nansum(rates * weights) / weights.sum() if known.size else np.nan
    )
  return {name: float(value) for name, value in result.items()}


def cohen_kappa(table: PerClass) -> float:
  """Returns Cohen's kappa of labels and predictions, in [-1, 1].

  (accuracy - chance) / (1 - chance), where chance is the agreement of a label
  and a prediction drawn independently from their frequencies. An example
  without a prediction agrees with nothing. NaN (undefined) without examples or
  if chance agreement is certain.

  Source: Cohen, Educational and Psychological Measurement 20 (1960).
  """
  n = int(table.n.sum())
  # In Python integers: products of counts may exceed 2^63.
  pairs = zip(table.n.tolist(), table.predicted.tolist(), strict=True)
  chance = sum(a * b for a, b in pairs)
  agreed = int(table.correct.sum()) * n
  return (
    (agreed - chance) / (n * n - chance) if n * n > chance else float("nan")
  )


def none_for_nan(column: np.ndarray) -> list:
  """Returns the values of float or integer [K] with None for NaN."""
  return [None if value != value else value for value in column.tolist()]


def _cells(labels, predicted, num_classes) -> np.ndarray:
  there = predicted >= 0
  if not there.all():
    labels, predicted = labels[there], predicted[there]
  return labels * num_classes + predicted


def _checked(labels, predicted, num_classes):
  labels = checks.integers("labels", np.asarray(labels), ("N",))
  predicted = checks.integers("predicted", np.asarray(predicted), labels.shape)
  checks.labels_in_range("labels", labels, num_classes)
  if predicted.size and (
    predicted.min() < -1 or predicted.max() >= num_classes
  ):
    there = predicted[predicted != -1]
    checks.labels_in_range("predicted", there, num_classes)
  return labels.astype(np.int64), predicted.astype(np.int64)
