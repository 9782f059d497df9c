"""The main table: its rows in order, as files and as columns for people."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from imgbench.metrics import measurement
from imgbench.metrics import summary
from imgbench.papers import program
from imgbench.papers import records
from imgbench.tables import formats
from imgbench.tables import table

COLUMNS = (
  "model",
  "dataset",
  "subset",
  "metric",
  "n",
  "correct",
  "value",
  "ci_low",
  "ci_high",
)

# What metrics begin with, in the order of the table.
_BASES = (
  "top1_accuracy",
  "top5_accuracy",
  "real_accuracy",
  "real_top5_accuracy",
  "multilabel_accuracy",
)


def rows_of(
  results: Iterable[records.Result], datasets: Sequence[str]
) -> list[records.Row]:
  """Returns the rows of all results, see `ordered`."""
  return ordered((row for result in results for row in result.rows), datasets)


def ordered(
  rows: Iterable[records.Row], datasets: Sequence[str]
) -> list[records.Row]:
  """Returns rows by model, data set, subset and metric.

  Args:
    rows: each of another model, data set, subset or metric. Subsets come in
      the order in which they appear first.
    datasets: names in the order of the table.
  """
  rows = list(rows)
  if len({row[:4] for row in rows}) != len(rows):
    raise ValueError("a model has two results on one data set")
  sets = {name: i for i, name in enumerate(datasets)}
  subsets = {
    name: i for i, name in enumerate(dict.fromkeys(r[2] for r in rows))
  }
  return sorted(
    rows,
    key=lambda row: (
      row.model,
      sets[row.dataset],
      subsets[row.subset],
      _metric_order(row.metric),
    ),
  )


def _metric_order(metric: str) -> int:
  base = metric.partition(".")[0]
  # A mean over classes comes behind the plain share.
  first = _BASES.index(base) if base in _BASES else len(_BASES)
  return 2 * first + metric.endswith("real_accuracy.class_mean")


def cells(rows: Iterable[records.Row]) -> Iterator[tuple[Any, ...]]:
  """Yields the cells of table.csv, in the order of COLUMNS."""
  for row in rows:
    m = row.value
    yield *row[:4], m.n, m.correct, m.value, m.ci_low, m.ci_high


def write(
  output: program.Output,
  rows: Sequence[records.Row],
  name: str = "table.csv",
) -> None:
  """Adds the table, and why values are not defined, to the output."""
  output.csv(name, COLUMNS, cells(rows))
  for row in rows:
    if row.value.value is None:
      output.undefined("/".join(row[:4]), row.value.definition)


def write_grids(
  output: program.Output, tables: Sequence[table.Table], name: str = "table"
) -> None:
  """Adds tables for people as NAME.md and NAME.tex."""
  output.text(f"{name}.md", "\n".join(map(table.Table.markdown, tables)))
  output.text(f"{name}.tex", "\n".join(map(table.Table.latex, tables)))


class Lookup:
  """Finds measurements of the table, e.g. for the columns of a grid."""

  def __init__(self, rows: Iterable[records.Row]):
    self._found = {row[:4]: row.value for row in rows}

  def get(
    self, model: str, dataset: str, metric: str, subset: str = summary.ALL
  ) -> measurement.Measurement | None:
    """The measurement; None where the table has no such row."""
    return self._found.get((model, dataset, subset, metric))

  def value(
    self, model: str, dataset: str, metric: str, subset: str = summary.ALL
  ) -> float | None:
    """Its value; None where there is none or it is undefined."""
    entry = self.get(model, dataset, metric, subset)
    return None if entry is None else entry.value

  def column(
    self, dataset: str, metric: str, subset: str = summary.ALL
  ) -> Callable[[str], str]:
    """A column for `table.by_name`: value and interval, in percent."""
    return lambda model: formats.measured(
      self.get(model, dataset, metric, subset)
    )

  def plain_column(
    self, dataset: str, metric: str, subset: str = summary.ALL
  ) -> Callable[[str], str]:
    """As `column`, without the interval."""

    def cell(model: str) -> str:
      entry = self.get(model, dataset, metric, subset)
      return "" if entry is None else formats.percent(entry.value)

    return cell

  def best_first(
    self, dataset: str, metric: str, subset: str = summary.ALL
  ) -> list[str]:
    """All models by this value, the best first; those without one last."""
    models = sorted({key[0] for key in self._found})
    values = {m: self.value(m, dataset, metric, subset) for m in models}
    order = lambda m: (values[m] is None, -(values[m] or 0.0), m)
    return sorted(models, key=order)
