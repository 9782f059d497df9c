"""Intervals over processes: of a row's median, and of the ratio of two rows.

The sampling unit is the process, never the step: steps of one process agree
with each other more than with those of the next. Every function takes one
number per process, its median.

A row's interval is exact: its bounds are two order statistics. Ratios of two
rows need intervals of high coverage, because many rows are compared at once,
and ranks cannot give that: with 5 against 5 processes no order is rarer than 2
in 252. So a ratio has Welch's interval on logarithms, for any coverage. In
simulations with 5 to 10 processes and noise that is normal, heavy-tailed,
contaminated by slow processes or bimodal it missed an equal pair in 1.0% to
4.9% of cases where 5% were allowed, see tests/bench/medians_test.py.
"""

from collections.abc import Sequence
import math
import statistics
from typing import NamedTuple

ORDER_STATISTICS = "order_statistics"
STUDENT = "student_t"
RANGE = "range"  # smallest to largest, which promises no coverage
COVERAGE = 0.95
# With fewer, the range of the values covers the median less than 90% of the
# time, and no interval is given.
MIN_PROCESSES = 5


class Interval(NamedTuple):
  """Bounds and coverage of an interval."""

  low: float
  high: float
  coverage: float


class LogRatio(NamedTuple):
  """The logarithm of a ratio, its standard error and degrees of freedom."""

  estimate: float
  error: float
  degrees: float

  @property
  def ratio(self) -> float:
    return math.exp(self.estimate)

  def interval(self, coverage: float) -> Interval:
    """Returns the two-sided interval of the ratio."""
    half = self.error * _t_quantile(0.5 + coverage / 2, self.degrees)
    bounds = (self.estimate - half, self.estimate + half)
    return Interval(*map(math.exp, bounds), coverage)

  def p_past(self, tolerance: float) -> float:
    """Returns the p-value of a ratio between 1 / (1 + t) and 1 + t.

    It is at most alpha if an interval of coverage 1 - alpha is wholly past the
    nearer of the two.
    """
    past = abs(self.estimate) - math.log1p(tolerance)
    if self.error == 0:
      return 0.0 if past > 0 else 1.0
    from scipy import special

    tail = special.stdtr(self.degrees, -past / self.error)
    return min(1.0, 2 * float(tail))


def interval(
  values: Sequence[float], coverage: float = COVERAGE
) -> Interval | None:
  """Returns the exact interval of the median between two order statistics.

  It is the shortest interval, symmetric in ranks, that reaches `coverage`, or
  the range of the values if none does: 0.9375 at 5 processes. It only assumes
  independent values of one distribution; an outlier widens it at 5 to 8
  processes and no longer at 9. If processes are added until it is narrow, it
  covers a little less: 92% to 95% in simulations of 5 to 15 processes.

  Args:
    values: one number per process, finite.
    coverage: wanted, in (0, 1).

  Returns:
    The bounds with their true coverage; None below MIN_PROCESSES.

  Source: David and Nagaraja, Order Statistics (2003), 7.1.
  """
  ordered, n = sorted(values), len(values)
  if n < MIN_PROCESSES:
    return None
  below, tail = 0, 0.5**n
  # Cuts off `below` values at each end; tail = P(Binomial(n, 1/2) <= below).
  while True:
    following = tail + math.comb(n, below + 1) * 0.5**n
    if 1 - 2 * following < coverage:
      break
    below, tail = below + 1, following
  return Interval(ordered[below], ordered[n - 1 - below], 1 - 2 * tail)


def relative_width(values: Sequence[float]) -> float:
  """Returns (high - low) / median of `interval`; infinite without one."""
  found = interval(values)
  if found is None:
    return math.inf
  return (found.high - found.low) / statistics.median(values)


def mean_interval(values: Sequence[float]) -> Interval | None:
  """Returns Student's interval of the mean; None below two values."""
  if len(values) < 2:
    return None
  mean = statistics.fmean(values)
  error = statistics.stdev(values) / math.sqrt(len(values))
  half = error * _t_quantile(0.5 + COVERAGE / 2, len(values) - 1)
  return Interval(mean - half, mean + half, COVERAGE)


def ratio(above: Sequence[float], below: Sequence[float]) -> LogRatio:
  """Returns the ratio of the geometric means of two rows' processes.

  Args:
    above: one number per process, positive, at least two of them.
    below: the same for the other row, of independent processes.

  Source: Welch, Biometrika 34 (1947), on logarithms.
  """
  logs = [[math.log(v) for v in values] for values in (above, below)]
  squares = [statistics.variance(v) / len(v) for v in logs]
  total = sum(squares)
  degrees = min(len(v) - 1 for v in logs)
  if total > 0:
    parts = zip(squares, logs, strict=True)
    degrees = total**2 / sum(s**2 / (len(v) - 1) for s, v in parts)
  means = [statistics.fmean(v) for v in logs]
  return LogRatio(means[0] - means[1], math.sqrt(total), degrees)


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> LogRatio:
  """Returns the ratio of processes that ran side by side, pair by pair.

  The machine's drift hits both of a pair and cancels.

  Args:
    above: one number per process, positive, at least two of them.
    below: those of their partners, in the same order.

  Source: Student, Biometrika 6 (1908), on logarithms.
  """
  logs = [math.log(a / b) for a, b in zip(above, below, strict=True)]
  error = statistics.stdev(logs) / math.sqrt(len(logs))
  return LogRatio(statistics.fmean(logs), error, len(logs) - 1)


def _t_quantile(probability: float, degrees: float) -> float:
  from scipy import special

  return float(special.stdtrit(degrees, probability))
