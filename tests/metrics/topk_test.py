"""Tests of the order of classes: ties, -inf, rows that are not finite."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import topk
from tests import raising
from tests.metrics import twins

NAN, INF = np.nan, np.inf

finite_rows = jax.jit(topk.finite_rows)
top_k = jax.jit(topk.top_k, static_argnums=1)
ranks = jax.jit(topk.ranks)


def label_rank(logits, labels):
  return ranks(logits, labels).label_rank


def logits(*rows, dtype=np.float32):
  return np.array(rows, dtype)


def test_top_k_by_hand():
  ids, best = top_k(logits([1.0, 3.0, 2.0], [5.0, -1.0, 5.0]), 2)
  assert ids.tolist() == [[1, 2], [0, 2]]
  assert best.tolist() == [[3.0, 2.0], [5.0, 5.0]]
  assert ids.dtype == jnp.int32 and best.dtype == jnp.float32


def test_ties_go_to_the_lowest_class():
  ids, _ = top_k(logits([1.0, 1.0, 1.0, 1.0]), 3)
  assert ids.tolist() == [[0, 1, 2]]
  row = logits([1.0, 1.0, 2.0, 1.0])
  assert [label_rank(row, np.array([y]))[0] for y in range(4)] == [1, 2, 0, 3]


def test_zeros_of_both_signs_are_a_tie():
  ids, _ = top_k(logits([-0.0, 0.0, -0.0]), 3)
  assert ids.tolist() == [[0, 1, 2]]
  assert label_rank(logits([-0.0, 0.0]), np.array([0])).tolist() == [0]


@pytest.mark.parametrize(
  "row, finite",
  [
    ([1.0, 2.0], True),
    ([-INF, 2.0], True),
    ([NAN, 2.0], False),
    ([2.0, INF], False),
    ([-INF, -INF], False),
    ([-INF, NAN], False),
    ([3e38, -3e38], True),
  ],
)
def test_rows_that_have_an_order(row, finite):
  assert finite_rows(logits(row)).tolist() == [finite]
  ids, best = top_k(logits(row), 2)
  places = [int(label_rank(logits(row), np.array([y]))[0]) for y in (0, 1)]
  assert ranks(logits(row), np.array([0])).finite.tolist() == [finite]
  if not finite:
    assert ids.tolist() == [[-1, -1]]
    assert best.tolist() == [[-INF, -INF]]
    assert places == [2, 2]
    assert ranks(logits(row), np.array([0])).top1.tolist() == [-1]
  else:
    assert 0 in places


def test_class_at_minus_infinity_is_never_predicted_and_never_a_hit():
  row = logits([-INF, 1.0, -INF])
  assert top_k(row, 3)[0].tolist() == [[1, -1, -1]]
  places = [int(label_rank(row, np.array([y]))[0]) for y in range(3)]
  assert places == [3, 0, 3]


def test_columns_beyond_the_classes_are_empty():
  ids, best = top_k(logits([1.0, 2.0]), 5)
  assert ids.tolist() == [[1, 0, -1, -1, -1]]
  assert best.tolist() == [[2.0, 1.0, -INF, -INF, -INF]]


@pytest.mark.parametrize("label", [-1, -3, 3, 2**31 - 1])
def test_label_outside_is_never_a_hit(label):
  row = logits([1.0, 2.0, 3.0])
  assert label_rank(row, np.array([label], np.int32)).tolist() == [3]


# One group of each class, several groups of two to five, one group of all.
@pytest.mark.parametrize("num_classes", [1, 7, 66, 130, 67])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_agrees_with_the_slow_twin(num_classes, dtype):
  @hypothesis.settings(deadline=None, max_examples=40)
  @hypothesis.given(twins.batches(num_classes=(num_classes,)))
  def check(batch):
    values, labels, *_, mask = batch
    values = jnp.asarray(values).astype(dtype)
    labels = np.where(mask, labels, 0)
    rows = np.asarray(values, np.float64)
    assert top_k(values, 5)[0].tolist() == [twins.top(row, 5) for row in rows]
    found = ranks(values, labels)
    assert found.label_rank.tolist() == [
      twins.rank(row, y) for row, y in zip(rows, labels, strict=True)
    ]
    assert found.top1.tolist() == [twins.top(row, 1)[0] for row in rows]
    finite = [twins.is_finite(row) for row in rows]
    assert found.finite.tolist() == finite
    assert finite_rows(values).tolist() == finite
    best = [max(row) for row, legal in zip(rows, finite, strict=True) if legal]
    assert found.top_score[np.array(finite, bool)].tolist() == best

  check()


# XLA:CPU reduces large arrays by other code, which drops NaN from a maximum.
@pytest.mark.parametrize(
  "num_classes, size",
  [(2, 10_000), (10, 1000), (100, 256), (1000, 16), (1000, 300), (1009, 300)],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_large_batches_with_broken_rows(num_classes, size, compiled):
  rng = np.random.default_rng(0)
  values = rng.integers(0, 50, (size, num_classes)).astype(np.float32)
  broken = rng.random(size) < 0.3
  places = rng.integers(0, num_classes, size)
  kind = rng.choice(np.array([NAN, INF], np.float32), size)
  values[broken, places[broken]] = kind[broken]
  # Elsewhere -inf, which is legal, also in the label's place.
  masked = ~broken & (rng.random(size) < 0.3)
  values[masked, places[masked]] = -INF
  labels = np.where(rng.random(size) < 0.5, places, 0).astype(np.int32)
  order = np.argsort(-values, axis=1, kind="stable")
  rank = np.argmax(order == labels[:, None], axis=1)
  own = values[np.arange(size), labels]
  rank = np.where(broken | (own == -INF), num_classes, rank)
  call = (lambda f: f) if compiled else (lambda f: f.__wrapped__)
  found = call(ranks)(values, labels)
  np.testing.assert_array_equal(found.finite, ~broken)
  np.testing.assert_array_equal(found.label_rank, rank)
  np.testing.assert_array_equal(found.top1, np.where(broken, -1, order[:, 0]))
  np.testing.assert_array_equal(call(finite_rows)(values), ~broken)
  width = min(5, num_classes)
  ids, best = top_k(values, width)
  expected = np.where(broken[:, None], -1, order[:, :width])
  scores = np.take_along_axis(values, order[:, :width], axis=1)
  expected = np.where(scores == -INF, -1, expected)
  np.testing.assert_array_equal(ids, expected)
  assert not np.isnan(best).any()


@pytest.mark.parametrize("num_classes", [50, 96, 1000, 1009])
def test_a_broken_score_is_seen_wherever_it_stands(num_classes):
  """In every group, first and last of it, with the label before and after."""
  places = np.unique(np.linspace(0, num_classes - 1, 40).astype(int))
  values = np.tile(np.arange(num_classes, dtype=np.float32), (len(places), 1))
  labels = np.full(len(places), num_classes - 1)
  assert ranks(values, labels).finite.all()
  for broken in (NAN, INF):
    values[np.arange(len(places)), places] = broken
    found = ranks(values, labels)
    assert not found.finite.any()
    assert (found.label_rank == num_classes).all()
    assert (found.top1 == -1).all()


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(twins.batches(num_classes=(3, 7)), st.sampled_from([1, 2, 5]))
def test_rank_below_k_is_being_among_the_first_k(batch, k):
  values, labels, *_, mask = batch
  labels = np.where(mask, labels, 0)
  among = (np.asarray(top_k(values, k)[0]) == labels[:, None]).any(axis=1)
  rank = np.asarray(label_rank(values, labels))
  below = (rank < k) & (rank < values.shape[1])
  assert below.tolist() == among.tolist()


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(twins.batches(num_classes=(7,)))
def test_accuracy_never_falls_with_k_and_reaches_one(batch):
  values, labels, *_, mask = batch
  values = np.where(np.isfinite(values), values, 0.0).astype(np.float32)
  rank = np.asarray(label_rank(values, np.where(mask, labels, 0)))
  hits = [int((rank < k).sum()) for k in range(1, 8)]
  assert hits == sorted(hits)
  assert hits[-1] == len(rank)


def test_thousand_classes_against_a_stable_sort():
  rng = np.random.default_rng(0)
  # Rounded, so that ties are frequent.
  values = rng.normal(size=(64, 1000)).round(1).astype(np.float32)
  labels = rng.integers(0, 1000, 64).astype(np.int32)
  sorted_ids = np.argsort(-values, axis=1, kind="stable")
  np.testing.assert_array_equal(top_k(values, 5)[0], sorted_ids[:, :5])
  expected = np.argmax(sorted_ids == labels[:, None], axis=1)
  np.testing.assert_array_equal(label_rank(values, labels), expected)
  np.testing.assert_array_equal(
    ranks(values, labels).top1, np.argmax(values, axis=1)
  )


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (lambda: topk.top_k(np.zeros(3, np.float32), 1), "logits", [3]),
    (lambda: topk.top_k(np.zeros((2, 3), np.int32), 1), "logits", "int32"),
    (lambda: topk.top_k(np.zeros((2, 0), np.float32), 1), "logits", [2, 0]),
    (lambda: topk.top_k(np.zeros((0, 2), np.float32), 1), "logits", [0, 2]),
    (lambda: topk.top_k(np.zeros((2, 3), np.float32), 0), "k", 0),
    (
      lambda: topk.ranks(np.zeros((2, 3), np.float32), np.zeros(3, int)),
      "labels",
      [3],
    ),
    (
      lambda: topk.ranks(np.zeros((2, 3), np.float32), np.full(2, 0.5)),
      "labels",
      "float64",
    ),
  ],
)
def test_bad_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call()
