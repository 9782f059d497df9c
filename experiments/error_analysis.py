"""When does dough become a bagel? (Vasudevan et al., NeurIPS 2022)

git clone --depth=1 https://github.com/google-research/imagenet-mistakes
git clone --depth=1 https://github.com/modestyachts/ImageNetV2
python -m experiments.error_analysis --repo=imagenet-mistakes \
    --dataset=ImageNetV2/data/datasets/imagenet-validation-original.json \
    --out=results/error_analysis

The mistakes that two strong models make on the 20,000 annotated images of
ImageNet's validation set, as experts have reviewed them: by category and
severity, and the pairs of classes that are confused. The paper's analysis has
two severities: what the files call borderline is minor there ("Minor or
Borderline" here). With --dataset all that by subset of the original labels, and
pairs of label and prediction; then --predictions tells which of these mistakes
one's own model repeats. Reads files only.

Source: arXiv 2205.04596.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
import re

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench.papers import comparison
from imgbench.papers import main_table
from imgbench.papers import program
from imgbench.papers import records
from imgbench.papers.mistakes import counted as tables
from imgbench.papers.mistakes import grids as mistakes_grids
from imgbench.papers.mistakes import reviewed as mistakes
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import own
from imgbench.tables import table

_NAME = re.compile(r"[\w.-]+")  # of files, too


@dataclasses.dataclass(frozen=True)
class Inputs:
  """All that is read.

  Attributes:
    reviewed: mistakes by model.
    confusions: pairs of classes that ViT-3B confused; None: not given.
    images: of the mistakes.
    predictions: of one's own models.
    files: that were read.
  """

  reviewed: tuple[mistakes.Reviewed, ...]
  confusions: tuple[mistakes.Pair, ...] | None
  images: tables.Images
  predictions: tuple[records.Predictions, ...]
  files: tuple[pathlib.Path, ...]

  @property
  def categories(self) -> tuple[str, ...]:
    """Rows of the tables: the known ones and what the files add."""
    return *mistakes.CATEGORIES, *mistakes.new_categories(self.reviewed)


def read(values: flags.FlagValues) -> Inputs:
  """Reads what the flags name.

  Raises:
    InputError: nothing to read, a model twice, files that are refused,
      --predictions without --dataset.
  """
  paths, confusions = {}, None
  if values.repo:
    paths, confusions = mistakes.find(pathlib.Path(values.repo))
  for text in values.mistakes:
    model, _, file = text.partition("=")
    if not file or not _NAME.fullmatch(model) or model in paths:
      raise errors.InputError(
        f"--mistakes={text}: expected MODEL=FILE, MODEL of letters, digits, -,"
        " _ and dots, no model twice"
      )
    paths[model] = pathlib.Path(file)
  if values.confusions:
    confusions = pathlib.Path(values.confusions)
  if not paths:
    raise errors.InputError(
      f"expected --repo, a clone of {mistakes.URL}, or --mistakes=MODEL=FILE"
    )
  if values.predictions and not values.dataset:
    raise errors.InputError(
      "--predictions: expected --dataset=FILE.json with it, the order of the"
      " images"
    )
  reviewed = tuple(mistakes.read(m, path) for m, path in paths.items())
  dataset = (
    datasets.read(pathlib.Path(values.dataset)) if values.dataset else None
  )
  images = tables.Images(dataset)
  for model in reviewed:
    images.check(model)
  predictions = _read_own(values.predictions, dataset, paths)
  files = [*paths.values(), confusions, dataset and dataset.path]
  return Inputs(
    reviewed=reviewed,
    confusions=confusions and mistakes.read_confusions(confusions),
    images=images,
    predictions=predictions,
    files=tuple(path for path in files if path is not None)
    + tuple(p.path for p in predictions),
  )


def _read_own(texts, dataset, reviewed: Iterable[str]):
  found = {}
  for text in texts:
    spec = own.parse(text)
    if spec.model in found or spec.model in reviewed:
      raise errors.InputError(
        f"--predictions={text}: there is a model {spec.model} already; give"
        " yours another name"
      )
    found[spec.model] = own.read(spec, {dataset.name: dataset})
  return tuple(found.values())


def all_pairs(inputs: Inputs) -> list[mistakes_grids.Pairs]:
  """Returns the published pairs, and with a data set those by label."""
  found = []
  if inputs.confusions is not None:
    found.append(
      mistakes_grids.Pairs(
        mistakes.CONFUSIONS, mistakes_grids.EITHER_WAY, inputs.confusions
      )
    )
  if inputs.images.dataset is not None:
    for model in inputs.reviewed:
      pairs = inputs.images.pairs(model.mistakes)
      found.append(
        mistakes_grids.Pairs(model.model, mistakes_grids.BY_LABEL, pairs)
      )
  return found


REQUIRED = ()


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines what is to be read, and the common flags."""
  flags.DEFINE_string(
    "repo", None, f"Clone of {mistakes.URL}.", flag_values=flag_values
  )
  flags.DEFINE_multi_string(
    "mistakes",
    [],
    "MODEL=FILE.json: mistakes of a model beside those of the clone, or without"
    " one; repeatable.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "confusions",
    None,
    "File of confused pairs of classes, instead of the clone's"
    f" {mistakes.CONFUSIONS}.json.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "dataset",
    None,
    "The images of ImageNet's validation set with their original labels:"
    f" data/datasets/{datasets.VALIDATION}.json of ImageNetV2's repository, or"
    f" {datasets.VALIDATION_20K}.json. Adds numbers by subset and pairs of"
    " label and prediction.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "top",
    15,
    "How many pairs of classes tables and figures show.",
    lower_bound=1,
    flag_values=flag_values,
  )
  program.define_common_flags(
    flag_values, (program.OUT, program.PUBLISHED, program.PREDICTIONS)
  )


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  inputs = read(values)
  figures = comparison.read(output, values.published)
  output.inputs(inputs.files)
  for category in mistakes.new_categories(inputs.reviewed):
    output.note(f"{category!r} is a category of its own: no known spelling")
  if inputs.images.dataset is not None:
    by_name = {inputs.images.dataset.name: inputs.images.dataset}
    mine = {p.model for p in inputs.predictions}
    for note in clone.notes_of_own(inputs.predictions, by_name, mine):
      output.note(note)
  rows, made = count(inputs)
  overlaps = tables.overlaps(inputs.reviewed)
  if overlaps:
    made.append(mistakes_grids.overlap_grid(overlaps))
  pairs = all_pairs(inputs)
  made += [p.grid(values.top) for p in pairs]
  print("\n".join(map(table.Table.text, made)))
  main_table.write(output, rows)
  main_table.write_grids(output, made)
  output.csv("overlap.csv", tables.Overlap._fields, overlaps)
  pair_rows = [row for p in pairs for row in p.rows()]
  output.csv("pairs.csv", mistakes_grids.PAIR_COLUMNS, pair_rows)
  if output.wanted:
    draw(output, inputs, pairs, values.top)
  if figures:
    compared = comparison.compare(figures, comparison.ours(rows))
    comparison.write(output, compared)


