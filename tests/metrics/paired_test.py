"""Tests of paired comparisons: published values, twins, ends, coverage."""

import fractions
import itertools
import math

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import intervals
from imgbench.metrics import paired
from imgbench.metrics import resampling
from tests import raising

COUNTS = st.integers(0, 60)
TABLES = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS).filter(any)
ALPHAS = st.sampled_from([0.001, 0.05, 0.4])
quick = hypothesis.settings(deadline=None, max_examples=80)


def vectors(both, only_a, only_b, neither):
  """Outcomes of images with these joint counts, shuffled."""
  cell = np.repeat(np.arange(4), [both, only_a, only_b, neither])
  cell = np.random.default_rng(0).permutation(cell)
  return cell < 2, cell % 2 == 0


def enumerated(only_a, only_b):
  """Exact and mid-p by adding up the outcomes, in fractions."""
  n, seen = only_a + only_b, abs(only_a - only_b)
  more = as_far = 0
  for k in range(n + 1):
    more += math.comb(n, k) * (abs(n - 2 * k) > seen)
    as_far += math.comb(n, k) * (abs(n - 2 * k) == seen)
  exact = fractions.Fraction(more + as_far, 2**n)
  return exact, exact - fractions.Fraction(as_far, 2 ** (n + 1))


# The last two are tables of Bentur et al. 2009 and Cavo et al. 2012, as
# worked by Fagerland et al. 2013: 0.070, 0.039 and 0.052, 0.035.
@pytest.mark.parametrize(
  "only_a, only_b, p_exact, p_mid",
  [
    (1, 5, 14 / 64, 8 / 64),
    (0, 1, 1.0, 0.5),
    (3, 3, 1.0, 1 - 20 / 128),
    (2, 3, 1.0, 1 - 10 / 32),
    (0, 0, 1.0, 1.0),
    (1, 7, 18 / 256, 10 / 256),
    (6, 16, 0.05248, 0.03469),
  ],
)
def test_mcnemar_known_values(only_a, only_b, p_exact, p_mid):
  got = paired.mcnemar_counts(only_a, only_b)
  np.testing.assert_allclose(got, (p_exact, p_mid), rtol=1e-4)
  hits_a, hits_b = vectors(4, only_a, only_b, 2)
  test = paired.mcnemar(hits_a, hits_b)
  assert (test.only_a, test.only_b) == (only_a, only_b)
  assert (test.p_exact, test.p_mid) == tuple(float(p) for p in got)


@quick
@hypothesis.given(COUNTS, COUNTS)
def test_mcnemar_is_the_sum_of_outcomes(only_a, only_b):
  hypothesis.assume(only_a + only_b)
  expected = [float(p) for p in enumerated(only_a, only_b)]
  got = paired.mcnemar_counts(only_a, only_b)
  np.testing.assert_allclose(got, expected, rtol=1e-11)


@quick
@hypothesis.given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_mcnemar_stays_in_range_and_is_symmetric(only_a, only_b):
  p_exact, p_mid = paired.mcnemar_counts(only_a, only_b)
  assert 0 < p_mid <= p_exact <= 1
  assert (p_exact, p_mid) == paired.mcnemar_counts(only_b, only_a)


@pytest.mark.parametrize("only_a, only_b", [(9000, 10000), (24900, 25100)])
def test_mcnemar_is_right_for_tens_of_thousands(only_a, only_b):
  n = only_a + only_b
  point = tail = 1
  for k in range(1, only_a + 1):
    point = point * (n - k + 1) // k
    tail += point
  exact = fractions.Fraction(2 * tail, 2**n)
  mid = exact - fractions.Fraction(point, 2**n)
  np.testing.assert_allclose(
    paired.mcnemar_counts(only_a, only_b), (float(exact), float(mid)), rtol=1e-9
  )


def test_mcnemar_where_the_p_value_is_too_small_or_one():
  p_exact, p_mid = paired.mcnemar_counts(
    np.array([0, 0, 20000, 25000]), np.array([1000, 50000, 50000, 25000])
  )
  assert p_exact[0] == 2.0**-999
  np.testing.assert_allclose(p_mid[0], 2.0**-1000)
  smallest = np.finfo(np.float64).tiny
  assert (p_exact[1:3] == smallest).all() and (p_mid[1:3] == smallest).all()
  # P(X = n / 2) is close to sqrt(2 / (pi n)).
  assert p_exact[3] == 1
  np.testing.assert_allclose(
    1 - p_mid[3], math.sqrt(2 / (math.pi * 50000)) / 2, rtol=1e-4
  )


