"""Tests of reconstruction errors and of anomalies found by them."""

import functools
import math

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import curves
from imgbench.metrics import reconstruction
from tests import raising

ERRORS = np.array([0.002, 0.0015, 0.005, 0.0008, 0.007])
UNIT = (0.0, 1.0)


def pair(dtype=np.float32, seed=0, shape=(4, 6, 5, 3)):
  rng = np.random.default_rng(seed)
  images, copies = rng.integers(0, 256, (2, *shape))
  if dtype == np.uint8:
    return images.astype(np.uint8), copies.astype(np.uint8)
  return (images / 256).astype(dtype), (copies / 256).astype(dtype)


def twin(images, copies, value_range):
  """MSE, MAE and PSNR of each image in plain Python."""
  low, high = value_range
  result = []
  for image, copy in zip(images, copies, strict=True):
    gaps = [
      float(a) - float(b)
      for a, b in zip(image.reshape(-1), copy.reshape(-1), strict=True)
    ]
    mse = sum(g * g for g in gaps) / len(gaps)
    mae = sum(abs(g) for g in gaps) / len(gaps)
    psnr = 10 * math.log10((high - low) ** 2 / mse) if mse else math.inf
    result.append((mse, mae, psnr))
  return np.array(result).T


def kernel(value_range):
  return jax.jit(
    functools.partial(
      reconstruction.reconstruction_errors, value_range=value_range
    )
  )


def test_errors_by_hand():
  images = np.zeros((4, 2, 1, 1), np.float32)
  copies = np.array([[0, 0], [0.5, 0.5], [1, 0], [1, 1]], np.float32)
  copies = copies.reshape(4, 2, 1, 1)
  result = kernel(UNIT)(images, copies)
  assert result.mse.tolist() == [0, 0.25, 0.5, 1]
  assert result.mae.tolist() == [0, 0.5, 0.5, 1]
  expected = [math.inf, 10 * math.log10(4), 10 * math.log10(2), 0]
  np.testing.assert_allclose(result.psnr, expected, rtol=1e-6)
  assert result.in_range.all()
  # An error of one tenth of the range is 20 dB, whatever the range.
  for low, high in [(0, 1), (-1, 1), (0, 255)]:
    flat = np.full((1, 3, 3, 1), low, np.float32)
    moved = flat + np.float32((high - low) / 10)
    psnr = kernel((low, high))(flat, moved).psnr
    np.testing.assert_allclose(psnr, [20], rtol=1e-6)


@pytest.mark.parametrize(
  "dtype, value_range",
  [
    (np.float32, UNIT),
    (np.float16, (0, 1)),
    (jnp.bfloat16, (-1, 1)),
    (np.float64, UNIT),
    (np.uint8, (0, 255)),
  ],
)
def test_errors_against_a_loop(dtype, value_range):
  images, copies = pair(dtype)
  copies[1] = images[1]
  expected = twin(images, copies, value_range)
  for got in (
    kernel(value_range)(images, copies),
    reconstruction.reconstruction_errors(
      images, copies, value_range=value_range
    ),
  ):
    for values in (got.mse, got.mae, got.psnr):
      assert values.dtype == np.float32
    # Float32 sums of 90 numbers; no wrap of uint8 differences.
    np.testing.assert_allclose(
      [got.mse, got.mae, got.psnr], expected, rtol=2e-6
    )
    assert got.psnr[1] == np.inf
    assert np.asarray(got.in_range).tolist() == [True] * 4


def test_mixed_types_are_compared_in_float32():
  images, _ = pair(np.uint8)
  got = kernel((0, 255))(images, images.astype(np.float32) + 0.0)
  assert got.mse.tolist() == [0] * 4


def test_masked_rows_may_hold_anything():
  images, copies = pair()
  images[2], copies[3] = np.nan, 1e30
  mask = np.array([True, True, False, False])
  masked = jax.jit(
    lambda a, b, m: reconstruction.reconstruction_errors(
      a, b, value_range=UNIT, mask=m
    )
  )(images, copies, mask)
  plain = kernel(UNIT)(images[:2], copies[:2])
  for field in ("mse", "mae", "psnr"):
    got = getattr(masked, field)
    np.testing.assert_array_equal(got[:2], getattr(plain, field))
    assert np.isnan(got[2:]).all()
  assert masked.in_range.all()


def test_values_outside_are_counted_under_jit():
  images, copies = pair()
  images[0, 0, 0, 0] = np.nan
  images[1, 0, 0, 0] = -0.001
  copies[2, 0, 0, 0] = np.inf
  images[3, 0, 0, 0], copies[3, 0, 0, 0] = 0, 1
  result = kernel(UNIT)(images, copies)
  assert result.in_range.tolist() == [False, False, False, True]
  assert np.isnan(result.mse[0]) and np.isnan(result.psnr[0])


