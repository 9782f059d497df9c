"""Tables, figures and files of `experiments.multilabel` for a section."""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib

import pandas as pd

from imgbench import errors
from imgbench.papers import fits
from imgbench.papers import hard_images
from imgbench.papers import program
from imgbench.papers import published as published_lib
from imgbench.papers import sections
from imgbench.papers import study as study_lib
from imgbench.papers.machine_accuracy import as_published
from imgbench.papers.machine_accuracy import results
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.tables import formats
from imgbench.tables import frame

_BASES = (datasets_lib.VALIDATION, datasets_lib.VALIDATION_20K)
_MOST_PICTURES = 24


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
  """A section with the drops, ranks and lines of its rows.

  Attributes:
    section: the results.
    metric: the definition for pairs, mistakes and figures of humans.
    of_people: whether its images are those that humans labeled.
    prefix: of the names of its files; "people_" for those images, unless there
      is no other section.
  """

  section: sections.ImageSection
  metric: str
  of_people: bool = False
  prefix: str = ""

  @functools.cached_property
  def study(self) -> study_lib.Study:
    """Drops and ranks from the validation set to the others, and lines."""
    shares = [m for m in results.SHARES if m != results.TOP5]
    return study_lib.Study(
      self.section.rows,
      study_lib.pair_independent(self.section.datasets, _BASES),
      study_lib.pair_same(shares if self.of_people else results.SHARES),
      frozenset(self.section.kinds) - self.section.fitted,
    )

  @functools.cached_property
  def lines(self) -> list[fits.FittedLine]:
    """Fits of one data set on another, and of multi-label on top-k."""
    if self.of_people:
      return self.study.lines
    on_top_k = [
      (base, metric)
      for base in (results.TOP1, results.TOP5)
      for metric in results.METRICS.values()
      if results.is_defined(self.study.rows, metric)
    ]
    same_set = [(name, name) for name in self.section.images]
    rows, outside = self.study.rows, self.study.outside
    return self.study.lines + fits.fit_lines(rows, same_set, on_top_k, outside)

  def plain_lines(self) -> list[fits.FittedLine]:
    """Returns the plain fits of other sets on the validation set."""
    return [
      line
      for line in self.lines
      if (line.scale, line.models) == (fits.PLAIN, fits.ALL_MODELS)
      and line.base == datasets_lib.VALIDATION != line.dataset
    ]

  def notes(self) -> list[str]:
    """Returns notes for readers of the numbers."""
    undefined = results.undefined_notes(self.section.rows)
    where = "images that humans labeled: " if self.of_people else ""
    return [*self.section.notes, *(where + note for note in undefined)]


def report(
  output: program.Output,
  part: Part,
  compared: pd.DataFrame,
  of_people: Sequence[published_lib.PublishedFigure] = (),
) -> None:
  """Prints the main tables of a section and adds its tables and figures.

  `of_people` are published figures without ours, to show as published.
  """
  section, rows = part.section, part.section.rows
  found = results.summary_rows(part.study, section.kinds)
  if part.of_people:
    tables = [
      results.side_by_side_grid(
        rows, section.kinds, part.metric, subset, compared
      )
      for subset in part.study.subsets
    ]
    printed = tables[:1]
  else:
    tables = []
    for name in section.shown:
      tables.append(results.reviewed_grid(rows, name, compared))
      tables.append(results.summary_grid(found, name))
    printed = list(tables)
  best = [row for row in found if row.dataset in section.shown]
  grids = [results.best_grid(best, part.metric)] if best else []
  printed += grids
  more, of_paper = as_published.report(output, of_people)
  found += more
  printed += [*of_paper[:1], *of_paper[-1:]]
  tables += [*grids, *of_paper]
  output.csv(f"{part.prefix}summary.csv", results.Summary._fields, found)
  lines = [
    line for line in part.lines if {line.base, line.dataset} <= {*section.shown}
  ]
  shown = [
    line
    for line in lines
    if line.scale == fits.PLAIN and line.metric in (part.metric, results.TOP1)
  ]
  grid = lambda of: study_lib.lines_grid(of, datasets_lib.SHORT_TITLES)
  study_lib.show(
    output,
    [*printed, grid(shown)],
    [*tables, grid(lines)],
    f"{part.prefix}table",
  )
  _write_tables(output, part)
  _figures(output, part)