def test_mcnemar_holds_its_level_and_mid_p_is_nearer():
  rng = np.random.default_rng(0)
  tables = rng.multinomial(60, [0.5, 0.1, 0.1, 0.3], size=20000)
  p_exact, p_mid = paired.mcnemar_counts(tables[:, 1], tables[:, 2])
  exact_rate, mid_rate = np.mean(p_exact <= 0.05), np.mean(p_mid <= 0.05)
  # The standard deviation of a rate is 0.0016.
  assert exact_rate < mid_rate < 0.055
  assert exact_rate < 0.035 < mid_rate


def test_masked_rows_do_not_count():
  hits_a, hits_b = vectors(10, 5, 1, 4)
  labels = np.arange(20) % 2
  garbage = np.arange(7) % 2 == 0
  a, b = np.append(hits_a, garbage), np.append(hits_b, ~garbage)
  mask = np.arange(27) < 20
  padded = np.append(labels, np.full(7, -1))
  assert paired.mcnemar(a, b, mask) == paired.mcnemar(hits_a, hits_b)
  assert paired.paired_difference(a, b, mask=mask) == (
    paired.paired_difference(hits_a, hits_b)
  )
  assert paired.paired_class_mean_difference(a, b, padded, 2, mask=mask) == (
    paired.paired_class_mean_difference(hits_a, hits_b, labels, 2)
  )


def test_joint_counts_by_hand():
  hits_a = np.array([True, True, False, False, True, True])
  hits_b = np.array([True, False, True, False, False, False])
  np.testing.assert_array_equal(
    paired.joint_counts(hits_a, hits_b), [[1, 3, 1, 1]]
  )
  labels = np.array([0, 0, 0, 2, 2, 0])
  np.testing.assert_array_equal(
    paired.joint_counts(hits_a, hits_b, labels, 3),
    [[1, 2, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]],
  )


def test_holm_by_hand():
  got = paired.holm([0.01, 0.04, 0.03, 0.005])
  np.testing.assert_allclose(got, [0.03, 0.06, 0.06, 0.02], rtol=1e-15)
  np.testing.assert_array_equal(paired.holm([0.6, 0.0, 0.7]), [1.0, 0.0, 1.0])
  assert paired.holm([]).shape == (0,)


@quick
@hypothesis.given(
  st.lists(st.sampled_from([0.0, 1e-9, 0.01, 0.02, 0.1, 0.5, 1.0]), max_size=6)
)
def test_holm_is_the_closed_bonferroni_test(p):
  # A hypothesis falls if Bonferroni rejects every set that it is in.
  expected = np.zeros(len(p))
  for size in range(1, len(p) + 1):
    for chosen in itertools.combinations(range(len(p)), size):
      value = min(1, size * min(p[i] for i in chosen))
      for i in chosen:
        expected[i] = max(expected[i], value)
  np.testing.assert_allclose(paired.holm(p), expected, rtol=1e-15)


@quick
@hypothesis.given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_order_and_never_lowers(p):
  adjusted = paired.holm(p)
  assert (adjusted >= p).all() and (adjusted <= 1).all()
  assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
  for i, j in itertools.combinations(range(len(p)), 2):
    assert p[i] != p[j] or adjusted[i] == adjusted[j]


# Newcombe 1998, paired, method 10; the last two tables as in
# `test_mcnemar_known_values`, bounds by Fagerland et al. 2014 and 2017.
@pytest.mark.parametrize(
  "table, low, high",
  [
    ((36, 12, 2, 0), 0.0569, 0.3404),
    ((36, 14, 0, 0), 0.1528, 0.4167),
    ((53, 0, 1, 0), -0.0977, 0.0496),
    ((1, 1, 7, 12), -0.5069, -0.0256),
    ((59, 6, 16, 80), -0.1186, -0.0046),
  ],
)
def test_paired_difference_known_values(table, low, high):
  got = paired.paired_difference(*vectors(*table))
  assert math.isclose(got[0], (table[1] - table[2]) / sum(table))
  np.testing.assert_allclose(got[1:], (low, high), atol=6e-5)


@quick
@hypothesis.given(TABLES, ALPHAS)
def test_paired_difference_holds_the_estimate_and_mirrors(table, alpha):
  both, only_a, only_b, neither = table
  estimate, low, high = paired.paired_difference_counts(*table, alpha=alpha)
  assert estimate == (only_a - only_b) / sum(table)
  assert -1 <= low <= estimate <= high <= 1
  assert high - low > 1 / sum(table) / 10
  swapped = (both, only_b, only_a, neither)
  mirrored = paired.paired_difference_counts(*swapped, alpha=alpha)
  np.testing.assert_allclose(mirrored, (-estimate, -high, -low), atol=1e-12)
  # Misses in place of hits turn the difference around too.
  flipped = paired.paired_difference_counts(
    neither, only_b, only_a, both, alpha=alpha
  )
  np.testing.assert_allclose(flipped, (-estimate, -high, -low), atol=1e-12)


