"""Labeling tasks: giving images, confirming classes, feedback of training.

Functions take a connection of `store`; those that write need a transaction.
They raise InputError for a value that does not fit. An answer is final once it
cannot change: at once in training, with its part in evaluation. Its class is
then open for reviewers.
"""

import collections
from collections.abc import Collection
from collections.abc import Sequence
import json
import sqlite3
import time
from typing import Any

from imgbench import errors
from imgbench.labels import annotations
from imgbench.review import decide
from imgbench.review import store

MODES = ("training", "evaluation")
POPUPS = ("always", "error", "never")
SUGGESTED = "suggested problematic"  # category of images
_PART, _GROUP = 1_000, 6  # most images of a part, classes of a group


def _check(*rows: tuple[str, Any, str, Any]) -> None:
  for setting, holds, expected, given in rows:
    errors.check(bool(holds), setting, expected, given)


def _list(connection, query: str, *values) -> list[Any]:
  """Returns the first column of a query."""
  return [row[0] for row in connection.execute(query, values)]


def _check_known(flag: str, names: Sequence[str], known: Collection[str]):
  unknown = [name for name in names if name not in known]
  few = 0 < len(known) < 20
  expected = " or ".join(known) if few else "names of the database"
  _check((flag, not unknown, expected, ", ".join(unknown[:1])))


def choose_images(
  connection: sqlite3.Connection,
  dataset: str,
  *,
  sample: int = 0,
  names: Sequence[str] = (),
  subset: str = "",
  classes: Sequence[str] = (),
  seed: int = 0,
) -> list[int]:
  """Returns ids of images for a task, in an order that the seed tells.

  They are those of `names` or, without, all but problematic ones and those of
  guides and other tasks; of them those with a label in a subset of the classes,
  such as dog, or among wnids; of them `sample`, if that is not 0.
  """
  known = _list(connection, "SELECT name FROM dataset")
  _check_known("--dataset", [dataset], known)
  rows = store.fetch(connection, "task choice", dataset=dataset)
  _check_known("--images", names, {row["name"] for row in rows})
  _check_known("--group", classes, _list(connection, "SELECT wnid FROM class"))
  chosen, labels = set(names), set(classes)
  told = [x["name"] for x in rows if x["guided"] and x["name"] in chosen][:1]
  _check(("--images", not told, "images that no guide shows", f"{told}"))
  found = [
    row
    for row in rows
    if (row["name"] in chosen if chosen else row["free"])
    and (not subset or subset in row["subsets"].split(","))
    and (not labels or row["wnid"] in labels)
  ]
  most = f"0 to {len(found)}, the number of free images that fit"
  _check(("images", found, "free ones that fit", "none"))
  _check(("--sample", 0 <= sample <= len(found), most, sample))
  order = lambda row: store.hide_name(f"{seed}", dataset, row["name"])
  return [row["id"] for row in sorted(found, key=order)][: sample or None]


def create_task(
  connection: sqlite3.Connection,
  name: str,
  mode: str,
  images: Sequence[int],
  users: Sequence[str] = (),
  part: int = 10,
  external: bool = False,
) -> int:
  """Adds a task of images in their order, in parts; returns its id.

  `users` are names of those who may label; `external` says whether they may use
  other sources.
  """
  new = name not in _list(connection, "SELECT name FROM task")
  fits = new and 0 < len(name) <= decide.NAME and name.strip() == name
  _check(
    ("name", fits, f"a new one of 1 to {decide.NAME} letters", repr(name)),
    ("mode", mode in MODES, " or ".join(MODES), mode),
    ("part", 1 <= part <= _PART, f"1 to {_PART}", part),
    ("images", images, "at least one", "none"),
  )
  query = "INSERT INTO task (name, mode, part, external, created)"
  values = (name, mode, part, int(external), time.time())
  task = connection.execute(f"{query} VALUES (?, ?, ?, ?, ?)", values).lastrowid
  rows = [(task, place, image) for place, image in enumerate(images)]
  connection.executemany("INSERT INTO task_image VALUES (?, ?, ?)", rows)
  set_access(connection, task, users)
  return task


