"""The sections about numbers: those of whole sets, and those of subsets."""

from collections.abc import Mapping

from imgbench import writers
from imgbench.metrics import specs
from imgbench.report import entry_tables
from imgbench.report import figures_rows
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import pictures

MAX_CHARTED = 4  # accuracies in the charts of subsets; the table has all
MAX_SUBSETS = 5  # in a chart where they are told apart by colour

_SUBSETS_CAPTION = (
  "A subset holds the images whose original label is one of its classes; the"
  " model still chooses among all classes."
)


def results(run: inputs.Run) -> list[page.Block]:
  """Returns the section of the whole sets, empty without results."""
  if not run.results:
    return []
  main = selection.main_rows(run.results)
  chosen = set(map(id, main))
  rest = [r for r in run.results if r.subset == "all" and id(r) not in chosen]
  blocks = [entry_tables.results(run, main)] if main else []
  notes = _not_charted(run)
  if any(map(formats.unreviewed, main)):
    notes.insert(0, entry_tables.UNREVIEWED)
  blocks += [page.Paragraph(note, muted=True) for note in notes]
  if rest:
    others = entry_tables.results(run, rest)
    blocks.append(page.Folded("Other metrics of the whole sets", others))
  return blocks


def _not_charted(run: inputs.Run) -> list[str]:
  charted = [dataset.key for dataset in run.charted]
  left_out = [d.key for d in run.datasets if d.key not in charted]
  training = [key for key in left_out if key in run.training]
  others = [key for key in left_out if key not in run.training]
  return [
    f"{', '.join(keys)}: {why}"
    for keys, why in (
      (training, "of the training data, in the tables only."),
      (
        others,
        "other parameters on the same images; figures by data set are drawn of"
        " the first ones.",
      ),
    )
    if keys
  ]


def subsets(run: inputs.Run) -> list[page.Block]:
  """Returns the section of the subsets, empty if there are none."""
  by_set = {
    dataset.key: selection.subset_rows(run.results or (), dataset.key)
    for dataset in run.datasets
  }
  shown = [row for rows in by_set.values() for row in rows]
  if not shown:
    return []
  metrics = selection.first_metrics(shown, MAX_CHARTED)
  main = [row for row in shown if row.metric in metrics]
  charts = {
    dataset.key: [r for r in by_set[dataset.key] if r.metric in metrics]
    for dataset in run.charted
    if by_set[dataset.key]
  }
  across = len(charts) <= selection.MAX_ACROSS
  draw = _charts_by_dataset if across else _charts_by_metric
  blocks = [*draw(run, charts), entry_tables.subsets(run, main)]
  chosen = set(map(id, main))
  rest = [r for r in run.results if r.subset != "all" and id(r) not in chosen]
  if rest:
    others = entry_tables.subsets(run, rest)
    blocks.append(page.Folded("Other metrics of the subsets", others))
  return blocks


def _charts_by_dataset(
  run: inputs.Run, charts: Mapping[str, entry_tables.Rows]
) -> list[page.Block]:
  """A figure for each data set: lines are subsets, colours metrics."""
  limits = selection.limits([row for rows in charts.values() for row in rows])
  blocks = []
  for key, rows in charts.items():
    alt = f"Accuracy by subset of classes on {key}"
    blocks.append(page.Heading(run.titled(key)))
    blocks += _chart(run, key, alt, rows, limits=limits)
  return blocks


def _charts_by_metric(
  run: inputs.Run, charts: Mapping[str, entry_tables.Rows]
) -> list[page.Block]:
  """A figure for each metric: lines are data sets, colours subsets."""
  rows = [row for of_set in charts.values() for row in of_set]
  names = dict.fromkeys(["all", *selection.kinds(rows)])
  names |= dict.fromkeys(row.subset for row in rows)
  names = list(names)[:MAX_SUBSETS]
  rows = [row for row in rows if row.subset in names]
  rows.sort(key=lambda row: names.index(row.subset))
  blocks = []
  for metric in selection.first_metrics(rows, len(rows)):
    of_metric = [row for row in rows if row.metric == metric]
    label = specs.describe(metric).label
    blocks.append(page.Heading(formats.metric_title(metric)))
    blocks += _chart(
      run,
      metric,
      f"{label} by data set and subset of classes",
      of_metric,
      limits=selection.limits(of_metric),
      line=lambda row: row.dataset,
      series=lambda row: row.subset,
    )
  return blocks


def _chart(run: inputs.Run, of: str, alt: str, rows, **given):
  return pictures.draw(
    run.workdir / f"subsets_{writers.file_key(of)}.png",
    figures_rows.subsets,
    rows,
    alt=alt,
    caption=_SUBSETS_CAPTION,
    coverage=run.coverage,
    **given,
  )
