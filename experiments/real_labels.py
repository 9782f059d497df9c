"""Are we done with ImageNet? (Beyer et al., 2020)

git clone --depth=1 https://github.com/modestyachts/ImageNetV2
git clone --depth=1 https://github.com/google-research/reassessed-imagenet
imgbench paper real-labels --repo=ImageNetV2 \\
    --real=reassessed-imagenet/real.json --out=results/real_labels

ReaL accuracy of the public models: the share of images with ReaL labels whose
top-1 prediction is one of them, plain and averaged over the original classes,
and the share with one of the top-5 predictions. Also top-1 and top-5 accuracy
against the original labels; all for all classes and for subsets of them. Reads
prediction files only. --predictions=MODEL@DATASET=FILE adds your model; it
moves neither fits nor ranks.

Source: arXiv 2006.07159.
"""

import functools
import pathlib

from absl import flags
import pandas as pd

from imgbench import commands
from imgbench.labels import annotations
from imgbench.papers import comparison
from imgbench.papers import evaluate
from imgbench.papers import program
from imgbench.papers import review_statistics
from imgbench.papers import study as study_lib
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import real_sets
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

DATASETS = (datasets.VALIDATION, datasets.VALIDATION_20K)
TOP1, TOP5 = "top1_accuracy", "top5_accuracy"
REAL, REAL_TOP5 = "real_accuracy", "real_top5_accuracy"
CLASS_MEAN = "real_accuracy.class_mean"
AXES = ((TOP1, REAL), (TOP5, REAL_TOP5))
REQUIRED = ("repo", "real")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --repo, --real and the common flags."""
  program.define_flags(
    flag_values,
    repo="Clone of modestyachts/ImageNetV2, or a folder of the same layout.",
    real="real.json of google-research/reassessed-imagenet: a list of 50,000"
    " lists.",
  )


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  collection = clone.read(
    values.repo,
    datasets=DATASETS,
    own=values.predictions,
    allow_reversed=values.allow_reversed,
  )
  real = pathlib.Path(values.real)
  label_sets = real_sets.read(real, collection.datasets)
  figures = comparison.read(output, values.published)
  notes = [
    real_sets.note(collection.datasets[name], sets)
    for name, sets in label_sets.items()
  ]
  output.read([*collection.files, real], [*collection.notes, *notes])
  measured = evaluate.evaluate_all(
    collection.datasets, collection.predictions, label_sets
  )
  rows = study_lib.order_rows(datasets.KNOWN, *measured)
  names = [name for name in DATASETS if (rows.dataset == name).any()]
  found = study_lib.Study(
    rows, [(name, name) for name in names], AXES, collection.own
  )
  compared = comparison.compare(figures, comparison.collect_ours(rows))
  printed = [main_grid(rows, name, compared) for name in names]
  titles = datasets.SHORT_TITLES
  printed.append(study_lib.lines_grid(found.lines, titles, "ReaL accuracies"))
  by_subset = [
    study_lib.subsets_grid(found, [name], metric, datasets.TITLES)
    for name in names
    for metric in (REAL, CLASS_MEAN, REAL_TOP5)
  ]
  study_lib.show(output, printed, [*printed, *by_subset])
  study_lib.write_rows(output, rows)
  found.write(output, "ranks", "fits")
  sizes = []
  for name in names:
    labels = (label_sets[name].codes == annotations.CORRECT).sum(axis=1)
    sizes += review_statistics.size_rows(name, "correct", labels.tolist())
  output.csv("statistics.csv", review_statistics.COLUMNS, sizes)
  draw = review_statistics.draw_sizes(sizes, names[0])
  output.figure("label_counts", draw)
  for name in names:
    axes = ((name, TOP1), (name, REAL))
    study_lib.add_figures(output, f"{REAL}-{name}", found, *axes)
  if figures:
    comparison.write(output, compared)


def main_grid(
  rows: pd.DataFrame, dataset: str, compared: pd.DataFrame
) -> table.Table:
  """Returns a table of all accuracies on one set, sorted by ReaL accuracy."""
  columns = []
  for metric in (TOP1, REAL, CLASS_MEAN, TOP5, REAL_TOP5):
    axis, title = (dataset, metric), formats.metric_title(metric)
    title = title.removesuffix(" accuracy")
    if metric in (TOP1, TOP5):
      cell = study_lib.column(rows, axis, text=study_lib.format_plain)
    else:
      title = "ReaL, class mean" if metric == CLASS_MEAN else title
      cell = study_lib.column(rows, axis)
    columns.append((title, cell))
    columns += comparison.columns(compared, dataset, metric)
  there = frame.select(rows, dataset=dataset, metric=REAL)
  return table.from_names(
    "ReaL accuracy in percent with 95% intervals, and accuracy against the"
    f" original label, {datasets.TITLES[dataset]}",
    study_lib.sort_best_first(there, (dataset, REAL)),
    columns,
  )


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper real-labels")
