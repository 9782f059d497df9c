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
_BAND = {"alpha": 0.15, "linewidth": 0, "zorder": 1.5}
_MARGIN = 0.05  # of the range of points, on each side
_RESIDUALS = 0.4  # height of a panel of residuals, of that of its panel
_FENCE = 1.5  # interquartile ranges below the first quartile
# Tick percentages of a probit axis, coarse ones first.
_PROBIT_TICKS = (
  (1, 10, 30, 50, 70, 90, 99),
  (1, 3, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 97, 99),
  (*range(1, 10), *range(10, 90, 5), *range(90, 100)),
  tuple(range(2, 100, 2)),
  tuple(range(1, 100)),
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
    focus: fit the axes to the points that `keep_near` returns.
  """

  title: str
  x_label: str
  y_label: str
  points: Sequence[Point]
  fit: fits.Fit | None = None
  scale: str = fits.PLAIN
  diagonal: str | None = "y = x"
  focus: bool = False


def keep_near(points: Sequence[Point]) -> list[Point]:
  """Returns the points that are not far below the others on x, and named ones.

  Far is below the first quartile by more than 1.5 interquartile ranges.

  Source: Tukey, Exploratory Data Analysis (1977).
  """
  if not points:
    return []
  first, third = np.quantile([p.x.value for p in points], [0.25, 0.75])
  fence = first - _FENCE * (third - first)
  return [p for p in points if p.named or p.x.value >= fence]


def scatter(
  panels: Sequence[Panel],
  columns: int = 2,
  fit_label: str = "linear fit",
  residuals: bool = False,
) -> Draw:
  """Returns a function that draws panels side by side under one legend.

  Points have 95% intervals both ways; a fit has its bootstrap band. Groups
  differ in color and marker, in the order of appearance; later ones are drawn
  on top.

  Args:
    panels: one or more.
    columns: of panels, at most.
    fit_label: of fits in the legend.
    residuals: whether a panel below each shows y minus the fit, in percentage
      points, with the band.
  """
  groups = list(
    dict.fromkeys(p.group for panel in panels for p in panel.points)
  )

  def draw(theme: themes.Theme) -> mpl_figure.Figure:
    wide = min(columns, len(panels))
    lines = -(-len(panels) // wide)
    side = _PANEL if wide < 3 else _SMALL
    ratios = [1, _RESIDUALS] if residuals else [1]
    figure = mpl_figure.Figure(
      figsize=(side * wide + 0.3, side * lines * sum(ratios) + 0.55),
      layout="constrained",
    )
    grid = figure.subplots(
      lines * len(ratios), wide, squeeze=False, height_ratios=ratios * lines
    )
    shown = {}
    main = list(grid[:: len(ratios)].flat)
    for axes, panel in zip(main, panels, strict=False):
      shown[axes] = _draw_panel(axes, theme, panel, groups, fit_label)
    below = list(grid[1 :: len(ratios)].flat) if residuals else []
    for axes, above, panel in zip(below, main, panels, strict=False):
      _draw_residuals(axes, above, theme, panel, groups, shown[above])
    for axes in [*main[len(panels) :], *below[len(panels) :]]:
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
    if any(point.named for points in shown.values() for point in points):
      figure.draw_without_rendering()  # Lays it out, which names depend on.
    for (axes, points), panel in zip(shown.items(), panels, strict=True):
      _write_names(axes, theme, panel.scale, groups, points)
    return figure

  return draw


def _legend_columns(labels: Sequence[str], width: float) -> int:
  """Returns the number of legend columns that fit in a width in inches."""
  for columns in range(min(len(labels), _LEGEND_COLUMNS), 1, -1):
    longest = [max(map(len, part)) for part in np.array_split(labels, columns)]
    if _LEGEND_MARK * columns + _LEGEND_LETTER * sum(longest) <= width:
      return columns
  return 1


def _draw_panel(
  axes, theme, panel: Panel, groups, fit_label: str
) -> list[Point]:
  """Draws all but the names of points; returns the points it shows."""
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
    return []
  near = keep_near(points) if panel.focus else points
  x, y = (_place(_get_bounds(near, side), panel.scale) for side in "xy")
  _draw_groups(axes, theme, groups, near, x, y)
  limits_x, limits_y = (_limits(places, panel.scale) for places in (x, y))
  _draw_lines(axes, theme, panel, limits_x, fit_label)
  for axis, limits in ((axes.xaxis, limits_x), (axes.yaxis, limits_y)):
    axis.set_ticks(*_ticks(limits, panel.scale))
  axes.set_xlim(limits_x)
  axes.set_ylim(limits_y)
  if panel.focus:
    note = "bars: 95% intervals"
    if far := len(points) - len(near):
      note += f"\n{far} of {len(points)} models are left of the axes"
    place = dict(transform=axes.transAxes, ha="right", va="bottom")
    axes.text(0.98, 0.02, note, fontsize=8, color=theme.muted, **place)
  return near


def _draw_residuals(
  axes, above, theme, panel: Panel, groups, points: Sequence[Point]
) -> None:
  """Draws y minus the fit in percentage points, under a drawn panel."""
  axes.sharex(above)
  axes.set_xlabel(above.get_xlabel())
  above.set_xlabel("")
  above.tick_params(labelbottom=False)
  axes.set_ylabel("above the fit (points)")
  axes.grid(True)
  if panel.fit is None or not points:
    axes.text(0.5, 0.5, "no fit", transform=axes.transAxes, ha="center")
    return
  x, y = (_get_bounds(points, side) for side in "xy")
  distances = 100 * (y - panel.fit.predict(x[:, :1]))
  _draw_groups(axes, theme, groups, points, _place(x, panel.scale), distances)
  limits = _limits(distances, fits.PLAIN)
  grid, fractions = _sample(above.get_xlim(), panel.scale)
  axes.axhline(0, color=theme.text, linewidth=1.3, zorder=2)
  if len(panel.fit.draws):
    line = panel.fit.predict(fractions)
    band = [100 * (bound - line) for bound in panel.fit.band(fractions)]
    axes.fill_between(grid, *band, **_BAND, color=theme.text)
  axes.set_ylim(limits)


def _place(values, scale: str) -> np.ndarray:
  """Returns the places of fractions on an axis: percent or quantiles."""
  if scale == fits.PLAIN:
    return 100 * np.asarray(values, np.float64)
  # Interval ends at 0 and 100% are outside any probit axis.
  return fits.to_scale(np.clip(values, 1e-6, 1 - 1e-6), scale)


def _get_bounds(points: Sequence[Point], side: str) -> np.ndarray:
  """Returns value, low and high end of the points on an axis [N, 3]."""
  return np.array(
    [
      (m.value, *(m.value if b is None else b for b in (m.ci_low, m.ci_high)))
      for m in (getattr(point, side) for point in points)
    ]
  )


def _draw_groups(axes, theme, groups, points, x, y) -> None:
  """Draws points at x and y, places of values and both ends [N, 3]."""
  for order, group in enumerate(groups):
    chosen = [p.group == group for p in points]
    if not any(chosen):
      continue
    color = theme.series[order % len(theme.series)]
    ends = [np.abs(v[chosen, 1:] - v[chosen, :1]).T for v in (x, y)]
    axes.errorbar(
      x[chosen, 0],
      y[chosen, 0],
      xerr=ends[0],
      yerr=ends[1],
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
  # Those with a name first, from the top: lines to names rarely cross.
  points = sorted(points, key=lambda p: (not p.named, -p.y.value))
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
  """Returns places in points (1/72 inch), and the size of the axes."""
  inches = axes.figure.dpi_scale_trans.inverted()
  box = axes.get_window_extent().transformed(inches)
  places = inches.transform(axes.transData.transform(np.stack([x, y], 1)))
  return (72 * (places - box.min)).tolist(), tuple(72 * box.size)


def _limits(ends: np.ndarray, scale: str) -> tuple[float, float]:
  low, high = ends.min(), ends.max()
  margin = _MARGIN * (high - low) + (0.02 if scale == fits.PROBIT else 0.5)
  return low - margin, high + margin


def _sample(limits, scale: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns places along an axis, and the fractions there."""
  grid = np.linspace(*limits, 200)
  if scale == fits.PLAIN:
    return grid, grid / 100
  return grid, fits.from_scale(grid, scale)


def _draw_lines(axes, theme, panel: Panel, limits, fit_label) -> None:
  grid, fractions = _sample(limits, panel.scale)
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
      **_BAND,
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
