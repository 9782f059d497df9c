"""Draws curves, confusion matrices and mistakes, without pyplot."""

from collections.abc import Sequence

from matplotlib import colors
from matplotlib import figure as mpl_figure
import numpy as np

from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import formats
from imgbench.tables import themes

_FEW = 30  # points of a curve whose points are marked


def draw_curves(
  theme: themes.Theme, records: Sequence[dict]
) -> mpl_figure.Figure:
  """Draws loss, accuracy, learning rate, speed and MFU against the step."""
  panels = [
    ("Loss", _find_keys(records, "loss", "nll"), ""),
    ("Top-1 accuracy", _find_keys(records, "top1_accuracy"), "%"),
    ("Mean squared error", _find_keys(records, "mse"), ""),
    ("Anomaly ROC AUC", _find_keys(records, "anomaly_roc_auc"), ""),
    ("Learning rate", _find_learning_rates(records), ""),
    ("Images per second", _find_keys(records, "images_per_s"), ""),
    ("MFU", _find_keys(records, "mfu"), "%"),
  ]
  panels = [
    (title, selection.select_curves(records, keys, len(theme.series)), unit)
    for title, keys, unit in panels
    if keys
  ]
  splits = list(
    dict.fromkeys(k.partition("/")[0] for _, keys, _ in panels for k in keys)
  )
  columns = min(2, len(panels)) or 1
  lines = -(-len(panels) // columns) or 1
  figure = themes.figure(2.9 * lines)
  grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
  for axes in grid.flat[len(panels) :]:
    axes.set_axis_off()
  for axes, (title, keys, unit) in zip(grid.flat, panels, strict=False):
    axes.set_title(title)
    axes.grid(True)
    axes.tick_params(labelbottom=True)
    axes.set_xlabel("step")
    for key, color in zip(
      keys, _choose_colors(theme, keys, splits), strict=True
    ):
      _draw_curve(axes, color, records, key, 100 if unit else 1)
    ticks = formats.PERCENT_TICKS if unit else formats.VALUE_TICKS
    axes.yaxis.set_major_formatter(ticks)
    axes.xaxis.set_major_formatter(formats.COUNT_TICKS)
    if title in ("Learning rate", "Images per second", "MFU"):
      axes.set_ylim(bottom=0)
    if len(keys) > 1 or title == "Loss":
      axes.legend()
  return figure


def _find_keys(records, *endings) -> list[str]:
  return [
    k for end in endings for k in selection.find_logged_keys(records, end)
  ]


def _find_learning_rates(records) -> list[str]:
  names = {
    key
    for record in records
    for key in record
    if key.startswith("train/learning_rate")
  }
  return sorted(names)


def _choose_colors(theme, keys, splits) -> list[str]:
  """Returns a color per split; one per curve if a panel repeats splits."""
  places = [splits.index(key.partition("/")[0]) for key in keys]
  if len(set(places)) < len(keys):
    places = range(len(keys))
  return [theme.series[place % len(theme.series)] for place in places]


def _draw_curve(axes, color, records, key, scale) -> None:
  steps, values = selection.read_series(records, key)
  split, _, name = key.partition("/")
  # Only what the panel's title does not say.
  label = f"{split} {name.upper() if name == 'nll' else name}"
  if scale != 1:
    label = split
  few = len(steps) <= _FEW
  axes.plot(
    steps,
    np.multiply(values, scale),
    color=color,
    label=themes.plain(label),
    marker="o" if few else None,
    markersize=3.5,
  )


def draw_confusion_matrix(
  theme: themes.Theme, dataset: inputs.DatasetFiles
) -> mpl_figure.Figure:
  """Draws counts by true (rows) and predicted class, shaded by row share."""
  counts = dataset.confusion
  num_classes = len(counts)
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  side = float(np.clip(3.2 + 0.29 * num_classes, 6.2, 11.0))
  figure = themes.figure(side, side + 0.9)
  axes = figure.subplots()
  # The square root makes few mistakes visible next to a strong diagonal.
  norm = colors.PowerNorm(0.5, vmin=0, vmax=1)
  colormap = theme.colormap()
  picture = axes.imshow(shares, cmap=colormap, norm=norm, aspect="equal")
  names = [
    themes.plain(formats.short(dataset.name(i), 20)) for i in range(num_classes)
  ]
  axes.set_xticks(range(num_classes), names, rotation=90)
  axes.set_yticks(range(num_classes), names)
  axes.tick_params(labelsize=9.5 if num_classes <= 24 else 8)
  axes.set_xlabel("predicted")
  axes.set_ylabel("true")
  axes.spines[:].set_visible(False)
  edges = np.arange(num_classes + 1) - 0.5
  axes.set_xticks(edges, minor=True)
  axes.set_yticks(edges, minor=True)
  axes.grid(which="minor", color=theme.background, linewidth=1)
  axes.tick_params(which="minor", length=0)
  _write_counts(axes, counts, colormap(norm(shares)))
  bar = figure.colorbar(picture, ax=axes, shrink=0.5, aspect=24, pad=0.02)
  bar.set_ticks(
    [0, 0.05, 0.2, 0.5, 1], labels=["0%", "5%", "20%", "50%", "100%"]
  )
  bar.set_label("share of the true class")
  bar.outline.set_visible(False)
  return figure


def _write_counts(axes, counts, cell_colors) -> None:
  size = 9 if len(counts) <= 12 else 7 if len(counts) <= 24 else 5.5
  for row, column in zip(*np.nonzero(counts), strict=True):
    axes.text(
      column,
      row,
      str(counts[row, column]),
      ha="center",
      va="center",
      fontsize=size,
      color=themes.ink_on(cell_colors[row, column]),
      in_layout=False,  # Inside the axes: measuring them takes time.
    )