@pytest.mark.parametrize(
  "images, copies, value_range, setting, given",
  [
    (np.zeros(3), np.zeros(3), UNIT, "images", [3]),
    (np.zeros((3, 0)), np.zeros((3, 0)), UNIT, "images", [3, 0]),
    (np.zeros((3, 2)), np.zeros((3, 1)), UNIT, "reconstructions", [3, 1]),
    (np.zeros((3, 2), int), np.zeros((3, 2)), UNIT, "images", "int32"),
    (np.zeros((3, 2)), np.zeros((3, 2), bool), UNIT, "reconstructions", "bool"),
    (np.zeros((3, 2)), np.zeros((3, 2)), (1, 0), "value_range", "(1, 0)"),
    (
      np.zeros((3, 2)),
      np.zeros((3, 2)),
      (0, math.inf),
      "value_range",
      "(0, inf)",
    ),
  ],
)
def test_bad_images_are_named(images, copies, value_range, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    kernel(value_range)(images, copies)


def test_bad_masks_are_named():
  call = functools.partial(
    reconstruction.reconstruction_errors, *pair(), value_range=UNIT
  )
  with pytest.raises(errors.InputError, check=raising.about("mask", given=[3])):
    call(mask=np.ones(3, bool))
  with pytest.raises(
    errors.InputError, check=raising.about("mask", given="float64")
  ):
    call(mask=np.full(4, 0.5))


def test_flagged_by_hand():
  # Images 3 and 5, counted from 1.
  assert reconstruction.find_anomalies(ERRORS, 0.004).tolist() == [2, 4]
  # Equal is not above.
  assert reconstruction.find_anomalies(ERRORS, 0.005).tolist() == [4]
  assert reconstruction.find_anomalies(ERRORS, 0.007).tolist() == []
  assert reconstruction.find_anomalies(ERRORS, -1).tolist() == [0, 1, 2, 3, 4]


def test_detection_by_hand():
  is_anomaly = np.array([1, 0, 0, 0, 1], bool)
  found = reconstruction.detect_anomalies(ERRORS, is_anomaly, 0.004)
  assert found.flagged.tolist() == [2, 4]
  point = found.point
  assert (point.tp, point.fp, point.fn, point.tn) == (1, 1, 1, 2)
  assert (point.precision, point.recall, point.f1) == (0.5, 0.5, 0.5)
  assert point.threshold == 0.004
  normal = np.zeros(5, bool)
  point = reconstruction.detect_anomalies(ERRORS, normal, 0.004).point
  assert point.fp == 2 and point.recall is None


def test_sweep_by_hand():
  is_anomaly = np.array([1, 0, 0, 0, 1], bool)
  sweep = reconstruction.threshold_sweep(ERRORS, is_anomaly)
  assert sweep.thresholds[:-1].tolist() == sorted(ERRORS, reverse=True)
  assert 0.0007 < sweep.thresholds[-1] < 0.0008
  assert sweep.true_positives.tolist() == [0, 1, 1, 2, 2, 2]
  assert sweep.false_positives.tolist() == [0, 0, 1, 1, 2, 3]
  assert math.isnan(sweep.precision[0]) and sweep.recall[0] == 0
  assert sweep.precision[1:].tolist() == [1, 1 / 2, 2 / 3, 2 / 4, 2 / 5]
  chosen = reconstruction.threshold_sweep(
    ERRORS, is_anomaly, [0.004, 0.005, 0.0049, 1, -1]
  )
  assert chosen.thresholds.tolist() == [0.004, 0.005, 0.0049, 1, -1]
  assert chosen.true_positives.tolist() == [1, 1, 1, 0, 2]
  assert chosen.false_positives.tolist() == [1, 0, 1, 0, 3]
  empty = reconstruction.threshold_sweep(np.zeros(0), np.zeros(0, bool))
  assert empty.thresholds.shape == empty.recall.shape == (0,)


@hypothesis.settings(deadline=None, max_examples=80)
@hypothesis.given(st.data())
def test_sweep_is_every_threshold_on_its_own(data):
  n = data.draw(st.integers(1, 20))
  values = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, np.inf]), st.floats(0, 1, width=32)
  )
  found = data.draw(hnp.arrays(np.float32, n, elements=values))
  is_anomaly = data.draw(hnp.arrays(bool, n))
  thresholds = data.draw(
    st.none() | st.lists(st.sampled_from([-1.0, *found.tolist(), 0.25]))
  )
  sweep = reconstruction.threshold_sweep(found, is_anomaly, thresholds)
  pairs = list(zip(found.tolist(), is_anomaly.tolist(), strict=True))
  for j, threshold in enumerate(sweep.thresholds.tolist()):
    flagged = [a for e, a in pairs if e > threshold]
    assert sweep.true_positives[j] == sum(flagged)
    assert sweep.false_positives[j] == len(flagged) - sum(flagged)
    one = reconstruction.detect_anomalies(found, is_anomaly, threshold)
    assert one.point.tp == sum(flagged)
    assert one.point.flagged == len(one.flagged) == len(flagged)
    for field in ("precision", "recall", "f1"):
      rate = getattr(one.point, field)
      np.testing.assert_equal(
        getattr(sweep, field)[j], math.nan if rate is None else rate
      )
  if thresholds is None:
    # From nothing to everything, no set twice.
    totals = sweep.true_positives + sweep.false_positives
    assert totals[0] == 0 and totals[-1] == n
    assert (np.diff(totals) > 0).all()
    curve = curves.precision_recall_curve(found, is_anomaly)
    np.testing.assert_array_equal(sweep.recall[1:], curve.recall)


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (
      lambda e, a: reconstruction.find_anomalies(e * np.nan, 0.1),
      "errors[0]",
      "nan",
    ),
    (
      lambda e, a: reconstruction.threshold_sweep(e * np.nan, a),
      "errors[0]",
      "nan",
    ),
    (
      lambda e, a: reconstruction.threshold_sweep(e, a, [0.1, np.nan]),
      "thresholds[1]",
      "nan",
    ),
    (lambda e, a: reconstruction.threshold_sweep(e, a, 0.1), "thresholds", []),
    (
      lambda e, a: reconstruction.detect_anomalies(e, a[1:], 0.1),
      "is_anomaly",
      [4],
    ),
    (
      lambda e, a: reconstruction.detect_anomalies(e, a * 2, 0.1),
      "is_anomaly",
      "int64",
    ),
    (
      lambda e, a: reconstruction.detect_anomalies(e, a, np.nan),
      "threshold",
      "nan",
    ),
    (lambda e, a: reconstruction.find_anomalies(e, e), "threshold", ERRORS),
    (
      lambda e, a: reconstruction.find_anomalies(e[None], 0.1),
      "errors",
      [1, 5],
    ),
  ],
)
def test_bad_detections_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call(ERRORS, np.array([1, 0, 0, 0, 1], bool))


