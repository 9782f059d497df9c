"""Sanity checks on results, as rows of warnings.json."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from imgbench import errors
from imgbench.metrics import calibration
from imgbench.metrics import checks
from imgbench.metrics import confusion
from imgbench.metrics import intervals


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """Thresholds of the warnings.

  Attributes:
    baseline_skill: least (accuracy - baseline) / (1 - baseline), where baseline
      is the accuracy of always predicting the majority class.
    recall_gap: most that the recall of a class may be below accuracy; ignored
      if the 95% interval of the recall reaches accuracy.
    precision_gap: the same for the precision of a class.
    over_predicted: predictions per example from which a class of low precision
      alone is over-predicted.
    too_cautious: examples per prediction from which a class of low recall alone
      is predicted too cautiously.
    named_classes: maximal number of classes named for each, worst first.
    mean_gap: largest difference of accuracy and the macro mean of recall or
      precision; ignored if the mean's 95% interval contains accuracy. A large
      one means that rare and frequent classes differ, and accuracy reflects the
      frequent ones.
    calibration_error: largest expected calibration error; ignored if its 95%
      interval reaches this.
    train_gap: most that accuracy may be below the training accuracy.
    train_mse_ratio: largest mean squared error of reconstructions over that in
      training.
    non_finite: largest number of rows of scores that are not finite.
    skipped: largest number of damaged examples that are in no result.
    trained_share: largest share of evaluated examples in the training data.
    known_leaks: largest share of evaluated examples in the list of those that
      the training data is known to have too.

  Raises:
    InputError: a negative setting.
  """

  baseline_skill: float = 0.1
  recall_gap: float = 0.25
  precision_gap: float = 0.25
  over_predicted: float = 1.5
  too_cautious: float = 1.5
  named_classes: int = 10
  mean_gap: float = 0.1
  calibration_error: float = 0.05
  train_gap: float = 0.1
  train_mse_ratio: float = 2.0
  non_finite: int = 0
  skipped: int = 0
  trained_share: float = 0.0
  known_leaks: float = 0.0

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
  skipped: int = 0,
  train_accuracy: float | None = None,
  trained_share: float = 0.0,
  leaks: tuple[int, int] = (0, 0),
  bins: calibration.Reliability | None = None,
  thresholds: Thresholds | None = None,
) -> list[dict[str, Any]]:
  """Returns the rows of warnings.json of one evaluated split.

  Args:
    dataset: e.g. "cifar10:test".
    table: of all examples and K classes.
    class_names: K names.
    non_finite: examples whose scores are not finite.
    skipped: damaged examples that are not in the table.
    train_accuracy: top-1 accuracy in training, in [0, 1], if known.
    trained_share: share of the examples in the training data, in [0, 1].
    leaks: examples that are known to be in the training data in some form, and
      those of them that are predicted right.
    bins: reliability diagram of the examples, if there are probabilities.
    thresholds: None: the defaults.

  Returns:
    Dicts with name, dataset, subset, value, threshold and message, one per
    warning; `value` was compared with `threshold`.
  """
  checks.shape("class_names", class_names, table.n.shape)
  thresholds = thresholds or Thresholds()
  total = int(table.n.sum())
  if total == 0:
    return [_row(dataset, "no_examples", 0, 1, "no example was evaluated")]
  accuracy = int(table.correct.sum()) / total
  found = [
    *_non_finite(non_finite, total, thresholds.non_finite),
    *_skipped(skipped, total, thresholds.skipped),
    *_majority(table, class_names, accuracy, thresholds.baseline_skill),
    *_low_rates(table, class_names, accuracy, thresholds),
    *_mean_gap(table, class_names, accuracy, thresholds.mean_gap),
    *_miscalibration(bins, thresholds.calibration_error),
    *_train_gap(accuracy, train_accuracy, thresholds.train_gap),
    *_leakage(trained_share, thresholds.trained_share),
    *_known_leaks(table, *leaks, thresholds.known_leaks),
  ]
  return [_row(dataset, *warning) for warning in found]


def diagnose_reconstruction(
  dataset: str,
  mse: np.ndarray,
  *,
  normal: np.ndarray | None = None,
  skipped: int = 0,
  train_mse: float | None = None,
  trained_share: float = 0.0,
  thresholds: Thresholds | None = None,
) -> list[dict[str, Any]]:
  """Returns the rows of warnings.json of a split of reconstructed images.

  Args:
    dataset: e.g. "cifar10:test".
    mse: float [N], of all images.
    normal: bool [N], those like the training data; None: all.
    skipped: damaged examples that are not in it.
    train_mse: the mean in training, if known.
    trained_share: see `diagnose`, as for the rest.
    thresholds: None: the defaults.
  """
  thresholds = thresholds or Thresholds()
  broken = int((~np.isfinite(mse)).sum())
  found = [
    *_non_finite(broken, len(mse), thresholds.non_finite, "and no error"),
    *_skipped(skipped, len(mse), thresholds.skipped),
    *_leakage(trained_share, thresholds.trained_share),
  ]
  alike = mse if normal is None else mse[normal]
  if train_mse and len(alike) and np.isfinite(alike).all():
    value = float(np.mean(alike, dtype=np.float64))
    ratio, most = value / train_mse, thresholds.train_mse_ratio
    message = (
      f"the mean squared error is {train_mse:.3g} in training and {value:.3g}"
      f" here, {ratio:.3g} times as much: overfitting or different data"
    )
    if ratio > most:
      found.append(("train_mse_ratio", ratio, most, message))
  return [_row(dataset, *warning) for warning in found]


def describe_rate_jump(
  dataset: str, step: int, before: float, after: float
) -> dict[str, Any]:
  """Returns the row of a run that was resumed with another schedule.

  Args:
    dataset: that it is trained on.
    step: steps done then.
    before: learning rate of the next step as it was; `threshold` of the row.
    after: as it is now; `value` of the row.
  """
  message = (
    f"after step {step} the learning rate went from {before:g} to {after:g}:"
    " the run was resumed with another steps.total"
  )
  return _row(dataset, "learning_rate_jump", after, before, message)


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


def _non_finite(rows, total, most, how="and count as wrong"):
  if rows > most:
    message = f"{rows} of {total} examples have non-finite scores {how}"
    yield "non_finite", rows, most, message


def _skipped(examples, total, most):
  if examples > most:
    message = (
      f"{examples} of {total + examples} examples are damaged and in no result"
    )
    yield "skipped", examples, most, message


def _majority(table, class_names, accuracy, least):
  largest = int(np.argmax(table.n))
  baseline = int(table.n[largest]) / int(table.n.sum())
  name = class_names[largest]
  if baseline == 1:
    message = f"all examples are {name}, so accuracy is meaningless"
    yield "majority_baseline", accuracy, 1.0, message
    return
  skill = (accuracy - baseline) / (1 - baseline)
  if skill < least:
    message = (
      f"accuracy is {_percent(accuracy)}; always predicting {name} would give"
      f" {_percent(baseline)}"
    )
    yield "majority_baseline", skill, least, message


def _low_rates(table, class_names, accuracy, thresholds):
  """Yields classes whose recall or precision is far below accuracy."""
  n, predicted, correct = table.n, table.predicted, table.correct
  low, limits = {}, {}
  for rate, whole in (("recall", n), ("precision", predicted)):
    _, high = intervals.clopper_pearson(correct, whole)
    limits[rate] = accuracy - getattr(thresholds, f"{rate}_gap")
    # False where undefined.
    low[rate] = (getattr(table, rate) < limits[rate]) & (high < accuracy)
  over = low["precision"] & ~low["recall"]
  over &= predicted >= thresholds.over_predicted * n
  cautious = low["recall"] & ~low["precision"] & (predicted > 0)
  cautious &= n >= thresholds.too_cautious * predicted
  for name, rate, other, there in (
    ("low_recall", "recall", "", low["recall"] & ~cautious),
    ("too_cautious", "recall", "precision", cautious),
    ("low_precision", "precision", "", low["precision"] & ~over),
    ("over_predicted", "precision", "recall", over),
  ):
    values = getattr(table, rate)
    worst = np.argsort(np.where(there, values, np.inf), kind="stable")
    worst = worst[: min(int(there.sum()), thresholds.named_classes)]
    for k in worst:
      whole = f"{n[k]}" if rate == "recall" else f"{predicted[k]} predictions"
      message = (
        f"{_percent(accuracy)} accuracy, {_percent(values[k])} {rate} on"
        f" {class_names[k]} ({correct[k]} of {whole})"
      )
      if other:
        message += f" and {_percent(getattr(table, other)[k])} {other}:"
        message += f" predicted {predicted[k]} times for {n[k]} examples"
      yield name, float(values[k]), limits[rate], message
    unnamed = int(there.sum()) - len(worst)
    if unnamed:
      message = (
        f"{unnamed} more classes have a {rate} below {_percent(limits[rate])};"
        " see per_class.csv"
      )
      yield f"{name}_classes", int(there.sum()), len(worst), message


def _mean_gap(table, class_names, accuracy, most):
  # Accuracy is the mean of recall weighted by examples, and that of precision
  # weighted by predictions.
  surplus = table.predicted - table.n
  over = int(np.argmax(surplus))
  reasons = {
    "recall": "results on rare and frequent classes differ",
    "precision": "results on classes that are often and rarely predicted"
    f" differ; {class_names[over]} is predicted {table.predicted[over]} times"
    f" for {table.n[over]} examples",
  }
  for rate, whole in (("recall", table.n), ("precision", table.predicted)):
    there = (table.n > 0) & (whole > 0)
    if not there.any():
      continue
    value = float(getattr(table, rate)[there].mean())
    low, high, _ = intervals.class_mean(table.correct[there], whole[there])
    if abs(value - accuracy) > most and not low <= accuracy <= high:
      message = (
        f"accuracy is {_percent(accuracy)} but macro {rate} {_percent(value)}:"
        f" {reasons[rate]}"
      )
      yield f"macro_{rate}_gap", abs(value - accuracy), most, message


def _miscalibration(bins, most):
  interval = bins and calibration.ece_interval(bins)
  if interval and interval[0] > most:
    value, (low, high, _) = calibration.ece(bins), interval
    surplus = np.nansum(bins.count * (bins.confidence - bins.accuracy))
    message = (
      f"{'over' if surplus > 0 else 'under'}confident: expected calibration"
      f" error {value:.3f} (95% interval {low:.3f} to {high:.3f})"
    )
    yield "miscalibrated", value, most, message


def _train_gap(accuracy, train_accuracy, most):
  if train_accuracy is not None and train_accuracy - accuracy > most:
    message = (
      f"accuracy is {_percent(train_accuracy)} in training and"
      f" {_percent(accuracy)} here: overfitting or different data"
    )
    yield "train_gap", train_accuracy - accuracy, most, message


def _leakage(trained_share, most):
  if trained_share == 1 > most:
    message = (
      "all of these examples are in the training data: this is no test set, and"
      " its results say nothing about new examples; train without it"
    )
    yield "trained_on_test_set", trained_share, most, message
  elif trained_share > most:
    message = (
      f"{_percent(trained_share)} of these examples are in the training data:"
      " results do not carry over to new examples"
    )
    yield "leakage", trained_share, most, message


def _known_leaks(table, examples, correct, most):
  total, hits = int(table.n.sum()), int(table.correct.sum())
  if examples / total > most:
    without = ""
    if examples < total:
      rest = (hits - correct) / (total - examples)
      without = f", {_percent(rest)} without them"
    message = (
      f"{examples} of these examples are known to be in the training data too"
      f" (known_leaks): accuracy is {_percent(hits / total)}{without}"
    )
    yield "known_leaks", examples / total, most, message
