"""Tables of text for people: terminal, Markdown and LaTeX."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from imgbench.metrics import measurement
from imgbench.tables import text as text_lib

UNDEFINED = "undefined"

_LATEX = {
  "\\": r"\textbackslash{}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "<": r"\textless{}",
  ">": r"\textgreater{}",
  **{c: f"\\{c}" for c in "&%$#_{}"},
}
_MARKDOWN = {c: f"\\{c}" for c in "\\|*<`"}


@dataclasses.dataclass(frozen=True)
class Grid:
  """A table of text.

  Attributes:
    caption: what it shows, one sentence without a full stop.
    header: names of the columns.
    rows: each as long as the header.
    num_left: so many columns hold words and stand on the left; the others
      hold numbers and stand on the right.
  """

  caption: str
  header: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  num_left: int = 1

  def __post_init__(self):
    for row in self.rows:
      if len(row) != len(self.header):
        raise ValueError(f"expected {len(self.header)} cells, got {row}")


Cell = Callable[[str], str]


def by_name(
  caption: str,
  names: Iterable[str],
  columns: Mapping[str, Cell] | Sequence[tuple[str, Cell]],
  first: str = "model",
) -> Grid:
  """Returns a grid with a row for each name.

  Args:
    caption: of the grid.
    names: of rows, the first column.
    columns: header -> what stands in the row of a name; pairs where a header
      occurs twice. A column that is empty in all rows is left out.
    first: header of the names.
  """
  names = list(names)
  pairs = columns.items() if isinstance(columns, Mapping) else columns
  found = [(header, [cell(name) for name in names]) for header, cell in pairs]
  found = [(header, cells) for header, cells in found if any(cells)]
  return Grid(
    caption,
    (first, *(header for header, _ in found)),
    tuple(zip(names, *(cells for _, cells in found), strict=True)),
  )


def metric_title(metric: str) -> str:
  """ "top1_accuracy" becomes "Top-1 accuracy"."""
  label = text_lib.metric_label(metric)
  return label[0].upper() + label[1:]


def percent(fraction: float | None, digits: int = 2) -> str:
  """E.g. "76.13"; "undefined" for None."""
  return UNDEFINED if fraction is None else f"{100 * fraction:z.{digits}f}"


def signed(fraction: float | None) -> str:
  """Percentage points with their sign, e.g. "+0.03"; "" for None."""
  return "" if fraction is None else f"{100 * fraction:+z.2f}"


def with_bounds(
  value: float | None, low: float | None, high: float | None
) -> str:
  """E.g. "76.13 [75.75, 76.50]", in percent; no brackets without bounds."""
  if value is None or low is None or high is None:
    return percent(value)
  bounds = ", ".join(percent(bound) for bound in (low, high))
  return f"{percent(value)} [{bounds}]"


def measured(entry: measurement.Measurement | None) -> str:
  """A measurement and its interval in percent; "" where there is none."""
  if entry is None:
    return ""
  return with_bounds(entry.value, entry.ci_low, entry.ci_high)


def text(grid: Grid) -> str:
  """Returns the grid for a terminal, its columns aligned with spaces."""
  head, *body = _padded(grid, grid.header, grid.rows)
  lines = [grid.caption, "", _joined(head), "-" * len(_joined(head))]
  return "\n".join([*lines, *map(_joined, body)]) + "\n"


def _joined(cells: Sequence[str]) -> str:
  return "  ".join(cells).rstrip()


def markdown(grid: Grid) -> str:
  """Returns the grid as a table of GitHub's Markdown with its caption."""
  escape = lambda row: [_escaped(cell, _MARKDOWN) for cell in row]
  head, *body = _padded(grid, escape(grid.header), map(escape, grid.rows))
  rule = [
    "-" * len(cell) if i < grid.num_left else "-" * (len(cell) - 1) + ":"
    for i, cell in enumerate(head)
  ]
  lines = [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
  return "\n".join([f"{_escaped(grid.caption, _MARKDOWN)}.", "", *lines]) + "\n"


def latex(grid: Grid) -> str:
  """Returns the grid as a `table` of LaTeX, which needs no package."""
  escape = lambda row: [_escaped(cell, _LATEX) for cell in row]
  head, *body = _padded(grid, escape(grid.header), map(escape, grid.rows))
  places = "l" * grid.num_left + "r" * (len(head) - grid.num_left)
  return "\n".join(
    [
      r"\begin{table}",
      r"\centering",
      rf"\caption{{{_escaped(grid.caption, _LATEX)}.}}",
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


def _escaped(cell: str, marks: Mapping[str, str]) -> str:
  return "".join(marks.get(c, c) for c in " ".join(cell.split()))


def _padded(grid: Grid, header, rows) -> list[list[str]]:
  """Header and rows with cells as wide as their column, at least 3."""
  lines = [list(header), *map(list, rows)]
  widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
  return [
    [
      cell.ljust(width) if i < grid.num_left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    for line in lines
  ]
