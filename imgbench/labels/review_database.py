"""Reads the labels of a database of imgbench review, with sqlite3 only."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import functools
import json
import os
import pathlib
import sqlite3
from typing import Any

from imgbench import errors
from imgbench.labels import annotations

APPLICATION_ID = 0x494D4752  # "IMGR"
NEWEST = 2  # version of the tables that `read` knows
_SMALLEST = 512  # bytes of a database
# Keys of annotations that TFDS ignores.
SIDE, LABELS = "imgbench_reviews", "imgbench_labels"
ORIGINAL = "original"  # the data set in LABELS, beside its labelers
STATES = {
  annotations.CORRECT: "correct",
  annotations.UNCLEAR: "unclear",
  annotations.WRONG: "wrong",
}
_VOTES = {**STATES, 4: "don't know"}
_TIME = "strftime('%Y-%m-%d %H:%M:%f+00:00', {}, 'unixepoch')"
_TASKS = "JOIN task ON task = task.id AND mode = 'evaluation'"
_LABELS = f"""
SELECT 'human_' || user.name, json_group_object(image.name,
  json_object('label', wnid, 'extra_info', json_object(
    'start_time', {_TIME.format("shown")},
    'end_time', {_TIME.format("confirmed")})))
FROM answer {_TASKS} JOIN user ON user = user.id JOIN image ON image = image.id
  JOIN class ON class = class.id
WHERE confirmed <= ifnull((SELECT time FROM event WHERE id = ?), confirmed)
GROUP BY user.id
UNION ALL
SELECT '{ORIGINAL}', json_group_object(image.name, json_object('label', wnid))
FROM task_image {_TASKS} JOIN image ON image = image.id
  JOIN class ON label = class.id
WHERE task IN (SELECT task FROM answer WHERE class IS NOT NULL)"""


def is_database(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file is an SQLite database.

  SQLite itself looks: a process that closes a file of its own loses the locks
  that its connections have on it, and others then delete their log.
  """
  path = pathlib.Path(path)
  try:
    with open_read_only(path) as connection:
      connection.execute("PRAGMA schema_version")
  except sqlite3.Error as error:
    if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
      return False
  return path.is_file() and path.stat().st_size >= _SMALLEST


