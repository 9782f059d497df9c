"""Draws the roofline: speeds of models under the ceilings of the device."""

from collections.abc import Sequence
import dataclasses

from matplotlib import figure as mpl_figure
from matplotlib import lines
from matplotlib import ticker

from imgbench.bench import rows
from imgbench.bench.pages import figures
from imgbench.bench.pages import selection as select
from imgbench.tables import formats
from imgbench.tables import themes


@dataclasses.dataclass(frozen=True)
class Roof:
  """Ceilings of one device: FLOP/s by name of the peak, bytes per second."""

  peaks: dict[str, float]
  bandwidth: float


def select_rows(found: Sequence[rows.Row]) -> list[rows.Row]:
  """Returns our rows with FLOPs, bytes, MFU and bandwidth: the fastest batch.

  Evaluation is left out if there is inference, which is close to it.
  """
  known = [
    r
    for r in select.keep_fewest_devices(found)
    if r.flops_per_image
    and r.bytes_accessed
    and r.bandwidth_share
    and r.flops_share_of_peak
    and r.key.framework == "imgbench"
  ]
  if any(r.key.task == "infer" for r in known):
    known = [r for r in known if r.key.task != "eval"]
  return select.keep_fastest(known)


def compute_roof(found: Sequence[rows.Row]) -> Roof:
  """Returns the ceilings that belong to the shares of rows of one precision.

  Rows may differ by rounding; the last one counts.
  """
  peaks = {}
  for row in found:
    for name, share in row.flops_share_of_peak.items():
      peaks[name] = _flops_per_s(row) / share
  last = found[-1]
  return Roof(peaks, _bytes_per_s(last) / last.bandwidth_share)


def draw_roofline(
  theme: themes.Theme, found: Sequence[rows.Row]
) -> mpl_figure.Figure:
  """Draws FLOP/s against FLOPs per byte, a panel per precision."""
  panels = select.group_rows(found, lambda r: select.name_precision(r.key))
  models = list(dict.fromkeys(r.key.model for r in found))
  ceilings = {name: compute_roof(group) for name, group in panels.items()}
  limits = _compute_limits(found, ceilings.values())
  columns = min(2, len(panels))
  height = -(-len(panels) // columns)
  figure = themes.figure(0.6 + (4.4 if columns == 1 else 3.8) * height)
  axes = figure.subplots(
    height, columns, squeeze=False, sharex=True, sharey=True
  )
  for axis in axes.flat[len(panels) :]:
    axis.axis("off")
  for axis, (name, group) in zip(axes.flat, panels.items(), strict=False):
    for row in group:
      color, marker = figures.choose_style(theme, models.index(row.key.model))
      is_training = row.key.task == "train"
      axis.plot(
        _flops_per_s(row) / _bytes_per_s(row),
        _flops_per_s(row),
        linestyle="",
        marker=marker,
        color=color,
        markerfacecolor=color if is_training else theme.background,
        markersize=6,
      )
    _set_scales(axis, limits)
    _draw_roofs(axis, theme, ceilings[name], limits)
    axis.set_title(themes.plain(name), fontsize=10)
  for axis in axes[:, 0]:
    axis.set_ylabel("FLOP/s per device")
  for axis in axes.flat[max(0, len(panels) - columns) : len(panels)]:
    axis.set_xlabel("FLOPs per byte moved")
    axis.tick_params(labelbottom=True)
  figure.legend(
    handles=_create_handles(theme, models),
    loc="outside right upper",
    fontsize=8.5,
  )
  return figure


def _create_handles(
  theme: themes.Theme, models: Sequence[str]
) -> list[lines.Line2D]:
  """Returns the legend's handles: a filled marker per model."""
  handles = []
  for place, model in enumerate(models):
    color, marker = figures.choose_style(theme, place)
    label = themes.plain(model)
    handles.append(
      lines.Line2D(
        [], [], linestyle="", marker=marker, color=color, label=label
      )
    )
  return handles


def _compute_limits(found: Sequence[rows.Row], ceilings) -> tuple[float, ...]:
  """Returns left, right, bottom and top of the axes."""
  ceilings = list(ceilings)
  speeds = [_flops_per_s(r) for r in found]
  intensities = [_flops_per_s(r) / _bytes_per_s(r) for r in found]
  intensities += [p / c.bandwidth for c in ceilings for p in c.peaks.values()]
  left, right = min(intensities) / 3, max(intensities) * 6
  slope = left * min(c.bandwidth for c in ceilings)
  top = 2.5 * max(p for c in ceilings for p in c.peaks.values())
  return left, right, min(*speeds, slope) / 2, top


def _set_scales(axis, limits: tuple[float, ...]) -> None:
  axis.set_xscale("log")
  axis.set_yscale("log")
  axis.set_xlim(*limits[:2])
  axis.set_ylim(*limits[2:])
  axis.grid(True)
  for one in (axis.xaxis, axis.yaxis):
    one.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    one.set_minor_locator(ticker.NullLocator())
  axis.yaxis.set_major_formatter(lambda value, _: formats.tick(value))
  axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _draw_roofs(axis, theme, ceilings: Roof, limits: tuple[float, ...]) -> None:
  """Draws the slope of the memory and a labeled line for each peak."""
  left, right = limits[:2]
  top = max(ceilings.peaks.values())
  slope = ([left, top / ceilings.bandwidth], [left * ceilings.bandwidth, top])
  axis.plot(*slope, color=theme.muted, linewidth=1.2)
  words = {
    "textcoords": "offset points",
    "fontsize": 8.5,
    "color": theme.muted,
  }
  axis.annotate(
    f"memory {formats.si(ceilings.bandwidth, 'B/s')}",
    (left, left * ceilings.bandwidth),
    xytext=(16, -4),
    **words,
  )
  for name, peak in ceilings.peaks.items():
    axis.plot(
      [peak / ceilings.bandwidth, right],
      [peak, peak],
      color=theme.muted,
      linewidth=1.2,
      linestyle="-" if peak == top else "--",
    )
    axis.annotate(
      f"{name}: {formats.si(peak, 'FLOP/s')}",
      (right, peak),
      # The highest has its label above, the others below: they may be close.
      xytext=(-2, 4 if peak == top else -4),
      ha="right",
      va="bottom" if peak == top else "top",
      **words,
    )


def _flops_per_s(row: rows.Row) -> float:
  return row.images_per_s_per_device * row.flops_per_image


def _bytes_per_s(row: rows.Row) -> float:
  return row.bytes_accessed * row.images_per_s / row.key.batch