def _write_tables(output: program.Output, part: Part) -> None:
  prefix, rows = part.prefix, part.section.rows
  output.csv(
    f"{prefix}table.csv", frame.COLUMNS, frame.to_rows(rows, frame.COLUMNS)
  )
  for what, reason in results.explain_undefined(rows).items():
    output.undefined(f"{prefix}table.csv: {what}", reason)
  part.study.write(output, "drops", "ranks", prefix=prefix)
  name = f"{prefix}fits.csv"
  fits.write(output, part.lines, name, f"{name}: ")
  output.csv(
    f"{prefix}robustness.csv",
    results.ROBUSTNESS_COLUMNS,
    results.robustness_rows(rows, part.lines),
  )


def _figures(output: program.Output, part: Part) -> None:
  if not output.wanted:
    return
  from imgbench.papers.machine_accuracy import figures

  if not part.of_people:
    for dataset in part.section.shown:
      draw = figures.draw_against_top(part.section, part.lines, dataset)
      if draw is not None:
        output.figure(f"multilabel-{dataset}", draw)
    return
  subsets = part.study.subsets
  main = ("all", "object", "not_dog", sections.FAST)
  for name, chosen in (
    ("people", [s for s in main if s in subsets]),
    ("people_more_subsets", [s for s in subsets if s not in main]),
  ):
    found = figures.find_people_points(part.section, part.metric, chosen)
    draw = figures.draw_people_panels(found, part.lines, part.metric)
    if draw is None:
      continue
    output.figure(name, draw)
    hidden = [f"{s}: {len(f.weak)}" for s, f in found.items() if f.weak]
    if hidden:
      least = formats.percent(figures.SHOWN_FROM, 0)
      output.note(
        f"{name}: classifiers below {least}% on ImageNet are not shown"
        f" ({', '.join(hidden)}); fits include the models among them"
      )


def mistakes(
  output: program.Output, parts: Sequence[Part], folders: Sequence[str]
) -> None:
  """Adds the images that everybody gets wrong, with pictures if available.

  Raises:
    InputError: one of the folders does not exist.
  """
  paths = [pathlib.Path(folder) for folder in folders]
  for path in paths:
    if not path.is_dir():
      raise errors.InputError("--images", "a folder", path)
  for part in parts:
    images, counts, by_class, pictures = [], [], [], {}
    for name in part.section.shown:
      subsets = part.section.subsets[name]
      answers = part.section.answers(name, part.metric)
      found = hard_images.image_rows(answers)
      images += found
      counts += hard_images.count_rows(answers, subsets)
      by_class += hard_images.class_rows(answers)
      pictures[name] = (answers, found)
    prefix = part.prefix
    output.csv(f"{prefix}mistakes.csv", hard_images.ImageRow._fields, images)
    output.csv(
      f"{prefix}mistakes_by_subset.csv", hard_images.CountRow._fields, counts
    )
    output.csv(
      f"{prefix}hardest_classes.csv", hard_images.HardClass._fields, by_class
    )
    print(hard_images.count_grid(counts, part.metric).text())
    print(hard_images.class_grid(by_class, part.metric).text())
    if paths:
      for name, (answers, found) in pictures.items():
        _contact_sheet(
          output, f"{prefix}mistakes-{name}", answers, found, paths
        )


def _contact_sheet(output, file_name, answers, rows, folders) -> None:
  from imgbench.papers import contact_sheet

  labels = dict(
    zip(answers.dataset.image_ids.tolist(), answers.dataset.labels, strict=True)
  )
  chosen, absent = [], 0
  for row in rows:
    image = row.image_id
    path = contact_sheet.find(folders, image, int(labels[image]))
    if path is None:
      absent += 1
    elif len(chosen) < _MOST_PICTURES:
      chosen.append((path, _lines(row)))
  if absent:
    output.note(
      f"{file_name}: {absent:,} of {len(rows):,} images are not in the folders"
      " of --images"
    )
  if not chosen or not output.wanted:
    return
  pictures = [_picture(output, file_name, path, text) for path, text in chosen]
  title = f"Images that all get wrong ({len(pictures)} of {len(rows):,})"
  output.figure(
    file_name, contact_sheet.draw(title, pictures), photographs=True
  )


def _picture(output, file_name, path, text):
  """Returns a picture of the sheet; notes one that cannot be read."""
  from imgbench.papers import contact_sheet

  image = None
  try:
    image = contact_sheet.read(path)
    output.inputs([path])
  except errors.InputError as error:
    output.note(f"{file_name}: {error}: shown as an empty frame")
  return contact_sheet.Picture(image, text)


def _lines(row: hard_images.ImageRow) -> tuple[str, ...]:
  lines = [f"label: {row.class_name}", f"accepted: {row.accepted}"]
  if row.most_named is not None:
    lines.append(f"{row.named_by} of {row.models} models: {row.most_named}")
  if row.people:
    lines.append(f"{row.people_wrong} of {row.people} humans wrong")
  return tuple(lines)
