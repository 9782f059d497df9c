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


def build_results(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of metrics with definitions; few data sets are columns."""
  labels = {
    name: _defined(run, [row for row in rows if row.metric == name])
    for name in _metrics(rows)
  }
  label = lambda row: labels[row.metric]
  if selection.fit_across(rows):
    return _side_by_side(run, rows, "Metric", label)
  columns = [_names(run), *_numbers(run, "Value")]
  return table.Table("", columns, _sorted(rows), label)


def build_subsets(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of metrics of subsets; many data sets are rows."""
  if selection.fit_across(rows):
    heading = table.RichText("Metric", below=("Subset",))
    return _side_by_side(run, rows, heading, _subset, _label)
  cell = lambda row: _value(row, formats.interval(row), _count(row))
  columns = {row.subset: row.subset for row in rows}
  return _pivot(_sorted(rows), _names(run), columns, _subset, cell, _label)


def build_kinds(
  run: inputs.Run, rows: Rows, names: Sequence[str]
) -> table.Table:
  """Builds a table of values and intervals with subsets as columns."""
  cell = lambda row: _value(row, formats.interval(row), reviews=False)
  columns = {name: name for name in names}
  return _pivot(_sorted(rows), _names(run), columns, _subset, cell, _label)


def build_by_metric(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table with metrics as columns and data sets as rows."""
  columns = {name: specs.describe(name).label for name in _metrics(rows)}
  cell = lambda row: _value(row, formats.interval(row))
  return _pivot(rows, _names(run), columns, lambda row: row.metric, cell)


def build_drops(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of base accuracy, accuracy and drop of rows with `shift`."""
  base = lambda row: _beside(row.shift.base, formats.value(row.shift.base))
  here = lambda row: _beside(row, formats.shifted(row))
  interval = lambda row: _bounds(row.shift.drop) or formats.DASH
  columns = [
    _names(run),
    table.number(base, "Base accuracy"),
    table.number(here, "Accuracy"),
    table.number(_lost, "Drop"),
    table.number(interval, f"{run.coverage} interval"),
  ]
  return table.Table("", columns, _sorted(rows), _label)


def build_drops_by_subset(run: inputs.Run, rows: Rows) -> table.Table:
  """Builds a table of drops with both accuracies; subsets are columns."""

  def cell(row):
    if row.shift.drop.value is None:
      return _lost(row)
    change = f"{formats.value(row.shift.base)} → {formats.shifted(row)}"
    return _lost(row, _bounds(row.shift.drop), change)

  columns = {row.subset: row.subset for row in rows}
  return _pivot(_sorted(rows), _names(run), columns, _subset, cell, _label)


def describe_unreviewed(row: entries.Row) -> tuple[table.Text, ...]:
  """Returns the share of unreviewed predictions with bounds, if any."""
  words = formats.unreviewed(row)
  return (table.RichText(words, help=UNREVIEWED),) if words else ()


def _side_by_side(
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
    columns = [first, *_numbers(run, run.build_heading(names[0]))]
    return table.Table("", columns, _sorted(rows), group)
  below = (f"{run.coverage} interval · correct of n",)
  heads = {name: run.build_heading(name, below=below) for name in names}
  parts = lambda row: filter(None, (formats.interval(row), _count(row)))
  cell = lambda row: _value(row, " · ".join(parts(row)))
  return _pivot(_sorted(rows), first, heads, _dataset, cell, group)


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
  lines = {}
  for row in rows:
    names = group(row), first.cell(row)
    lines.setdefault(names, dict(enumerate(names)))[column(row)] = row
  of = lambda name: (
    lambda line: cell(line[name]) if name in line else formats.DASH
  )
  cells = [table.number(of(name), head) for name, head in columns.items()]
  names = table.Column(_LINE, first.heading)
  group = lambda line: line[_GROUP]
  return table.Table("", [names, *cells], list(lines.values()), group)


def _metrics(rows: Rows) -> list[str]:
  return selection.sort_metrics(rows, len(rows))


def _sorted(rows: Rows) -> list[entries.Row]:
  """Returns the rows sorted by metric, which is stable."""
  order = _metrics(rows)
  return sorted(rows, key=lambda row: order.index(row.metric))


def _names(run: inputs.Run) -> table.Column:
  return table.Column(lambda row: run.build_heading(row.dataset), "Data set")


def _numbers(run: inputs.Run, heading: table.Text) -> list[table.Column]:
  interval = lambda row: formats.interval(row) or formats.DASH
  return [
    table.number(_value, heading),
    table.number(interval, f"{run.coverage} interval"),
    table.number(_count, "Correct of n"),
  ]


def _value(
  row: entries.Row, *below: str, reviews: bool = True
) -> table.RichText:
  """Returns a value with the nonempty lines below it."""
  lines = *filter(None, below), *(describe_unreviewed(row) if reviews else ())
  help = f"{_count(row)}: {row.definition}"
  return table.RichText(formats.value(row), help=help, below=lines)


def _beside(row: entries.Row, value: str) -> table.RichText:
  """Returns a value with its interval on the same line."""
  interval = formats.interval(row)
  help = f"{_count(row)}: {row.definition}"
  beside = f"({interval})" if interval else ""
  return table.RichText(value, help=help, beside=beside)


def _lost(row: entries.Row, *below: str) -> table.RichText:
  drop = row.shift.drop
  lines = tuple(filter(None, below))
  return table.RichText(formats.value(drop), help=drop.definition, below=lines)


def _bounds(row: entries.Row) -> str:
  interval = formats.interval(row, ", ")
  return f"[{interval}]" if interval else ""


def _defined(run: inputs.Run, rows: Rows) -> table.RichText:
  """Returns a metric's label with its definitions and interval methods."""
  sets = {}
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
  return table.RichText(_label(rows[0]), help=rows[0].metric, below=(*lines,))
