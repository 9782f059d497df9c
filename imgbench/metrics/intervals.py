"""Confidence intervals, on the host in float64.

All intervals are two-sided and cover 1 - alpha; bounds are fractions in [0, 1],
NaN where n is 0.
"""

import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import resampling

CLOPPER_PEARSON = "clopper_pearson"
STRATIFIED_BOOTSTRAP = "stratified_bootstrap"
EFFECTIVE = "clopper_pearson_effective_n"
BIN_BOOTSTRAP = "bootstrap_of_bins"
NORMAL = "normal"
DELONG = "delong"

Bounds = tuple[np.ndarray, np.ndarray]

NUM_RESAMPLES = 2000


def clopper_pearson(k, n, alpha: float = 0.05) -> Bounds:
  """Returns the exact interval of a proportion, from beta quantiles.

  Args:
    k: hits, 0 <= k <= n; a number or an array, may be fractional for effective
      sample sizes.
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

  k, n = checked_counts(k, n, alpha)
  # Where a bound is known, the beta's parameters would not be positive.
  low = special.betaincinv(np.maximum(k, 1e-9), n - k + 1, alpha / 2)
  high = special.betaincinv(k + 1, np.maximum(n - k, 1e-9), 1 - alpha / 2)
  low = np.where(k == 0, 0.0, low)
  high = np.where(k == n, 1.0, high)
  return _undefined_where(n == 0, low, high)


def wilson(k, n, alpha: float = 0.05) -> Bounds:
  """Returns the score interval of a proportion; see `clopper_pearson`.

  Source: Wilson, JASA 22 (1927).
  """
  k, n = checked_counts(k, n, alpha)
  z = normal_quantile(alpha)
  with np.errstate(divide="ignore", invalid="ignore"):
    p = k / n
    centre = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (centre + np.stack([-half, half])) / (1 + z**2 / n)
  # Rounding must not move known ends.
  low = np.where(k == 0, 0.0, np.clip(low, 0.0, 1.0))
  high = np.where(k == n, 1.0, np.clip(high, 0.0, 1.0))
  return _undefined_where(n == 0, low, high)


def normal(values, alpha: float = 0.05) -> tuple[float, float]:
  """Returns mean -+ z standard errors; NaN for fewer than two values.

  Args:
    values: float [N], finite.
    alpha: 1 - the coverage.
  """
  check_alpha(alpha)
  values = np.asarray(values, np.float64)
  checks.shape("values", values, ("N",))
  if len(values) < 2:
    return float("nan"), float("nan")
  mean = values.mean()
  half = normal_quantile(alpha) * values.std(ddof=1) / np.sqrt(len(values))
  return float(mean - half), float(mean + half)


def class_mean(
  hits,
  count,
  alpha: float = 0.05,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> tuple[float, float, str]:
  """Returns the interval of the mean over classes of hits / count.

  A percentile bootstrap: examples are resampled within each class, a binomial
  draw, with deviations scaled by sqrt(n / (n - 1)) for the right variance in
  small classes. If all classes have only hits or only misses, resamples do not
  vary, and the exact interval at the effective sample size is used, as for
  surveys.

  Args:
    hits: integer [K], 0 <= hits <= count.
    count: integer [K], at least 1.
    alpha: 1 - the coverage.
    num_resamples: draws of the bootstrap, at least 1.
    seed: of the bootstrap.

  Returns:
    (low, high, the name of the method).

  Source: Rao and Wu, JASA 83 (1988), for the scaling; Korn and Graubard, Survey
    Methodology 24 (1998), for the effective size.
  """
  (found,) = class_means(
    hits,
    count,
    np.ones((1, *np.shape(count)), bool),
    alpha,
    num_resamples=num_resamples,
    seed=seed,
  )
  return found


def class_means(
  hits,
  count,
  masks,
  alpha: float = 0.05,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> list[tuple[float, float, str]]:
  """Returns `class_mean` of several sets of classes, which may overlap.

  Sets that share classes share their resamples.

  Args:
    hits: integer [K], 0 <= hits <= count.
    count: integer [K], at least 1 where a mask is true.
    masks: bool [S, K], each true for one class or more.
    alpha: 1 - the coverage.
    num_resamples: draws of the bootstrap, at least 1.
    seed: of the bootstrap.

  Returns:
    S times (low, high, the name of the method).

  Raises:
    InputError: an empty set or class, hits outside [0, count], bad alpha, no
      draws.
  """
  hits, count = checked_counts(hits, count, alpha, ("hits", "count"))
  masks = checks.flags("masks", np.asarray(masks), ("S", len(count)))
  inside = [checked_classes(hits[m], count[m], alpha) for m in masks]
  drawn = [varies(*classes) for classes in inside]
  rng = np.random.default_rng(seed)
  resamples = resampling.means_of_sets(
    rng, hits, count, masks[drawn], num_resamples
  )
  found = []
  for classes, has_draws in zip(inside, drawn, strict=True):
    mean = np.mean(classes[0] / classes[1])
    if has_draws:
      low, high = percentiles(next(resamples), mean, alpha)
      low, high, method = *np.clip([low, high], 0, 1), STRATIFIED_BOOTSTRAP
    else:
      size = effective_size(classes[1])
      low, high = clopper_pearson(mean * size, size, alpha)
      method = EFFECTIVE
    found.append((float(low), float(high), method))
  return found


def percentiles(
  draws: np.ndarray, estimate: float | np.floating, alpha: float
) -> Bounds:
  """Returns the percentile interval of draws, widened to hold the estimate.

  With few or skewed draws the estimate can be outside; error bars cannot.

  Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
  """
  low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
  return np.minimum(low, estimate), np.maximum(high, estimate)


def varies(hits: np.ndarray, count: np.ndarray) -> bool:
  """Returns whether resamples vary: some class has both hits and misses."""
  return bool(np.any((hits > 0) & (hits < count)))


def effective_size(count: np.ndarray) -> float:
  """Returns the n at which a proportion has the variance of the class mean.

  It is K^2 / sum(1 / count), assuming the same rate in all classes.
  """
  return float(len(count) ** 2 / np.sum(1 / count))


def normal_quantile(alpha: float) -> float:
  from scipy import special

  return float(special.ndtri(1 - alpha / 2))


def _undefined_where(empty, low, high) -> Bounds:
  return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def check_alpha(alpha: float) -> None:
  """Raises InputError unless alpha is in (0, 1)."""
  if not 0 < alpha < 1:
    raise errors.InputError("alpha", "a number in (0, 1)", alpha)


def checked_counts(
  k, n, alpha: float, names: tuple[str, str] = ("k", "n")
) -> Bounds:
  """Returns k and n as float64 of the same shape.

  Raises:
    InputError: k outside [0, n], shapes that do not broadcast, bad alpha.
  """
  check_alpha(alpha)
  try:
    k, n = np.broadcast_arrays(
      np.asarray(k, np.float64), np.asarray(n, np.float64)
    )
  except ValueError:
    expected = f"a shape that broadcasts with {names[0]} {list(np.shape(k))}"
    raise errors.InputError(names[1], expected, list(np.shape(n))) from None
  bad = ~((k >= 0) & (k <= n))
  if bad.any():
    where = np.unravel_index(np.argmax(bad), bad.shape)
    expected = f"0 <= {names[0]} <= {names[1]}"
    given = f"{k[where]:g} of {n[where]:g}"
    raise errors.InputError(names[0], expected, given)
  return k, n


def checked_classes(
  hits, count, alpha: float, names: tuple[str, str] = ("hits", "count")
) -> Bounds:
  """Returns hits and count as float64 [K], K at least 1, no class empty."""
  hits, count = checked_counts(hits, count, alpha, names)
  checks.shape(names[0], hits, ("K",))
  if not hits.size or np.any(count < 1):
    first = np.argmin(count) if hits.size else None
    given = "none" if first is None else f"{count[first]:g} in class {first}"
    expected = "at least one example in each of one or more classes"
    raise errors.InputError(names[1], expected, given)
  return hits, count
