"""Tests of outcomes per example."""

import math

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import outcomes as outcomes_lib
from tests import raising
from tests.metrics import twins

NAN, INF = np.nan, np.inf

outcomes = jax.jit(outcomes_lib.outcomes)


def test_by_hand():
  # Probabilities 1/8, 1/8, 1/4, 1/2.
  logits = np.log([[1.0, 1.0, 2.0, 4.0]]).astype(np.float32)
  codes = np.array([[3, 0, 1, 2]], np.int8)
  result = outcomes(logits, np.array([1], np.int32), codes)
  assert result.top5.tolist() == [[3, 2, 0, 1, -1]]
  np.testing.assert_allclose(
    result.top5_prob, [[0.5, 0.25, 0.125, 0.125, NAN]], rtol=1e-6
  )
  assert result.top1.tolist() == [3]
  assert result.label_rank.tolist() == [3]
  assert result.code.tolist() == [2]
  assert result.top5_code.tolist() == [[2, 1, 3, 0, -1]]
  # (1/8)^2 + (1 - 1/8)^2 + (1/4)^2 + (1/2)^2
  np.testing.assert_allclose(result.brier, [70 / 64], rtol=1e-6)
  np.testing.assert_allclose(result.nll, [math.log(8)], rtol=1e-6)
  assert result.finite.tolist() == [True]
  assert (result.num_classes, result.width, result.with_sets) == (4, 4, True)
  dtypes = {
    f: str(a.dtype) for f, a in vars(result).items() if isinstance(a, jax.Array)
  }
  assert dtypes == {
    "top1": "int32",
    "top5": "int32",
    "top5_prob": "float32",
    "label_rank": "int32",
    "code": "int8",
    "top5_code": "int8",
    "nll": "float32",
    "brier": "float32",
    "finite": "bool",
  }


@pytest.mark.parametrize("broken", [NAN, INF])
def test_row_that_is_not_finite_predicts_nothing(broken):
  logits = np.array([[1.0, broken, 0.0], [1.0, 2.0, 0.0]], np.float32)
  codes = np.full((2, 3), 3, np.int8)
  result = outcomes(logits, np.array([1, 1]), codes)
  assert result.finite.tolist() == [False, True]
  assert result.top5.tolist() == [[-1] * 5, [1, 0, 2, -1, -1]]
  assert np.isnan(result.top5_prob[0]).all()
  assert result.label_rank.tolist() == [3, 0]
  assert result.code.tolist() == [-1, 3]
  for field in (result.nll, result.brier):
    assert np.isnan(field[0]) and np.isfinite(field[1])


def test_without_a_label_set_the_code_is_unreviewed():
  logits = np.array([[1.0, 2.0], [NAN, 0.0]], np.float32)
  assert outcomes(logits, np.array([0, 0])).code.tolist() == [0, -1]


def test_label_at_minus_infinity_has_infinite_nll():
  result = outcomes(np.array([[-INF, 0.0]], np.float32), np.array([0]))
  assert result.nll.tolist() == [INF]
  assert result.top5_prob[0, 0] == 1.0


def test_label_outside_has_no_nll():
  result = outcomes(np.zeros((2, 3), np.float32), np.array([-1, 3]))
  assert np.isnan(result.nll).all()
  assert result.label_rank.tolist() == [3, 3]


def test_nll_of_large_logits_keeps_its_digits():
  logits = np.array([[1e6, 1e6], [3e38, 3e38]], np.float32)
  result = outcomes(logits, np.array([1, 0]))
  np.testing.assert_allclose(result.nll, [math.log(2)] * 2, rtol=1e-6)
  np.testing.assert_allclose(result.top5_prob[:, :2], 0.5, rtol=1e-6)


@pytest.mark.smoke
@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(twins.batches())
def test_agrees_with_the_slow_twin(batch):
  logits, labels, codes, *_, mask = batch
  labels = np.where(mask, labels, 0)
  result = jax.device_get(outcomes(logits, labels, codes))
  for i, row in enumerate(logits):
    top = twins.top(row, 5)
    assert result.top5[i].tolist() == top
    assert result.label_rank[i] == twins.rank(row, labels[i])
    assert result.finite[i] == twins.is_finite(row)
    assert result.top1[i] == top[0]
    own = [codes[i, c] if c >= 0 else -1 for c in top]
    assert result.code[i] == own[0]
    assert result.top5_code[i].tolist() == own
    # Sum of at most 7 squares; what is nearly 0 is 1 - 1.
    np.testing.assert_allclose(
      result.brier[i], twins.brier(row, labels[i]), rtol=2e-6, atol=1e-6
    )
    prob = twins.softmax(row) if twins.is_finite(row) else []
    expected = [prob[c] if c >= 0 else NAN for c in top]
    # Float32 exp and sum of at most 7 terms; subnormal results become 0.
    np.testing.assert_allclose(
      result.top5_prob[i], expected, rtol=2e-6, atol=1e-37
    )
    # Differences of scores above float32's range are infinite.
    nll = twins.nll(row, labels[i])
    nll = INF if nll > 3.4e38 else nll
    np.testing.assert_allclose(result.nll[i], nll, rtol=2e-6, atol=1e-6)
    assert not result.nll[i] < 0


ranking_outcomes = jax.jit(outcomes_lib.from_ranking, static_argnums=2)


