"""Tests of ranking curves: by hand, loops over thresholds, order."""

import math

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import calibration
from imgbench.metrics import curves
from imgbench.metrics import intervals
from tests import raising

SCORES = np.array([0.9, 0.8, 0.8, 0.6, 0.5, 0.3])
POSITIVE = np.array([1, 1, 0, 0, 1, 0], bool)


@st.composite
def rankings(draw, min_size=1):
  """Scores with many ties and infinities, and which are positive."""
  n = draw(st.integers(min_size, 25))
  values = st.one_of(
    st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf]),
    st.floats(-1, 1),
  )
  scores = draw(hnp.arrays(np.float64, n, elements=values))
  return scores, draw(hnp.arrays(bool, n))


def points_twin(scores, positive):
  """(threshold, tp, fp) of every distinct score, in plain Python."""
  pairs = list(zip(scores.tolist(), positive.tolist(), strict=True))
  result = []
  for threshold in sorted(set(scores.tolist()), reverse=True):
    flagged = [p for s, p in pairs if s >= threshold]
    result.append((threshold, sum(flagged), len(flagged) - sum(flagged)))
  return result


def average_precision_twin(scores, positive):
  total, before = 0.0, 0
  for _, tp, fp in points_twin(scores, positive):
    total += (tp - before) / positive.sum() * tp / (tp + fp)
    before = tp
  return total


def roc_auc_twin(scores, positive):
  wins = [
    1.0 if p > n else 0.5 if p == n else 0.0
    for p in scores[positive].tolist()
    for n in scores[~positive].tolist()
  ]
  return sum(wins) / len(wins)


