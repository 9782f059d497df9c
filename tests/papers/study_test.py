"""Tests of drops, ratios and ranks of the rows of a table."""

import json

import numpy as np
import pytest

from imgbench.metrics import drops
from imgbench.metrics import intervals
from imgbench.metrics import ratios
from imgbench.papers import program
from imgbench.papers import records
from imgbench.papers import study
from imgbench.tables import formats
from imgbench.tables import frame
from tests.papers import rows

METRIC = "top1_accuracy"


def study_of(found, *metrics, own=frozenset()):
  axes = study.pair_same(metrics or [METRIC])
  return study.Study(found, [("x", "y")], axes, own)


def test_rows_have_one_order():
  wanted = [
    rows.row(model, dataset, 5, metric=metric, subset=subset)
    for model in ("a", "b")
    for dataset in ("second", "first")
    for subset in ("all", "dog")
    for metric in (
      "top1_accuracy",
      "top5_accuracy",
      "real_accuracy",
      "real_accuracy.class_mean",
      "real_top5_accuracy",
      "multilabel_accuracy.tfds",
      "multilabel_accuracy.tfds.bound_low",
    )
  ]
  keys = [key for row in wanted for key in row]
  order = lambda given: [
    row[:4]
    for row in frame.to_rows(study.order_rows(["second", "first"], *given))
  ]
  place = lambda row: (lambda m, d, s, _: (s, m, d))(*next(iter(row)))
  assert order(sorted(wanted, key=place)) == keys
  assert order([*wanted[:3], wanted[4], wanted[3], *wanted[5:]]) == keys
  with pytest.raises(ValueError, match="two"):
    order([*wanted, wanted[0]])


def test_cells_and_reasons(tmp_path):
  found = rows.of(rows.row("a", "x", 3, 4), rows.undefined("b", "x"))
  output = program.Output(tmp_path)
  study.write_rows(output, found)
  output.close()
  header, first, second = (tmp_path / "table.csv").read_text().splitlines()
  assert header == "model,dataset,subset,metric,n,correct,value,ci_low,ci_high"
  low, high = intervals.clopper_pearson(3, 4)
  assert first == f"a,x,all,top1_accuracy,4,3,0.75000000,{low:.8f},{high:.8f}"
  assert second == "b,x,all,top1_accuracy,0,,,,"
  manifest = json.loads((tmp_path / program.MANIFEST).read_text())
  (reason,) = manifest["undefined"].values()
  assert [*manifest["undefined"]] == ["b/x/all/top1_accuracy"]
  assert reason.endswith("no example")


def test_columns():
  found = rows.of(rows.undefined("d", "x"), x={"a": 5, "b": 50, "c": 50})
  axis = ("x", METRIC)
  assert study.sort_best_first(found, axis) == ["b", "c", "a", "d"]
  plain = study.column(found, axis, text=study.format_plain)
  assert [plain(m) for m in "ade"] == ["5.00", "undefined", ""]
  assert study.column(found, axis)("a") == "5.00 [1.64, 11.28]"


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
  assert study.pair_independent(datasets, ("val", "absent")) == [("val", "new")]
  assert study.pair_independent(datasets, ("val", "part")) == [
    ("val", "new"),
    ("part", "new"),
  ]


def test_drops_are_those_of_the_metrics():
  found = rows.of(
    rows.undefined("a", "x", "other"),
    rows.undefined("a", "y", "other"),
    x={"b": 90, "a": 80},
    y={"a": 60, "b": 91, "only_y": 5},
  )
  got = frame.to_rows(study_of(found, METRIC, "other").drops)
  assert [(d.model, d.base, d.dataset) for d in got] == [
    ("a", "x", "y"),
    ("b", "x", "y"),
  ]
  wanted = drops.drop([80, 90], [100, 100], [60, 91], [100, 100])
  np.testing.assert_allclose([d[-3:] for d in got], np.transpose(wanted))
  assert got[0].n_base == got[0].n == 100
  assert got[0]._fields == study.COLUMNS["drops"]
  nothing = study.Study(found, [], study.pair_same([METRIC]))
  assert frame.to_rows(nothing.drops) == frame.to_rows(nothing.ranks) == []
  assert frame.to_rows(nothing.ratios) == nothing.lines == []


RATIOS = rows.of(
  x={"b": 90, "a": 100, "c": 60, "d": 60}, y={"b": 70, "a": 70, "c": 100}
)


def test_ratios_by_model():
  found = frame.to_rows(study_of(RATIOS).ratios)
  assert [entry.model for entry in found] == ["a", "b", "c"]
  a, b, c = found
  assert (a.errors_base, a.errors, a.ratio, a.ci_low) == (0, 30, None, None)
  assert (b.n_base, b.errors_base, b.n, b.errors) == (100, 10, 100, 30)
  assert b[-3:] == tuple(map(float, ratios.error_ratio(90, 100, 70, 100)))
  assert (c.ratio, c.ci_low, c.ci_high) == (0, None, None)
  texts = [formats.decimals(x.ratio, x.ci_low, x.ci_high) for x in found]
  assert texts[::2] == ["undefined", "0.00"]
  assert texts[1].startswith("3.00 [1.")


def test_undefined_ratios_are_explained(tmp_path):
  output = program.Output(tmp_path)
  study_of(RATIOS).write(output, "ratios")
  output.close()
  lines = (tmp_path / "ratios.csv").read_text().splitlines()
  assert lines[0].split(",") == list(study.COLUMNS["ratios"])
  assert lines[1] == "a,all,top1_accuracy,x,y,100,0,100,30,,,"
  manifest = json.loads((tmp_path / "manifest.json").read_text())
  ((ratio, reason),) = manifest["undefined"].items()
  assert ratio == "error ratio of a/all/top1_accuracy, y over x"
  assert reason.endswith("on x")


def test_your_model_moves_no_other():
  found = rows.of(
    x={"a": 90, "b": 80, "mine": 85, "gone": 99},
    y={"a": 60, "b": 70, "mine": 75},
  )
  changes = frame.to_rows(study_of(found, own=frozenset({"mine"})).ranks)
  assert [
    (c.model, c.rank_base, c.rank_dataset, c.change) for c in changes
  ] == [
    ("a", 2, 2, 0),  # after "gone", which has a value on x only
    ("b", 3, 1, 2),
    ("mine", 3, 1, 2),
  ]
  assert changes[0][1:6] == ("all", "x", METRIC, "y", METRIC)
  assert changes[0]._fields == study.COLUMNS["ranks"]
  found = rows.of(x={"a": 90, "b": 80, "c": 70}, y={"a": 60, "c": 50})
  changes = frame.to_rows(study_of(found).ranks)
  assert [(c.model, c.rank_base) for c in changes] == [("a", 1), ("c", 3)]
