"""Tests of the tables of multi-label accuracy."""

import numpy as np
import pytest

from imgbench.papers import comparison
from imgbench.papers import fits
from imgbench.papers import study
from imgbench.papers.machine_accuracy import results
from imgbench.papers.readers import datasets
from imgbench.papers.readers import people
from imgbench.tables import frame
from tests.papers import rows as rows_lib

VAL, V2 = datasets.VALIDATION, datasets.MATCHED_FREQUENCY
STRICT = results.METRICS["icml2020"]


def _rows(**hits):
  """Rows of {model: (validation, version 2)} in the strict definition."""
  return [
    rows_lib.row(model, dataset, correct, metric=STRICT)
    for model, pair in hits.items()
    for dataset, correct in zip((VAL, V2), pair, strict=True)
  ]


def test_undefined_for_all_is_one_entry():
  rows = rows_lib.of(
    rows_lib.undefined("a", VAL, STRICT),
    rows_lib.undefined("b", VAL, STRICT),
    rows_lib.row("a", VAL, 1),
    rows_lib.undefined("b", VAL),
  )
  found = results.explain_undefined(rows)
  assert set(found) == {
    f"all classifiers/{VAL}/all/{STRICT}",
    f"b/{VAL}/all/top1_accuracy",
  }
  assert all(reason.endswith("no example") for reason in found.values())
  (note,) = results.undefined_notes(rows)
  assert note.startswith(f"{VAL}: {STRICT} ") and note.endswith("no example")
  assert not results.is_defined(rows, STRICT)
  assert results.is_defined(rows, "top1_accuracy")


def _study(rows):
  return study.Study(rows, [(VAL, V2)], study.pair_same([STRICT]))


def test_summary_of_humans_and_models():
  hits = dict(a=(70, 60), b=(90, 50), c=(80, 40), human_a=(95, 96))
  rows = _rows(**hits, mine=(99, 99), fv_4k=(1, 1))
  rows.append(rows_lib.row("a", VAL, 3, metric=STRICT, subset="dog"))
  rows.append(rows_lib.undefined("c", VAL))
  kinds = dict.fromkeys(("a", "b", "c", "fv_4k"), people.MODEL)
  kinds |= {"human_a": people.PERSON, "mine": "own model"}
  found = results.summary_rows(_study(rows_lib.of(*rows)), kinds)
  assert [row[:10] for row in found] == [
    (VAL, "all", "model", STRICT, 3, 0.9, "b", 0.8, 0.7, "a"),
    (VAL, "all", "person", STRICT, 1, 0.95, "human_a", 0.95, 0.95, "human_a"),
    (VAL, "dog", "model", STRICT, 1, 0.03, "a", 0.03, 0.03, "a"),
    (V2, "all", "model", STRICT, 3, 0.6, "a", 0.5, 0.4, "c"),
    (V2, "all", "person", STRICT, 1, 0.96, "human_a", 0.96, 0.96, "human_a"),
  ]
  # The best one's drop, from either side, with the interval of drops.csv.
  drops = [row.drop for row in found]
  assert drops == [pytest.approx(d) for d in (0.4, -0.01, None, 0.1, -0.01)]
  assert found[2][10:] == (None, None, None, None, None, "")
  (interval,) = frame.to_rows(
    frame.select(_study(rows_lib.of(*rows)).drops, model="b")
  )
  assert found[0][10:] == (VAL, V2, *interval[7:], "")
  grid = results.summary_grid(found, VAL)
  assert grid.cells == [
    [STRICT, "90.00 b", "95", "-5.00", "80.00", "85", "-5.00"]
    + ["70.00 a", "64", "+6.00"],
  ]
  best = results.best_grid(found, STRICT).cells
  assert [row[:5] for row in best[:2]] == [
    ["validation", "all", "model", "3", "90.00 b"],
    ["validation", "all", "person", "1", "95.00 human_a"],
  ]
  assert results.summary_rows(_study(rows_lib.of()), {"a": "model"}) == []


def test_reviewed_grid_bounds_the_effect_of_unreviewed_predictions():
  rows = _rows(a=(70, 60), b=(90, 50))
  for model, unreviewed in (("a", 5), ("b", 0)):
    for name, correct in (
      ("unreviewed", unreviewed),
      ("bound_high", 90 + unreviewed),
    ):
      for metric in (STRICT, results.METRICS["lenient_mean"]):
        rows.append(
          rows_lib.row(model, VAL, correct, metric=f"{metric}.{name}")
        )
  nothing = comparison.compare([], {})
  grid = results.reviewed_grid(rows_lib.of(*rows), VAL, nothing)
  assert [row[0] for row in grid.cells] == ["b", "a"]
  by_name = dict(zip(grid.header, grid.cells[1], strict=True))
  assert by_name["icml2020"].startswith("70.00 [")
  assert by_name["up to"] == "95.00"
  assert by_name["never reviewed"] == "5 (5.00%)"
  assert "unreviewed" not in grid.header and "tfds" not in grid.header
  grid.text()


def test_side_by_side():
  rows = _rows(human_a=(97, 96), net=(88, 77), third=(50, 50))
  rows.append(rows_lib.row("net", V2, 4, metric=f"{STRICT}.unreviewed"))
  rows.append(rows_lib.row("net", V2, 81, metric=f"{STRICT}.bound_high"))
  kinds = {
    "human_a": people.PERSON,
    "net": people.MODEL,
    "third": people.MODEL,
  }
  nothing = comparison.compare([], {})
  found = rows_lib.of(*rows)
  grid = results.side_by_side_grid(found, kinds, STRICT, "all", nothing)
  assert grid.header == [
    "classifier",
    "kind",
    "ImageNet",
    "ImageNetV2",
    "up to",
    "never reviewed",
    "drop",
  ]
  assert [row[0] for row in grid.cells] == ["human_a", "net", "third"]
  assert grid.cells[0][-1] == "+1.00"
  assert grid.cells[1][-3:] == ["81.00", "4", "+11.00"]
  assert "100 and 100" in grid.caption


def test_robustness_is_the_distance_from_the_line():
  hits = _rows(a=(50, 40), b=(60, 52), c=(80, 75), human_a=(95, 96))
  rows = rows_lib.of(*hits)
  lines = fits.fit_lines(
    rows, [(VAL, V2)], [(STRICT, STRICT)], frozenset(["human_a"])
  )
  found = results.robustness_rows(rows, lines)
  assert [row[0] for row in found] == ["a", "b", "c", "human_a"]
  slope, intercept = np.polyfit([0.5, 0.6, 0.8], [0.4, 0.52, 0.75], 1)
  expected = slope * 0.95 + intercept
  assert found[-1][5:] == pytest.approx((0.95, 0.96, expected, 0.96 - expected))
