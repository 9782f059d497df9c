"""Tests and intervals for two models on the same images; host, float64.

On each image both models are right, only A, only B, or neither. Only the
discordant pairs (A alone or B alone right) separate the models. Differences are
A minus B, fractions in [-1, 1].
"""

import dataclasses

import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import intervals
from imgbench.metrics import resampling

PAIRED_BOOTSTRAP = "paired_stratified_bootstrap"
EFFECTIVE = "newcombe_paired_effective_n"

# Columns of joint counts.
BOTH, ONLY_A, ONLY_B, NEITHER = range(4)

Estimate = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class McNemar:
  """McNemar's test that two models are right equally often.

  Attributes:
    only_a: images that A alone has right.
    only_b: images that B alone has right.
    p_exact: two-sided p-value, in (0, 1]; see `mcnemar_counts`.
    p_mid: the less conservative mid-p-value, in (0, 1].
  """

  only_a: int
  only_b: int
  p_exact: float
  p_mid: float


def mcnemar(hits_a, hits_b, mask=None) -> McNemar:
  """Returns McNemar's test of two outcome vectors; see `mcnemar_counts`.

  Args:
    hits_a: bool [N], whether A is right.
    hits_b: bool [N], whether B is right on the same image.
    mask: bool [N], false for rows to leave out, or None.

  Raises:
    InputError: wrong shape or type, no image left.
  """
  joint = joint_counts(hits_a, hits_b, mask=mask)[0]
  only_a, only_b = int(joint[ONLY_A]), int(joint[ONLY_B])
  p_exact, p_mid = mcnemar_counts(only_a, only_b)
  return McNemar(only_a, only_b, float(p_exact), float(p_mid))


def mcnemar_counts(only_a, only_b) -> tuple[np.ndarray, np.ndarray]:
  """Returns exact p-values and mid-p-values from discordant counts.

  With n = only_a + only_b and m the smaller of them, X binomial (n, 1/2):

    p_exact = min(1, 2 P(X <= m))
    p_mid = p_exact - P(X = m), or 1 - P(X = m) / 2 where only_a = only_b

  that is, mid-p takes half of the outcomes as likely as the observed one,
  which are two (m and n - m) or, in the balanced case, one. Both are 1 without
  a discordant pair. Values are at least the smallest normal float64, 2.2e-308,
  so that none is 0.

  Args:
    only_a: integers, at least 0; a number or an array.
    only_b: integers of a shape that broadcasts with `only_a`.

  Returns:
    (p_exact, p_mid), float64 of the broadcast shape, 0 < p_mid <= p_exact <= 1.

  Raises:
    InputError: negative or fractional counts, shapes that do not broadcast.

  Source: McNemar, Psychometrika 12 (1947); Lancaster, JASA 56 (1961);
    Fagerland, Lydersen and Laake, BMC Med Res Methodol 13:91 (2013).
  """
  from scipy import special

  for name, values in (("only_a", only_a), ("only_b", only_b)):
    checks.kind(name, np.asarray(values), np.integer, "whole numbers")
  only_a, only_b = _checked_cells(only_a=only_a, only_b=only_b)
  n, least = only_a + only_b, np.minimum(only_a, only_b)
  # P(X <= m) as a beta integral keeps its relative precision in the tail.
  tail = special.betainc(np.maximum(n - least, 1), least + 1, 0.5)
  p_exact = np.minimum(1.0, 2 * tail)
  log_point = (
    special.gammaln(n + 1)
    - special.gammaln(least + 1)
    - special.gammaln(n - least + 1)
    - n * np.log(2)
  )
  as_likely = np.where(only_a == only_b, 1, 2)
  p_mid = np.where(n == 0, 1.0, p_exact - as_likely / 2 * np.exp(log_point))
  smallest = np.finfo(np.float64).tiny
  return np.clip(p_exact, smallest, 1.0), np.clip(p_mid, smallest, 1.0)


def holm(p_values) -> np.ndarray:
  """Returns p-values adjusted for multiple tests (Holm-Bonferroni), in order.

  The smallest is multiplied by M, the next by M - 1 and so on; results are
  monotone and at most 1. Rejecting results <= alpha bounds the family-wise
  error rate by alpha, however the tests depend.

  Args:
    p_values: float [M], in [0, 1]; M may be 0. Equal values stay equal.

  Returns:
    float64 [M].

  Raises:
    InputError: NaN or a value outside [0, 1], wrong rank.

  Source: Holm, Scandinavian Journal of Statistics 6 (1979).
  """
  p = np.asarray(p_values, np.float64)
  checks.shape("p_values", p, ["M"])
  bad = ~((p >= 0) & (p <= 1))
  if bad.any():
    first = int(np.argmax(bad))
    raise errors.InputError(f"p_values[{first}]", "0 to 1", p[first])
  order = np.argsort(p, kind="stable")
  steps = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
  adjusted = np.empty_like(p)
  adjusted[order] = np.maximum.accumulate(steps)
  return adjusted


