"""Ranks predictions among public models, and measures them against lines."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np
import pandas as pd

from imgbench import errors
from imgbench.evaluators import base
from imgbench.metrics import specs
from imgbench.metrics import summary
from imgbench.papers import evaluate
from imgbench.papers import own_sets
from imgbench.papers import program
from imgbench.papers import published as published_lib
from imgbench.papers import records
from imgbench.papers import study as study_lib
from imgbench.papers.machine_accuracy import results as machine_accuracy
from imgbench.papers.readers import cifar
from imgbench.papers.readers import clone as clone_lib
from imgbench.papers.readers import datasets
from imgbench.papers.readers import own
from imgbench.score import passes
from imgbench.score import sets
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

# Sets that others are compared with by a line.
_BASES = (datasets.VALIDATION, cifar.TEST)
_METRICS = ("top1_accuracy", "top5_accuracy")
_RANKS = ("model", "dataset", "metric", "value", "rank", "among")


def add(
  output: program.Output,
  model: str,
  scored: Sequence[passes.Scored],
  evaluations: Mapping[str, base.Evaluation],
  places: sets.Places,
  published: Iterable[str],
) -> None:
  """Prints ranks and distances from lines, and adds both to the output.

  Args:
    output: gets public_ranks.csv and public_lines.csv, if there are public
      models.
    model: name of the scored model.
    scored: the sets.
    evaluations: by name of the set.
    places: of clones with predictions of public models.
    published: CSV files of published figures.

  Raises:
    InputError: a bad file or clone, a public model of the same name.
  """
  known = {
    one.opened.name: own_sets.PUBLIC_NAMES[one.info.key]
    for one in scored
    if one.info.key in own_sets.PUBLIC_NAMES
    # A split of 68 images, which has no name of its own.
    and one.info.split != "imagenet_m"
    and not one.info.synthetic
  }
  ours = [
    {
      (model, public, subset, metric): value
      for (subset, metric), value in evaluations[name].measurements.items()
      if subset == summary.ALL
    }
    for name, public in known.items()
  ]
  named = [one for one in scored if one.opened.name in known]
  measured = _measure_clones(output, named, places)
  figures = [
    _read_figures(output, pathlib.Path(path), measured.dataset.unique())
    for path in published
  ]
  others = _concatenate([measured, *figures])
  if (others.model == model).any():
    expected = "a name that no public model has"
    raise errors.InputError("--model", expected, model)
  rows = _concatenate([*(frame.from_measurements(x) for x in ours), others])
  if others.empty or not known:
    return
  found = study_lib.Study(
    rows,
    [
      (first, name)
      for first in _BASES
      for name in dict.fromkeys(known.values())
      # The 20,000 annotated images are images of the validation set.
      if first in known.values()
      and name not in (*_BASES, datasets.VALIDATION_20K)
    ],
    study_lib.pair_same(_METRICS),
    frozenset([model]),
  )
  _add_ranks(output, found, model)
  _add_lines(output, found, model)


def _concatenate(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
  """Returns the rows of all parts; of two of the same thing the first."""
  parts = [part for part in parts if len(part)]
  if not parts:
    return pd.DataFrame(columns=[*frame.COLUMNS])
  found = pd.concat(parts, ignore_index=True)
  return found.drop_duplicates(list(frame.KEY), ignore_index=True)


def _read_figures(
  output: program.Output, path: pathlib.Path, measured: Sequence[str]
) -> pd.DataFrame:
  """Returns the published accuracies of a file, as fractions.

  Figures of other images are left out for data sets that are measured.
  """
  output.inputs([path])
  cells = [
    (*figure.key[:4], figure.number / 100)
    for figure in published_lib.read(path)
    if figure.key.field == published_lib.VALUE
    and figure.key.subset == summary.ALL
    and not (figure.not_counted and figure.key.dataset in measured)
  ]
  return pd.DataFrame(cells, columns=[*frame.KEY, "value"])


def _measure_clones(
  output: program.Output, scored: Sequence[passes.Scored], places: sets.Places
) -> pd.DataFrame:
  """Returns the accuracies of the clones' models on the very same images."""
  measured: list[frame.Measurements] = []
  public = [own_sets.PUBLIC_NAMES[one.info.key] for one in scored]
  lists = [
    datasets.VALIDATION if name == datasets.VALIDATION_20K else name
    for name in public
  ]
  collection = None
  wanted = [name for name in datasets.KNOWN if name in lists]
  if places.imagenet is not None and wanted:
    collection = clone_lib.read(places.imagenet, datasets=wanted)
    output.read(collection.files, collection.notes)
  for one, name, images in zip(scored, public, lists, strict=True):
    dataset = dataclasses.replace(one.dataset, name=name)
    predictions: list[records.RankedPredictions] = []
    if collection is not None and images in collection.datasets:
      everything = collection.datasets[images]
      rows = own.find_order(
        everything.path,
        passes.spell(everything.image_ids.tolist(), dataset.image_ids),
        dataset,
      )
      predictions = [
        dataclasses.replace(p, dataset=name, ranking=p.ranking[rows])
        for p in collection.predictions[images]
      ]
    # TFDS shuffles CIFAR-10.1, whose images have no ids.
    elif places.cifar is not None and (
      name == cifar.TEST or dataset.image_ids[0].startswith(f"{name}_")
    ):
      order = np.argsort(dataset.image_ids, kind="stable")
      dataset = dataclasses.replace(
        dataset,
        image_ids=dataset.image_ids[order],
        labels=dataset.labels[order],
      )
      predictions = cifar.read_public(places.cifar, dataset)
      output.inputs(p.path for p in predictions)
    label_sets = _find_label_sets(one) if name not in cifar.KNOWN else None
    measured += evaluate.evaluate_all(
      {name: dataset},
      {name: predictions},
      {name: label_sets} if label_sets else None,
      ks=(1,) if name in cifar.KNOWN else (1, 5),
    )
  # The same accuracy may be of two sets of labels.
  found = [frame.from_measurements(part) for part in measured]
  rows = _concatenate(found)
  return rows[rows.subset == summary.ALL] if len(rows) else rows