@quick
@hypothesis.given(TABLES)
def test_paired_difference_uses_the_correlation_of_the_pairs(table):
  a, b = vectors(*table)
  n, phi = len(a), 0.0
  if 0 < a.sum() < n and 0 < b.sum() < n:
    phi = np.corrcoef(a, b)[0, 1]
    # The correction takes n / 2 from n^2 times a positive covariance.
    if phi > 0:
      phi = max(0.0, phi - 0.5 / (n * a.std() * b.std()))
  (low_a, high_a), (low_b, high_b) = (
    np.ravel(intervals.wilson(x.sum(), n)) for x in (a, b)
  )
  down, up = a.mean() - low_a, high_b - b.mean()
  low = a.mean() - b.mean() - math.sqrt(down**2 - 2 * phi * down * up + up**2)
  down, up = b.mean() - low_b, high_a - a.mean()
  high = a.mean() - b.mean() + math.sqrt(down**2 - 2 * phi * down * up + up**2)
  np.testing.assert_allclose(
    paired.paired_difference(a, b)[1:], (max(low, -1), min(high, 1)), atol=1e-7
  )


@quick
@hypothesis.given(TABLES)
def test_paired_difference_widens_with_coverage(table):
  wide = paired.paired_difference_counts(*table, alpha=0.01)
  narrow = paired.paired_difference_counts(*table, alpha=0.2)
  assert wide[1] < narrow[1] or wide[1] == narrow[1] == -1
  assert narrow[2] < wide[2] or narrow[2] == wide[2] == 1


def test_paired_difference_at_the_ends():
  n = 50000
  tables = np.array([[0.8, 0, 0, 0.2], [1, 0, 0, 0], [0, 1, 0, 0]]) * n
  estimate, low, high = paired.paired_difference_counts(*tables.T)
  np.testing.assert_array_equal(estimate, [0, 0, 1])
  # Never a point: z / n to z^2 / n; to have seen no change means little more.
  assert (n * high[:2] > 1.9).all() and (n * high[:2] < 3.9).all()
  assert high[2] == 1 and 0.999 < low[2] < 1
  assert np.isnan(paired.paired_difference_counts(0, 0, 0, 0)).all()


@pytest.mark.parametrize(
  "rates, n",
  [
    ((0.5, 0.1, 0.05, 0.35), 100),
    ((0.9, 0.05, 0.04, 0.01), 300),
    ((0.8, 0.01, 0.01, 0.18), 200),
  ],
)
def test_paired_difference_covers_the_truth_as_often_as_it_says(rates, n):
  tables = np.random.default_rng(0).multinomial(n, rates, size=20000)
  _, low, high = paired.paired_difference_counts(*tables.T)
  truth = rates[1] - rates[2]
  # The standard deviation is 0.0015; the last case is conservative (0.993).
  assert np.mean((low <= truth) & (truth <= high)) > 0.945


def test_class_mean_difference_weighs_classes_alike():
  joint = np.array([[0, 1, 0, 1], [90, 0, 10, 0]])
  estimate, low, high, method = paired.class_mean_difference_counts(joint)
  assert math.isclose(estimate, (1 / 2 - 10 / 100) / 2)
  assert low < estimate < high
  assert method == "paired_stratified_bootstrap"


def test_class_mean_difference_equals_drawing_pairs_again():
  joint = np.array([[3, 4, 1, 2], [10, 0, 6, 4], [5, 0, 0, 0]])
  rng = np.random.default_rng(1)
  means = []
  for _ in range(4000):
    classes = []
    for row in joint:
      a, b = vectors(*row)
      pairs = a.astype(int) - b
      n, mean = len(pairs), pairs.mean()
      drawn = pairs[rng.integers(0, n, n)].mean()
      classes.append(mean + (drawn - mean) * np.sqrt(n / (n - 1)))
    means.append(np.mean(classes))
  expected = np.quantile(means, [0.025, 0.975])
  got = paired.class_mean_difference_counts(joint, num_resamples=4000)
  # Spread 0.078; the standard error of such quantiles is about 0.004 each.
  np.testing.assert_allclose(got[1:3], expected, atol=0.017)


def test_one_class_agrees_with_the_plain_interval():
  a, b = vectors(1500, 300, 200, 1000)
  plain = paired.paired_difference(a, b)
  labels = np.zeros(3000, np.int32)
  *values, _ = paired.paired_class_mean_difference(
    a, b, labels, 1, num_resamples=20000
  )
  assert values[0] == plain[0]
  # Both are about +-0.0146, a score and a percentile interval.
  np.testing.assert_allclose(values, plain, atol=6e-4)


