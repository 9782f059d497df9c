"""Writes imported data into the database of a review."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import re
import sqlite3
import time
from typing import Any

import numpy as np

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.labels import review_database
from imgbench.labels import review_table
from imgbench.papers import own_sets
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.papers.readers import reviews as reviews_lib
from imgbench.prepare.fake_imagenet import plan
from imgbench.review import decide
from imgbench.review import store

_VALIDATION = "imagenet2012:validation"
# Names that mean the same image in every data set.
_SHARED_NAME = re.compile(r"ILSVRC2012_\w+\.JPEG|[0-9a-f]{40}")
_KEYS = ("initial_annots", "problematic_images", "imagenet_m")
_BEFORE = "the same as imported before"


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """Images of a data set, and predictions for them.

  Attributes:
    dataset: name, see `name_dataset`.
    names: N image ids.
    labels: int [N], classes of the database.
    models: name -> file or folder, and int [N], the most probable class or -1.
    spec: where the images are, see `images`; None: unknown.
    synthetic: whether they are.
  """

  dataset: str
  names: Sequence[str]
  labels: np.ndarray
  models: Mapping[str, tuple[str, np.ndarray]]
  spec: Mapping[str, str] | None = None
  synthetic: bool = False

  def take(self, keep: np.ndarray) -> "Images":
    """Returns some of the images, by bool [N]."""
    names = np.array(self.names)[keep].tolist()
    models = {name: (path, x[keep]) for name, (path, x) in self.models.items()}
    changed = {"names": names, "labels": self.labels[keep], "models": models}
    return dataclasses.replace(self, **changed)


def name_dataset(name: str) -> str:
  """Returns the name that databases have for a public set or a run's key."""
  public = own_sets.PUBLIC_NAMES.get(name, name)
  if public in (datasets_lib.VALIDATION, datasets_lib.VALIDATION_20K):
    return _VALIDATION
  names = {public: key for key, public in own_sets.PUBLIC_NAMES.items()}
  return names.get(public, public)


def check_content(where: str, content: Any) -> None:
  """Raises InputError unless a file has the keys of human_accuracy's JSON."""
  reviews_lib.check_kind(where, content, dict, "an object")
  reviews_lib.check_keys(where, content, _KEYS)
  for key in _KEYS[:2]:
    reviews_lib.check_kind(f"{where}: {key}", content[key], dict, "an object")


