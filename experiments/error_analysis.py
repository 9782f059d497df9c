"""When does dough become a bagel? (Vasudevan et al., NeurIPS 2022)

git clone --depth=1 https://github.com/google-research/imagenet-mistakes
git clone --depth=1 https://github.com/modestyachts/ImageNetV2
imgbench paper error-analysis --repo=imagenet-mistakes \\
    --dataset=ImageNetV2/data/datasets/imagenet-validation-original.json \\
    --out=results/error_analysis

The mistakes of two strong models on the 20,000 annotated images of ImageNet's
validation set, as reviewed by experts: by category and severity, and the pairs
of classes that are confused. The paper's analysis has two severities and counts
borderline mistakes as minor ("Minor or Borderline" here). --dataset adds
numbers by subset of the original labels, and pairs of label and prediction;
with it, --predictions shows which of these mistakes your model repeats. Reads
files only.

Source: arXiv 2205.04596.
"""

from collections.abc import Collection
from collections.abc import Sequence
import functools
import pathlib
import re

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench.papers import comparison
from imgbench.papers import program
from imgbench.papers import records
from imgbench.papers import study as study_lib
from imgbench.papers.mistakes import counted
from imgbench.papers.mistakes import grids
from imgbench.papers.mistakes import reviewed as mistakes
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import own
from imgbench.tables import frame
from imgbench.tables import table

_NAME = re.compile(r"[\w.-]+")  # also in file names

REQUIRED = ()


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of input files, and the common flags."""
  program.define_flags(
    flag_values,
    (program.OUT, program.PUBLISHED, program.PREDICTIONS),
    several={
      "mistakes": "MODEL=FILE.json: mistakes of another model, with or without"
      " a clone; repeatable.",
    },
    repo=f"Clone of {mistakes.URL}.",
    confusions="File of confused pairs of classes, instead of the clone's"
    f" {mistakes.CONFUSIONS}.json.",
    dataset="The images of ImageNet's validation set with their original"
    f" labels: data/datasets/{datasets.VALIDATION}.json of ImageNetV2's"
    f" repository, or {datasets.VALIDATION_20K}.json. Adds numbers by subset"
    " and pairs of label and prediction.",
  )
  flags.DEFINE_integer(
    "top",
    15,
    "Number of pairs of classes in tables and figures.",
    lower_bound=1,
    flag_values=flag_values,
  )


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  paths, confusions = find(values)
  reviewed = [mistakes.read(model, path) for model, path in paths.items()]
  path = pathlib.Path(values.dataset) if values.dataset else None
  dataset = datasets.read(path) if path else None
  images = counted.Images(dataset)
  for model in reviewed:
    images.check(model)
  mine = read_own(values.predictions, dataset, paths)
  pairs = []
  if confusions:
    either_way = mistakes.read_confusions(confusions)
    pairs.append(grids.Pairs(mistakes.CONFUSIONS, grids.EITHER_WAY, either_way))
  figures = comparison.read(output, values.published)
  files = [*paths.values(), confusions, path, *(p.path for p in mine)]
  new = mistakes.find_new_categories(reviewed)
  notes = [f"{x!r} is a new category: no known spelling" for x in new]
  if dataset is not None:
    by_name, models = {dataset.name: dataset}, {p.model for p in mine}
    notes += clone.note_own(mine, by_name, models)
    pairs += [
      grids.Pairs(m.model, grids.BY_LABEL, images.count_pairs(m.mistakes))
      for m in reviewed
    ]
  output.read(filter(None, files), notes)
  categories = (*mistakes.CATEGORIES, *new)
  shares, tables = count(reviewed, mine, images, categories)
  overlaps = counted.find_overlaps(reviewed)
  if overlaps:
    tables.append(grids.overlap_grid(overlaps))
  tables += [p.grid(values.top) for p in pairs]
  rows = frame.from_measurements(*shares)
  study_lib.show(output, tables, tables)
  study_lib.write_rows(output, rows)
  output.csv("overlap.csv", counted.Overlap._fields, overlaps)
  pair_rows = [row for p in pairs for row in p.rows()]
  output.csv("pairs.csv", grids.PAIR_COLUMNS, pair_rows)
  if output.wanted:
    from imgbench.papers.mistakes import figures as mistakes_figures

    output.figure(
      "categories", mistakes_figures.draw_kinds(reviewed, categories)
    )
    for p in pairs:
      output.figure(f"pairs_{p.source}", p.draw(values.top))
  if figures:
    compared = comparison.compare(figures, comparison.collect_ours(rows))
    comparison.write(output, compared)


def find(
  values: flags.FlagValues,
) -> tuple[dict[str, pathlib.Path], pathlib.Path | None]:
  """Returns the files of mistakes by model, and the file of confusions.

  Raises:
    InputError: nothing to read, a model twice, --predictions without --dataset.
  """
  paths, confusions = {}, None
  if values.repo:
    paths, confusions = mistakes.find(pathlib.Path(values.repo))
  for text in values.mistakes:
    model, _, file = text.partition("=")
    if not file or not _NAME.fullmatch(model) or model in paths:
      expected = (
        "MODEL=FILE, MODEL of letters, digits, -, _ and dots, once each"
      )
      raise errors.InputError("--mistakes", expected, repr(text))
    paths[model] = pathlib.Path(file)
  if values.confusions:
    confusions = pathlib.Path(values.confusions)
  if not paths:
    expected = f"a clone of {mistakes.URL}"
    fix = "or give --mistakes=MODEL=FILE"
    raise errors.InputError("--repo", expected, "none", fix)
  if values.predictions and not values.dataset:
    expected = "FILE.json with the order of the images of --predictions"
    raise errors.InputError("--dataset", expected, "none")
  return paths, confusions


def read_own(
  texts: Sequence[str],
  dataset: records.Dataset | None,
  reviewed: Collection[str],
) -> list[records.RankedPredictions]:
  """Returns the predictions of your models; no two models share a name."""
  found = {}
  for text in texts:
    spec = own.parse(text)
    if spec.model in found or spec.model in reviewed:
      expected = "a model that is not there yet"
      raise errors.InputError(spec.flag, expected, spec.model, own.RENAME)
    found[spec.model] = own.read(spec, {dataset.name: dataset})
  return list(found.values())


def count(
  reviewed: Sequence[mistakes.ModelMistakes],
  mine: Sequence[records.RankedPredictions],
  images: counted.Images,
  categories: Sequence[str],
) -> tuple[list[frame.Measurements], list[table.Table]]:
  """Returns the shares of mistakes as a frame and as tables."""
  by_subset = {m.model: images.split_by_subset(m.mistakes) for m in reviewed}
  shares, tables = [], []
  for model in reviewed:
    found = counted.compute_shares(
      model.model, by_subset[model.model], categories
    )
    shares.append(found)
    caption = (
      f"{model.model}: {len(model.mistakes)} mistakes by category and severity,"
      " with percentages of all"
    )
    tables.append(grids.kind_grid(caption, found, categories))
    if images.dataset is not None:
      tables.append(grids.subset_grid(model.model, found, categories))
  for own_model in mine:
    for model in reviewed:
      again = images.split_by_subset(
        images.find_repeated(model.mistakes, own_model)
      )
      names = (own_model.model, model.model)
      found = counted.compute_repeated_shares(
        *names, by_subset[model.model], again, categories
      )
      shares.append(found)
      caption = (
        f"Mistakes of {model.model} that {own_model.model} repeats, with"
        " percentages of the mistakes of this kind"
      )
      tables.append(grids.kind_grid(caption, found, categories, model.model))
  return shares, tables


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper error-analysis")
