"""Selects and sorts what a page shows; computes no metric."""

from collections.abc import Sequence
import dataclasses
import hashlib
from typing import Any

import numpy as np

from imgbench.labels import annotations
from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import probabilities
from imgbench.tables import entries

# Main accuracies of whole sets and of subsets.
FOR_A_GLANCE = (
  "top1_accuracy",
  "top5_accuracy",
  "multilabel_accuracy.tfds",
  "multilabel_accuracy.imagenet_m",
  "real_accuracy",
)
FOR_SUBSETS = ("top1_accuracy", "multilabel_accuracy.tfds", "real_accuracy")
# Subsets that Shankar et al. recommend to report separately.
KINDS = {
  "object": "objects",
  "organism": "organisms",
  "dog": "dogs",
  "organism_not_dog": "organisms except dogs",
}
# What annotators say of a prediction; wrong ones are shown first.
REVIEWS = {
  annotations.WRONG: "wrong",
  annotations.UNREVIEWED: "unreviewed",
  annotations.UNCLEAR: "unclear",
  annotations.CORRECT: "accepted",
}
MAX_ACROSS = 3  # data sets side by side
_MAX_TILES = 4


@dataclasses.dataclass(frozen=True)
class Mistake:
  """A top-1 prediction that is not the original label.

  Attributes:
    index: row in the file of predictions.
    image_id: of the image.
    label: original label.
    predicted: class.
    confidence: probability of the prediction.
    review: of REVIEWS; "" without reviewed labels.
  """

  index: int
  image_id: str
  label: int
  predicted: int
  confidence: float
  review: str = ""


def find_confused_pairs(
  confusion: np.ndarray,
  limit: int,
  predictions: inputs.Predictions | None = None,
) -> list[tuple[int, int, int]]:
  """Returns the most frequent (true, predicted, count) off the diagonal.

  Args:
    confusion: int64 [K, K], rows are true labels.
    limit: of the number of pairs; those with count 0 are omitted.
    predictions: with reviews: pairs with the most predictions that annotators
      do not accept come first.
  """
  counts = confusion.copy()
  np.fill_diagonal(counts, 0)
  mistaken = counts.copy()
  if predictions is not None and predictions.review is not None:
    accepted = predictions.review == annotations.CORRECT
    accepted &= predictions.label != predictions.top5[:, 0]
    pairs = predictions.label[accepted], predictions.top5[accepted, 0]
    np.subtract.at(mistaken, pairs, 1)
  # Stable: equal counts are in the order of the classes.
  order = np.lexsort((-counts.ravel(), -mistaken.ravel()))[:limit]
  num_classes = len(counts)
  pairs = [divmod(int(i), num_classes) for i in order]
  return [(t, p, int(counts[t, p])) for t, p in pairs if counts[t, p] > 0]


def find_top_confusion(
  confusion: np.ndarray | None, label: int
) -> tuple[int, int] | None:
  """Returns the most frequent wrong prediction of a class and its count."""
  if confusion is None:
    return None
  row = confusion[label].copy()
  row[label] = 0
  predicted = int(np.argmax(row))
  return (predicted, int(row[predicted])) if row[predicted] > 0 else None


def describe_reviews(
  predictions: inputs.Predictions | None, label: int, predicted: int
) -> str:
  """Returns e.g. "3 wrong, 9 accepted" of a pair; "" without reviews."""
  if predictions is None or predictions.review is None:
    return ""
  rows = predictions.label == label
  codes = predictions.review[rows & (predictions.top5[:, 0] == predicted)]
  counts = {word: int((codes == code).sum()) for code, word in REVIEWS.items()}
  return ", ".join(f"{n:,} {word}" for word, n in counts.items() if n)


def select_worst_classes(
  classes: Sequence[inputs.ClassRow], limit: int
) -> list[inputs.ClassRow]:
  """Returns the classes of lowest recall, worst first, without undefined."""
  known = [row for row in classes if row.recall is not None]
  return sorted(known, key=lambda r: (r.recall, -r.n, r.class_index))[:limit]


def select_mistakes(
  predictions: inputs.Predictions, limit: int
) -> list[Mistake]:
  """Returns the most confident wrong top-1 predictions, sorted.

  With reviews those that annotators call wrong come first, in the order of
  REVIEWS.
  """
  predicted = predictions.top5[:, 0]
  confidence = predictions.top5_prob[:, 0]
  wrong = (predicted >= 0) & (predicted != predictions.label)
  indices = np.flatnonzero(wrong & np.isfinite(confidence))
  reviews = [""] * len(predicted)
  rank = np.zeros(len(predicted), int)
  if predictions.review is not None:
    codes = predictions.review.tolist()
    reviews = [REVIEWS.get(code, "") for code in codes]
    places = {code: place for place, code in enumerate(REVIEWS)}
    rank = np.array([places.get(code, len(places)) for code in codes])
  order = np.lexsort((-confidence[indices], rank[indices]))[:limit]
  return [
    Mistake(
      index=int(i),
      image_id=str(predictions.image_id[i]),
      label=int(predictions.label[i]),
      predicted=int(predicted[i]),
      confidence=float(confidence[i]),
      review=reviews[i],
    )
    for i in indices[order]
  ]


def hash_mistakes(chosen: Sequence[Mistake]) -> str:
  """Returns a digest of mistakes, to recognize an image of them."""
  return hashlib.sha256(repr(list(chosen)).encode()).hexdigest()[:16]


def read_series(
  records: Sequence[dict], key: str
) -> tuple[list[int], list[float]]:
  """Returns steps and values of a logged metric, without null."""
  points = [
    (record["step"], record[key])
    for record in records
    if record.get(key) is not None
  ]
  return [step for step, _ in points], [value for _, value in points]