def _find_label_sets(one: passes.Scored) -> records.LabelSets | None:
  examples = one.examples
  if one.info.label_set is None or examples.label_codes is None:
    return None
  return records.LabelSets(
    kind=one.info.label_set,
    codes=examples.label_codes,
    left_out=examples.left_out,
    in_imagenet_m=examples.in_imagenet_m,
    path=pathlib.Path(one.info.key),
  )


def _add_ranks(output, found: study_lib.Study, model: str) -> None:
  """Adds the ranks on each set with public models, for all its accuracies."""
  metrics = [
    m for m in found.rows.metric.unique() if specs.describe(m).headline
  ]
  ranked = frame.add_ranks(found.rows[found.rows.metric.isin(metrics)], {model})
  ranked = ranked[(ranked.model == model) & (ranked.among > 0)]
  rows = frame.to_rows(ranked.dropna(subset=["value"]), _RANKS)
  output.csv("public_ranks.csv", _RANKS, rows)
  print(
    table.from_cells(
      f"{model} among public models; accuracies in percent",
      ("data set", "metric", "value", "rank", "among"),
      [
        (
          r.dataset,
          r.metric,
          formats.percent(r.value),
          str(r.rank),
          str(r.among),
        )
        for r in rows
      ],
      num_left=2,
    ).text()
  )


def _add_lines(output, found: study_lib.Study, model: str) -> None:
  """Adds the distances from the lines of the public models."""
  rows = [
    row
    for row in machine_accuracy.robustness_rows(found.rows, found.lines)
    if row.model == model
  ]
  if not rows:
    return
  columns = machine_accuracy.ROBUSTNESS_COLUMNS
  output.csv("public_lines.csv", columns, rows)
  print(
    table.from_cells(
      f"{model} and the lines of the public models, in percent",
      ("data set", "metric", "value", "on the line", "above the line"),
      [
        (
          f"{r.dataset} on {r.base}",
          r.metric,
          formats.percent(r.value),
          formats.percent(r.on_the_line),
          formats.signed(r.above_the_line),
        )
        for r in rows
      ],
      num_left=2,
    ).text()
  )
