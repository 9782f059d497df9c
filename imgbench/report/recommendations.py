"""What the literature asks to be reported beside top-1 accuracy, on one page.

Shankar et al., "Evaluating Machine Accuracy on ImageNet" (2020), recommend
multi-label accuracy, dogs, other organisms and objects apart, and accuracy
under distribution shift. A run shows what it has of them.
"""

from imgbench.metrics import specs
from imgbench.report import entry_tables
from imgbench.report import figures_rows
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import page
from imgbench.tables import pictures

TITLE = "Beyond top-1 accuracy"

_LABEL_SETS = (
  "An image often shows more than its one label says. Top-1 and top-5 accuracy"
  " ask for the original label; {names} whether the prediction is one of the"
  " labels that people have found right for the image."
)
_KINDS = (
  "One number for all classes hides which of them are hard. Here the images are"
  " parted by their original label; the model still chooses among all classes."
)
_SHIFT = (
  "The same classes in images that were collected in another way. The drop is"
  " the accuracy on the base set minus the accuracy here, in percentage points;"
  " its interval counts in that both sets are samples. Where a set has only"
  " some of the classes, the base set is taken over its images of those alone,"
  " and is predicted among those alone if the set is; below is told what else"
  " differs."
)


def blocks(run: inputs.Run) -> list[page.Block]:
  """Returns the section, empty if the run has nothing of it."""
  rows = selection.without_training(run)
  return [*_label_sets(run, rows), *_kinds(run, rows), *_shift(run, rows)]


def _label_sets(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  whole = [
    row
    for row in rows
    if row.subset == "all" and row.metric in selection.FOR_A_GLANCE
  ]
  reviewed = {r.dataset for r in whole if specs.describe(r.metric).label_set}
  if not reviewed:
    return []
  # Of other sets those that are compared with a base set stand below.
  shown = [r for r in whole if r.dataset in reviewed or not r.shift]
  names = [
    words
    for words, start in (
      ("multi-label accuracy", "multilabel_"),
      ("ReaL accuracy", "real_"),
    )
    if any(row.metric.startswith(start) for row in shown)
  ]
  words = " and ".join(names) + (" asks" if len(names) == 1 else " ask")
  return [
    page.Heading("When other labels are right too"),
    page.Paragraph(_LABEL_SETS.format(names=words)),
    entry_tables.by_metric(run, shown),
  ]


def _kinds(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  subsets = selection.kinds(rows)
  if not subsets:
    return []
  subsets = ["all", *subsets]
  leading = selection.leading(rows)
  shown = [
    row
    for row in rows
    if row.subset in subsets
    and row.metric in selection.FOR_SUBSETS
    and row.dataset in leading
  ]
  return [
    page.Heading("Objects, organisms and dogs"),
    page.Paragraph(_KINDS),
    entry_tables.kinds(run, shown, subsets),
  ]


def _shift(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  compared = [row for row in rows if row.shift]
  whole = [row for row in compared if row.subset == "all"]
  main = [row for row in whole if row.metric in selection.FOR_SUBSETS]
  if not main:
    return []
  figure = pictures.draw(
    run.workdir / "drops.png",
    figures_rows.drops,
    [row for row in main if row.shift.drop.value is not None],
    coverage=run.coverage,
    alt="Drop of accuracy from the base set to each shifted set",
    caption="What is lost on each set, with its interval. At 0 nothing is lost;"
    " on the left of it the model does better than on the base set.",
  )
  found = [
    page.Heading("On images of another origin"),
    page.Paragraph(_SHIFT),
    *_base_set(run, main),
    entry_tables.drops(run, main),
    *figure,
  ]
  rest = [row for row in whole if row.metric not in selection.FOR_SUBSETS]
  if rest:
    others = entry_tables.drops(run, rest)
    found.append(page.Folded("Drops of other accuracies", others))
  of_subsets = [row for row in compared if row.subset != "all"]
  if of_subsets:
    of_subsets = entry_tables.drops_by_subset(run, of_subsets)
    found.append(page.Folded("Drops by subset of classes", of_subsets))
  definitions = page.Values(_definitions(run, whole))
  return [*found, page.Folded("What each drop is", definitions)]


def _base_set(run: inputs.Run, rows: entry_tables.Rows) -> list[page.Block]:
  names = dict.fromkeys(run.base_of(row.dataset) for row in rows)
  first, *others = [name for name in names if name] or [""]
  if not first:
    return []
  words = f"The base set is {first}"
  if others:
    words += f", and where other parameters were used {', '.join(others)}"
  return [page.Paragraph(f"{words}.")]


def _definitions(run: inputs.Run, rows: entry_tables.Rows) -> dict[str, str]:
  """In full words, and how the intervals are made."""
  found = {}
  for row in rows:
    drop = row.shift.drop
    words = drop.definition
    if drop.ci_method:
      words += f"; {run.coverage} interval: {drop.ci_method.replace('_', ' ')}"
    found[f"{row.dataset}/{drop.metric}"] = words
  return found
