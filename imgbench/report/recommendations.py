"""What the literature asks to be reported beside top-1 accuracy, on one page.

Shankar et al., "Evaluating Machine Accuracy on ImageNet" (2020), recommend
multi-label accuracy, dogs, other organisms and objects apart, and accuracy
under distribution shift. A run shows what it has of them.
"""

from collections.abc import Sequence
import functools

from imgbench.metrics import specs
from imgbench.report import html_sets
from imgbench.report import html_tables
from imgbench.report import inputs
from imgbench.report import pictures
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats

TITLE = "Beyond top-1 accuracy"

_OTHER_LABELS = "When other labels are right too"

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


def content(run: inputs.Run, gallery: pictures.Gallery) -> str:
  """Returns the section, empty if the run has nothing of it."""
  rows = selection.without_training(run)
  parts = [
    _label_sets(run, rows),
    _part("Objects, organisms and dogs", _KINDS, _kinds(run, rows)),
    _part("On images of another origin", _SHIFT, _shift(run, rows, gallery)),
  ]
  return "\n".join(filter(None, parts))


def _part(title: str, words: str, inner: str) -> str:
  if not inner:
    return ""
  return f"<h3>{title}</h3>\n<p>{formats.escape(words)}</p>\n{inner}"


def _label_sets(run: inputs.Run, rows: Sequence[entries.Row]) -> str:
  whole = [
    row
    for row in rows
    if row.subset == "all" and row.metric in selection.FOR_A_GLANCE
  ]
  reviewed = {r.dataset for r in whole if specs.describe(r.metric).label_set}
  if not reviewed:
    return ""
  # Of other sets those that are compared with a base set stand below.
  shown = [r for r in whole if r.dataset in reviewed or not r.shift]
  metrics = selection.first_metrics(shown, len(shown))
  table = html_sets.by_metric(shown, run.synthetic, metrics)
  names = [
    words
    for words, start in (
      ("multi-label accuracy", "multilabel_"),
      ("ReaL accuracy", "real_"),
    )
    if any(metric.startswith(start) for metric in metrics)
  ]
  words = " and ".join(names) + (" asks" if len(names) == 1 else " ask")
  return _part(_OTHER_LABELS, _LABEL_SETS.format(names=words), table)


def _kinds(run: inputs.Run, rows: Sequence[entries.Row]) -> str:
  subsets = selection.kinds(rows)
  if not subsets:
    return ""
  subsets = ["all", *subsets]
  leading = selection.leading(rows)
  shown = [
    row
    for row in rows
    if row.subset in subsets
    and row.metric in selection.FOR_SUBSETS
    and row.dataset in leading
  ]
  return html_sets.by_subset(shown, run.synthetic, subsets, brief=True)


def _shift(
  run: inputs.Run, rows: Sequence[entries.Row], gallery: pictures.Gallery
) -> str:
  compared = [row for row in rows if row.shift]
  whole = [row for row in compared if row.subset == "all"]
  main = [row for row in whole if row.metric in selection.FOR_SUBSETS]
  if not main:
    return ""
  parts = [
    _base_set(run, main),
    html_sets.drops(main, run.synthetic, run.coverage),
    _drops_figure(run, main, gallery),
  ]
  rest = [row for row in whole if row.metric not in selection.FOR_SUBSETS]
  if rest:
    table = html_sets.drops(rest, run.synthetic, run.coverage)
    parts.append(html_tables.folded("Drops of other accuracies", table))
  of_subsets = [row for row in compared if row.subset != "all"]
  if of_subsets:
    subsets = list(dict.fromkeys(row.subset for row in of_subsets))
    table = html_sets.drops_by_subset(of_subsets, run.synthetic, subsets)
    parts.append(html_tables.folded("Drops by subset of classes", table))
  parts.append(
    html_tables.folded("What each drop is", _definitions(whole, run))
  )
  return "\n".join(filter(None, parts))


def _base_set(run: inputs.Run, rows: Sequence[entries.Row]) -> str:
  names = dict.fromkeys(run.base_of(row.dataset) for row in rows)
  names = [formats.escape(name) for name in names if name]
  if not names:
    return ""
  words = f"The base set is {names[0]}"
  if len(names) > 1:
    words += f", and where other parameters were used {', '.join(names[1:])}"
  return f"<p>{words}.</p>"


def _drops_figure(
  run: inputs.Run, rows: Sequence[entries.Row], gallery: pictures.Gallery
) -> str:
  from imgbench.report import figures_rows

  drawn = [row for row in rows if row.shift.drop.value is not None]
  if not drawn:
    return ""
  return gallery.figure(
    "drops",
    functools.partial(figures_rows.drops, rows=drawn, coverage=run.coverage),
    alt="Drop of accuracy from the base set to each shifted set",
    caption="What is lost on each set, with its interval. At 0 nothing is lost;"
    " on the left of it the model does better than on the base set.",
  )


def _definitions(rows: Sequence[entries.Row], run: inputs.Run) -> str:
  """In full words, and how the intervals are made."""
  found = {}
  for row in rows:
    drop = row.shift.drop
    words = drop.definition
    if drop.ci_method:
      words += f"; {run.coverage} interval: {drop.ci_method.replace('_', ' ')}"
    found[f"{row.dataset}/{drop.metric}"] = words
  return html_tables.sentences(found)
