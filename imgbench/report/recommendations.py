"""Builds the section on results that the literature asks for besides top-1.

Shankar et al., "Evaluating Machine Accuracy on ImageNet" (2020), recommend
multi-label accuracy, separate results for dogs, other organisms and objects,
and accuracy under distribution shift. The section shows those that a run has.
"""

from imgbench.metrics import specs
from imgbench.report import entry_tables
from imgbench.report import figures_rows
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import page
from imgbench.tables import pictures

TITLE = "Beyond top-1 accuracy"
LABEL_SETS = "Accuracy on several labels"
KINDS = "Objects, dogs and other organisms"
SHIFT = "Distribution shift"

_LABEL_SETS = (
  "An image often shows more than its label says. Top-1 and top-5 accuracy use"
  " the original label; {names} all labels that annotators found correct."
)
_KINDS = (
  "Images are grouped by their original label; the model still predicts among"
  " all classes."
)
_SHIFT = (
  "The same classes in images from other sources. The drop is the accuracy on"
  " the base set minus the accuracy on this set, in percentage points; its"
  " interval treats both sets as samples. If a set has some of the classes, the"
  " base set is restricted to images of these classes, and its predictions too"
  " if those of the set are. The definitions below list other differences."
)


def build(run: inputs.Run) -> list[page.Block]:
  """Returns the section, empty if the run has none of these results."""
  rows = selection.drop_repeats(run, selection.drop_training(run))
  return [
    *_build_labels(run, rows),
    *_build_kinds(run, rows),
    *_build_shift(run, rows),
  ]


def _build_labels(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  whole = [
    row
    for row in rows
    if row.subset == "all" and row.metric in selection.FOR_A_GLANCE
  ]
  reviewed = {r.dataset for r in whole if specs.describe(r.metric).label_set}
  if not reviewed:
    return []
  # Other sets that are compared with a base set are below.
  shown = [r for r in whole if r.dataset in reviewed or not r.shift]
  names = [
    words
    for words, start in (
      ("multi-label accuracy", "multilabel_"),
      ("ReaL accuracy", "real_"),
    )
    if any(row.metric.startswith(start) for row in shown)
  ]
  words = " and ".join(names) + (" uses" if len(names) == 1 else " use")
  return [
    page.Heading(LABEL_SETS),
    page.Paragraph(_LABEL_SETS.format(names=words)),
    entry_tables.build_by_metric(run, shown),
  ]


def _build_kinds(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  leading = selection.find_leading(rows)
  rows = [row for row in rows if row.metric in selection.FOR_SUBSETS]
  subsets = selection.find_kinds(rows)
  if not subsets:
    return []
  subsets = ["all", *subsets]
  shown = [
    row for row in rows if row.subset in subsets and row.dataset in leading
  ]
  return [
    page.Heading(KINDS),
    page.Paragraph(_KINDS),
    entry_tables.build_kinds(run, shown, subsets),
  ]


def _build_shift(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  compared = [row for row in rows if row.shift]
  whole = [row for row in compared if row.subset == "all"]
  main = [row for row in whole if row.metric in selection.FOR_SUBSETS]
  if not main:
    return []
  figure = pictures.draw(
    run.workdir / "drops.png",
    figures_rows.draw_drops,
    [row for row in main if row.shift.drop.value is not None],
    coverage=run.coverage,
    alt="Drop of accuracy from the base set to each shifted set",
    caption="Drop on each set, with its interval. Left of 0 the accuracy is"
    " higher than on the base set.",
  )
  found = [
    page.Heading(SHIFT),
    page.Paragraph(_SHIFT),
    *_build_base(run, main),
    entry_tables.build_drops(run, main),
    *figure,
  ]
  rest = [row for row in whole if row.metric not in selection.FOR_SUBSETS]
  if rest:
    others = entry_tables.build_drops(run, rest)
    found.append(page.Folded("Drops of other accuracies", others))
  of_subsets = [row for row in compared if row.subset != "all"]
  if of_subsets:
    of_subsets = entry_tables.build_drops_by_subset(run, of_subsets)
    found.append(page.Folded("Drops by subset of classes", of_subsets))
  definitions = page.Values(_define(run, whole))
  return [*found, page.Folded("Definitions of the drops", definitions)]


def _build_base(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  names = dict.fromkeys(run.base_of(row.dataset) for row in rows)
  first, *others = [name for name in names if name] or [""]
  if not first:
    return []
  words = f"The base set is {first}"
  if others:
    words += f"; for other parameters it is {', '.join(others)}"
  return [page.Paragraph(f"{words}.")]


def _define(run: inputs.Run, rows: entry_tables.Rows) -> dict[str, str]:
  """Returns row -> definition of its drop, with the interval's method."""
  found = {}
  for row in rows:
    drop = row.shift.drop
    words = drop.definition
    if drop.ci_method:
      words += f"; {run.coverage} interval: {drop.ci_method.replace('_', ' ')}"
    found[f"{row.dataset}/{drop.metric}"] = words
  return found
