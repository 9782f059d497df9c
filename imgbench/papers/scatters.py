"""Scatter plots of the public models from the rows of the table."""

from collections.abc import Iterable
from collections.abc import Sequence

from imgbench.metrics import summary
from imgbench.papers import figures
from imgbench.papers import fits
from imgbench.papers import main_table
from imgbench.papers import records
from imgbench.papers.readers import cifar
from imgbench.papers.readers import datasets
from imgbench.tables import formats

NETWORKS, FISHER = "public models", "Fisher vectors"

Axis = tuple[str, str]  # data set, metric

_TITLES = {**datasets.SHORT_TITLES, **cifar.TITLES}
_SMALL_COLUMNS = 3


def points(
  rows: Sequence[records.Row],
  x: Axis,
  y: Axis,
  own: frozenset[str] = frozenset(),
  subset: str = summary.ALL,
) -> list[figures.Point]:
  """Returns the models with a value on both axes; one's own are named."""
  lookup = main_table.Lookup(rows)
  found = []
  for model in sorted({row.model for row in rows}):
    ends = [lookup.get(model, *axis, subset) for axis in (x, y)]
    if None not in ends:
      group = FISHER if fits.is_fisher_vector(model) else NETWORKS
      group = "one's own" if model in own else group
      found.append(figures.Point(model, *ends, group, named=model in own))
  order = (NETWORKS, FISHER)
  return sorted(
    found, key=lambda p: order.index(p.group) if p.group in order else 2
  )


def both_scales(
  rows: Sequence[records.Row],
  lines: Iterable[fits.Line],
  x: Axis,
  y: Axis,
  own: frozenset[str] = frozenset(),
) -> figures.Draw:
  """Returns a figure with a panel on each scale, for all classes."""
  lines, shown = list(lines), points(rows, x, y, own)
  made = [
    _panel(f"{scale.capitalize()} scale", shown, lines, x, y, scale)
    for scale in fits.SCALES
  ]
  return figures.scatter(made, fit_label=_fit_label(lines))


def by_subset(
  rows: Sequence[records.Row],
  lines: Iterable[fits.Line],
  x: Axis,
  y: Axis,
  own: frozenset[str] = frozenset(),
) -> figures.Draw:
  """Returns a figure with a panel for each subset of classes."""
  lines = list(lines)
  subsets = dict.fromkeys(row.subset for row in rows)
  made = [
    _panel(
      "all classes" if subset == summary.ALL else subset.replace("_", " "),
      points(rows, x, y, own, subset),
      lines,
      x,
      y,
      fits.PLAIN,
      subset,
    )
    for subset in subsets
  ]
  return figures.scatter(made, _SMALL_COLUMNS, _fit_label(lines))


def _panel(title, shown, lines, x, y, scale, subset=summary.ALL):
  line = fits.best(
    lines,
    base=x[0],
    base_metric=x[1],
    dataset=y[0],
    metric=y[1],
    subset=subset,
    scale=scale,
  )
  return figures.Panel(
    title,
    *_labels(x, y),
    shown,
    fit=None if line is None else line.fit,
    scale=scale,
  )


def _labels(x: Axis, y: Axis) -> list[str]:
  """Names of the axes: what differs between them, or both."""
  if x[0] == y[0]:
    return [formats.metric_title(metric) for _, metric in (x, y)]
  return [
    f"{formats.metric_title(metric)} on {_TITLES.get(name, name)}"
    for name, metric in (x, y)
  ]


def _fit_label(lines: Sequence[fits.Line]) -> str:
  without = any(line.models == fits.WITHOUT_FISHER for line in lines)
  return "linear fit" + (" without Fisher vectors" if without else "")
