"""Draws reliability diagrams and precision-recall curves."""

from collections.abc import Sequence

from matplotlib import figure as mpl_figure
from matplotlib import ticker
import numpy as np

from imgbench.report import probabilities
from imgbench.tables import formats
from imgbench.tables import themes

_COLUMNS = 4  # of classes
_FEW = 30  # points of a curve whose points are marked


def draw_reliability(
  theme: themes.Theme,
  bins: probabilities.Reliability,
  shown: Sequence[int],
) -> mpl_figure.Figure:
  """Draws accuracy against confidence, and a histogram of confidence.

  Args:
    theme: colors.
    bins: of one data set.
    shown: the bins whose accuracy is drawn; the histogram has all.
  """
  figure = themes.figure(4.4)
  left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
  _draw_diagonal(left, theme, bins, shown)
  edges = 100 * np.array(bins.edges)
  right.bar(
    edges[:-1],
    bins.count,
    width=np.diff(edges),
    align="edge",
    color=theme.series[0],
    edgecolor=theme.background,
    linewidth=1.5,
  )
  right.set_title("Predictions by confidence")
  right.set_ylabel("images")
  right.set_xlabel("confidence")
  right.grid(axis="y")
  right.set_xlim(-1.5, 101.5)
  right.xaxis.set_major_formatter(formats.PERCENT_TICKS)
  right.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
  right.yaxis.set_major_formatter(formats.COUNT_TICKS)
  return figure


def _draw_diagonal(axes, theme, bins, shown) -> None:
  confidence = 100 * np.array([bins.confidence[i] for i in shown])
  accuracy = 100 * np.array([bins.accuracy[i] for i in shown])
  count = np.array([bins.count[i] for i in shown])
  axes.plot([0, 100], [0, 100], color=theme.muted, linewidth=1, dashes=(4, 3))
  for place, side, words in (
    ((2, 98), dict(ha="left", va="top"), "underconfident"),
    ((98, 2), dict(ha="right", va="bottom"), "overconfident"),
  ):
    axes.text(*place, words, **side, fontsize=8.5, color=theme.muted)
  axes.vlines(
    confidence,
    np.minimum(confidence, accuracy),
    np.maximum(confidence, accuracy),
    color=theme.series[1],
    linewidth=2.5,
    alpha=0.7,
  )
  # The area of a point is its share of the examples.
  axes.scatter(
    confidence,
    accuracy,
    s=24 + 340 * count / max(bins.count),
    color=theme.series[0],
    edgecolor=theme.background,
    linewidth=1,
    zorder=3,
  )
  axes.set_title("Reliability")
  axes.set_xlabel("mean confidence")
  axes.set_ylabel("accuracy")
  _format_square(axes)


def draw_precision_recall(
  theme: themes.Theme, curves: Sequence[probabilities.ClassCurve]
) -> mpl_figure.Figure:
  """Draws precision against recall, a panel for each class."""
  columns = min(_COLUMNS, len(curves))
  lines = -(-len(curves) // columns)
  width = themes.WIDTH * columns / _COLUMNS
  figure = themes.figure(2.72 * lines + 0.3, max(width, 3.2))
  figure.get_layout_engine().set(wspace=0.05)
  grid = figure.subplots(lines, columns, squeeze=False)
  for axes in grid.flat[len(curves) :]:
    axes.set_axis_off()
  for place, (axes, curve) in enumerate(zip(grid.flat, curves, strict=False)):
    for other in curves:
      if other is not curve:
        _draw_steps(axes, other, color=theme.muted, linewidth=0.8, alpha=0.35)
    _draw_class(axes, theme, curve)
    axes.tick_params(
      labelleft=place % columns == 0,
      labelbottom=place + columns >= len(curves),
    )
    if place % columns == 0:
      axes.set_ylabel("precision")
    if place + columns >= len(curves):
      axes.set_xlabel("recall")
  return figure


def _draw_class(axes, theme, curve) -> None:
  name = themes.plain(formats.short(curve.class_name, 24))
  axes.set_title(name, fontsize=10, pad=20)
  axes.annotate(
    f"AP {formats.decimal(curve.average_precision)},"
    f" {curve.positives:,} image{'s' if curve.positives != 1 else ''}",
    (0, 1),
    xytext=(0, 6),
    xycoords="axes fraction",
    textcoords="offset points",
    fontsize=8.5,
    color=theme.muted,
  )
  few = len(curve.recall) <= _FEW
  _draw_steps(axes, curve, color=theme.series[0], zorder=3)
  if few:
    axes.plot(
      100 * np.array(curve.recall),
      100 * np.array(curve.precision),
      "o",
      color=theme.series[0],
      markersize=3,
      zorder=3,
    )
  _format_square(axes)
  axes.set_xticks([0, 50, 100])
  axes.set_yticks([0, 50, 100])


def _draw_steps(axes, curve, **style) -> None:
  """Draws the step line whose area is the average precision."""
  recall = 100 * np.array([0.0, *curve.recall])
  precision = 100 * np.array([curve.precision[0], *curve.precision])
  axes.plot(recall, precision, drawstyle="steps-pre", **style)


def _format_square(axes) -> None:
  """Sets both axes to 0 to 100%."""
  axes.grid(True)
  axes.set_xlim(-3, 103)
  axes.set_ylim(-3, 103)
  axes.set_aspect("equal")
  axes.xaxis.set_major_formatter(formats.PERCENT_TICKS)
  axes.yaxis.set_major_formatter(formats.PERCENT_TICKS)