def test_a_threshold_is_chosen_on_one_split_and_judged_on_another():
  truth = np.array([False, False, True, False, True])
  threshold = reconstruction.threshold_for_recall(ERRORS, truth, 1.0)
  # The highest error that is not flagged.
  assert threshold == 0.002
  assert reconstruction.threshold_for_recall(ERRORS, truth, 0.5) == 0.005
  # At the 0.004 of the known case, images 3 and 5.
  assert (reconstruction.find_anomalies(ERRORS, 0.004) + 1).tolist() == [3, 5]
  judged = reconstruction.detect_anomalies(
    np.array([0.002, 0.003, 0.001]), np.array([True, False, True]), threshold
  )
  assert judged.flagged.tolist() == [1]
  assert (judged.point.recall, judged.point.precision) == (0, 0)
  everything = reconstruction.threshold_for_recall(ERRORS, ERRORS > 0, 1)
  assert len(reconstruction.find_anomalies(ERRORS, everything)) == 5


@pytest.mark.parametrize(
  ("truth", "wanted", "setting"),
  [
    (np.zeros(5, bool), 0.5, "is_anomaly"),
    (ERRORS > 0.004, 0, "wanted"),
    (ERRORS > 0.004, 1.5, "wanted"),
  ],
)
def test_no_threshold_without_an_anomaly_or_a_rate(truth, wanted, setting):
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    reconstruction.threshold_for_recall(ERRORS, truth, wanted)


def test_overlap_is_that_of_bins_with_equal_numbers():
  rising = np.arange(200.0)
  assert reconstruction.overlap(rising, rising >= 100) == 0
  # In each bin of ten, five of either.
  assert reconstruction.overlap(rising, rising % 2 == 0) == 1
  # The quarter from 50 to 100 is shared: half of the normal ones (2 of 4
  # parts) and a third of the abnormal ones.
  mixed = (rising >= 100) | ((rising >= 50) & (rising % 2 == 0))
  assert reconstruction.overlap(rising, mixed) == pytest.approx(25 / 125)
  # Monotone transforms change nothing, and equal errors share a bin.
  assert reconstruction.overlap(np.exp(rising), mixed) == pytest.approx(0.2)
  assert reconstruction.overlap(np.zeros(6), np.arange(6) < 2) == 1
  assert np.isnan(reconstruction.overlap(ERRORS, ERRORS > 1))
