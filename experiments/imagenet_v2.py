"""Do ImageNet Classifiers Generalize to ImageNet? (Recht et al., ICML 2019)

git clone --depth=1 https://github.com/modestyachts/ImageNetV2
python -m experiments.imagenet_v2 --repo=ImageNetV2 --out=results/imagenet_v2

Top-1 and top-5 accuracy of the public models on ImageNet's validation set and
on ImageNetV2 with 95% Clopper-Pearson intervals, the drop between them, ranks,
and the line that one accuracy follows on the other, for all classes and for
subsets of them. Reads prediction files only. One's own model stands beside
them with --predictions=MODEL@DATASET=FILE; it moves neither lines nor ranks.

Source: arXiv 1902.10811.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import functools

from absl import flags

from imgbench import commands
from imgbench.metrics import summary
from imgbench.papers import comparison
from imgbench.papers import evaluate
from imgbench.papers import fits
from imgbench.papers import main_table
from imgbench.papers import program
from imgbench.papers import ranks
from imgbench.papers import records
from imgbench.papers import scatters
from imgbench.papers import shifts
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.tables import formats
from imgbench.tables import table

TOP1, TOP5 = "top1_accuracy", "top5_accuracy"
METRICS = (TOP1, TOP5)
BASES = (datasets.VALIDATION, datasets.VALIDATION_20K)


REQUIRED = ("repo",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --repo and the common flags."""
  flags.DEFINE_string(
    "repo",
    None,
    "Clone of modestyachts/ImageNetV2, or a folder laid out like it.",
    flag_values=flag_values,
  )
  program.define_common_flags(flag_values)


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  collection = clone.read(
    values.repo, own=values.predictions, allow_reversed=values.allow_reversed
  )
  figures = comparison.read(output, values.published)
  output.inputs(collection.files)
  for note in collection.notes:
    output.note(note)
  rows = main_table.ordered(
    evaluate.evaluate_all(collection.datasets, collection.predictions),
    datasets.KNOWN,
  )
  found = Numbers(rows, collection)
  on_sets = ranks.by_set(rows, METRICS, found.own)
  comparable = comparison.comparable_ranks(output, figures, on_sets)
  ours = comparison.ours(rows, ranks=comparable)
  compared = comparison.compare(figures, ours)
  report(output, found, compared)
  if figures:
    comparison.write(output, compared)


class Numbers:
  """All that is computed from the rows of the table.

  Attributes:
    rows: of the table.
    lookup: the same, to be asked.
    own: models of one's own.
    pairs: (base, data set).
    main_pairs: those of the first base, which have tables and figures.
    drops: from base to data set.
    ranks: on base and data set.
    lines: of data set on base.
  """

  def __init__(self, rows: list[records.Row], collection: clone.Collection):
    same = tuple(zip(METRICS, METRICS, strict=True))
    self.rows = rows
    self.lookup = main_table.Lookup(rows)
    self.own = collection.own
    self.pairs = shifts.pairs(collection.datasets, BASES)
    self.main_pairs = [p for p in self.pairs if p[0] == self.pairs[0][0]]
    self.drops = shifts.compute(rows, self.pairs, METRICS)
    self.ranks = ranks.changes(rows, self.pairs, same, self.own)
    self.lines = fits.lines(rows, self.pairs, same, self.own)


