"""Tests of the losses."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import losses
from imgbench import parallel
from tests import raising

BOTH = (losses.softmax_cross_entropy, losses.sigmoid_cross_entropy)


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


@pytest.mark.smoke
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


def twin_of_targets(loss, logits, target):
  """Both definitions over a whole matrix of targets, in float64."""
  logits = np.asarray(logits, np.float64)
  with np.errstate(divide="ignore", invalid="ignore"):
    if loss is losses.softmax_cross_entropy:
      odds = np.exp(logits)
      cost = -np.log(odds / odds.sum(axis=1, keepdims=True))
      parts = np.where(target > 0, target * cost, 0)
    else:
      probability = 1 / (1 + np.exp(-logits))
      parts = np.where(target > 0, -target * np.log(probability), 0)
      parts += np.where(target < 1, -(1 - target) * np.log1p(-probability), 0)
  return parts.sum(axis=1)


@settings(deadline=None, max_examples=20)
@given(
  st.integers(0, 2**31 - 1),
  st.sampled_from([0.0, 0.1]),
  st.sampled_from(BOTH),
)
def test_two_labels_agree_with_a_matrix_of_targets(seed, smoothing, loss):
  rng = np.random.default_rng(seed)
  logits = rng.normal(scale=3, size=(8, 5)).astype(np.float32)
  first, second = rng.integers(5, size=(2, 8), dtype=np.int32)
  weight = rng.random(8, dtype=np.float32)
  weight[:2] = 0, 1
  ruled_out = rng.random((8, 5)) < 0.3
  for label in (first, second):
    ruled_out[np.arange(8), label] = False
  logits[ruled_out] = -np.inf
  possible = ~ruled_out
  target = possible * (smoothing / possible.sum(axis=1, keepdims=True))
  np.add.at(target, (np.arange(8), first), (1 - smoothing) * weight)
  np.add.at(target, (np.arange(8), second), (1 - smoothing) * (1 - weight))
  got = loss(logits, first, smoothing, second=second, weight=weight)
  assert got.dtype == jnp.float32
  expected = twin_of_targets(loss, logits, target)
  np.testing.assert_allclose(got, expected, rtol=5e-5, atol=5e-6)
  # All of the weight on one label is that label alone.
  alone = loss(logits, first, smoothing)
  whole = loss(logits, first, smoothing, second=second, weight=1.0)
  np.testing.assert_allclose(whole, alone, rtol=1e-6, atol=1e-6)
  twice = loss(logits, first, smoothing, second=first, weight=weight)
  np.testing.assert_allclose(twice, alone, rtol=1e-5, atol=1e-6)


def test_two_labels_by_hand():
  logits = jnp.log(jnp.array([[0.2, 0.3, 0.5]]))
  label, second = jnp.array([2]), jnp.array([0])
  mixed = losses.softmax_cross_entropy(logits, label, second=second, weight=0.7)
  expected = -0.7 * np.log(0.5) - 0.3 * np.log(0.2)
  np.testing.assert_allclose(mixed, [expected], rtol=1e-6)
  # With s = 0.3 every class gets 0.1, the labels 0.49 and 0.21 more.
  smooth = losses.softmax_cross_entropy(
    logits, label, 0.3, second=second, weight=0.7
  )
  target = np.array([0.31, 0.1, 0.59])
  expected = -target @ np.log([0.2, 0.3, 0.5])
  np.testing.assert_allclose(smooth, [expected], rtol=1e-6)


def test_sigmoid_by_hand():
  # Odds of 3 and 1/4: probabilities of 3/4 and 1/5.
  logits = jnp.log(jnp.array([[3.0, 0.25]]))
  plain = losses.sigmoid_cross_entropy(logits, jnp.array([0]))
  np.testing.assert_allclose(plain, [-np.log(0.75 * 0.8)], rtol=1e-6)
  nothing = losses.sigmoid_cross_entropy(jnp.zeros((1, 10)), jnp.array([3]))
  np.testing.assert_allclose(nothing, [10 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("loss", BOTH)
def test_a_label_without_a_share_costs_nothing(loss):
  logits = jnp.array([[1.0, -jnp.inf, 0.0]] * 2)
  first, second = jnp.array([0, 0]), jnp.array([1, 1])
  weight = jnp.array([1.0, 0.9])
  total = lambda x: loss(x, first, second=second, weight=weight)
  got = total(logits)
  assert np.isfinite(got[0]) and got[1] == np.inf
  grad = jax.grad(lambda x: total(x)[0])(logits)
  assert np.isfinite(grad).all() and grad[0, 1] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("loss", BOTH)
def test_rows_of_two_labels_that_are_not_finite_show(bad, loss):
  logits = jnp.array([[1.0, bad, 0.0], [1.0, 2.0, 0.0]])
  label = jnp.array([0, 0])
  got = loss(logits, label, second=jnp.array([2, 2]), weight=0.5)
  assert not np.isfinite(got[0]) and np.isfinite(got[1])


@pytest.mark.parametrize("loss", BOTH)
def test_gradient_of_two_labels_is_probability_minus_target(loss):
  logits = jnp.array([[0.3, -1.0, 2.0]])

  def total(x):
    return loss(x, jnp.array([2]), 0.3, second=jnp.array([1]), weight=0.75)[0]

  probability = {
    losses.softmax_cross_entropy: jax.nn.softmax(logits)[0],
    losses.sigmoid_cross_entropy: jax.nn.sigmoid(logits)[0],
  }[loss]
  target = np.array([0.1, 0.1 + 0.7 * 0.25, 0.1 + 0.7 * 0.75])
  np.testing.assert_allclose(
    jax.grad(total)(logits)[0], probability - target, atol=1e-6
  )


@pytest.mark.parametrize("loss", BOTH)
def test_two_labels_of_a_sharded_batch(loss):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(16, 6)).astype(np.float32)
  first, second = rng.integers(6, size=(2, 16), dtype=np.int32)
  weight = rng.random(16, dtype=np.float32)

  def value_and_gradient(logits, first, second, weight):
    total = lambda x: loss(x, first, 0.1, second=second, weight=weight)
    return total(logits), jax.grad(lambda x: total(x).sum())(logits)

  results = []
  for devices in (1, 8):
    strategy = parallel.create_strategy("jit", devices)
    arrays = strategy.shard_batch((logits, first, second, weight))
    results.append(strategy.jit(value_and_gradient)(*arrays))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
    *results,
  )


@pytest.mark.parametrize("loss", BOTH)
def test_a_step_keeps_no_matrix_of_targets(loss):
  rows, classes = 1024, 2048

  def total(x, first, second, weight):
    return loss(x, first, 0.1, second=second, weight=weight).mean()

  shape = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype)
  label = shape((rows,), jnp.int32)
  compiled = (
    jax.jit(jax.grad(total))
    .lower(
      shape((rows, classes), jnp.float32),
      label,
      label,
      shape((rows,), jnp.float32),
    )
    .compile()
  )
  # A few numbers for each row; the matrix would be 8 MiB.
  temporary = compiled.memory_analysis().temp_size_in_bytes
  assert temporary < 0.1 * 4 * rows * classes


def test_two_labels_of_wrong_shapes_and_types_are_refused():
  logits, label = jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32)
  call = lambda **more: losses.softmax_cross_entropy(logits, label, **more)
  for more in (
    dict(second=jnp.zeros(3, jnp.int32), weight=1.0),
    dict(second=jnp.zeros(2), weight=1.0),
    dict(second=label, weight=jnp.ones(3)),
    dict(second=label, weight=jnp.ones(2, jnp.int32)),
  ):
    with pytest.raises(AssertionError):
      call(**more)
  for more in (dict(second=label), dict(weight=0.5)):
    with pytest.raises(TypeError, match="second"):
      call(**more)


def weigh(wanted, count, names="abc"):
  return losses.find_class_weights(wanted, np.array(count), tuple(names))


def test_weights_of_classes_by_hand():
  # N / (K n_k) = 100 / (2 n_k); the class without examples counts as one.
  balanced = weigh("balanced", [80, 20, 0])
  np.testing.assert_allclose(balanced[:2], [0.625, 2.5])
  np.testing.assert_allclose(
    weigh((1, 3, 2), [2, 1, 1]), [4 / 7, 12 / 7, 8 / 7]
  )
  np.testing.assert_allclose(weigh({"b": 3.0}, [1, 1, 2]), [2 / 3, 2, 2 / 3])
  # One of 1,000,000 has the weight 50, not 500,000, before it is scaled.
  rare = weigh("balanced", [999_999, 1], "ab")
  np.testing.assert_allclose(rare[1] / rare[0], 50 / (10**6 / 2 / 999_999))
  for wanted, count in (("balanced", [5, 1, 9]), ((9, 1, 2), [5, 1, 9])):
    assert np.average(weigh(wanted, count), weights=count) == pytest.approx(1)


@pytest.mark.parametrize(
  "wanted",
  ["balance", (1.0, 2.0), (1.0, 2.0, 0.0), (1.0, -1.0, 1.0), {"d": 2.0}],
)
def test_bad_weights_of_classes_are_refused(wanted):
  check = raising.about("class_weights", given=repr(wanted))
  with pytest.raises(errors.InputError, check=check):
    weigh(wanted, [1, 1, 1])


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_weighted_losses_of_plain_and_mixed_labels(name):
  plain = losses.LOSSES.build(name, label_smoothing=0.1)
  weights = np.array([0.5, 1.0, 4.0])
  weighted = losses.weight_classes(plain, weights)
  logits = jax.random.normal(jax.random.key(0), (4, 3))
  label, second = jnp.array([0, 1, 2, 2]), jnp.array([2, 0, 2, 1])
  of_label, of_second = (plain(logits, {"label": x}) for x in (label, second))
  found = jax.jit(weighted)(logits, {"label": label})
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, weights[label] * of_label, rtol=1e-6)
  share = jnp.array([0.5, 0.75, 1.0, 0.9])
  mixed = {"label": label, "second": second, "weight": share}
  expected = share * weights[label] * of_label
  expected += (1 - share) * weights[second] * of_second
  np.testing.assert_allclose(weighted(logits, mixed), expected, rtol=1e-6)
  # Equal weights change nothing.
  same = losses.weight_classes(plain, np.ones(3))(logits, mixed)
  np.testing.assert_allclose(same, plain(logits, mixed), rtol=1e-5)


def test_losses_of_images_by_hand():
  outputs = jnp.zeros((2, 1, 2, 1))
  image = jnp.array([[0.5, -0.5], [1.0, 0.0]]).reshape(2, 1, 2, 1)
  for name, expected in (("mse", [0.25, 0.5]), ("mae", [0.5, 0.5])):
    loss = losses.LOSSES.build(name)
    assert loss.reconstructs and not loss.predicts_classes
    assert loss.metric == name
    found = jax.jit(loss)(outputs.astype(jnp.bfloat16), {"image": image})
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(AssertionError):
      loss(outputs[:, 0], {"image": image})
