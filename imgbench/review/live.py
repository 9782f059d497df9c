"""Multi-label accuracies of a data set's models, as reviews change them.

Counts by original class are kept for each model. A review changes those of
models that predict its class; `metrics` computes values, bounds and intervals.
Intervals take 30 ms a model, so a thread computes them after the values.
"""

from collections.abc import Iterator
import dataclasses
import math
import os
import sqlite3
import threading
import time

import numpy as np

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import review_database
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import measurement
from imgbench.metrics import multilabel
from imgbench.metrics import summary
from imgbench.papers.readers import datasets
from imgbench.review import order

_KS = (1,)
_COLUMNS = counts_lib.column_names(_KS, _KS)
NONE = -1  # class and code where a model has no prediction
_IDLE = 12  # the thread rests so many times as long as it works
_COUNTS = (
  "problematic IS NULL AND (entry IS NOT NULL OR EXISTS (SELECT 1 FROM"
  " prediction p WHERE p.image = image.id AND state > 0))"
)


@dataclasses.dataclass(frozen=True)
class Result:
  """Measurements of a model, by subset and metric.

  Attributes:
    id, name: of the model.
    rows: subset -> metric -> measurement.
    current: false while intervals are missing.
  """

  id: int
  name: str
  rows: dict[str, summary.Measurements]
  current: bool


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Which of two models has the higher accuracy, see `order`.

  Attributes:
    low, high: bounds of the first accuracy minus the second, fractions.
    least: reviews that can decide the order.
    most: reviews that decide it with any results; the first ones of `open`.
    open: (effect, image id, class, model 0 or 1) of all unreviewed predictions
      that change the difference, the largest effect, a fraction, first.
    n: images that count and that both models predicted.
  """

  low: float
  high: float
  least: int
  most: int
  open: list[tuple[float, int, int, int]]
  n: int


def read_masks(connection: sqlite3.Connection) -> dict[str, np.ndarray]:
  """Returns subset -> bool [K] of the database's classes, "all" first."""
  rows = connection.execute("SELECT subsets FROM class ORDER BY id")
  of_class = [set(text.split(",")) - {""} for (text,) in rows]
  # Bootstraps depend on the order of the subsets.
  known = dict.fromkeys((*datasets.SUBSETS, *sorted(set().union(*of_class))))
  masks = {n: np.array([n in found for found in of_class]) for n in known}
  used = {name: mask for name, mask in masks.items() if mask.any()}
  return {summary.ALL: np.ones(len(of_class), bool), **used}


def find_flags(label, top1, code, counted, in_m) -> np.ndarray:
  """Returns bool [..., F]: columns of counts for images that models predict.

  `code` is the state of `top1`; NONE: no prediction. Arguments broadcast.
  """
  counted = counted & (code != NONE)
  lenient = counted & (code >= annotations.UNCLEAR)
  unreviewed = counted & (code == annotations.UNREVIEWED)
  values = {
    **dict.fromkeys(("count", "reviewed_count"), counted),
    ("top", 1): counted & (top1 == label),
    ("strict", 1): counted & (code == annotations.CORRECT),
    **{"lenient_hits": lenient, "unreviewed": unreviewed},
    "imagenet_m_count": counted & in_m,
    "imagenet_m_hits": lenient & in_m,
    "imagenet_m_unreviewed": unreviewed & in_m,
    "non_finite": counted & False,
  }
  return np.stack([values[name] for name in _COLUMNS], axis=-1)


def count_flags(flags: np.ndarray, label: np.ndarray, size: int) -> np.ndarray:
  """Returns int32 [K + 1, F], the counts by label of bool [N, F]."""
  counts = [np.bincount(label[found], minlength=size + 1) for found in flags.T]
  return np.stack(counts, axis=-1).astype(np.int32)


def measure_counts(
  table: np.ndarray, masks, knows_m: bool, bootstrap: bool = True
) -> dict[str, summary.Measurements]:
  """Returns subset -> metric -> measurement of the counts of a model."""
  measure = measurement.Measurer(0.05, bootstrap=bootstrap)
  counts = counts_lib.Counts(table, _KS, _KS)
  kind = summary.REVIEWED
  rows = summary.set_accuracies(measure, counts, masks, kind, knows_m)
  for name, mask in masks.items():
    rows[name] |= summary.label_accuracies(measure, counts, mask)
  return rows


