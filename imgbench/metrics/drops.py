"""Drop of accuracy between two sets of different images, on the host.

A drop is accuracy on set A minus accuracy on set B, e.g. ImageNet's validation
set minus ImageNetV2; a fraction in [-1, 1], in float64. For two models on the
same images see `paired`.
"""

from collections.abc import Sequence

import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import intervals
from imgbench.metrics import resampling

NEWCOMBE = "newcombe"
BOOTSTRAP = "bootstrap"
SQUARE_AND_ADD = "square_and_add"

NAMES_A = ("hits_a", "count_a")
NAMES_B = ("hits_b", "count_b")


def drop(
  hits_a, n_a, hits_b, n_b, alpha: float = 0.05
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the difference of two independent proportions and its interval.

  Combines the Wilson intervals of both by squaring and adding the distances
  from estimate to bound. Unlike estimate -+ z standard errors it does not
  degenerate if both proportions are 0 or 1, stays within [-1, 1], and covers
  about 1 - alpha in small sets.

  Args:
    hits_a: numbers, 0 <= hits_a <= n_a; any shapes that broadcast.
    n_a: trials.
    hits_b: as hits_a, of the other set.
    n_b: as n_a.
    alpha: 1 - the coverage, in (0, 1).

  Returns:
    (estimate, low, high), float64 of the broadcast shape; NaN where n_a or
    n_b is 0.

  Raises:
    InputError: hits outside [0, n], shapes that do not fit, bad alpha.

  Source: Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10.
  """
  k_a, n_a = intervals.checked_counts(hits_a, n_a, alpha, ("hits_a", "n_a"))
  k_b, n_b = intervals.checked_counts(hits_b, n_b, alpha, ("hits_b", "n_b"))
  try:
    np.broadcast_shapes(k_a.shape, k_b.shape)
  except ValueError:
    expected = f"a shape that broadcasts with hits_a {list(k_a.shape)}"
    raise errors.InputError("hits_b", expected, list(k_b.shape)) from None
  bounds_a = intervals.wilson(k_a, n_a, alpha)
  bounds_b = intervals.wilson(k_b, n_b, alpha)
  with np.errstate(invalid="ignore"):
    return square_and_add(k_a / n_a, bounds_a, k_b / n_b, bounds_b)


def bootstrap_drop(
  hits_a,
  count_a,
  hits_b,
  count_b,
  alpha: float = 0.05,
  *,
  class_mean: bool,
  num_resamples: int = intervals.NUM_RESAMPLES,
  seed: int = 0,
) -> tuple[float, float, float, str]:
  """Returns the drop between two sets of images with a bootstrap interval.

  Resamples both sets independently: within each class as in
  `intervals.class_mean`, or among all images of the set. If a set has only hits
  or only misses (in every class), its resamples do not vary. Then the intervals
  of both sets, which are exact at the effective sample size for such a set, are
  combined as in `drop`.

  Args:
    hits_a: integer [K], 0 <= hits_a <= count_a.
    count_a: integer [K]; at least 1 in all, with `class_mean` in each class.
    hits_b: integer [K], the same classes on the other set.
    count_b: integer [K], as count_a.
    alpha: 1 - the coverage, in (0, 1).
    class_mean: accuracy is the mean over classes of hits / count, otherwise
      sum(hits) / sum(count).
    num_resamples: draws, at least 1.
    seed: of the draws; the same seed gives the same interval.

  Returns:
    (estimate, low, high, the name of the method).

  Raises:
    InputError: no examples, an empty class under `class_mean`, hits outside
      [0, count], other classes in the two sets, bad alpha, no draws.

  Source: Efron and Tibshirani 1993, Rao and Wu 1988 for resampling; Zou and
    Donner, Statistics in Medicine 27 (2008), for the combination.
  """
  a = _strata(hits_a, count_a, alpha, class_mean, NAMES_A)
  b = _strata(hits_b, count_b, alpha, class_mean, NAMES_B)
  checks.shape("hits_b", hits_b, np.shape(hits_a))
  mean_a, mean_b = np.mean(a[0] / a[1]), np.mean(b[0] / b[1])
  if not (intervals.varies(*a) and intervals.varies(*b)):
    # At most one of them draws, so they can share the seed.
    low_a, high_a, _ = intervals.class_mean(
      *a, alpha, num_resamples=num_resamples, seed=seed
    )
    low_b, high_b, _ = intervals.class_mean(
      *b, alpha, num_resamples=num_resamples, seed=seed
    )
    estimate, low, high = square_and_add(
      mean_a, (low_a, high_a), mean_b, (low_b, high_b)
    )
    return float(estimate), float(low), float(high), SQUARE_AND_ADD
  rng = np.random.default_rng(seed)
  drawn_a = resampling.mean_resamples(rng, *a, num_resamples)
  drawn_b = resampling.mean_resamples(rng, *b, num_resamples)
  difference = mean_a - mean_b
  bounds = intervals.percentiles(drawn_a - drawn_b, difference, alpha)
  low, high = np.clip(bounds, -1, 1)
  method = intervals.STRATIFIED_BOOTSTRAP if class_mean else BOOTSTRAP
  return float(difference), float(low), float(high), method


def square_and_add(
  value_a,
  bounds_a: Sequence[float | np.ndarray],
  value_b,
  bounds_b: Sequence[float | np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns (a - b, low, high) from the intervals of independent a and b.

  Bounds are cut to [-1, 1], for values that are fractions.

  Source: Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702.
  """
  (low_a, high_a), (low_b, high_b) = bounds_a, bounds_b
  estimate = value_a - value_b
  low = estimate - np.hypot(value_a - low_a, high_b - value_b)
  high = estimate + np.hypot(high_a - value_a, value_b - low_b)
  return estimate, np.maximum(low, -1.0), np.minimum(high, 1.0)


def _strata(hits, count, alpha, class_mean, names) -> intervals.Bounds:
  """Returns hits and counts by class, or of the whole set as one stratum."""
  if class_mean:
    return intervals.checked_classes(hits, count, alpha, names)
  hits, count = intervals.checked_counts(hits, count, alpha, names)
  return intervals.checked_classes(
    np.atleast_1d(hits.sum()), np.atleast_1d(count.sum()), alpha, names
  )