def joint_counts(
  hits_a, hits_b, labels=None, num_classes: int = 1, mask=None
) -> np.ndarray:
  """Returns how often both, only A, only B and neither are right, by class.

  Args:
    hits_a: bool [N].
    hits_b: bool [N].
    labels: integer [N] in [0, num_classes), anything where `mask` is false;
      None for one class.
    num_classes: K.
    mask: bool [N], false for rows to leave out, or None.

  Returns:
    int64 [K, 4], columns BOTH, ONLY_A, ONLY_B, NEITHER.

  Raises:
    InputError: wrong shape or type, a label out of range, no image left.
  """
  hits_a = checks.flags("hits_a", np.asarray(hits_a), ["N"])
  hits_b = checks.flags("hits_b", np.asarray(hits_b), hits_a.shape)
  mask = np.ones(hits_a.shape, bool) if mask is None else np.asarray(mask)
  mask = checks.flags("mask", mask, hits_a.shape)
  if not mask.any():
    raise errors.InputError("mask", "at least one image to compare on", "none")
  cell = 2 * ~hits_a + ~hits_b
  if labels is not None:
    labels = checks.integers("labels", np.asarray(labels), hits_a.shape)
    labels = np.where(mask, labels, 0)
    checks.labels_in_range("labels", labels, num_classes)
    cell = 4 * labels.astype(np.int64) + cell
  counts = np.bincount(cell[mask], minlength=4 * num_classes)
  return counts.reshape(num_classes, 4)


def paired_difference(
  hits_a, hits_b, alpha: float = 0.05, mask=None
) -> tuple[float, float, float]:
  """Returns mean(hits_a) - mean(hits_b) and its interval.

  Args:
    hits_a: bool [N], whether A is right.
    hits_b: bool [N], whether B is right on the same image.
    alpha: 1 - the coverage, in (0, 1).
    mask: bool [N], false for rows to leave out, or None.

  Returns:
    (estimate, low, high); see `paired_difference_counts`.

  Raises:
    InputError: wrong shape or type, no image left, bad alpha.
  """
  joint = joint_counts(hits_a, hits_b, mask=mask)[0]
  estimate, low, high = paired_difference_counts(*joint, alpha=alpha)
  return float(estimate), float(low), float(high)


def paired_difference_counts(
  both, only_a, only_b, neither, *, alpha: float = 0.05
) -> Estimate:
  """Returns differences of paired proportions and their intervals.

  Distances to the Wilson bounds of the two proportions are squared and added,
  minus twice their product times phi, the correlation of the pairs; a
  continuity correction moves a positive phi towards 0. This needs no iteration,
  stays within [-1, 1], and unlike estimate -+ z standard errors does not
  degenerate without discordant pairs or if a model is always right: each side
  is then z / N to z^2 / N wide.

  Args:
    both: numbers, at least 0, of shapes that broadcast; may be fractional for
      effective sample sizes.
    only_a: as both; A alone is right.
    only_b: as both; B alone is right.
    neither: as both.
    alpha: 1 - the coverage, in (0, 1).

  Returns:
    (estimate, low, high), float64 of the broadcast shape; NaN where all four
    counts are 0.

  Raises:
    InputError: negative counts, shapes that do not fit, bad alpha.

  Source: Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10.
  """
  both, only_a, only_b, neither = _checked_cells(
    both=both, only_a=only_a, only_b=only_b, neither=neither
  )
  n = both + only_a + only_b + neither
  k_a, k_b = both + only_a, both + only_b
  low_a, high_a = intervals.wilson(k_a, n, alpha)
  low_b, high_b = intervals.wilson(k_b, n, alpha)
  covariance = both * neither - only_a * only_b
  covariance = np.where(
    covariance > 0, np.maximum(covariance - n / 2, 0), covariance
  )
  spread = np.sqrt(k_a * (n - k_a)) * np.sqrt(k_b * (n - k_b))
  phi = covariance / np.where(spread > 0, spread, np.inf)
  with np.errstate(invalid="ignore"):
    p_a, p_b, estimate = k_a / n, k_b / n, (only_a - only_b) / n
  low = estimate - _correlated(p_a - low_a, high_b - p_b, phi)
  high = estimate + _correlated(high_a - p_a, p_b - low_b, phi)
  return estimate, np.maximum(low, -1.0), np.minimum(high, 1.0)


