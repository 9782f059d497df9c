"""Builds tables of the entries of results.json, with their intervals."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import table

UNREVIEWED = (
  "Never reviewed: top-1 predictions whose label no annotator has judged for"
  " the image. They count as wrong; the bounds are the value with all of them"
  " wrong and with all of them right."
)
_GROUP, _LINE = 0, 1  # keys of a pivoted row, besides those of its columns

Rows = Sequence[entries.Row]
Getter = Callable[[entries.Row], table.Text]

_no_group = lambda row: ""
_dataset = lambda row: row.dataset
_subset = lambda row: row.subset
_label = lambda row: specs.describe(row.metric).label
_count = lambda row: formats.counted(row.correct, row.n)
_NAMES = table.Column("dataset", "Data set")


def build_results(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of metrics; few data sets are columns."""
  if selection.fit_across(rows):
    return _build_side_by_side(run, rows, "Metric", _label)
  columns = [_NAMES, *_build_numbers(run, "Value")]
  return table.Table("", columns, _sort(rows), _label)


def define(run: inputs.Run, rows: Rows) -> dict[str, str]:
  """Returns metric -> its definitions, with the methods of the intervals."""
  return {
    name: _define(run, [row for row in rows if row.metric == name])
    for name in _list_metrics(rows)
  }


