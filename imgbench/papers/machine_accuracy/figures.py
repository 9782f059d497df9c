"""Scatter plots of multi-label accuracy, of models and of humans."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from imgbench.papers import figures
from imgbench.papers import fits
from imgbench.papers import scatters
from imgbench.papers import sections
from imgbench.papers.machine_accuracy import results
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.papers.readers import people
from imgbench.tables import formats

_GROUPS = {
  people.MODEL: scatters.NETWORKS,
  people.ENSEMBLE: "majority",
  people.PERSON: "humans",
  sections.OWN: scatters.OWN,
}
# Models trained on more than ImageNet's training set, by their names in the
# paper's notebook.
_MORE_DATA = (
  "FixResNeXt101_32x48d_v2",
  "instagram-48d",
  "instagram_model_48d",
)
# The paper's figures show classifiers above this accuracy on ImageNet; with
# weaker ones, all others would be in a corner.
SHOWN_FROM = 0.7
_EXTRA = "trained on more data"
_FISHER = scatters.FISHER
_ORDER = (
  _GROUPS[people.MODEL],
  _FISHER,
  _EXTRA,
  _GROUPS[people.ENSEMBLE],
  _GROUPS[people.PERSON],
  _GROUPS[sections.OWN],
)
_SUBSET_TITLES = {
  "all": "All images",
  "object": "Objects",
  "organism": "Organisms",
  "dog": "Dogs",
  "organism_not_dog": "Organisms except dogs",
  "not_dog": "Without dogs",
  sections.FAST: "Fast images (median under 60 s)",
}


def _group(section: sections.ImageSection, name: str) -> str:
  if section.kinds[name] == people.MODEL:
    if name in _MORE_DATA:
      return _EXTRA
    if fits.is_fisher_vector(name):
      return _FISHER
  return _GROUPS[section.kinds[name]]


def _points(section, x, y, subset="all", named=()):
  """Returns the points of all classifiers with a value on both axes."""
  rows = section.rows
  found = scatters.group_points(
    rows[rows.value.notna()],
    x,
    y,
    lambda name: _group(section, name),
    _ORDER,
    section.names(sections.OWN, *named),
    subset,
  )
  return [
    dataclasses.replace(point, name=point.name.removeprefix("human_"))
    for point in found
  ]


def draw_against_top(
  section: sections.ImageSection, lines: Sequence[fits.FittedLine], dataset: str
) -> figures.Draw | None:
  """Returns a function that draws multi-label accuracy against top-1 and top-5.

  Each definition in which two classifiers or more have a value has a row of two
  panels; None if there is no such definition.
  """
  panels, without = [], False
  for definition, metric in results.METRICS.items():
    for base, title in (
      (results.TOP1, "top-1"),
      (results.TOP5, "top-5"),
    ):
      axes = ((dataset, base), (dataset, metric))
      points = _points(section, *axes)
      if len(points) < 2:
        continue
      fitted = _line(lines, *axes, models=fits.WITHOUT_FISHER)
      without = without or fitted is not None
      panels.append(
        figures.Panel(
          title=f"{definition} against {title}",
          x_label=f"{title} accuracy",
          y_label=f"multi-label accuracy, {definition}",
          points=points,
          fit=fitted or _line(lines, *axes),
        )
      )
  if not panels:
    return None
  return figures.scatter(panels, fit_label=fits.name_fit(without))


def _line(lines, x, y, subset="all", models=fits.ALL_MODELS):
  """Returns the plain fit of a choice of models, None if there is none."""
  line = fits.find_line(
    lines, x, y, subset=subset, scale=fits.PLAIN, models=models
  )
  return None if line is None else line.fit


class PeoplePoints(NamedTuple):
  """Classifiers of a panel: those shown, and those too weak to show."""

  shown: list[figures.Point]
  weak: list[figures.Point]


def find_people_points(
  section: sections.ImageSection, metric: str, subsets: Sequence[str]
) -> dict[str, PeoplePoints]:
  """Returns the classifiers with values on ImageNet and ImageNetV2, by subset.

  Those below 70% on ImageNet are weak, unless all are below it. A subset
  without classifiers is left out.
  """
  found = {}
  for subset in subsets:
    axes = _people_axes(metric)
    points = _points(section, *axes, subset, named=(people.PERSON,))
    strong = [p for p in points if p.x.value >= SHOWN_FROM] or points
    if points:
      weak = [p for p in points if p not in strong]
      found[subset] = PeoplePoints(strong, weak)
  return found


def _people_axes(metric: str):
  return (
    (datasets_lib.VALIDATION, metric),
    (datasets_lib.MATCHED_FREQUENCY, metric),
  )


def draw_people_panels(
  found: Mapping[str, PeoplePoints],
  lines: Sequence[fits.FittedLine],
  metric: str,
  mark: str = "",
) -> figures.Draw | None:
  """Returns a function that draws ImageNetV2 against ImageNet by subset.

  The fits include models that are not shown. None if no subset has a classifier
  with both values. `mark` follows the titles.
  """
  panels = [
    figures.Panel(
      title=_SUBSET_TITLES.get(subset, subset) + mark,
      x_label="ImageNet, multi-label accuracy",
      y_label="ImageNetV2, multi-label accuracy",
      points=points.shown,
      fit=_line(lines, *_people_axes(metric), subset),
    )
    for subset, points in found.items()
  ]
  if not panels:
    return None
  return figures.scatter(panels, fit_label=_people_fit(found.values()))


def _people_fit(found: Iterable[PeoplePoints]) -> str:
  """Returns the label of the fit, with the number of models not shown."""
  numbers = [len(points.weak) for points in found]
  low, high = min(numbers), max(numbers)
  if not high:
    return "linear fit of the models"
  several = str(high) if low == high else f"{low} to {high}"
  return (
    "linear fit of the models, including those below"
    f" {formats.percent(SHOWN_FROM, 0)}% ({several} not shown)"
  )
