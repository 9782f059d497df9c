"""Builds the sections on results: of whole data sets and of subsets."""

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
from imgbench.tables import table
from imgbench.weights import published

MAX_CHARTED = 4  # accuracies in the charts of subsets; the table has all
MAX_SUBSETS = 5  # in a chart whose colors are subsets

_SUBSETS_CAPTION = (
  "A subset has the images whose original label is one of its classes; the"
  " model still predicts among all classes."
)


def build_results(run: inputs.Run) -> list[page.Block]:
  """Returns the section on whole data sets, empty without results."""
  if not run.results:
    return []
  main = selection.select_main(selection.drop_repeats(run, run.results))
  chosen = set(map(id, main))
  rest = [r for r in run.results if r.subset == "all" and id(r) not in chosen]
  blocks = [entry_tables.build_results(run, main)] if main else []
  notes = _describe_uncharted(run)
  if any(map(formats.unreviewed, main)):
    notes.insert(0, entry_tables.UNREVIEWED)
  blocks += [page.Paragraph(note, muted=True) for note in notes]
  if rest:
    others = entry_tables.build_results(run, rest)
    blocks.append(page.Folded("Other metrics of the whole sets", others))
  definitions = page.Values(entry_tables.define(run, [*main, *rest]))
  return [*blocks, page.Folded("Definitions", definitions)]


def build_published(run: inputs.Run) -> list[page.Block]:
  """Returns the section on the published top-1 of evaluated weights, if any."""
  name = (run.config.get("init") or {}).get("checkpoint")
  known = published.PUBLISHED.get(name)
  found = [
    row
    for row in run.results or ()
    if (row.dataset, row.subset) == ("imagenet2012:validation", "all")
    and row.metric == "top1_accuracy"
  ]
  if known is None or known.top1 is None or not found:
    return []
  row = found[0]
  here = formats.with_bounds(row.value, row.ci_low, row.ci_high)
  apart = None if row.value is None else row.value - known.top1 / 100
  there = formats.percent(known.top1 / 100)
  cells = [name, known.source, there, here, formats.signed(apart)]
  header = ["weights", "source", "published top-1, %", "here, %", "difference"]
  return [table.from_cells("", header, [cells], num_left=2)]


def _describe_uncharted(run: inputs.Run) -> list[str]:
  charted = [dataset.key for dataset in run.charted]
  left_out = [d.key for d in run.datasets if d.key not in charted]
  training = [key for key in left_out if key in run.training]
  others = [key for key in left_out if key not in run.training]
  return [
    f"{', '.join(keys)}: {why}"
    for keys, why in (
      (training, "training data, in the tables only."),
      (
        others,
        "images of another set, with other parameters or labels; shown once in"
        " figures and galleries.",
      ),
    )
    if keys
  ]


def build_subsets(run: inputs.Run) -> list[page.Block]:
  """Returns the section on subsets, empty without any."""
  single = selection.drop_repeats(run, run.results or ())
  by_set = {
    dataset.key: selection.select_subsets(single, dataset.key)
    for dataset in run.datasets
  }
  shown = [row for rows in by_set.values() for row in rows]
  if not shown:
    return []
  metrics = selection.sort_metrics(shown, MAX_CHARTED)
  main = [row for row in shown if row.metric in metrics]
  images = lambda row: run.repeats.get(row.dataset, row.dataset)
  charts = {
    dataset.key: [row for row in main if images(row) == dataset.key]
    for dataset in run.charted
    if by_set[dataset.key]
  }
  across = len(charts) <= selection.MAX_ACROSS
  draw = _draw_by_dataset if across else _draw_by_metric
  blocks = [*draw(run, charts), entry_tables.build_subsets(run, main)]
  chosen = set(map(id, main))
  rest = [r for r in run.results if r.subset != "all" and id(r) not in chosen]
  if rest:
    others = entry_tables.build_subsets(run, rest)
    blocks.append(page.Folded("Other metrics of the subsets", others))
  return blocks


def _draw_by_dataset(
  run: inputs.Run, charts: Mapping[str, entry_tables.Rows]
) -> list[page.Block]:
  """Draws a figure for each data set: rows are subsets, colors metrics."""
  limits = selection.find_limits(
    [row for rows in charts.values() for row in rows]
  )
  blocks = []
  for key, rows in charts.items():
    alt = f"Accuracy by subset of classes on {key}"
    blocks.append(page.Heading(key))
    blocks += _draw(run, key, alt, rows, limits=limits)
  return blocks


def _draw_by_metric(
  run: inputs.Run, charts: Mapping[str, entry_tables.Rows]
) -> list[page.Block]:
  """Draws a figure for each metric: rows are data sets, colors subsets."""
  rows = [row for chart in charts.values() for row in chart]
  subsets = ["all", *selection.find_kinds(rows), *(row.subset for row in rows)]
  names = list(dict.fromkeys(subsets))[:MAX_SUBSETS]
  rows = [row for row in rows if row.subset in names]
  rows.sort(key=lambda row: names.index(row.subset))
  blocks = []
  for metric in selection.sort_metrics(rows, len(rows)):
    of_metric = [row for row in rows if row.metric == metric]
    label = specs.describe(metric).label
    blocks.append(page.Heading(formats.metric_title(metric)))
    blocks += _draw(
      run,
      metric,
      f"{label} by data set and subset of classes",
      of_metric,
      limits=selection.find_limits(of_metric),
      line=lambda row: row.dataset,
      series=lambda row: row.subset,
    )
  return blocks


def _draw(run: inputs.Run, name: str, alt: str, rows, **given):
  return pictures.draw(
    run.workdir / f"subsets_{writers.make_file_key(name)}.png",
    figures_rows.draw_subsets,
    rows,
    alt=alt,
    caption=_SUBSETS_CAPTION,
    coverage=run.coverage,
    **given,
  )