def set_access(
  connection: sqlite3.Connection, task: int, users: Sequence[str]
) -> None:
  """Replaces the users who may label a task; answers are kept."""
  query = "SELECT name FROM user WHERE role != 'viewer'"
  _check_known("users", users, _list(connection, query))
  key = {"task": task, "users": json.dumps(list(users))}
  store.fetch(connection, "remove access", **key)
  store.fetch(connection, "add access", **key)


def _count(connection, task: int, user: int) -> tuple[int, sqlite3.Row]:
  """Returns the number of a labeler's images, and the row of progress."""
  (row,) = store.fetch(connection, "progress", task=task, user=user)
  return row["given"] + row["open"], row


def list_tasks(
  connection: sqlite3.Connection, user: int
) -> list[dict[str, Any]]:
  """Returns the open tasks of a user with progress.

  Keys: id, name, mode, part, external, popup, images (all of the user's), done
  (confirmed ones), parts, parts_done.
  """
  tasks = []
  for task in store.fetch(connection, "tasks", user=user, task=None):
    images, row = _count(connection, task["id"], user)
    # The last part may be shorter.
    parts, end = -(-images // task["part"]), row["final"] == images
    done = {"parts_done": parts if end else row["final"] // task["part"]}
    done |= {"images": images, "done": row["done"], "parts": parts}
    tasks.append({**task, **done})
  return tasks


def find_next(
  connection: sqlite3.Connection, task: int, user: int, now: float
) -> int | None:
  """Returns the image to label, given now if it is new; None: all are done."""
  key = {"task": task, "user": user}
  known = store.fetch(connection, "tasks", **key)
  _check(("task", known, "an open one of yours", "another"))
  found = store.fetch(connection, "unconfirmed", **key)
  found = found or store.fetch(connection, "give", **key, now=now)
  if not found:  # What was left of a part may have been reviewed meanwhile.
    _finish(connection, task, user)
  return found[0][0] if found else None


def _find(connection, task: int, user: int, image: int):
  """Returns the rows of a task and an answer; None: no access, not given."""
  key = {"task": task, "user": user}
  tasks = store.fetch(connection, "tasks", **key)
  answers = store.fetch(connection, "answer", **key, image=image)
  return (tasks[0], answers[0]) if tasks and answers else None


def describe_image(
  connection: sqlite3.Connection, task: int, user: int, image: int
) -> dict[str, Any] | None:
  """Returns what the page of an image shows; nothing tells the label.

  Keys: task, name, mode, external, popup; image, a public id; number and size
  in its part, and part of parts, from 1; selected and selected_name, a class or
  None; answered; previous and next, public ids of images that may be opened.

  None: no access, an image that was not given, or one of a closed part of an
  evaluation.
  """
  found = _find(connection, task, user, image)
  if not found or (found[0]["mode"] == "evaluation" and found[1]["final"]):
    return None
  row, answer = found
  images, _ = _count(connection, task, user)
  part, number = divmod(answer["place"], row["part"])
  return {
    **{name: row[name] for name in ("name", "mode", "popup")},
    **{"task": task, "external": bool(row["external"])},
    **{"image": answer["public_id"], "number": number + 1, "part": part + 1},
    "size": min(row["part"], images - part * row["part"]),
    "parts": -(-images // row["part"]),
    **{"selected": answer["class"], "selected_name": answer["name"]},
    **{"answered": answer["class"] is not None},
    **{name: answer[name] for name in ("previous", "next")},
  }


def confirm(
  connection: sqlite3.Connection,
  user: int,
  task: int,
  image: int,
  chosen: int,
  *,
  client: str,
  ms: int,
  external: bool,
  now: float,
) -> dict[str, Any]:
  """Writes the class that a labeler confirms for an image.

  A client id is written once; active times are added up; `external` says
  whether other sources were used. Raises LeaseError: the answer is final.

  Returns:
    feedback: whether to show it; closed: whether a part has ended; next: public
    id of a given image that is not confirmed, else None, see `find_next`.
  """
  found = _find(connection, task, user, image)
  if found is None:
    raise errors.InputError("image", "one of an open task of yours", "another")
  row, answer = found
  query = "SELECT task, user, image FROM confirmation WHERE client = ?"
  before = connection.execute(query, (client,)).fetchone()
  same = before is None or tuple(before) == (task, user, image)
  allowed = row["external"] or not external
  known = _list(connection, "SELECT 1 FROM class WHERE id = ?", chosen)
  _check(
    ("class", known, "a class", chosen),
    ("client", same and 0 < len(client) <= decide.NAME, "a new id", client),
    ("ms", 0 <= ms <= decide.MS, f"0 to {decide.MS}", ms),
    ("external", allowed, "no other sources", external),
  )
  key = {"task": task, "user": user, "image": image}
  if before is None:
    if answer["final"]:
      raise decide.LeaseError("this answer is final")
    event = {**key, "target": chosen, "ms": ms, "now": now, "client": client}
    store.fetch(connection, "confirm", **event, external=int(external))
    store.fetch(connection, "log confirmation", **event)
  images, counts = _count(connection, task, user)
  end = counts["done"] == images
  full = counts["done"] == counts["given"] and not counts["done"] % row["part"]
  if before is None and (end or full or row["mode"] == "training"):
    _finish(connection, task, user)
  (answer,) = store.fetch(connection, "answer", **key)
  last = end or (answer["place"] + 1) % row["part"] == 0
  left = store.fetch(connection, "unconfirmed", **key)
  wrong = not _judge(connection, answer)[0]
  shown = row["popup"] == "always" or (row["popup"] == "error" and wrong)
  return {
    "feedback": row["mode"] == "training" and shown,
    "closed": bool(answer["final"] and last),
    "next": left[0]["public_id"] if left else None,
  }


def _finish(connection, task: int, user: int) -> None:
  """Makes the confirmed answers final, and queues their classes for review."""
  for image, target in store.fetch(connection, "finish", task=task, user=user):
    store.fetch(connection, "add class", image=image, target=target)
    store.fetch(connection, "update open", image=image)


def _judge(connection, answer) -> tuple[bool, dict[int, dict[str, Any]]]:
  """Returns whether an answer is right, and class -> row of the image.

  The label counts as correct unless it was reviewed.
  """
  key = {"image": answer["image"], "label": answer["label"]}
  found = store.fetch(connection, "states", **key, target=answer["class"])
  rows = {row["class"]: dict(row) for row in found}
  state = rows[answer["class"]]["state"]
  unreviewed = answer["class"] == answer["label"] and not state
  right = (annotations.CORRECT, annotations.UNCLEAR)
  return unreviewed or state in right, rows


def give_feedback(
  connection: sqlite3.Connection, task: int, user: int, image: int
) -> dict[str, Any] | None:
  """Returns the feedback on an answer of training; None: there is none.

  Keys: own and label, classes with class, wnid, name, state and guide; others,
  a list of further reviewed ones; right; problem, why the image is problematic,
  or None; suggestion, problematic and note of the labeler.
  """
  found = _find(connection, task, user, image)
  if not found or found[0]["mode"] != "training" or found[1]["class"] is None:
    return None
  answer, guides = found[1], decide.find_guides(connection)
  right, rows = _judge(connection, answer)
  for row in rows.values():
    row["guide"] = guides.get(row["wnid"])
  own, label = rows[answer["class"]], rows[answer["label"]]
  others = [x for x in rows.values() if x["state"] and x not in (own, label)]
  given = {x: answer[x] for x in ("suggestion", "problematic", "note")}
  given |= {"right": right, "problem": answer["problem"]}
  return {"own": own, "label": label, "others": others, **given}


def suggest(
  connection: sqlite3.Connection,
  user: int,
  task: int,
  image: int,
  *,
  state: int | None,
  problematic: str,
  note: str,
) -> None:
  """Keeps what a labeler suggests on an image of training; it is no vote.

  `state` is that of a vote on the own class, or None; `problematic` one of
  decide.REASONS, or "".
  """
  reasons = ("", *decide.REASONS)
  answered = give_feedback(connection, task, user, image)
  fits = state is None or 1 <= state <= store.DONT_KNOW
  _check(
    ("image", answered, "one of training that you answered", "another"),
    ("state", fits, f"1 to {store.DONT_KNOW} or null", state),
    ("problematic", problematic in reasons, ", ".join(reasons), problematic),
    ("note", len(note) <= decide.NOTE, f"{decide.NOTE} letters", len(note)),
  )
  given = {"state": state, "problematic": problematic, "note": note}
  key = {"task": task, "user": user, "image": image}
  store.fetch(connection, "suggest", **key, **given)
  query = "SELECT 1 FROM answer WHERE image = ? AND problematic != ''"
  wanted = _list(connection, query, image)
  query = "SELECT 1 FROM category WHERE image = ? AND category = ?"
  if bool(wanted) != bool(_list(connection, query, image, SUGGESTED)):
    # Of no user: it is no action that the user's undo takes back.
    key = {"kind": "category", "target": store.IMAGE, "reason": SUGGESTED}
    key |= {"user": None, "image": image, "campaign": None}
    decide.change(connection, key, state=1 if wanted else None)


def set_popup(
  connection: sqlite3.Connection, user: int, task: int, popup: str
) -> None:
  """Sets when a user sees the feedback of a task: one of POPUPS."""
  known = store.fetch(connection, "tasks", user=user, task=task)
  _check(
    ("popup", popup in POPUPS, " or ".join(POPUPS), popup),
    ("task", known, "an open one of yours", "another"),
  )
  query = "UPDATE task_user SET popup = ? WHERE task = ? AND user = ?"
  connection.execute(query, (popup, task, user))


def suggest_groups(
  connection: sqlite3.Connection,
  dataset: str,
  models: Sequence[str] = (),
  most: int = 20,
) -> list[dict[str, Any]]:
  """Returns groups of 2 to 6 classes that models confuse, the worst first.

  The pairs of classes with the most errors are merged first. Keys: classes
  (wnids), names, errors (within the group), share of all errors, images (free
  ones of the classes). No models: all.
  """
  known = _list(connection, "SELECT name FROM model")
  _check_known("--models", models, known)
  among = json.dumps(list(models or known))
  key = {"dataset": dataset, "models": among}
  pairs: collections.Counter[frozenset[int]] = collections.Counter()
  for label, other, number in store.fetch(connection, "confusions", **key):
    pairs[frozenset((label, other))] += number
  groups: dict[int, frozenset[int]] = {}
  for pair, _ in sorted(pairs.items(), key=lambda x: (-x[1], sorted(x[0]))):
    merged = frozenset().union(*(groups.get(x, {x}) for x in pair))
    if len(merged) <= _GROUP:
      groups |= dict.fromkeys(merged, merged)
  rows = store.fetch(connection, "task choice", dataset=dataset)
  free = collections.Counter(row["wnid"] for row in rows if row["free"])
  query = "SELECT wnid, name FROM class ORDER BY id"
  texts = [tuple(row) for row in connection.execute(query)]
  found = []
  for group in set(groups.values()):
    wnids, names = zip(*(texts[x] for x in sorted(group)), strict=True)
    number = sum(n for pair, n in pairs.items() if pair <= group)
    row = {"classes": list(wnids), "names": list(names), "errors": number}
    row["share"] = number / pairs.total()
    found.append({**row, "images": sum(free[wnid] for wnid in wnids)})
  return sorted(found, key=lambda x: (-x["errors"], x["classes"]))[:most]
