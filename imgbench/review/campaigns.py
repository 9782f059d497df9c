"""Campaigns: the images that reviewers are offered, and their order."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
import json
import sqlite3
import time
from typing import Any

from imgbench import errors
from imgbench.review import decide
from imgbench.review import store

PRIORITIES = ("random", "effect", "models", "disagreement")
_BLOCK = 50  # images whose order is random


def create(
  connection: sqlite3.Connection,
  name: str,
  policy: str,
  votes: int = 1,
  datasets: Sequence[str] = (),
  priority: str = "random",
  control: float = 0.0,
  show_names: bool = False,
) -> int:
  """Adds a campaign of all images with unreviewed predictions.

  They are in order of `priority`, but shuffled within blocks of _BLOCK.

  Args:
    connection: in a transaction.
    name: one that is new.
    policy: one of decide.POLICIES.
    votes: that the policy needs; 1 of "single".
    datasets: names; none: all.
    priority: see `order`.
    control: number of decided images to mix in per open one, up to 0.5; votes
      on them decide nothing.
    show_names: whether reviewers may see file names.

  Returns:
    Its id.

  Raises:
    InputError: a value that does not fit, or there is no such image.
  """
  votes = 1 if policy == "single" else votes
  known = [row[0] for row in connection.execute("SELECT name FROM dataset")]
  query = "SELECT name FROM campaign"
  names = [row[0] for row in connection.execute(query)]
  new = 0 < len(name) <= decide.NAME and name not in names
  for setting, holds, expected, given in (
    ("name", new, "a new name", repr(name)),
    ("policy", policy in decide.POLICIES, " or ".join(decide.POLICIES), policy),
    ("priority", priority in PRIORITIES, " or ".join(PRIORITIES), priority),
    ("votes", 1 <= votes <= 99, "1 to 99", votes),
    ("datasets", set(datasets) <= set(known), " or ".join(known), datasets),
    ("control", 0 <= control <= 0.5, "a number from 0 to 0.5", control),
  ):
    errors.check(holds, setting, expected, given)
  secret = store.read_setting(connection, "secret")
  hide = lambda image: store.hide_name(secret, name, image)
  among = json.dumps(list(datasets or known))
  found = store.fetch(connection, "open images", datasets=among)
  errors.check(bool(found), "datasets", "unreviewed predictions", "none")
  images = order(connection, [row[0] for row in found], priority)
  found = store.fetch(connection, "decided images", datasets=among)
  controls = sorted((row[0] for row in found), key=hide)
  controls = controls[: round(control * len(images))]
  ranked = sorted(
    ((place + 0.5) / len(part), image, part is controls)
    for part in (images, controls)
    for place, image in enumerate(part)
  )
  row: dict[str, Any] = {"name": name, "policy": policy, "votes": votes}
  row |= {"show_names": int(show_names), "now": time.time()}
  ((campaign,),) = store.fetch(connection, "add campaign", **row)
  blocks = (ranked[i : i + _BLOCK] for i in range(0, len(ranked), _BLOCK))
  items = (
    x for block in blocks for x in sorted(block, key=lambda x: hide(x[1]))
  )
  for position, (_, image, decided) in enumerate(items):
    row = {"campaign": campaign, "position": position, "image": image}
    store.fetch(connection, "add item", **row, control=int(decided))
  return campaign


def order(
  connection: sqlite3.Connection, images: Iterable[int], priority: str
) -> list[int]:
  """Returns ids of images, those to review first at the front.

  Args:
    connection: of the database.
    images: ids.
    priority: one of PRIORITIES.
      random: no order.
      effect: by what a review can add to the mean over classes, 1 / (classes *
        images of the class that count), then as `models`.
      models: by the number of models' predictions that are not reviewed.
      disagreement: by the share of models outside the most frequent class.
      Ties are in an order that only the database's secret tells.
  """
  wanted = sorted(set(images))
  found = {
    row["id"]: row
    for row in store.fetch(connection, "priority", images=str(wanted))
  }
  sizes: collections.Counter[tuple[int, int]] = collections.Counter()
  for row in found.values():
    sizes[row["dataset"], row["label"]] += row["counts"]
  secret = store.read_setting(connection, "secret")

  def key(image: int):
    row = found[image]
    # An image that does not count yet will, once it is reviewed.
    size = sizes[row["dataset"], row["label"]] + (not row["counts"])
    first = {
      "random": (),
      "effect": (-row["open"] / size, -row["models"]),
      "models": (-row["models"],),
      "disagreement": (-row["disagreement"],),
    }[priority]
    return *first, store.hide_name(secret, "order", row["public_id"])

  return sorted(wanted, key=key)
