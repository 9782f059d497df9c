"""Review databases filled with SQL."""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import pathlib
import sqlite3

import numpy as np

from imgbench.labels import classes
from imgbench.labels import review_database
from imgbench.review import store

IMAGENET = tuple(
  (wnid, ",".join(n for n, mask in classes.subsets().items() if mask[i]))
  for i, wnid in enumerate(classes.imagenet_classes().wnids)
)


def create(
  path: pathlib.Path,
  images: Sequence[tuple[str, int]],
  models: Mapping[str, Sequence[int]],
  states: Mapping[tuple[int, int], int],
  listed: Sequence[tuple[str, str]] = IMAGENET,
  annotated: Sequence[int] = (),
  problematic: Sequence[int] = (),
  imagenet_m: Sequence[int] | None = None,
) -> sqlite3.Connection:
  """Returns a database of one data set; image and model ids begin at 1.

  Args:
    path: of the file.
    images: name and label.
    models: name -> class of each image, -1: none.
    states: (place of an image, class) -> state.
    listed: WordNet id and subsets of each class.
    annotated: places of images that have an entry in any case.
    problematic: places of images.
    imagenet_m: places of images; None: unknown.
  """
  connection = store.create(path)
  entries = {i: {} for i in annotated}
  for (i, k), state in states.items():
    if state:
      name = review_database.STATES[state]
      entries.setdefault(i, {}).setdefault(name, []).append(listed[k][0])
  number: dict[tuple[int, int], int] = {}
  for found in models.values():
    for pair in enumerate(np.asarray(found).tolist()):
      number[pair] = number.get(pair, 0) + 1
  pairs = [pair for pair in number if pair[1] >= 0]
  pairs += [(i, label) for i, (_, label) in enumerate(images)]
  with store.transaction(connection):
    connection.executemany(
      "INSERT INTO class VALUES (?, ?, ?, '', ?)",
      [
        (k, wnid, f"class {k}", names) for k, (wnid, names) in enumerate(listed)
      ],
    )
    connection.execute("INSERT INTO dataset (id, name) VALUES (1, 'set')")
    event = store.add_event(connection, "import")
    connection.executemany(
      "INSERT INTO image (id, public_id, dataset, name, label, entry, reason,"
      " problematic, imagenet_m, annotated) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?,"
      " ?)",
      [
        (
          *(i + 1, store.hide_name("secret", name), name, label),
          json.dumps(entries[i]) if i in entries else None,
          '"other"' if i in problematic else None,
          "other" if i in problematic else None,
          None if imagenet_m is None else int(i in imagenet_m),
          event,
        )
        for i, (name, label) in enumerate(images)
      ],
    )
    kept = {"imagenet_m": imagenet_m is not None}
    store.write_setting(connection, "annotations", kept)
    for model, (name, found) in enumerate(models.items(), 1):
      query = "INSERT INTO model VALUES (?, ?, 'file', '', 0)"
      connection.execute(query, (model, name))
      connection.executemany(
        "INSERT INTO model_prediction VALUES (?, ?, ?)",
        [
          (model, i + 1, k)
          for i, k in enumerate(np.asarray(found).tolist())
          if k >= 0
        ],
      )
    connection.executemany(
      "INSERT INTO prediction (image, class, models, imported, state)"
      " VALUES (?, ?, ?, ?, ?)",
      [
        (i + 1, k, number.get((i, k), 0), s, s)
        for i, k in sorted({*pairs, *states})
        for s in [states.get((i, k), 0)]
      ],
    )
  return connection


def decide(connection, image: int, target: int, state: int) -> int:
  """Writes the state of a class, or if an image is problematic (3) or not."""
  with store.transaction(connection):
    if target == store.IMAGE:
      reason = "edited" if state == 3 else None
      query = "UPDATE image SET problematic = ? WHERE id = ?"
      connection.execute(query, (reason, image))
      previous = None
    else:
      pair = (image, target)
      query = "SELECT state FROM prediction WHERE image = ? AND class = ?"
      (previous,) = connection.execute(query, pair).fetchone()
      query = "UPDATE prediction SET state = ? WHERE image = ? AND class = ?"
      connection.execute(query, (state, *pair))
      reason = None
    return store.add_event(
      connection,
      "consensus",
      **{"image": image, "target": target, "state": state},
      **{"previous": previous, "reason": reason or ""},
    )