class Accuracies:
  """Accuracies of all models on a data set; for use in threads.

  Args:
    path: of the database.
    dataset: id of the data set. InputError: it has no images.

  Attributes:
    event: the last event that the numbers include.
    masks: subset -> bool [K], "all" first.
    models: (id, name) of those with predictions, by name.
  """

  def __init__(self, path: str | os.PathLike[str], dataset: int):
    self._path, self._dataset = path, dataset
    self._lock, self._thread = threading.RLock(), threading.Thread()
    with review_database.open_read_only(path) as connection:
      self._build(connection)

  def _build(self, connection: sqlite3.Connection) -> None:
    """Reads everything, in seconds for 64 models of 40,000 images."""
    run = connection.execute
    (self.event,) = run("SELECT ifnull(max(id), 0) FROM event").fetchone()
    self.masks = read_masks(connection)
    size = len(self.masks[summary.ALL])
    query = f"SELECT id, label, {_COUNTS}, imagenet_m FROM image"
    query += " WHERE dataset = ? ORDER BY id"
    rows = run(query, (self._dataset,)).fetchall()
    errors.check(bool(rows), "dataset", "one with images", self._dataset)
    self._knows_m = any(row[-1] is not None for row in rows)
    columns = np.array([[x or 0 for x in row] for row in rows]).T
    self.images, self._label, *flags = columns
    self._counted, self._in_m = np.array(flags) > 0
    states = np.zeros((len(rows), size), np.int8)
    images = f"image BETWEEN {rows[0][0]} AND {rows[-1][0]}"
    query = f"SELECT image, class, state FROM prediction WHERE {images}"
    place, classes, state = self._read(connection, query)
    states[place, classes] = state
    self.models, top1 = [], []
    for model, name in run("SELECT id, name FROM model ORDER BY name"):
      query = "SELECT image, class, 0 FROM model_prediction WHERE model ="
      place, classes, _ = self._read(
        connection, f"{query} {model} AND {images}"
      )
      if len(place):
        self.models.append((model, name))
        top1.append(np.full(len(rows), NONE, np.int16))
        top1[-1][place] = classes
    self._top1 = np.array(top1, np.int16).reshape(-1, len(rows))
    code = states[np.arange(len(rows)), self._top1]
    self._code = np.where(self._top1 == NONE, np.int8(NONE), code)
    self._table = np.zeros((len(top1), size + 1, len(_COLUMNS)), np.int32)
    for m in range(len(top1)):
      flags = self._flags(m, slice(None))
      self._table[m] = count_flags(flags, self._label, size)
    # Larger than before an import, so that no thread keeps older numbers.
    self._version = np.full(len(top1), self.event)
    self._measured: dict[tuple[int, str], tuple[int, dict]] = {}

  def _read(self, connection, query: str) -> np.ndarray:
    """Returns int64 [3, n]; image ids become places, others are left out."""
    found = np.array(connection.execute(query).fetchall(), np.int64)
    found = found.reshape(-1, 3).T
    here = np.isin(found[0], self.images)
    found[0] = np.searchsorted(self.images, found[0])
    return found[:, here]

  def _flags(self, m, i) -> np.ndarray:
    """Returns bool [N, F] of a model and images, or of models and an image."""
    of_model = self._top1[m, i], self._code[m, i]
    return find_flags(
      self._label[i], *of_model, self._counted[i], self._in_m[i]
    )

  def catch_up(self) -> None:
    """Includes all events since the last call, also of other processes."""
    query = "SELECT id, kind, image FROM event WHERE id > ? ORDER BY id"
    opened = review_database.open_read_only(self._path)
    with self._lock, opened as connection:
      found = connection.execute(query, (self.event,)).fetchall()
      if any(kind == "import" for _, kind, _ in found):
        self._build(connection)
      elif found:
        for image in {i for _, kind, i in found if kind == "consensus"}:
          self._read_image(connection, image)
        self.event = found[-1][0]

  def _read_image(self, connection: sqlite3.Connection, image: int) -> None:
    """Reads the states of an image again, and changes the counts."""
    i = int(np.searchsorted(self.images, image))
    if i == len(self.images) or self.images[i] != image:
      return  # of another data set
    before = self._flags(slice(None), i)
    query = f"SELECT {_COUNTS} FROM image WHERE id = ?"
    self._counted[i] = connection.execute(query, (image,)).fetchone()[0]
    query = "SELECT class, state FROM prediction WHERE image = ?"
    states = dict(connection.execute(query, (image,))) | {NONE: NONE}
    self._code[:, i] = [states[k] for k in self._top1[:, i].tolist()]
    after = self._flags(slice(None), i)
    self._table[:, self._label[i]] += after.astype(np.int32) - before
    self._version += (after != before).any(axis=1)

  def _measure(self, m: int, subset: str = "") -> Result:
    """Returns a model's measurements: all with intervals; else a subset's.

    They are kept until its counts change.
    """
    with self._lock:
      version, counts = int(self._version[m]), self._table[m].copy()
      known, rows = self._measured.get((m, subset), (NONE, {}))
      knows_m, model = self._knows_m, self.models[m]
      masks = {subset: self.masks[subset]} if subset else self.masks
    if known != version:
      rows = measure_counts(counts, masks, knows_m, not subset)
      self._measured[m, subset] = version, rows
    return Result(*model, rows, not subset)

  def measure(self, model: int) -> Result:
    """Returns the measurements of a model. Raises InputError: unknown."""
    self.catch_up()
    return self._measure(self._find(model))

  def _find(self, model: int) -> int:
    ids = [number for number, _ in self.models]
    errors.check(model in ids, "model", "one with predictions here", model)
    return ids.index(model)

  def overview(self, subset: str = summary.ALL) -> list[Result]:
    """Returns the measurements of all models on a subset, up to date.

    Intervals that are not are left out. Raises InputError: unknown subset.
    """
    expected = f"one of {', '.join(self.masks)}"
    errors.check(subset in self.masks, "subset", expected, subset)
    self.catch_up()
    with self._lock:
      stale = set(self._stale())
      if stale and not self._thread.is_alive():
        self._thread = threading.Thread(target=self._refresh)
        self._thread.start()
    places = range(len(self.models))
    return [self._measure(m, subset if m in stale else "") for m in places]

  def _stale(self) -> Iterator[int]:
    """Yields the places of models whose intervals are not current."""
    for m, version in enumerate(self._version.tolist()):
      if self._measured.get((m, ""), (NONE, {}))[0] != version:
        yield m

  def _refresh(self) -> None:
    """Computes missing intervals; rests, so that pages are not delayed."""
    while (m := next(self._stale(), None)) is not None:
      if not threading.main_thread().is_alive():
        return  # the program ends
      start = time.thread_time()
      self._measure(m)
      time.sleep(_IDLE * (time.thread_time() - start))

  def compare(self, a: int, b: int, definition: str) -> Comparison:
    """Compares two models in one of `multilabel.DEFINITIONS`.

    If both predict the same class, its state changes nothing. Reviews are
    taken to make no image problematic. Raises InputError: unknown model or
    definition, or a class mean without images of each class.
    """
    known = multilabel.DEFINITIONS
    expected = f"one of {', '.join(known)}"
    errors.check(definition in known, "definition", expected, definition)
    rule = known[definition]
    self.catch_up()
    with self._lock:
      both = [self._find(a), self._find(b)]
      # The rows are images here, not classes.
      flags = [
        np.pad(self._flags(m, slice(None)), ((0, 1), (0, 0))) for m in both
      ]
      differ = self._top1[both[0]] != self._top1[both[1]]
    of = [counts_lib.Counts(table, _KS, _KS) for table in flags]
    counted = rule.count(of[0]) & rule.count(of[1])
    sizes = np.bincount(self._label[counted], minlength=len(self.masks["all"]))
    if not rule.class_mean:
      sizes[:] = counted.sum()
    errors.check(sizes.all(), "definition", "images of each class", definition)
    scale = math.lcm(*sizes.tolist())  # whole numbers: ties are exact
    weights = [scale // size for size in sizes.tolist()]
    low = high = 0
    found = []
    for model, counts in enumerate(of):
      total = lambda rows: sum(weights[k] for k in self._label[rows])
      hits = total(counted & differ & rule.hits(counts)) * (-1) ** model
      unknown = np.flatnonzero(counted & differ & rule.unreviewed(counts))
      low += hits - model * total(unknown)
      high += hits + (1 - model) * total(unknown)
      top1 = self._top1[both[model]]
      found += [
        (-weights[self._label[i]], int(self.images[i]), int(top1[i]), model)
        for i in unknown
      ]
    found.sort()
    least, most = order.count_reviews(low, high, [-w for w, *_ in found])
    whole = scale * (len(sizes) if rule.class_mean else 1)
    listed = [(-weight / whole, *rest) for weight, *rest in found]
    n = int(counted.sum())
    return Comparison(low / whole, high / whole, least, most, listed, n)
