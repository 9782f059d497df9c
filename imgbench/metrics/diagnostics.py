"""Warnings as data: what an accuracy alone would hide."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from imgbench.metrics import checks
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import intervals


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """When a warning is given.

  Attributes:
    baseline_skill: least share of the examples that the majority class would
      miss, in [0, 1], that accuracy has to gain: (accuracy - baseline) / (1 -
      baseline).
    recall_gap: most that the recall of a class may lie below accuracy; only
      where the 95% interval of the recall also lies below accuracy.
    recall_classes: at most so many classes are named, the worst first.
    train_gap: most that accuracy may lie below the training accuracy.
    non_finite: most rows of scores that may be not finite.
    trained_share: most that may be trained on of the examples evaluated.
  """

  baseline_skill: float = 0.1
  recall_gap: float = 0.25
  recall_classes: int = 10
  train_gap: float = 0.1
  non_finite: int = 0
  trained_share: float = 0.0


def diagnose(
  dataset: str,
  counts: counts_lib.Counts,
  class_names: Sequence[str],
  *,
  train_accuracy: float | None = None,
  trained_share: float = 0.0,
  thresholds: Thresholds | None = None,
) -> list[dict[str, Any]]:
  """Returns the rows of warnings.json that one evaluated split gives.

  Args:
    dataset: e.g. "cifar10:test".
    counts: of all examples, NumPy arrays [K].
    class_names: K names.
    train_accuracy: top-1 accuracy in training, in [0, 1], if it is known.
    trained_share: share of the examples that were trained on, in [0, 1].
    thresholds: the defaults if None.

  Returns:
    Dicts with name, dataset, subset, value, threshold and message; empty if
    there is nothing to warn of. `value` is what `threshold` was compared with.
  """
  checks.shape("class_names", class_names, counts.count.shape)
  thresholds = thresholds or Thresholds()
  total = int(counts.count.sum())
  if total == 0:
    return [_row(dataset, "no_examples", 0, 1, "no example was evaluated")]
  accuracy = int(counts.top1_hits.sum()) / total
  found = [
    *_non_finite(counts, total, thresholds.non_finite),
    *_majority(counts, class_names, accuracy, thresholds.baseline_skill),
    *_low_recall(counts, class_names, accuracy, thresholds),
    *_train_gap(accuracy, train_accuracy, thresholds.train_gap),
    *_leakage(trained_share, thresholds.trained_share),
  ]
  return [_row(dataset, *warning) for warning in found]


def _row(dataset, name, value, threshold, message) -> dict[str, Any]:
  return {
    "name": name,
    "dataset": dataset,
    "subset": "all",
    "value": value,
    "threshold": threshold,
    "message": message,
  }


def _percent(rate: float) -> str:
  return f"{100 * rate:.1f}%"


def _non_finite(counts, total, most):
  rows = int(counts.non_finite.sum())
  if rows > most:
    message = (
      f"{rows} of {total} examples have scores that are not finite; they count"
      " as wrong"
    )
    yield "non_finite", rows, most, message


def _majority(counts, class_names, accuracy, least):
  largest = int(np.argmax(counts.count))
  baseline = int(counts.count[largest]) / int(counts.count.sum())
  name = class_names[largest]
  if baseline == 1:
    message = f"all examples are of {name}: accuracy says nothing"
    yield "majority_baseline", accuracy, 1.0, message
    return
  skill = (accuracy - baseline) / (1 - baseline)
  if skill < least:
    message = (
      f"accuracy is {_percent(accuracy)}, and always saying {name} would give"
      f" {_percent(baseline)}"
    )
    yield "majority_baseline", skill, least, message


def _low_recall(counts, class_names, accuracy, thresholds):
  n = np.maximum(counts.count, 1)
  recall = counts.top1_hits / n
  _, high = intervals.clopper_pearson(counts.top1_hits, n)
  limit = accuracy - thresholds.recall_gap
  low = (counts.count > 0) & (recall < limit) & (high < accuracy)
  worst = np.argsort(np.where(low, recall, np.inf), kind="stable")
  worst = worst[: min(int(low.sum()), thresholds.recall_classes)]
  for index in worst:
    message = (
      f"{_percent(accuracy)} accuracy, {_percent(recall[index])} recall on"
      f" {class_names[index]} ({counts.top1_hits[index]} of"
      f" {counts.count[index]})"
    )
    yield "low_recall", float(recall[index]), limit, message
  unnamed = int(low.sum()) - len(worst)
  if unnamed:
    message = (
      f"{unnamed} more classes have a recall below {_percent(limit)}; see"
      " per_class.csv"
    )
    yield "low_recall_classes", int(low.sum()), len(worst), message


def _train_gap(accuracy, train_accuracy, most):
  if train_accuracy is not None and train_accuracy - accuracy > most:
    message = (
      f"accuracy is {_percent(train_accuracy)} in training and"
      f" {_percent(accuracy)} here: overfitting, or other data"
    )
    yield "train_gap", train_accuracy - accuracy, most, message


def _leakage(trained_share, most):
  if trained_share > most:
    message = (
      f"{_percent(trained_share)} of these examples were trained on: the"
      " numbers say little about new ones"
    )
    yield "leakage", trained_share, most, message
