"""The table of results that is printed at the end of a run."""

from collections.abc import Mapping

from imgbench.report import inputs
from imgbench.report import text

_HEADER = ("dataset", "subset", "metric", "value", "95% interval", "n")
_LEFT = 3  # columns of names; the others are numbers, set to the right
# Beside accuracies, of the whole set only: the terminal is for a glance.
_ALSO = ("nll", "macro_f1")


def terminal_table(results: Mapping[str, Mapping]) -> str:
  """Returns a plain-text table of the main results, without a final newline.

  Accuracies of every subset come first, then log-likelihood and macro F1 of
  the whole set; a last line says how many further numbers the file holds.
  Rates are in percent. ASCII only but for the names of data sets.

  Args:
    results: the content of results.json.

  Raises:
    InputError: an entry that results.json would not hold.
  """
  rows = inputs.parse_results(results)
  shown = sorted(
    filter(_is_shown, rows),
    # Stable: data sets and subsets stay in the order of the file.
    key=lambda row: text.metric_order(row.metric)[0],
  )
  cells = [_HEADER, *map(_cells, shown)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [_line(row, widths) for row in cells]
  lines.insert(1, "  ".join("-" * width for width in widths))
  hidden = len(rows) - len(shown)
  if hidden:
    lines.append(f"({hidden} more in results.json)")
  return "\n".join(lines)


def _is_shown(row: inputs.Row) -> bool:
  if text.is_accuracy(row.metric):
    return True
  return row.subset == "all" and row.metric in _ALSO


def _cells(row: inputs.Row) -> tuple[str, ...]:
  interval = text.interval(row, ", ")
  return (
    row.dataset,
    row.subset,
    row.metric,
    text.value(row),
    f"[{interval}]" if interval else "-",
    str(row.n),
  )


def _line(cells, widths) -> str:
  aligned = [
    cell.ljust(width) if i < _LEFT else cell.rjust(width)
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
  ]
  return "  ".join(aligned).rstrip()
