"""Tests of scores of probabilities: by hand, loops, order, ties."""

from fractions import Fraction
import math
import tracemalloc

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import ml_dtypes
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import calibration
from tests import raising

BINNINGS = [calibration.EQUAL_WIDTH, calibration.EQUAL_MASS]
PROBS = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.25, 0.75]])
LABELS = np.array([0, 1, 1])


def softmax_case(seed, n=200, num_classes=5, dtype=np.float32):
  rng = np.random.default_rng(seed)
  logits = rng.normal(scale=3, size=(n, num_classes))
  probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  labels = rng.integers(0, num_classes, n)
  return probs.astype(dtype), labels


def equal_width_twin(confidence, hit, num_bins):
  """The error by exact fractions, one example at a time."""
  bins = [[] for _ in range(num_bins)]
  for c, h in zip(confidence, hit, strict=True):
    j = math.ceil(Fraction(float(c)) * num_bins) - 1
    bins[max(j, 0)].append((Fraction(float(c)), int(h)))
  return bins, _gap_twin(bins, len(confidence))


def equal_mass_twin(confidence, hit, num_bins):
  """Each group of ties goes by the place of its middle; the lowest to 0."""
  n = len(confidence)
  bins = [[] for _ in range(num_bins)]
  pairs = sorted(zip(confidence.tolist(), hit.tolist(), strict=True))
  start = 0
  while start < n:
    group = [p for p in pairs if p[0] == pairs[start][0]]
    middle = start + Fraction(len(group) - 1, 2)
    j = math.floor(middle * num_bins / n) if start else 0
    bins[j] += [(Fraction(c), int(h)) for c, h in group]
    start += len(group)
  return bins, _gap_twin(bins, n)


def _gap_twin(bins, n):
  gaps = [abs(sum(h for _, h in b) - sum(c for c, _ in b)) for b in bins]
  return float(sum(gaps) / n)


def test_brier_by_hand():
  scores = calibration.brier_scores(PROBS, LABELS)
  assert scores.tolist() == [0.375, 0.0, 1.125]
  assert calibration.brier(PROBS, LABELS) == 0.5
  # Certain and wrong is the worst.
  assert calibration.brier(PROBS[1:2], np.array([2])) == 2.0
  # Twice the binary score of one of two classes.
  two = np.array([[0.7, 0.3], [0.2, 0.8]])
  assert math.isclose(
    calibration.brier(two, np.array([0, 0])), (0.3**2 + 0.8**2)
  )


def test_nll_by_hand():
  scores = calibration.nll_scores(PROBS, LABELS)
  np.testing.assert_array_equal(scores, [math.log(2), 0.0, math.log(4)])
  assert not np.signbit(scores[1])
  assert math.isclose(
    calibration.nll(PROBS, LABELS), math.log(2), rel_tol=1e-15
  )
  assert calibration.nll(PROBS, np.array([0, 0, 1])) == math.inf


def test_brier_and_nll_against_a_loop_in_blocks(monkeypatch):
  probs, labels = softmax_case(0, n=23)
  monkeypatch.setattr(calibration, "_BLOCK", 20)
  brier, nll = [], []
  for row, label in zip(probs.tolist(), labels.tolist(), strict=True):
    brier.append(sum((p - (k == label)) ** 2 for k, p in enumerate(row)))
    nll.append(-math.log(row[label]))
  # Float64 on both sides, in another order.
  close = dict(rtol=1e-13)
  np.testing.assert_allclose(
    calibration.brier_scores(probs, labels), brier, **close
  )
  np.testing.assert_allclose(
    calibration.nll_scores(probs, labels), nll, **close
  )


