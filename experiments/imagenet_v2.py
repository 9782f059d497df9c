"""Do ImageNet Classifiers Generalize to ImageNet? (Recht et al., ICML 2019)

git clone --depth=1 https://github.com/modestyachts/ImageNetV2
imgbench paper imagenet-v2 --repo=ImageNetV2 --out=results/imagenet_v2

Top-1 and top-5 accuracy of the public models on ImageNet's validation set and
on ImageNetV2 with 95% Clopper-Pearson intervals, the drop between them, ranks,
and the linear fit of one accuracy on the other, for all classes and for subsets
of them. Reads prediction files only. --predictions=MODEL@DATASET=FILE adds your
model; it moves neither fits nor ranks. --frequencies=DATASET=FILE.csv adds
accuracies by selection frequency, and drops at equal frequencies.

Source: arXiv 1902.10811.
"""

import functools

from absl import flags
import pandas as pd

from imgbench import commands
from imgbench.papers import comparison
from imgbench.papers import evaluate
from imgbench.papers import frequencies
from imgbench.papers import program
from imgbench.papers import study as study_lib
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.tables import formats
from imgbench.tables import table

TOP1 = "top1_accuracy"
METRICS = (TOP1, "top5_accuracy")
BASES = (datasets.VALIDATION, datasets.VALIDATION_20K)
REQUIRED = ("repo",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --repo and the common flags."""
  text = "DATASET=FILE.csv with image_id, selection_frequency; repeatable."
  program.define_flags(
    flag_values,
    several={"frequencies": text},
    repo="Clone of modestyachts/ImageNetV2, or a folder of the same layout.",
  )


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  collection = clone.read(
    values.repo, own=values.predictions, allow_reversed=values.allow_reversed
  )
  figures = comparison.read(output, values.published)
  output.read(collection.files, collection.notes)
  of_images = frequencies.read(output, values.frequencies, collection.datasets)
  measured = evaluate.evaluate_all(collection.datasets, collection.predictions)
  found = study_lib.Study(
    study_lib.order_rows(datasets.KNOWN, *measured),
    study_lib.pair_independent(collection.datasets, BASES),
    study_lib.pair_same(METRICS),
    collection.own,
  )
  ranks = comparison.find_comparable_ranks(output, figures, found.ranked)
  ours = comparison.collect_ours(found.rows) | ranks
  compared = comparison.compare(figures, ours)
  report(output, found, compared)
  frequencies.report(output, found, collection, of_images)
  if figures:
    comparison.write(output, compared)


def report(
  output: program.Output, found: study_lib.Study, compared: pd.DataFrame
) -> None:
  """Prints the main tables and adds all files but the comparison."""
  # Tables and figures are for the first base only.
  pairs = [pair for pair in found.pairs if pair[0] == found.pairs[0][0]]
  top1, top5 = (
    [pair_grid(found, pair, metric, compared) for pair in pairs]
    for metric in METRICS
  )
  lines = study_lib.lines_grid(
    [line for line in found.lines if (line.base, line.dataset) in pairs],
    datasets.SHORT_TITLES,
  )
  printed = [*(top1 or [sets_grid(found.rows, TOP1)]), lines]
  by_subset = [
    study_lib.subsets_grid(found, pair, TOP1, datasets.TITLES) for pair in pairs
  ]
  study_lib.show(output, printed, [*printed[:-1], *top5, lines, *by_subset])
  study_lib.write_rows(output, found.rows)
  found.write(output, "drops", "ranks", "fits")
  for base, dataset in pairs:
    name, axes = f"{TOP1}-{dataset}-on-{base}", ((base, TOP1), (dataset, TOP1))
    study_lib.add_figures(output, name, found, *axes)


def pair_grid(
  found: study_lib.Study,
  pair: tuple[str, str],
  metric: str,
  compared: pd.DataFrame,
) -> table.Table:
  """Returns a table of accuracy on two sets, drop and ranks, best first."""
  of_pair = found.rows[
    found.rows.dataset.isin(pair) & (found.rows.metric == metric)
  ]
  return study_lib.pair_grid(
    found,
    pair,
    metric,
    compared,
    f"{formats.metric_title(metric)} in percent with 95% intervals,"
    f" {' and '.join(datasets.TITLES[name] for name in pair)}",
    datasets.SHORT_TITLES,
    study_lib.sort_best_first(of_pair, (pair[0], metric)),
  )


def sets_grid(rows: pd.DataFrame, metric: str) -> table.Table:
  """Returns a table of accuracy on each set, for sets without a base."""
  names = rows.dataset.unique().tolist()
  return table.from_names(
    f"{formats.metric_title(metric)} in percent with 95% intervals",
    study_lib.sort_best_first(rows, (names[0], metric)),
    {
      datasets.SHORT_TITLES[n]: study_lib.column(rows, (n, metric))
      for n in names
    },
  )


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper imagenet-v2")
