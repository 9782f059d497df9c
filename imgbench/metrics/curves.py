"""Ranking curves of one class against the rest, on the host in float64.

An example is predicted positive if its score is at least the threshold.
Examples of equal score form one point, so their order does not matter. Scores
may be infinite; a NaN is an error. Rates of a class without examples are
undefined: NaN in arrays, None in an `OperatingPoint`.
"""

import dataclasses
import functools
import heapq

import numpy as np

from imgbench import errors
from imgbench.metrics import calibration
from imgbench.metrics import checks
from imgbench.metrics import intervals


@dataclasses.dataclass(frozen=True)
class Curve:
  """Counts of the examples that are flagged at each threshold.

  Attributes:
    thresholds: float64 [T].
    true_positives: int64 [T], flagged positives.
    false_positives: int64 [T], flagged negatives.
    positives: number of positives.
    negatives: number of negatives.
  """

  thresholds: np.ndarray
  true_positives: np.ndarray
  false_positives: np.ndarray
  positives: int
  negatives: int

  @functools.cached_property
  def precision(self) -> np.ndarray:
    """float64 [T], NaN where nothing is flagged or nothing is positive."""
    flagged = self.true_positives + self.false_positives
    return _ratio(self.true_positives, flagged if self.positives else 0)

  @functools.cached_property
  def recall(self) -> np.ndarray:
    """float64 [T], also the true positive rate; NaN without positives."""
    return _ratio(self.true_positives, self.positives)

  @functools.cached_property
  def false_positive_rate(self) -> np.ndarray:
    """float64 [T], NaN without negatives."""
    return _ratio(self.false_positives, self.negatives)

  @functools.cached_property
  def f1(self) -> np.ndarray:
    """float64 [T], 0 where nothing is flagged; NaN without positives."""
    flagged = self.true_positives + self.false_positives
    whole = flagged + self.positives if self.positives else 0
    return _ratio(2 * self.true_positives, whole)


@dataclasses.dataclass(frozen=True)
class RankingByClass:
  """Ranking quality of each class's scores against the rest.

  Attributes:
    positives: int64 [K], examples of each class.
    average_precision: float64 [K], NaN for a class without examples.
    roc_auc: float64 [K], NaN for a class with no examples or all of them.
  """

  positives: np.ndarray
  average_precision: np.ndarray
  roc_auc: np.ndarray

  @property
  def macro_average_precision(self) -> float:
    """Mean over the classes where it is defined; NaN without any."""
    return _mean_defined(self.average_precision)

  @property
  def macro_roc_auc(self) -> float:
    """Mean over the classes where it is defined; NaN without any."""
    return _mean_defined(self.roc_auc)


def precision_recall_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
  """Returns the counts at every distinct score, the highest first.

  Args:
    scores: float [N].
    positive: bool [N].

  Raises:
    InputError: wrong shapes or types, a NaN.
  """
  scores, positive = checked(scores, positive)
  ordered, among = np.sort(scores), np.sort(scores[positive])
  thresholds = np.unique(ordered)[::-1]
  flagged = len(ordered) - np.searchsorted(ordered, thresholds)
  true_positives = len(among) - np.searchsorted(among, thresholds)
  return Curve(
    thresholds=thresholds,
    true_positives=true_positives.astype(np.int64),
    false_positives=(flagged - true_positives).astype(np.int64),
    positives=len(among),
    negatives=len(ordered) - len(among),
  )


def roc_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
  """Returns `precision_recall_curve` with a first point that flags nothing.

  Its threshold is inf. `recall` over `false_positive_rate` runs from (0, 0) to
  (1, 1).
  """
  curve = precision_recall_curve(scores, positive)
  return dataclasses.replace(
    curve,
    thresholds=np.append(np.inf, curve.thresholds),
    true_positives=np.append(0, curve.true_positives),
    false_positives=np.append(0, curve.false_positives),
  )


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
  """Returns the sum of (R_n - R_{n-1}) P_n over descending thresholds.

  Nothing is interpolated. NaN without positives. Arguments and errors as in
  `precision_recall_curve`.
  """
  scores, positive = checked(scores, positive)
  return _average_precision(np.sort(scores), np.sort(scores[positive]))


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
  """Returns the share of (positive, negative) pairs in the right order.

  A tie counts half; this is the area under the ROC curve. NaN without positives
  or negatives. Arguments and errors as in `precision_recall_curve`.

  Source: Mann and Whitney, Annals of Mathematical Statistics 18 (1947).
  """
  scores, positive = checked(scores, positive)
  return _roc_auc(np.sort(scores), np.sort(scores[positive]))


