"""Tests of paired comparisons of all classifiers."""

import itertools

import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import paired
from imgbench.papers import paired_table
from tests import raising


def _table(rng, size=200, names="cab"):
  hits = {
    name: rng.random(size) < 0.5 + 0.1 * i for i, name in enumerate(names)
  }
  some = rng.random(size) < 0.3
  return paired_table.Hits(
    "set", "metric", hits, {"all": np.ones(size, bool), "some": some}
  )


def test_like_comparing_one_by_one():
  table = _table(np.random.default_rng(0))
  rows = paired_table.compare([table, table._replace(dataset="other")])
  assert len(rows) == 2 * 2 * 3
  assert [row[:5] for row in rows[:3]] == [
    ("a", "b", "set", "all", "metric"),
    ("a", "c", "set", "all", "metric"),
    ("b", "c", "set", "all", "metric"),
  ]
  for row in rows:
    mask = table.subsets[row.subset]
    a, b = table.by_name[row.model_a], table.by_name[row.model_b]
    test = paired.mcnemar(a, b, mask)
    estimate = paired.paired_difference(a, b, mask=mask)
    assert row.n == mask.sum()
    assert row.both == (a & b & mask).sum()
    assert (row.only_a, row.only_b) == (test.only_a, test.only_b)
    assert row.neither == (~a & ~b & mask).sum()
    np.testing.assert_allclose(
      (row.difference, row.ci_low, row.ci_high), estimate, rtol=1e-12
    )
    assert (row.p_exact, row.p_mid) == (test.p_exact, test.p_mid)
  # Adjusted over all rows, by hand: sorted, times the number that is left.
  p = sorted((row.p_exact, i) for i, row in enumerate(rows))
  running = 0.0
  for rank, (value, i) in enumerate(p):
    running = max(running, min(1.0, value * (len(rows) - rank)))
    np.testing.assert_allclose(rows[i].p_exact_holm, running, rtol=1e-12)


def test_chosen_pairs_keep_their_order():
  table = _table(np.random.default_rng(1))
  rows = paired_table.compare([table], [("c", "a"), ("a", "absent")])
  assert [row[:4] for row in rows] == [
    ("c", "a", "set", "all"),
    ("c", "a", "set", "some"),
  ]
  back = paired_table.compare([table], [("a", "c")])
  assert rows[0].difference == -back[0].difference


def test_nothing_to_compare():
  table = _table(np.random.default_rng(2), names="a")
  assert paired_table.compare([table]) == []
  table = _table(np.random.default_rng(2))
  empty = table._replace(subsets={"none": np.zeros(200, bool)})
  assert paired_table.compare([empty]) == []


def test_cells_keep_small_p_values():
  hits = {"a": np.ones(3000, bool), "b": np.zeros(3000, bool)}
  table = paired_table.Hits("s", "m", hits, {"all": np.ones(3000, bool)})
  (row,) = paired_table.compare([table])
  cells = next(paired_table.cells([row]))
  assert len(cells) == len(paired_table.COLUMNS)
  assert cells[-4:] == ("2.22507e-308",) * 4
  assert paired_table.grid([row]).cells[0][:6] == [
    "a",
    "b",
    "s",
    "3,000",
    "3,000",
    "0",
  ]


def test_parse_pair():
  assert paired_table.parse_pair(" a , b", ["a", "b"]) == ("a", "b")
  for text in ("a", "a,a", "a,b,c", ""):
    check = raising.about("--pair", given=repr(text))
    with pytest.raises(errors.InputError, check=check):
      paired_table.parse_pair(text, ["a", "b", "c"])
  check = raising.about("--pair", given="'resnet5'")
  with pytest.raises(errors.InputError, check=check) as raised:
    paired_table.parse_pair("a,resnet5", ["a", "resnet50"])
  assert "resnet50" in raised.value.fix
  check = raising.about("--pair", given="'m,n'")
  with pytest.raises(errors.InputError, check=check):
    paired_table.parse_pair("m,n,a", ["a", "b", "m,n"])
  assert paired_table.parse_pair("a,b", ["a", "b", "m,n"]) == ("a", "b")


def test_all_pairs_of_many():
  rng = np.random.default_rng(3)
  names = [f"m{i:02d}" for i in range(30)]
  rows = paired_table.compare([_table(rng, names=names)])
  assert [row[:2] for row in rows[:435]] == list(
    itertools.combinations(names, 2)
  )