def build_subsets(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of metrics of subsets; many data sets are rows."""
  if selection.fit_across(rows):
    heading = table.RichText("Metric", below=("Subset",))
    return _build_side_by_side(run, rows, heading, _subset, _label)
  cell = lambda row: _format_value(row, formats.interval(row), _count(row))
  columns = {row.subset: row.subset for row in rows}
  return _pivot(_sort(rows), _NAMES, columns, _subset, cell, _label)


def build_kinds(
  run: inputs.Run, rows: Rows, names: Sequence[str]
) -> table.Table:
  """Builds a table of values and intervals with subsets as columns."""
  cell = lambda row: _format_value(row, formats.interval(row), reviews=False)
  columns = {name: selection.KINDS.get(name, name) for name in names}
  return _pivot(_sort(rows), _NAMES, columns, _subset, cell, _label)


def build_by_metric(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table with metrics as columns and images as rows."""
  columns = {name: specs.describe(name).label for name in _list_metrics(rows)}
  cell = lambda row: _format_value(row, formats.interval(row), f"n = {row.n:,}")
  images = lambda row: run.repeats.get(row.dataset, row.dataset)
  first = table.Column(images, "Data set")
  return _pivot(rows, first, columns, lambda row: row.metric, cell)


def build_drops(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of base accuracy, accuracy and drop of rows with `shift`."""
  base = lambda row: _format_beside(
    row.shift.base, formats.value(row.shift.base)
  )
  here = lambda row: _format_beside(row, formats.shifted(row))
  interval = lambda row: format_bounds(row.shift.drop) or formats.DASH
  columns = [
    _NAMES,
    table.number(base, "Base accuracy"),
    table.number(here, "Accuracy"),
    table.number(_format_drop, "Drop"),
    table.number(interval, f"{run.coverage} interval"),
  ]
  return table.Table("", columns, _sort(rows), _label)


def build_drops_by_subset(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of drops with both accuracies; subsets are columns."""

  def cell(row):
    if row.shift.drop.value is None:
      return _format_drop(row)
    change = f"{formats.value(row.shift.base)} → {formats.shifted(row)}"
    return _format_drop(row, format_bounds(row.shift.drop), change)

  columns = {row.subset: row.subset for row in rows}
  return _pivot(_sort(rows), _NAMES, columns, _subset, cell, _label)


def describe_unreviewed(row: entries.Row) -> tuple[table.Text, ...]:
  """Returns the share of unreviewed predictions with bounds, if any."""
  words = formats.unreviewed(row)
  return (table.RichText(words, help=UNREVIEWED),) if words else ()


def _build_side_by_side(
  run: inputs.Run,
  rows: Rows,
  heading: table.Text,
  line: Getter,
  group: Getter = _no_group,
) -> table.Table:
  """Builds a column for each data set, or three for a single one."""
  names = list(dict.fromkeys(map(_dataset, rows)))
  first = table.Column(line, heading)
  if len(names) == 1:
    columns = [first, *_build_numbers(run, names[0])]
    return table.Table("", columns, _sort(rows), group)
  below = (f"{run.coverage} interval · correct of n",)
  heads = {name: table.RichText(name, below=below) for name in names}
  parts = lambda row: filter(None, (formats.interval(row), _count(row)))
  cell = lambda row: _format_value(row, " · ".join(parts(row)))
  return _pivot(_sort(rows), first, heads, _dataset, cell, group)


def _pivot(
  rows: Rows,
  first: table.Column,
  columns: Mapping[str, table.Text],
  column: Getter,
  cell: Getter,
  group: Getter = _no_group,
) -> table.Table:
  """Pivots rows: those with the same group and name are one line.

  Args:
    rows: the lines are in the order of their first rows.
    first: the name of a row's line.
    columns: value of `column` -> heading, in order.
    column: the column of a row.
    cell: formats a row.
    group: the group of a row's line.
  """
  lines: dict[tuple, dict] = {}
  for row in rows:
    names = group(row), first.cell(row)
    lines.setdefault(names, dict(enumerate(names)))[column(row)] = row

  def number(name):
    get = lambda line: cell(line[name]) if name in line else formats.DASH
    return table.number(get, columns[name])

  line_column = table.Column(_LINE, first.heading)
  all_columns = [line_column, *map(number, columns)]
  of_line = lambda line: line[_GROUP]
  return table.Table("", all_columns, list(lines.values()), of_line)


def _list_metrics(rows: Rows) -> list[str]:
  return selection.sort_metrics(rows, len(rows))


def _sort(rows: Rows) -> list[entries.Row]:
  """Returns the rows sorted by metric, which is stable."""
  order = _list_metrics(rows)
  return sorted(rows, key=lambda row: order.index(row.metric))


def _build_numbers(run: inputs.Run, heading: table.Text) -> list[table.Column]:
  interval = lambda row: formats.interval(row) or formats.DASH
  return [
    table.number(_format_value, heading),
    table.number(interval, f"{run.coverage} interval"),
    table.number(_count, "Correct of n"),
  ]


def _format_value(
  row: entries.Row, *below: str, reviews: bool = True
) -> table.RichText:
  """Returns a value with the nonempty lines below it."""
  lines = *filter(None, below), *(describe_unreviewed(row) if reviews else ())
  help = f"{_count(row)}: {row.definition}"
  return table.RichText(formats.value(row), help=help, below=lines)


def _format_beside(row: entries.Row, value: str) -> table.RichText:
  """Returns a value with its interval on the same line."""
  interval = formats.interval(row)
  help = f"{_count(row)}: {row.definition}"
  beside = f"({interval})" if interval else ""
  return table.RichText(value, help=help, beside=beside)


def _format_drop(row: entries.Row, *below: str) -> table.RichText:
  drop = row.shift.drop
  lines = tuple(filter(None, below))
  return table.RichText(formats.value(drop), help=drop.definition, below=lines)


def format_bounds(row: entries.Row) -> str:
  """Returns the interval in brackets, "" without one."""
  interval = formats.interval(row, ", ")
  return f"[{interval}]" if interval else ""


def _define(run: inputs.Run, rows: Rows) -> str:
  sets: dict[str, list[str]] = {}
  for row in rows:
    if row.definition:
      sets.setdefault(row.definition, []).append(row.dataset)
  lines = list(sets)
  if len(lines) > 1:
    lines = [f"{', '.join(names)}: {words}" for words, names in sets.items()]
  methods = dict.fromkeys(row.ci_method for row in rows if row.ci_method)
  lines += [
    f"{run.coverage} interval: {method.replace('_', ' ')}" for method in methods
  ]
  return "; ".join(lines)
