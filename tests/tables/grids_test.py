"""Tests of tables for people."""

import pytest

from imgbench.tables import grids
from tests.papers import rows

GRID = grids.Grid(
  "Accuracy in %, one_model",
  ("model", "top-1"),
  (("resnet_v1_50", "76.13"), ("a|b*", "5.00")),
)


def test_text_is_aligned():
  assert grids.text(GRID) == (
    "Accuracy in %, one_model\n\n"
    "model         top-1\n"
    "-------------------\n"
    "resnet_v1_50  76.13\n"
    "a|b*           5.00\n"
  )


def test_markdown_escapes_what_it_would_read():
  assert grids.markdown(GRID) == (
    "Accuracy in %, one_model.\n\n"
    "| model        | top-1 |\n"
    "| ------------ | ----: |\n"
    "| resnet_v1_50 | 76.13 |\n"
    "| a\\|b\\*       |  5.00 |\n"
  )


def test_latex_escapes_what_it_would_read():
  text = grids.latex(GRID)
  assert r"\caption{Accuracy in \%, one\_model.}" in text
  assert r"\begin{tabular}{lr}" in text
  assert r"resnet\_v1\_50 & 76.13 \\" in text
  assert text.count("{table}") == 2 and text.endswith("\\end{table}\n")
  strange = grids.Grid("c", ("a",), ((r"\x^~{}$#&<>",),))
  assert (
    r"\textbackslash{}x\textasciicircum{}\textasciitilde{}\{\}\$\#\&"
    r"\textless{}\textgreater{} \\"
  ) in grids.latex(strange)


def test_rows_by_name_and_columns_that_are_empty():
  values = {"a": "1", "b": ""}
  grid = grids.by_name(
    "c", ["a", "b"], [("x", values.get), ("x", values.get), ("y", lambda _: "")]
  )
  assert grid.header == ("model", "x", "x")
  assert grid.rows == (("a", "1", "1"), ("b", "", ""))
  assert grids.by_name("c", [], {"x": str}).header == ("model",)
  with pytest.raises(ValueError, match="2 cells"):
    grids.Grid("c", ("a", "b"), (("1",),))


def test_numbers_as_people_read_them():
  assert grids.percent(0.76128) == "76.13"
  assert grids.percent(None) == "undefined"
  assert grids.percent(-1e-9) == "0.00"
  assert grids.signed(0.0003) == "+0.03" and grids.signed(-1e-9) == "+0.00"
  assert grids.signed(None) == ""
  assert grids.with_bounds(0.5, 0.25, 0.75) == "50.00 [25.00, 75.00]"
  assert grids.with_bounds(0.5, None, None) == "50.00"
  assert grids.measured(rows.row("a", "x", 50).value) == "50.00 [39.83, 60.17]"
  assert grids.measured(rows.undefined("a", "x").value) == "undefined"
  assert grids.measured(None) == ""
  assert grids.metric_title("real_accuracy") == "ReaL accuracy"
