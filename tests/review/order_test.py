"""Tests of how many reviews decide an order, by trying all results."""

import itertools

import hypothesis
from hypothesis import strategies
import pytest

from imgbench.review import order


def decides(low, weights, chosen, results):
  """Whether no results of the other predictions change the order."""
  known = low + sum(
    w for w, right in zip(chosen, results, strict=True) if right
  )
  rest = sum(weights) - sum(chosen)
  return not known < 0 < known + rest


def count_slowly(low, weights):
  """Returns the counts, from every choice of predictions and every result."""
  best = {any: [], all: []}
  for size in range(len(weights) + 1):
    for chosen in itertools.combinations(weights, size):
      results = [
        decides(low, weights, chosen, results)
        for results in itertools.product((False, True), repeat=size)
      ]
      for quantifier, sizes in best.items():
        if quantifier(results):
          sizes.append(size)
  return min(best[any]), min(best[all])


@hypothesis.given(
  strategies.lists(strategies.integers(1, 9), max_size=6),
  strategies.integers(-40, 5),
)
def test_counts_are_those_of_all_choices_and_results(weights, low):
  weights.sort(reverse=True)
  high = low + sum(weights)
  assert order.count_reviews(low, high, weights) == count_slowly(low, weights)


@pytest.mark.parametrize(
  "low, weights, wanted",
  [
    (0, [1, 1], (0, 0)),  # a tie at worst
    (-2, [1, 1], (0, 0)),
    (0, [], (0, 0)),
    (-1, [1, 1], (1, 1)),  # after one, the other makes a tie or not
    (-2, [1] * 10, (2, 9)),
    (-11, [20, 2, 2], (1, 1)),  # the small ones cannot turn it
    (-3, [3, 2], (1, 1)),
  ],
)
def test_hand_worked(low, weights, wanted):
  assert order.count_reviews(low, low + sum(weights), weights) == wanted


def test_many_equal_weights_take_no_search():
  many = [10**30] * 7_740
  low = -(10**30) * 3_000
  assert order.count_reviews(low, low + sum(many), many) == (3_000, 7_739)


def test_too_many_sums_count_too_much(monkeypatch):
  weights, low = [13, 11, 7, 5, 3], -6
  exact = order.count_reviews(low, low + sum(weights), weights)
  monkeypatch.setattr(order, "_LIMIT", 0)
  assert exact <= order.count_reviews(low, low + sum(weights), weights)
