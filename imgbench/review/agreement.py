"""Prints how far reviewers agree, and how many control images each has right.

imgbench review agreement --db=reviews.db

"Don't know" is no vote; votes of the panel and on images as a whole do not
count. Exit codes: 0 done, 2 bad input.
"""

from collections.abc import Iterable
import functools
import itertools
import sqlite3
from typing import Any

import numpy as np

from imgbench import commands
from imgbench.labels import review_database
from imgbench.metrics import agreement
from imgbench.review import status
from imgbench.tables import formats
from imgbench.tables import table

REQUIRED = ("db",)
define_flags = status.define_flags
_STATES = len(review_database.STATES)
_VOTES = (
  "SELECT user.name, image, target, vote.state, prediction.state FROM vote"
  " JOIN user ON user = user.id JOIN prediction USING (image)"
  " WHERE class = target AND NOT vote.panel AND vote.state BETWEEN 1 AND ?"
  " AND control = ? ORDER BY image, target"
)


def measure(connection: sqlite3.Connection) -> dict[str, Any]:
  """Returns the agreement of the votes of a database.

  Values are fractions, None if undefined: `fleiss`, `krippendorff`, `unanimous`
  and `no_majority` of `questions` with two votes or more; `cohen`, a list of
  (reviewer, reviewer, common questions, kappa); `control`, a list of (reviewer,
  right, votes) on control images whose state is known.
  """
  votes = connection.execute(_VOTES, (_STATES, 0)).fetchall()
  names = sorted({name for name, *_ in votes})
  rows: dict[tuple[int, int], int] = {}
  places = [rows.setdefault((v[1], v[2]), len(rows)) for v in votes]
  answers = np.full((len(rows), len(names)), agreement.MISSING)
  for row, (name, _, _, state, _) in zip(places, votes, strict=True):
    answers[row, names.index(name)] = state - 1
  counts = agreement.count_votes(answers, _STATES)
  unanimous, no_majority = agreement.majority_shares(counts)
  cohen = []
  for a, b in itertools.combinations(range(len(names)), 2):
    common = int((answers[:, [a, b]] != agreement.MISSING).all(axis=1).sum())
    kappa = agreement.cohen_kappa(answers[:, a], answers[:, b])
    cohen.append((names[a], names[b], common, kappa))
  control: dict[str, tuple[int, int]] = {}
  for name, *_, state, known in connection.execute(_VOTES, (_STATES, 1)):
    right, n = control.get(name, (0, 0))
    if known:
      control[name] = (right + (state == known), n + 1)
  return {
    "questions": int((counts.sum(axis=1) >= 2).sum()),
    "fleiss": agreement.fleiss_kappa(counts),
    "krippendorff": krippendorff_alpha(counts),
    "unanimous": unanimous,
    "no_majority": no_majority,
    "cohen": cohen,
    "control": [(name, *found) for name, found in sorted(control.items())],
  }


def krippendorff_alpha(votes: np.ndarray) -> float | None:
  """Returns Krippendorff's alpha of nominal categories, by `krippendorff`.

  Args:
    votes: see `metrics.agreement`, also for undefined values.

  Source: Krippendorff 2011.
  """
  import krippendorff

  votes = votes[votes.sum(axis=1) >= 2]
  if (votes.sum(axis=0) > 0).sum() < 2:
    return None
  found = krippendorff.alpha(value_counts=votes, level_of_measurement="nominal")
  return float(found)


def describe(connection: sqlite3.Connection) -> Iterable[table.Table]:
  """Yields the tables to print."""
  found = measure(connection)
  cells = [["questions with two votes or more", f"{found['questions']:,}"]]
  for title in ("fleiss", "krippendorff", "unanimous", "no_majority"):
    name = title.replace("_", " ")
    cells.append([name, formats.decimal(found[title], 4)])
  yield table.from_cells("Agreement", ("all reviewers", "value"), cells)
  header = ("reviewer", "reviewer", "questions", "Cohen's kappa")
  cohen = [
    [*ab, f"{n:,}", formats.decimal(k, 4)] for *ab, n, k in found["cohen"]
  ]
  if cohen:
    yield table.from_cells("Pairs", header, cohen)
  header = ("reviewer", "right", "share")
  rows = [
    [name, formats.counted(right, n), formats.share(right / n)]
    for name, right, n in found["control"]
  ]
  if rows:
    yield table.from_cells("Control images", header, rows)


main = functools.partial(status.run, describe)


if __name__ == "__main__":
  commands.start("review agreement")
