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


def test_the_ratio_of_a_part_by_hand():
  # 6 errors in 20 images, 4 of them among the 5 of the part: 0.8 / 0.3.
  estimate, low, high = ratios.subset_error_ratio(1, 5, 14, 20)
  np.testing.assert_allclose(estimate, 0.8 / 0.3, rtol=1e-12)
  assert 1 < low < estimate < high < 20 / 5
  # A part with the rate of the rest: the bounds of q, moved towards 1.
  found = ratios.subset_error_ratio(70, 100, 140, 200)
  q = np.array(ratios.error_ratio(70, 100, 70, 100))
  np.testing.assert_allclose(found, q / (q / 2 + 1 / 2), rtol=1e-12)


@pytest.mark.parametrize(
  ("counts", "expected"),
  [
    ((5, 5, 9, 9), (np.nan, np.nan, np.nan)),
    ((0, 0, 5, 9), (np.nan, np.nan, np.nan)),
    ((5, 5, 5, 9), (0, np.nan, np.nan)),
    ((1, 5, 5, 9), (9 / 5, np.nan, np.nan)),
    ((5, 9, 5, 9), (1, np.nan, np.nan)),
  ],
)
def test_parts_without_errors_or_a_rest(counts, expected):
  np.testing.assert_allclose(ratios.subset_error_ratio(*counts), expected)


def bootstrap(wrong, inside, draws, rng):
  """Slow twin: resamples images, and counts in each resample."""
  found = []
  for _ in range(draws):
    chosen = rng.integers(0, len(wrong), len(wrong))
    w, i = wrong[chosen], inside[chosen]
    found.append(w[i].mean() / w.mean())
  return np.quantile(found, [0.025, 0.975])


@pytest.mark.parametrize(
  ("n", "rate", "rest"), [(1200, 0.5, 0.2), (60, 0.4, 0.2), (900, 0.15, 0.3)]
)
def test_the_interval_of_a_part_is_that_of_a_bootstrap(n, rate, rest):
  rng = np.random.default_rng(0)
  inside = np.arange(3000) < n
  wrong = np.where(inside, np.arange(3000) % 100 < 100 * rate, False)
  wrong |= ~inside & (np.arange(3000) % 100 < 100 * rest)
  low, high = bootstrap(wrong, inside, 2000, rng)
  found = ratios.subset_error_ratio(
    (~wrong[inside]).sum(), n, (~wrong).sum(), 3000
  )
  np.testing.assert_allclose(found[0], wrong[inside].mean() / wrong.mean())
  # Of 2,000 draws a bound has a standard error of 0.06 of its distance; the
  # skew of 60 images is seen by one method only.
  np.testing.assert_allclose(found[1:], [low, high], atol=0.1 * (high - low))


@pytest.mark.parametrize("n", [40, 400])
def test_coverage_of_a_part(n):
  rng = np.random.default_rng(0)
  inside, outside = rng.binomial(n, 0.4, 4000), rng.binomial(2000, 0.2, 4000)
  n_all = n + 2000
  _, low, high = ratios.subset_error_ratio(
    n - inside, n, n_all - inside - outside, n_all
  )
  true = 0.4 / ((0.4 * n + 0.2 * 2000) / n_all)
  # 4,000 intervals: the standard error of the share is 0.0034.
  covered = np.mean((low <= true) & (high >= true))
  np.testing.assert_allclose(covered, 0.95, atol=0.012)
