"""Evaluating Machine Accuracy on ImageNet (Shankar et al., ICML 2020)

git clone --depth=1 https://github.com/modestyachts/ImageNetV2
imgbench paper multilabel --repo=ImageNetV2 --out=results/multilabel \\
    --annotations=human_accuracy_v3.0.0.json

Multi-label accuracy of the public models in the four definitions in use, with
top-1 and top-5, on the images whose labels were reviewed. With the older
human_accuracy.pickle also that of five humans and of models on the images of
ImageNet and ImageNetV2 that the humans labeled, and with a database that has
answers to evaluation tasks, or its export, that of your labelers. Reads files
only.
--predictions=MODEL@DATASET=FILE adds your model; it moves no fit.

The reviewed labels are one of
  --annotations=human_accuracy_v3.0.0.json  (as TFDS's imagenet2012_multilabel)
  --annotations=FILE.csv  (a table of TFDS's fields)
  --annotations=FILE.db  (a database of imgbench review)
  --annotations=human_accuracy.pickle  (of the paper's repository)
  --multilabels=FILE.json  ({file name: [accepted class ids]})
With answers of humans, --repo may be omitted: then all files are about the
images that they labeled. Otherwise the names of those files begin with people_.

Source: Shankar et al. 2020; "imagenet_m" is of Vasudevan et al. 2022.
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib

from absl import flags
import pandas as pd

from imgbench import commands
from imgbench import errors
from imgbench.labels import review_database
from imgbench.labels import review_table
from imgbench.metrics import summary
from imgbench.papers import comparison
from imgbench.papers import paired_table
from imgbench.papers import program
from imgbench.papers import published as published_lib
from imgbench.papers import review_statistics
from imgbench.papers import sections
from imgbench.papers.machine_accuracy import output as multilabel_output
from imgbench.papers.readers import annotations_pickle
from imgbench.papers.readers import clone
from imgbench.papers.readers import people
from imgbench.papers.readers import reviews as reviews_lib

_PICKLES = (".pickle", ".pkl")
REQUIRED = ()


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of input files and pairs, and the common flags."""
  program.define_flags(
    flag_values,
    several={
      "pair": "A,B: compare these two classifiers on every subset; repeatable."
      " Without it all pairs are compared on all images.",
      "images": "Folder with images, for pictures of those that all models or"
      " all humans get wrong; repeatable.",
    },
    repo=f"Clone of {clone.URL}, or a folder of the same layout.",
    annotations="Reviewed labels: human_accuracy_v3.0.0.json, a CSV of TFDS's"
    " fields, or human_accuracy.pickle, which also has labels by humans.",
    multilabels="Instead of --annotations: JSON object {file name: [class"
    " ids]} of the accepted labels.",
  )


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the tables and adds the files to the output."""
  reviews, study = read_labels(values)
  output.inputs([reviews.path])
  collection = None
  if values.repo:
    collection = clone.read(
      values.repo, own=values.predictions, allow_reversed=values.allow_reversed
    )
    output.inputs(collection.files)
  elif study is None or values.predictions or values.allow_reversed:
    expected = f"a clone of {clone.URL}"
    fix = (
      "or give only --annotations with answers of humans, without"
      " --predictions and --allow_reversed"
    )
    raise errors.InputError("--repo", expected, "none", fix)
  figures = _select_multilabel(
    output, comparison.read(output, values.published)
  )
  notes = [*(collection.notes if collection else ()), *reviews.notes]
  for note in notes:
    output.note(note)
  parts = _parts(reviews, study, collection)
  compared = []
  for part in parts:
    for note in part.notes():
      output.note(note)
    ours = comparison.collect_ours(part.section.rows, part.plain_lines())
    selected = _select_figures(part.of_people, figures)
    of_part = comparison.compare(selected, ours)
    humans = () if study else _select_figures(True, figures)
    multilabel_output.report(output, part, of_part, humans)
    compared.append(of_part)
  for of_people in {False, True} - {part.of_people for part in parts}:
    left = _select_figures(of_people, figures)
    compared.append(comparison.compare(left, {}))
  _pairs(output, parts, values.pair)
  _statistics(output, reviews, collection, study)
  if collection is not None:
    rows = []
    for name, dataset in collection.datasets.items():
      if name in parts[0].section.shown:
        rows += review_statistics.ceiling_rows(dataset, reviews)
    output.csv("ceilings.csv", review_statistics.CEILINGS, rows)
  multilabel_output.mistakes(output, parts, values.images)
  if figures:
    comparison.write(output, pd.concat(compared, ignore_index=True))


def read_labels(
  values: flags.FlagValues,
) -> tuple[reviews_lib.Reviews, people.HumanStudy | None]:
  """Returns the reviewed labels, and the answers of humans if available.

  Raises:
    InputError: not exactly one of --annotations and --multilabels, or a bad
      file. With --repo, a study that nobody has finished is noted only.
  """
  if bool(values.annotations) == bool(values.multilabels):
    given = "both" if values.annotations else "neither"
    raise errors.InputError("--annotations, --multilabels", "one", given)
  if values.multilabels:
    return reviews_lib.read_lists(values.multilabels), None
  if pathlib.Path(values.annotations).suffix in _PICKLES:
    return annotations_pickle.read(values.annotations)
  path, key = values.annotations, review_database.LABELS
  content = review_table.read_file(path)
  reviews = reviews_lib.read(path, content)
  if key not in content:
    return reviews, None
  try:
    return reviews, people.read_study(f"{path}: {key}", content[key], reviews)
  except errors.InputError as error:
    if not values.repo:
      raise
    notes = (*reviews.notes, f"{error}: labelers are left out")
    return dataclasses.replace(reviews, notes=notes), None


def _parts(reviews, study, collection) -> list[multilabel_output.Part]:
  """Returns the parts of all reviewed images, and of those humans labeled."""
  metric = reviews_lib.choose_metric(reviews)
  found = []
  if collection is not None:
    section = sections.build_reviewed(collection, reviews)
    if section is not None:
      found.append(multilabel_output.Part(section, metric))
    elif study is None:
      expected = f"labels of images of {', '.join(collection.datasets)}"
      given = f"{len(reviews.labels):,} other images"
      raise errors.InputError(reviews.path, expected, given)
  if study is not None:
    section = sections.build_human(study, reviews, collection)
    prefix = "people_" if found else ""
    found.append(multilabel_output.Part(section, metric, True, prefix))
  return found


def _select_multilabel(
  output: program.Output, figures: Sequence[published_lib.PublishedFigure]
) -> list[published_lib.PublishedFigure]:
  """Returns the published multi-label accuracies; notes the others.

  Published top-1 and top-5 accuracies are on all images of a data set; ours
  here are on the reviewed ones.
  """
  kept = [f for f in figures if f.key.metric.startswith("multilabel_accuracy")]
  if len(kept) < len(figures):
    output.note(
      f"{len(figures) - len(kept):,} published figures are not compared: they"
      " are no multi-label accuracies, and ours are on reviewed images only"
    )
  return kept


def _select_figures(
  of_people: bool, figures: Sequence[published_lib.PublishedFigure]
) -> list[published_lib.PublishedFigure]:
  """Returns the published figures to compare with a section's rows.

  Figures of a file that names humans, or has fits, are on the images that
  humans labeled; all others are on all reviewed images.
  """
  with_people = {
    figure.source
    for figure in figures
    if people.find_kind(figure.key.model) == people.PERSON
    or figure.key.model == published_lib.FIT
  }
  return [
    figure for figure in figures if (figure.source in with_people) == of_people
  ]


def _pairs(
  output: program.Output,
  parts: Sequence[multilabel_output.Part],
  wanted: Sequence[str],
) -> None:
  """Adds paired.csv of each section, and prints the pairs of --pair."""
  known = sorted({name for part in parts for name in part.section.kinds})
  pairs = [paired_table.parse_pair(text, known) for text in wanted] or None
  for part in parts:
    rows = paired_table.compare(
      part.section.hits(part.metric, only_all=pairs is None), pairs
    )
    output.csv(
      f"{part.prefix}paired.csv",
      paired_table.COLUMNS,
      paired_table.cells(rows),
    )
    if pairs and rows:
      grid = paired_table.grid(
        [row for row in rows if row.subset == summary.ALL]
      )
      print(grid.text())


def _statistics(output, reviews, collection, study) -> None:
  image_sets = {}
  if study is not None:
    image_sets |= {
      f"people's images of {name}": found.image_ids
      for name, found in study.image_sets.items()
    }
  if collection is not None:
    image_sets |= {
      name: dataset.image_ids.tolist()
      for name, dataset in collection.datasets.items()
    }
  rows = review_statistics.rows(reviews, image_sets)
  output.csv("statistics.csv", review_statistics.COLUMNS, rows)
  draw = review_statistics.draw_sizes(rows, review_statistics.ALL_IMAGES)
  output.figure("label_counts", draw)
  print(review_statistics.grid(rows).text())


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper multilabel")
