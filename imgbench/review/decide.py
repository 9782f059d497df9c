"""Votes, consensus, undo and leases of a review database.

Functions take a connection of `store`; those that write need a transaction.
Rows of votes, categories and saved images are what the last event on them says
that is not undone, so that an undo restores them exactly.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import sqlite3
import time
from typing import Any
from typing import NamedTuple

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import review_database
from imgbench.review import store

POLICIES = ("single", "majority", "unanimous")
REASONS = (
  *("label wrong or unclear", "drawing or rendering", "edited"),
  *("inappropriate", "near duplicate", "other"),
)
CATEGORIES = (
  *("drawing", "near duplicate", "redefined class", "wrong synset"),
  *("subset relation", "crowded"),
)
LEASE_S = 600
PROBLEM, COUNTS = 3, 1  # states of votes on an image
_VOTES = ("vote", "panel")
_TABLES = dict.fromkeys(_VOTES, "vote") | {
  "category": "category",
  "save": "saved",
}
NOTE, NAME, MS = 2_000, 64, 86_400_000


class LeaseError(errors.RunError):
  """Another reviewer has the image."""


class Vote(NamedTuple):
  """A vote that decides.

  Attributes:
    state: of labels.annotations, PROBLEM or COUNTS, or store.DONT_KNOW.
    panel: whether it is one of the panel.
    reason: of PROBLEM.
    policy: of its campaign.
    needed: votes that the policy needs.
  """

  state: int
  panel: bool = False
  reason: str = ""
  policy: str = "single"
  needed: int = 1


@dataclasses.dataclass(frozen=True)
class Event:
  """An event as a browser sends it; docs/review.md describes its fields."""

  client: str
  kind: str
  target: int = store.IMAGE
  state: int = 0
  reason: str = ""
  note: str = ""
  ms: int = 0


def _find_majority(states: Sequence[int]) -> int:
  """Returns the state of more than half of the votes, else UNCLEAR."""
  state, count = collections.Counter(states).most_common(1)[0]
  return state if 2 * count > len(states) else annotations.UNCLEAR


def decide_class(
  votes: Sequence[Vote], imported: int, panel_votes: int = 1
) -> tuple[int, bool]:
  """Returns the state of a class by its votes, and whether the panel decides.

  Args:
    votes: in order of their events; the policy of the last one counts.
    imported: state until there are enough votes.
    panel_votes: votes that a decision of the panel needs.
  """
  cast = [vote for vote in votes if not vote.panel]
  votes = [vote for vote in votes if vote.state != store.DONT_KNOW]
  panel = [vote.state for vote in votes if vote.panel]
  if len(panel) >= panel_votes:
    return _find_majority(panel), False
  states = [vote.state for vote in votes if not vote.panel]
  if not cast or len(states) < cast[-1].needed:
    return imported, False
  if cast[-1].policy == "unanimous" and len(set(states)) > 1:
    return imported, True
  return _find_majority(states), False


def decide_problem(
  votes: Sequence[Vote], imported: str | None, panel_votes: int = 1
) -> tuple[str | None, bool]:
  """Returns why an image is problematic, and whether the panel decides.

  The reason is None if the image counts. Args are those of `decide_class`.
  """
  cast = [vote for vote in votes if not vote.panel]
  votes = [vote for vote in votes if vote.state != store.DONT_KNOW]
  flags = [vote for vote in votes if vote.state == PROBLEM]
  panel = [vote for vote in votes if vote.panel]
  if len(panel) >= panel_votes:
    if _find_majority([vote.state for vote in panel]) != PROBLEM:
      return None, False
    flags = [vote for vote in flags if vote.panel]
  elif cast:
    flags = [vote for vote in flags if not vote.panel]
    others = sum(not vote.panel for vote in votes) - len(flags)
    needed, unanimous = cast[-1].needed, cast[-1].policy == "unanimous"
    if unanimous and flags and (others or len(flags) < needed):
      return imported, True
    if 2 * len(flags) <= needed:
      return (None if 2 * others > needed else imported), False
  else:
    return imported, False
  counts = collections.Counter(vote.reason for vote in flags)
  return counts.most_common(1)[0][0], False


def _decide(
  connection, image: int, target: int, votes
) -> tuple[Any, Any, bool]:
  """Returns the present state of a target, and what votes decide."""
  enough = store.read_setting(connection, "panel_votes", 1)
  if target == store.IMAGE:
    query = "SELECT reason, problematic FROM image WHERE id = ?"
    text, was = connection.execute(query, (image,)).fetchone()
    text = text and review_database.describe_problem(json.loads(text))
    return was, *decide_problem(votes, text, enough)
  query = "SELECT imported, state FROM prediction WHERE image = ? AND class = ?"
  imported, was = connection.execute(query, (image, target)).fetchone()
  return was, *decide_class(votes, imported, enough)


def replay(
  connection: sqlite3.Connection,
) -> dict[tuple[int, int], tuple[Any, bool]]:
  """Returns (image, target) -> state or reason, panel, by the log of votes."""
  found = collections.defaultdict(list)
  for image, target, *vote in store.fetch(connection, "logged votes"):
    found[image, target].append(Vote(*vote))
  return {k: _decide(connection, *k, votes)[1:] for k, votes in found.items()}


def update_consensus(connection, image: int, target: int) -> None:
  """Writes what the votes decide, with an event if it differs."""
  votes = store.fetch(connection, "votes", image=image, target=target)
  was, new, panel = _decide(
    connection, image, target, [Vote(*v) for v in votes]
  )
  if target == store.IMAGE:
    query = "UPDATE image SET problematic = ?, panel = ? WHERE id = ?"
    connection.execute(query, (new, panel, image))
    states = [COUNTS if text is None else PROBLEM for text in (was, new)]
    texts = {"previous_reason": was or "", "reason": new or ""}
  else:
    query = "UPDATE prediction SET state = ?, panel = ?"
    query += " WHERE image = ? AND class = ?"
    connection.execute(query, (new, panel, image, target))
    states, texts = [was, new], {}
  if new != was:
    key = {"image": image, "target": target, **texts}
    key |= dict(zip(("previous", "state"), states, strict=True))
    store.add_event(connection, "consensus", **key)


def change(connection, key: dict[str, Any], **event) -> None:
  """Appends an event or its undo, and updates the rows that follow from it.

  Args:
    connection: in a transaction.
    key: what the row has in common with its events.
    **event: other columns of the event; with `undoes` its state follows.
  """
  table = _TABLES[key["kind"]]
  none = [(None, "", "")]
  read = lambda: store.fetch(connection, f"read {table}", **key) or none
  undone = event.get("undoes")
  columns = [("previous", "previous_reason", "previous_note")]
  rows = [*read()]

  def write() -> None:
    store.fetch(connection, f"delete {table}", **key)
    store.fetch(connection, f"write {table}", **key, undone=undone or 0)

  if undone:
    write()
    columns, rows = [*columns, ("state", "reason", "note")], [*rows, *read()]
  for names, row in zip(columns, rows, strict=True):
    event |= zip(names, row, strict=True)
  kind = "undo" if undone else key["kind"]
  store.add_event(connection, **key | event | {"kind": kind})
  if not undone:
    write()
  if table == "vote":
    update_consensus(connection, key["image"], key["target"])


def _check(connection, event: Event, user: int, image: int, where: str) -> None:
  """Raises InputError for an event that does not fit."""
  reasons: Sequence[str] = ("",)
  if event.kind == "category":
    reasons = CATEGORIES
  elif event.kind in _VOTES and event.target == store.IMAGE:
    reasons = REASONS if event.state == PROBLEM else reasons
  limit = store.DONT_KNOW
  for name, holds, expected in (
    ("kind", event.kind in _TABLES, ", ".join(_TABLES)),
    ("client", 1 <= len(event.client) <= NAME, f"1 to {NAME} letters"),
    ("state", 0 <= event.state <= limit, f"0 to {limit}"),
    ("reason", event.reason in reasons, " or ".join(map(repr, reasons))),
    ("note", len(event.note) <= NOTE, f"at most {NOTE} letters"),
    ("ms", 0 <= event.ms <= MS, f"0 to {MS}"),
  ):
    errors.check(holds, f"{where}{name}", expected, repr(getattr(event, name)))
  targets = [store.IMAGE]
  if event.kind == "panel":
    case = describe_case(connection, image, user)
    targets = targets if case["problem"] else []
    targets += [row["class"] for row in case["rows"]]
  elif event.target != store.IMAGE:
    store.fetch(connection, "add label", image=image, target=event.target)
    query = "SELECT class FROM prediction WHERE image = ?"
    targets = [row[0] for row in connection.execute(query, (image,))]
  known = event.target in targets
  errors.check(known, f"{where}target", "a class to review", event.target)


def apply(
  connection: sqlite3.Connection,
  user: int,
  image: int,
  events: Iterable[Event],
  campaign: int | None = None,
  action: str | None = None,
  now: float | None = None,
) -> int:
  """Writes events of a user on an image; returns how many were new.

  Args:
    connection: in a transaction.
    user: id.
    image: id, of an item of the campaign.
    events: those whose client id exists are skipped.
    campaign: id; None for votes of the panel.
    action: shared by events that one undo takes back.
    now: seconds since 1970.

  Raises:
    InputError: an event that does not fit, or a closed campaign.
    LeaseError: another reviewer has the image.
  """
  now, applied = time.time() if now is None else now, 0
  query = "SELECT 1 FROM event WHERE client = ?"
  is_known = lambda e: connection.execute(query, (e.client,)).fetchone()
  events = list(events)
  if campaign is not None and not all(map(is_known, events)):
    lease(connection, campaign, image, user, now)
  for number, event in enumerate(events):
    if is_known(event):
      continue
    _check(connection, event, user, image, f"events[{number}].")
    known = campaign is not None or event.kind == "panel"
    errors.check(known, "campaign", "an open one", "none")
    values = {**dataclasses.asdict(event), "state": event.state or None}
    if event.kind == "save":
      values["state"] = 1
    key = {name: values.pop(name) for name in ("kind", "target", "reason")}
    key |= {"user": user, "image": image, "campaign": campaign}
    change(connection, key, **values, action=action, time=now)
    applied += 1
    if event.kind == "save":
      store.fetch(connection, "release", **key)
  store.fetch(connection, "update open", image=image)
  return applied


def undo(
  connection: sqlite3.Connection, user: int, client: str, campaign: int | None
) -> int | None:
  """Takes back a user's last action in a campaign; returns its image, if any.

  Args are those of `apply`. The same client id undoes once.
  """
  fits = 1 <= len(client) <= NAME
  errors.check(fits, "client", f"1 to {NAME} letters", repr(client))
  query = "SELECT image FROM event WHERE client = ?"
  done = connection.execute(query, (client,)).fetchone()
  if done:
    return done[0]
  query = "SELECT 1 FROM campaign WHERE id = ? AND active"
  known = campaign is None or connection.execute(query, (campaign,)).fetchone()
  errors.check(bool(known), "campaign", "an open one", "a closed one")
  action = store.fetch(connection, "last action", user=user, campaign=campaign)
  for number, event in enumerate(action):
    names = ("kind", "target", "reason", "user", "image", "campaign")
    key = {name: event[name] for name in names}
    first = None if number else client
    change(connection, key, undoes=event["id"], client=first)
    store.fetch(connection, "update open", image=event["image"])
  return action[0]["image"] if action else None


def lease(
  connection: sqlite3.Connection,
  campaign: int,
  image: int,
  user: int,
  now: float,
) -> None:
  """Keeps an image for a user, who may write on it; a saved one needs none.

  Raises:
    InputError: the campaign is closed or has no such image.
    LeaseError: another reviewer has it.
  """
  key = {"campaign": campaign, "image": image, "user": user, "now": now}
  found = store.fetch(connection, "lease", **key)
  errors.check(bool(found), "campaign", "an open one", "a closed one")
  ((free, saved),) = found
  if not (free or saved):
    raise LeaseError("another reviewer has this image")
  if not saved:
    store.fetch(connection, "take lease", **key, until=now + LEASE_S)


def lease_next(
  connection: sqlite3.Connection, campaign: int, user: int, now: float
) -> int | None:
  """Leases the next image of a user in a campaign; None if nothing is left."""
  found = store.fetch(connection, "next", campaign=campaign, user=user, now=now)
  for row in found:
    lease(connection, campaign, row[0], user, now)
  return found[0][0] if found else None


def find_image(connection: sqlite3.Connection, public_id: str) -> int | None:
  """Returns the id of an image."""
  query = "SELECT id FROM image WHERE public_id = ?"
  found = connection.execute(query, (public_id,)).fetchone()
  return found and found[0]


def find_guides(connection: sqlite3.Connection) -> dict[str, str]:
  """Returns wnid -> name of the guide of a class; newest revisions count."""
  guides: dict[str, str] = {}
  # SQLite takes the other columns from the row of the maximum.
  query = (
    "SELECT name, classes, max(revision) AS last FROM guide GROUP BY name"
    " ORDER BY last, name DESC"
  )
  for name, wnids, _ in connection.execute(query):
    guides |= dict.fromkeys(json.loads(wnids), name)
  return guides


def _order_rows(connection, public_id: str, rows) -> list[dict[str, Any]]:
  """Returns rows of classes in the order of an image, with their guides."""
  secret = store.read_setting(connection, "secret")
  guides = find_guides(connection)
  found = [{**row, "guide": guides.get(row["wnid"])} for row in map(dict, rows)]
  order = lambda row: store.hide_name(secret, public_id, row["class"])
  return sorted(found, key=order)


def _check_hidden(connection, image: int, user: int) -> None:
  """Raises LeaseError if a user may answer on an image in an evaluation."""
  query = "SELECT 1 FROM answerable WHERE image = ? AND user = ?"
  if connection.execute(query, (image, user)).fetchone():
    raise LeaseError("complete your labeling part with this image first")


def describe_item(
  connection: sqlite3.Connection, campaign: int, image: int, user: int
) -> dict[str, Any] | None:
  """Returns the JSON state of an image for a reviewer; None: no such item.

  It tells nothing about models, sets, others' votes or consensus.
  """
  _check_hidden(connection, image, user)
  key = {"campaign": campaign, "image": image, "user": user}
  for item in store.fetch(connection, "item", **key):
    public_id, note, event = item["public_id"], item["note"], item["event"]
    rows = store.fetch(connection, "item rows", **key, control=item["control"])
    rows = _order_rows(connection, public_id, rows)
    key["event"] = event or 1 << 62
    find = lambda query: [
      row[0] for row in store.fetch(connection, query, **key)
    ]
    flag = {"reason": item["reason"], "note": note}
    return {
      **{"campaign": campaign, "image": public_id},
      "images": count_items(connection, campaign, user),
      "rows": [{**row, "assigned": bool(row["assigned"])} for row in rows],
      "problem": flag if item["state"] == PROBLEM else None,
      **{"note": note, "saved": event is not None},
      "previous": next(iter(find("saved before")), None),
      "next": next(iter(find("saved after")), None),
      "categories": find("own categories"),
      "name": item["name"] if item["show_names"] else None,
    }
  return None


def count_items(
  connection: sqlite3.Connection, campaign: int, user: int
) -> dict[str, int]:
  """Returns how many images a user has saved, and how many are open to them."""
  return dict(*store.fetch(connection, "counts", campaign=campaign, user=user))


def list_campaigns(
  connection: sqlite3.Connection, user: int
) -> list[dict[str, Any]]:
  """Returns the open campaigns: id, name, and counts of `count_items`."""
  query = "SELECT id, name FROM campaign WHERE active ORDER BY id DESC"
  rows = connection.execute(query).fetchall()
  count = lambda row: count_items(connection, row["id"], user)
  return [{**row, **count(row)} for row in map(dict, rows)]


def list_grid(
  connection: sqlite3.Connection,
  campaign: int,
  target: int,
  user: int,
  now: float,
) -> list[dict[str, Any]]:
  """Returns open images with a class to review: image, state of the own vote.

  Images that another reviewer has are not among them.
  """
  key = {"campaign": campaign, "target": target, "user": user, "now": now}
  return [dict(row) for row in store.fetch(connection, "grid", **key)]


def list_history(
  connection: sqlite3.Connection, user: int
) -> list[dict[str, Any]]:
  """Returns the last events of a user that are not undone, the newest first."""
  return [dict(row) for row in store.fetch(connection, "history", user=user)]


def list_panel(connection: sqlite3.Connection) -> list[str]:
  """Returns the public ids of images with something for the panel."""
  return [row[0] for row in store.fetch(connection, "panel")]


def describe_case(
  connection: sqlite3.Connection, image: int, user: int
) -> dict[str, Any]:
  """Returns the JSON state of an image for a member of the panel.

  Others' votes, without names, are there once the member has voted.
  """
  _check_hidden(connection, image, user)
  key = {"image": image, "user": user}
  own = dict(*store.fetch(connection, "case", **key))
  public_id, panel = own.pop("public_id"), own.pop("panel")

  def add_votes(row: Mapping[str, Any], target: int) -> dict[str, Any]:
    cast = store.fetch(connection, "votes", image=image, target=target)
    votes = sorted([v["state"], v["reason"]] for v in cast if not v["panel"])
    return {**row, "votes": votes if row["state"] else None}

  rows = store.fetch(connection, "case rows", **key)
  rows = _order_rows(connection, public_id, rows)
  shown = panel or own["state"] is not None
  return {
    "image": public_id,
    "rows": [add_votes(row, row["class"]) for row in rows],
    "problem": add_votes(own, store.IMAGE) if shown else None,
  }
