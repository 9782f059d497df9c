"""Tests of tables in every output format."""

import pytest

from imgbench.tables import formats
from imgbench.tables import table
from tests.papers import rows

GRID = table.from_cells(
  "Accuracy in %, one_model",
  ("model", "top-1"),
  (("resnet_v1_50", "76.13"), ("a|b*", "5.00")),
)


@pytest.mark.smoke
def test_text_is_aligned():
  assert GRID.text() == (
    "Accuracy in %, one_model\n\n"
    "model         top-1\n"
    "-------------------\n"
    "resnet_v1_50  76.13\n"
    "a|b*           5.00\n"
  )


def test_markdown_escapes_what_it_would_read():
  assert GRID.markdown() == (
    "Accuracy in %, one_model.\n\n"
    "| model        | top-1 |\n"
    "| ------------ | ----: |\n"
    "| resnet_v1_50 | 76.13 |\n"
    "| a\\|b\\*       |  5.00 |\n"
  )


def test_latex_escapes_what_it_would_read():
  text = GRID.latex()
  assert r"\caption{Accuracy in \%, one\_model.}" in text
  assert r"\begin{tabular}{lr}" in text
  assert r"resnet\_v1\_50 & 76.13 \\" in text
  assert text.count("{table}") == 2 and text.endswith("\\end{table}\n")
  strange = table.from_cells("c", ("a",), ((r"\x^~{}$#&<>",),))
  assert (
    r"\textbackslash{}x\textasciicircum{}\textasciitilde{}\{\}\$\#\&"
    r"\textless{}\textgreater{} \\"
  ) in strange.latex()


def test_rows_by_name_and_columns_that_are_empty():
  values = {"a": "1", "b": ""}
  grid = table.from_names(
    "c", ["a", "b"], [("x", values.get), ("x", values.get), ("y", lambda _: "")]
  )
  assert grid.header == ["model", "x", "x"]
  assert grid.cells == [["a", "1", "1"], ["b", "", ""]]
  assert table.from_names("c", [], {"x": str}).header == ["model"]
  with pytest.raises(ValueError, match="2 cells"):
    table.from_cells("c", ("a", "b"), (("1",),))


def test_csv_has_keys_values_and_a_header_without_rows():
  columns = (table.Column("a", "A"), table.number(lambda row: row["b"], "B"))
  rows = [{"a": 0.5, "b": None}, {"a": "x,y", "b": 3}]
  assert table.Table("", columns, rows).csv() == 'a,B\n0.5,\n"x,y",3\n'
  assert table.Table("", columns, []).csv() == "a,B\n"
  with pytest.raises(ValueError):
    table.Table("", (columns[0], columns[0]), rows).csv()


def test_numbers_as_people_read_them():
  assert formats.percent(0.76128) == "76.13"
  assert formats.percent(None) == "undefined"
  assert formats.percent(-1e-9) == "0.00"
  assert formats.signed(0.0003) == "+0.03" and formats.signed(-1e-9) == "+0.00"
  assert formats.signed(None) == ""
  assert formats.with_bounds(0.5, 0.25, 0.75) == "50.00 [25.00, 75.00]"
  assert formats.with_bounds(0.5, None, None) == "50.00"
  assert formats.with_bounds(0.5, 0.25, 0.75, "%") == "50.00% [25.00, 75.00]"
  assert formats.with_bounds(None, None, None, "%") == "undefined"
  assert formats.measured(rows.value(50)) == "50.00 [39.83, 60.17]"
  assert formats.measured(rows.value(0, 0)) == "undefined"
  assert formats.measured(None) == ""
  assert formats.metric_title("real_accuracy") == "ReaL accuracy"
