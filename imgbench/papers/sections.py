"""Results of classifiers on reviewed images, and on those humans labeled.

A section has the results on one choice of images: all that were reviewed, or
the 2,000 that humans labeled.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

import numpy as np
import pandas as pd

from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.metrics import summary
from imgbench.papers import evaluate
from imgbench.papers import hard_images
from imgbench.papers import paired_table
from imgbench.papers import records
from imgbench.papers import section_names
from imgbench.papers import study as study_lib
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.papers.readers import people as people_lib
from imgbench.papers.readers import reviews as reviews_lib

OWN = "own model"
FAST = "fast"
PEOPLE_MAJORITY = section_names.PEOPLE_MAJORITY
MODELS_MAJORITY = section_names.MODELS_MAJORITY


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSection:
  """Results on one choice of images.

  Attributes:
    images: data set -> its images and their labels.
    subsets: data set -> subset ("all" first) -> bool [N], images in it.
    results: of every classifier on every data set that it has labels for.
    kinds: classifier -> people.PERSON, MODEL, ENSEMBLE or OWN.
    fitted: classifiers that the fits use.
    rows: a frame of their measurements.
    shown: data sets with different images, for printed tables, figures and
      paired comparisons.
    tells_states: whether correct labels are distinct from unclear ones.
    notes: for readers of the numbers, one line each.
  """

  images: Mapping[str, reviews_lib.Reviewed]
  subsets: Mapping[str, Mapping[str, np.ndarray]]
  results: Sequence[records.ModelResult]
  kinds: Mapping[str, str]
  fitted: frozenset[str]
  rows: pd.DataFrame
  shown: tuple[str, ...]
  tells_states: bool
  notes: tuple[str, ...]

  @property
  def datasets(self) -> dict[str, records.Dataset]:
    return {name: found.dataset for name, found in self.images.items()}

  def names(self, *kinds: str) -> list[str]:
    """Returns the classifiers of some kinds, sorted by name."""
    return sorted(name for name, kind in self.kinds.items() if kind in kinds)

  def right(self, dataset: str, metric: str) -> dict[str, np.ndarray]:
    """Returns classifier -> bool [N]; `metric` must be a plain share."""
    least = annotations.UNCLEAR
    if metric.endswith("icml2020"):
      least = annotations.CORRECT
    return {
      result.model: result.outcomes.code >= least
      for result in self.results
      if result.dataset == dataset
    }

  def hits(self, metric: str, only_all: bool) -> list[paired_table.Hits]:
    """Returns the hits of each shown data set, for paired comparisons."""
    return [
      paired_table.Hits(
        name,
        metric,
        self.right(name, metric),
        {
          subset: mask
          for subset, mask in self.subsets[name].items()
          if subset == summary.ALL or not only_all
        },
      )
      for name in self.shown
    ]

  def answers(self, dataset: str, metric: str) -> hard_images.Answers:
    """Returns the answers of all public models and humans on a data set."""
    found, right = self.images[dataset], self.right(dataset, metric)
    size = len(found.dataset)
    models, persons = (
      [name for name in self.names(kind) if name in right]
      for kind in (people_lib.MODEL, people_lib.PERSON)
    )
    named = {
      result.model: result.outcomes.top1
      for result in self.results
      if result.dataset == dataset
    }

    def stack(arrays, names: Sequence[str]) -> np.ndarray:
      return np.array([arrays[n] for n in names]).reshape(len(names), size)

    return hard_images.Answers(
      dataset=found.dataset,
      codes=found.label_sets.codes,
      models_named=stack(named, models).astype(np.int64),
      models_right=stack(right, models).astype(bool),
      people_right=stack(right, persons).astype(bool),
      tells_states=self.tells_states,
    )


def build_reviewed(
  collection: clone.Collection, reviews: reviews_lib.Reviews
) -> ImageSection | None:
  """Returns the results of a clone's models on all reviewed images.

  None if no data set of the clone has such an image.

  Raises:
    InputError: a model has the name of a majority.
  """
  section_names.check(collection)
  images, notes = {}, []
  for name, dataset in collection.datasets.items():
    found = reviews_lib.select_reviewed(dataset, reviews)
    if found is None:
      notes.append(f"{name}: left out, it has no reviewed images")
      continue
    images[name] = found
    notes.append(
      f"{name}: all numbers are on {len(found.rows):,} of its"
      f" {len(dataset):,} images, those that are reviewed and not problematic"
    )
  if not images:
    return None
  kinds = {
    p.model: OWN if p.model in collection.own else people_lib.MODEL
    for name in images
    for p in collection.predictions[name]
  }
  public = frozenset(n for n, kind in kinds.items() if kind != OWN)
  results = []
  for name, found in images.items():
    evaluator = evaluate.RankingEvaluator(found.dataset, found.label_sets)
    chosen = [found.cut(p) for p in collection.predictions[name]]
    chosen += _majority(
      chosen, public, MODELS_MAJORITY, found.dataset.num_classes
    )
    results += evaluate.map_in_threads(evaluator, chosen)
  if any(result.model == MODELS_MAJORITY for result in results):
    kinds[MODELS_MAJORITY] = people_lib.ENSEMBLE
  return _section(images, results, kinds, public, reviews, {}, notes)


def build_human(
  study: people_lib.HumanStudy,
  reviews: reviews_lib.Reviews,
  collection: clone.Collection | None,
) -> ImageSection:
  """Returns the results of humans and models on the images humans labeled.

  Models are those of the file, and yours; the clone's only if the file has
  none. Fits use the models of the paper's notebook: every name of the file
  without "human" in it, including its majority of models.

  Raises:
    InputError: a model has the name of another classifier or of a majority.
  """
  section_names.check(collection, study, reviews.path)
  kinds, notes = dict(study.kinds), list(study.notes)
  fitted = frozenset(n for n in kinds if "human" not in n)
  if collection is not None:
    with_public = people_lib.MODEL not in kinds.values()
    for p in (p for found in collection.predictions.values() for p in found):
      if p.model in collection.own:
        kinds[p.model] = OWN
      elif with_public:
        kinds[p.model] = people_lib.MODEL
    if with_public:
      fitted = frozenset(n for n in kinds if kinds[n] == people_lib.MODEL)
    else:
      notes += section_names.compare_labels(study, collection)
  images, masks, results = {}, {}, []
  for name, image_set in study.image_sets.items():
    if not image_set.image_ids:
      continue
    images[name] = _reviewed_set(name, image_set, reviews)
    chosen = _predictions(name, study, images[name], collection, kinds, notes)
    fast = people_lib.is_fast(study.seconds[name])
    if not np.isnan(study.seconds[name]).all():
      masks[name] = {FAST: fast}
    results += _evaluate_with_fast(images[name], chosen, fast)
  for name in (PEOPLE_MAJORITY, MODELS_MAJORITY):
    if any(result.model == name for result in results):
      kinds[name] = people_lib.ENSEMBLE
  if collection is not None:
    there = {result.model for result in results}
    notes += section_names.note_absent(collection.own - there, images)
  return _section(images, results, kinds, fitted, reviews, masks, notes)


def _section(
  images, results, kinds, fitted, reviews, masks, notes
) -> ImageSection:
  own = {(r.dataset, r.model) for r in results if kinds[r.model] == OWN}
  shown, hidden = _choose_shown(images, [dataset for dataset, _ in own])
  kinds = {
    name: kind
    for name, kind in kinds.items()
    if any(result.model == name for result in results)
  }
  return ImageSection(
    images=images,
    subsets={
      name: {
        summary.ALL: np.ones(len(found.dataset), bool),
        **{
          subset: mask[found.dataset.labels]
          for subset, mask in found.dataset.subsets.items()
        },
        **masks.get(name, {}),
      }
      for name, found in images.items()
    },
    results=results,
    kinds=kinds,
    fitted=fitted & frozenset(kinds),
    rows=study_lib.order_rows(
      images,
      *(reviews_lib.drop_unknown(r.measurements, reviews) for r in results),
    ),
    shown=shown,
    tells_states=reviews.tells_states,
    notes=(*notes, *hidden),
  )


def _choose_shown(
  images: Mapping[str, reviews_lib.Reviewed], own: Sequence[str]
):
  """Returns the data sets of different images, and notes on the others.

  Of those with the same images, the first with the most results of your models
  is chosen.

  Args:
    images: by data set.
    own: data set of each result of your models.
  """
  alike: dict[tuple[str, ...], list[str]] = {}
  for name, found in images.items():
    image_ids = tuple(sorted(found.dataset.image_ids.tolist()))
    alike.setdefault(image_ids, []).append(name)
  shown, notes = [], []
  for names in alike.values():
    first = max(names, key=own.count)
    shown.append(first)
    notes += [
      f"{name}: same reviewed images as {first}; printed tables, figures,"
      " paired comparisons and mistakes show only the latter"
      for name in names
      if name != first
    ]
  return tuple(name for name in images if name in shown), notes


def _reviewed_set(
  name: str, image_set: people_lib.ImageSet, reviews: reviews_lib.Reviews
) -> reviews_lib.Reviewed:
  subsets = classes.subsets()
  whole = records.Dataset(
    name=name,
    image_ids=np.array(image_set.image_ids),
    labels=image_set.labels,
    class_names=classes.short_names(),
    subsets={subset: subsets[subset] for subset in datasets_lib.SUBSETS},
    path=reviews.path,
  )
  found = reviews_lib.select_reviewed(whole, reviews)
  assert found is not None and len(found.rows) == len(whole)
  return found


def _predictions(name, study, images, collection, kinds, notes):
  """Returns predictions of all classifiers on images that humans labeled."""
  path = images.dataset.path
  chosen = [
    records.RankedPredictions(model, name, named[:, None], path)
    for model, named in study.named[name].items()
  ]
  chosen += _select_from_clone(name, study, images, collection, kinds, notes)
  persons, models = (
    {p.model for p in chosen if kinds[p.model] == kind}
    for kind in (people_lib.PERSON, people_lib.MODEL)
  )
  num_classes = images.dataset.num_classes
  chosen += _majority(chosen, persons, PEOPLE_MAJORITY, num_classes)
  chosen += _majority(chosen, models, MODELS_MAJORITY, num_classes)
  return chosen


def _select_from_clone(name, study, images, collection, kinds, notes):
  """Returns predictions of the clone's models that the file lacks."""
  if collection is None or name not in collection.datasets:
    return []
  dataset = collection.datasets[name]
  place = {image: i for i, image in enumerate(dataset.image_ids.tolist())}
  image_ids = images.dataset.image_ids.tolist()
  absent = sum(image not in place for image in image_ids)
  if absent:
    notes.append(
      f"{name}: the clone's models are left out: {absent:,} of the"
      f" {len(image_ids):,} images that humans labeled are not in its list"
    )
    return []
  rows = np.array([place[image] for image in image_ids])
  return [
    dataclasses.replace(p, ranking=p.ranking[rows, :1])
    for p in collection.predictions[name]
    if p.model in kinds and p.model not in study.kinds
  ]


