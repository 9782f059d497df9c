"""Scatter plots of a study's models."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence

import pandas as pd

from imgbench.metrics import summary
from imgbench.papers import figures
from imgbench.papers import fits
from imgbench.papers import study as study_lib
from imgbench.papers.readers import cifar
from imgbench.papers.readers import datasets
from imgbench.tables import formats
from imgbench.tables import frame

NETWORKS, FISHER, OWN = "public models", "Fisher vectors", "your models"

_TITLES = {**datasets.SHORT_TITLES, **cifar.TITLES}
_SMALL_COLUMNS = 3
_BEST = 5  # public models with a name


def group_points(
  rows: pd.DataFrame,
  x: study_lib.Axis,
  y: study_lib.Axis,
  group: Callable[[str], str],
  order: Sequence[str],
  named: Collection[str],
  subset: str = summary.ALL,
) -> list[figures.Point]:
  """Returns the models with a value on both axes, by group and name.

  Args:
    rows: of the table.
    x: data set and metric of one axis.
    y: those of the other.
    group: model -> its group.
    order: of the groups.
    named: models to label with their names.
    subset: of classes.
  """
  xs, ys = (
    frame.index_by_model(rows, dataset=name, metric=metric, subset=subset)
    for name, metric in (x, y)
  )
  place = lambda row: figures.Coordinate(row.value, row.ci_low, row.ci_high)
  found = [
    figures.Point(m, place(xs[m]), place(ys[m]), group(m), named=m in named)
    for m in sorted(xs.keys() & ys.keys())
  ]
  return sorted(found, key=lambda point: order.index(point.group))


def find_points(
  found: study_lib.Study,
  x: study_lib.Axis,
  y: study_lib.Axis,
  subset: str = summary.ALL,
  best: int = 0,
) -> list[figures.Point]:
  """Returns the models with a value on both axes.

  Yours are labeled, and so many public models that are best on y.
  """

  def group(model: str) -> str:
    networks = FISHER if fits.is_fisher_vector(model) else NETWORKS
    return OWN if model in found.outside else networks

  order = (NETWORKS, FISHER, OWN)
  ranked = study_lib.sort_best_first(found.rows, y, subset)
  public = [model for model in ranked if model not in found.outside]
  named = found.outside.union(public[:best])
  return group_points(found.rows, x, y, group, order, named, subset)


def draw_both_scales(
  found: study_lib.Study, x: study_lib.Axis, y: study_lib.Axis
) -> figures.Draw:
  """Returns a figure with a panel for each scale, of all classes."""
  panels = [
    (f"{scale.capitalize()} scale", summary.ALL, scale) for scale in fits.SCALES
  ]
  return _figure(found, x, y, panels, best=_BEST, residuals=True)


def draw_by_subset(
  found: study_lib.Study, x: study_lib.Axis, y: study_lib.Axis
) -> figures.Draw:
  """Returns a figure with a panel for each subset of classes."""
  title = lambda s: "all classes" if s == summary.ALL else s.replace("_", " ")
  panels = [(title(subset), subset, fits.PLAIN) for subset in found.subsets]
  return _figure(found, x, y, panels, _SMALL_COLUMNS)


def _figure(
  found: study_lib.Study, x, y, panels, columns=2, best=0, residuals=False
) -> figures.Draw:
  drawn = []
  for title, subset, scale in panels:
    line = fits.find_line(found.lines, x, y, subset=subset, scale=scale)
    fit = None if line is None else line.fit
    panel = figures.Panel(
      title,
      *_labels(x, y),
      find_points(found, x, y, subset, best),
      fit=fit,
      scale=scale,
      focus=True,
    )
    drawn.append(panel)
  without = any(line.models == fits.WITHOUT_FISHER for line in found.lines)
  return figures.scatter(drawn, columns, fits.name_fit(without), residuals)


def _labels(x: study_lib.Axis, y: study_lib.Axis) -> list[str]:
  """Returns the labels of the axes: metric, and data set if they differ."""
  if x[0] == y[0]:
    return [formats.metric_title(metric) for _, metric in (x, y)]
  return [
    f"{formats.metric_title(metric)} on {_TITLES.get(name, name)}"
    for name, metric in (x, y)
  ]
