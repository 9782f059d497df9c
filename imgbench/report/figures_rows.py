"""Draws figures with a named row for each value: accuracies and drops."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses

from matplotlib import figure as mpl_figure

from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import themes


def draw_worst_classes(
  theme: themes.Theme, dataset: inputs.DatasetFiles, limit: int
) -> mpl_figure.Figure:
  """Draws the lowest recalls of classes with their intervals."""
  rows = selection.select_worst_classes(dataset.classes, limit)
  figure = themes.figure(1.0 + 0.29 * max(len(rows), 1))
  axes = figure.subplots()
  for place, row in enumerate(rows):
    _draw_interval(
      axes,
      place,
      (row.recall, row.recall_ci_low, row.recall_ci_high),
      theme.series[0],
    )
    taken = selection.find_top_confusion(dataset.confusion, row.class_index)
    note = f"{formats.share(row.recall)} of {row.n}"
    if taken:
      guess = formats.short(dataset.name(taken[0]), 22)
      judged = selection.describe_reviews(
        dataset.predictions, row.class_index, taken[0]
      )
      note += f", {taken[1]} as {guess}{judged and f': {judged}'}"
    _draw_note(axes, place, themes.plain(note), theme.muted)
  _name_rows(axes, theme, [formats.short(row.class_name) for row in rows])
  _format_percent_axis(axes, "recall and its interval")
  return figure


def draw_subsets(
  theme: themes.Theme,
  rows: Sequence[entries.Row],
  limits: tuple[float, float],
  coverage: str = "95%",
  line: Callable[[entries.Row], str] = lambda row: row.subset,
  series: Callable[[entries.Row], str] = lambda row: row.metric,
) -> mpl_figure.Figure:
  """Draws accuracies by subset of classes with their intervals.

  Args:
    theme: colors.
    rows: accuracies.
    limits: fractions that the axis includes, so that figures can be compared.
    coverage: of the intervals.
    line: the name of an entry's row.
    series: entries of equal series have one color.
  """
  order = dict.fromkeys(map(series, rows))
  marks = [
    Mark(
      line(row), series(row), row, f"{formats.share(row.value)}  n {row.n:,}"
    )
    for row in rows
  ]
  figure, axes = _draw_marks(theme, marks, sorted(order, key=specs.rank))
  margin = 0.04 * (limits[1] - limits[0]) + 0.001
  axes.set_xlim(100 * (limits[0] - margin), 100 * (limits[1] + margin))
  _format_percent_axis(axes, f"accuracy, {coverage} interval")
  return figure


def draw_drops(
  theme: themes.Theme, rows: Sequence[entries.Row], coverage: str = "95%"
) -> mpl_figure.Figure:
  """Draws drops of accuracy from a base set.

  Args:
    theme: colors.
    rows: accuracies that have a `shift`.
    coverage: of the intervals.
  """
  marks = [
    Mark(row.dataset, row.metric, row.shift.drop, formats.drop(row.shift.drop))
    for row in rows
  ]
  metrics = selection.sort_metrics(rows, len(rows))
  figure, axes = _draw_marks(theme, marks, metrics)
  low, high = axes.get_xlim()
  # The axis includes 0.
  axes.set_xlim(min(low, -0.02 * high), max(high, -0.02 * low))
  axes.axvline(0, color=theme.muted, linewidth=1.2, zorder=1)
  axes.xaxis.set_major_formatter(formats.VALUE_TICKS)
  axes.set_xlabel(f"percentage points lost, {coverage} interval")
  return figure


@dataclasses.dataclass(frozen=True)
class Mark:
  """A point with its interval: its line, series (color) and note."""

  line: str
  series: str
  entry: entries.Row
  note: str


def _draw_marks(theme, marks: Sequence[Mark], series: Sequence[str]):
  """Returns (figure, axes) with a line for each name and a legend."""
  names = list(dict.fromkeys(mark.line for mark in marks))
  figure = themes.figure(1.1 + (0.25 * len(series) + 0.14) * len(names))
  axes = figure.subplots()
  height = 0.78 / len(series)
  for mark in marks:
    if mark.entry.value is None:
      continue
    order = series.index(mark.series)
    place = names.index(mark.line) + (order - (len(series) - 1) / 2) * height
    color = theme.series[order % len(theme.series)]
    bounds = (mark.entry.value, mark.entry.ci_low, mark.entry.ci_high)
    _draw_interval(axes, place, bounds, color)
    _draw_note(axes, place, mark.note, color)
  for order, name in enumerate(series):
    color = theme.series[order % len(theme.series)]
    axes.plot(
      [], [], "o", color=color, markersize=5.5, label=_describe_series(name)
    )
  _name_rows(axes, theme, [formats.short(name, 44) for name in names])
  figure.legend(loc="outside upper left", ncols=len(series))
  return figure, axes


def _describe_series(series: str) -> str:
  """Returns the label of an accuracy; the name of a subset."""
  return (
    specs.describe(series).label if specs.describe(series).accuracy else series
  )


def _draw_interval(axes, place, bounds, color) -> None:
  """Draws a point and its interval; `bounds` is (value, low, high)."""
  value, low, high = bounds
  if low is not None and high is not None:
    axes.plot(
      [100 * low, 100 * high],
      [place, place],
      color=color,
      linewidth=4,
      alpha=0.38,
    )
  axes.plot([100 * value], [place], "o", color=color, markersize=5.5)


def _draw_note(axes, place, words, color) -> None:
  """Writes text to the right of a row."""
  axes.text(
    1.015,
    place,
    words,
    transform=axes.get_yaxis_transform(),
    va="center",
    fontsize=8.5,
    color=color,
  )


def _name_rows(axes, theme, labels) -> None:
  axes.set_yticks(range(len(labels)), [themes.plain(name) for name in labels])
  axes.tick_params(axis="y", labelcolor=theme.text)
  axes.set_ylim(len(labels) - 0.4, -0.6)
  axes.grid(axis="x")
  axes.spines["left"].set_visible(False)


def _format_percent_axis(axes, label) -> None:
  low, high = axes.get_xlim()
  axes.set_xlim(max(low, -1.5), min(high, 101.5))
  axes.xaxis.set_major_formatter(formats.PERCENT_TICKS)
  axes.set_xlabel(label)
