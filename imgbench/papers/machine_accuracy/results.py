"""Tables of multi-label accuracy for people to read, and what they rest on."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from imgbench.metrics import multilabel
from imgbench.metrics import summary
from imgbench.papers import comparison
from imgbench.papers import fits
from imgbench.papers import main_table
from imgbench.papers import records
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.tables import formats
from imgbench.tables import table

TOP1, TOP5 = "top1_accuracy", "top5_accuracy"
METRICS = {
  name: f"multilabel_accuracy.{name}" for name in multilabel.DEFINITIONS
}
# Plain shares of the same images, which drops and fits are made of.
SHARES = (TOP1, TOP5, METRICS["icml2020"], METRICS["lenient_mean"])

SUMMARY_COLUMNS = (
  "dataset",
  "metric",
  "models",
  "best",
  "best_model",
  "median",
  "worst",
  "worst_model",
)
ROBUSTNESS_COLUMNS = (
  "model",
  "subset",
  "metric",
  "base",
  "dataset",
  "value_base",
  "value",
  "on_the_line",
  "above_the_line",
)

# Best, median and worst of the paper's own testbed, in percent: Shankar et al.
# 2020, section 4. Its models are not quite the public collection's.
_PAPER = {
  TOP1: (86, 77, 57),
  TOP5: (97, 93, 79),
  METRICS["icml2020"]: (95, 85, 64),
}


def reviewed_grid(
  rows: Sequence[records.Row], dataset: str, compared: Sequence
) -> table.Table:
  """Returns every model's accuracies in all definitions.

  Beside each definition stands what it would be with all predictions that
  nobody reviewed counted as right; as it is they count as wrong.
  """
  rows = [row for row in rows if row.dataset == dataset]
  lookup = main_table.Lookup(rows)
  defined = {row.metric for row in rows if row.value.value is not None}
  columns = []
  for name, metric in (("top-1", TOP1), ("top-5", TOP5)):
    columns.append((name, lookup.plain_column(dataset, metric)))
    columns += _published(compared, dataset, metric)
  for name, metric in METRICS.items():
    if metric in defined:
      columns.append((name, lookup.column(dataset, metric)))
    if f"{metric}.bound_high" in defined:
      high = lookup.plain_column(dataset, f"{metric}.bound_high")
      columns.append(("up to", high))
    columns += _published(compared, dataset, metric)
  unreviewed = f"{METRICS['lenient_mean']}.unreviewed"
  if unreviewed in defined:
    cell = lambda model: _count(lookup.get(model, dataset, unreviewed))
    columns.append(("never reviewed", cell))
  n = max((row.value.n for row in rows if row.metric == TOP1), default=0)
  order = METRICS["icml2020"]
  order = order if order in defined else METRICS["lenient_mean"]
  caption = (
    f"{datasets_lib.TITLES[dataset]}: accuracy in percent with 95% intervals"
    f" on {n:,} reviewed images"
  )
  if unreviewed in defined:
    caption += (
      "; predictions that nobody reviewed count as wrong, up to what it would"
      " be were they all right"
    )
  return table.by_name(caption, lookup.best_first(dataset, order), columns)


def _published(compared, dataset, metric, subset=summary.ALL):
  """Columns of published values and of the differences to them."""
  cells = comparison.columns(compared, dataset, metric, subset=subset)
  return list(zip(("published", "diff."), cells, strict=True))


def _count(entry) -> str:
  if entry is None or entry.correct is None:
    return ""
  return f"{entry.correct:,} ({100 * entry.correct / max(entry.n, 1):.2f}%)"


def undefined(rows: Sequence[records.Row]) -> dict[str, str]:
  """Returns why values are not defined, by what they are of.

  What is undefined for all classifiers, and for the same reason, is one entry.
  """
  groups: dict[tuple[str, ...], list[records.Row]] = {}
  for row in rows:
    groups.setdefault(row[1:4], []).append(row)
  found = {}
  for what, members in groups.items():
    reasons = {row.value.definition for row in members}
    lacking = [row for row in members if row.value.value is None]
    if len(lacking) == len(members) and len(reasons) == 1:
      found["/".join(("all classifiers", *what))] = reasons.pop()
    else:
      found |= {"/".join(row[:4]): row.value.definition for row in lacking}
  return found


def undefined_notes(rows: Sequence[records.Row]) -> list[str]:
  """Returns a line for each definition that no row has a value in, with why."""
  notes = []
  for dataset in dict.fromkeys(row.dataset for row in rows):
    for metric in METRICS.values():
      found = [
        row.value
        for row in rows
        if (row.dataset, row.subset, row.metric)
        == (dataset, summary.ALL, metric)
      ]
      if found and all(entry.value is None for entry in found):
        why = found[0].definition.rpartition("undefined: ")[2]
        notes.append(f"{dataset}: {metric} is not defined: {why}")
  return notes


def summary_rows(
  rows: Sequence[records.Row], models: Sequence[str]
) -> list[tuple[Any, ...]]:
  """Returns rows of SUMMARY_COLUMNS: best, median and worst of some models."""
  values: dict[tuple[str, str], dict[str, float]] = {}
  for row in rows:
    if (
      row.subset == summary.ALL
      and row.model in models
      and row.metric in (TOP1, TOP5, *METRICS.values())
      and row.value.value is not None
    ):
      key = (row.dataset, row.metric)
      values.setdefault(key, {})[row.model] = row.value.value
  found = []
  for (dataset, metric), by_model in values.items():
    ordered = sorted(by_model, key=lambda m: (-by_model[m], m))
    best, worst = ordered[0], ordered[-1]
    found.append(
      (
        dataset,
        metric,
        len(ordered),
        by_model[best],
        best,
        float(np.median(list(by_model.values()))),
        by_model[worst],
        worst,
      )
    )
  return found


def summary_grid(found: Sequence[tuple[Any, ...]], dataset: str) -> table.Table:
  """Returns best, median and worst, the paper's beside them."""
  body = []
  for name, metric, _, best, best_model, median, worst, worst_model in found:
    if name == dataset:
      paper = [f"{number}" for number in _PAPER.get(metric, ("", "", ""))]
      body.append(
        (
          metric,
          f"{formats.percent(best)} {best_model}",
          paper[0],
          formats.percent(median),
          paper[1],
          f"{formats.percent(worst)} {worst_model}",
          paper[2],
        )
      )
  return table.of_cells(
    f"{datasets_lib.TITLES[dataset]}: best, median and worst model in percent;"
    " the paper's are of another choice of models, on 20,000 images",
    ("metric", "best", "paper", "median", "paper", "worst", "paper"),
    tuple(body),
  )