def test_class_mean_difference_is_seeded_and_widens_with_coverage():
  joint = np.array([[30, 10, 4, 6], [20, 5, 9, 16], [40, 2, 1, 7]])
  call = paired.class_mean_difference_counts
  first = call(joint)
  assert first == call(joint) != call(joint, seed=1)
  wide, narrow = call(joint, 0.01), call(joint, 0.3)
  assert wide[1] < first[1] < narrow[1] < first[0]
  assert first[0] < narrow[2] < first[2] < wide[2]


def test_chunks_change_no_draw(monkeypatch):
  joint = np.random.default_rng(0).multinomial(20, [0.5, 0.2, 0.1, 0.2], 30)
  whole = paired.class_mean_difference_counts(joint, num_resamples=301)
  monkeypatch.setattr(resampling, "DRAWS_AT_ONCE", 100)
  parts = paired.class_mean_difference_counts(joint, num_resamples=301)
  np.testing.assert_allclose(parts[:3], whole[:3], rtol=1e-12)


@pytest.mark.parametrize(
  "joint, estimate",
  [
    ([[40, 0, 0, 10], [30, 0, 0, 20]], 0.0),
    ([[50, 0, 0, 0], [0, 0, 0, 50]], 0.0),
    ([[0, 50, 0, 0], [50, 0, 0, 0]], 0.5),
    ([[0, 50, 0, 0], [0, 50, 0, 0]], 1.0),
  ],
)
def test_class_mean_difference_without_spread_is_no_point(joint, estimate):
  got = paired.class_mean_difference_counts(np.array(joint))
  assert got[0] == estimate and got[3] == "newcombe_paired_effective_n"
  assert -1 <= got[1] <= estimate <= got[2] <= 1
  assert got[2] - got[1] > 0.015
  # Equal classes: the effective size is the number of images.
  plain = paired.paired_difference_counts(*np.sum(joint, axis=0))
  np.testing.assert_allclose(got[:3], plain, atol=1e-12)


def test_class_mean_difference_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  rates = rng.dirichlet([8, 2, 1, 3], size=25)
  truth = np.mean(rates[:, 1] - rates[:, 2])
  covered = 0
  for _ in range(600):
    _, low, high, _ = paired.class_mean_difference_counts(
      rng.multinomial(12, rates), num_resamples=500
    )
    covered += low <= truth <= high
  # 570 are expected; the standard deviation is 5.
  assert covered >= 550


HITS = np.array([True, False, True])


def by_class(labels, k):
  return paired.paired_class_mean_difference(HITS, HITS, np.array(labels), k)


of_counts = paired.class_mean_difference_counts
ONES = np.ones((1, 4), int)


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (lambda: paired.mcnemar(HITS, HITS[:2]), "hits_b", [2]),
    (lambda: paired.mcnemar(HITS[None], HITS), "hits_a", [1, 3]),
    (lambda: paired.mcnemar(HITS * 2, HITS), "hits_a", "int64"),
    (lambda: paired.mcnemar(HITS, HITS, HITS[:1]), "mask", [1]),
    (lambda: paired.mcnemar(HITS, HITS, HITS & False), "mask", "none"),
    (lambda: paired.mcnemar_counts(-1, 2), "only_a", -1.0),
    (lambda: paired.mcnemar_counts(1, 2.5), "only_b", "float64"),
    (
      lambda: paired.mcnemar_counts([1, 2, 3], [1, 2]),
      "only_a, only_b",
      "[3], [2]",
    ),
    (lambda: paired.holm([0.1, np.nan]), "p_values[1]", "nan"),
    (lambda: paired.holm([[0.5]]), "p_values", [1, 1]),
    (lambda: paired.paired_difference(HITS, HITS, 0.0), "alpha", 0.0),
    (lambda: paired.paired_difference_counts(1, 2, np.nan, 3), "only_b", "nan"),
    (lambda: by_class([0, 3, 1], 3), "labels[1]", 3),
    (lambda: by_class([0, 0, 2], 4), "labels", "none of class 1"),
    (lambda: by_class([0.0, 0.5, 1.0], 2), "labels", "float64"),
    (lambda: of_counts(ONES[:, :3]), "joint", [1, 3]),
    (lambda: of_counts(-ONES), "joint", -1.0),
    (lambda: of_counts(0 * ONES), "joint", "none of class 0"),
    (lambda: of_counts(ONES, num_resamples=0), "num_resamples", 0),
    (lambda: of_counts(ONES, 1.0), "alpha", 1.0),
  ],
)
def test_bad_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call()