def check(path: str | os.PathLike[str], setting: str, newest: int) -> int:
  """Returns the version of a review database.

  Args:
    path: of the file.
    setting: flag or file that errors name.
    newest: highest version that is understood.

  Raises:
    InputError: no such file, damaged, of another program, or newer.
  """
  expected = "a database of imgbench review"
  if not is_database(path):
    exists = pathlib.Path(path).exists()
    given = f"{path}, another file" if exists else f"{path}, which is missing"
    fix = "imgbench review init --db=FILE makes one"
    raise errors.InputError(setting, expected, given, fix)
  try:
    with open_read_only(path) as connection:
      (kind,) = connection.execute("PRAGMA application_id").fetchone()
      (version,) = connection.execute("PRAGMA user_version").fetchone()
      (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
  except sqlite3.Error as error:
    raise errors.InputError(setting, expected, f"{path}: {error}") from error
  errors.check(kind == APPLICATION_ID, setting, expected, f"{path}, another's")
  errors.check(state == "ok", setting, expected, f"{path}, damaged: {state}")
  if not 1 <= version <= newest:
    limit = f"version 1 to {newest}"
    given, fix = f"{path}, version {version}", "use a newer imgbench"
    raise errors.InputError(setting, f"{expected}, {limit}", given, fix)
  return version


@contextlib.contextmanager
def open_read_only(
  path: str | os.PathLike[str],
) -> Iterator[sqlite3.Connection]:
  """Yields a connection that only reads, one state of the database."""
  path = pathlib.Path(path).resolve()
  uri = f"{path.as_uri()}?mode=ro"
  # SQLite writes beside the file, unless it is told that nobody can.
  if not (os.access(path.parent, os.W_OK) or os.path.exists(f"{path}-wal")):
    uri += "&immutable=1"
  with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
    connection.execute("BEGIN")
    yield connection


def read(path: str | os.PathLike[str], at: str | None = None) -> dict[str, Any]:
  """Returns the labels in the keys of human_accuracy_v3.0.0.json.

  What no review changed is as it was imported, also unknown keys. A changed
  label is the last one of its list, several in the order of their classes.

  LABELS has answers to evaluation tasks: "human_" and the name of a labeler ->
  image -> label and times; ORIGINAL -> the same of the data set's labels.

  Args:
    path: of a database.
    at: number of an event, or name of a release: the labels as they were then.
      Votes that were changed since are missing in SIDE.

  Raises:
    InputError: see `check`; an unknown event.
  """
  version = check(path, f"{path}", NEWEST)
  with open_read_only(path) as connection:
    event = find_event(connection, at)
    content = _read(connection, event)
    rows = connection.execute(_LABELS, (event,)) if version > 1 else ()
    labels = {n: dict(sorted(json.loads(text).items())) for n, text in rows}
  if len(labels) > 1:  # that of the data set, and those of labelers
    content[LABELS] = add_labels(content.get(LABELS, {}), labels)
  return content


def find_event(connection: sqlite3.Connection, at: str | None) -> int | None:
  """Returns the event that `at` of `read` means. Raises InputError."""
  if at is None:
    return None
  query = (
    "SELECT max(id) FROM event"
    " WHERE CAST(id AS TEXT) = ?1 OR kind = 'release' AND note = ?1"
  )
  (event,) = connection.execute(query, (at,)).fetchone()
  if event is None:
    expected = "the number of an event or the name of a release"
    raise errors.InputError("--at", expected, repr(at))
  return event


def _read(connection: sqlite3.Connection, at: int | None) -> dict[str, Any]:
  query = "SELECT value FROM setting WHERE name = 'annotations'"
  (found,) = connection.execute(query).fetchone() or ("{}",)
  imported = json.loads(found)
  changed, reasons = _read_changes(connection, at)
  content = dict.fromkeys(
    (*imported.get("keys", ()), "initial_annots", "problematic_images")
  ) | imported.get("extra", {})
  content |= {"initial_annots": {}, "problematic_images": {}}
  order: list[tuple[int, str]] = []
  for row, name, entry, reason, place, event in connection.execute(
    "SELECT id, name, entry, reason, imagenet_m, annotated FROM image"
    " ORDER BY id"
  ):
    if at is not None and (event or 0) > at:
      entry = reason = place = None
    once = name not in content["initial_annots"]
    errors.check(once, "image ids", "different ones in all data sets", name)
    labels = changed.get(row, ())
    if entry is not None or any(state for _, state in labels):
      content["initial_annots"][name] = _change(entry, labels)
    before = None if reason is None else describe_problem(json.loads(reason))
    problem = reasons.get(row, before)
    if problem is not None:
      kept = problem == before
      content["problematic_images"][name] = (
        json.loads(reason) if kept else problem
      )
    if place:
      order.append((place, name))
  known = imported.get("imagenet_m", False)
  content["imagenet_m"] = [name for _, name in sorted(order)] if known else None
  side = add_rows(imported.get("side", []), _list_votes(connection, at))
  return content | ({SIDE: side} if side or SIDE in content else {})


def add_rows(rows: list[Any], others: Iterable[Any]) -> list[Any]:
  """Returns JSON values and those of others that are not among them."""
  text = functools.partial(json.dumps, sort_keys=True)
  known = set(map(text, rows))
  return rows + [row for row in others if text(row) not in known]


def add_labels(
  labels: dict[str, Any], others: dict[str, Any]
) -> dict[str, Any]:
  """Returns LABELS with those of others, which replace the same images."""
  return labels | {n: labels.get(n, {}) | found for n, found in others.items()}


def describe_problem(reason) -> str:
  """Returns image.problematic for a JSON value of problematic_images."""
  return annotations.find_reason(reason) or "other"


def _read_changes(connection: sqlite3.Connection, at: int | None):
  """Returns row of image -> changed (wnid, state), and -> problem or None."""
  changed: dict[int, list[tuple[str, int]]] = {}
  reasons: dict[int, str | None] = {}
  if at is None:
    found = connection.execute(
      "SELECT image, wnid, state FROM prediction JOIN class ON class = class.id"
      " WHERE state != imported ORDER BY image, class"
    )
    reasons |= connection.execute("SELECT id, problematic FROM image")
  else:
    # SQLite takes the other columns from the row of the maximum. What is open
    # before an import follows the import.
    latest = (
      "(SELECT max(id) AS id, image, target, state, reason FROM event"
      " WHERE id <= ?1 AND kind = 'consensus' GROUP BY image, target) AS latest"
    )
    found = connection.execute(
      f"SELECT latest.image, wnid, latest.state FROM {latest}"
      " JOIN prediction ON (prediction.image, class) = (latest.image, target)"
      " JOIN class ON class = class.id JOIN image ON latest.image = image.id"
      " WHERE latest.state != iif(annotated > ?1, 0, imported)"
      " AND (latest.state OR latest.id > ifnull(annotated, 0))"
      " ORDER BY latest.image, target",
      (at,),
    )
    query = "SELECT image, iif(latest.state = 3, latest.reason, NULL)"
    query += f" FROM {latest} JOIN image ON image = image.id WHERE target = -1"
    query += " AND (latest.state = 3 OR latest.id > ifnull(annotated, 0))"
    reasons |= connection.execute(query, (at,))
  for image, wnid, state in found:
    changed.setdefault(image, []).append((wnid, state))
  return changed, reasons


def _change(entry: str | None, labels) -> dict[str, Any]:
  """Returns an entry of initial_annots with changed labels."""
  found = json.loads(entry or "{}")
  for wnid, state in labels:
    for name in STATES.values():
      if wnid in found.get(name, ()):
        found[name] = [other for other in found[name] if other != wnid]
    if state:
      found[STATES[state]] = [*found.get(STATES[state], ()), wnid]
  return found


def _list_votes(connection: sqlite3.Connection, at: int | None):
  """Yields the reviews as the rows that review merge writes."""
  query = (
    "SELECT image.name, wnid, state, vote.reason, note, user.name FROM vote"
    " JOIN image ON image = image.id JOIN user ON user = user.id"
    " LEFT JOIN class ON target = class.id WHERE NOT control"
    " AND event <= ? ORDER BY image, target, user.name, vote.panel"
  )
  for image, wnid, state, reason, note, user in connection.execute(
    query, (2**62 if at is None else at,)
  ):
    row = {"image_id": image}
    if wnid is not None:
      row |= {"wnid": wnid, "state": _VOTES[state]}
    elif state == annotations.CORRECT:
      row["problematic"] = reason
    else:
      continue
    row |= {"note": note} if note else {}
    yield row | {"reviewer": user}
