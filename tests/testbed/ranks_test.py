"""Tests of ranks."""

import numpy as np

from imgbench.testbed import ranks
from tests.testbed import rows

TOP1 = ("top1_accuracy", "top1_accuracy")


def test_ties_share_the_better_rank():
  got = ranks.ranks([0.5, 0.9, 0.7, 0.7, 0.1])
  np.testing.assert_array_equal(got, [4, 1, 2, 2, 5])
  assert len(ranks.ranks([])) == 0


def test_ranks_are_twins_of_counting():
  rng = np.random.default_rng(0)
  values, among = rng.integers(0, 8, 40) / 10, rng.random(40) < 0.7
  wanted = [1 + np.sum(values[among] > value) for value in values]
  np.testing.assert_array_equal(ranks.ranks(values, among), wanted)


def test_ones_own_model_moves_nobody():
  found = rows.of(
    x={"a": 90, "b": 80, "mine": 85, "gone": 99},
    y={"a": 60, "b": 70, "mine": 75},
  )
  changes = ranks.changes(found, [("x", "y")], [TOP1], frozenset({"mine"}))
  assert [
    (c.model, c.rank_base, c.rank_dataset, c.change) for c in changes
  ] == [
    ("a", 1, 2, -1),
    ("b", 2, 1, 1),
    ("mine", 2, 1, 1),
  ]
  assert changes[0][1:6] == ("all", "x", TOP1[0], "y", TOP1[1])
  assert len(changes[0]) == len(ranks.COLUMNS)
