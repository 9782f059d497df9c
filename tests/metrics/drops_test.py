"""Tests of drops between two sets: published values, twins, ends, coverage."""

import math

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import drops
from imgbench.metrics import intervals
from tests import raising

quick = hypothesis.settings(deadline=None, max_examples=80)
SIZES, SHARES = st.integers(1, 400), st.floats(0, 1)


# Newcombe 1998, independent samples, table II, method 10.
@pytest.mark.parametrize(
  "k_a, n_a, k_b, n_b, low, high",
  [
    (56, 70, 48, 80, 0.0524, 0.3339),
    (9, 10, 3, 10, 0.1705, 0.8090),
    (6, 7, 2, 7, 0.0582, 0.8062),
    (5, 56, 0, 29, -0.0381, 0.1926),
    (0, 10, 0, 20, -0.1611, 0.2775),
    (0, 10, 0, 10, -0.2775, 0.2775),
    (10, 10, 0, 20, 0.6791, 1.0),
    (10, 10, 0, 10, 0.6075, 1.0),
  ],
)
def test_drop_known_values(k_a, n_a, k_b, n_b, low, high):
  estimate, *bounds = drops.drop(k_a, n_a, k_b, n_b)
  assert math.isclose(estimate, k_a / n_a - k_b / n_b)
  np.testing.assert_allclose(bounds, (low, high), atol=6e-5)


@quick
@hypothesis.given(
  SIZES, SHARES, SIZES, SHARES, st.sampled_from([0.001, 0.05, 0.4])
)
def test_drop_holds_the_estimate_and_mirrors(n_a, share_a, n_b, share_b, alpha):
  k_a, k_b = round(share_a * n_a), round(share_b * n_b)
  estimate, low, high = drops.drop(k_a, n_a, k_b, n_b, alpha)
  assert -1 <= low <= estimate <= high <= 1
  assert low < high
  mirrored = drops.drop(k_b, n_b, k_a, n_a, alpha)
  np.testing.assert_allclose(mirrored, (-estimate, -high, -low), atol=1e-14)
  inner = drops.drop(k_a, n_a, k_b, n_b, (1 + alpha) / 2)
  assert low < inner[1] or low == inner[1] == -1
  assert inner[2] < high or high == inner[2] == 1


def test_drop_takes_arrays_and_nothing_counted():
  n_b = np.array([[0], [10]])
  estimate, low, high = drops.drop([3, 5], 5, 0, n_b)
  assert estimate.shape == low.shape == high.shape == (2, 2)
  assert np.isnan(estimate[0]).all() and np.isnan(low[0]).all()
  assert (low[1, 1], high[1, 1]) == drops.drop(5, 5, 0, 10)[1:]
  assert high[1, 1] == 1


@pytest.mark.parametrize(
  "p_a, n_a, p_b, n_b", [(0.8, 50, 0.7, 80), (0.99, 200, 0.95, 300)]
)
def test_drop_covers_the_truth_as_often_as_it_says(p_a, n_a, p_b, n_b):
  rng = np.random.default_rng(0)
  k_a, k_b = rng.binomial(n_a, p_a, 20000), rng.binomial(n_b, p_b, 20000)
  _, low, high = drops.drop(k_a, n_a, k_b, n_b)
  # The standard deviation is 0.0015.
  assert np.mean((low <= p_a - p_b) & (p_a - p_b <= high)) > 0.942


HITS_A, COUNT_A = np.array([8, 18, 3]), np.array([10, 20, 5])
HITS_B, COUNT_B = np.array([5, 2, 9]), np.array([10, 4, 12])


@pytest.mark.parametrize("class_mean", [True, False])
def test_bootstrap_equals_drawing_images_again(class_mean):
  rng = np.random.default_rng(1)

  def accuracy_again(hits, count):
    if not class_mean:
      hits, count = [sum(hits)], [sum(count)]
    rates = []
    for h, n in zip(hits, count, strict=True):
      drawn = (np.arange(n) < h)[rng.integers(0, n, n)].mean()
      rates.append(h / n + (drawn - h / n) * np.sqrt(n / (n - 1)))
    return np.mean(rates)

  drawn = [
    accuracy_again(HITS_A, COUNT_A) - accuracy_again(HITS_B, COUNT_B)
    for _ in range(4000)
  ]
  expected = np.quantile(drawn, [0.025, 0.975])
  got = drops.bootstrap_drop(
    HITS_A,
    COUNT_A,
    HITS_B,
    COUNT_B,
    class_mean=class_mean,
    num_resamples=4000,
  )
  # Spread 0.13; the standard error of such quantiles is about 0.006 each.
  np.testing.assert_allclose(got[1:3], expected, atol=0.025)
  if class_mean:
    value = np.mean(HITS_A / COUNT_A) - np.mean(HITS_B / COUNT_B)
    assert got[3] == "stratified_bootstrap"
  else:
    value = 29 / 35 - 16 / 26
    assert got[3] == "bootstrap"
  assert math.isclose(got[0], value)


