"""Tables of results.json: the line, column and text of each entry."""

import pathlib

import pytest

from imgbench.report import entry_tables
from imgbench.report import inputs
from imgbench.tables import entries
from imgbench.tables import table
from tests.report import samples

TFDS = "multilabel_accuracy.tfds"
NOTE = "10.00% never reviewed: 50.00 to 60.00"
TOP1 = "50.00%"
INTERVAL = "40.38 – 59.62"


def run(*synthetic: str) -> inputs.Run:
  environment = {"synthetic": list(synthetic)}
  empty = {"config": {}, "status": {}, "records": (), "results": None}
  return inputs.Run(
    pathlib.Path("run"),
    environment=environment,
    warnings=(),
    datasets=(),
    **empty,
  )


def rows(*keys: str) -> tuple[entries.Row, ...]:
  results = {key: samples.accuracy(50, 100, f"of {key}") for key in keys}
  for key in keys:
    if key.endswith(TFDS):
      for name, value in zip(
        ("unreviewed", "bound_low", "bound_high"), (0.1, 0.5, 0.6), strict=True
      ):
        results[f"{key}.{name}"] = samples.plain(value, 100, name)
  return entries.parse(results)


def shifted(*keys: str) -> tuple[entries.Row, ...]:
  results = {}
  for key in keys:
    drop = {**samples.plain(0.1, 200, "lost"), "ci_low": 0.05, "ci_high": 0.15}
    results[key] = samples.accuracy(50, 100, "here")
    results[f"{key}.base"] = samples.accuracy(60, 100, "there")
    results[f"{key}.drop"] = drop
  return entries.parse(results)


def below(shown: table.Table) -> list[list[tuple[str, ...]]]:
  """The small lines of every cell."""
  cells = [[c.cell(row) for c in shown.columns] for row in shown.rows]
  return [
    [tuple(map(str, getattr(cell, "below", ()))) for cell in line]
    for line in cells
  ]


def test_one_data_set_has_three_columns():
  found = rows("a:test/all/top1_accuracy", f"a:test/all/{TFDS}")
  shown = entry_tables.build_results(run("a:test"), found)
  assert shown.header == ["Metric", "a:test", "95% interval", "Correct of n"]
  assert shown.cells == [
    ["top-1 accuracy", TOP1, INTERVAL, "50 of 100"],
    ["multi-label accuracy (tfds)", TOP1, INTERVAL, "50 of 100"],
  ]
  assert below(shown) == [[(), (), (), ()], [(), (NOTE,), (), ()]]
  assert entry_tables.define(run(), found) == {
    "top1_accuracy": "of a:test/all/top1_accuracy; 95% interval: wilson",
    TFDS: f"of a:test/all/{TFDS}; 95% interval: wilson",
  }


def test_few_data_sets_are_side_by_side():
  names = [f"{name}:test/all/top1_accuracy" for name in "ab"]
  found = rows("b:test/all/nll", *names)
  shown = entry_tables.build_results(run(), found)
  assert shown.header == ["Metric", "b:test", "a:test"]
  assert shown.columns[1].heading.below == ("95% interval · correct of n",)
  assert shown.cells == [
    ["top-1 accuracy", TOP1, TOP1],
    ["negative log-likelihood", "0.5000", "–"],
  ]
  assert below(shown)[0] == [(), *[(f"{INTERVAL} · 50 of 100",)] * 2]
  assert entry_tables.define(run(), found)["top1_accuracy"] == "; ".join(
    (
      f"b:test: of {names[1]}",
      f"a:test: of {names[0]}",
      "95% interval: wilson",
    )
  )


def test_many_data_sets_are_one_below_the_other():
  found = rows(*(f"{name}:test/all/top1_accuracy" for name in "abcd"))
  shown = entry_tables.build_results(run(), found)
  assert shown.header == ["Data set", "Value", "95% interval", "Correct of n"]
  ((heading, lines),) = shown.groups
  assert heading == "top-1 accuracy"
  assert [line.dataset for line in lines] == [f"{name}:test" for name in "abcd"]
  assert shown.cells[0] == ["a:test", TOP1, INTERVAL, "50 of 100"]


@pytest.mark.parametrize("names", ["a", "ab", "abcd"])
def test_subsets(names):
  subsets = ("all", "dog")
  keys = [
    f"{name}:test/{subset}/{metric}"
    for name in names
    for subset in subsets
    for metric in (TFDS, "top1_accuracy")
  ]
  shown = entry_tables.build_subsets(run(), rows(*keys[:-2]))
  metrics = ["top-1 accuracy", "multi-label accuracy (tfds)"]
  assert [str(heading) for heading, _ in shown.groups] == metrics
  first, last = shown.cells[0], shown.cells[-1]
  if names == "a":
    assert shown.header == ["Metric", "a:test", "95% interval", "Correct of n"]
    assert first == ["all", TOP1, INTERVAL, "50 of 100"]
  elif names == "ab":
    assert shown.header == ["Metric", "a:test", "b:test"]
    assert shown.columns[0].heading.below == ("Subset",)
    assert (first, last) == (["all", TOP1, TOP1], ["dog", TOP1, "–"])
    assert below(shown)[-1][1] == (f"{INTERVAL} · 50 of 100", NOTE)
  else:
    assert shown.header == ["Data set", "all", "dog"]
    assert (first, last) == (["a:test", TOP1, TOP1], ["d:test", TOP1, "–"])
    assert below(shown)[-1][1] == (INTERVAL, "50 of 100", NOTE)


def test_kinds_have_values_and_intervals_alone():
  keys = [f"a:test/{subset}/{TFDS}" for subset in ("all", "dog", "object")]
  shown = entry_tables.build_kinds(run(), rows(*keys), ["all", "object", "dog"])
  assert shown.header == ["Data set", "all", "objects", "dogs"]
  assert below(shown) == [[(), (INTERVAL,), (INTERVAL,), (INTERVAL,)]]


def test_metrics_side_by_side():
  found = rows(
    f"a:test/all/{TFDS}", *("ab"[i] + ":test/all/top1_accuracy" for i in (0, 1))
  )
  shown = entry_tables.build_by_metric(run(), found)
  assert shown.header == [
    *("Data set", "top-1 accuracy", "multi-label accuracy (tfds)"),
  ]
  assert shown.cells == [["b:test", TOP1, "–"], ["a:test", TOP1, TOP1]]
  assert below(shown)[1] == [
    *((), (INTERVAL, "n = 100"), (INTERVAL, "n = 100", NOTE)),
  ]


def test_drops():
  shown = entry_tables.build_drops(run(), shifted("a:test/all/top1_accuracy"))
  assert shown.header == [
    *("Data set", "Base accuracy", "Accuracy", "Drop", "95% interval"),
  ]
  assert shown.cells == [
    ["a:test", "60.00%", TOP1, "10.0 points", "[5.0, 15.0]"]
  ]
  assert shown.columns[2].cell(shown.rows[0]).beside == f"({INTERVAL})"


def test_drops_by_subset():
  keys = [f"a:test/{subset}/top1_accuracy" for subset in ("dog", "cat")]
  shown = entry_tables.build_drops_by_subset(run(), shifted(*keys))
  assert shown.header == ["Data set", "dog", "cat"]
  assert shown.cells == [["a:test", "10.0 points", "10.0 points"]]
  assert below(shown)[0][1] == ("[5.0, 15.0]", "60.00% → 50.00%")