class Importer:
  """Writes into a database, within one transaction.

  Args:
    connection: to the database.
    text: what is imported, for the event log.

  Attributes:
    annotated: images with earlier reviews, by `review_table.find_id`.
  """

  def __init__(self, connection: sqlite3.Connection, text: str):
    self._connection, self._text = connection, text
    self._changes = connection.total_changes
    self._secret = store.read_setting(connection, "secret")
    query = "SELECT ifnull(max(id), 0) + 1 FROM event"
    (self._event,) = connection.execute(query).fetchone()
    query = "SELECT wnid, id FROM class ORDER BY id"
    self._classes: dict[str, int] = dict(map(tuple, connection.execute(query)))
    query = "SELECT name, id FROM dataset"
    self._datasets: dict[str, int] = dict(map(tuple, connection.execute(query)))
    self._ids: dict[tuple[str, str], int] = {}
    self._labels: dict[int, int] = {}
    self.annotated: set[str] = set()
    for row, dataset, name, label, annotated in connection.execute(
      "SELECT image.id, dataset.name, image.name, label, entry IS NOT NULL"
      " FROM image JOIN dataset ON dataset = dataset.id"
    ):
      key = _make_key(dataset, name)
      self._ids[key], self._labels[row] = row, label
      if annotated:
        self.annotated.add(key[1])

  def add(self, found: Images) -> None:
    """Adds images and predictions. Raises InputError: they are others."""
    if not len(found.names):
      return
    name = found.dataset
    if name not in self._datasets:
      query = "INSERT INTO dataset (name, synthetic) VALUES (?, ?)"
      added = self._connection.execute(query, (name, found.synthetic))
      self._datasets[name] = added.lastrowid
    if found.spec:
      self.set_images(name, found.spec, "AND images = ''")
    ids = self._add_images(found)
    for model, (path, top) in found.models.items():
      self._add_model(model, path, ids, top, name)

  def _add_images(self, found: Images) -> np.ndarray:
    """Returns int64 [N], the rows of images, after adding new ones."""
    first = max(self._labels, default=0) + 1
    ids, new = [], []
    for name, label in zip(found.names, found.labels.tolist(), strict=True):
      key = _make_key(found.dataset, name)
      row = self._ids.setdefault(key, first + len(new))
      if row not in self._labels:
        self._labels[row] = label
        public = store.hide_name(self._secret, *key)
        new.append((row, public, self._datasets[found.dataset], name, label))
      known, where = self._labels[row], f"{found.dataset}: label of {name}"
      errors.check(known == label, where, f"{known}, as before", label)
      ids.append(row)
    reviews_lib.check_distinct(found.dataset, ids)
    columns = "id, public_id, dataset, name, label"
    query = f"INSERT INTO image ({columns}) VALUES (?, ?, ?, ?, ?)"
    self._connection.executemany(query, new)
    # The label is reviewed as predictions are.
    query = "INSERT INTO prediction (image, class) SELECT id, label FROM image"
    self._connection.execute(f"{query} WHERE id >= ?", (first,))
    return np.array(ids)

  def _add_model(self, model, path, ids, top, dataset) -> None:
    """Adds the predictions of a model. Raises InputError: it had others."""
    execute = self._connection.execute
    query = "SELECT id FROM model WHERE name = ?"
    (number,) = execute(query, (model,)).fetchone() or (None,)
    query = "SELECT image, class FROM model_prediction WHERE model = ?"
    before = dict(map(tuple, execute(query, (number,))))
    given = zip(ids.tolist(), top.tolist(), strict=True)
    pairs = {image: index for image, index in given if index >= 0}
    others = sum(before.get(i, index) != index for i, index in pairs.items())
    if others:
      fix, given = "give the model another name", f"{others:,} others"
      raise errors.InputError(f"{model} on {dataset}", _BEFORE, given, fix)
    new = sorted(pairs.items() - before.items())
    if not new:
      return
    merged = np.array(sorted((before | pairs).items()), "<i8")
    digest = hashlib.sha256(merged.tobytes()).hexdigest()
    if number is None:
      query = "INSERT INTO model (name, source, sha256, created)"
      values = (model, path, digest, time.time())
      number = execute(f"{query} VALUES (?, ?, ?, ?)", values).lastrowid
    else:
      query = "UPDATE model SET sha256 = ? WHERE id = ?"
      execute(query, (digest, number))
    query = f"INSERT INTO model_prediction VALUES ({number}, ?, ?)"
    self._connection.executemany(query, new)

  def find(self, name: str, dataset: str = "") -> int | None:
    """Returns the row of an image; None if no or several data sets have it."""
    sets = [dataset] if dataset else self._datasets
    rows = {self._ids.get(_make_key(each, name)) for each in sets} - {None}
    return rows.pop() if len(rows) == 1 else None

  def add_annotations(
    self, where: str, content: Any, dataset: str = ""
  ) -> None:
    """Adds reviewed labels and problematic images.

    Args:
      where: their file, for errors.
      content: with the keys of human_accuracy_v3.0.0.json.
      dataset: of the images, if only they are meant.

    Raises:
      InputError: another structure, an unknown class or image, other labels
        than those that were imported before.
    """
    check_content(where, content)
    entries, problems, slice_m = (content[key] for key in _KEYS)
    place = f"{where}: imagenet_m"
    reviews_lib.check_kind(place, slice_m, list | None, "a list or null")
    unknown = [name for name in slice_m or () if str(name) not in entries]
    reviews_lib.check_known(place, "images of initial_annots", unknown)
    reviews_lib.check_distinct(place, slice_m or ())
    known = {
      row: (name, entry, reason, in_m)
      for row, name, entry, reason, in_m in self._connection.execute(
        "SELECT id, name, entry, reason, imagenet_m FROM image"
        " WHERE annotated IS NOT NULL"
      )
    }
    start = 1 + max((m or 0 for *_, m in known.values()), default=0)
    places = {name: start + i for i, name in enumerate(slice_m or ())}
    names = list(dict.fromkeys((*entries, *problems)))
    rows = self._find_images(where, names, dataset)
    images, labels = [], []
    for row, name in zip(rows, names, strict=True):
      states = self._read_states(f"{where}: {name}", entries.get(name, {}))
      # An absent value is SQL's NULL.
      texts = [
        json.dumps(x[name]) if name in x else None for x in (entries, problems)
      ]
      in_m = None if slice_m is None else places.get(name, 0)
      if row in known:
        same = known[row][1:3] == tuple(texts) and bool(known[row][3]) == bool(
          in_m
        )
        errors.check(same, f"{where}: {name}", _BEFORE, "another")
        continue
      problem = problems.get(name)
      problem = texts[1] and review_database.describe_problem(problem)
      images.append((name, *texts, in_m, self._event, problem, row))
      labels += [(row, index, state, state) for index, state in states]
    self._connection.executemany(
      "UPDATE image SET name = ?, entry = ?, reason = ?, imagenet_m = ?,"
      " annotated = ?, problematic = ifnull(problematic, ?) WHERE id = ?",
      images,
    )
    # A decision of reviewers stays.
    self._connection.executemany(
      "INSERT INTO prediction (image, class, imported, state)"
      " VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
      " state = iif(state = imported, excluded.state, state),"
      " imported = excluded.imported",
      sorted(labels),
    )
    self._keep_others(where, content)

  def _read_states(self, where: str, entry: Any) -> list[tuple[int, int]]:
    """Returns classes and states of an entry; the better of two counts."""
    reviews_lib.check_kind(where, entry, dict, "an object")
    found: dict[int, int] = {}
    for state, code in reviews_lib.STATES.items():
      listed = entry.get(state, [])
      reviews_lib.check_kind(f"{where}: {state}", listed, list, "a list")
      unknown = [wnid for wnid in listed if str(wnid) not in self._classes]
      reviews_lib.check_known(f"{where}: {state}", "known classes", unknown)
      found |= {self._classes[wnid]: code for wnid in listed}
    return list(found.items())

  def _keep_others(self, where: str, content: Mapping[str, Any]) -> None:
    """Keeps the other keys of a file for exports. Raises InputError."""
    side_key = review_database.SIDE
    kept = store.read_setting(self._connection, "annotations", {})
    extra = dict(kept.get("extra", {}))
    labels_key = review_database.LABELS
    for key in content.keys() - {*_KEYS, side_key, labels_key}:
      same = extra.setdefault(key, content[key]) == content[key]
      errors.check(same, f"{where}: {key}", _BEFORE, "another")
    if labels_key in content:  # More people may have labeled since.
      found = content[labels_key]
      reviews_lib.check_kind(f"{where}: {labels_key}", found, dict, "an object")
      for name, images in found.items():
        text = f"{where}: {labels_key}[{name!r}]"
        reviews_lib.check_kind(text, images, dict, "an object")
      before = extra.get(labels_key, {})
      extra[labels_key] = review_database.add_labels(before, found)
    given = content.get(side_key, [])
    reviews_lib.check_kind(f"{where}: {side_key}", given, list, "a list")
    new = {
      "keys": list(dict.fromkeys((*kept.get("keys", ()), *content))),
      "extra": extra,
      "side": review_database.add_rows(kept.get("side", []), given),
      "imagenet_m": bool(kept.get("imagenet_m"))
      or content["imagenet_m"] is not None,
    }
    if new != kept:
      store.write_setting(self._connection, "annotations", new)

  def _find_images(
    self, where: str, names: Sequence[str], dataset: str
  ) -> list[int | None]:
    """Returns rows of images; those of ImageNet's validation set are added."""
    missing = [name for name in names if self.find(name, dataset) is None]
    if missing:
      imagenet = tuple(self._classes) == classes.imagenet_classes().wnids
      try:
        errors.check(imagenet, "classes", "ImageNet's", "others")
        places = [real.image_number(name) - 1 for name in missing]
      except errors.InputError as error:
        expected = f"{len(names):,} images of the database"
        given = f"{len(missing):,} others, e.g. {missing[0]}"
        fix = "import predictions for them too, such as --repo=CLONE"
        raise errors.InputError(where, expected, given, fix) from error
      labels = np.array(plan.validation_labels())[places]
      self.add(Images(_VALIDATION, missing, labels, {}))
    rows = [self.find(name, dataset) for name in names]
    reviews_lib.check_distinct(where, rows)
    return rows

  def add_suggestions(self, pairs: Iterable[tuple[str, Iterable[int]]]) -> None:
    """Adds classes of images for review; other images are ignored."""
    found = ((self.find(name), labels) for name, labels in pairs)
    rows = [(row, int(label)) for row, ids in found if row for label in ids]
    query = "INSERT OR IGNORE INTO prediction (image, class) VALUES (?, ?)"
    self._connection.executemany(query, sorted(rows))

  def add_near_duplicates(self, where: str, content: Any) -> None:
    """Adds the category to images; other images are ignored."""
    reviews_lib.check_kind(where, content, dict, "an object")
    rows = []
    for name, others in content.items():
      reviews_lib.check_kind(f"{where}: {name}", others, list, "a list")
      if row := self.find(name):
        rows.append((row, store.IMAGE, ", ".join(map(str, others))))
    query = "INSERT OR IGNORE INTO category VALUES (?, ?, 'near duplicate', ?)"
    self._connection.executemany(query, sorted(rows))

  def set_images(
    self, dataset: str, spec: Mapping[str, str], condition: str = ""
  ) -> None:
    """Sets where the images of a data set are. Raises InputError."""
    name = name_dataset(dataset)
    expected = f"one of {', '.join(self._datasets) or 'none, import it first'}"
    errors.check(name in self._datasets, "--images", expected, dataset)
    query = "UPDATE dataset SET images = ?1 WHERE id = ?2 AND images != ?1"
    values = (json.dumps(spec, sort_keys=True), self._datasets[name])
    self._connection.execute(f"{query} {condition}", values)

  def finish(self) -> None:
    """Counts the models of all predictions, and logs a change."""
    self._connection.execute(
      "INSERT INTO prediction (image, class, models)"
      " SELECT image, class, count(*) FROM model_prediction"
      " WHERE true GROUP BY image, class"
      " ON CONFLICT DO UPDATE SET models = excluded.models"
      " WHERE models != excluded.models"
    )
    if self._connection.total_changes > self._changes:
      values = {"id": self._event, "note": self._text}
      store.add_event(self._connection, "import", **values)
      # An undo of a reviewer's category leaves that of the import.
      self._connection.execute(
        "INSERT INTO event (time, kind, image, target, state, reason, note)"
        " SELECT ?, 'category', image, target, 3, category, note"
        " FROM category AS c WHERE NOT EXISTS (SELECT 1 FROM kept_event AS e"
        " WHERE e.image = c.image AND e.kind = 'category' AND e.target ="
        " c.target AND e.reason = c.category AND e.state IS NOT NULL)",
        (time.time(),),
      )
      # Earlier votes on whether an image counts stay.
      query = "SELECT DISTINCT image FROM vote JOIN image ON image = image.id"
      query += " WHERE target = ? AND annotated = ?"
      found = self._connection.execute(query, (store.IMAGE, self._event))
      for (image,) in found.fetchall():
        decide.update_consensus(self._connection, image, store.IMAGE)
      self._connection.execute(
        "UPDATE item SET open = NOT open WHERE open != (control OR EXISTS"
        " (SELECT 1 FROM open_prediction AS o WHERE o.image = item.image))"
      )


def _make_key(dataset: str, name: str) -> tuple[str, str]:
  """Returns what identifies an image: its name, perhaps with its data set."""
  name = review_table.find_id(name)
  return ("" if _SHARED_NAME.fullmatch(name) else dataset), name