def test_plain_bootstrap_agrees_with_newcombe_in_large_sets():
  args = [np.array(v) for v in ([3800], [5000], [6400], [10000])]
  *values, _ = drops.bootstrap_drop(
    *args, class_mean=False, num_resamples=20000
  )
  # Both are about +-0.0151.
  np.testing.assert_allclose(values, np.ravel(drops.drop(*args)), atol=5e-4)


def test_classes_without_images_count_only_in_the_class_mean():
  args = ([3, 0], [5, 0], [1, 2], [4, 4])
  assert drops.bootstrap_drop(*args, class_mean=False)[0] == 3 / 5 - 3 / 8
  with pytest.raises(
    errors.InputError, check=raising.about("count_a", given="0 in class 1")
  ):
    drops.bootstrap_drop(*args, class_mean=True)


def test_bootstrap_is_seeded_and_widens_with_coverage():
  def call(*args, **kwargs):
    return drops.bootstrap_drop(
      HITS_A, COUNT_A, HITS_B, COUNT_B, *args, class_mean=True, **kwargs
    )

  first = call()
  assert first == call() != call(seed=1)
  wide, narrow = call(0.01), call(0.3)
  assert wide[1] < first[1] < narrow[1] < first[0]
  assert first[0] < narrow[2] < first[2] < wide[2]


@pytest.mark.parametrize("class_mean", [True, False])
def test_sets_without_spread_give_no_point(class_mean):
  count = np.array([20, 20])

  def call(a, b):
    return drops.bootstrap_drop(
      np.array(a), count, np.array(b), count, class_mean=class_mean
    )

  full = call([20, 20], [20, 20])
  low, high = intervals.clopper_pearson(40, 40)
  np.testing.assert_allclose(full[:3], (0, low - high, high - low))
  assert full[3] == "square_and_add"
  # One set varies: its own interval is widened by the other's.
  mixed = call([20, 20], [11, 12])
  bootstrap = intervals.class_mean(
    *([11, 12], count) if class_mean else ([23], [40])
  )
  assert mixed[3] == "square_and_add"
  assert math.isclose(mixed[0], 17 / 40)
  assert math.isclose(
    mixed[1], 17 / 40 - math.hypot(1 - low, bootstrap[1] - 23 / 40)
  )
  assert math.isclose(mixed[2], 1 - bootstrap[0])
  ends = call([20, 20], [0, 0])
  assert ends[0] == ends[2] == 1 and 0.8 < ends[1] < 1


def test_bootstrap_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  rates = rng.uniform(0.4, 0.95, 30)
  lower = rates - rng.uniform(0, 0.2, 30)
  n_a, n_b = np.full(30, 10), np.full(30, 6)
  truth, covered = np.mean(rates - lower), 0
  for _ in range(200):
    _, low, high, _ = drops.bootstrap_drop(
      rng.binomial(n_a, rates),
      n_a,
      rng.binomial(n_b, lower),
      n_b,
      class_mean=True,
      num_resamples=800,
    )
    covered += low <= truth <= high
  # 190 are expected; the standard deviation is 3.
  assert covered >= 180


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (lambda: drops.drop(3, 2, 1, 2), "hits_a", "3 of 2"),
    (lambda: drops.drop(1, 2, -1, 2), "hits_b", "-1 of 2"),
    (lambda: drops.drop(1, 2, 1, 2, 1.0), "alpha", 1.0),
    (lambda: drops.drop([1, 1], [2, 2, 2], 1, 2), "n_a", [3]),
    (lambda: drops.drop([1, 1], 2, [1, 1, 1], 2), "hits_b", [3]),
    (
      lambda: drops.bootstrap_drop([1], [2], [1, 1], [2, 2], class_mean=False),
      "hits_b",
      [2],
    ),
    (
      lambda: drops.bootstrap_drop([0], [0], [1], [2], class_mean=False),
      "count_a",
      "0 in class 0",
    ),
    (
      lambda: drops.bootstrap_drop([1], [2], [3], [2], class_mean=True),
      "hits_b",
      "3 of 2",
    ),
    (
      lambda: drops.bootstrap_drop(
        [1], [2], [1], [2], class_mean=True, num_resamples=0
      ),
      "num_resamples",
      0,
    ),
  ],
)
def test_bad_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call()