def side_by_side(
  rows: Sequence[records.Row],
  kinds: Mapping[str, str],
  metric: str,
  subset: str,
  compared: Sequence,
) -> table.Table:
  """Returns people and models on both data sets, the best first."""
  lookup = main_table.Lookup(rows)
  columns: list[tuple[str, table.Cell]] = [("kind", lambda name: kinds[name])]
  sets = [
    name
    for name in (datasets_lib.VALIDATION, datasets_lib.MATCHED_FREQUENCY)
    if any(row.dataset == name for row in rows)
  ]
  sizes = []
  for dataset in sets:
    title = datasets_lib.TITLES[dataset].split()[0]
    columns += [
      (title, lookup.column(dataset, metric, subset)),
      ("up to", lookup.plain_column(dataset, f"{metric}.bound_high", subset)),
      ("never reviewed", _unreviewed(lookup, dataset, metric, subset)),
      *_published(compared, dataset, metric, subset),
    ]
    found = [r for r in rows if r[1:4] == (dataset, subset, metric)]
    sizes.append(max((row.value.n for row in found), default=0))
  if len(sets) == 2:
    columns.append(
      (
        "drop",
        lambda name: formats.signed(
          _difference(*(lookup.value(name, s, metric, subset) for s in sets))
        ),
      )
    )
  return table.by_name(
    f"People and models, {subset.replace('_', ' ')} images: {metric} in percent"
    f" with 95% intervals, n = {' and '.join(f'{size:,}' for size in sizes)};"
    " predictions that nobody reviewed count as wrong, up to what it would be"
    " were they all right",
    lookup.best_first(sets[0], metric, subset) if sets else [],
    columns,
    first="classifier",
  )


def _unreviewed(lookup, dataset, metric, subset):
  def cell(name: str) -> str:
    entry = lookup.get(name, dataset, f"{metric}.unreviewed", subset)
    return (
      "" if entry is None or entry.correct is None else f"{entry.correct:,}"
    )

  return cell


def _difference(a: float | None, b: float | None) -> float | None:
  return None if a is None or b is None else a - b


def robustness_rows(
  rows: Sequence[records.Row], lines: Sequence[fits.Line]
) -> list[tuple[Any, ...]]:
  """Returns rows of ROBUSTNESS_COLUMNS: how far each lies above the line.

  The line is the plain fit through all of the models.
  """
  lookup = main_table.Lookup(rows)
  names = sorted({row.model for row in rows})
  found = []
  for line in lines:
    plain = (line.scale, line.models) == (fits.PLAIN, fits.ALL_MODELS)
    if not plain or line.fit is None or line.base == line.dataset:
      continue
    for name in names:
      x, y = (
        lookup.value(name, dataset, line.metric, line.subset)
        for dataset in (line.base, line.dataset)
      )
      if x is not None and y is not None:
        expected = float(line.fit.predict(x))
        what = (name, line.subset, line.metric, line.base, line.dataset)
        found.append((*what, x, y, expected, y - expected))
  return sorted(found, key=lambda row: row[0])


def is_defined(rows: Sequence[records.Row], metric: str) -> bool:
  """Whether a metric has a value in any row."""
  return any(
    row.metric == metric and row.value.value is not None for row in rows
  )
