"""One table for every output: text, Markdown, LaTeX, HTML and CSV."""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import itertools
import re
from typing import Any

from imgbench import texts

_LATEX = {
  "\\": r"\textbackslash{}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "<": r"\textless{}",
  ">": r"\textgreater{}",
  **{c: f"\\{c}" for c in "&%$#_{}"},
}
# Intervals keep their brackets, and an underscore between letters is one.
_MARKDOWN = re.compile(
  r"(\[[-+\d., ]*\](?![(\[:]))|[\\|*<`\[\]]|(?<![^\W_])_|_(?![^\W_])"
  r"|~(?=~)|&(?=#?\w+;)"
)
# What a spreadsheet takes for a formula, after any number of apostrophes.
_FORMULA = re.compile(r"'*\s*[=+\-@＝＋－＠]")
# Columns of ids, which programs look up.
_IDS = ("image_id", "test_id", "train_id", "wnid")

Cell = Callable[[Any], str]  # a row's name -> text of its cell


@dataclasses.dataclass(frozen=True)
class RichText:
  """Text with extras for HTML; other formats show the text alone.

  Attributes:
    text: shown first.
    help: tooltip.
    badge: a mark after the text.
    beside: muted text on the same line.
    below: smaller lines.
    url: where the text leads to.
  """

  text: str
  help: str = ""
  badge: str = ""
  beside: str = ""
  below: tuple["Text", ...] = ()
  url: str = ""

  def __str__(self) -> str:
    return self.text


Text = str | RichText


def show(value: Any) -> Text:
  """Returns the text of a value; "" for None."""
  if isinstance(value, RichText):
    return value
  return "" if value is None else str(value)


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of a table.

  Attributes:
    key: of its value in a row: a key of a mapping, an index, an attribute, or
      a function of the row. In CSV the heading, unless it is a function.
    title: heading in all other formats; "": the key.
    numeric: right-aligned.
    format: value -> text, which HTML escapes.
  """

  key: Hashable | Callable[[Any], Any]
  title: Text = ""
  numeric: bool = False
  format: Callable[[Any], Text] = show

  @property
  def heading(self) -> Text:
    return self.title or str(self.key)

  def value(self, row: Any) -> Any:
    """Returns the value in a row."""
    if callable(self.key):
      return self.key(row)
    if isinstance(row, Mapping) or isinstance(self.key, int):
      return row[self.key]
    return getattr(row, str(self.key))

  def cell(self, row: Any) -> Text:
    """Returns the text of the value in a row."""
    return self.format(self.value(row))


def number(
  key, title: Text = "", format: Callable[[Any], Text] = show
) -> Column:
  """Returns a numeric column."""
  return Column(key, title, numeric=True, format=format)


@dataclasses.dataclass(frozen=True)
class Table:
  """Columns over rows.

  Attributes:
    caption: one sentence without a full stop; "": none.
    columns: in order.
    rows: mappings, sequences or objects that hold the columns' values.
    group: row -> heading, shown in HTML above adjacent rows that share it.
  """

  caption: str
  columns: Sequence[Column]
  rows: Sequence[Any]
  group: Callable[[Any], Text] = lambda row: ""

  @property
  def header(self) -> list[str]:
    return [texts.printable(str(column.heading)) for column in self.columns]

  @property
  def cells(self) -> list[list[str]]:
    """Text of the rows, without the header, as a terminal may show it."""
    return [
      [texts.printable(str(c.cell(row))) for c in self.columns]
      for row in self.rows
    ]

  @property
  def groups(self) -> list[tuple[Text, list[Any]]]:
    """Headings and the rows below each."""
    return [
      (h, list(rows)) for h, rows in itertools.groupby(self.rows, self.group)
    ]

  def without_empty(self) -> "Table":
    """Returns the table without columns that are empty in every row."""
    kept = [
      c for c in self.columns if any(str(c.cell(row)) for row in self.rows)
    ]
    return dataclasses.replace(self, columns=kept)

  def lines(self, rule: str = "", least: int = 0) -> list[str]:
    """Returns aligned lines for a terminal, the header first.

    Args:
      rule: below the header: "" none, "line" one line of dashes, "columns" a
        line under each heading.
      least: least width of a column, in characters.
    """
    head, *body = self._padded(self.header, self.cells, least)
    join = lambda cells: "  ".join(cells).rstrip()
    # A column without a heading keeps its width.
    dashes = [("-" if h.strip() else " ") * len(h) for h in head]
    rules = {"": [], "line": ["-" * len(join(head))], "columns": [join(dashes)]}
    return [join(head), *rules[rule], *map(join, body)]

  def text(self) -> str:
    """Returns caption and table for a terminal."""
    caption = texts.printable(self.caption)
    return "\n".join([caption, "", *self.lines("line", least=3)]) + "\n"

  def markdown(self, padded: bool = True) -> str:
    """Returns GitHub's Markdown, the caption above the table."""
    escape = lambda row: list(map(escape_markdown, row))
    header, cells = escape(self.header), [escape(row) for row in self.cells]
    rows = [header, *cells]
    head, *body = self._padded(header, cells, 3) if padded else rows
    rule = [
      "-" * (len(cell) - column.numeric if padded else 3) + ":" * column.numeric
      for cell, column in zip(head, self.columns, strict=True)
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
    if self.caption:
      lines = [f"{escape_markdown(self.caption)}.", "", *lines]
    return "\n".join(lines) + "\n"

  def latex(self) -> str:
    """Returns a LaTeX `table` that needs no package."""
    escape = lambda row: list(map(_escape_latex, row))
    header, cells = escape(self.header), [escape(row) for row in self.cells]
    head, *body = self._padded(header, cells, 3)
    places = "".join("r" if column.numeric else "l" for column in self.columns)
    return "\n".join(
      [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape_latex(self.caption)}.}}",
        rf"\begin{{tabular}}{{{places}}}",
        r"\hline",
        f"{' & '.join(head)} \\\\",
        r"\hline",
        *(f"{' & '.join(row)} \\\\" for row in body),
        r"\hline",
        r"\end{tabular}",
        r"\end{table}",
        "",
      ]
    )

  def html(self) -> str:
    """Returns an HTML table in a box that scrolls."""
    # Tables for a terminal do not need Jinja2.
    from imgbench.tables import page

    return page.macros("tables/templates/table.html.j2").table(self)

  def csv(self) -> str:
    """Returns keys and unformatted values as CSV for programs, see `csv_text`.

    Raises:
      ValueError: two columns with one heading.
    """
    heads = [c.title if callable(c.key) else c.key for c in self.columns]
    if len(set(heads)) < len(heads):
      raise ValueError(f"columns share a heading: {heads}")
    values = [[c.value(row) for c in self.columns] for row in self.rows]
    rows = [dict(zip(heads, row, strict=True)) for row in values]
    return csv_text(rows, heads, exact=True)

  def _padded(self, header, cells, least: int) -> list[list[str]]:
    """Returns header and rows with cells padded to their column's width."""
    rows = [header, *cells]
    widths = [max(least, *map(len, cs)) for cs in zip(*rows, strict=True)]
    return [
      [
        cell.rjust(width) if column.numeric else cell.ljust(width)
        for cell, width, column in zip(row, widths, self.columns, strict=True)
      ]
      for row in rows
    ]


