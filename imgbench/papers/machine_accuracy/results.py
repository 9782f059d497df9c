"""Rows and tables of multi-label accuracy."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import pandas as pd

from imgbench.metrics import multilabel
from imgbench.metrics import summary
from imgbench.papers import comparison
from imgbench.papers import fits
from imgbench.papers import study as study_lib
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.papers.readers import people
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

TOP1, TOP5 = "top1_accuracy", "top5_accuracy"
METRICS = {
  name: f"multilabel_accuracy.{name}" for name in multilabel.DEFINITIONS
}
# Plain shares of the same images, for drops and fits.
SHARES = (TOP1, TOP5, METRICS["icml2020"], METRICS["lenient_mean"])


class Summary(NamedTuple):
  """A row of summary.csv: best, median and worst of humans or of models.

  Fisher vectors, majorities and your models are not among them. `drop` is the
  accuracy of the best one on `drop_from` minus that on `drop_to`, of which one
  is `dataset`. `source` is the file of published values; "": ours.
  """

  dataset: str
  subset: str
  kind: str
  metric: str
  models: int
  best: float
  best_model: str
  median: float
  worst: float
  worst_model: str
  drop_from: str | None
  drop_to: str | None
  drop: float | None
  drop_low: float | None
  drop_high: float | None
  source: str


ROBUSTNESS_COLUMNS = (
  *study_lib.PAIR,
  "value_base",
  "value",
  "on_the_line",
  "above_the_line",
)

# Best, median and worst of the paper's testbed in percent: Shankar et al. 2020,
# section 4. The public collection has slightly different models.
_PAPER = {
  TOP1: (86, 77, 57),
  TOP5: (97, 93, 79),
  METRICS["icml2020"]: (95, 85, 64),
}


_UNREVIEWED = "unreviewed predictions count as wrong, in 'up to' as right"


def reviewed_grid(
  rows: pd.DataFrame, dataset: str, compared: pd.DataFrame
) -> table.Table:
  """Returns a table of every model's accuracies in all definitions.

  Unreviewed predictions count as wrong; "up to" is the accuracy if all of them
  were right.
  """
  rows = frame.select(rows, dataset=dataset)
  defined = {*rows.metric[rows.value.notna()]}

  def cell(metric: str, **text):
    return study_lib.column(rows, (dataset, metric), **text)

  columns = []
  for name, metric in (("top-1", TOP1), ("top-5", TOP5)):
    columns.append((name, cell(metric, text=study_lib.format_plain)))
    columns += comparison.columns(compared, dataset, metric)
  for name, metric in METRICS.items():
    if metric in defined:
      columns.append((name, cell(metric)))
    if f"{metric}.bound_high" in defined:
      high = cell(f"{metric}.bound_high", text=study_lib.format_plain)
      columns.append(("up to", high))
    columns += comparison.columns(compared, dataset, metric)
  unreviewed = f"{METRICS['lenient_mean']}.unreviewed"
  n = max(frame.select(rows, metric=TOP1).n, default=0)
  order = METRICS["icml2020"]
  order = order if order in defined else METRICS["lenient_mean"]
  caption = (
    f"{datasets_lib.TITLES[dataset]}: accuracy in percent with 95% intervals"
    f" on {n:,} reviewed images"
  )
  if unreviewed in defined:
    columns.append(("never reviewed", cell(unreviewed, text=_count)))
    caption += f"; {_UNREVIEWED}"
  models = study_lib.sort_best_first(rows, (dataset, order))
  return table.from_names(caption, models, columns)


def _count(row) -> str:
  if row.correct is None:
    return ""
  share = formats.decimal(100 * row.correct / max(row.n, 1), 2)
  return f"{formats.whole(row.correct)} ({share}%)"


def explain_undefined(rows: pd.DataFrame) -> dict[str, str]:
  """Returns the reasons of undefined values, by their names.

  Values undefined for all classifiers, for the same reason, are one entry.
  """
  groups = rows.groupby(list(frame.AXIS), sort=False)
  of_all = groups.value.transform("count") == 0
  of_all &= groups.definition.transform("nunique") == 1
  lacking = rows.assign(of_all=of_all, place=groups.ngroup())
  lacking = lacking[rows.value.isna()].sort_values("place", kind="stable")
  return {
    "/".join(("all classifiers" if row.of_all else row.model, *row[1:4])): (
      row.definition
    )
    for row in frame.to_rows(lacking)
  }


def undefined_notes(rows: pd.DataFrame) -> list[str]:
  """Returns a line with the reason for each definition without any value."""
  notes = []
  for dataset in rows.dataset.unique():
    for metric in METRICS.values():
      found = frame.select(
        rows, dataset=dataset, subset=summary.ALL, metric=metric
      )
      if len(found) and found.value.isna().all():
        why = found.definition.iloc[0].rpartition("undefined: ")[2]
        notes.append(f"{dataset}: {metric} is undefined: {why}")
  return notes


def summary_rows(
  study: study_lib.Study, kinds: Mapping[str, str], source: str = ""
) -> list[Summary]:
  """Returns a row for each data set, subset, kind and metric with a value.

  Args:
    study: rows, pairs of data sets and drops, with intervals of plain shares.
    kinds: classifier -> its kind.
    source: of the rows.
  """
  rows = study.rows.assign(kind=study.rows.model.map(kinds))
  shown = rows.metric.isin([TOP1, TOP5, *METRICS.values()])
  shown &= rows.kind.isin([people.MODEL, people.PERSON])
  shown &= ~rows.model.map(fits.is_fisher_vector).astype(bool)
  values = frame.to_dict(rows, value="value")
  bounds = {row[:5]: row[8:] for row in frame.to_rows(study.drops)}
  found = []
  by = ["dataset", "subset", "kind", "metric"]
  chosen = rows[shown & rows.value.notna()]
  # By kind within a subset; groups keep their order of appearance.
  place = lambda c: c.map({name: i for i, name in enumerate(c.unique())})
  chosen = chosen.sort_values(by[:3], key=place, kind="stable")
  for what, group in chosen.groupby(by, sort=False):
    order = group.sort_values(["value", "model"], ascending=[False, True])
    best, worst = (order.iloc[place] for place in (0, -1))
    middle = float(np.median(group.value))
    ends = (best.value, best.model, middle, worst.value, worst.model)
    drop = (None,) * 5
    for pair in (pair for pair in study.pairs if what[0] in pair):
      key = (what[1], what[3])
      old, new = (values.get((best.model, n, *key, "value")) for n in pair)
      if old is not None and new is not None:
        interval = bounds.get((best.model, *key, *pair), (None, None))
        drop = (*pair, old - new, *interval)
        break
    found.append(Summary(*what, len(group), *ends, *drop, source))
  return found


def best_grid(found: Sequence[Summary], metric: str) -> table.Table:
  """Returns a table of the best model and the best human by subset."""
  titles = datasets_lib.SHORT_TITLES
  source = f", as published in {found[0].source}" if found[0].source else ""
  best = lambda row: f"{formats.percent(row.best)} {row.best_model}"
  bounds = lambda r: formats.with_bounds(r.drop, r.drop_low, r.drop_high)
  columns = (
    table.Column(lambda row: titles[row.dataset], "data set"),
    *map(table.Column, ("subset", "kind")),
    table.number("models", "of"),
    table.number(best, "best"),
    table.Column(lambda row: titles.get(row.drop_to), "drop to"),
    table.number(lambda r: "" if r.drop is None else bounds(r), "drop"),
  )
  return table.Table(
    f"Best model and best human by subset of images: {metric} in percent, and"
    f" the drop in percentage points{source}",
    columns,
    [row for row in found if row.metric == metric],
  ).without_empty()


def summary_grid(found: Sequence[Summary], dataset: str) -> table.Table:
  """Returns a table of best, median and worst, with the paper's values."""

  def paper(i: int) -> table.Column:
    value = lambda row: _PAPER.get(row.metric, ("", "", ""))[i]
    return table.number(value, "paper")

  def diff(i: int, name: str) -> table.Column:
    off = lambda row: 100 * getattr(row, name) - _PAPER[row.metric][i]
    value = lambda r: formats.difference(off(r)) if r.metric in _PAPER else ""
    return table.number(value, "diff.")

  percent = formats.percent
  return table.Table(
    f"{datasets_lib.TITLES[dataset]}: best, median and worst model in percent;"
    " the paper's values are of other models, on 20,000 images",
    (
      table.Column("metric"),
      table.number(lambda r: f"{percent(r.best)} {r.best_model}", "best"),
      paper(0),
      diff(0, "best"),
      table.number("median", format=percent),
      paper(1),
      diff(1, "median"),
      table.number(lambda r: f"{percent(r.worst)} {r.worst_model}", "worst"),
      paper(2),
      diff(2, "worst"),
    ),
    [r for r in found if r[:3] == (dataset, summary.ALL, people.MODEL)],
  )


