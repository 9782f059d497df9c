"""Figures of benchmark rows."""

from collections.abc import Sequence
import dataclasses
import math

from matplotlib import figure as mpl_figure
from matplotlib import ticker

from imgbench.bench import rows
from imgbench.bench.pages import selection as select
from imgbench.tables import formats
from imgbench.tables import themes

_COLUMNS = 3
MARKERS = "os^Dv"
# Ticks of ratio axes.
_COARSE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
_FINE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5)
_FINE += (3, 4, 5, 7, 10)
DASHES = ("-", "--", ":", "-.")


def draw_throughput(
  theme: themes.Theme, found: Sequence[rows.Row]
) -> mpl_figure.Figure:
  """Draws images per second by batch, a panel per model and image size."""
  shown = select_by_batch(found)
  panels = select.group_rows(shown, lambda r: (r.key.model, r.key.image_size))
  dtypes = list(dict.fromkeys(select.name_precision(r.key) for r in shown))
  line = lambda r: (r.key.task, select.name_precision(r.key))
  lines = list(dict.fromkeys(map(line, shown)))
  columns = min(_COLUMNS, len(panels))
  height = 0.6 + 2.5 * math.ceil(len(panels) / columns)
  figure = themes.figure(height)
  axes = figure.subplots(
    math.ceil(len(panels) / columns), columns, squeeze=False
  ).ravel()
  for axis in axes[len(panels) :]:
    axis.axis("off")
  handles = {}
  for axis, ((model, size), group) in zip(axes, panels.items(), strict=False):
    for name, points in select.group_rows(group, line).items():
      task, dtype = name
      points.sort(key=lambda r: r.key.batch)
      handles[name] = axis.errorbar(
        [r.key.batch for r in points],
        [r.images_per_s for r in points],
        yerr=_compute_bars(points),
        color=theme.series[rows.IMAGE_TASKS.index(task)],
        linestyle=DASHES[dtypes.index(dtype) % len(DASHES)],
        marker=MARKERS[dtypes.index(dtype) % len(MARKERS)],
        markersize=4.5,
      )
    axis.set_title(themes.plain(f"{model}, {size} px"), fontsize=10)
    _set_log_axes(axis, sorted({r.key.batch for r in group}))
    axis.grid(True)
  for place in range(0, len(panels), columns):
    axes[place].set_ylabel("images/s")
  for axis in axes[max(0, len(panels) - columns) : len(panels)]:
    axis.set_xlabel("batch")
  ordered = [name for name in lines if name in handles]
  figure.legend(
    [handles[name] for name in ordered],
    [f"{task}, {dtype}" for task, dtype in ordered],
    loc="outside upper center",
    ncols=min(3, len(ordered)),
  )
  return figure


def select_by_batch(found: Sequence[rows.Row]) -> list[rows.Row]:
  """Returns our rows on the fewest devices, under the first strategy."""
  first: dict[rows.Key, rows.Row] = {}
  for row in select.keep_fewest_devices(found):
    if row.key.framework == "imgbench":
      first.setdefault(dataclasses.replace(row.key, strategy=None), row)
  return list(first.values())


def draw_scaling(
  theme: themes.Theme, groups: Sequence[tuple[str, Sequence[rows.Row]]]
) -> mpl_figure.Figure:
  """Draws images/s per device, relative to the fewest devices."""
  kinds = list(dict.fromkeys(kind for kind, _ in groups))
  figure = themes.figure(3.8)
  axes = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
  names = list(dict.fromkeys(_name_series(g[0]) for _, g in groups))
  for axis, kind in zip(axes, kinds, strict=True):
    devices = set()
    for _, group in (pair for pair in groups if pair[0] == kind):
      color, marker = choose_style(theme, names.index(_name_series(group[0])))
      counts = [r.key.devices for r in group]
      shares = [100 * share for share in select.list_efficiencies(group)]
      devices |= set(counts)
      label = themes.plain(f"{_name_series(group[0])} b{group[0].key.batch}")
      axis.plot(
        counts, shares, color=color, marker=marker, label=label, markersize=5
      )
    axis.axhline(100, color=theme.muted, linewidth=1, linestyle=":")
    axis.set_xscale("log", base=2)
    _set_ticks(axis.xaxis, sorted(devices))
    axis.set_title(f"same {kind}", fontsize=10)
    axis.set_xlabel("devices")
    axis.grid(True)
    axis.legend(fontsize=8.5, loc="lower left")
  axes[0].set_ylim(0, max(106, axes[0].get_ylim()[1]))
  axes[0].set_ylabel("images/s per device, % of fewest devices")
  return figure


def _name_series(row: rows.Row) -> str:
  key = row.key
  strategy = "" if key.strategy is None else f" {key.strategy}"
  other = "" if key.framework == "imgbench" else f" {key.framework}"
  return f"{key.task} {key.model} {key.dtype}{strategy}{other}"


