"""Numbers of labeling tasks: labelers are classifiers, like the models."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import itertools
import json
import sqlite3
from typing import Any

import numpy as np

from imgbench.labels import annotations
from imgbench.metrics import summary
from imgbench.papers import paired_table
from imgbench.papers import study as study_lib
from imgbench.papers.machine_accuracy import results
from imgbench.review import live
from imgbench.review import store
from imgbench.tables import frame

METRIC = results.METRICS["icml2020"]  # of paired tests, as in the paper
_SHARES = [metric for metric in results.SHARES if metric != results.TOP5]
_FIRST = "imagenet2012:validation"  # drops are from here


@dataclasses.dataclass(frozen=True)
class Study:
  """Numbers of labelers, and of models with predictions for all images.

  Those of a labeler are on the images that the labeler has answered.
  """

  datasets: dict[str, int]  # numbers of images; drops are from the first set
  results: dict[str, list[live.Result]]  # "all" and sets; labelers go first
  labelers: list[dict[str, Any]]  # see `_describe`
  drops: list[Any]  # rows of drops.csv
  paired: list[Any]  # rows of paired.csv, of each labeler and model
  subsets: list[str]  # of the classes, "all" first


def measure(connection: sqlite3.Connection, tasks: Iterable[int]) -> Study:
  """Returns the numbers of tasks, taken together."""
  listed = json.dumps(list(tasks))
  fetch = lambda query: store.fetch(connection, query, tasks=listed)
  images, answers = fetch("study images"), fetch("study answers")
  ids, of_set, label, in_m, counted = map(np.array, zip(*images, strict=True))
  knows_m, in_m, counted = in_m.max() >= 0, in_m > 0, counted > 0
  places = range(len(ids))
  place = dict(zip(ids.tolist(), places, strict=True))
  masks = live.read_masks(connection)
  states = np.zeros((len(ids), len(masks[summary.ALL])), np.int8)
  for image, target, state in fetch("study states"):
    states[place[image], target] = state

  def read(rows) -> dict[str, np.ndarray]:
    """Returns name -> class of each image."""
    empty = lambda: np.full(len(ids), live.NONE)
    given: dict[str, np.ndarray] = collections.defaultdict(empty)
    for name, image, target, *_ in rows:
      given[name][place[image]] = target
    return given

  people = read(answers)
  models = {  # One may have the name of a labeler.
    f"{name} (model)" if name in people else name: given
    for name, given in sorted(read(fetch("study predictions")).items())
    if (given != live.NONE).all()
  }
  top1 = people | models
  given = {n: x != live.NONE for n, x in top1.items()}
  code = {n: np.where(given[n], states[places, x], x) for n, x in top1.items()}
  right = {n: x == annotations.CORRECT for n, x in code.items()}
  sets = sorted(dict.fromkeys(of_set.tolist()), key=lambda name: name != _FIRST)
  groups = {summary.ALL: ids > 0} | {name: of_set == name for name in sets}

  def count(number: int, name: str, here: np.ndarray) -> live.Result:
    flags = live.find_flags(label, top1[name], code[name], counted, in_m)
    table = live.count_flags(flags[here], label[here], states.shape[1])
    rows = live.measure_counts(table, masks, knows_m)
    return live.Result(number, name, rows, True)

  found = {
    group: [count(*who, here) for who in enumerate((*people, *models))]
    for group, here in groups.items()
  }
  rows = {
    (result.name, name, subset, metric): value
    for name in sets
    for result in found[name]
    for subset, of_subset in result.rows.items()
    for metric, value in of_subset.items()
  }
  pairs = [(sets[0], name) for name in sets[1:]]
  both = study_lib.pair_same(_SHARES)
  drops = study_lib.Study(study_lib.order_rows(sets, rows), pairs, both).drops
  tables = []
  for person, name in itertools.product(people, sets):
    here = counted & groups[name] & given[person]
    hits = {n: right[n][here] for n in (person, *models)}
    every = {summary.ALL: here[here]}
    tables.append(paired_table.Hits(name, METRIC, hits, every))
  return Study(
    {name: int(groups[name].sum()) for name in sets},
    found,
    [_describe(n, [a for a in answers if a["name"] == n]) for n in people],
    frame.to_rows(drops),
    paired_table.compare(tables, list(itertools.product(people, models))),
    list(masks),
  )


def _describe(name: str, answers: Sequence[sqlite3.Row]) -> dict[str, Any]:
  """Returns medians of the times from giving an image to the last answer and on
  the page; the share with other sources; right and all answers of each part.
  """
  column = lambda key: np.array([answer[key] for answer in answers])
  part, right = column("part"), column("right")
  return {
    **{"name": name, "answers": len(answers)},
    "seconds": float(np.median(column("seconds"))),
    "active_seconds": float(np.median(column("active"))),
    "external": float(np.mean(column("external"))),
    "parts": [
      (int(right[part == p].sum()), int((part == p).sum()))
      for p in np.unique(part)
    ],
  }
