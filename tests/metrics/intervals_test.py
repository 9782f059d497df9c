"""Tests of intervals: published values, twins, ends, coverage."""

import tracemalloc

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from imgbench import errors
from imgbench.metrics import intervals
from tests import raising


# 81 of 263 is from Newcombe, Statistics in Medicine 17 (1998), table I.
@pytest.mark.parametrize(
  "k, n, low, high",
  [
    (0, 10, 0.0, 0.30850),
    (10, 10, 0.69150, 1.0),
    (5, 10, 0.18709, 0.81291),
    (1, 1, 0.025, 1.0),
    (0, 1, 0.0, 0.975),
    (81, 263, 0.2527, 0.3676),
  ],
)
def test_clopper_pearson_known_values(k, n, low, high):
  got = intervals.clopper_pearson(k, n)
  np.testing.assert_allclose(got, (low, high), atol=6e-5)


@pytest.mark.parametrize(
  "k, n, low, high",
  [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_known_values(k, n, low, high):
  np.testing.assert_allclose(intervals.wilson(k, n), (low, high), atol=6e-5)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
  st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.01, 0.05, 0.3])
)
def test_clopper_pearson_inverts_the_binomial_test(n, share, alpha):
  k = round(share * n)
  low, high = intervals.clopper_pearson(k, n, alpha)
  assert 0 <= low <= k / n <= high <= 1
  if k > 0:
    np.testing.assert_allclose(stats.binom.sf(k - 1, n, low), alpha / 2)
  if k < n:
    np.testing.assert_allclose(stats.binom.cdf(k, n, high), alpha / 2)
  assert (low == 0) == (k == 0)
  assert (high == 1) == (k == n)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_solves_the_score_equation(n, share):
  k = round(share * n)
  low, high = intervals.wilson(k, n)
  z = stats.norm.ppf(0.975)
  half = lambda p: z * np.sqrt(p * (1 - p) / n)
  np.testing.assert_allclose(k / n - low, half(low), atol=1e-12)
  np.testing.assert_allclose(high - k / n, half(high), atol=1e-12)
  assert (low == 0) == (k == 0)
  assert (high == 1) == (k == n)


@pytest.mark.parametrize(
  "method", [intervals.clopper_pearson, intervals.wilson]
)
def test_arrays_and_nothing_counted(method):
  k, n = np.array([[0, 3], [5, 0]]), np.array([5, 3])
  n = np.stack([n, [5, 0]])
  low, high = method(k, n)
  assert low.shape == high.shape == (2, 2)
  assert low[0, 0] == 0 and high[0, 1] == high[1, 0] == 1
  assert np.isnan(low[1, 1]) and np.isnan(high[1, 1])
  np.testing.assert_array_equal(low[0, 1], method(3, 3)[0])


def test_bootstrap_equals_drawing_examples_again():
  hits, count = np.array([3, 18, 0]), np.array([5, 20, 10])
  rng = np.random.default_rng(1)
  means = []
  for _ in range(4000):
    rates = []
    for h, n in zip(hits, count, strict=True):
      right = np.arange(n) < h
      drawn = right[rng.integers(0, n, n)].mean()
      rates.append(h / n + (drawn - h / n) * np.sqrt(n / (n - 1)))
    means.append(np.mean(rates))
  expected = np.quantile(means, [0.025, 0.975])
  *got, _ = intervals.class_mean(hits, count, num_resamples=4000)
  # The standard error of these quantiles is about 0.003.
  np.testing.assert_allclose(got, expected, atol=0.012)


def test_bootstrap_is_seeded_and_widens_with_coverage():
  hits, count = np.array([30, 80, 55]), np.array([100, 100, 60])
  first = intervals.class_mean(hits, count)
  assert first == intervals.class_mean(hits, count)
  assert first != intervals.class_mean(hits, count, seed=1)
  wide = intervals.class_mean(hits, count, 0.01)
  narrow = intervals.class_mean(hits, count, 0.3)
  mean = np.mean(hits / count)
  assert wide[0] < first[0] < narrow[0] < mean < narrow[1] < first[1] < wide[1]


def test_bootstrap_of_imagenet_is_small_and_near_the_normal_interval():
  count = np.full(1000, 50)
  hits = np.random.default_rng(0).binomial(count, 0.76)
  tracemalloc.start()
  *got, _ = intervals.class_mean(hits, count)
  peak_bytes = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak_bytes < 2**21
  rate = hits / count
  half = 1.959963985 * np.sqrt(np.sum(rate * (1 - rate) / 49)) / 1000
  # The standard error of these quantiles is 2% of `half`, 0.0001.
  np.testing.assert_allclose(
    got, [rate.mean() - half, rate.mean() + half], atol=3e-4
  )


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(
  st.lists(st.integers(0, 4), min_size=1, max_size=5),
  st.sampled_from([0.05, 0.99]),
  st.integers(1, 20),
)
def test_bootstrap_holds_the_mean(hits, alpha, num_resamples):
  low, high, _ = intervals.class_mean(
    hits, np.full(len(hits), 4), alpha, num_resamples=num_resamples
  )
  assert 0 <= low <= np.mean(np.array(hits) / 4) <= high <= 1


