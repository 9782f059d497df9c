"""Temperature scaling, fitted on half of the examples, judged on the others."""

import functools
from typing import NamedTuple

import numpy as np

from imgbench.metrics import calibration
from imgbench.metrics import intervals

# At a higher T classes whose float32 probability is 0 would matter.
LEAST, MOST = 0.1, 10.0


class TemperatureScaling(NamedTuple):
  """A temperature, and pairs before and after it on the judged half."""

  value: float
  interval: tuple[float, float, str]  # low, high, name of the method
  nll: tuple[np.ndarray, np.ndarray]  # float64 [M], of each example
  bins: tuple[calibration.Reliability, calibration.Reliability]


def scale(
  probs: np.ndarray,
  nll: np.ndarray,
  hit: np.ndarray,
  mask: np.ndarray,
  alpha: float = 0.05,
  seed: int = 0,
) -> TemperatureScaling | None:
  """Fits the T of softmax(logits / T) on one half and judges it on the other.

  Args:
    probs: float [N, K], see `calibration.brier_scores`; their logarithms serve
      as logits.
    nll: float [N], negative log-likelihood of the label, finite where `mask` is
      true, also where a float32 probability is 0.
    hit: bool [N], whether the top class is right.
    mask: bool [N], true for examples that count.
    alpha: 1 - the coverage of the interval.
    seed: of the permutation of all N whose first half is fitted.

  Returns:
    None if a half is empty or the likelihood has no maximum in [LEAST, MOST],
    as where all or too few predictions are right.

  Source: Guo et al., ICML 2017; White, Econometrica 50 (1982), for the variance
    of log(T), which allows for a wrong model.
  """
  from scipy import optimize

  first = np.random.default_rng(seed).permutation(len(mask)) < len(mask) // 2
  rows, judged = np.flatnonzero(mask & first), np.flatnonzero(mask & ~first)
  nll = nll.astype(np.float64)
  # The loss is convex in 1 / T.
  slope = functools.cache(
    lambda log_t: _derivatives(probs, nll, rows, np.exp(-log_t))[0].sum()
  )
  ends = np.log([LEAST, MOST]).tolist()
  if not len(judged) or not slope(ends[1]) < 0 < slope(ends[0]):
    return None
  log_t = optimize.brentq(slope, *ends, xtol=1e-7)
  inverse = np.exp(-log_t)
  slopes, curvature = _derivatives(probs, nll, rows, inverse)
  error = np.sqrt(slopes @ slopes) / curvature / inverse
  bounds = log_t + intervals.normal_quantile(alpha) * error * np.array([-1, 1])
  parts = []
  for _, block in calibration.checked_blocks(probs, judged):
    powers = block**inverse
    parts.append((block.max(axis=1), powers.max(axis=1), powers.sum(axis=1)))
  before, after, total = np.concatenate(parts, axis=1)
  return TemperatureScaling(
    float(np.exp(log_t)),
    (*np.exp(bounds).tolist(), intervals.NORMAL),
    (nll[judged], np.log(total) + inverse * nll[judged]),
    (
      calibration.reliability(before, hit[judged]),
      calibration.reliability(after / total, hit[judged]),
    ),
  )


def _derivatives(probs, nll, rows, x) -> tuple[np.ndarray, float]:
  """Returns those of the loss by x = 1 / T: float64 [n] and a sum."""
  slopes, curvature = [np.empty(0)], 0.0
  for some, block in calibration.checked_blocks(probs, rows):
    # Classes of probability 0 have no part in the sums.
    logs = np.log(np.where(block > 0, block, 1))
    weights = np.where(block > 0, np.exp(x * logs), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nk->n", weights, logs)
    curvature += np.einsum("nk,nk->", weights * logs, logs) - mean @ mean
    slopes.append(mean + nll[some])
  return np.concatenate(slopes), float(curvature)
