"""Scatter plots of models: one accuracy, or other fraction, against another."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from matplotlib import figure as mpl_figure
from matplotlib import patheffects
import numpy as np

from imgbench.papers import fits
from imgbench.papers import name_places
from imgbench.tables import formats
from imgbench.tables import themes

Draw = Callable[[themes.Theme], mpl_figure.Figure]

_MARKERS = ("o", "D", "s", "^", "v", "P", "X")
_PANEL = 4.9  # inches a side, a wide panel
_SMALL = 3.6  # of three in a row
_LEGEND_COLUMNS = 6
_LEGEND_MARK, _LEGEND_LETTER = 0.55, 0.065  # inches
_MARGIN = 0.05  # of the range of points, on each side
# Tick percentages of a probit axis, coarse ones first.
_PROBIT_TICKS = (
  (1, 10, 30, 50, 70, 90, 99),
  (1, 3, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 97, 99),
  (*range(1, 10), *range(10, 90, 5), *range(90, 100)),
  tuple(np.arange(2, 200) / 2),
  (*np.arange(10, 1000) / 10, 99.95, 99.99),
)


class Coordinate(NamedTuple):
  """A fraction, None if undefined, with its interval if it has one."""

  value: float | None
  ci_low: float | None
  ci_high: float | None


@dataclasses.dataclass(frozen=True)
class Point:
  """A classifier in a panel.

  Attributes:
    name: written beside it if `named`.
    x: on the x axis.
    y: on the y axis.
    group: of the legend.
    named: whether to write the name.
  """

  name: str
  x: Coordinate
  y: Coordinate
  group: str
  named: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
  """One pair of axes.

  Attributes:
    title: over it.
    x_label: without its unit, " (%)".
    y_label: as `x_label`.
    points: points without a value on both axes are left out.
    fit: line to draw, with its band; None for none.
    scale: of the axes, of `fits.SCALES`.
    diagonal: label of the line y = x; None for no such line.
  """

  title: str
  x_label: str
  y_label: str
  points: Sequence[Point]
  fit: fits.Fit | None = None
  scale: str = fits.PLAIN
  diagonal: str | None = "y = x"


def scatter(
  panels: Sequence[Panel], columns: int = 2, fit_label: str = "linear fit"
) -> Draw:
  """Returns a function that draws panels side by side under one legend.

  Points have 95% intervals both ways; a fit has its bootstrap band. Groups
  differ in color and marker, in the order of appearance; later ones are drawn
  on top.

  Args:
    panels: one or more.
    columns: of panels, at most.
    fit_label: of fits in the legend.
  """
  groups = list(
    dict.fromkeys(p.group for panel in panels for p in panel.points)
  )

  def draw(theme: themes.Theme) -> mpl_figure.Figure:
    wide = min(columns, len(panels))
    lines = -(-len(panels) // wide)
    side = _PANEL if wide < 3 else _SMALL
    figure = mpl_figure.Figure(
      figsize=(side * wide + 0.3, side * lines + 0.55), layout="constrained"
    )
    grid = list(figure.subplots(lines, wide, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
      _draw_panel(axes, theme, panel, groups, fit_label)
    for axes in grid[len(panels) :]:
      axes.set_axis_off()
    handles = {}
    for axes in figure.axes:
      for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        handles.setdefault(label, handle)
    figure.legend(
      handles.values(),
      handles.keys(),
      loc="outside upper left",
      ncols=_legend_columns(list(handles), figure.get_size_inches()[0]),
      columnspacing=1.4,
    )
    return figure

  return draw


def _legend_columns(labels: Sequence[str], width: float) -> int:
  """Returns the number of legend columns that fit in a width in inches."""
  for columns in range(min(len(labels), _LEGEND_COLUMNS), 1, -1):
    longest = [max(map(len, part)) for part in np.array_split(labels, columns)]
    if _LEGEND_MARK * columns + _LEGEND_LETTER * sum(longest) <= width:
      return columns
  return 1


def _draw_panel(axes, theme, panel: Panel, groups, fit_label: str) -> None:
  points = [p for p in panel.points if None not in (p.x.value, p.y.value)]
  if panel.scale == fits.PROBIT:
    inside = lambda m: 0 < m.value < 1
    points = [p for p in points if inside(p.x) and inside(p.y)]
  axes.set_title(themes.plain(panel.title))
  axes.set_xlabel(f"{panel.x_label} (%)")
  axes.set_ylabel(f"{panel.y_label} (%)")
  axes.grid(True)
  if not points:
    axes.text(0.5, 0.5, "no model", transform=axes.transAxes, ha="center")
    return
  for group in groups:
    _draw_group(axes, theme, panel.scale, group, groups, points)
  limits_x = _limits([p.x for p in points], panel.scale)
  limits_y = _limits([p.y for p in points], panel.scale)
  _draw_lines(axes, theme, panel, limits_x, fit_label)
  for axis, limits in ((axes.xaxis, limits_x), (axes.yaxis, limits_y)):
    axis.set_ticks(*_ticks(limits, panel.scale))
  axes.set_xlim(limits_x)
  axes.set_ylim(limits_y)
  _write_names(axes, theme, panel.scale, groups, points)


def _place(values, scale: str) -> np.ndarray:
  """Returns the places of fractions on an axis: percent or quantiles."""
  if scale == fits.PLAIN:
    return 100 * np.asarray(values, np.float64)
  # Interval ends at 0 and 100% are outside any probit axis.
  return fits.to_scale(np.clip(values, 1e-6, 1 - 1e-6), scale)


def _draw_group(axes, theme, scale, group, groups, points) -> None:
  chosen = [p for p in points if p.group == group]
  if not chosen:
    return
  order = groups.index(group)
  color = theme.series[order % len(theme.series)]
  x, y = (
    _place([getattr(p, side).value for p in chosen], scale) for side in "xy"
  )
  errors = [
    np.abs(
      _place([_bounds(getattr(p, side)) for p in chosen], scale).T - center
    )
    for side, center in (("x", x), ("y", y))
  ]
  axes.errorbar(
    x,
    y,
    xerr=errors[0],
    yerr=errors[1],
    fmt=_MARKERS[order % len(_MARKERS)],
    color=color,
    markersize=4.5 if order == 0 else 6,
    markeredgecolor=theme.background,
    markeredgewidth=0.5,
    elinewidth=0.9,
    ecolor=(color, 0.45),
    zorder=3 + order,
    label=themes.plain(group),
  )


def _write_names(axes, theme, scale, groups, points) -> None:
  """Writes names beside their points, with a line where they are not near."""
  # Those with a name first.
  points = sorted(points, key=lambda p: not p.named)
  named = [p for p in points if p.named]
  x, y = (
    _place([getattr(p, side).value for p in points], scale) for side in "xy"
  )
  places, size = _to_points(axes, x, y)
  found = name_places.find_offsets(
    places[: len(named)],
    [p.name for p in named],
    size,
    places[len(named) :],
  )
  for point, *place, offset in zip(named, x, y, found, strict=False):
    color = theme.series[groups.index(point.group) % len(theme.series)]
    axes.annotate(
      themes.plain(point.name),
      place,
      xytext=offset,
      textcoords="offset points",
      ha="center",
      va="center",
      fontsize=8.5,
      color=color,
      zorder=20,
      path_effects=[
        patheffects.withStroke(linewidth=2, foreground=theme.background)
      ],
      arrowprops={
        "arrowstyle": "-",
        "color": color,
        "linewidth": 0.6,
        "shrinkA": 0,
        "shrinkB": 3,
      },
    )


def _to_points(axes, x, y):
  """Returns places in points (1/72 inch), and the size of the axes.

  The layout is not done yet, so both are off by a few points.
  """
  width, height = axes.figure.get_size_inches() * 72
  columns, lines = axes.get_gridspec().ncols, axes.get_gridspec().nrows
  size = (0.85 * width / columns, 0.85 * height / lines)
  (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
  places = [
    (
      (a - left) / (right - left) * size[0],
      (b - bottom) / (top - bottom) * size[1],
    )
    for a, b in zip(x, y, strict=True)
  ]
  return places, size


def _bounds(m: Coordinate) -> tuple[float, float]:
  if m.ci_low is None or m.ci_high is None:
    return m.value, m.value
  return m.ci_low, m.ci_high


def _limits(values: Sequence[Coordinate], scale: str):
  ends = _place([_bounds(m) for m in values], scale)
  low, high = ends.min(), ends.max()
  margin = _MARGIN * (high - low) + (0.02 if scale == fits.PROBIT else 0.5)
  return low - margin, high + margin


def _draw_lines(axes, theme, panel: Panel, limits, fit_label) -> None:
  grid = np.linspace(*limits, 200)
  fractions = fits.from_scale(grid, panel.scale)
  if panel.scale == fits.PLAIN:
    fractions = grid / 100
  if panel.diagonal is not None:
    axes.plot(
      grid,
      grid,
      color=theme.muted,
      linestyle=(0, (4, 3)),
      linewidth=1.2,
      zorder=1,
      label=panel.diagonal,
    )
  if panel.fit is None:
    return
  if panel.fit.scale == fits.PROBIT:  # accuracies end at 0 and 1
    inside = (fractions > 0) & (fractions < 1)
    grid, fractions = grid[inside], fractions[inside]
  color = theme.text
  axes.plot(
    grid,
    _place(panel.fit.predict(fractions), panel.scale),
    color=color,
    linewidth=1.3,
    zorder=2,
    label=fit_label,
  )
  if len(panel.fit.draws):
    low, high = panel.fit.band(fractions)
    axes.fill_between(
      grid,
      _place(low, panel.scale),
      _place(high, panel.scale),
      color=color,
      alpha=0.15,
      linewidth=0,
      zorder=1.5,
      label="its 95% bootstrap band",
    )


def _ticks(limits, scale: str) -> tuple[list[float], list[str]]:
  """Returns places and labels of about 4 to 10 round percentages."""
  low, high = limits
  if scale == fits.PLAIN:
    for step in (20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05):
      ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
      if len(ticks) >= 4:
        break
    ticks = ticks[(ticks >= 0) & (ticks <= 100)]
    return list(ticks), [formats.significant(tick + 0.0, 6) for tick in ticks]
  for choice in _PROBIT_TICKS:
    places = fits.to_scale(np.array(choice) / 100, scale)
    inside = (places >= low) & (places <= high)
    if inside.sum() >= 4:
      break
  names = [formats.significant(choice[i], 6) for i in np.flatnonzero(inside)]
  return list(places[inside]), names
