"""Ratio of the error rates on two sets of different images, on the host.

Unlike the drop in accuracy, the ratio does not favor models that make few
errors on the first set.
"""

import numpy as np

from imgbench.metrics import intervals


def error_ratio(
  hits_a, n_a, hits_b, n_b, alpha: float = 0.05
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the error rate on set B over that on set A, and its interval.

  Combines the Wilson intervals of both error rates on a log scale, where the
  ratio is a difference, by squaring and adding the distances from estimate to
  bound.

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


def _log_error(hits, n, alpha):
  """Returns natural logarithms of the error rate and its bounds."""
  low, high = intervals.wilson(n - hits, n, alpha)
  return np.log((n - hits) / n), np.log(low), np.log(high)