def test_recorded_values_of_scikit_learn():
  # log_loss and brier_score_loss(scale_by_half=False) of scikit-learn 1.9.1.
  i = np.arange(60)
  z = np.stack([(i * (7 + 3 * j) + j * j) % 11 for j in range(4)], axis=1) + 1.0
  probs, labels = z / z.sum(axis=1, keepdims=True), (i * i + i // 7) % 4
  nll = calibration.nll(probs, labels)
  assert math.isclose(nll, 1.5555635971283577, rel_tol=1e-13)
  brier = calibration.brier(probs, labels)
  assert math.isclose(brier, 0.8036032532454594, rel_tol=1e-13)


def test_masked_equals_filtered_whatever_the_rest_holds():
  probs, labels = softmax_case(1)
  mask = np.random.default_rng(2).random(len(labels)) < 0.7
  broken, odd = probs.copy(), labels.copy()
  broken[~mask] = [np.nan, np.inf, -1, 7, 0]
  odd[~mask] = -1
  for score in (calibration.brier, calibration.nll):
    assert score(broken, odd, mask) == score(probs[mask], labels[mask])
  for score in (calibration.brier_scores, calibration.nll_scores):
    result = score(broken, odd, mask)
    np.testing.assert_array_equal(np.isnan(result), ~mask)
  for binning in BINNINGS:
    np.testing.assert_array_equal(
      calibration.classwise_ece(broken, odd, 7, binning, mask).per_class,
      calibration.classwise_ece(
        probs[mask], labels[mask], 7, binning
      ).per_class,
    )
    got = calibration.reliability(broken[:, 0], odd == 0, 7, binning, mask)
    expected = calibration.reliability(
      probs[mask, 0], labels[mask] == 0, 7, binning
    )
    np.testing.assert_array_equal(got.count, expected.count)
    assert calibration.ece(got) == calibration.ece(expected)


@pytest.mark.parametrize("binning", BINNINGS)
def test_no_example_is_undefined(binning):
  probs, labels = softmax_case(0, n=4)
  nothing = np.zeros(4, bool)
  assert math.isnan(calibration.brier(probs, labels, nothing))
  assert math.isnan(calibration.nll(probs, labels, nothing))
  bins = calibration.reliability(probs[:0, 0], np.zeros(0, bool), 3, binning)
  assert bins.count.tolist() == [0, 0, 0]
  assert np.isnan(bins.accuracy).all() and np.isnan(bins.confidence).all()
  assert math.isnan(calibration.ece(bins))
  assert math.isnan(calibration.mce(bins))
  by_class = calibration.classwise_ece(probs, labels, 3, binning, nothing)
  assert np.isnan(by_class.per_class).all() and math.isnan(by_class.mean)


def test_reliability_by_hand():
  # Upper ends belong to a bin; 0 to the first.
  confidence = np.array([0.0, 0.5, 0.25, 0.75, 0.75, 0.875, 1.0])
  hit = np.array([0, 1, 0, 1, 1, 1, 0], bool)
  bins = calibration.reliability(confidence, hit, 4)
  assert bins.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
  assert bins.count.tolist() == [2, 1, 2, 2]
  assert bins.count.dtype == np.int64
  assert bins.confidence.tolist() == [0.125, 0.5, 0.75, 0.9375]
  assert bins.accuracy.tolist() == [0, 1, 1, 0.5]
  assert calibration.mce(bins) == 0.5
  assert calibration.ece(bins) == (0.25 + 0.5 + 0.5 + 0.875) / 7


def test_empty_bins_are_undefined_and_weigh_nothing():
  bins = calibration.reliability(np.array([0.9, 0.8]), np.array([True] * 2), 2)
  np.testing.assert_array_equal(bins.accuracy, [np.nan, 1])
  assert np.isnan(bins.confidence[0])
  assert math.isclose(calibration.ece(bins), 0.15)
  assert math.isclose(calibration.mce(bins), 0.15)


def test_decimal_edges_belong_to_the_bin_below():
  for num_bins in (10, 15, 20, 100):
    upper = np.array([j / num_bins for j in range(1, num_bins)])
    above = np.nextafter(upper, 1)
    for values, empty in ((upper, num_bins - 1), (above, 0)):
      bins = calibration.reliability(values, values > 2, num_bins)
      assert np.flatnonzero(bins.count == 0).tolist() == [empty]


def test_equal_mass_by_hand():
  confidence = np.array([0.9, 0.1, 0.3, 0.8, 0.2, 0.6, 0.7])
  hit = confidence > 0.5
  bins = calibration.reliability(confidence, hit, 3, calibration.EQUAL_MASS)
  assert bins.count.tolist() == [3, 2, 2]
  assert bins.edges.tolist() == [0, 0.3, 0.7, 1]
  np.testing.assert_allclose(bins.confidence, [0.2, 0.65, 0.85])
  assert bins.accuracy.tolist() == [0, 1, 1]


def test_equal_mass_keeps_ties_together():
  def count(values, num_bins):
    return calibration.reliability(
      np.array(values), np.zeros(len(values), bool), num_bins, "equal_mass"
    ).count.tolist()

  # The cut in the middle of four moves up to the nearer end, that of two of
  # three down.
  assert count([0.1, 0.4, 0.4, 0.4, 0.9, 0.9], 2) == [4, 2]
  assert count([0.1, 0.2, 0.4, 0.4, 0.4, 0.9], 2) == [2, 4]
  assert count([0.5] * 6, 3) == [6, 0, 0]
  # Zeros stay below all cuts.
  assert count([0.0] * 5 + [0.5], 3) == [5, 0, 1]
  # More bins than examples.
  assert sorted(count([0.1, 0.2], 4)) == [0, 0, 1, 1]


@pytest.mark.parametrize("binning", BINNINGS)
def test_calibrated_data_has_no_error(binning):
  # Of k in 8 confident predictions k in 8 are right.
  confidence = np.repeat(np.arange(1, 9) / 8, 8)
  hit = np.concatenate([np.arange(8) < k for k in range(1, 9)])
  bins = calibration.reliability(confidence, hit, 8, binning)
  assert bins.count.tolist() == [8] * 8
  assert calibration.ece(bins) == calibration.mce(bins) == 0.0


def draw_bins(rng, n, surplus):
  """Reliability of a model whose confidence is too high by a surplus."""
  confidence = 0.3 + 0.7 * rng.beta(4, 1, n)
  return calibration.reliability(
    confidence, rng.random(n) < confidence - surplus
  )


@pytest.mark.parametrize("surplus", [0.08, 0.3])
def test_interval_of_the_error_against_a_bootstrap_of_images(surplus):
  rng = np.random.default_rng(0)
  confidence = 0.3 + 0.7 * rng.beta(4, 1, 1000)
  hit = rng.random(1000) < confidence - surplus
  bins = calibration.reliability(confidence, hit)
  place = np.ceil(15 * confidence).astype(int) - 1
  draws = []
  for _ in range(2000):
    times = np.bincount(rng.integers(0, 1000, 1000), minlength=1000)
    gaps = np.bincount(place, times * (hit - confidence), 15)
    draws.append(np.abs(gaps).sum() / 1000)
  high = np.quantile(draws, 0.975)
  low = 2 * calibration.ece(bins) - high
  *found, method = calibration.ece_interval(bins)
  assert found == pytest.approx([low, high], abs=0.003)
  assert method == "bootstrap_of_bins"
  assert calibration.ece_interval(bins) == (*found, method)


@pytest.mark.parametrize("n", [200, 2000])
def test_interval_of_the_error_covers_the_true_one(n):
  rng = np.random.default_rng(0)
  found = [calibration.ece_interval(draw_bins(rng, n, 0.1)) for _ in range(200)]
  held = [low <= 0.1 <= high for low, high, _ in found]
  assert 186 <= sum(held) <= 200  # of 200, at 95%
  # Of a calibrated model the error is all bias.
  bins = [draw_bins(rng, n, 0) for _ in range(200)]
  assert sum(calibration.ece_interval(b)[0] == 0 for b in bins) >= 186


def test_interval_of_few_examples_holds_the_estimate():
  one = calibration.reliability(np.array([0.7]), np.array([True]))
  assert calibration.ece_interval(one) is None
  sure = calibration.reliability(np.ones(20), np.ones(20, bool))
  low, high, _ = calibration.ece_interval(sure)
  assert low == 0 and 0.03 < high < 0.2
  bins = draw_bins(np.random.default_rng(0), 2, 0.2)
  low, high, _ = calibration.ece_interval(bins)
  assert 0 <= low <= calibration.ece(bins) <= high <= 1


@pytest.mark.parametrize("binning", BINNINGS)
@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(data=st.data())
def test_bins_against_a_loop_and_in_any_order(binning, data):
  n = data.draw(st.integers(1, 30))
  values = st.one_of(
    st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]), st.floats(0, 1)
  )
  confidence = data.draw(hnp.arrays(np.float64, n, elements=values)) + 0.0
  hit = data.draw(hnp.arrays(bool, n))
  num_bins = data.draw(st.integers(1, 12))
  twin = equal_mass_twin if binning == "equal_mass" else equal_width_twin
  # Edges are rounded: at 1/3 a fraction and a float64 may differ.
  if binning == "equal_width":
    num_bins = data.draw(st.sampled_from([1, 2, 4, 8]))
  bins, gap = twin(confidence, hit, num_bins)
  got = calibration.reliability(confidence, hit, num_bins, binning)
  assert got.count.tolist() == [len(b) for b in bins]
  for j, members in enumerate(bins):
    if not members:
      assert np.isnan(got.accuracy[j]) and np.isnan(got.confidence[j])
      continue
    assert got.accuracy[j] == sum(h for _, h in members) / len(members)
    mean = float(sum(c for c, _ in members) / len(members))
    assert got.confidence[j] == pytest.approx(mean, rel=1e-13, abs=1e-300)
    low, high = got.edges[j], got.edges[j + 1]
    assert all(low < c <= high or (j == 0 and c == 0) for c, _ in members)
  error = calibration.ece(got)
  assert error == pytest.approx(gap, abs=1e-13)
  assert 0 <= error <= calibration.mce(got) + 1e-15 <= 1 + 1e-12
  order = data.draw(st.permutations(range(n)))
  again = calibration.reliability(
    confidence[order], hit[order], num_bins, binning
  )
  for field in ("edges", "count", "confidence", "accuracy"):
    np.testing.assert_array_equal(getattr(got, field), getattr(again, field))


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.data())
def test_equal_mass_differs_only_as_ties_force(data):
  n, num_bins = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 12))
  values = st.sampled_from(np.linspace(0, 1, data.draw(st.integers(2, 40))))
  confidence = data.draw(hnp.arrays(np.float64, n, elements=values))
  bins = calibration.reliability(
    confidence, np.ones(n, bool), num_bins, "equal_mass"
  )
  _, sizes = np.unique(confidence, return_counts=True)
  ends = np.cumsum(sizes)
  cuts = np.cumsum(bins.count)[:-1]
  ideal = np.arange(1, num_bins) * n / num_bins
  assert set(cuts) <= set(ends)
  for cut, wanted in zip(cuts, ideal, strict=True):
    # Half an example is the rounding of the places themselves.
    assert abs(cut - wanted) <= np.abs(ends - wanted).min() + 1
  if sizes.max() == 1 and n >= num_bins:
    assert bins.count.max() - bins.count.min() <= 1


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_classwise_equals_one_class_at_a_time(binning, dtype, monkeypatch):
  probs, labels = softmax_case(3, dtype=np.float32)
  if dtype != np.float32:
    # Eighths, which any type holds.
    rng = np.random.default_rng(0)
    probs = rng.multinomial(8, [0.2] * 5, size=len(labels)) / 8
  probs = probs.astype(dtype)
  labels[labels == 2] = 1
  monkeypatch.setattr(calibration, "_BLOCK", 2 * len(labels))
  result = calibration.classwise_ece(probs, labels, 6, binning)
  for k in range(5):
    column = probs[:, k].astype(np.float64)
    bins = calibration.reliability(column, labels == k, 6, binning)
    assert result.per_class[k] == calibration.ece(bins)
  # A class without examples gets the probability that it is given.
  absent = probs[:, 2].astype(np.float64).mean()
  assert result.per_class[2] == pytest.approx(absent, rel=1e-13)
  assert result.mean == pytest.approx(result.per_class.mean(), rel=1e-15)


