"""Tests of temperature scaling: by hand, a twin, multiplied logits."""

import numpy as np
import pytest
from scipy import optimize

from imgbench.metrics import calibration
from imgbench.metrics import temperature


def softmax(logits):
  powers = np.exp(logits - logits.max(axis=1, keepdims=True))
  return powers / powers.sum(axis=1, keepdims=True)


def first_half(n):
  return np.random.default_rng(0).permutation(n) < n // 2


def draw(n=4000, factor=1.0, num_classes=10):
  """Logits whose softmax is the distribution of the labels, multiplied."""
  rng = np.random.default_rng(1)
  logits = 2 * rng.normal(size=(n, num_classes))
  sums = softmax(logits).cumsum(axis=1)
  labels = (rng.random((n, 1)) > sums).sum(axis=1).clip(max=num_classes - 1)
  return factor * logits, labels


def scale(logits, labels, mask=None, dtype=np.float64):
  probs = softmax(logits)
  shifted = logits - logits.max(axis=1, keepdims=True)
  nll = np.log(np.exp(shifted).sum(axis=1))
  nll -= shifted[np.arange(len(labels)), labels]
  hit = probs.argmax(axis=1) == labels
  mask = np.ones(len(labels), bool) if mask is None else mask
  return temperature.scale(probs.astype(dtype), nll, hit, mask)


def test_by_hand():
  # 90% confident, 3 of 4 right: T = ln(9) / ln(3).
  hit = np.ones(8, bool)
  half = first_half(8)
  hit[[np.flatnonzero(half)[0], np.flatnonzero(~half)[0]]] = False
  logits = np.tile(np.log([0.9, 0.1]), (8, 1))
  found = scale(logits, (~hit).astype(int))
  assert found.value == pytest.approx(2)
  before, after = (nll.mean() for nll in found.nll)
  assert before == pytest.approx(-0.75 * np.log(0.9) - 0.25 * np.log(0.1))
  assert after == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
  errors = [calibration.ece(bins) for bins in found.bins]
  assert errors == pytest.approx([0.15, 0], abs=1e-9)
  assert [bins.count.sum() for bins in found.bins] == [4, 4]


def test_multiplied_logits_have_a_multiple_of_the_temperature():
  plain = scale(*draw())
  assert plain.value == pytest.approx(1, abs=0.05)
  assert plain.interval[0] < 1 < plain.interval[1]
  for factor in (1 / 3, 3):
    found = scale(*draw(factor=factor), dtype=np.float32)
    assert found.value == pytest.approx(factor * plain.value, rel=1e-5)
    np.testing.assert_allclose(found.nll[1], plain.nll[1], rtol=1e-4)
    before, after = map(calibration.ece, found.bins)
    assert before > 0.2 and after < 0.03


def test_against_a_slow_twin(monkeypatch):
  monkeypatch.setattr(calibration, "_BLOCK", 70)
  logits, labels = draw(n=90, factor=2.0, num_classes=4)
  mask = np.arange(90) % 7 > 0
  logits[~mask], labels[~mask] = np.nan, -1
  rows = [i for i in range(90) if mask[i] and first_half(90)[i]]

  def loss(log_t):
    scaled = logits / np.exp(log_t)
    return sum(
      np.log(np.exp(scaled[i]).sum()) - scaled[i, labels[i]] for i in rows
    )

  twin = optimize.minimize_scalar(loss, (-2, 2), tol=1e-12)
  found = scale(logits, labels, mask)
  assert np.log(found.value) == pytest.approx(twin.x, abs=1e-6)
  assert len(found.nll[0]) == mask.sum() - len(rows)


def test_a_label_of_float32_probability_0():
  logits, labels = draw(factor=5.0)
  first = np.argmax(first_half(len(labels)))
  logits[first, labels[first]] -= 200
  exact = scale(logits, labels)
  probs = softmax(logits).astype(np.float32)
  assert probs[first, labels[first]] == 0
  found = scale(logits, labels, dtype=np.float32)
  assert found.value == pytest.approx(exact.value, rel=1e-3)


@pytest.mark.parametrize("case", ["right", "wrong", "one", "none"])
def test_without_a_best_temperature(case):
  logits, labels = draw(n=50)
  right = logits.argmax(axis=1)
  given = {"right": right, "wrong": logits.argmin(axis=1)}.get(case, labels)
  mask = np.arange(50) < {"one": 1, "none": 0}.get(case, 50)
  assert scale(logits, given, mask) is None
