"""Tests of the main table."""

import json

import pytest

from imgbench.metrics import intervals
from imgbench.papers import main_table
from imgbench.papers import program
from tests.papers import rows


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
  mixed = sorted(wanted, key=lambda row: (row.subset, row.model, row.dataset))
  assert main_table.ordered(mixed, ["second", "first"]) == wanted
  swapped = [*wanted[:3], wanted[4], wanted[3], *wanted[5:]]
  assert main_table.ordered(swapped, ["second", "first"]) == wanted
  with pytest.raises(ValueError, match="two results"):
    main_table.ordered([*wanted, wanted[0]], ["second", "first"])


def test_cells_and_reasons(tmp_path):
  found = [rows.row("a", "x", 3, 4), rows.undefined("b", "x")]
  output = program.Output(tmp_path)
  main_table.write(output, found)
  output.close()
  header, first, second = (tmp_path / "table.csv").read_text().splitlines()
  assert header == "model,dataset,subset,metric,n,correct,value,ci_low,ci_high"
  low, high = intervals.clopper_pearson(3, 4)
  assert first == f"a,x,all,top1_accuracy,4,3,0.75000000,{low:.8f},{high:.8f}"
  assert second == "b,x,all,top1_accuracy,0,,,,"
  manifest = json.loads((tmp_path / program.MANIFEST).read_text())
  assert manifest["undefined"] == {
    "b/x/all/top1_accuracy": "share of examples; undefined: no example"
  }


def test_lookup():
  lookup = main_table.Lookup(
    [*rows.of(x={"a": 5, "b": 50, "c": 50}), rows.undefined("d", "x")]
  )
  metric = "top1_accuracy"
  assert lookup.value("a", "x", metric) == 0.05
  assert lookup.value("d", "x", metric) is None
  assert lookup.get("a", "y", metric) is None
  assert lookup.best_first("x", metric) == ["b", "c", "a", "d"]
  plain = lookup.plain_column("x", metric)
  assert [plain(m) for m in "ade"] == ["5.00", "undefined", ""]
  assert lookup.column("x", metric)("a") == "5.00 [1.64, 11.28]"
