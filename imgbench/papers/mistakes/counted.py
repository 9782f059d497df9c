"""Counts of reviewed mistakes: by category and severity, by pair of classes."""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
import re
from typing import NamedTuple

from imgbench import errors
from imgbench.metrics import measurement
from imgbench.metrics import summary
from imgbench.papers import records
from imgbench.papers.mistakes import reviewed as mistakes_lib
from imgbench.papers.readers import datasets
from imgbench.tables import frame

ALL = "all"
# The paper's analysis has two severities and counts borderline as minor.
MINOR_OR_BORDERLINE = "Minor or Borderline"
GROUPS: Mapping[str, tuple[str, ...]] = {
  **{severity: (severity,) for severity in mistakes_lib.SEVERITIES},
  MINOR_OR_BORDERLINE: ("Minor", "Borderline"),
  ALL: mistakes_lib.SEVERITIES,
}
_MEASURE = measurement.Measurer(alpha=0.05)


def name_metric(category: str, severity: str, reviewed: str = "") -> str:
  """Returns the name of a share in table.csv.

  Args:
    category: of the mistakes, or ALL.
    severity: of GROUPS.
    reviewed: model whose mistakes another one repeats; "": the share of this
      kind among a model's mistakes.

  Returns:
    E.g. "mistakes.fine_grained_error.major", "repeated_mistakes.vit3b.all.all".
  """
  parts = ("repeated_mistakes", reviewed) if reviewed else ("mistakes",)
  words = (re.sub("[^a-z0-9]+", "_", x.lower()) for x in (category, severity))
  return ".".join((*parts, *words))


class Images:
  """Original labels and subsets of the images of mistakes.

  Args:
    dataset: ImageNet's validation set or its annotated part; None: unknown,
      then the only subset is "all".
  """

  def __init__(self, dataset: records.Dataset | None):
    self.dataset = dataset
    self._places = {}
    if dataset is not None:
      names = dataset.image_ids.tolist()
      self._places = {name: place for place, name in enumerate(names)}

  def check(self, reviewed: mistakes_lib.ModelMistakes) -> None:
    """Raises InputError unless all are wrong predictions on these images.

    A prediction that equals the original label means that classes are numbered
    in another order, or that the files do not belong together.
    """
    if self.dataset is None:
      return
    for mistake in reviewed.mistakes:
      if mistake.image not in self._places:
        expected = f"images of {self.dataset.path}"
        raise errors.InputError(reviewed.path, expected, mistake.image)
      if mistake.prediction == self._label(mistake):
        where = f"{reviewed.path}: {mistake.image}"
        expected = f"a prediction other than the label in {self.dataset.path}"
        raise errors.InputError(where, expected, mistake.prediction)

  def split_by_subset(
    self, mistakes: Iterable[mistakes_lib.ReviewedMistake]
  ) -> dict[str, list[mistakes_lib.ReviewedMistake]]:
    """Returns the mistakes of "all" and of each subset by original label."""
    mistakes = list(mistakes)
    found = {summary.ALL: mistakes}
    if self.dataset is not None:
      for name, mask in self.dataset.subsets.items():
        found[name] = [m for m in mistakes if mask[self._label(m)]]
    return found

  def count_pairs(
    self, mistakes: Iterable[mistakes_lib.ReviewedMistake]
  ) -> tuple[mistakes_lib.Pair, ...]:
    """Counts pairs of original label and prediction; needs a data set."""
    return mistakes_lib.sort_pairs(
      collections.Counter((self._label(m), m.prediction) for m in mistakes)
    )

  def find_repeated(
    self,
    mistakes: Iterable[mistakes_lib.ReviewedMistake],
    predictions: records.RankedPredictions,
  ) -> list[mistakes_lib.ReviewedMistake]:
    """Returns the mistakes that a model repeats; needs a data set.

    Its top-1 prediction for the image is the same wrong class, so that the
    reviewers' judgment applies. Its other mistakes were not reviewed.
    """
    top1 = predictions.ranking[:, 0]
    return [m for m in mistakes if top1[self._places[m.image]] == m.prediction]

  def _label(self, mistake: mistakes_lib.ReviewedMistake) -> int:
    return int(self.dataset.labels[self._places[mistake.image]])


def compute_shares(
  model: str,
  by_subset: Mapping[str, Sequence[mistakes_lib.ReviewedMistake]],
  categories: Sequence[str],
) -> frame.Measurements:
  """Returns the share of each kind among the mistakes in a subset.

  Args:
    model: that made the mistakes.
    by_subset: mistakes.
    categories: in the order of the table; ALL follows.
  """
  text = "share of the reviewed mistakes that is of this category and severity"
  return {
    (model, datasets.VALIDATION_20K, subset, name_metric(*kind)): (
      _MEASURE.proportion(count, len(found), text)
    )
    for subset, found in by_subset.items()
    for kind, count in count_mistakes(found, categories).items()
  }


def compute_repeated_shares(
  model: str,
  reviewed: str,
  by_subset: Mapping[str, Sequence[mistakes_lib.ReviewedMistake]],
  again: Mapping[str, Sequence[mistakes_lib.ReviewedMistake]],
  categories: Sequence[str],
) -> frame.Measurements:
  """Returns the share that a model repeats among mistakes of each kind.

  Args:
    model: that repeats mistakes.
    reviewed: model that made them.
    by_subset: mistakes of `reviewed`.
    again: the repeated ones, by subset.
    categories: in the order of the table; ALL follows.
  """
  text = (
    "share of the reviewed mistakes of this category and severity for which"
    " the model predicts the same wrong class"
  )
  found = {}
  for subset, mistakes in by_subset.items():
    repeated = count_mistakes(again[subset], categories)
    for kind, count in count_mistakes(mistakes, categories).items():
      share = _MEASURE.proportion(repeated[kind], count, text)
      what = (
        model,
        datasets.VALIDATION_20K,
        subset,
        name_metric(*kind, reviewed),
      )
      found[what] = share
  return found


def count_mistakes(
  mistakes: Iterable[mistakes_lib.ReviewedMistake], categories: Sequence[str]
) -> dict[tuple[str, str], int]:
  """Returns (category, severity) -> number, with sums over either."""
  single = collections.Counter((m.category, m.severity) for m in mistakes)
  found = {}
  for category in (*categories, ALL):
    rows = categories if category == ALL else [category]
    for severity, members in GROUPS.items():
      kinds = itertools.product(rows, members)
      found[category, severity] = sum(single[kind] for kind in kinds)
  return found


class Overlap(NamedTuple):
  """Overlap of two models' mistakes in numbers of images.

  Attributes:
    model: name of a model.
    other: name of the other.
    images: both are wrong.
    same_prediction: both name the same class.
    same_category: same prediction and reviewed category.
    same_severity: same prediction and reviewed severity.
  """

  model: str
  other: str
  images: int
  same_prediction: int
  same_category: int
  same_severity: int


def find_overlaps(
  reviewed: Sequence[mistakes_lib.ModelMistakes],
) -> list[Overlap]:
  """Returns the overlap of each pair of models."""
  return [
    _find_overlap(first, second)
    for first, second in itertools.combinations(reviewed, 2)
  ]


def _find_overlap(first, second) -> Overlap:
  others = {m.image: m for m in second.mistakes}
  both = [(m, others[m.image]) for m in first.mistakes if m.image in others]
  same = [(a, b) for a, b in both if a.prediction == b.prediction]
  return Overlap(
    first.model,
    second.model,
    len(both),
    len(same),
    sum(a.category == b.category for a, b in same),
    sum(a.severity == b.severity for a, b in same),
  )