def test_rankings_by_hand():
  ranking = np.array([[4, 2, 0], [1, 0, 3], [-1, -1, -1]])
  codes = np.array([[3, 0, 2, 0, 1]] * 3, np.int8)
  result = ranking_outcomes(ranking, np.array([2, 4, 0]), 5, codes)
  assert result.top1.tolist() == [4, 1, -1]
  assert result.top5.tolist() == [
    [4, 2, 0, -1, -1],
    [1, 0, 3, -1, -1],
    [-1] * 5,
  ]
  assert result.label_rank.tolist() == [1, 5, 5]
  assert result.code.tolist() == [1, 0, -1]
  assert result.top5_code.tolist() == [
    [1, 2, 3, -1, -1],
    [0, 3, 0, -1, -1],
    [-1] * 5,
  ]
  assert result.finite.tolist() == [True, True, False]
  assert np.isnan(result.nll).all() and np.isnan(result.top5_prob).all()


@pytest.mark.parametrize("width", [1, 3, 7])
@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(batch=twins.batches(num_classes=(7,)))
def test_the_ranking_of_logits_gives_their_outcomes(width, batch):
  logits, labels, codes, *_, mask = batch
  labels = np.where(mask, labels, 0)
  ranking = np.array([twins.top(row, width) for row in logits])
  got = ranking_outcomes(ranking, labels, 7, codes)
  want = outcomes(logits, labels, codes)
  assert got.top1.tolist() == want.top1.tolist()
  assert got.code.tolist() == want.code.tolist()
  known = min(width, 5)
  assert got.top5[:, :known].tolist() == want.top5[:, :known].tolist()
  for k in range(1, width + 1):
    hits = [(np.asarray(o.label_rank) < k) for o in (got, want)]
    assert hits[0].tolist() == (hits[1] & (want.label_rank < 7)).tolist()


@pytest.mark.parametrize(
  "ranking, setting, given",
  [
    ([[0, 1], [2, 5]], "ranking[1]", 5),
    ([[0, -2]], "ranking[0]", -2),
    ([[2**32 + 1, 0]], "ranking[0]", 4294967297),
    ([[0, 1, 2], [3, -1, 1]], "ranking[1]", [3, -1, 1]),
    ([[4, 0, 4]], "ranking[0]", [4, 0, 4]),
  ],
)
def test_what_is_no_ranking_is_refused(ranking, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    outcomes_lib.from_ranking(np.array(ranking), np.zeros(len(ranking), int), 5)


def test_a_compiled_ranking_that_begins_with_none_has_no_hit():
  result = ranking_outcomes(jnp.array([[-1, 3, -1]]), jnp.array([3]), 5)
  assert result.label_rank.tolist() == [5] and not result.finite[0]


@pytest.mark.parametrize("label", [2**32 + 1, -(2**32) + 1])
def test_labels_that_would_wrap_are_refused(label):
  check = raising.about("labels", given=label)
  with pytest.raises(errors.InputError, check=check):
    outcomes_lib.outcomes(np.zeros((1, 3), np.float32), np.array([label]))


def test_codes_that_are_none_are_refused():
  logits, labels = np.zeros((1, 3), np.float32), np.zeros(1, int)
  for code in (4, -1):
    codes = np.array([[0, code, 3]], np.int8)
    check = raising.about("label_codes", expected="codes in [0, 3]", given=code)
    with pytest.raises(errors.InputError, check=check):
      outcomes_lib.outcomes(logits, labels, codes)


def test_brier_keeps_its_digits_where_the_model_is_sure():
  logits = np.array([[20.0, 0.0, 0.0]], np.float32)
  result = outcomes(logits, np.array([0]))
  p = 1 / (1 + 2 * math.exp(-20))
  expected = (2 * math.exp(-20) * p) ** 2 + 2 * (math.exp(-20) * p) ** 2
  np.testing.assert_allclose(result.brier, [expected], rtol=1e-5)


def test_probabilities_by_hand():
  logits = np.log([[1.0, 3.0], [2.0, 2.0], [1.0, 1.0]]).astype(np.float32)
  logits[2, 0] = NAN
  np.testing.assert_allclose(
    outcomes_lib.probabilities(logits),
    [[0.25, 0.75], [0.5, 0.5], [NAN, NAN]],
    rtol=1e-6,
  )


def test_bfloat16_is_read_without_loss():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(16, 20)), jnp.bfloat16)
  labels = rng.integers(0, 20, 16)
  chex.assert_trees_all_equal(
    outcomes(logits, labels), outcomes(logits.astype(jnp.float32), labels)
  )


def test_one_trace_and_equal_to_plain_under_strict_promotion():
  traced = jax.jit(chex.assert_max_traces(outcomes_lib.outcomes, n=1))
  rng = np.random.default_rng(0)
  with jax.numpy_dtype_promotion("strict"):
    for _ in range(2):
      logits = rng.integers(0, 5, (8, 6)).astype(np.float32)
      args = (logits, rng.integers(0, 6, 8), np.ones((8, 6), np.int8))
      # Compiled exp and log may differ in the last digits.
      chex.assert_trees_all_close(
        traced(*args), outcomes_lib.outcomes(*args), rtol=1e-6
      )


@pytest.mark.parametrize(
  "arguments, setting, given",
  [
    ((np.zeros(3, np.float32), np.zeros(3, int)), "logits", [3]),
    ((np.zeros((2, 3), np.float32), np.zeros((2, 1), int)), "labels", [2, 1]),
    (
      (
        np.zeros((2, 3), np.float32),
        np.zeros(2, int),
        np.zeros((2, 4), np.int8),
      ),
      "label_codes",
      [2, 4],
    ),
    (
      (np.zeros((2, 3), np.float32), np.zeros(2, int), np.zeros((2, 3))),
      "label_codes",
      "float32",
    ),
  ],
)
def test_bad_arguments_are_named(arguments, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    outcomes(*arguments)