def count(inputs: Inputs) -> tuple[list[records.Row], list[table.Table]]:
  """Returns the rows of table.csv, and tables of them for people."""
  categories, images = inputs.categories, inputs.images
  rows, made = [], []
  for model in inputs.reviewed:
    by_subset = images.by_subset(model.mistakes)
    found = tables.shares(model.model, by_subset, categories)
    rows += found
    caption = (
      f"{model.model}: {len(model.mistakes)} mistakes by category and severity,"
      " in brackets the percentage of all"
    )
    made.append(mistakes_grids.kind_grid(caption, found, categories))
    if len(by_subset) > 1:
      made.append(mistakes_grids.subset_grid(model.model, found, categories))
  for mine in inputs.predictions:
    for model in inputs.reviewed:
      by_subset = images.by_subset(model.mistakes)
      again = images.by_subset(images.repeated(model.mistakes, mine))
      found = tables.repeated_shares(
        mine.model, model.model, by_subset, again, categories
      )
      rows += found
      caption = (
        f"Mistakes of {model.model} that {mine.model} repeats, in brackets the"
        " percentage of the mistakes of this kind"
      )
      made.append(
        mistakes_grids.kind_grid(caption, found, categories, model.model)
      )
  return rows, made


def draw(
  output: program.Output,
  inputs: Inputs,
  pairs: Sequence[mistakes_grids.Pairs],
  top: int,
) -> None:
  """Adds all figures."""
  from imgbench.papers.mistakes import figures as mistakes_figures

  output.figure(
    "categories", mistakes_figures.kinds(inputs.reviewed, inputs.categories)
  )
  for p in pairs:
    output.figure(f"pairs_{p.source}", p.draw(top))


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper error-analysis")