def peer_case():
  """60 examples of 4 classes with ties, made without random numbers."""
  i = np.arange(60)
  z = np.stack([(i * (7 + 3 * j) + j * j) % 11 for j in range(4)], axis=1) + 1.0
  return z / z.sum(axis=1, keepdims=True), (i * i + i // 7) % 4


def test_curve_by_hand():
  curve = curves.precision_recall_curve(SCORES, POSITIVE)
  assert curve.thresholds.tolist() == [0.9, 0.8, 0.6, 0.5, 0.3]
  assert curve.true_positives.tolist() == [1, 2, 2, 3, 3]
  assert curve.false_positives.tolist() == [0, 1, 2, 2, 3]
  assert curve.true_positives.dtype == curve.false_positives.dtype == np.int64
  assert (curve.positives, curve.negatives) == (3, 3)
  assert curve.precision.tolist() == [1, 2 / 3, 2 / 4, 3 / 5, 3 / 6]
  assert curve.recall.tolist() == [1 / 3, 2 / 3, 2 / 3, 1, 1]
  assert curve.f1.tolist() == [2 / 4, 4 / 6, 4 / 7, 6 / 8, 6 / 9]
  assert curve.false_positive_rate.tolist() == [0, 1 / 3, 2 / 3, 2 / 3, 1]


def test_areas_by_hand():
  expected = (1 + 2 / 3 + 3 / 5) / 3
  got = curves.average_precision(SCORES, POSITIVE)
  assert math.isclose(got, expected, rel_tol=1e-15)
  # Of nine pairs .9 wins 3, .8 wins 2 and ties with one, .5 wins 1.
  assert curves.roc_auc(SCORES, POSITIVE) == 6.5 / 9


def test_roc_curve_starts_and_ends_in_the_corners():
  curve = curves.roc_curve(SCORES, POSITIVE)
  assert curve.thresholds[0] == np.inf
  assert curve.recall.tolist() == [0, 1 / 3, 2 / 3, 2 / 3, 1, 1]
  assert curve.false_positive_rate.tolist() == [0, 0, 1 / 3, 2 / 3, 2 / 3, 1]


def test_recorded_values_of_scikit_learn():
  # average_precision_score and roc_auc_score (one-vs-rest, macro) of 1.9.1.
  probs, labels = peer_case()
  result = curves.ranking_by_class(probs, labels)
  assert result.positives.tolist() == [18, 14, 16, 12]
  precisions = [
    0.3663761578504225,
    0.2741667381132194,
    0.2489777991616227,
    0.22415366066681858,
  ]
  areas = [
    0.568121693121693,
    0.5256211180124223,
    0.4232954545454545,
    0.5729166666666666,
  ]
  # Float64 on both sides, in another order.
  close = dict(rtol=1e-14)
  np.testing.assert_allclose(result.average_precision, precisions, **close)
  np.testing.assert_allclose(result.roc_auc, areas, **close)
  macro = (result.macro_average_precision, result.macro_roc_auc)
  expected = (0.2784185889480208, 0.5224887330865591)
  np.testing.assert_allclose(macro, expected, **close)


def test_recorded_curve_of_scikit_learn():
  # precision_recall_curve of 1.9.1, lowest threshold first; its last point,
  # precision 1 at recall 0, is of no threshold and we have none.
  i = np.arange(60)
  curve = curves.precision_recall_curve(i * 7 % 11 * 1.0, peer_case()[1] == 0)
  precision = (
    "0.3 0.2962962962962963 0.30612244897959184 0.29545454545454547"
    " 0.3157894736842105 0.30303030303030304 0.32142857142857145"
    " 0.36363636363636365 0.3125 0.36363636363636365 0.3333333333333333"
  )
  recall = [18, 16, 15, 13, 12, 10, 9, 8, 5, 4, 2]
  assert curve.precision[::-1].tolist() == [float(x) for x in precision.split()]
  assert curve.recall[::-1].tolist() == [x / 18 for x in recall]
  assert curve.thresholds[::-1].tolist() == list(range(11))


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(rankings(), st.randoms(use_true_random=False))
def test_against_loops_and_in_any_order(ranking, random):
  scores, positive = ranking
  curve = curves.precision_recall_curve(scores, positive)
  points = zip(
    curve.thresholds.tolist(),
    curve.true_positives.tolist(),
    curve.false_positives.tolist(),
    strict=True,
  )
  assert list(points) == points_twin(scores, positive)
  assert (np.diff(curve.thresholds) < 0).all()
  assert (np.diff(curve.true_positives) >= 0).all()
  assert (np.diff(curve.false_positives) >= 0).all()
  assert curve.true_positives[-1] == curve.positives == positive.sum()
  area = curves.roc_auc(scores, positive)
  precision = curves.average_precision(scores, positive)
  if positive.any():
    assert precision == pytest.approx(average_precision_twin(scores, positive))
    assert 0 < precision <= 1
  if positive.any() and not positive.all():
    assert area == pytest.approx(roc_auc_twin(scores, positive), abs=1e-15)
    roc = curves.roc_curve(scores, positive)
    trapezes = np.trapezoid(roc.recall, roc.false_positive_rate)
    assert area == pytest.approx(trapezes, abs=1e-12)
    turned = curves.roc_auc(-scores, positive)
    assert area == pytest.approx(1 - turned, abs=1e-15)
  order = list(range(len(scores)))
  random.shuffle(order)
  again = curves.precision_recall_curve(scores[order], positive[order])
  for field in ("thresholds", "true_positives", "false_positives"):
    assert getattr(curve, field).tobytes() == getattr(again, field).tobytes()
  shuffled = scores[order], positive[order]
  np.testing.assert_equal(curves.roc_auc(*shuffled), area)
  np.testing.assert_equal(curves.average_precision(*shuffled), precision)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(rankings(), st.integers(2, 4))
def test_repeated_examples_change_no_rate(ranking, times):
  scores, positive = ranking
  many = np.tile(scores, times), np.tile(positive, times)
  once = curves.precision_recall_curve(scores, positive)
  curve = curves.precision_recall_curve(*many)
  np.testing.assert_array_equal(curve.precision, once.precision)
  np.testing.assert_array_equal(curve.recall, once.recall)
  np.testing.assert_equal(
    curves.roc_auc(*many), curves.roc_auc(scores, positive)
  )


@pytest.mark.parametrize("positives", [1, 3, 7])
def test_perfect_and_reversed_rankings(positives):
  scores = np.linspace(1, 0, 10)
  first = np.arange(10) < positives
  assert curves.average_precision(scores, first) == 1.0
  assert curves.roc_auc(scores, first) == 1.0
  assert curves.roc_auc(-scores, first) == 0.0
  # Equal scores say nothing: chance, and the share of positives.
  equal = np.full(10, 0.3, np.float32)
  assert curves.roc_auc(equal, first) == 0.5
  assert curves.average_precision(equal, first) == pytest.approx(positives / 10)


def test_one_class_alone_is_undefined():
  nobody, all_of_them = np.zeros(6, bool), np.ones(6, bool)
  curve = curves.precision_recall_curve(SCORES, nobody)
  for rates in (curve.precision, curve.recall, curve.f1):
    assert np.isnan(rates).all() and len(rates) == 5
  assert curve.false_positive_rate[-1] == 1
  assert np.isnan(curves.roc_curve(SCORES, nobody).recall).all()
  assert math.isnan(curves.average_precision(SCORES, nobody))
  assert math.isnan(curves.roc_auc(SCORES, nobody))
  assert curves.average_precision(SCORES, all_of_them) == 1.0
  assert math.isnan(curves.roc_auc(SCORES, all_of_them))
  full = curves.roc_curve(SCORES, all_of_them)
  assert np.isnan(full.false_positive_rate).all() and full.recall[-1] == 1
  nothing = np.zeros(0), np.zeros(0, bool)
  assert curves.precision_recall_curve(*nothing).thresholds.shape == (0,)
  assert math.isnan(curves.average_precision(*nothing))
  assert math.isnan(curves.roc_auc(*nothing))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_class_equals_one_class_at_a_time(dtype, monkeypatch):
  rng = np.random.default_rng(0)
  scores = rng.integers(-4, 5, (90, 6)).astype(dtype)
  labels = rng.integers(0, 6, 90)
  labels[labels == 4] = 0
  mask = rng.random(90) < 0.8
  broken, odd = scores.copy(), labels.copy()
  broken[~mask], odd[~mask] = np.nan, 99
  monkeypatch.setattr(calibration, "_BLOCK", 4 * mask.sum())
  result = curves.ranking_by_class(broken, odd, mask)
  scores, labels = scores[mask], labels[mask]
  for k in range(6):
    one = scores[:, k], labels == k
    assert result.positives[k] == one[1].sum()
    np.testing.assert_equal(
      result.average_precision[k], curves.average_precision(*one)
    )
    np.testing.assert_equal(result.roc_auc[k], curves.roc_auc(*one))
  assert math.isnan(result.roc_auc[4])
  assert result.macro_roc_auc == np.nanmean(result.roc_auc)
  assert result.macro_average_precision == np.nanmean(result.average_precision)


def test_by_class_of_nothing_is_undefined():
  result = curves.ranking_by_class(np.zeros((0, 3)), np.zeros(0, int))
  assert result.positives.tolist() == [0, 0, 0]
  assert math.isnan(result.macro_average_precision)
  assert math.isnan(result.macro_roc_auc)


def test_catch_all_frogs():
  # 4 frogs; the last one ranks below two other animals.
  scores = np.array([0.9, 0.7, 0.6, 0.2, 0.8, 0.3, 0.1, 0.05], np.float32)
  frog = np.arange(8) < 4
  point = curves.threshold_for_recall(scores, frog, 1.0)
  assert point.threshold == np.float32(0.2)
  assert (point.tp, point.fp, point.fn, point.tn) == (4, 2, 0, 2)
  assert (point.recall, point.precision, point.f1) == (1.0, 4 / 6, 8 / 10)
  assert point.flagged == 6
  assert point.recall_ci == intervals.clopper_pearson(4, 4)
  assert point.precision_ci == intervals.clopper_pearson(4, 6)
  assert curves.threshold_for_recall(scores, frog, 0.75).tp == 3
  # A rate that no threshold has is exceeded.
  assert curves.threshold_for_recall(scores, frog, 0.76).tp == 4
  wide = curves.threshold_for_recall(scores, frog, 1.0, alpha=0.01)
  assert wide.recall_ci[0] < point.recall_ci[0]


def test_threshold_for_precision():
  scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
  positive = np.array([0, 1, 1, 1, 0, 0, 1], bool)
  point = curves.threshold_for_precision(scores, positive, 0.75)
  assert (point.threshold, point.tp, point.fp) == (0.6, 3, 1)
  # Precision falls and grows again: the highest recall counts.
  point = curves.threshold_for_precision(scores, positive, 0.5)
  assert (point.threshold, point.recall, point.precision) == (0.3, 1.0, 4 / 7)
  assert curves.threshold_for_precision(scores, positive, 0.76) is None
  # Of equal recall the one that flags less.
  point = curves.threshold_for_precision(SCORES, POSITIVE, 0.5)
  assert point.threshold == 0.5


@pytest.mark.parametrize("total", [3, 7, 10, 100, 1000])
def test_wanted_rates_are_met_by_the_exact_count(total):
  scores = -np.arange(total, dtype=float)
  positive = np.ones(total, bool)
  for k in range(1, total + 1, max(1, total // 100)):
    # 0.07 * 100 is above 7 in float64, and 0.29 * 100 below 29.
    assert curves.threshold_for_recall(scores, positive, k / total).tp == k
  # k positives above total - k others: precision k / total at the end.
  for k in range(1, total + 1, max(1, total // 20)):
    first = np.arange(total) < k
    point = curves.threshold_for_precision(scores[::-1], first, k / total)
    assert (point.tp, point.flagged) == (k, total)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(rankings(), st.integers(1, 20))
def test_thresholds_are_the_best_of_all(ranking, twentieths):
  scores, positive = ranking
  hypothesis.assume(positive.any())
  wanted = twentieths / 20
  total = int(positive.sum())
  points = points_twin(scores, positive)
  got = curves.threshold_for_recall(scores, positive, wanted)
  best = next(p for p in points if p[1] / total >= wanted)
  assert (got.threshold, got.tp, got.fp) == best
  good = [p for p in points if p[1] and p[1] / (p[1] + p[2]) >= wanted]
  got = curves.threshold_for_precision(scores, positive, wanted)
  if not good:
    assert got is None
  else:
    best = max(good, key=lambda p: (p[1], p[0]))
    assert (got.threshold, got.tp, got.fp) == best
    assert got == curves.apply_threshold(scores, positive, best[0])


def test_a_point_without_rates():
  point = curves.apply_threshold(SCORES, POSITIVE, 0.95)
  assert (point.tp, point.fp, point.fn, point.tn) == (0, 0, 3, 3)
  assert point.precision is None and point.precision_ci is None
  assert (point.recall, point.f1, point.recall_ci[0]) == (0.0, 0.0, 0.0)
  point = curves.apply_threshold(SCORES, np.zeros(6, bool), 0.85)
  assert (point.flagged, point.tn) == (1, 5)
  assert point.precision is point.recall is point.f1 is None


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (lambda s, p: curves.roc_auc(s[None], p), "scores", [1, 6]),
    (lambda s, p: curves.roc_auc(s > 1, p), "scores", "bool"),
    (lambda s, p: curves.roc_auc(s, p[1:]), "positive", [5]),
    (lambda s, p: curves.roc_curve(s, p * 2), "positive", "int64"),
    (
      lambda s, p: curves.average_precision(np.where(s == 0.6, np.nan, s), p),
      "scores[3]",
      "nan",
    ),
    (
      lambda s, p: curves.ranking_by_class(
        np.array([[0, 1], [0, 1], [0, np.nan]]),
        np.zeros(3, int),
        np.array([False, True, True]),
      ),
      "scores[2, 1]",
      "nan",
    ),
    (
      lambda s, p: curves.ranking_by_class(np.zeros((2, 2)), np.array([0, 2])),
      "labels[1]",
      2,
    ),
    (lambda s, p: curves.threshold_for_recall(s, p, 0.0), "wanted", 0.0),
    (lambda s, p: curves.threshold_for_precision(s, p, 90), "wanted", 90),
    (lambda s, p: curves.threshold_for_recall(s, p, np.nan), "wanted", "nan"),
    (
      lambda s, p: curves.threshold_for_recall(s, ~p & p, 0.5),
      "positive",
      "none of 6",
    ),
    (lambda s, p: curves.threshold_for_recall(s, p, 0.5, 1.0), "alpha", 1.0),
    (lambda s, p: curves.apply_threshold(s, p, math.nan), "threshold", "nan"),
  ],
)
def test_bad_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call(SCORES, POSITIVE)


def steps_area(x, y):
  return float(np.sum(np.diff(x, prepend=0) * y))


@pytest.mark.parametrize("seed", range(4))
def test_thinning_keeps_points_ends_and_shape(seed):
  rng = np.random.default_rng(seed)
  positive = rng.random(40_000) < 0.1
  scores = rng.normal(size=40_000) + (0.5 + seed) * positive
  order = np.argsort(-scores)
  hits = np.cumsum(positive[order])
  first = np.flatnonzero(positive[order])
  x, y = hits[first] / hits[-1], hits[first] / (first + 1)
  kept = curves.thinned_steps(x, y, 200)
  assert len(kept) == 200 and np.all(np.diff(kept) > 0)
  assert kept[0] == 0 and kept[-1] == len(x) - 1
  assert abs(steps_area(x[kept], y[kept]) - steps_area(x, y)) < 2e-3
  # Every point is near the steps: above or below them, or beside a rise.
  after = np.searchsorted(x[kept], x)
  before = np.maximum(after - 1, 0)
  rise = np.hypot(
    x - x[kept][before],
    np.maximum(
      y - np.maximum(y[kept][before], y[kept][after]),
      np.minimum(y[kept][before], y[kept][after]) - y,
    ).clip(0),
  )
  assert np.minimum(np.abs(y - y[kept][after]), rise).max() < 0.02


def test_few_points_and_level_curves_are_not_thinned_wrongly():
  x = np.arange(1, 301) / 300
  np.testing.assert_array_equal(
    curves.thinned_steps(x[:7], x[:7], 200), np.arange(7)
  )
  np.testing.assert_array_equal(
    curves.thinned_steps(x, np.ones(300), 200), [0, 299]
  )


def test_interval_of_the_area_against_pairs():
  rng = np.random.default_rng(0)
  scores = np.round(rng.normal(size=60), 1)  # With ties.
  positive = rng.random(60) < 0.4
  a, b = scores[positive], scores[~positive]
  wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
  area = wins.mean()
  variance = wins.mean(axis=1).var(ddof=1) / len(a)
  variance += wins.mean(axis=0).var(ddof=1) / len(b)
  low, high = curves.roc_auc_interval(scores, positive)
  half = 1.959963984540054 * np.sqrt(variance)
  np.testing.assert_allclose([low, high], [area - half, area + half])
  assert low < curves.roc_auc(scores, positive) < high


def test_interval_of_the_area_stays_in_its_range():
  scores = np.arange(6.0)
  assert curves.roc_auc_interval(scores, scores > 2) == (1, 1)
  low, high = curves.roc_auc_interval(scores, np.arange(6) % 2 == 1)
  assert 0 <= low < high <= 1
  assert np.isnan(curves.roc_auc_interval(scores, scores > 4)).all()