def from_cells(
  caption: str,
  header: Iterable[str],
  rows: Iterable[Sequence[Any]],
  num_left: int = 1,
) -> Table:
  """Returns a table of rows that hold the cells in order.

  Args:
    caption: as of `Table`.
    header: headings.
    rows: each as long as the header.
    num_left: number of text columns; the others are numeric.

  Raises:
    ValueError: a row of another length.
  """
  columns = [Column(i, h, i >= num_left) for i, h in enumerate(header)]
  rows = tuple(map(tuple, rows))
  for row in rows:
    if len(row) != len(columns):
      raise ValueError(f"expected {len(columns)} cells, got {row}")
  return Table(caption, columns, rows)


def from_names(
  caption: str,
  names: Iterable[str],
  columns: Mapping[str, Cell] | Sequence[tuple[str, Cell]],
  first: str = "model",
) -> Table:
  """Returns a table with a row for each name.

  Args:
    caption: as of `Table`.
    names: the first column.
    columns: heading -> cell of a name; pairs if headings repeat. A column that
      is empty in all rows is left out.
    first: heading of the names.
  """
  pairs = columns.items() if isinstance(columns, Mapping) else columns
  others = [number(cell, heading) for heading, cell in pairs]
  found = Table(caption, others, list(names)).without_empty()
  name = Column(lambda row: row, first)
  return dataclasses.replace(found, columns=[name, *found.columns])


def csv_text(
  rows: Sequence[Mapping[Any, Any]],
  columns: Sequence[Any] = (),
  exact: bool = False,
) -> str:
  """Returns mappings as CSV.

  Args:
    rows: column -> value; None is an empty cell.
    columns: by default all keys.
    exact: keep all texts, for programs. Else a spreadsheet takes no text for a
      formula, see `escape_formula`, and control characters become spaces.
  """
  keys = columns or dict.fromkeys(key for row in rows for key in row)
  if not keys:
    return ""
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, list(keys), lineterminator="\n")
  escape = lambda value: value if exact else escape_formula(value)
  writer.writerow({key: escape(key) for key in keys})
  for row in rows:
    writer.writerow(
      {key: v if key in _IDS else escape(v) for key, v in row.items()}
    )
  return buffer.getvalue()


def escape_formula(value: Any) -> Any:
  """Returns a cell that a spreadsheet takes for no formula.

  A text that begins with = + - or @ gets an apostrophe, unless it is a number
  or a lone minus; `unescape_formula` undoes that.
  """
  if not isinstance(value, str):
    return value
  value = texts.printable(value)
  plain = value == "-" or texts.is_number(value)
  return f"'{value}" if _FORMULA.match(value) and not plain else value


def unescape_formula(text: str) -> str:
  """Returns the text of a cell of `escape_formula`."""
  return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def escape_markdown(text: str) -> str:
  """Returns Markdown that shows a text, on one line."""
  text = " ".join(texts.printable(text).split())
  return _MARKDOWN.sub(lambda m: m[0] if m[1] else f"\\{m[0]}", text)


def _escape_latex(text: str) -> str:
  text = " ".join(texts.printable(text).split())
  return "".join(_LATEX.get(c, c) for c in text)