def side_by_side_grid(
  rows: pd.DataFrame,
  kinds: Mapping[str, str],
  metric: str,
  subset: str,
  compared: pd.DataFrame,
  source: str = "",
) -> table.Table:
  """Returns a table of humans and models on both data sets, the best first.

  `source` is the file of published values, which have no n and no intervals.
  """
  columns: list[tuple[str, table.Cell]] = [("kind", lambda name: kinds[name])]
  sets = [
    name
    for name in (datasets_lib.VALIDATION, datasets_lib.MATCHED_FREQUENCY)
    if (rows.dataset == name).any()
  ]
  hits = lambda row: "" if row.correct is None else formats.whole(row.correct)
  sizes = []
  for dataset in sets:
    for title, name, text in (
      (datasets_lib.TITLES[dataset].split()[0], metric, formats.measured),
      ("up to", f"{metric}.bound_high", study_lib.format_plain),
      ("never reviewed", f"{metric}.unreviewed", hits),
    ):
      cell = study_lib.column(rows, (dataset, name), subset, text)
      columns.append((title, cell))
    columns += comparison.columns(compared, dataset, metric, subset=subset)
    found = frame.select(rows, dataset=dataset, subset=subset, metric=metric)
    sizes.append(max(found.n, default=0))
  if len(sets) == 2:
    both = frame.merge_pairs(
      frame.select(rows, subset=subset), [sets], [(metric, metric)]
    )
    drop = both.assign(drop=both.value_base - both.value)
    columns.append(
      ("drop", frame.build_cell(drop, lambda r: formats.signed(r.drop)))
    )
  what = (
    f" with 95% intervals, n = {' and '.join(f'{size:,}' for size in sizes)};"
    f" {_UNREVIEWED}"
  )
  return table.from_names(
    f"Humans and models, {subset.replace('_', ' ')} images: {metric} in percent"
    f"{f', as published in {source}' if source else what}",
    study_lib.sort_best_first(
      frame.select(rows, subset=subset), (sets[0], metric), subset
    )
    if sets
    else [],
    columns,
    first="classifier",
  )


