"""Do CIFAR-10 Classifiers Generalize to CIFAR-10? (Recht et al., 2018)

git clone --depth=1 https://github.com/modestyachts/CIFAR-10.1
python -m experiments.cifar10_1 --repo=CIFAR-10.1 --labels=test_batch.bin \
    --out=results/cifar10_1

Accuracy of the public models on CIFAR-10 and on CIFAR-10.1 with 95%
Clopper-Pearson intervals, the drop between them (the paper's gap), how many
times more mistakes there are (its error ratio), ranks, and the line that one
accuracy follows on the other. The paper's main results are on version v4 of
CIFAR-10.1; v6 has equally many images of each class. Reads prediction files
only. One's own model stands beside them with --predictions=MODEL@DATASET=FILE;
it moves neither lines nor ranks.

Source: arXiv 1806.00451.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import pathlib
from typing import NamedTuple

from absl import flags

from imgbench import commands
from imgbench.papers import cifar_published
from imgbench.papers import comparison
from imgbench.papers import error_ratios
from imgbench.papers import evaluate
from imgbench.papers import fits
from imgbench.papers import main_table
from imgbench.papers import program
from imgbench.papers import published
from imgbench.papers import ranks
from imgbench.papers import records
from imgbench.papers import scatters
from imgbench.papers import shifts
from imgbench.papers.readers import cifar
from imgbench.papers.readers import clone
from imgbench.tables import formats
from imgbench.tables import table

_METRIC = "top1_accuracy"
_FLAGS = (program.OUT, program.PUBLISHED, program.PREDICTIONS)


class Numbers(NamedTuple):
  """All that the script computes."""

  rows: list[records.Row]
  drops: list[shifts.Drop]
  ratios: list[error_ratios.Ratio]
  changes: list[ranks.Change]
  lines: list[fits.Line]


def compute(found: clone.Collection) -> Numbers:
  """Returns the numbers of all models."""
  rows = []
  for name, dataset in found.datasets.items():
    evaluator = evaluate.Evaluator(dataset, ks=(1,))
    for predictions in found.predictions[name]:
      rows += evaluator.rows_of(predictions)
  rows = main_table.ordered(rows, cifar.KNOWN)
  pairs = shifts.pairs(found.datasets, [cifar.TEST])
  axes = [(_METRIC, _METRIC)]
  return Numbers(
    rows=rows,
    drops=shifts.compute(rows, pairs, [_METRIC]),
    ratios=error_ratios.compute(rows, pairs, [_METRIC]),
    changes=ranks.changes(rows, pairs, axes, found.own),
    lines=fits.lines(rows, pairs, axes, found.own),
  )


def grid_of(
  numbers: Numbers,
  dataset: str,
  compared: Sequence[comparison.Compared],
) -> table.Table:
  """Returns the paper's table of models for a version of CIFAR-10.1."""
  lookup = main_table.Lookup(numbers.rows)
  drop = _of_model(numbers.drops, dataset)
  ratio = _of_model(numbers.ratios, dataset)
  change = _of_model(numbers.changes, dataset)
  # What a text says of about so many models is no figure of one of them.
  compared = [c for c in compared if not c.published.not_counted]
  columns = [("rank", change(lambda c: str(c.rank_base)))]
  for name in (cifar.TEST, dataset):
    printed, difference = comparison.columns(compared, name, _METRIC)
    columns += [
      (cifar.TITLES[name], lookup.column(name, _METRIC)),
      ("published", printed),
      ("diff.", difference),
    ]
  printed, difference = comparison.columns(
    compared, dataset, _METRIC, field=published.DROP
  )
  columns += [
    ("drop", drop(lambda d: formats.with_bounds(d.drop, d.ci_low, d.ci_high))),
    ("published", printed),
    ("diff.", difference),
    ("error ratio", ratio(lambda r: r.text())),
    ("new rank", change(lambda c: str(c.rank_dataset))),
    ("change", change(lambda c: f"{c.change:+d}" if c.change else "0")),
  ]
  return table.by_name(
    f"{cifar.TITLES[dataset]}: top-1 accuracy and its drop in percent with 95%"
    f" intervals, error rate over that on {cifar.TITLES[cifar.TEST]}, ranks",
    lookup.best_first(cifar.TEST, _METRIC),
    columns,
  )


