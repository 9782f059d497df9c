"""Tests of tables in every output format."""

import csv
import io

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


RAW = "a\x1b[2Jb\x9bc\u202ed\u2028e\r\nf\x07g\ud800h"


def test_fault_22_no_output_has_raw_escapes():
  made = table.from_cells(f"c{RAW}", (f"h{RAW}",), ((f"{RAW}\0",), (RAW,)))
  for text in (made.text(), made.markdown(), made.latex(), *made.lines()):
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()
  assert made.text().count("\n") == 6
  for text in (table.csv_text([{f"k{RAW}": RAW}]), str(made.html())):
    assert not set(text) & set("\x1b\x9b\u202e\u2028\r\x07\ud800")
  assert "b c d e  f g h" in made.text()


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("resnet_v1_50", "resnet_v1_50"),
    ("__init__", r"\_\_init\_\_"),
    ("_a_ b_c", r"\_a\_ b_c"),
    ("**b** `c` <i>", r"\*\*b\*\* \`c\` \<i>"),
    ("[x](https://a.b)", r"\[x\](https://a.b)"),
    ("![1](x)", r"!\[1\](x)"),
    ("[1][x]", r"\[1\]\[x\]"),
    ("a|b\\", r"a\|b\\"),
    ("~~a~~ ~1", r"\~~a\~~ ~1"),
    ("&lt;b & c", r"\&lt;b & c"),
    ("76.13 [75.75, 76.50]", "76.13 [75.75, 76.50]"),
    ("a\n\n# b", "a # b"),
  ],
)
def test_fault_22_markdown_shows_names_as_they_are(name, shown):
  made = table.from_cells("", ("model",), ((name,),))
  assert made.markdown(padded=False).splitlines()[-1] == f"| {shown} |"
  assert table.escape_markdown(name) == shown


FORMULAS = ("=1+1", "+cmd", "-a", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1")
TEXTS = ("-", "-1", "+0.5", "-1e-5", "-inf", "", "a=1", "a-b", "'", "'a", "–")


def test_fault_22_texts_of_csv_are_no_formulas():
  cells = [*FORMULAS, "'=1", "''-a", "'\t@", *TEXTS, -1, -0.5, None]
  text = table.csv_text([{"=k": cell} for cell in cells])
  head, *rows = [row[0] for row in csv.reader(io.StringIO(text)) if row]
  assert head == "'=k"
  escaped = len(FORMULAS) + 3
  for cell, row in zip(cells[:escaped], rows, strict=False):
    assert row == "'" + cell.replace("\t", " ").replace("\r", " ")
    assert table.unescape_formula(row) == row[1:]
  kept = ["" if c is None else str(c) for c in cells[escaped:]]
  assert rows[escaped:] == kept
  assert [table.unescape_formula(c) for c in kept] == kept


def test_fault_22_ids_and_files_of_programs_are_exact():
  row = {"image_id": "-aB3", "wnid": "=n", "class_name": "@a\tb"}
  text = table.csv_text([row])
  (found,) = csv.DictReader(io.StringIO(text))
  assert found == row | {"class_name": "'@a b"}
  (found,) = csv.DictReader(io.StringIO(table.csv_text([row], exact=True)))
  assert found == row
  columns = [table.Column(key) for key in row]
  (found,) = csv.DictReader(io.StringIO(table.Table("", columns, [row]).csv()))
  assert found == row
