"""Tests of the losses."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import losses


def twin(logits, label, smoothing):
  """The definition in float64, one row after the other."""
  result = []
  for row, right in zip(np.asarray(logits, np.float64), label, strict=True):
    possible = np.isfinite(row)
    probability = np.exp(row - row[possible].max())
    probability /= probability.sum()
    target = possible * smoothing / possible.sum()
    target[right] += 1 - smoothing
    # A class without a share costs nothing, however unlikely it is.
    used = target > 0
    with np.errstate(divide="ignore"):
      result.append(-(target[used] * np.log(probability[used])).sum())
  return np.array(result)


def test_hand_worked_values():
  logits = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]))
  label = jnp.array([1, 0, 1])
  plain = losses.softmax_cross_entropy(logits, label)
  np.testing.assert_allclose(
    plain, [-np.log(0.8), np.log(2), -np.log(0.1)], rtol=1e-6
  )
  # With s = 0.2 and two classes the target is 0.9 and 0.1.
  smoothed = losses.softmax_cross_entropy(logits, label, 0.2)
  expected = [
    -0.9 * np.log(0.8) - 0.1 * np.log(0.2),
    np.log(2),
    -0.9 * np.log(0.1) - 0.1 * np.log(0.9),
  ]
  np.testing.assert_allclose(smoothed, expected, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.1, 0.5]))
def test_agrees_with_the_definition(seed, smoothing):
  rng = np.random.default_rng(seed)
  logits = rng.normal(scale=5, size=(6, 5)).astype(np.float32)
  label = rng.integers(5, size=6, dtype=np.int32)
  # Class masks: some wrong classes are ruled out.
  ruled_out = rng.random((6, 5)) < 0.3
  ruled_out[np.arange(6), label] = False
  logits[ruled_out] = -np.inf
  got = losses.softmax_cross_entropy(logits, label, smoothing)
  np.testing.assert_allclose(
    got, twin(logits, label, smoothing), rtol=2e-5, atol=1e-6
  )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_at_minus_infinity(smoothing):
  logits = jnp.array([[1.0, -jnp.inf, 0.0], [1.0, -jnp.inf, 0.0]])
  label = jnp.array([0, 1])
  loss = losses.softmax_cross_entropy(logits, label, smoothing)
  assert np.isfinite(loss[0]) and loss[1] == np.inf
  # What is ruled out neither pulls nor spoils the gradient.
  total = lambda x: losses.softmax_cross_entropy(x, label, smoothing)[0]
  grad = jax.grad(total)(logits)
  assert np.isfinite(grad).all() and grad[0, 1] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_that_are_not_finite_show(bad, smoothing):
  logits = jnp.array([[1.0, bad, 0.0], [1.0, 2.0, 0.0]])
  loss = losses.softmax_cross_entropy(logits, jnp.array([0, 0]), smoothing)
  assert not np.isfinite(loss[0]) and np.isfinite(loss[1])


def test_large_logits_and_half_precision():
  logits = jnp.array([[1e4, 0.0], [0.0, 1e4]], jnp.bfloat16)
  loss = losses.softmax_cross_entropy(logits, jnp.array([0, 0]))
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, [0.0, 1e4], rtol=5e-3)


def test_gradient_is_probability_minus_target():
  logits = jnp.array([[0.3, -1.0, 2.0]])
  loss = lambda x: losses.softmax_cross_entropy(x, jnp.array([2]), 0.3)[0]
  target = np.array([0.1, 0.1, 0.8])
  np.testing.assert_allclose(
    jax.grad(loss)(logits)[0], jax.nn.softmax(logits)[0] - target, atol=1e-6
  )


@pytest.mark.parametrize(
  ("logits", "label"),
  [
    (jnp.zeros((2, 3)), jnp.zeros((3,), jnp.int32)),
    (jnp.zeros((3,)), jnp.zeros((3,), jnp.int32)),
    (jnp.zeros((2, 3)), jnp.zeros((2, 3), jnp.int32)),
    (jnp.zeros((2, 3)), jnp.zeros((2,))),
    (jnp.zeros((2, 3), jnp.int32), jnp.zeros((2,), jnp.int32)),
  ],
)
def test_wrong_shapes_and_types_are_refused(logits, label):
  with pytest.raises(AssertionError):
    losses.softmax_cross_entropy(logits, label)
