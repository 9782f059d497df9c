"""Are we done with ImageNet? (Beyer et al., 2020)

git clone --depth=1 https://github.com/modestyachts/ImageNetV2
git clone --depth=1 https://github.com/google-research/reassessed-imagenet
python -m experiments.real_labels --repo=ImageNetV2 \
    --real=reassessed-imagenet/real.json --out=results/real_labels

ReaL accuracy of the public models: the share of images with at least one ReaL
label whose first class is one of them, plainly and averaged over the original
classes, and the share for which one of the first five classes is. Beside them
top-1 and top-5 accuracy against the original labels, for all classes and for
subsets of them. Reads prediction files only. One's own model stands beside
them with --predictions=MODEL@DATASET=FILE; it moves neither lines nor ranks.

Source: arXiv 2006.07159.
"""

from collections.abc import Sequence
import functools
import pathlib

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
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import real_sets
from imgbench.tables import formats
from imgbench.tables import table

DATASETS = (datasets.VALIDATION, datasets.VALIDATION_20K)
TOP1, TOP5 = "top1_accuracy", "top5_accuracy"
REAL, REAL_TOP5 = "real_accuracy", "real_top5_accuracy"
CLASS_MEAN = "real_accuracy.class_mean"
AXES = ((TOP1, REAL), (TOP5, REAL_TOP5))


REQUIRED = ("repo", "real")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --repo, --real and the common flags."""
  flags.DEFINE_string(
    "repo",
    None,
    "Clone of modestyachts/ImageNetV2, or a folder laid out like it.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "real",
    None,
    "real.json of google-research/reassessed-imagenet: a list of 50,000 lists.",
    flag_values=flag_values,
  )
  program.define_common_flags(flag_values)


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  collection = clone.read(
    values.repo,
    datasets=DATASETS,
    own=values.predictions,
    allow_reversed=values.allow_reversed,
  )
  label_sets = real_sets.read(pathlib.Path(values.real), collection.datasets)
  figures = comparison.read(output, values.published)
  output.inputs([*collection.files, pathlib.Path(values.real)])
  notes = [
    real_sets.note(collection.datasets[name], sets)
    for name, sets in label_sets.items()
  ]
  for note in (*collection.notes, *notes):
    output.note(note)
  rows = main_table.ordered(
    evaluate.evaluate_all(
      collection.datasets, collection.predictions, label_sets
    ),
    datasets.KNOWN,
  )
  compared = comparison.compare(figures, comparison.ours(rows))
  report(output, rows, compared, collection.own)
  if figures:
    comparison.write(output, compared)


def report(
  output: program.Output,
  rows: Sequence[records.Row],
  compared: Sequence[comparison.Compared],
  own: frozenset[str],
) -> None:
  """Prints the main tables and adds all files but the comparison."""
  names = [n for n in DATASETS if any(row.dataset == n for row in rows)]
  pairs = [(name, name) for name in names]
  lines = fits.lines(rows, pairs, AXES, own)
  lookup = main_table.Lookup(rows)
  main_tables = [main_grid(lookup, name, compared) for name in names]
  main_tables.append(
    fits.grid(
      [line for line in lines if line.subset == summary.ALL],
      datasets.SHORT_TITLES,
      "Lines that ReaL accuracies follow, with 95% bootstrap intervals;"
      " intercepts in percentage points, on the probit scale in normal"
      " quantiles",
    )
  )
  for grid in main_tables:
    print(grid.text())
  subsets = list(dict.fromkeys(row.subset for row in rows))
  others = [
    subsets_grid(lookup, name, metric, subsets)
    for name in names
    for metric in (REAL, CLASS_MEAN, REAL_TOP5)
  ]
  main_table.write(output, rows)
  main_table.write_grids(output, [*main_tables, *others])
  output.csv("ranks.csv", ranks.COLUMNS, ranks.changes(rows, pairs, AXES, own))
  fits.write(output, lines)
  for name in names:
    args = (rows, lines, (name, TOP1), (name, REAL), own)
    output.figure(f"{REAL}-{name}", scatters.both_scales(*args))
    output.figure(f"{REAL}-{name}-subsets", scatters.by_subset(*args))


def main_grid(
  lookup: main_table.Lookup,
  dataset: str,
  compared: Sequence[comparison.Compared],
) -> table.Table:
  """All accuracies on one set, the best model by ReaL accuracy first."""
  columns = []
  for metric in (TOP1, REAL, CLASS_MEAN, TOP5, REAL_TOP5):
    plain = metric in (TOP1, TOP5)
    cell = lookup.plain_column if plain else lookup.column
    columns.append((_short(metric), cell(dataset, metric)))
    printed, difference = comparison.columns(compared, dataset, metric)
    if not plain:
      columns += [("published", printed), ("diff.", difference)]
  models = [
    model
    for model in lookup.best_first(dataset, REAL)
    if lookup.get(model, dataset, REAL)
  ]
  return table.by_name(
    "ReaL accuracy in percent with 95% intervals beside accuracy against the"
    f" original label, {datasets.TITLES[dataset]}",
    models,
    columns,
  )


def subsets_grid(
  lookup: main_table.Lookup, dataset: str, metric: str, subsets: Sequence[str]
) -> table.Table:
  """One accuracy for each subset of classes."""
  return table.by_name(
    f"{formats.metric_title(metric)} in percent by subset of classes,"
    f" {datasets.TITLES[dataset]}",
    lookup.best_first(dataset, metric),
    {
      subset.replace("_", " "): lookup.plain_column(dataset, metric, subset)
      for subset in subsets
    },
  )


def _short(metric: str) -> str:
  """A header: "ReaL top-5", "ReaL by class"."""
  if metric == CLASS_MEAN:
    return "ReaL, class mean"
  return formats.metric_title(metric).removesuffix(" accuracy")


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper real-labels")