def _majority(chosen, voters, name: str, num_classes: int):
  """Returns a list of the majority's predictions; empty below three voters."""
  found = [p for p in chosen if p.model in voters]
  if len(found) < 3:
    return []
  named = people_lib.find_majority(
    [p.ranking[:, 0] for p in found], num_classes
  )
  return [
    records.RankedPredictions(
      name, found[0].dataset, named[:, None], found[0].path
    )
  ]


def _evaluate_with_fast(
  images, chosen, fast: np.ndarray
) -> list[records.ModelResult]:
  """Returns results with the fast images as one more subset."""
  evaluator = evaluate.RankingEvaluator(
    images.dataset, images.label_sets, ks=(1,)
  )
  results = evaluate.map_in_threads(evaluator, chosen)
  if not fast.any():
    return results
  only = dataclasses.replace(
    images.dataset,
    image_ids=images.dataset.image_ids[fast],
    labels=images.dataset.labels[fast],
    subsets={},
  )
  sets = images.label_sets
  sets = dataclasses.replace(
    sets,
    codes=sets.codes[fast],
    left_out=sets.left_out[fast],
    in_imagenet_m=sets.in_imagenet_m[fast],
  )
  evaluator = evaluate.RankingEvaluator(only, sets, ks=(1,))
  chosen = [dataclasses.replace(p, ranking=p.ranking[fast]) for p in chosen]
  found = []
  for result, other in zip(
    results, evaluate.map_in_threads(evaluator, chosen), strict=True
  ):
    more = {
      (model, dataset, FAST, metric): entry
      for (model, dataset, _, metric), entry in other.measurements.items()
    }
    every = {**result.measurements, **more}
    found.append(dataclasses.replace(result, measurements=every))
  return found