def _of_model(found: Sequence, dataset: str):
  """Returns what makes a column of a function of a model's entry."""
  entries = {entry.model: entry for entry in found if entry.dataset == dataset}

  def column(cell: Callable) -> Callable[[str], str]:
    return lambda model: cell(entries[model]) if model in entries else ""

  return column


REQUIRED = ("repo", "labels")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --repo and --labels, and the common flags."""
  flags.DEFINE_string(
    "repo",
    None,
    f"Clone of {cifar.URL}.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "labels",
    None,
    "Labels of the CIFAR-10 test set, which the clone lacks: test_batch.bin of"
    " CIFAR-10's binary release, or the 10,000 labels as .npy or .json.",
    flag_values=flag_values,
  )
  program.define_common_flags(flag_values, _FLAGS)


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  figures = comparison.read(output, values.published)
  found = cifar.read(
    pathlib.Path(values.repo), pathlib.Path(values.labels), values.predictions
  )
  output.inputs(found.files)
  for note in found.notes:
    output.note(note)
  numbers = compute(found)
  on_sets = ranks.by_set(numbers.rows, [_METRIC], found.own)
  comparable = comparison.comparable_ranks(
    output, figures, on_sets, cifar_published.NUM_PUBLIC
  )
  compared = comparison.compare(
    figures, ours(numbers, found, figures, comparable)
  )
  versions = [name for name in found.datasets if name != cifar.TEST]
  tables = [grid_of(numbers, name, compared) for name in versions]
  tables.append(
    fits.grid(
      numbers.lines,
      cifar.TITLES,
      "Lines that accuracies follow, with 95% bootstrap intervals; intercepts"
      " in percentage points, on the probit scale in normal quantiles",
    )
  )
  print("\n".join(map(table.Table.text, tables)))
  write(output, numbers, tables, found.own)
  if figures:
    comparison.write(output, compared)


def ours(
  numbers: Numbers,
  found: clone.Collection,
  figures: Sequence[published.Published],
  on_sets: Mapping[ranks.Axis, ranks.SetRanks],
) -> dict[published.Key, float | None]:
  """Returns our numbers by what published figures are of."""
  plain = [line for line in numbers.lines if line.scale == fits.PLAIN]
  known = comparison.ours(numbers.rows, numbers.drops, on_sets, plain)
  for entry in numbers.ratios:
    key = published.Key(
      entry.model,
      entry.dataset,
      entry.subset,
      entry.metric,
      published.ERROR_RATIO,
    )
    known[key] = entry.ratio
  models = {row.model for row in numbers.rows} - found.own
  return known | cifar_published.of_several(figures, known, sorted(models))


def write(
  output: program.Output,
  numbers: Numbers,
  tables: Sequence[table.Table],
  own: frozenset[str],
) -> None:
  """Adds all files but the comparison."""
  main_table.write(output, numbers.rows)
  main_table.write_grids(output, tables)
  output.csv("drops.csv", shifts.COLUMNS, numbers.drops)
  error_ratios.write(output, numbers.ratios)
  output.csv("ranks.csv", ranks.COLUMNS, numbers.changes)
  fits.write(output, numbers.lines)
  pairs = dict.fromkeys((line.base, line.dataset) for line in numbers.lines)
  for base, dataset in pairs:
    name = f"{_METRIC}-{dataset}-on-{base}"
    axes = ((base, _METRIC), (dataset, _METRIC))
    output.figure(
      name, scatters.both_scales(numbers.rows, numbers.lines, *axes, own)
    )


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper cifar10-1")