def test_classwise_by_hand():
  probs = np.array([[0.75, 0.25]] * 4)
  result = calibration.classwise_ece(probs, np.array([0, 0, 0, 1]))
  assert result.per_class.tolist() == [0.0, 0.0] and result.mean == 0.0
  result = calibration.classwise_ece(probs, np.zeros(4, int))
  assert result.per_class.tolist() == [0.25, 0.25]


def test_memory_beyond_the_arguments_is_bounded():
  probs, labels = softmax_case(0, n=20000, num_classes=200)
  tracemalloc.start()
  try:
    calibration.classwise_ece(probs, labels, mask=labels > 3)
    calibration.brier(probs, labels)
    assert tracemalloc.get_traced_memory()[1] < 50e6
  finally:
    tracemalloc.stop()


def changed(row, values):
  probs = PROBS.copy()
  probs[row] = values
  return probs


@pytest.mark.parametrize(
  "score", [calibration.brier, calibration.nll, calibration.classwise_ece]
)
@pytest.mark.parametrize(
  "probs, labels, setting, given",
  [
    (PROBS[0], LABELS, "probs", [3]),
    (PROBS > 0, LABELS, "probs", "bool"),
    (PROBS, LABELS[:2], "labels", [2]),
    (PROBS, LABELS + 0.5, "labels", "float64"),
    (PROBS, LABELS + 2, "labels[1]", 3),
    (changed(1, [0, np.nan, 0]), LABELS, "probs[1, 1]", "nan"),
    (changed(2, [0, 1, np.inf]), LABELS, "probs[2, 2]", "inf"),
    (changed(2, [2, -1, 0]), LABELS, "probs[2, 0]", 2.0),
    (changed(0, [-0.1, 1, 0.1]), LABELS, "probs[0, 0]", -0.1),
    (changed(1, [0.5, 0.498, 0]), LABELS, "probs[1]", "0.998"),
  ],
)
def test_what_is_no_probability_is_refused(
  score, probs, labels, setting, given
):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    score(probs, labels)


