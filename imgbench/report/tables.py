"""The table of results that is printed at the end of a run."""

from collections.abc import Mapping

from imgbench.report import inputs
from imgbench.report import text

_HEADER = ("dataset", "subset", "metric", "value", "95% interval", "n")
_LEFT = 3  # columns of names; the others are numbers, set to the right
# The terminal is for a glance: of a whole set these beside its accuracies,
_ALSO = ("nll", "macro_f1")
# and of a subset only these.
_OF_SUBSETS = ("top1_accuracy", "multilabel_accuracy.tfds")


def terminal_table(results: Mapping[str, Mapping]) -> str:
  """Returns a plain-text table of the main results, without a final newline.

  Accuracies of the whole sets come first, then the main ones of the subsets,
  then log-likelihood and macro F1 of the whole sets; a last line says how many
  further numbers the file holds. Rates are in percent.

  Args:
    results: the content of results.json.

  Raises:
    InputError: an entry that results.json would not hold.
  """
  rows = inputs.parse_results(results)
  shown = sorted(
    filter(_is_shown, rows),
    # Stable: what is alike stays in the order of the rows.
    key=lambda row: (not text.is_accuracy(row.metric), row.subset != "all"),
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
  if row.subset != "all":
    training = inputs.is_training_split(row.dataset)
    return row.metric in _OF_SUBSETS and not training
  return text.is_accuracy(row.metric) or row.metric in _ALSO


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