def find_logged_keys(records: Sequence[dict], ending: str) -> list[str]:
  """Returns the logged keys `<split>/<ending>`, train first."""
  keys = dict.fromkeys(
    key
    for record in records
    for key, value in record.items()
    if key.partition("/")[2] == ending and value is not None
  )
  return sorted(keys, key=lambda key: not key.startswith("train/"))


def select_curves(
  records: Sequence[dict], keys: Sequence[str], limit: int
) -> list[str]:
  """Returns at most `limit` keys, those logged more than once if any are.

  A run may evaluate many sets only at its end.
  """
  often = [key for key in keys if len(read_series(records, key)[0]) > 1]
  return (often or list(keys))[:limit]


def find_last(records: Sequence[dict], key: str):
  """Returns the last value logged under `key`, or None."""
  values = [r[key] for r in records if r.get(key) is not None]
  return values[-1] if values else None


def select_main(results: Sequence[entries.Row]) -> list[entries.Row]:
  """Returns the main rows of whole sets; pages fold the others."""
  return [
    row
    for row in results
    if row.subset == "all"
    and (specs.describe(row.metric).accuracy or specs.describe(row.metric).main)
  ]


def select_subsets(
  results: Sequence[entries.Row], dataset: str
) -> list[entries.Row]:
  """Returns the accuracies of a data set if it has subsets besides "all"."""
  rows = [
    row
    for row in results
    if row.dataset == dataset and specs.describe(row.metric).headline
  ]
  return rows if any(row.subset != "all" for row in rows) else []


def drop_training(run: inputs.Run) -> list[entries.Row]:
  """Returns the results without those on training data."""
  training = run.training
  return [row for row in run.results or () if row.dataset not in training]


def drop_repeats(
  run: inputs.Run, rows: Sequence[entries.Row]
) -> list[entries.Row]:
  """Returns the rows without metrics of images that another set covers too.

  Of a set with the images of another one, those on its own labels remain.
  """
  known = {(row.dataset, row.subset, row.metric) for row in rows}
  return [
    row
    for row in rows
    if (run.repeats.get(row.dataset), row.subset, row.metric) not in known
  ]


def fit_across(rows: Sequence[entries.Row]) -> bool:
  """Returns whether the data sets of these rows fit side by side."""
  return len({row.dataset for row in rows}) <= MAX_ACROSS


def find_kinds(rows: Sequence[entries.Row]) -> list[str]:
  """Returns which of KINDS there are."""
  there = {row.subset for row in rows}
  return [name for name in KINDS if name in there]


def find_leading(rows: Sequence[entries.Row]) -> list[str]:
  """Returns the data sets to show first: all, if they are few.

  Of many, those without a base set; the others have their own section.
  """
  datasets = list(dict.fromkeys(row.dataset for row in rows))
  if len(datasets) <= _MAX_TILES:
    return datasets
  compared = {row.dataset for row in rows if row.shift}
  return [name for name in datasets if name not in compared]


def select_tiles(run: inputs.Run) -> list[list[entries.Row]]:
  """Returns the main accuracies of each tile, the largest one first.

  A tile has a data set with all its parameters, without training data. Of many
  data sets, one with a drop from a base set follows those without it.
  """
  rows = drop_repeats(run, drop_training(run))
  families: dict[Any, dict[str, list[entries.Row]]] = {}
  for row in rows:
    family = families.setdefault(entries.family(row.dataset), {})
    family.setdefault(row.dataset, select_headline(rows, row.dataset))
  order = lambda row: row.metric not in FOR_A_GLANCE
  tiles = [
    # Averaged parameters have their main accuracy alone.
    [*sorted(first, key=order), *(sorted(o, key=order)[0] for o in others if o)]
    for first, *others in (family.values() for family in families.values())
    if first
  ]
  if len(tiles) > _MAX_TILES:
    shifted = [rows for rows in tiles if rows[0].shift]
    leading = [rows for rows in tiles if not rows[0].shift]
    tiles = leading[: _MAX_TILES - len(shifted[:1])] + shifted
  return tiles[:_MAX_TILES]


def select_drawn(run: inputs.Run) -> list[str]:
  """Returns the charted data sets with all figures: of many, those of tiles."""
  keys = [dataset.key for dataset in run.charted]
  tiles = {rows[0].dataset for rows in select_tiles(run)}
  few = len(keys) <= _MAX_TILES
  return [key for key in keys if few or key in tiles]


def sort_metrics(rows: Sequence[entries.Row], limit: int) -> list[str]:
  """Returns the first `limit` metrics of the rows in the order of tables."""
  names = dict.fromkeys(row.metric for row in rows)
  return sorted(names, key=specs.rank)[:limit]


def find_limits(rows: Sequence[entries.Row]) -> tuple[float, float]:
  """Returns the lowest and the highest of all values and interval bounds."""
  numbers = [
    number
    for row in rows
    for number in (row.value, row.ci_low, row.ci_high)
    if number is not None
  ]
  return (min(numbers), max(numbers)) if numbers else (0.0, 1.0)


def select_headline(
  results: Sequence[entries.Row], dataset: str
) -> list[entries.Row]:
  """Returns the main accuracies of a whole set, top-1 first."""
  rows = [
    row
    for row in results
    if row.dataset == dataset
    and row.subset == "all"
    and specs.describe(row.metric).headline
  ]
  return sorted(rows, key=lambda row: specs.rank(row.metric))


def select_bins(
  reliability: probabilities.Reliability | None, least: int
) -> list[int]:
  """Returns the bins with at least `least` examples."""
  if reliability is None:
    return []
  return [i for i, n in enumerate(reliability.count) if n >= least]
