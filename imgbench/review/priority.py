"""Orders of the images that a campaign offers."""

import collections
from collections.abc import Iterable
import sqlite3

from imgbench.review import decide
from imgbench.review import store


def order(
  connection: sqlite3.Connection, images: Iterable[int], priority: str
) -> list[int]:
  """Returns ids of images, those to review first at the front.

  Args:
    connection: of the database.
    images: ids.
    priority: one of decide.PRIORITIES.
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
    for row in decide.fetch(connection, "priority", images=str(wanted))
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
