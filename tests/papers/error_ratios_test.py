import json

from imgbench.metrics import measurement
from imgbench.metrics import ratios
from imgbench.papers import error_ratios
from imgbench.papers import program
from imgbench.papers import records

MEASURE = measurement.Measurer(alpha=0.05)


def row(model, dataset, correct, n=100):
  value = MEASURE.proportion(correct, n, "share")
  return records.Row(model, dataset, "all", "top1_accuracy", value)


ROWS = [
  row("b", "old", 90),
  row("b", "new", 70),
  row("a", "old", 100),
  row("a", "new", 70),
  row("c", "old", 60),
  row("c", "new", 100),
  row("d", "old", 60),
]


def test_ratios_by_model():
  found = error_ratios.compute(ROWS, [("old", "new")], ["top1_accuracy"])
  assert [entry.model for entry in found] == ["a", "b", "c"]
  a, b, c = found
  assert (a.errors_base, a.errors, a.ratio, a.ci_low) == (0, 30, None, None)
  assert (b.n_base, b.errors_base, b.n, b.errors) == (100, 10, 100, 30)
  assert b[-3:] == tuple(map(float, ratios.error_ratio(90, 100, 70, 100)))
  assert (c.ratio, c.ci_low, c.ci_high) == (0, None, None)
  assert [x.text() for x in (a, c)] == ["undefined", "0.00"]
  assert b.text().startswith("3.00 [1.")


def test_undefined_ratios_are_explained(tmp_path):
  output = program.Output(tmp_path)
  found = error_ratios.compute(ROWS, [("old", "new")], ["top1_accuracy"])
  error_ratios.write(output, found)
  output.close()
  lines = (tmp_path / "ratios.csv").read_text().splitlines()
  assert lines[0].split(",") == list(error_ratios.COLUMNS)
  assert lines[1] == "a,all,top1_accuracy,old,new,100,0,100,30,,,"
  manifest = json.loads((tmp_path / "manifest.json").read_text())
  assert manifest["undefined"] == {
    "error ratio of a/all/top1_accuracy, new over old": "no error on old"
  }
