"""Humans and models as published, where their answers are not at hand."""

from collections.abc import Iterable

from imgbench.metrics import measurement
from imgbench.papers import comparison
from imgbench.papers import program
from imgbench.papers import published as published_lib
from imgbench.papers import sections
from imgbench.papers import study as study_lib
from imgbench.papers.machine_accuracy import results
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.papers.readers import people
from imgbench.tables import table

_PAIR = (datasets_lib.VALIDATION, datasets_lib.MATCHED_FREQUENCY)
_METRIC = results.METRICS["icml2020"]


def report(
  output: program.Output, figures: Iterable[published_lib.PublishedFigure]
) -> tuple[list[results.Summary], list[table.Table]]:
  """Returns rows of summary.csv and tables of published accuracies of humans.

  Adds a figure of them and of the models beside them, on the images that humans
  labeled. Without a human both lists are empty.
  """
  found, source = {}, ""
  for key, figure in ((figure.key, figure) for figure in figures):
    if (key.metric, key.field) == (_METRIC, "value") and key.dataset in _PAIR:
      what = (0, None, figure.number / 100, None, None, None, figure.source)
      found[key[:4]], source = measurement.Measurement(*what), figure.source
  kinds = {key[0]: people.find_kind(key[0]) for key in found}
  if people.PERSON not in kinds.values():
    return [], []
  rows = study_lib.order_rows(_PAIR, found)
  study = study_lib.Study(rows, [_PAIR], study_lib.pair_same([_METRIC]))
  summaries = results.summary_rows(study, kinds, source)
  nothing = comparison.compare([], {})
  grids = [
    results.side_by_side_grid(rows, kinds, _METRIC, subset, nothing, source)
    for subset in study.subsets
  ]
  if output.wanted:
    from imgbench.papers.machine_accuracy import figures as figures_lib

    section = sections.ImageSection(
      {}, {}, (), kinds, frozenset(), rows, (), False, ()
    )
    points = figures_lib.find_people_points(section, _METRIC, study.subsets)
    draw = figures_lib.draw_people_panels(points, (), _METRIC, ", as published")
    if draw is not None:
      output.figure("people_published", draw)
  return summaries, [*grids, results.best_grid(summaries, _METRIC)]