def roc_auc_interval(
  scores: np.ndarray, positive: np.ndarray, alpha: float = 0.05
) -> tuple[float, float]:
  """Returns the ROC AUC -+ z standard errors, clipped to [0, 1].

  NaN unless there are two positives and two negatives. Arguments and errors as
  in `precision_recall_curve`.

  Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988).
  """
  scores, positive = checked(scores, positive)
  if min(positive.sum(), (~positive).sum()) < 2:
    return float("nan"), float("nan")
  half = 0.0
  for one, other in ((positive, ~positive), (~positive, positive)):
    ordered = np.sort(scores[other])
    # The share of the others that each example is above, a tie counts half.
    below = np.searchsorted(ordered, scores[one], "left")
    below = (below + np.searchsorted(ordered, scores[one], "right")) / 2
    half += np.var(below / len(ordered), ddof=1) / one.sum()
  half = intervals.normal_quantile(alpha) * np.sqrt(half)
  area = roc_auc(scores, positive)
  return float(max(area - half, 0.0)), float(min(area + half, 1.0))


def ranking_by_class(
  scores: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
) -> RankingByClass:
  """Returns average precision and ROC-AUC of every class against the rest.

  Args:
    scores: float [N, K], e.g. probabilities; masked rows may hold anything.
    labels: integer [N] in [0, K).
    mask: bool [N], true for examples that count; all if None.

  Raises:
    InputError: wrong shapes or types, a label outside, a NaN.
  """
  scores, labels, rows = calibration.checked_classes(
    "scores", scores, labels, mask
  )
  num_classes = scores.shape[1]
  precisions = np.full(num_classes, np.nan)
  areas = np.full(num_classes, np.nan)
  for k, ordered, among in calibration.sorted_classes(
    "scores", scores, labels, rows
  ):
    precisions[k] = _average_precision(ordered, among)
    areas[k] = _roc_auc(ordered, among)
  positives = np.bincount(labels[rows], minlength=num_classes)
  return RankingByClass(positives.astype(np.int64), precisions, areas)


def checked(scores, positive, name: str = "scores", truth: str = "positive"):
  """Returns float64 [N] and bool [N]; InputError names the bad argument."""
  scores = checks.floats(name, np.asarray(scores), ("N",))
  positive = checks.flags(truth, np.asarray(positive), scores.shape)
  # Adding 0.0 turns -0.0 into 0.0.
  scores = scores.astype(np.float64) + 0.0
  bad = np.isnan(scores)
  if bad.any():
    raise errors.InputError(f"{name}[{np.argmax(bad)}]", "no NaN", "nan")
  return scores, positive


def _average_precision(ordered, among) -> float:
  """From sorted scores of all and of positive examples."""
  if not among.size:
    return float("nan")
  # Each positive adds 1/P of recall at the precision of its own threshold.
  flagged = len(ordered) - np.searchsorted(ordered, among)
  hits = len(among) - np.searchsorted(among, among)
  return float(np.mean(hits / flagged))


def _roc_auc(ordered, among) -> float:
  """From sorted scores of all and of positive examples."""
  positives, negatives = len(among), len(ordered) - len(among)
  if not positives or not negatives:
    return float("nan")
  # Left plus right insertion points are twice the rank; pairs of positives
  # contribute P squared.
  twice = np.searchsorted(ordered, among, "left").sum(dtype=np.int64)
  twice += np.searchsorted(ordered, among, "right").sum(dtype=np.int64)
  return int(twice - positives**2) / (2 * positives * negatives)


def _ratio(part, whole) -> np.ndarray:
  return np.where(
    np.greater(whole, 0), part / np.maximum(whole, 1), np.nan
  ).astype(np.float64)


def _mean_defined(values) -> float:
  defined = values[~np.isnan(values)]
  return float(defined.mean()) if defined.size else float("nan")


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
  """Counts and rates at one threshold; None where a rate is undefined.

  Precision needs a flagged example, and all rates need a positive example.

  Attributes:
    threshold: float.
    tp: flagged positives.
    fp: flagged negatives.
    fn: positives that are not flagged.
    tn: negatives that are not flagged.
    precision: tp / (tp + fp).
    recall: tp / (tp + fn).
    f1: 2 tp / (2 tp + fp + fn).
    precision_ci: (low, high), Clopper-Pearson.
    recall_ci: (low, high), Clopper-Pearson.
  """

  threshold: float
  tp: int
  fp: int
  fn: int
  tn: int
  precision: float | None
  recall: float | None
  f1: float | None
  precision_ci: tuple[float, float] | None
  recall_ci: tuple[float, float] | None

  @property
  def flagged(self) -> int:
    """Number of examples that are flagged."""
    return self.tp + self.fp


def operating_point(
  threshold: float,
  flagged: np.ndarray,
  positive: np.ndarray,
  alpha: float = 0.05,
) -> OperatingPoint:
  """Returns counts, rates and intervals of flagged examples.

  The intervals are valid for a threshold chosen on other examples; one chosen
  on these examples looks better than it is.

  Args:
    threshold: recorded as it is.
    flagged: bool [N].
    positive: bool [N].
    alpha: 1 - the coverage of the intervals.

  Raises:
    InputError: wrong shapes or types, bad alpha.
  """
  flagged = checks.flags("flagged", np.asarray(flagged), ("N",))
  positive = checks.flags("positive", np.asarray(positive), flagged.shape)
  tp = int(np.sum(flagged & positive))
  fp = int(np.sum(flagged & ~positive))
  fn = int(np.sum(~flagged & positive))
  defined = tp + fn > 0
  precision, precision_ci = _rate(tp, tp + fp if defined else 0, alpha)
  recall, recall_ci = _rate(tp, tp + fn, alpha)
  return OperatingPoint(
    threshold=float(threshold),
    tp=tp,
    fp=fp,
    fn=fn,
    tn=len(positive) - tp - fp - fn,
    precision=precision,
    recall=recall,
    f1=2 * tp / (2 * tp + fp + fn) if defined else None,
    precision_ci=precision_ci,
    recall_ci=recall_ci,
  )


