"""Tests of ranks."""

import numpy as np

from imgbench.papers import ranks
from tests.papers import rows

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
    ("a", 2, 2, 0),  # Behind "gone", which has a value on x alone.
    ("b", 3, 1, 2),
    ("mine", 3, 1, 2),
  ]
  assert changes[0][1:6] == ("all", "x", TOP1[0], "y", TOP1[1])
  assert len(changes[0]) == len(ranks.COLUMNS)


def test_ranks_do_not_depend_on_the_files_of_other_sets():
  found = rows.of(x={"a": 90, "b": 80, "c": 70}, y={"a": 60, "b": 70, "c": 50})
  whole = ranks.by_set(found, TOP1)
  without = [row for row in found if (row.model, row.dataset) != ("b", "y")]
  less = ranks.by_set(without, TOP1)
  x, y = (("x", "all", TOP1[0]), ("y", "all", TOP1[0]))
  assert less[x] == whole[x] == (3, {"a": 1, "b": 2, "c": 3})
  assert less[y] == (2, {"a": 1, "c": 2})
  changes = ranks.changes(without, [("x", "y")], [TOP1])
  assert [(c.model, c.rank_base) for c in changes] == [("a", 1), ("c", 3)]
  # One's own stand beside, are not counted and are in no number of models.
  mine = ranks.by_set(found, TOP1, frozenset({"a"}))
  assert mine[x] == (2, {"a": 1, "b": 1, "c": 2})
