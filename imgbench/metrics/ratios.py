"""Ratio of the error rates on two sets of images, on the host.

Unlike the drop in accuracy, the ratio does not favor models that make few
errors on the first set.
"""

import numpy as np

from imgbench.metrics import intervals


def error_ratio(
  hits_a, n_a, hits_b, n_b, alpha: float = 0.05
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the error rate on set B over that on set A, and its interval.

  The sets share no image. Combines the Wilson intervals of both error rates on
  a log scale, where the ratio is a difference, by squaring and adding the
  distances from estimate to bound.

  Args:
    hits_a: numbers, 0 <= hits_a <= n_a; any shapes that broadcast.
    n_a: trials.
    hits_b: as hits_a, of the other set.
    n_b: as n_a.
    alpha: 1 - the coverage, in (0, 1).

  Returns:
    (estimate, low, high), float64 of the broadcast shape, at least 0. All are
    NaN where set A has no error or a set is empty; the bounds are also NaN
    where set B has no error.

  Raises:
    InputError: hits outside [0, n], bad alpha.

  Source: Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702.
  """
  k_a, n_a = intervals.checked_counts(hits_a, n_a, alpha, ("hits_a", "n_a"))
  k_b, n_b = intervals.checked_counts(hits_b, n_b, alpha, ("hits_b", "n_b"))
  with np.errstate(divide="ignore", invalid="ignore"):
    rate_a, low_a, high_a = _log_error(k_a, n_a, alpha)
    rate_b, low_b, high_b = _log_error(k_b, n_b, alpha)
    estimate = rate_b - rate_a
    low = estimate - np.hypot(rate_b - low_b, high_a - rate_a)
    high = estimate + np.hypot(high_b - rate_b, rate_a - low_a)
    ratio = np.where(k_a < n_a, np.exp(estimate), np.nan)
  known = (k_a < n_a) & (k_b < n_b)
  return (
    ratio,
    np.where(known, np.exp(low), np.nan),
    np.where(known, np.exp(high), np.nan),
  )


def subset_error_ratio(hits, n, hits_all, n_all, alpha: float = 0.05):
  """Returns the error rate on part of a set over that on the whole set.

  It is q / (s q + 1 - s) for a share s = n / n_all of the set and q, the
  `error_ratio` of the part to the rest. Both bounds are those of q, moved so.

  Args:
    hits: numbers, 0 <= hits <= n; any shapes that broadcast.
    n: trials in the part; sizes are not random.
    hits_all: hits in the whole set, at least hits.
    n_all: trials in the whole set.
    alpha: 1 - the coverage, in (0, 1).

  Returns:
    (estimate, low, high), and errors, as of `error_ratio`. NaN where the set
    has no error or the part is empty; bounds also where part or rest has none.
  """
  k, n, k_all, n_all = np.broadcast_arrays(hits, n, hits_all, n_all)
  _, *bounds = error_ratio(k_all - k, n_all - n, k, n, alpha)
  with np.errstate(divide="ignore", invalid="ignore"):
    share = n / n_all
    low, high = (q / (share * q + 1 - share) for q in bounds)
    return (n - k) / share / (n_all - k_all), low, high


def _log_error(hits, n, alpha):
  """Returns natural logarithms of the error rate and its bounds."""
  low, high = intervals.wilson(n - hits, n, alpha)
  return np.log((n - hits) / n), np.log(low), np.log(high)
