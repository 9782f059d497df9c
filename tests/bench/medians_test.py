"""Tests of intervals over processes: by hand, and coverage by simulation."""

import math

import numpy as np
import pytest

from imgbench.bench import medians

TRIALS = 2000
# Of a share of 5% in so many trials; 4 standard errors.
ERROR = 4 * math.sqrt(0.05 * 0.95 / TRIALS)


def normal(rng, n):
  return rng.normal(0, 0.03, n)


def slowed(rng, n):
  """Some processes are slowed down by other programs."""
  return rng.normal(0, 0.02, n) + (rng.random(n) < 0.15) * rng.exponential(
    0.3, n
  )


def two_modes(rng, n):
  """Like different memory placements or clock rates of cores."""
  return rng.normal(0, 0.01, n) + 0.12 * (rng.random(n) < 0.3)


def heavy(rng, n):
  return 0.02 * rng.standard_t(2, n)


NOISES = (normal, slowed, two_modes, heavy)
# Their medians, by simulation where there is no formula.
MEDIANS = {
  f: float(np.median(f(np.random.default_rng(9), 10**6))) for f in NOISES
}


def test_median_lies_between_order_statistics():
  five = medians.interval([3.0, 1.0, 2.0, 5.0, 4.0])
  assert five == (1.0, 5.0, 1 - 2 / 32)
  # P(Binomial(9, 1/2) <= 1) = 10 / 512.
  nine = medians.interval(list(range(9)))
  assert nine == (1, 7, 1 - 20 / 512)
  # One outlier does not move the bounds of nine.
  assert medians.interval([*range(8), 1e9]) == (1, 7, 1 - 20 / 512)
  # P(Binomial(15, 1/2) <= 3) = (1 + 15 + 105 + 455) / 32768.
  assert medians.interval(list(range(15))) == (3, 11, 1 - 2 * 576 / 32768)


def test_few_processes_have_no_interval():
  assert medians.interval([1.0, 2.0, 3.0, 4.0]) is None
  assert medians.relative_width([1.0] * 4) == math.inf
  assert medians.relative_width([8.0, 9.0, 10.0, 11.0, 13.0]) == 0.5


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", [5, 9, 15])
def test_interval_of_a_median_covers_what_it_says(noise, n):
  rng = np.random.default_rng(n)
  held, said = 0, 0.0
  for _ in range(TRIALS):
    found = medians.interval(noise(rng, n).tolist())
    held += found.low <= MEDIANS[noise] <= found.high
    said = found.coverage
  assert abs(held / TRIALS - said) < ERROR


@pytest.mark.parametrize("width", [0.05, 0.1])
def test_adding_processes_until_it_is_narrow_costs_little(width):
  """Like the harness: 5 to 15 of them."""
  rng = np.random.default_rng(2)
  held = 0
  for _ in range(TRIALS):
    values = np.exp(normal(rng, 15)).tolist()
    count = 5
    while count < 15 and medians.relative_width(values[:count]) > width:
      count += 1
    found = medians.interval(values[:count])
    held += found.low <= 1 <= found.high
  assert 0.91 < held / TRIALS < 0.96


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", [(5, 5), (5, 9)])
def test_ratio_of_equal_rows_covers_1(noise, n):
  """At least as often as stated; more often if noise is not normal."""
  rng = np.random.default_rng(sum(n))
  missed = 0
  for _ in range(TRIALS):
    a, b = (np.exp(noise(rng, size)).tolist() for size in n)
    found = medians.ratio(a, b).interval(0.95)
    missed += not found.low <= 1 <= found.high
  assert missed / TRIALS < 0.05 + ERROR
  if noise is normal:
    assert missed / TRIALS > 0.05 - ERROR


def test_paired_ratio_covers_1_whatever_the_drift():
  rng = np.random.default_rng(0)
  missed = 0
  for _ in range(TRIALS):
    drift = np.cumsum(rng.normal(0, 0.1, 7))
    a, b = (np.exp(drift + normal(rng, 7)).tolist() for _ in range(2))
    found = medians.paired_ratio(a, b).interval(0.95)
    missed += not found.low <= 1 <= found.high
  assert abs(missed / TRIALS - 0.05) < ERROR


def test_ratio_by_hand():
  # Logs 0, 1, 2 and 2, 4: means 1 and 3, squared errors 1 / 3 and 2 / 2.
  a, b = [1.0, math.e, math.e**2], [math.e**2, math.e**4]
  found = medians.ratio(a, b)
  assert found.estimate == pytest.approx(-2)
  assert found.error == pytest.approx(math.sqrt(1 / 3 + 1))
  assert found.degrees == pytest.approx((4 / 3) ** 2 / (1 / 9 / 2 + 1 / 1))
  pair = medians.paired_ratio([2.0, 4.0], [1.0, 1.0])
  assert pair.estimate == pytest.approx(1.5 * math.log(2))
  assert pair.error == pytest.approx(0.5 * math.log(2))
  assert pair.degrees == 1


def test_p_value_and_interval_agree():
  """An interval of coverage 1 - p just touches the tolerance."""
  found = medians.ratio([1.40, 1.5, 1.45, 1.6], [1.0, 1.02, 0.97, 1.0])
  p = found.p_past(0.15)
  assert 0 < p < 0.05
  assert found.interval(1 - p).low == pytest.approx(1.15)
  slower = medians.ratio([1.0, 1.02, 0.97, 1.0], [1.40, 1.5, 1.45, 1.6])
  assert slower.p_past(0.15) == pytest.approx(p)
  assert slower.interval(1 - p).high == pytest.approx(1 / 1.15)
  # Within the tolerance nothing is past it.
  assert medians.ratio([1.0, 1.1], [1.0, 1.1]).p_past(0.15) == 1.0


def test_values_without_spread():
  found = medians.ratio([2.0, 2.0], [1.0, 1.0])
  assert found.interval(0.95)[:2] == pytest.approx((2, 2))
  assert found.p_past(0.15) == 0 and found.p_past(1.5) == 1


def test_mean_interval():
  assert medians.mean_interval([3.0]) is None
  # Student's 0.975 quantile with 2 degrees of freedom is 4.302653.
  found = medians.mean_interval([1.0, 2.0, 3.0])
  half = 4.302653 / math.sqrt(3)
  assert found == pytest.approx((2 - half, 2 + half, 0.95), rel=1e-6)
