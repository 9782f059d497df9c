"""Confidence intervals, on the host in float64.

All intervals are two-sided and cover 1 - alpha; bounds are fractions in
[0, 1]. Where nothing was counted the bounds are NaN.
"""

import numpy as np

from imgbench import errors

CLOPPER_PEARSON = "clopper_pearson"
WILSON = "wilson"
STRATIFIED_BOOTSTRAP = "stratified_bootstrap"
EFFECTIVE = "clopper_pearson_effective_n"
NORMAL = "normal"

Bounds = tuple[np.ndarray, np.ndarray]

NUM_RESAMPLES = 2000


def clopper_pearson(k, n, alpha: float = 0.05) -> Bounds:
  """Returns the exact interval of a proportion, from quantiles of the beta.

  Args:
    k: hits, 0 <= k <= n; a number or an array. Fractions are allowed, for
      effective sample sizes.
    n: trials, of a shape that broadcasts with `k`.
    alpha: 1 - the coverage, in (0, 1).

  Returns:
    (low, high), float64 of the broadcast shape. Low is exactly 0 at k = 0,
    high exactly 1 at k = n.

  Raises:
    InputError: k outside [0, n], alpha outside (0, 1).

  Source: Clopper and Pearson, Biometrika 26 (1934).
  """
  from scipy import special

  k, n = _checked(k, n, alpha)
  # Where a bound is known the parameters of the beta are not positive.
  low = special.betaincinv(np.maximum(k, 1e-9), n - k + 1, alpha / 2)
  high = special.betaincinv(k + 1, np.maximum(n - k, 1e-9), 1 - alpha / 2)
  low = np.where(k == 0, 0.0, low)
  high = np.where(k == n, 1.0, high)
  return _undefined_where(n == 0, low, high)


def wilson(k, n, alpha: float = 0.05) -> Bounds:
  """Returns the score interval of a proportion; see `clopper_pearson`.

  Source: Wilson, JASA 22 (1927).
  """
  k, n = _checked(k, n, alpha)
  z = _normal_quantile(alpha)
  with np.errstate(divide="ignore", invalid="ignore"):
    p = k / n
    centre = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (centre + np.stack([-half, half])) / (1 + z**2 / n)
  # Rounding must not move the ends that are known.
  low = np.where(k == 0, 0.0, np.clip(low, 0.0, 1.0))
  high = np.where(k == n, 1.0, np.clip(high, 0.0, 1.0))
  return _undefined_where(n == 0, low, high)


def normal(values, alpha: float = 0.05) -> tuple[float, float]:
  """Returns mean -+ z standard errors; NaN for fewer than two values.

  Args:
    values: float [N], finite.
    alpha: 1 - the coverage.
  """
  _check_alpha(alpha)
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return float("nan"), float("nan")
  mean = values.mean()
  half = _normal_quantile(alpha) * values.std(ddof=1) / np.sqrt(len(values))
  return float(mean - half), float(mean + half)


def class_mean(
  hits, count, alpha: float = 0.05, *, seed: int = 0
) -> tuple[float, float, str]:
  """Returns the interval of the mean over classes of hits / count.

  It is `stratified_bootstrap` but where all classes have only hits or only
  misses: resamples do not vary then, and the exact interval at the effective
  sample size stands in, as for surveys.

  Args:
    hits: integer [K], 0 <= hits <= count.
    count: integer [K], at least 1.
    alpha: 1 - the coverage.
    seed: of the bootstrap.

  Returns:
    (low, high, the name of the method).

  Source: Korn and Graubard, Survey Methodology 24 (1998), for the latter.
  """
  hits, count = _checked_classes(hits, count, alpha)
  if np.any((hits > 0) & (hits < count)):
    return *stratified_bootstrap(hits, count, alpha, seed=seed), (
      STRATIFIED_BOOTSTRAP
    )
  # The n at which a plain proportion varies as the mean over classes does.
  effective = len(count) ** 2 / np.sum(1 / count)
  mean = np.mean(hits / count)
  low, high = clopper_pearson(mean * effective, effective, alpha)
  return float(low), float(high), EFFECTIVE


def stratified_bootstrap(
  hits,
  count,
  alpha: float = 0.05,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> tuple[float, float]:
  """Returns the percentile interval of the mean over classes of hits / count.

  Examples are drawn again within each class, which is a binomial draw.
  Deviations are scaled by sqrt(n / (n - 1)), so that the variance is right for
  small classes too; a class of one example cannot vary.

  Args:
    hits: integer [K], 0 <= hits <= count.
    count: integer [K], at least 1.
    alpha: 1 - the coverage, in (0, 1).
    num_resamples: draws.
    seed: of the draws; the same seed gives the same interval.

  Raises:
    InputError: an empty class, hits outside [0, count], bad alpha.

  Source: Rao and Wu, JASA 83 (1988), for the scaling.
  """
  hits, count = _checked_classes(hits, count, alpha)
  rate = hits / count
  rng = np.random.default_rng(seed)
  drawn = rng.binomial(
    count.astype(np.int64), rate, size=(num_resamples, len(rate))
  )
  scale = np.sqrt(count / np.maximum(count - 1, 1))
  means = rate.mean() + ((drawn / count - rate) * scale).mean(axis=1)
  low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
  return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def _normal_quantile(alpha: float) -> float:
  from scipy import special

  return float(special.ndtri(1 - alpha / 2))


def _undefined_where(empty, low, high) -> Bounds:
  return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def _check_alpha(alpha: float) -> None:
  if not 0 < alpha < 1:
    raise errors.InputError(f"alpha: expected a number in (0, 1), got {alpha}")


def _checked(k, n, alpha) -> Bounds:
  _check_alpha(alpha)
  k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
  if np.any(~((k >= 0) & (k <= n))):
    raise errors.InputError(f"k: expected 0 <= k <= n, got k {k} of n {n}")
  return np.broadcast_arrays(k, n)


def _checked_classes(hits, count, alpha) -> Bounds:
  hits, count = _checked(hits, count, alpha)
  if hits.ndim != 1 or not hits.size or np.any(count < 1):
    raise errors.InputError(
      "count: expected at least one example in each of one or more classes,"
      f" got shape {list(count.shape)}, smallest"
      f" {count.min() if count.size else 'none'}"
    )
  return hits, count
