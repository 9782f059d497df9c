"""The figure of a sweep: each metric against each swept key."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import sys
import textwrap
from typing import Any

from matplotlib import axes as mpl_axes
from matplotlib import colors
from matplotlib import figure as mpl_figure
from matplotlib import lines as lines_lib
from matplotlib import ticker
from matplotlib import transforms
import numpy as np

from imgbench.launch.sweep_table import gather
from imgbench.launch.sweep_table import groups as groups_lib
from imgbench.launch.sweep_table import text as table_text
from imgbench.tables import formats
from imgbench.tables import themes

_WIDTH, _HEIGHT = 4.0, 3.0  # inches of a panel
_LEGEND_LINE = 0.18  # inches
_MAX_LEGEND = 8  # lines in a legend
_LETTERS = 15  # of the caption, per inch
_MEAN = {"marker": "o", "markersize": 5, "capsize": 3}
_RUN = {"marker": ".", "markersize": 4}
_LOST = {"marker": "x", "markersize": 5}
# From this ratio of largest to smallest on, an axis may be logarithmic.
_LOG_RATIO = 8.0


@dataclasses.dataclass(frozen=True)
class Axis:
  """Positions of the values of a swept key.

  Attributes:
    key: dotted config key.
    places: value, as of `groups.format_key`, -> position.
    labels: of the positions.
    kind: "linear", "log" or "names", positions 0, 1, ...
  """

  key: str
  places: Mapping[str, float]
  labels: tuple[str, ...]
  kind: str

  def locate(self, group: groups_lib.SeedGroup) -> float:
    """Returns the position of a group."""
    return self.places[groups_lib.format_key(group.values[self.key])]


@dataclasses.dataclass(frozen=True)
class GroupLine:
  """A line of a panel: groups that differ in one key.

  Attributes:
    values: of the other keys.
    groups: from left to right.
  """

  values: Mapping[str, Any]
  groups: tuple[groups_lib.SeedGroup, ...]


def build_axis(key: str, values: Sequence[Any]) -> Axis:
  """Returns the axis for the values of a key."""
  unique = {groups_lib.format_key(value): value for value in values}
  number = lambda v: (
    isinstance(v, (int, float))
    and not isinstance(v, bool)
    and abs(v) <= sys.float_info.max
  )
  labels = tuple(map(table_text.format_value, unique.values()))
  if not all(map(number, unique.values())):
    places = {name: float(i) for i, name in enumerate(unique)}
    return Axis(key, places, labels, "names")
  kind = "log" if is_spread_by_factors(list(unique.values())) else "linear"
  return Axis(key, {k: float(v) for k, v in unique.items()}, labels, kind)


def is_spread_by_factors(values: Sequence[float]) -> bool:
  """Returns whether ratios of neighbors are more even than differences."""
  values = np.unique(np.asarray(values, float))
  if values.size < 2 or values[0] <= 0 or values[-1] < _LOG_RATIO * values[0]:
    return False
  uneven = lambda steps: np.std(steps) / np.mean(steps)
  factors, differences = np.diff(np.log(values)), np.diff(values)
  return values.size == 2 or bool(uneven(factors) < uneven(differences))


def build_figure(
  runs: Sequence[gather.SweptRun],
  groups: Sequence[groups_lib.SeedGroup],
  metrics: Sequence[str],
  seed_keys: Sequence[str],
) -> themes.Draw | None:
  """Returns a function that draws the figure; None if there are no values.

  A panel for each metric (down) and swept key (across) shows means over seeds
  with standard errors, single runs as small dots, and crosses at the bottom for
  runs without a value. If only seeds are swept, they are the axis. The caption
  says how many runs a mean has and what the bars are.

  Args:
    runs: of the sweep.
    groups: of the runs.
    metrics: as in results.json.
    seed_keys: config keys whose values are repetitions.
  """
  keys = [k for k in groups_lib.find_swept_keys(runs) if k not in seed_keys]
  if not keys:
    keys = [k for k in seed_keys if k in groups_lib.find_swept_keys(runs)][:1]
    groups = [
      groups_lib.SeedGroup({k: r.value(k) for k in keys}, (r,)) for r in runs
    ]
  measured = [m for m in metrics if any(g.mean(m) is not None for g in groups)]
  if not keys or not measured:
    return None
  return functools.partial(_figure, groups=groups, metrics=measured, keys=keys)


def _figure(theme: themes.Theme, groups, metrics, keys) -> mpl_figure.Figure:
  places = [
    build_axis(key, [group.values[key] for group in groups]) for key in keys
  ]
  columns = [build_lines(groups, place) for place in places]
  named = max(map(len, columns))
  width = _WIDTH * len(keys) + 0.6
  text = textwrap.wrap(
    describe_figure(groups, metrics, columns), int(_LETTERS * width)
  )
  extra = len(text) + 3 + (named if named <= _MAX_LEGEND else 0)
  size = (width, _HEIGHT * len(metrics) + 0.2 + _LEGEND_LINE * extra)
  drawn = mpl_figure.Figure(figsize=size, layout="constrained")
  panels = drawn.subplots(
    len(metrics), len(keys), squeeze=False, sharex="col", sharey="row"
  )
  names = table_text.shorten_keys(keys)
  for column, place, all_lines in zip(panels.T, places, columns, strict=True):
    for panel, metric in zip(column, metrics, strict=True):
      _panel(panel, theme, place, all_lines, metric)
    signs = []
    if place is places[0]:
      signs = _explain_signs(column[0], theme, groups, metrics)
    _legend(column[0], theme, all_lines, names, signs)
    column[-1].set_xlabel(themes.plain(place.key))
  for panel, metric in zip(panels[:, 0], metrics, strict=True):
    panel.set_ylabel(themes.plain(table_text.format_title(metric, metrics)))
  caption = "\n".join(map(themes.plain, text))
  drawn.supxlabel(caption, x=0.01, ha="left", fontsize=8, color=theme.muted)
  return drawn


def describe_figure(
  groups: Sequence[groups_lib.SeedGroup],
  metrics: Sequence[str],
  columns: Sequence[Sequence[GroupLine]],
) -> str:
  """Returns the caption: what points and bars are, of how many runs."""
  counts = count_runs(groups, metrics)
  ends = " to ".join(map(str, dict.fromkeys([min(counts), max(counts)])))
  caption = "Each point is one run, at its last evaluation."
  if max(counts) > 1:
    caption = (
      f"Points are means over n = {ends} finished runs that differ in their"
      " seeds only, at their last evaluation. Bars are ± 1 standard error of"
      " that mean (standard deviation over runs / √n)."
    )
    if min(counts) == 1:
      caption += " A point without a bar is one run."
  for lines in columns:
    if len(lines) > _MAX_LEGEND:
      caption += (
        f" Too many lines for a legend: {len(lines)} combinations of"
        f" {', '.join(lines[0].values)}."
      )
  return caption


def count_runs(
  groups: Sequence[groups_lib.SeedGroup], metrics: Sequence[str]
) -> list[int]:
  """Returns the number of runs of each mean in the figure."""
  means = (group.mean(m) for group in groups for m in metrics)
  return [mean.n for mean in means if mean is not None]


def _explain_signs(panel, theme, groups, metrics) -> list:
  """Returns legend handles of the signs that the figure has."""
  sign = functools.partial(
    panel.errorbar, [], [], color=theme.muted, linestyle="none"
  )
  signs = []
  if max(count_runs(groups, metrics)) > 1:
    signs = [
      sign(yerr=[], **_MEAN, label="mean ± standard error"),
      sign(**_RUN, label="single run"),
    ]
  values = [_value(run, m) for g in groups for run in g.runs for m in metrics]
  if None in values:
    signs.append(sign(**_LOST, label="no result"))
  return signs


def build_lines(
  groups: Sequence[groups_lib.SeedGroup], place: Axis
) -> list[GroupLine]:
  """Returns the groups by the values of the keys not on the axis."""
  found: dict[str, list[groups_lib.SeedGroup]] = {}
  for group in groups:
    others = {k: v for k, v in group.values.items() if k != place.key}
    found.setdefault(groups_lib.format_key(others), []).append(group)
  return [
    GroupLine(
      {k: v for k, v in members[0].values.items() if k != place.key},
      tuple(sorted(members, key=place.locate)),
    )
    for members in found.values()
  ]


def _panel(
  panel: mpl_axes.Axes,
  theme: themes.Theme,
  place: Axis,
  all_lines: Sequence[GroupLine],
  metric: str,
) -> None:
  panel.grid(axis="y")
  panel.margins(0.08, 0.12)
  _set_scale(panel, place)
  shifts = _shifts(panel, place, len(all_lines))
  colors_ = _colors(theme, len(all_lines))
  for line, color, shift in zip(all_lines, colors_, shifts, strict=True):
    _draw_line(panel, place, line, metric, color, shift)
    lost = [
      place.locate(group)
      for group in line.groups
      for run in group.runs
      if _value(run, metric) is None
    ]
    across = panel.get_xaxis_transform()
    (crosses,) = panel.plot(
      *(lost, np.full(len(lost), 0.04)),
      **dict(color=theme.muted, linestyle="none", **_LOST),
      transform=across,
    )
    crosses.set_transform(across + shift)


def _shifts(panel, place: Axis, count: int) -> list[transforms.Transform]:
  """Returns offsets of the lines, so that bars do not hide each other."""
  width = min(24, 3 * (count - 1))  # points
  if place.kind == "names" and count > 1:
    width = 0.5 * 72 * _WIDTH / len(place.places)
  inches = panel.figure.dpi_scale_trans
  return [
    transforms.ScaledTranslation(x / 72, 0, inches)
    for x in np.linspace(-width / 2, width / 2, count)
  ]


def _legend(panel, theme, all_lines, names, signs) -> None:
  """Draws a legend above a column of panels, if lines are few enough."""
  handles = []
  if 1 < len(all_lines) <= _MAX_LEGEND:
    colors_ = _colors(theme, len(all_lines))
    for line, color in zip(all_lines, colors_, strict=True):
      label = ", ".join(
        f"{names[k]}={table_text.format_value(v)}"
        for k, v in line.values.items()
      )
      handle = dict(color=color, marker="o", label=themes.plain(label))
      handles.append(lines_lib.Line2D([], [], **handle))
  handles += signs
  if handles:
    panel.legend(
      handles=handles,
      loc="lower left",
      bbox_to_anchor=(0, 1.02),
      borderaxespad=0,
      fontsize=8,
    )


def _colors(theme: themes.Theme, count: int) -> list[str]:
  if count <= len(theme.series):
    return list(theme.series[:count])
  ramp = theme.colormap()(np.linspace(0.3, 1.0, count))
  return [colors.to_hex(color) for color in ramp]


def _set_scale(panel, place: Axis) -> None:
  positions = list(place.places.values())
  if place.kind == "log":
    panel.set_xscale("log")
  if place.kind == "names":
    panel.set_xlim(-0.5, len(positions) - 0.5)
  if place.kind == "names" or len(positions) <= 6:
    labels = [themes.plain(formats.short(label, 16)) for label in place.labels]
    panel.set_xticks(positions, labels)
    panel.xaxis.set_minor_locator(ticker.NullLocator())


def _draw_line(
  panel, place: Axis, line: GroupLine, metric, color, shift
) -> None:
  scale = 100 if formats.unit(gather.split_metric(metric)[2]) else 1
  means, single = [], []
  for group in line.groups:
    x = place.locate(group)
    found = [_value(run, metric) for run in group.runs]
    single += [(x, scale * value) for value in found if value is not None]
    mean = group.mean(metric)
    if mean is not None:
      means.append((x, scale * mean.mean, scale * (mean.sem or 0.0)))
  if not means:
    return
  # Names have no order, so no line joins them.
  joined = "none" if place.kind == "names" else "-"
  drawn = panel.errorbar(
    *zip(*means, strict=True),
    **dict(color=color, linestyle=joined, **_MEAN),
  ).get_children()
  if len(single) > len(means):
    style = dict(color=color, linestyle="none", alpha=0.5, **_RUN)
    drawn += panel.plot(*zip(*single, strict=True), **style)
  for artist in drawn:  # Last: the limits come from unmoved values.
    artist.set_transform(panel.transData + shift)


def _value(run: gather.SweptRun, metric: str) -> float | None:
  entry = run.final.get(metric) if run.done else None
  return None if entry is None else entry.value
