"""Formats the tables that a run prints at its end."""

from collections.abc import Mapping
from collections.abc import Sequence

from imgbench.metrics import specs
from imgbench.report import entry_tables
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import table

# Besides the accuracies of whole sets.
_ALSO = (
  *("nll", "ece", "macro_f1", "mse", "psnr"),
  *("anomaly_roc_auc", "anomaly_recall", "anomaly_precision"),
)
_OF_TRAINING = ("top1_accuracy", "nll", "mse")
_OF_SUBSETS = ("top1_accuracy", "multilabel_accuracy.tfds")


def format_table(results: Mapping[str, Mapping], alpha: float = 0.05) -> str:
  """Returns plain text of the main results, without a final newline.

  The first table has a line for each main result of whole sets, with the bounds
  from unreviewed predictions; the second one a line for each subset, the third
  one a line for each drop from a base set. Of many data sets, those with drops
  are only in the third table. The last lines name data sets with test-time
  augmentation and count the other results. Rates are in percent, drops in
  percentage points.

  Args:
    results: the content of results.json.
    alpha: 1 - the coverage of its intervals, for the heading.

  Raises:
    InputError: an invalid entry.
  """
  rows = entries.parse(results)
  datasets = list(dict.fromkeys(row.dataset for row in rows))
  leading = selection.find_leading(rows)
  place = lambda row: (datasets.index(row.dataset), specs.rank(row.metric))
  led = [row for row in rows if row.dataset in leading]
  whole = sorted(filter(_is_shown, led), key=place)
  of_subsets = list(filter(_is_shown_of_subset, led))
  dropped = list(filter(_is_shown_drop, rows))
  interval = f"{inputs.format_coverage(alpha)} interval"
  tables = [_build_whole(whole, interval)]
  if of_subsets:
    tables.append(_build_subsets(of_subsets))
  if dropped:
    tables.append(_build_drops(dropped, interval))
  text = "\n\n".join("\n".join(t.lines("columns")) for t in tables)
  shown = {id(row) for row in (*whole, *of_subsets, *dropped)}
  unreviewed = sum(bool(formats.unreviewed(row)) for row in whole)
  hidden = len(results) - len(shown) - 3 * unreviewed - 2 * len(dropped)
  augmented = dict.fromkeys(row.dataset for row in rows if row.augmented)
  if augmented:
    text += f"\n{', '.join(augmented)}: {specs.AUGMENTED}"
  return text + (f"\n({hidden} more in results.json)" if hidden else "")


def _is_shown(row: entries.Row) -> bool:
  if row.subset != "all":
    return False
  if entries.is_training_split(row.dataset):
    return row.metric in _OF_TRAINING
  return specs.describe(row.metric).headline or row.metric in _ALSO


def _is_shown_of_subset(row: entries.Row) -> bool:
  training = entries.is_training_split(row.dataset)
  return row.subset != "all" and row.metric in _OF_SUBSETS and not training


def _is_shown_drop(row: entries.Row) -> bool:
  shown = row.subset == "all" and row.metric in _OF_SUBSETS
  return shown and row.shift is not None


def _build_whole(rows: Sequence[entries.Row], interval: str) -> table.Table:
  def unreviewed(row):
    words = formats.unreviewed(row)
    return f"({words})" if words else ""

  columns = [
    *_build_columns("dataset", "metric"),
    table.number(formats.value, "value"),
    table.number(lambda row: entry_tables.format_bounds(row) or "-", interval),
    table.number("n"),
    table.Column(unreviewed, " "),
  ]
  return table.Table("", columns, rows)


def _build_subsets(rows: Sequence[entries.Row]) -> table.Table:
  """Builds a table of subsets with metrics as columns."""
  lines: dict[tuple[str, str], dict[str, str]] = {}
  for row in rows:
    names = {"dataset": row.dataset, "subset": row.subset}
    line = lines.setdefault((row.dataset, row.subset), names)
    line[row.metric] = (
      f"{formats.value(row)} {entry_tables.format_bounds(row)}".rstrip()
    )
  metrics = [m for m in _OF_SUBSETS if any(row.metric == m for row in rows)]
  cell = lambda metric: lambda line: line.get(metric, "-")
  columns = [table.number(cell(metric), metric) for metric in metrics]
  columns = [*_build_columns("dataset", "subset"), *columns]
  return table.Table("", columns, list(lines.values()))


def _build_drops(rows: Sequence[entries.Row], interval: str) -> table.Table:
  """Builds a table of accuracies with those on a base set and the drops."""
  columns = [
    *_build_columns("dataset", "metric"),
    table.number(lambda row: formats.value(row.shift.base), "base"),
    table.number(formats.shifted, "value"),
    table.number(
      lambda row: formats.drop(row.shift.drop), f"drop [{interval}]"
    ),
  ]
  return table.Table("", columns, rows)


def _build_columns(*keys: str) -> list[table.Column]:
  return [table.Column(key) for key in keys]
