"""Calibration and proper scores of probabilities, on the host in float64.

Rates and means over no examples are NaN (undefined), never 0.0. Results do not
depend on the order of examples. Memory beyond the arguments is a few tens of
MB, and a copy of those in a foreign byte order.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import intervals
from imgbench.metrics import specs

EQUAL_WIDTH, EQUAL_MASS = specs.EQUAL_WIDTH, specs.EQUAL_MASS

NUM_BINS = specs.NUM_BINS

# Tolerance of row sums; float16 softmaxes stay below it.
_SUM_TOLERANCE = 1e-3
# Probabilities converted at once; more only costs memory.
_BLOCK = 2**20
_SOFTMAX = "apply a softmax"
_MASK_OUT = "use `mask` to leave out rows without a prediction"


@dataclasses.dataclass(frozen=True)
class Reliability:
  """Reliability diagram: accuracy of predictions by confidence bin.

  Attributes:
    edges: float64 [M + 1] from 0 to 1. Bin j holds confidences in (edges[j],
      edges[j + 1]], the first bin also 0.
    count: int64 [M] examples.
    confidence: float64 [M], their mean confidence; NaN in empty bins.
    accuracy: float64 [M], their accuracy; NaN in empty bins.
  """

  edges: np.ndarray
  count: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray


@dataclasses.dataclass(frozen=True)
class ClasswiseECE:
  """Expected calibration errors of each class against the rest.

  Attributes:
    per_class: float64 [K]; NaN only if there are no examples at all.
    mean: over all K classes.
  """

  per_class: np.ndarray
  mean: float


def brier_scores(
  probs: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
  """Returns the Brier score of every example, in [0, 2]; 0 is perfect.

  The original definition, summed over classes: (p - 1)^2 for the label, p^2 for
  the others. For two classes it is twice the common binary score.

  Args:
    probs: float [N, K]. Rows that count are finite, in [0, 1] and sum to 1
      within 1e-3.
    labels: integer [N] in [0, K).
    mask: bool [N], true for examples that count; None: all. Others may hold
      anything.

  Returns:
    float64 [N], NaN where `mask` is false.

  Raises:
    InputError: wrong shapes or types, a label outside, a row that does not hold
      probabilities.

  Source: Brier, Monthly Weather Review 78 (1950).
  """
  probs, labels, rows = checked_classes("probs", probs, labels, mask)
  result = np.full(len(labels), np.nan)
  for some, block in checked_blocks(probs, rows):
    block[np.arange(len(some)), labels[some]] -= 1.0
    result[some] = np.einsum("nk,nk->n", block, block)
  return result


def brier(
  probs: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
) -> float:
  """Returns the mean of `brier_scores`; NaN if no example counts."""
  return _mean(brier_scores(probs, labels, mask), mask)


def nll_scores(
  probs: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
  """Returns -log(probability of the label) of every example, in [0, inf].

  The logarithm is natural; inf where the probability is 0. With logits
  `outcomes.outcomes` is more exact.

  Arguments, shape and errors are those of `brier_scores`.
  """
  probs, labels, rows = checked_classes("probs", probs, labels, mask)
  result = np.full(len(labels), np.nan)
  for some, block in checked_blocks(probs, rows):
    own = block[np.arange(len(some)), labels[some]]
    with np.errstate(divide="ignore"):
      # Not -log, which is -0.0 at 1.
      result[some] = 0.0 - np.log(own)
  return result


def nll(
  probs: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
) -> float:
  """Returns the mean of `nll_scores`; NaN if no example counts."""
  return _mean(nll_scores(probs, labels, mask), mask)


def reliability(
  confidence: np.ndarray,
  hit: np.ndarray,
  num_bins: int = NUM_BINS,
  binning: str = EQUAL_WIDTH,
  mask: np.ndarray | None = None,
) -> Reliability:
  """Returns the data of a reliability diagram.

  Bins of equal width are (j / M, (j + 1) / M]; the first also holds 0. Bins of
  equal mass cut the sorted confidences at j N / M; a cut among ties moves to
  their nearer end, but never before the lowest ones, so that ties share a bin.
  Without ties counts differ by at most one.

  Args:
    confidence: float [N] in [0, 1], e.g. the probability of the top class.
    hit: bool [N], whether that class is right.
    num_bins: M.
    binning: EQUAL_WIDTH or EQUAL_MASS.
    mask: bool [N], true for examples that count; None: all. Others may hold
      anything.

  Raises:
    InputError: wrong shapes or types, a confidence outside or NaN, no bins, an
      unknown binning.

  Source: Guo et al., ICML 2017, for equal width; Nguyen and O'Connor, EMNLP
    2015, for equal mass.
  """
  _check_bins(num_bins, binning)
  confidence = checks.floats("confidence", np.asarray(confidence), ("N",))
  hit = checks.flags("hit", np.asarray(hit), confidence.shape)
  rows = _rows(mask, len(hit))
  confidence, hit = confidence[rows].astype(np.float64), hit[rows]
  bad = ~((confidence >= 0) & (confidence <= 1))
  if bad.any():
    first = np.argmax(bad)
    raise errors.InputError(
      f"confidence[{rows[first]}]", "0 to 1", confidence[first], _MASK_OUT
    )
  return _binned(
    np.sort(confidence), np.sort(confidence[hit]), num_bins, binning
  )


def ece(bins: Reliability) -> float:
  """Returns the expected calibration error, in [0, 1]; NaN without examples.

  The mean over examples of |accuracy - confidence| of their bin.

  Source: Naeini et al., AAAI 2015; Guo et al., ICML 2017.
  """
  total = bins.count.sum()
  if not total:
    return float("nan")
  gaps = np.abs(bins.accuracy - bins.confidence)
  return float(np.nansum(bins.count * gaps) / total)


def ece_interval(
  bins: Reliability, alpha: float = 0.05, seed: int = 0
) -> tuple[float, float, str] | None:
  """Returns the interval of `ece` and its method; None for n below 2.

  Noise adds to the gap of a bin whatever its sign: the error of a sample is too
  large on average, by 0.8 sqrt(M / n) standard deviations of a hit in a
  calibrated model. Resamples repeat that. The low end is the basic one, without
  the bias, and 0 where a calibrated model may have as large an error; the high
  end is the percentile, as the basic one is often too low. The examples of bins
  are resampled, their hits drawn normally at accuracy (hits + 1/2) / (n + 1).

  Source: Davison and Hinkley, Bootstrap Methods and their Application (1997),
    5.2 and 5.3; Kumar et al., NeurIPS 2019, for normal draws of bins.
  """
  total, there = bins.count.sum(), bins.count > 0
  if total < 2:
    return None
  n, hits = bins.count[there], (bins.count * bins.accuracy)[there]
  gaps, smooth = hits / n - bins.confidence[there], (hits + 0.5) / (n + 1)
  rng, estimate = np.random.default_rng(seed), ece(bins)
  times = rng.multinomial(total, n / total, intervals.NUM_RESAMPLES)
  noise = np.sqrt(times * smooth * (1 - smooth)) * rng.normal(size=times.shape)
  draws = np.abs(times * gaps + noise).sum(axis=1) / total
  low, _ = intervals.percentiles(2 * estimate - draws, estimate, alpha)
  _, high = intervals.percentiles(draws, estimate, alpha)
  if estimate <= np.quantile(np.abs(noise).sum(axis=1) / total, 1 - alpha / 2):
    low = np.zeros(())
  return max(float(low), 0.0), min(float(high), 1.0), intervals.BIN_BOOTSTRAP


def mce(bins: Reliability) -> float:
  """Returns the maximum calibration error: the largest gap of any bin.

  It is in [0, 1]; NaN without examples.

  Source: Naeini et al., AAAI 2015.
  """
  there = bins.count > 0
  gaps = np.abs(bins.accuracy - bins.confidence)[there]
  return float(gaps.max()) if gaps.size else float("nan")


def classwise_ece(
  probs: np.ndarray,
  labels: np.ndarray,
  num_bins: int = NUM_BINS,
  binning: str = EQUAL_WIDTH,
  mask: np.ndarray | None = None,
) -> ClasswiseECE:
  """Returns the calibration error of the probability of each class.

  For class k the confidence of an example is its probability of k, a hit if the
  label is k; bins as in `reliability`. A class without examples is in the mean:
  its error is the mean probability that it gets.

  Args:
    probs: float [N, K]; for this and `mask` see `brier_scores`.
    labels: integer [N] in [0, K).
    num_bins: M, of each class.
    binning: EQUAL_WIDTH or EQUAL_MASS.
    mask: bool [N], true for examples that count; all if None.

  Raises:
    InputError: as `brier_scores` and `reliability`.

  Source: Kull et al., NeurIPS 2019, for equal width; Nixon et al., CVPR
    Workshops 2019, for equal mass.
  """
  _check_bins(num_bins, binning)
  probs, labels, rows = checked_classes("probs", probs, labels, mask)
  for _ in checked_blocks(probs, rows):
    pass
  per_class = np.empty(probs.shape[1])
  for k, ordered, own in sorted_classes("probs", probs, labels, rows):
    per_class[k] = ece(_binned(ordered, own, num_bins, binning))
  return ClasswiseECE(per_class, float(per_class.mean()))


def checked_classes(name: str, scores, labels, mask):
  """Returns the arrays and the rows that count, or raises InputError.

  Args:
    name: of the scores.
    scores: float [N, K].
    labels: integer [N].
    mask: bool [N] or None.

  Returns:
    (scores [N, K] as given, int64 [N] labels, int64 rows where mask is true).
  """
  scores = checks.floats(name, np.asarray(scores), ("N", "K"))
  labels = checks.integers("labels", np.asarray(labels), scores.shape[:1])
  rows = _rows(mask, len(labels))
  # Where they do not count, labels may be anything, e.g. -1.
  counted = np.zeros_like(labels)
  counted[rows] = labels[rows]
  checks.labels_in_range("labels", counted, scores.shape[1])
  return scores, counted.astype(np.int64), rows


def sorted_classes(
  name: str, scores: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """Yields each class with the sorted scores of all and of its examples.

  Args:
    name: of the scores, for messages.
    scores: float [N, K].
    labels: integer [N], in [0, K) in the rows that count.
    rows: integer, the rows that count.

  Yields:
    (class, float64 [n] ascending, float64 [positives] ascending).

  Raises:
    InputError: a NaN.
  """
  num_classes = scores.shape[1]
  # Groups the rows by class.
  by_class = np.argsort(labels[rows], kind="stable")
  starts = np.searchsorted(labels[rows][by_class], np.arange(num_classes + 1))
  width = max(1, _BLOCK // max(1, len(rows)))
  for left in range(0, num_classes, width):
    columns = scores[:, left : left + width]
    if len(rows) < len(scores):
      columns = columns[rows]
    block = np.array(columns.T, np.float64, order="C")
    for k, column in enumerate(block, start=left):
      among = np.sort(column[by_class[starts[k] : starts[k + 1]]])
      column.sort()
      # A NaN is sorted to the end.
      if np.isnan(column[-1:]).any():
        row = rows[np.argmax(np.isnan(columns[:, k - left].astype(np.float64)))]
        raise errors.InputError(
          f"{name}[{row}, {k}]", "no NaN", "nan", _MASK_OUT
        )
      yield k, column, among


def checked_blocks(
  probs: np.ndarray, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields (rows, float64 copy of their probabilities). Raises InputError."""
  size = max(1, _BLOCK // max(1, probs.shape[1]))
  for start in range(0, len(rows), size):
    some = rows[start : start + size]
    block = probs[some].astype(np.float64)
    # Comparisons are false for NaN.
    good = (block.min(axis=1) >= 0) & (block.max(axis=1) <= 1)
    good &= np.abs(block.sum(axis=1) - 1) <= _SUM_TOLERANCE
    if not good.all():
      first = np.argmin(good)
      raise _not_probabilities(some[first], block[first])
    yield some, block


def _not_probabilities(row: int, values: np.ndarray) -> errors.InputError:
  outside = ~((values >= 0) & (values <= 1))
  if not outside.any():
    total = f"{values.sum():.6g}"
    return errors.InputError(f"probs[{row}]", "sum 1", total, _SOFTMAX)
  k = np.argmax(outside)
  fix = _SOFTMAX if np.isfinite(values[k]) else _MASK_OUT
  return errors.InputError(f"probs[{row}, {k}]", "0 to 1", values[k], fix)


def _check_bins(num_bins: int, binning: str) -> None:
  if num_bins < 1:
    raise errors.InputError("num_bins", "at least 1", num_bins)
  if binning not in (EQUAL_WIDTH, EQUAL_MASS):
    names = f"{EQUAL_WIDTH!r} or {EQUAL_MASS!r}"
    raise errors.InputError("binning", names, repr(binning))


def _binned(
  ordered: np.ndarray, hits: np.ndarray, num_bins: int, binning: str
) -> Reliability:
  """Returns bins of the sorted confidences of all examples and of hits."""
  edges = np.arange(num_bins + 1) / num_bins
  if binning == EQUAL_MASS and ordered.size:
    edges[1:-1] = _equal_mass_edges(ordered, num_bins)
  starts = _starts(ordered, edges)
  count = np.diff(starts)
  there = count > 0
  confidence = np.full(num_bins, np.nan)
  if ordered.size:
    sums = np.add.reduceat(ordered, starts[:-1][there])
    confidence[there] = sums / count[there]
  accuracy = np.full(num_bins, np.nan)
  accuracy[there] = np.diff(_starts(hits, edges))[there] / count[there]
  return Reliability(edges, count, confidence, accuracy)


def _starts(ordered, edges) -> np.ndarray:
  """Returns int64 [M + 1]: bin j is ordered[starts[j]:starts[j + 1]]."""
  inner = np.searchsorted(ordered, edges[1:-1], side="right")
  return np.concatenate([[0], inner, [len(ordered)]]).astype(np.int64)


def _equal_mass_edges(ordered, num_bins) -> np.ndarray:
  """Returns float64 [M - 1], the greatest confidence below each cut."""
  n, cuts = len(ordered), np.arange(1, num_bins)
  # The first example above the cut, and its ties.
  above = ordered[np.minimum(-(-cuts * n // num_bins), n - 1)]
  first = np.searchsorted(ordered, above, side="left")
  end = np.searchsorted(ordered, above, side="right")
  # In integers: whether the middle of the ties is above the cut.
  up = (first + end - 1) * num_bins >= 2 * cuts * n
  return ordered[np.maximum(np.where(up, first, end), 1) - 1]


def _rows(mask, n: int) -> np.ndarray:
  """Returns the rows that count, or raises InputError for a bad mask."""
  if mask is None:
    return np.arange(n)
  return np.flatnonzero(checks.flags("mask", np.asarray(mask), (n,)))


def _mean(values, mask) -> float:
  counted = values if mask is None else values[_rows(mask, len(values))]
  return float(counted.mean()) if counted.size else float("nan")