def paired_class_mean_difference(
  hits_a,
  hits_b,
  labels,
  num_classes: int,
  alpha: float = 0.05,
  *,
  mask=None,
  num_resamples: int = intervals.NUM_RESAMPLES,
  seed: int = 0,
) -> tuple[float, float, float, str]:
  """Returns the difference of class-averaged accuracies and its interval.

  Args:
    hits_a: bool [N], whether A is right.
    hits_b: bool [N], whether B is right on the same image.
    labels: integer [N] in [0, K); every class must occur.
    num_classes: K.
    alpha: 1 - the coverage, in (0, 1).
    mask: bool [N], false for rows to leave out, or None.
    num_resamples: draws, at least 1.
    seed: of the draws; the same seed gives the same interval.

  Returns:
    (estimate, low, high, the name of the method); see
    `class_mean_difference_counts`.

  Raises:
    InputError: wrong shape or type, a label out of range, a class without
      images, bad alpha, no draws.
  """
  joint = joint_counts(hits_a, hits_b, labels, num_classes, mask)
  _check_no_class_empty("labels", joint)
  return class_mean_difference_counts(
    joint, alpha, num_resamples=num_resamples, seed=seed
  )


def class_mean_difference_counts(
  joint,
  alpha: float = 0.05,
  *,
  num_resamples: int = intervals.NUM_RESAMPLES,
  seed: int = 0,
) -> tuple[float, float, float, str]:
  """Returns the mean over classes of the difference, with its interval.

  A percentile bootstrap: the pairs of each class are resampled, with deviations
  scaled as in `intervals.class_mean`. If all pairs of each class differ alike
  (above all, without discordant pairs), resamples do not vary, and the interval
  of `paired_difference_counts` at the mean rates and the effective sample size
  is used.

  Args:
    joint: integer [K, 4] of `joint_counts`, every class with an image.
    alpha: 1 - the coverage, in (0, 1).
    num_resamples: draws, at least 1.
    seed: of the draws; the same seed gives the same interval.

  Returns:
    (estimate, low, high, the name of the method).

  Raises:
    InputError: negative counts, wrong shape, an empty class, bad alpha.

  Source: Rao and Wu, JASA 83 (1988); Korn and Graubard, Survey Methodology 24
    (1998), for the effective size.
  """
  intervals.check_alpha(alpha)
  joint = checks.integers("joint", np.asarray(joint), ["K", 4])
  _checked_cells(joint=joint)
  _check_no_class_empty("joint", joint)
  count = joint.sum(axis=1)
  only_a, only_b = joint[:, ONLY_A], joint[:, ONLY_B]
  alike = count - only_a - only_b
  estimate = float(np.mean((only_a - only_b) / count))
  if np.all(np.maximum(np.maximum(only_a, only_b), alike) == count):
    size = intervals.effective_size(count)
    rates = np.mean(joint / count[:, None], axis=0)
    _, low, high = paired_difference_counts(*(rates * size), alpha=alpha)
    return estimate, float(low), float(high), EFFECTIVE
  draws = _difference_resamples(only_a, only_b, count, num_resamples, seed)
  low, high = intervals.percentiles(draws, estimate, alpha)
  low, high = np.clip([low, high], -1, 1)
  return estimate, float(low), float(high), PAIRED_BOOTSTRAP


def _difference_resamples(only_a, only_b, count, num_resamples, seed):
  """Returns class means of resampled differences, float64 [num_resamples].

  The multinomial of (only A, only B, alike) is drawn as two binomials: the
  number of discordant pairs, and A's share of them.
  """
  # One generator each, so that draws do not depend on the chunk size.
  rng, rng_a = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
  differing = only_a + only_b
  share = only_a / np.maximum(differing, 1)
  observed = only_a - only_b
  weight = resampling.weights(count)
  parts = []
  for rows in resampling.chunks(num_resamples, len(count)):
    drawn = rng.binomial(count, differing / count, size=(rows, len(count)))
    parts.append((2 * rng_a.binomial(drawn, share) - drawn - observed) @ weight)
  return np.mean(observed / count) + np.concatenate(parts)


def _correlated(x, y, phi) -> np.ndarray:
  """Returns sqrt(x^2 - 2 phi x y + y^2) without rounding below 0."""
  return np.sqrt((x - y) ** 2 + 2 * (1 - phi) * x * y)


def _checked_cells(**cells) -> list[np.ndarray]:
  """Returns counts as float64 of one shape; InputError names a bad one."""
  arrays = {name: np.asarray(v, np.float64) for name, v in cells.items()}
  for name, values in arrays.items():
    if not np.all(np.isfinite(values) & (values >= 0)):
      raise errors.InputError(name, "counts of at least 0", np.min(values))
  try:
    return list(np.broadcast_arrays(*arrays.values()))
  except ValueError:
    shapes = ", ".join(str(list(v.shape)) for v in arrays.values())
    expected = "shapes that broadcast"
    raise errors.InputError(", ".join(arrays), expected, shapes) from None


def _check_no_class_empty(name: str, joint: np.ndarray) -> None:
  empty = np.flatnonzero(joint.sum(axis=1) == 0)
  if empty.size:
    expected = f"at least one image of each of {len(joint)} classes"
    raise errors.InputError(name, expected, f"none of class {empty[0]}")
