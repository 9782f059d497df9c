"""Tests of drops between data sets."""

import numpy as np

from imgbench.metrics import drops
from imgbench.papers import records
from imgbench.papers import shifts
from tests.papers import rows


def dataset(name, *ids):
  labels = np.zeros(len(ids), np.int32)
  return records.Dataset(name, np.array(ids), labels, ("a", "b"), {}, None)


def test_a_set_is_not_compared_with_a_part_of_itself():
  datasets = {
    "val": dataset("val", "1", "2", "3"),
    "part": dataset("part", "2", "3"),
    "new": dataset("new", "4"),
    "mixed": dataset("mixed", "3", "5"),
  }
  assert shifts.pairs(datasets, ("val", "absent")) == [("val", "new")]
  assert shifts.pairs(datasets, ("val", "part")) == [
    ("val", "new"),
    ("part", "new"),
  ]


def test_drops_are_those_of_the_metrics():
  found = [
    *rows.of(x={"b": 90, "a": 80}, y={"a": 60, "b": 91, "only_y": 5}),
    rows.undefined("a", "x", "other"),
    rows.undefined("a", "y", "other"),
  ]
  got = shifts.compute(found, [("x", "y")], ["top1_accuracy", "other"])
  assert [(d.model, d.base, d.dataset) for d in got] == [
    ("a", "x", "y"),
    ("b", "x", "y"),
  ]
  wanted = drops.drop([80, 90], [100, 100], [60, 91], [100, 100])
  np.testing.assert_allclose([d[-3:] for d in got], np.transpose(wanted))
  assert got[0].n_base == got[0].n == 100
  assert shifts.compute(found, [], ["top1_accuracy"]) == []
  assert len(got[0]) == len(shifts.COLUMNS)