def test_the_row_of_an_error_is_that_of_the_whole_array():
  mask = np.array([False, True, True])
  with pytest.raises(
    errors.InputError, check=raising.about("probs[2]", given="0")
  ):
    calibration.brier(changed(2, [0, 0, 0]), LABELS, mask)
  # Rounded sums pass.
  assert calibration.brier(changed(2, [0, 0.2505, 0.75]), LABELS) > 0


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (lambda c, h: calibration.reliability(c[None], h), "confidence", [1, 2]),
    (lambda c, h: calibration.reliability(c, h[:1]), "hit", [1]),
    (lambda c, h: calibration.reliability(c, h * 2), "hit", "int64"),
    (lambda c, h: calibration.reliability(c * 2, h), "confidence[1]", 1.5),
    (
      lambda c, h: calibration.reliability(c * np.nan, h),
      "confidence[0]",
      "nan",
    ),
    (lambda c, h: calibration.reliability(c, h, 0), "num_bins", 0),
    (
      lambda c, h: calibration.reliability(c, h, binning="mass"),
      "binning",
      "'mass'",
    ),
    (lambda c, h: calibration.reliability(c, h, mask=h[:1]), "mask", [1]),
    (
      lambda c, h: calibration.brier(PROBS, LABELS, np.full(3, 0.5)),
      "mask",
      "float64",
    ),
  ],
)
def test_bad_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call(np.array([0.25, 0.75]), np.array([True, False]))