def _rate(part: int, whole: int, alpha: float):
  low, high = intervals.clopper_pearson(part if whole else 0, whole, alpha)
  if not whole:
    return None, None
  return part / whole, (float(low), float(high))


def apply_threshold(
  scores: np.ndarray,
  positive: np.ndarray,
  threshold: float,
  alpha: float = 0.05,
) -> OperatingPoint:
  """Returns the operating point of flagging every score >= threshold.

  Arguments and errors as in `precision_recall_curve` and `operating_point`; a
  NaN threshold is an error.
  """
  scores, positive = checked(scores, positive)
  check_threshold(threshold)
  return operating_point(threshold, scores >= threshold, positive, alpha)


def check_threshold(threshold) -> None:
  """Raises InputError unless the threshold is a number."""
  if np.ndim(threshold) or np.isnan(threshold):
    raise errors.InputError("threshold", "a number", threshold)


def threshold_for_recall(
  scores: np.ndarray,
  positive: np.ndarray,
  wanted: float,
  alpha: float = 0.05,
) -> OperatingPoint:
  """Returns the point of the highest threshold whose recall is >= wanted.

  Recalls are quotients of integers, rounded once, so that exactly 7 of 100 meet
  a wanted 0.07.

  Args:
    scores: float [N].
    positive: bool [N], at least one true.
    wanted: recall, in (0, 1].
    alpha: 1 - the coverage of the intervals; see `operating_point`.

  Raises:
    InputError: see `precision_recall_curve`; no positive, `wanted` outside.
  """
  curve = _curve_with_positives(scores, positive, wanted)
  # Recall grows along the curve and ends at 1.
  first = np.argmax(curve.recall >= wanted)
  return apply_threshold(scores, positive, curve.thresholds[first], alpha)


def threshold_for_precision(
  scores: np.ndarray,
  positive: np.ndarray,
  wanted: float,
  alpha: float = 0.05,
) -> OperatingPoint | None:
  """Returns the point of highest recall among those of precision >= wanted.

  Of equal recalls it is the one with the highest threshold and precision; None
  if no threshold reaches the precision. Arguments and errors as in
  `threshold_for_recall`.
  """
  curve = _curve_with_positives(scores, positive, wanted)
  found = np.where(curve.precision >= wanted, curve.true_positives, 0)
  best = np.argmax(found)
  if not found[best]:
    return None
  return apply_threshold(scores, positive, curve.thresholds[best], alpha)


def _curve_with_positives(scores, positive, wanted) -> Curve:
  if not 0 < wanted <= 1:
    raise errors.InputError("wanted", "a rate in (0, 1]", wanted)
  curve = precision_recall_curve(scores, positive)
  if not curve.positives:
    given = f"none of {curve.negatives}"
    raise errors.InputError("positive", "at least one true", given)
  return curve


def thinned_steps(x: np.ndarray, y: np.ndarray, limit: int) -> np.ndarray:
  """Chooses points of a step curve that show its shape.

  The curve has height y[i] between x[i - 1] and x[i]. Starting with both ends,
  it adds the point farthest from the steps through the chosen ones until there
  are `limit`, or none is off the steps. No point is moved.

  Args:
    x: float [P], increasing.
    y: float [P].
    limit: at least 2.

  Returns:
    int64, ascending indices: all of [0, P) if P <= `limit`.
  """
  if len(x) <= limit:
    return np.arange(len(x))
  kept = [0, len(x) - 1]
  segments: list[tuple[float, int, int, int]] = []

  def push(left, right):
    between = np.arange(left + 1, right)
    if between.size:
      far = _from_step(x, y, left, right, between)
      best = int(np.argmax(far))
      heapq.heappush(segments, (-far[best], left, right, left + 1 + best))

  push(0, len(x) - 1)
  while segments and len(kept) < limit:
    far, left, right, best = heapq.heappop(segments)
    if far == 0:
      break
    kept.append(best)
    push(left, best)
    push(best, right)
  return np.sort(np.array(kept))


def _from_step(x, y, left, right, between) -> np.ndarray:
  """Returns distances of points from the step between two chosen points."""
  low, high = sorted((y[left], y[right]))
  beyond = np.maximum(np.maximum(low - y[between], y[between] - high), 0)
  to_rise = np.hypot(x[between] - x[left], beyond)
  return np.minimum(np.abs(y[between] - y[right]), to_rise)
