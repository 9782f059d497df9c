"""Tables with a line for each data set, for runs that have many of them."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from imgbench.metrics import specs
from imgbench.report import html_tables
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats

# (heading, rows): what the lines below a heading show; "" is no heading.
Group = tuple[str, Sequence[entries.Row]]
# The cells of a line, of which there is one by column, None for nothing.
Cells = Callable[[Sequence[entries.Row | None]], str]
_NOTHING = '<td class="num start">–</td>'


def by_metric(
  rows: Sequence[entries.Row], synthetic: Sequence[str], metrics: Sequence[str]
) -> str:
  """A column for each metric; says what is unreviewed."""
  columns = {metric: specs.describe(metric).label for metric in metrics}
  return _grid(
    [("", rows)],
    columns,
    lambda row: row.metric,
    lambda found: _value_cells(found, reviews=True),
    synthetic,
  )


def by_subset(
  rows: Sequence[entries.Row],
  synthetic: Sequence[str],
  subsets: Sequence[str],
  brief: bool = False,
) -> str:
  """A column for each subset, a group of lines for each metric.

  Args:
    rows: of whole sets and subsets.
    synthetic: keys of drawn data sets.
    subsets: the columns.
    brief: values and intervals alone.
  """
  return _grid(
    _groups(rows),
    {subset: subset for subset in subsets},
    lambda row: row.subset,
    lambda found: _value_cells(found, counts=not brief, reviews=not brief),
    synthetic,
  )


def results(
  rows: Sequence[entries.Row], synthetic: Sequence[str], coverage: str
) -> str:
  """A group of lines for each metric, its definition above them."""
  groups = [
    (html_tables.metric(of_metric[0].metric, of_metric, coverage), of_metric)
    for _, of_metric in _groups(rows)
  ]
  heads = ("Value", f"{coverage} interval", "Correct of n")
  return _grid(
    groups,
    {"value": heads},
    lambda row: "value",
    html_tables.cells,
    synthetic,
  )


def drops(
  rows: Sequence[entries.Row], synthetic: Sequence[str], coverage: str
) -> str:
  """Base accuracy, accuracy and what is lost, a group for each metric.

  Args:
    rows: accuracies that have a `shift`.
    synthetic: keys of drawn data sets.
    coverage: of the intervals.
  """
  heads = ("Base accuracy", "Accuracy here", "Drop", f"{coverage} interval")
  return _grid(
    _groups(rows),
    {"": heads},
    lambda row: "",
    lambda found: _drop_cells(found[0]),
    synthetic,
  )


def drops_by_subset(
  rows: Sequence[entries.Row], synthetic: Sequence[str], subsets: Sequence[str]
) -> str:
  """What is lost in each subset, and from where to where."""
  return _grid(
    _groups(rows),
    {subset: subset for subset in subsets},
    lambda row: row.subset,
    lambda found: "".join(map(_drop_cell, found)),
    synthetic,
  )


def _value_cells(
  rows: Sequence[entries.Row | None],
  counts: bool = False,
  reviews: bool = False,
) -> str:
  """A cell for each row, with its interval and what else is asked for."""
  drawn = []
  for row in rows:
    if row is None:
      drawn.append(_NOTHING)
      continue
    below = [formats.interval(row), _count(row) if counts else ""]
    more = html_tables.unreviewed(row) if reviews else ""
    title = f"{_count(row)}: {row.definition}"
    drawn.append(_cell(formats.value(row), below, title, more))
  return "".join(drawn)


def _drop_cells(row: entries.Row) -> str:
  drop = row.shift.drop
  interval = formats.interval(drop, ", ")
  return (
    _accuracy_cell(row.shift.base, formats.value(row.shift.base))
    + _accuracy_cell(row, formats.shifted(row))
    + _cell(formats.value(drop), [], drop.definition)
    + f'<td class="num">{f"[{interval}]" if interval else "–"}</td>'
  )


def _accuracy_cell(row: entries.Row, value: str) -> str:
  """On one line, with the interval."""
  interval = formats.interval(row)
  beside = f' <span class="muted">({interval})</span>' if interval else ""
  title = formats.escape(f"{_count(row)}: {row.definition}")
  return f'<td class="num start" title="{title}"><b>{value}</b>{beside}</td>'


def _drop_cell(row: entries.Row | None) -> str:
  if row is None:
    return _NOTHING
  drop = row.shift.drop
  interval = formats.interval(drop, ", ")
  below = []
  if drop.value is not None:
    change = f"{formats.value(row.shift.base)} → {formats.shifted(row)}"
    below = [f"[{interval}]" if interval else "", change]
  return _cell(formats.value(drop), below, drop.definition)


def _cell(value: str, below: Sequence[str], title: str, more: str = "") -> str:
  lines = "".join(f'<span class="below">{x}</span>' for x in below if x)
  return (
    f'<td class="num start" title="{formats.escape(title)}"><b>{value}</b>'
    f"{lines}{more}</td>"
  )


def _count(row: entries.Row) -> str:
  count = f"{row.n:,}"
  return count if row.correct is None else f"{row.correct:,} of {count}"


def _groups(rows: Sequence[entries.Row]) -> list[Group]:
  return [
    (
      formats.escape(specs.describe(metric).label),
      [row for row in rows if row.metric == metric],
    )
    for metric in selection.first_metrics(rows, len(rows))
  ]


def _grid(
  groups: Sequence[Group],
  columns: Mapping[str, str | Sequence[str]],
  column_of: Callable[[entries.Row], str],
  cells: Cells,
  synthetic: Sequence[str],
) -> str:
  """Lines are data sets, in groups.

  Args:
    groups: of rows.
    columns: what `column_of` may say -> heading, or several, in order.
    column_of: the column that a row stands in.
    cells: draws a line; a row or None for each of `columns`.
    synthetic: keys of drawn data sets.
  """
  heads = [
    head
    for names in columns.values()
    for head in ([names] if isinstance(names, str) else names)
  ]
  head = '<th scope="col">Data set</th>' + "".join(
    f'<th class="num start" scope="col">{formats.escape(name)}</th>'
    for name in heads
  )
  body = []
  for title, rows in groups:
    if title:
      span = f'colspan="{len(heads) + 1}"'
      body.append(
        f'<tr class="group"><th {span} scope="rowgroup">{title}</th></tr>'
      )
    found = {(row.dataset, column_of(row)): row for row in rows}
    for dataset in dict.fromkeys(row.dataset for row in rows):
      line = [found.get((dataset, column)) for column in columns]
      name = html_tables.dataset_title(dataset, synthetic)
      body.append(f'<tr><th scope="row">{name}</th>{cells(line)}</tr>')
  return html_tables.table(f"<tr>{head}</tr>", body, "sets")
