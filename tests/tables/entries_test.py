"""Tests of rows of results.json: grouping and order."""

import pytest

from imgbench.tables import entries
from tests.report import samples


def entry(**changes):
  return {**samples.accuracy(3, 4, "share"), **changes}


def test_a_slash_in_a_name_is_part_of_it():
  (row,) = entries.parse({"set/config:test/all/nll": entry()})
  assert (row.dataset, row.subset, row.metric) == (
    "set/config:test",
    "all",
    "nll",
  )


def test_what_is_unreviewed_is_part_of_its_accuracy():
  name = "toy:test/all/multilabel_accuracy.tfds"
  results = {
    name: entry(value=0.5),
    f"{name}.unreviewed": entry(value=0.1),
    f"{name}.bound_low": entry(value=0.5),
    f"{name}.bound_high": entry(value=0.6),
    "toy:test/all/nll": entry(),
    "toy:test/dog/multilabel_accuracy.tfds.bound_low": entry(value=0.25),
  }
  first, *others = entries.parse(results)
  assert first.unreviewed == entries.Unreviewed(0.1, 0.5, 0.6)
  # What lacks its accuracy stays a row: nothing of the file is lost.
  assert [row.metric for row in others] == [
    "nll",
    "multilabel_accuracy.tfds.bound_low",
  ]
  assert others[0].unreviewed is None


def test_a_drop_is_part_of_its_accuracy():
  name = "toy:test/all/top1_accuracy"
  results = {
    name: entry(value=0.5),
    "toy:test/all/nll": entry(),
    f"{name}.base": entry(value=0.75),
    f"{name}.drop": entry(value=0.25, correct=None),
    "toy:test/dog/top1_accuracy": entry(),
    "toy:test/dog/top1_accuracy.drop": entry(value=0.125),
  }
  first, nll, dog, left = entries.parse(results)
  assert (first.metric, first.value, nll.metric) == (
    "top1_accuracy",
    0.5,
    "nll",
  )
  assert first.shift.base.value == 0.75 and first.shift.drop.value == 0.25
  assert first.shift.drop.metric == "top1_accuracy.drop"
  assert nll.shift is dog.shift is None
  # What lacks its other half stays a row: nothing of the file is lost.
  assert left.metric == "top1_accuracy.drop"


def test_other_parameters_follow_their_data_set():
  keys = (
    *("a:train", "a:test", "b:test", "c:minival"),
    *("b+ema:test", "a+ema:test", "a+ema:train"),
  )
  rows = entries.parse({f"{key}/all/nll": entry() for key in keys})
  assert [row.dataset for row in rows] == [
    *("a:test", "a+ema:test", "b:test", "b+ema:test", "c:minival"),
    *("a:train", "a+ema:train"),
  ]


def test_the_original_labels_and_all_classes_come_first():
  accuracies = {
    "a:test": ("top1_accuracy", 20),  # has a few of the base set's classes
    "reviewed:validation": ("multilabel_accuracy.tfds", 60),
    "real:validation": ("real_accuracy", 90),
    "v2:test": ("top1_accuracy", 100),
    "val:validation": ("top1_accuracy", 100),
  }
  results = {}
  for key, (metric, n) in accuracies.items():
    name = f"{key}/all/{metric}"
    results[name] = entry(n=n)
    if key in ("a:test", "v2:test"):
      results[f"{name}.base"] = entry(n=n)
      results[f"{name}.drop"] = entry()
  assert [row.dataset for row in entries.parse(results)] == [
    *("val:validation", "real:validation", "reviewed:validation"),
    *("v2:test", "a:test"),
  ]


@pytest.mark.parametrize(
  ("split", "rank"),
  [
    ("train", 2),
    ("train[:50%]", 2),
    ("train+validation", 2),
    ("validation[:24]+train", 2),
    ("v2", 1),
    ("test+v2", 1),
    ("test[:9]", 0),
    ("validation+test", 0),
  ],
)
def test_rank_of_joined_splits(split, rank):
  assert entries.split_rank(f"scenes+ema:{split}") == rank
