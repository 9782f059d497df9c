"""The table of results that is printed at the end of a run."""

from collections.abc import Mapping
from collections.abc import Sequence

from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats

_LEFT = ("dataset", "subset", "metric", "")  # the others are set to the right
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
  whole = sorted(
    (row for row in rows if _is_shown(row) and row.dataset in leading),
    key=lambda row: (
      datasets.index(row.dataset),
      specs.rank(row.metric),
    ),
  )
  interval = f"{inputs.coverage(alpha)} interval"
  header = ("dataset", "metric", "value", interval, "n", "")
  lines = _table(header, [_cells(row) for row in whole])
  of_subsets = [
    row for row in rows if _is_shown_of_subset(row) and row.dataset in leading
  ]
  if of_subsets:
    lines += ["", *_subsets(of_subsets)]
  dropped = [row for row in rows if _is_shown_drop(row)]
  if dropped:
    lines += ["", *_drops(dropped, inputs.coverage(alpha))]
  shown = {id(row) for row in (*whole, *of_subsets, *dropped)}
  unreviewed = sum(bool(formats.unreviewed(row)) for row in whole)
  hidden = len(results) - len(shown) - 3 * unreviewed - 2 * len(dropped)
  if hidden:
    lines.append(f"({hidden} more in results.json)")
  return "\n".join(lines)


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


def _cells(row: entries.Row) -> tuple[str, ...]:
  unreviewed = formats.unreviewed(row)
  return (
    row.dataset,
    row.metric,
    formats.value(row),
    _interval(row) or "-",
    str(row.n),
    f"({unreviewed})" if unreviewed else "",
  )


def _subsets(rows: Sequence[entries.Row]) -> list[str]:
  """A line for each subset, with the metrics side by side."""
  metrics = [m for m in _OF_SUBSETS if any(row.metric == m for row in rows)]
  found = {(row.dataset, row.subset, row.metric): row for row in rows}
  body = []
  for dataset, subset in dict.fromkeys((r.dataset, r.subset) for r in rows):
    of_subset = [found.get((dataset, subset, metric)) for metric in metrics]
    values = [
      f"{formats.value(row)} {_interval(row)}".rstrip() if row else "-"
      for row in of_subset
    ]
    body.append((dataset, subset, *values))
  return _table(("dataset", "subset", *metrics), body)


def _drops(rows: Sequence[entries.Row], coverage: str) -> list[str]:
  """A line for each accuracy that is compared with that on a base set."""
  body = [
    (
      row.dataset,
      row.metric,
      formats.value(row.shift.base),
      formats.shifted(row),
      formats.drop(row.shift.drop),
    )
    for row in rows
  ]
  header = ("dataset", "metric", "base", "value", f"drop [{coverage} interval]")
  return _table(header, body)


def _interval(row: entries.Row) -> str:
  interval = formats.interval(row, ", ")
  return f"[{interval}]" if interval else ""


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
  cells = [header, *body]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = []
  for row in cells:
    aligned = [
      cell.ljust(width) if name in _LEFT else cell.rjust(width)
      for name, cell, width in zip(header, row, widths, strict=True)
    ]
    lines.append("  ".join(aligned).rstrip())
  rule = [
    "-" * (width if name else 0)
    for name, width in zip(header, widths, strict=True)
  ]
  lines.insert(1, "  ".join(rule).rstrip())
  return lines
