"""Do CIFAR-10 Classifiers Generalize to CIFAR-10? (Recht et al., 2018)

git clone --depth=1 https://github.com/modestyachts/CIFAR-10.1
imgbench paper cifar10-1 --repo=CIFAR-10.1 --labels=test_batch.bin \\
    --out=results/cifar10_1

Accuracy of the public models on CIFAR-10 and on CIFAR-10.1 with 95%
Clopper-Pearson intervals, the drop between them (the paper's gap), how many
times more mistakes there are (its error ratio), ranks, and the linear fit of
one accuracy on the other. The paper's main results are on version v4 of
CIFAR-10.1; v6 has equally many images of each class. Reads prediction files
only. --predictions=MODEL@DATASET=FILE adds your model; it moves neither fits
nor ranks.

Source: arXiv 1806.00451.
"""

from collections.abc import Sequence
import functools
import pathlib

from absl import flags

from imgbench import commands
from imgbench.labels import label_errors
from imgbench.metrics import summary
from imgbench.papers import cifar_published
from imgbench.papers import comparison
from imgbench.papers import evaluate
from imgbench.papers import fits
from imgbench.papers import program
from imgbench.papers import published
from imgbench.papers import records
from imgbench.papers import study as study_lib
from imgbench.papers.readers import cifar
from imgbench.tables import frame
from imgbench.tables import table

TOP1 = "top1_accuracy"
REQUIRED = ("repo", "labels")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --repo and --labels, and the common flags."""
  program.define_flags(
    flag_values,
    (program.OUT, program.PUBLISHED, program.PREDICTIONS),
    repo=f"Clone of {cifar.URL}.",
    labels="Labels of the CIFAR-10 test set, which the clone lacks:"
    " test_batch.bin of CIFAR-10's binary release, or the 10,000 labels as .npy"
    " or .json.",
    label_errors="cifar10_mturk.json of cleanlab/label-errors: adds accuracies"
    " on corrected labels of the test set.",
  )


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  figures = comparison.read(output, values.published)
  collection = cifar.read(
    pathlib.Path(values.repo), pathlib.Path(values.labels), values.predictions
  )
  output.read(collection.files, collection.notes)
  label_sets = {}
  if values.label_errors:
    path = pathlib.Path(values.label_errors)
    output.inputs([path])
    test = collection.datasets[cifar.TEST]
    sets = label_errors.read_codes(
      path, test.image_ids, test.labels, test.num_classes
    )
    corrected = records.LabelSets(summary.CORRECTED, *sets, None, path)
    label_sets[cifar.TEST] = corrected
  measured = evaluate.evaluate_all(
    collection.datasets, collection.predictions, label_sets, ks=(1,)
  )
  found = study_lib.Study(
    study_lib.order_rows(cifar.KNOWN, *measured),
    study_lib.pair_independent(collection.datasets, [cifar.TEST]),
    study_lib.pair_same([TOP1]),
    collection.own,
  )
  ranks = comparison.find_comparable_ranks(
    output, figures, found.ranked, cifar_published.NUM_PUBLIC
  )
  compared = comparison.compare(figures, collect_ours(found, figures) | ranks)
  tables = [
    study_lib.pair_grid(
      found,
      (cifar.TEST, name),
      TOP1,
      compared,
      f"{cifar.TITLES[name]}: top-1 accuracy and its drop in percent with 95%"
      f" intervals, ratio of error rates to {cifar.TITLES[cifar.TEST]}, ranks",
      cifar.TITLES,
      study_lib.sort_best_first(found.rows, (cifar.TEST, TOP1)),
      with_ratios=True,
    )
    for name in collection.datasets
    if name != cifar.TEST
  ]
  if label_sets:
    metrics = found.rows[found.rows.dataset == cifar.TEST].metric.unique()
    tables.append(
      table.from_names(
        "CIFAR-10 test: accuracy in percent with 95% intervals on given labels,"
        " on corrected ones, and on both where workers say so",
        study_lib.sort_best_first(found.rows, (cifar.TEST, TOP1)),
        {m: study_lib.column(found.rows, (cifar.TEST, m)) for m in metrics},
      )
    )
  tables.append(study_lib.lines_grid(found.lines, cifar.TITLES))
  study_lib.show(output, tables, tables)
  study_lib.write_rows(output, found.rows)
  found.write(output, "drops", "ratios", "ranks", "fits")
  for base, dataset in found.pairs:
    name, axes = f"{TOP1}-{dataset}-on-{base}", ((base, TOP1), (dataset, TOP1))
    study_lib.add_figures(output, name, found, *axes)
  if figures:
    comparison.write(output, compared)


def collect_ours(
  found: study_lib.Study, figures: Sequence[published.PublishedFigure]
) -> dict[tuple[str, ...], float | None]:
  """Returns our numbers by `published.FigureKey`."""
  plain = [line for line in found.lines if line.scale == fits.PLAIN]
  known = comparison.collect_ours(found.rows, plain)
  known |= frame.to_dict(found.drops, drop=published.DROP)
  known |= frame.to_dict(found.ratios, ratio=published.ERROR_RATIO)
  models = sorted({*found.rows.model} - found.outside)
  return known | cifar_published.combine_models(figures, known, models)


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper cifar10-1")