def test_effective_size_by_hand():
  assert intervals.effective_size(np.array([10, 10])) == 20
  np.testing.assert_allclose(intervals.effective_size(np.array([1, 3])), 3)


def test_class_mean_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  rates, count = rng.uniform(0.4, 0.95, 30), np.full(30, 10)
  covered = 0
  for _ in range(200):
    low, high, method = intervals.class_mean(rng.binomial(count, rates), count)
    assert method == "stratified_bootstrap"
    covered += low <= rates.mean() <= high
  # 190 are expected; the standard deviation is 3.
  assert covered >= 180


@pytest.mark.parametrize("hits", [[0, 0, 0], [7, 7, 7], [7, 0, 7]])
def test_class_mean_without_spread_is_no_point(hits):
  low, high, method = intervals.class_mean(np.array(hits), np.full(3, 7))
  assert method == "clopper_pearson_effective_n"
  # Equal classes: the effective n is the number of examples.
  np.testing.assert_allclose(
    (low, high), intervals.clopper_pearson(sum(hits), 21), rtol=1e-12
  )
  assert low < np.mean(hits) / 7 or low == 0
  assert high - low > 0.1


def test_sets_of_classes_are_drawn_once_for_all():
  rng = np.random.default_rng(0)
  count = rng.integers(5, 60, 40)
  hits = rng.binomial(count, 0.7)
  masks = np.arange(40) < np.array([[40], [25], [10]])
  masks[2] = ~masks[1]  # The second and the third make up the first.
  got = intervals.class_means(hits, count, masks)
  for mask, (low, high, method) in zip(masks, got, strict=True):
    assert method == "stratified_bootstrap"
    alone = intervals.class_mean(hits[mask], count[mask], seed=1)
    # Quantiles of 2,000 draws differ by some 3% of the width.
    np.testing.assert_allclose((low, high), alone[:2], atol=0.08 * (high - low))
  assert got == intervals.class_means(hits, count, masks)
  assert got != intervals.class_means(hits, count, masks, seed=1)
  (alone,) = intervals.class_means(hits, count, masks[:1])
  assert alone == intervals.class_mean(hits, count)


def test_overlapping_sets_of_classes_of_all_kinds():
  hits, count = np.array([5, 7, 0, 3]), np.array([10, 7, 4, 0])
  masks = np.array(
    [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 0]], bool
  )
  hits[3] = 0  # In no set: may be empty.
  got = intervals.class_means(hits, count, masks)
  assert [method for *_, method in got] == [
    *["stratified_bootstrap"] * 2,
    "clopper_pearson_effective_n",
    "stratified_bootstrap",
  ]
  widths = [high - low for low, high, _ in got]
  # The same draws of the first class, divided by 1, 2 and 3.
  np.testing.assert_allclose(widths[1], widths[0] / 2)
  np.testing.assert_allclose(widths[3], widths[0] / 3)
  assert got[2] == intervals.class_mean(hits[1:3], count[1:3])


def test_class_mean_without_spread_counts_small_classes_more():
  low, high, _ = intervals.class_mean(np.array([1, 100]), np.array([1, 100]))
  assert high == 1
  assert low < intervals.clopper_pearson(101, 101)[0]


def test_normal_by_hand():
  low, high = intervals.normal([1.0, 2.0, 3.0, 4.0])
  half = 1.959963985 * np.sqrt(5 / 3) / 2
  np.testing.assert_allclose((low, high), (2.5 - half, 2.5 + half))
  assert np.isnan(intervals.normal([1.0])).all()


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (lambda: intervals.clopper_pearson(3, 2), "k", "3 of 2"),
    (lambda: intervals.wilson(-1, 2), "k", "-1 of 2"),
    (lambda: intervals.wilson(1, 2, 0.0), "alpha", 0.0),
    (lambda: intervals.clopper_pearson(1, 2, 1.0), "alpha", 1.0),
    (lambda: intervals.normal([1.0, 2.0], 2.0), "alpha", 2.0),
    (lambda: intervals.class_mean([1, 0], [1, 0]), "count", "0 in class 1"),
    (lambda: intervals.class_mean([], []), "count", "none"),
    (lambda: intervals.class_mean([3, 9], [5, 5]), "hits", "9 of 5"),
    (
      lambda: intervals.class_means([1], [2], np.ones((1, 2), bool)),
      "masks",
      [1, 2],
    ),
    (
      lambda: intervals.class_means([1], [2], np.full((1, 1), 0.5)),
      "masks",
      "float64",
    ),
    (
      lambda: intervals.class_means([1, 0], [2, 0], np.ones((1, 2), bool)),
      "count",
      "0 in class 1",
    ),
    (
      lambda: intervals.class_means([1], [2], np.zeros((1, 1), bool)),
      "count",
      "none",
    ),
    (lambda: intervals.wilson([1, 2], [3, 3, 3]), "n", [3]),
    (
      lambda: intervals.class_mean([1], [2], num_resamples=0),
      "num_resamples",
      0,
    ),
  ],
)
def test_bad_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call()