def draw_compiling(
  theme: themes.Theme, found: Sequence[rows.Row]
) -> mpl_figure.Figure:
  """Draws cold and cached compile times as bars, the longest first."""
  ordered = sorted(found, key=lambda r: r.compile_cold_s or 0)
  figure = themes.figure(1.0 + 0.32 * len(ordered))
  axis = figure.subplots()
  for offset, name, label, color in (
    (0.19, "compile_cold_s", "cold", theme.series[0]),
    (-0.19, "compile_cached_s", "from the cache", theme.series[1]),
  ):
    values = [getattr(r, name) or 0 for r in ordered]
    places = [i + offset for i in range(len(ordered))]
    axis.barh(places, values, height=0.36, color=color, label=label)
    for place, value in zip(places, values, strict=True):
      if value:
        axis.annotate(
          formats.seconds(value),
          (value, place),
          xytext=(4, 0),
          textcoords="offset points",
          va="center",
          fontsize=8,
          color=theme.muted,
        )
  axis.set_yticks(range(len(ordered)), [_name_compiled(r) for r in ordered])
  axis.tick_params(axis="y", labelcolor=theme.text)
  axis.set_ylim(-0.7, len(ordered) - 0.3)
  axis.margins(x=0.09)
  axis.grid(True, axis="x")
  axis.set_xlabel("seconds")
  figure.legend(loc="outside upper right", ncols=2)
  return figure


def _name_compiled(row: rows.Row) -> str:
  return themes.plain(f"{_name_series(row)} b{row.key.batch}")


def draw_baselines(
  theme: themes.Theme, ratios: Sequence[select.BaselineRatio]
) -> mpl_figure.Figure:
  """Draws ratios to baselines with intervals, a panel per precision."""
  frameworks = list(dict.fromkeys(r.theirs.key.framework for r in ratios))
  panels = select.group_rows(
    ratios, lambda r: select.name_precision(r.ours.key)
  )
  names = list(dict.fromkeys(map(_name_point, ratios)))
  figure = themes.figure(1.4 + 0.34 * len(names))
  axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
  for axis, (precision, group) in zip(axes, panels.items(), strict=True):
    for place, framework in enumerate(frameworks):
      compared = [r for r in group if r.theirs.key.framework == framework]
      offset = 0.14 * (place - (len(frameworks) - 1) / 2)
      color, marker = choose_style(theme, place)
      axis.errorbar(
        [r.ratio for r in compared],
        [names.index(_name_point(r)) + offset for r in compared],
        xerr=[
          [r.ratio - r.interval.low for r in compared],
          [r.interval.high - r.ratio for r in compared],
        ],
        linestyle="",
        marker=marker,
        markersize=5,
        color=color,
        label=f"over {framework}" if axis is axes[0] else None,
      )
    axis.axvline(1, color=theme.muted, linewidth=1)
    axis.set_title(themes.plain(precision), fontsize=10)
    _set_ratio_axis(axis, len(panels))
    axis.grid(True, axis="x")
    axis.set_xlabel("times as fast as the baseline")
  axes[0].set_yticks(range(len(names)), [themes.plain(n) for n in names])
  axes[0].tick_params(axis="y", labelcolor=theme.text)
  axes[0].set_ylim(len(names) - 0.4, -0.6)
  figure.legend(loc="outside upper right", ncols=len(frameworks))
  return figure


def _name_point(found: select.BaselineRatio) -> str:
  key = found.ours.key
  strategy = f" {key.strategy}" if key.strategy not in (None, "jit") else ""
  return f"{key.task} {key.model} {key.image_size}px{strategy}"


def _set_ratio_axis(axis, panels: int) -> None:
  """Makes the axis logarithmic, with ticks at round ratios that have room."""
  axis.set_xscale("log")
  low, high = axis.get_xlim()
  low, high = min(low, 0.95), max(high, 1.05)
  axis.set_xlim(low, high)
  marks = _FINE if high / low < 4 / panels else _COARSE
  _set_ticks(axis.xaxis, [m for m in marks if low <= m <= high])


def choose_style(theme: themes.Theme, place: int) -> tuple[str, str]:
  """Returns a color and a marker, different for 25 series."""
  number = len(theme.series)
  return (
    theme.series[place % number],
    MARKERS[place // number % len(MARKERS)],
  )


def _compute_bars(points: Sequence[rows.Row]):
  """Returns the lengths of error bars; 0 for rows without an interval."""
  low = [
    r.images_per_s - (r.images_per_s_low or r.images_per_s) for r in points
  ]
  high = [
    (r.images_per_s_high or r.images_per_s) - r.images_per_s for r in points
  ]
  return [low, high]


def _set_log_axes(axis, batches: Sequence[int]) -> None:
  axis.set_xscale("log", base=2)
  axis.set_yscale("log")
  _set_ticks(axis.xaxis, batches)
  axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axis.yaxis.set_major_formatter(lambda value, _: formats.tick(value))
  axis.yaxis.set_minor_locator(ticker.NullLocator())
  if len(batches) == 1:
    axis.set_xlim(batches[0] / 2, batches[0] * 2)
  low, high = axis.get_ylim()
  if high / low < 10:
    axis.set_ylim(low / 2, high * 2)


def _set_ticks(axis, values: Sequence[float]) -> None:
  axis.set_major_locator(ticker.FixedLocator(values))
  axis.set_major_formatter(lambda value, _: f"{value:g}")
  axis.set_minor_locator(ticker.NullLocator())
