import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import ratios
from tests import raising


def test_the_ratio_is_of_errors():
  estimate, low, high = ratios.error_ratio(90, 100, 70, 100)
  np.testing.assert_allclose(estimate, 3.0, rtol=1e-12)
  assert 1 < low < estimate < high


def test_the_interval_is_that_of_the_delta_method_in_large_sets():
  # log(p_b / p_a) has the variance (1 - p_b) / k_b + (1 - p_a) / k_a; Wilson's
  # bounds tend to the same at 10^6 errors, by less than 1 in 10^5.
  n, errors_a, errors_b = 10**8, 10**6, 2 * 10**6
  estimate, low, high = ratios.error_ratio(n - errors_a, n, n - errors_b, n)
  distance = 1.959964 * np.sqrt(0.99 / errors_a + 0.98 / errors_b)
  np.testing.assert_allclose(
    [estimate, low, high],
    2 * np.exp([0, -distance, distance]),
    rtol=1e-5,
  )


def test_exchanging_the_sets_inverts_all():
  there = ratios.error_ratio(95, 100, 180, 200)
  back = ratios.error_ratio(180, 200, 95, 100)
  np.testing.assert_allclose(
    there, [1 / back[0], 1 / back[2], 1 / back[1]], rtol=1e-12
  )


@pytest.mark.parametrize(
  ("counts", "expected"),
  [
    ((10, 10, 5, 10), (np.nan, np.nan, np.nan)),
    ((10, 10, 10, 10), (np.nan, np.nan, np.nan)),
    ((5, 10, 10, 10), (0.0, np.nan, np.nan)),
    ((0, 0, 5, 10), (np.nan, np.nan, np.nan)),
    ((5, 10, 0, 0), (np.nan, np.nan, np.nan)),
  ],
)
def test_no_errors(counts, expected):
  np.testing.assert_equal(ratios.error_ratio(*counts), expected)


def test_coverage():
  rng = np.random.default_rng(0)
  wrong_a = rng.binomial(2000, 0.05, 4000)
  wrong_b = rng.binomial(1000, 0.15, 4000)
  _, low, high = ratios.error_ratio(2000 - wrong_a, 2000, 1000 - wrong_b, 1000)
  # 4,000 intervals: the standard error of the share is 0.0034.
  np.testing.assert_allclose(
    np.mean((low <= 3) & (high >= 3)), 0.95, atol=0.012
  )


def test_bad_counts_are_refused():
  with pytest.raises(
    errors.InputError, check=raising.about("hits_b", given="3 of 2")
  ):
    ratios.error_ratio(1, 2, 3, 2)
