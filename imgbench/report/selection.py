"""What of a run is worth showing: choosing and sorting, never computing."""

from collections.abc import Sequence
import dataclasses
import hashlib

import numpy as np

from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import probabilities
from imgbench.tables import entries

# Accuracies that people ask for first, of whole sets and of subsets.
FOR_A_GLANCE = (
  "top1_accuracy",
  "top5_accuracy",
  "multilabel_accuracy.tfds",
  "multilabel_accuracy.imagenet_m",
  "real_accuracy",
)
FOR_SUBSETS = ("top1_accuracy", "multilabel_accuracy.tfds", "real_accuracy")
# The subsets that are recommended to be shown apart.
_KINDS = ("object", "organism", "dog")
MAX_ACROSS = 3  # data sets that can be read side by side
_MAX_TILES = 4


@dataclasses.dataclass(frozen=True)
class Mistake:
  """A wrong top-1 prediction; `confidence` is its probability."""

  index: int
  image_id: str
  label: int
  predicted: int
  confidence: float


def confused_pairs(
  confusion: np.ndarray, limit: int
) -> list[tuple[int, int, int]]:
  """The most frequent (true, predicted, count) off the diagonal.

  Args:
    confusion: int64 [K, K], rows true labels.
    limit: at most so many; pairs with count 0 are left out.
  """
  counts = confusion.copy()
  np.fill_diagonal(counts, 0)
  # Stable, so that equal counts come in the order of the classes.
  order = np.argsort(-counts, axis=None, kind="stable")[:limit]
  num_classes = len(counts)
  pairs = [divmod(int(i), num_classes) for i in order]
  return [(t, p, int(counts[t, p])) for t, p in pairs if counts[t, p] > 0]


def taken_for(
  confusion: np.ndarray | None, label: int
) -> tuple[int, int] | None:
  """The wrong class that `label` is most often taken for, and how often."""
  if confusion is None:
    return None
  row = confusion[label].copy()
  row[label] = 0
  predicted = int(np.argmax(row))
  return (predicted, int(row[predicted])) if row[predicted] > 0 else None


def worst_classes(
  classes: Sequence[inputs.ClassRow], limit: int
) -> list[inputs.ClassRow]:
  """Classes of lowest recall, the worst first; undefined ones are left out."""
  known = [row for row in classes if row.recall is not None]
  return sorted(known, key=lambda r: (r.recall, -r.n, r.class_index))[:limit]


def mistakes(predictions: inputs.Predictions, limit: int) -> list[Mistake]:
  """Wrong top-1 predictions of highest confidence, the most confident first."""
  predicted = predictions.top5[:, 0]
  confidence = predictions.top5_prob[:, 0]
  wrong = (predicted >= 0) & (predicted != predictions.label)
  indices = np.flatnonzero(wrong & np.isfinite(confidence))
  order = np.argsort(-confidence[indices], kind="stable")[:limit]
  return [
    Mistake(
      index=int(i),
      image_id=str(predictions.image_id[i]),
      label=int(predictions.label[i]),
      predicted=int(predicted[i]),
      confidence=float(confidence[i]),
    )
    for i in indices[order]
  ]


def digest(chosen: Sequence[Mistake]) -> str:
  """Names a choice of mistakes, to know a picture of it again."""
  return hashlib.sha256(repr(list(chosen)).encode()).hexdigest()[:16]


def series(records: Sequence[dict], key: str) -> tuple[list[int], list[float]]:
  """Steps and values of a logged metric; missing and null ones left out."""
  points = [
    (record["step"], record[key])
    for record in records
    if record.get(key) is not None
  ]
  return [step for step, _ in points], [value for _, value in points]


def logged_keys(records: Sequence[dict], ending: str) -> list[str]:
  """Keys `<split>/<ending>` that were ever logged, train first."""
  keys = dict.fromkeys(
    key
    for record in records
    for key, value in record.items()
    if key.partition("/")[2] == ending and value is not None
  )
  return sorted(keys, key=lambda key: not key.startswith("train/"))


def worth_a_curve(
  records: Sequence[dict], keys: Sequence[str], limit: int
) -> list[str]:
  """At most `limit` of the keys; not those logged once, if others are not.

  A run may be evaluated on many sets, on most of them when it ends.
  """
  often = [key for key in keys if len(series(records, key)[0]) > 1]
  return (often or list(keys))[:limit]


def last(records: Sequence[dict], key: str):
  """The last value logged under `key`, or None."""
  values = [r[key] for r in records if r.get(key) is not None]
  return values[-1] if values else None


def main_rows(results: Sequence[entries.Row]) -> list[entries.Row]:
  """What is said of whole sets at once; the other rows can be folded."""
  return [
    row
    for row in results
    if row.subset == "all"
    and (specs.describe(row.metric).accuracy or specs.describe(row.metric).main)
  ]


def subset_rows(
  results: Sequence[entries.Row], dataset: str
) -> list[entries.Row]:
  """Accuracies of a data set, if it has subsets beside "all"."""
  rows = [
    row
    for row in results
    if row.dataset == dataset and specs.describe(row.metric).headline
  ]
  return rows if any(row.subset != "all" for row in rows) else []


def without_training(run: inputs.Run) -> list[entries.Row]:
  """The results, without those on training data."""
  training = run.training
  return [row for row in run.results or () if row.dataset not in training]


def fit_across(rows: Sequence[entries.Row]) -> bool:
  """Whether their data sets can be read side by side."""
  return len({row.dataset for row in rows}) <= MAX_ACROSS


def kinds(rows: Sequence[entries.Row]) -> list[str]:
  """Objects, organisms and dogs, as far as they are there."""
  there = {row.subset for row in rows}
  return [name for name in _KINDS if name in there]


def leading(rows: Sequence[entries.Row]) -> list[str]:
  """Data sets that are named first: all, if they are few.

  Of many, those that are compared with a base set have a place of their own.
  """
  datasets = list(dict.fromkeys(row.dataset for row in rows))
  if len(datasets) <= _MAX_TILES:
    return datasets
  compared = {row.dataset for row in rows if row.shift}
  return [name for name in datasets if name not in compared]


def first_metrics(rows: Sequence[entries.Row], limit: int) -> list[str]:
  """The metrics of `rows`, in the order of a table, at most `limit`."""
  names = dict.fromkeys(row.metric for row in rows)
  return sorted(names, key=specs.rank)[:limit]


def limits(rows: Sequence[entries.Row]) -> tuple[float, float]:
  """The lowest and the highest fraction among values and intervals."""
  numbers = [
    number
    for row in rows
    for number in (row.value, row.ci_low, row.ci_high)
    if number is not None
  ]
  return (min(numbers), max(numbers)) if numbers else (0.0, 1.0)


def headline(results: Sequence[entries.Row], dataset: str) -> list[entries.Row]:
  """The main accuracies of the whole set, top-1 first."""
  rows = [
    row
    for row in results
    if row.dataset == dataset
    and row.subset == "all"
    and specs.describe(row.metric).headline
  ]
  return sorted(rows, key=lambda row: specs.rank(row.metric))


def shown_bins(
  reliability: probabilities.Reliability | None, least: int
) -> list[int]:
  """Bins with at least so many examples: of fewer, the share is chance."""
  if reliability is None:
    return []
  return [i for i, n in enumerate(reliability.count) if n >= least]
