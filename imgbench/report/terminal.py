"""The table of results that is printed at the end of a run."""

from collections.abc import Mapping
from collections.abc import Sequence

from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import table

# The terminal is for a glance: of a whole set these beside its accuracies,
_ALSO = ("nll", "ece", "macro_f1")
# of training data only this,
_OF_TRAINING = ("top1_accuracy", "nll")
# and of subsets these, in columns.
_OF_SUBSETS = ("top1_accuracy", "multilabel_accuracy.tfds")


def terminal_table(results: Mapping[str, Mapping], alpha: float = 0.05) -> str:
  """Returns plain text of the main results, without a final newline.

  One table has a line for each main number of the whole sets, beside it how
  far predictions that nobody has reviewed may move it; the second one a line
  for each subset, the third one a line for each drop from a base set. Of many
  data sets those that have drops are in the third table alone. A last line says
  how many further numbers the file holds. Rates are in percent, drops in
  percentage points.

  Args:
    results: the content of results.json.
    alpha: 1 - the coverage of its intervals, for the heading.

  Raises:
    InputError: an entry that results.json would not hold.
  """
  rows = entries.parse(results)
  datasets = list(dict.fromkeys(row.dataset for row in rows))
  leading = selection.leading(rows)
  place = lambda row: (datasets.index(row.dataset), specs.rank(row.metric))
  led = [row for row in rows if row.dataset in leading]
  whole = sorted(filter(_is_shown, led), key=place)
  of_subsets = list(filter(_is_shown_of_subset, led))
  dropped = list(filter(_is_shown_drop, rows))
  interval = f"{inputs.coverage(alpha)} interval"
  tables = [_whole(whole, interval)]
  if of_subsets:
    tables.append(_subsets(of_subsets))
  if dropped:
    tables.append(_drops(dropped, interval))
  text = "\n\n".join("\n".join(t.lines("columns")) for t in tables)
  shown = {id(row) for row in (*whole, *of_subsets, *dropped)}
  unreviewed = sum(bool(formats.unreviewed(row)) for row in whole)
  hidden = len(results) - len(shown) - 3 * unreviewed - 2 * len(dropped)
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


def _whole(rows: Sequence[entries.Row], interval: str) -> table.Table:
  def unreviewed(row):
    words = formats.unreviewed(row)
    return f"({words})" if words else ""

  columns = [
    *_words("dataset", "metric"),
    table.number(formats.value, "value"),
    table.number(lambda row: _interval(row) or "-", interval),
    table.number("n"),
    table.Column(unreviewed, " "),
  ]
  return table.Table("", columns, rows)


def _subsets(rows: Sequence[entries.Row]) -> table.Table:
  """A line for each subset, with the metrics side by side."""
  lines = {}
  for row in rows:
    names = {"dataset": row.dataset, "subset": row.subset}
    line = lines.setdefault((row.dataset, row.subset), names)
    line[row.metric] = f"{formats.value(row)} {_interval(row)}".rstrip()
  metrics = [m for m in _OF_SUBSETS if any(row.metric == m for row in rows)]
  of = lambda metric: lambda line: line.get(metric, "-")
  columns = [table.number(of(metric), metric) for metric in metrics]
  columns = [*_words("dataset", "subset"), *columns]
  return table.Table("", columns, list(lines.values()))


def _drops(rows: Sequence[entries.Row], interval: str) -> table.Table:
  """A line for each accuracy that is compared with that on a base set."""
  columns = [
    *_words("dataset", "metric"),
    table.number(lambda row: formats.value(row.shift.base), "base"),
    table.number(formats.shifted, "value"),
    table.number(
      lambda row: formats.drop(row.shift.drop), f"drop [{interval}]"
    ),
  ]
  return table.Table("", columns, rows)


def _words(*keys: str) -> list[table.Column]:
  return [table.Column(key) for key in keys]


def _interval(row: entries.Row) -> str:
  interval = formats.interval(row, ", ")
  return f"[{interval}]" if interval else ""