def robustness_rows(
  rows: pd.DataFrame, lines: Sequence[fits.FittedLine]
) -> list[tuple[Any, ...]]:
  """Returns rows of ROBUSTNESS_COLUMNS: distances above the line.

  The line is the plain fit of all models.
  """
  chosen = [
    line
    for line in lines
    if (line.scale, line.models) == (fits.PLAIN, fits.ALL_MODELS)
    and line.fit is not None
    and line.base != line.dataset
  ]
  by = ["base", "dataset", "subset", "metric"]
  slopes = pd.DataFrame(
    [
      (x.base, x.dataset, x.subset, x.metric, x.fit.slope, x.fit.intercept)
      for x in chosen
    ],
    columns=[*by, "slope", "intercept"],
  )
  both = frame.merge_pairs(
    rows,
    dict.fromkeys((line.base, line.dataset) for line in chosen),
    study_lib.pair_same(
      dict.fromkeys(x.metric for x in lines if x.base != x.dataset)
    ),
  )
  both = both.dropna(subset=["value_base", "value"]).merge(slopes, on=by)
  both = both.sort_values("model", kind="stable")
  on_the_line = both.slope * both.value_base + both.intercept
  above = both.value - on_the_line
  both = both.assign(on_the_line=on_the_line, above_the_line=above)
  return frame.to_rows(both, ROBUSTNESS_COLUMNS)


def is_defined(rows: pd.DataFrame, metric: str) -> bool:
  """Returns whether a metric has a value in any row."""
  return bool(frame.select(rows, metric=metric).value.notna().any())
