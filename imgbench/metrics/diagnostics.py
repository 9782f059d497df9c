"""Warnings as data: what an accuracy alone would hide."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import confusion
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
    precision_gap: the same for the precision of a class.
    named_classes: at most so many classes are named for either, the worst
      first.
    mean_gap: most that the macro mean of recall or of precision may lie off
      accuracy, to either side; only where its 95% interval does not hold the
      accuracy. Rare and frequent classes then fare differently, and accuracy
      speaks of the frequent ones.
    train_gap: most that accuracy may lie below the training accuracy.
    non_finite: most rows of scores that may be not finite.
    trained_share: most that may be trained on of the examples evaluated.

  Raises:
    InputError: a setting that is negative.
  """

  baseline_skill: float = 0.1
  recall_gap: float = 0.25
  precision_gap: float = 0.25
  named_classes: int = 10
  mean_gap: float = 0.1
  train_gap: float = 0.1
  non_finite: int = 0
  trained_share: float = 0.0

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not value >= 0:
        raise errors.InputError(field.name, "a number of at least 0", value)


def diagnose(
  dataset: str,
  table: confusion.PerClass,
  class_names: Sequence[str],
  *,
  non_finite: int = 0,
  train_accuracy: float | None = None,
  trained_share: float = 0.0,
  thresholds: Thresholds | None = None,
) -> list[dict[str, Any]]:
  """Returns the rows of warnings.json that one evaluated split gives.

  Args:
    dataset: e.g. "cifar10:test".
    table: of all examples and K classes.
    class_names: K names.
    non_finite: examples whose scores are not finite.
    train_accuracy: top-1 accuracy in training, in [0, 1], if it is known.
    trained_share: share of the examples that were trained on, in [0, 1].
    thresholds: the defaults if None.

  Returns:
    Dicts with name, dataset, subset, value, threshold and message; empty if
    there is nothing to warn of. `value` is what `threshold` was compared with.
  """
  checks.shape("class_names", class_names, table.n.shape)
  thresholds = thresholds or Thresholds()
  total = int(table.n.sum())
  if total == 0:
    return [_row(dataset, "no_examples", 0, 1, "no example was evaluated")]
  accuracy = int(table.correct.sum()) / total
  found = [
    *_non_finite(non_finite, total, thresholds.non_finite),
    *_majority(table, class_names, accuracy, thresholds.baseline_skill),
    *_low_rates("recall", table, class_names, accuracy, thresholds),
    *_low_rates("precision", table, class_names, accuracy, thresholds),
    *_mean_gap(table, accuracy, thresholds.mean_gap),
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


def _non_finite(rows, total, most):
  if rows > most:
    message = (
      f"{rows} of {total} examples have scores that are not finite; they count"
      " as wrong"
    )
    yield "non_finite", rows, most, message


def _majority(table, class_names, accuracy, least):
  largest = int(np.argmax(table.n))
  baseline = int(table.n[largest]) / int(table.n.sum())
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


def _low_rates(rate, table, class_names, accuracy, thresholds):
  """Classes whose recall or precision is far below the accuracy."""
  whole = table.n if rate == "recall" else table.predicted
  gap = getattr(thresholds, f"{rate}_gap")
  values = getattr(table, rate)
  _, high = intervals.clopper_pearson(table.correct, whole)
  limit = accuracy - gap
  low = (values < limit) & (high < accuracy)  # False where undefined.
  worst = np.argsort(np.where(low, values, np.inf), kind="stable")
  worst = worst[: min(int(low.sum()), thresholds.named_classes)]
  of = "" if rate == "recall" else " predictions"
  for index in worst:
    message = (
      f"{_percent(accuracy)} accuracy, {_percent(values[index])} {rate} on"
      f" {class_names[index]} ({table.correct[index]} of"
      f" {whole[index]}{of})"
    )
    yield f"low_{rate}", float(values[index]), limit, message
  unnamed = int(low.sum()) - len(worst)
  if unnamed:
    message = (
      f"{unnamed} more classes have a {rate} below {_percent(limit)}; see"
      " per_class.csv"
    )
    yield f"low_{rate}_classes", int(low.sum()), len(worst), message


def _mean_gap(table, accuracy, most):
  for rate, whole in (("recall", table.n), ("precision", table.predicted)):
    there = (table.n > 0) & (whole > 0)
    if not there.any():
      continue
    value = float(getattr(table, rate)[there].mean())
    low, high, _ = intervals.class_mean(table.correct[there], whole[there])
    if abs(value - accuracy) > most and not low <= accuracy <= high:
      message = (
        f"accuracy is {_percent(accuracy)}, the mean {rate} of the classes"
        f" {_percent(value)}: rare and frequent classes fare differently"
      )
      yield f"macro_{rate}_gap", abs(value - accuracy), most, message


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
