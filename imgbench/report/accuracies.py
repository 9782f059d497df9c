"""The sections about numbers: those of whole sets, and those of subsets."""

from collections.abc import Mapping
from collections.abc import Sequence
import functools

from imgbench import writers
from imgbench.metrics import specs
from imgbench.report import html_sets
from imgbench.report import html_tables
from imgbench.report import inputs
from imgbench.report import pictures
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats

MAX_CHARTED = 4  # accuracies in the charts of subsets; the table has all
MAX_SUBSETS = 5  # in a chart where they are told apart by colour

_SUBSETS_CAPTION = (
  "A subset holds the images whose original label is one of its classes; the"
  " model still chooses among all classes."
)


def results(run: inputs.Run) -> str:
  """The section of the whole sets."""
  main = selection.main_rows(run.results)
  chosen = set(map(id, main))
  rest = [r for r in run.results if r.subset == "all" and id(r) not in chosen]
  parts = [_results_table(run, main)] if main else []
  if any(map(formats.unreviewed, main)):
    parts.append(f'<p class="muted">{html_tables.UNREVIEWED}</p>')
  parts.append(_not_charted(run))
  if rest:
    parts.append(
      html_tables.folded(
        "Other metrics of the whole sets", _results_table(run, rest)
      )
    )
  return "\n".join(filter(None, parts))


def _results_table(run: inputs.Run, rows: Sequence[entries.Row]) -> str:
  across = selection.fit_across(rows)
  draw = html_tables.results if across else html_sets.results
  return draw(rows, run.synthetic, run.coverage)


def _not_charted(run: inputs.Run) -> str:
  charted = [dataset.key for dataset in run.charted]
  left_out = [d.key for d in run.datasets if d.key not in charted]
  training = [key for key in left_out if key in run.training]
  others = [key for key in left_out if key not in run.training]
  sentences = []
  if training:
    sentences.append(
      f"{', '.join(training)}: of the training data, in the tables only."
    )
  if others:
    sentences.append(
      f"{', '.join(others)}: other parameters on the same images; figures by"
      " data set are drawn of the first ones."
    )
  return "\n".join(
    f'<p class="muted">{formats.escape(sentence)}</p>' for sentence in sentences
  )


def subsets(run: inputs.Run, gallery: pictures.Gallery) -> str:
  """The section of the subsets, empty if there are none."""
  by_set = {
    dataset.key: selection.subset_rows(run.results or (), dataset.key)
    for dataset in run.datasets
  }
  shown = [row for rows in by_set.values() for row in rows]
  if not shown:
    return ""
  metrics = selection.first_metrics(shown, MAX_CHARTED)
  charts = {
    dataset.key: [r for r in by_set[dataset.key] if r.metric in metrics]
    for dataset in run.charted
    if by_set[dataset.key]
  }
  across = len(charts) <= selection.MAX_ACROSS
  draw = _charts_by_dataset if across else _charts_by_metric
  parts = draw(run, gallery, charts)
  main = [row for row in shown if row.metric in metrics]
  parts.append(_subsets_table(run, main))
  chosen = set(map(id, main))
  rest = [
    row
    for row in run.results or ()
    if row.subset != "all" and id(row) not in chosen
  ]
  if rest:
    parts.append(
      html_tables.folded(
        "Other metrics of the subsets", _subsets_table(run, rest)
      )
    )
  return "\n".join(parts)


def _subsets_table(run: inputs.Run, rows: Sequence[entries.Row]) -> str:
  if selection.fit_across(rows):
    return html_tables.subsets(rows, run.synthetic, run.coverage)
  names = list(dict.fromkeys(row.subset for row in rows))
  return html_sets.by_subset(rows, run.synthetic, names)


def _charts_by_dataset(
  run: inputs.Run,
  gallery: pictures.Gallery,
  charts: Mapping[str, Sequence[entries.Row]],
) -> list[str]:
  """A figure for each data set: lines are subsets, colours metrics."""
  from imgbench.report import figures_rows

  limits = selection.limits([row for rows in charts.values() for row in rows])
  parts = []
  for key, rows in charts.items():
    title = html_tables.dataset_title(key, run.synthetic)
    parts.append(f"<h3>{title}</h3>")
    parts.append(
      gallery.figure(
        f"subsets_{writers.file_key(key)}",
        functools.partial(
          figures_rows.subsets, rows=rows, limits=limits, coverage=run.coverage
        ),
        alt=f"Accuracy by subset of classes on {key}",
        caption=_SUBSETS_CAPTION,
      )
    )
  return parts


def _charts_by_metric(
  run: inputs.Run,
  gallery: pictures.Gallery,
  charts: Mapping[str, Sequence[entries.Row]],
) -> list[str]:
  """A figure for each metric: lines are data sets, colours subsets."""
  from imgbench.report import figures_rows

  rows = [row for of_set in charts.values() for row in of_set]
  names = dict.fromkeys(["all", *selection.kinds(rows)])
  names |= dict.fromkeys(row.subset for row in rows)
  names = list(names)[:MAX_SUBSETS]
  rows = [row for row in rows if row.subset in names]
  rows.sort(key=lambda row: names.index(row.subset))
  parts = []
  for metric in selection.first_metrics(rows, len(rows)):
    of_metric = [row for row in rows if row.metric == metric]
    label = specs.describe(metric).label
    parts.append(f"<h3>{formats.escape(label[0].upper() + label[1:])}</h3>")
    draw = functools.partial(
      figures_rows.subsets,
      rows=of_metric,
      limits=selection.limits(of_metric),
      coverage=run.coverage,
      line=lambda row: row.dataset,
      series=lambda row: row.subset,
    )
    parts.append(
      gallery.figure(
        f"subsets_{writers.file_key(metric)}",
        draw,
        alt=f"{label} by data set and subset of classes",
        caption=_SUBSETS_CAPTION,
      )
    )
  return parts
