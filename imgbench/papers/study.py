"""Drops, error ratios, ranks and fitted lines of the rows of a table."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import numpy as np
import pandas as pd

from imgbench.metrics import drops
from imgbench.metrics import ratios
from imgbench.metrics import summary
from imgbench.papers import comparison
from imgbench.papers import fits
from imgbench.papers import program
from imgbench.papers import published
from imgbench.papers import records
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

PAIR = ("model", "subset", "metric", "base", "dataset")
# File -> columns; `change` is above 0 for a model that climbs.
COLUMNS = {
  "drops": (*PAIR, "n_base", "n", "drop", "ci_low", "ci_high"),
  "ratios": (
    *PAIR,
    "n_base",
    "errors_base",
    "n",
    "errors",
    "ratio",
    "ci_low",
    "ci_high",
  ),
  "ranks": (
    "model",
    "subset",
    "base",
    "base_metric",
    "dataset",
    "metric",
    "rank_base",
    "rank_dataset",
    "change",
  ),
}
# Prefixes of metrics, in the order of the table.
_BASES = (
  "top1_accuracy",
  "top5_accuracy",
  "real_accuracy",
  "real_top5_accuracy",
  "multilabel_accuracy",
)
_LINES = (
  "Linear fits of {} with 95% bootstrap intervals; intercepts in percentage"
  " points, on the probit scale in normal quantiles"
)

Axis = tuple[str, str]  # data set, metric


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
  """Rows of a table, and numbers computed from them on first use.

  Attributes:
    rows: a frame, see `order_rows`.
    pairs: (base, dataset).
    metrics: (metric on the base, metric on the data set), often equal.
    outside: your models; fits and the ranks of others leave them out.
  """

  rows: pd.DataFrame
  pairs: Sequence[tuple[str, str]]
  metrics: Sequence[tuple[str, str]]
  outside: frozenset[str] = frozenset()

  @property
  def subsets(self) -> list[str]:
    return self.rows.subset.unique().tolist()

  @functools.cached_property
  def drops(self) -> pd.DataFrame:
    """Accuracy on the base minus that on the set, for independent images."""
    return self._estimate(drops.drop, "drop")[list(COLUMNS["drops"])]

  @functools.cached_property
  def ratios(self) -> pd.DataFrame:
    """Error rate on the set over that on the base."""
    found = self._estimate(ratios.error_ratio, "ratio")
    errors = {
      "errors_base": found.n_base - found.correct_base,
      "errors": found.n - found.correct,
    }
    return found.assign(**errors)[list(COLUMNS["ratios"])]

  @functools.cached_property
  def ranked(self) -> pd.DataFrame:
    """Ranks on every data set, see `frame.add_ranks`."""
    used = {name for both in self.metrics for name in both}
    chosen = self.rows[self.rows.metric.isin(list(used))]
    return frame.add_ranks(chosen, self.outside)

  @functools.cached_property
  def ranks(self) -> pd.DataFrame:
    """Ranks of models that have a rank on both sets."""
    both = frame.merge_pairs(self.ranked, self.pairs, self.metrics)
    both = both.rename(columns={"rank": "rank_dataset"})
    both = both.dropna(subset=["rank_base", "rank_dataset"])
    both = both.assign(change=both.rank_base - both.rank_dataset)
    return both[list(COLUMNS["ranks"])]

  @functools.cached_property
  def lines(self) -> list[fits.FittedLine]:
    return fits.fit_lines(self.rows, self.pairs, self.metrics, self.outside)

  def _estimate(self, estimate: Callable, name: str) -> pd.DataFrame:
    """Returns plain shares on both sets with an estimate and its bounds."""
    both = frame.merge_pairs(self.rows, self.pairs, self.metrics)
    both = both.dropna(subset=["correct_base", "correct"])
    both = both.sort_values("model", kind="stable")
    counts = ("correct_base", "n_base", "correct", "n")
    found = estimate(*(both[c].to_numpy(np.int64) for c in counts))
    names = (name, "ci_low", "ci_high")
    return both.assign(**dict(zip(names, found, strict=True)))

  def write(
    self, output: program.Output, *names: str, prefix: str = ""
  ) -> None:
    """Adds files to the output; names are those of COLUMNS, and "fits"."""
    for name in names:
      if name == "fits":
        fits.write(output, self.lines, f"{prefix}fits.csv")
        continue
      found = frame.to_rows(getattr(self, name))
      output.csv(f"{prefix}{name}.csv", COLUMNS[name], found)
    if "ratios" in names:
      lacking = self.ratios[self.ratios.ratio.isna()]
      for model, subset, metric, base, dataset, *_ in frame.to_rows(lacking):
        what = f"{model}/{subset}/{metric}, {dataset} over {base}"
        output.undefined(f"error ratio of {what}", f"no error on {base}")


def order_rows(
  datasets: Iterable[str], *results: frame.Measurements
) -> pd.DataFrame:
  """Returns results by model, data set, subset and metric.

  Args:
    datasets: names in the order of the table.
    *results: no two of the same model, data set, subset and metric. Subsets
      come in the order in which they appear first.
  """
  found = frame.from_measurements(*results)
  places = {
    "dataset": {name: i for i, name in enumerate(datasets)},
    "subset": {name: i for i, name in enumerate(found.subset.unique())},
    "metric": {name: _metric_place(name) for name in found.metric.unique()},
  }
  return found.sort_values(
    list(frame.KEY),
    key=lambda c: c.map(places[c.name]) if c.name in places else c,
    kind="stable",
    ignore_index=True,
  )


def _metric_place(metric: str) -> int:
  base = metric.partition(".")[0]
  # A mean over classes follows the plain share.
  first = _BASES.index(base) if base in _BASES else len(_BASES)
  return 2 * first + metric.endswith("real_accuracy.class_mean")


def pair_independent(
  datasets: Mapping[str, records.Dataset], bases: Sequence[str]
) -> list[tuple[str, str]]:
  """Returns (base, dataset) for all sets that share no image.

  Intervals of drops assume independent sets.

  Args:
    datasets: by name, in their order.
    bases: names; absent ones are skipped.
  """
  return [
    (base, name)
    for base in bases
    if base in datasets
    for name, dataset in datasets.items()
    if name not in bases
    and not np.isin(dataset.image_ids, datasets[base].image_ids).any()
  ]


def pair_same(metrics: Iterable[str]) -> tuple[tuple[str, str], ...]:
  """Returns each metric paired with itself, for `Study`."""
  return tuple((metric, metric) for metric in metrics)


def write_rows(
  output: program.Output, rows: pd.DataFrame, name: str = "table.csv"
) -> None:
  """Adds a CSV file, and the reasons of undefined values, to the output."""
  output.csv(name, frame.COLUMNS, frame.to_rows(rows, frame.COLUMNS))
  for row in frame.to_rows(rows[rows.value.isna()]):
    output.undefined("/".join(row[:4]), row.definition)


def show(
  output: program.Output,
  printed: Iterable[table.Table],
  written: Sequence[table.Table],
  name: str = "table",
) -> None:
  """Prints tables, and adds others to the output as NAME.md and NAME.tex."""
  for grid in printed:
    print(grid.text())
  output.text(f"{name}.md", "\n".join(map(table.Table.markdown, written)))
  output.text(f"{name}.tex", "\n".join(map(table.Table.latex, written)))


def lines_grid(
  lines: Iterable[fits.FittedLine],
  titles: Mapping[str, str],
  what: str = "accuracies",
) -> table.Table:
  """Returns a table of the fitted lines for all classes."""
  shown = [line for line in lines if line.subset == summary.ALL]
  return fits.grid(shown, titles, _LINES.format(what))


def column(
  rows: pd.DataFrame,
  axis: Axis,
  subset: str = summary.ALL,
  text: Callable[[Any], str] = formats.measured,
) -> table.Cell:
  """Returns a column for `table.from_names`: value and interval in percent."""
  return frame.build_cell(
    rows, text, dataset=axis[0], metric=axis[1], subset=subset
  )


def format_plain(row) -> str:
  """Returns the value of a row in percent, for `column`."""
  return formats.percent(row.value)


def sort_best_first(
  rows: pd.DataFrame, axis: Axis, subset: str = summary.ALL
) -> list[str]:
  """Returns all models, best first; those without a value last."""
  return frame.sort_models(rows, dataset=axis[0], metric=axis[1], subset=subset)


def add_figures(
  output: program.Output, name: str, found: Study, x: Axis, y: Axis
) -> None:
  """Adds figures of y against x: NAME, and NAME-subsets if it has subsets."""
  if not output.wanted:
    return
  # Matplotlib is slow to import.
  from imgbench.papers import scatters

  output.figure(name, scatters.draw_both_scales(found, x, y))
  if len(found.subsets) > 1:
    output.figure(f"{name}-subsets", scatters.draw_by_subset(found, x, y))


def pair_grid(
  found: Study,
  pair: tuple[str, str],
  metric: str,
  compared: pd.DataFrame,
  caption: str,
  titles: Mapping[str, str],
  models: Sequence[str],
  with_ratios: bool = False,
) -> table.Table:
  """Returns accuracy on two sets, the drop and both ranks of models.

  Args:
    found: the models' numbers.
    pair: (base, dataset).
    metric: on both.
    compared: published values to show beside ours.
    caption: of the table.
    titles: of the data sets.
    models: in the order of the table.
    with_ratios: adds the error ratio.
  """
  what = dict(zip(("base", "dataset"), pair, strict=True))
  what |= {"metric": metric, "subset": summary.ALL}
  rank = lambda text: frame.build_cell(found.ranks, text, **what)
  columns = [("rank", rank(lambda r: str(r.rank_base)))]
  for name in pair:
    columns.append((titles[name], column(found.rows, (name, metric))))
    columns += comparison.columns(compared, name, metric)
  drop = lambda d: formats.with_bounds(d.drop, d.ci_low, d.ci_high)
  columns.append(("drop", frame.build_cell(found.drops, drop, **what)))
  columns += comparison.columns(compared, pair[1], metric, field=published.DROP)
  if with_ratios:
    ratio = lambda r: formats.decimals(r.ratio, r.ci_low, r.ci_high)
    columns.append(
      ("error ratio", frame.build_cell(found.ratios, ratio, **what))
    )
    field = published.ERROR_RATIO
    columns += comparison.columns(compared, pair[1], metric, field=field)
  columns += [
    ("new rank", rank(lambda r: str(r.rank_dataset))),
    ("change", rank(lambda r: f"{r.change:+d}" if r.change else "0")),
  ]
  return table.from_names(caption, models, columns)


def subsets_grid(
  found: Study, names: Sequence[str], metric: str, titles: Mapping[str, str]
) -> table.Table:
  """Returns accuracy on one or more sets for each subset of classes."""

  def of_subset(subset: str) -> table.Cell:
    cells = [
      column(found.rows, (n, metric), subset, format_plain) for n in names
    ]
    if len(cells) == 1:
      return cells[0]
    return lambda model: " / ".join(
      c(model) or formats.UNDEFINED for c in cells
    )

  return table.from_names(
    f"{formats.metric_title(metric)} in percent by subset of classes,"
    f" {' / '.join(titles[name] for name in names)}",
    sort_best_first(found.rows, (names[0], metric)),
    {s.replace("_", " "): of_subset(s) for s in found.subsets},
  )