def report(
  output: program.Output,
  found: Numbers,
  compared: Sequence[comparison.Compared],
) -> None:
  """Prints the main tables and adds all files but the comparison."""
  main_tables = [
    pair_grid(found, pair, TOP1, compared) for pair in found.main_pairs
  ] or [sets_grid(found, TOP1)]
  lines = fits.grid(
    [
      line
      for line in found.lines
      if line.subset == summary.ALL
      and (line.base, line.dataset) in found.main_pairs
    ],
    datasets.SHORT_TITLES,
    "Lines that accuracies follow, with 95% bootstrap intervals; intercepts in"
    " percentage points, on the probit scale in normal quantiles",
  )
  for grid in (*main_tables, lines):
    print(grid.text())
  others = [pair_grid(found, pair, TOP5, compared) for pair in found.main_pairs]
  others += [lines]
  others += [subsets_grid(found, pair, TOP1) for pair in found.main_pairs]
  main_table.write(output, found.rows)
  main_table.write_grids(output, [*main_tables, *others])
  output.csv("drops.csv", shifts.COLUMNS, found.drops)
  output.csv("ranks.csv", ranks.COLUMNS, found.ranks)
  fits.write(output, found.lines)
  for base, dataset in found.main_pairs:
    name = f"{TOP1}-{dataset}-on-{base}"
    args = (found.rows, found.lines, (base, TOP1), (dataset, TOP1), found.own)
    output.figure(name, scatters.both_scales(*args))
    output.figure(f"{name}-subsets", scatters.by_subset(*args))


def pair_grid(
  found: Numbers,
  pair: tuple[str, str],
  metric: str,
  compared: Sequence[comparison.Compared],
) -> table.Table:
  """Accuracy on two sets, the drop and both ranks, the best model first."""
  base, dataset = pair
  drop = _column(found.drops, pair, metric)
  place = _column(found.ranks, pair, metric)
  columns = [("rank", place(lambda row: str(row.rank_base)))]
  for name in pair:
    printed, difference = comparison.columns(compared, name, metric)
    columns += [
      (datasets.SHORT_TITLES[name], found.lookup.column(name, metric)),
      ("published", printed),
      ("diff.", difference),
    ]
  columns += [
    ("drop", drop(lambda d: formats.with_bounds(d.drop, d.ci_low, d.ci_high))),
    ("new rank", place(lambda row: str(row.rank_dataset))),
    ("change", place(lambda r: f"{r.change:+d}" if r.change else "0")),
  ]
  models = [
    model
    for model in found.lookup.best_first(base, metric)
    if any(found.lookup.get(model, name, metric) for name in pair)
  ]
  return table.by_name(
    f"{formats.metric_title(metric)} in percent with 95% intervals,"
    f" {datasets.TITLES[base]} and {datasets.TITLES[dataset]}",
    models,
    columns,
  )


def _column(
  rows: Iterable, pair: tuple[str, str], metric: str
) -> Callable[[Callable], table.Cell]:
  """Returns what makes a column of a function of a model's drop or ranks."""
  wanted = (*pair, metric, summary.ALL)
  of_model = {
    row.model: row
    for row in rows
    if (row.base, row.dataset, row.metric, row.subset) == wanted
  }
  return lambda text: (
    lambda model: text(of_model[model]) if model in of_model else ""
  )


def sets_grid(found: Numbers, metric: str) -> table.Table:
  """Accuracy on each set, where there is none to compare with another."""
  names = list(dict.fromkeys(row.dataset for row in found.rows))
  return table.by_name(
    f"{formats.metric_title(metric)} in percent with 95% intervals",
    found.lookup.best_first(names[0], metric),
    {
      datasets.SHORT_TITLES[name]: found.lookup.column(name, metric)
      for name in names
    },
  )


def subsets_grid(
  found: Numbers, pair: tuple[str, str], metric: str
) -> table.Table:
  """Accuracy on two sets for each subset of classes."""
  subsets = dict.fromkeys(row.subset for row in found.rows)
  both = lambda subset: (
    lambda model: " / ".join(
      formats.percent(found.lookup.value(model, name, metric, subset))
      for name in pair
    )
  )
  return table.by_name(
    f"{formats.metric_title(metric)} in percent by subset of classes,"
    f" {datasets.TITLES[pair[0]]} / {datasets.TITLES[pair[1]]}",
    found.lookup.best_first(pair[0], metric),
    {subset.replace("_", " "): both(subset) for subset in subsets},
  )


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper imagenet-v2")
