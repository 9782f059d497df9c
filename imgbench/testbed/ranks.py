"""Ranks of models and how they change from one data set to another."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imgbench.testbed import records


class Change(NamedTuple):
  """A row of ranks.csv; `change` is above 0 where the model climbs."""

  model: str
  subset: str
  base: str
  base_metric: str
  dataset: str
  metric: str
  rank_base: int
  rank_dataset: int
  change: int


COLUMNS = Change._fields


def ranks(values, among=None) -> np.ndarray:
  """Returns the rank of each value: 1 + how many of `among` are greater.

  The greatest is 1, and equal values share the better rank (1, 2, 2, 4).

  Args:
    values: float [M], finite.
    among: bool [M], the models that ranks are counted among; None: all. The
      rank of another is the one that it would have beside them.

  Returns:
    int64 [M], at least 1.
  """
  values = np.asarray(values, np.float64)
  among = np.ones(len(values), bool) if among is None else np.asarray(among)
  counted = np.sort(values[among])
  return 1 + len(counted) - np.searchsorted(counted, values, side="right")


def changes(
  rows: Sequence[records.Row],
  pairs: Iterable[tuple[str, str]],
  metrics: Sequence[tuple[str, str]],
  own: frozenset[str] = frozenset(),
) -> list[Change]:
  """Returns the ranks of all models with a value on both sets of a pair.

  Args:
    rows: of the table.
    pairs: (base, dataset).
    metrics: (metric on the base, metric on the data set), often equal.
    own: models that the ranks of the others do not heed.
  """
  values = {
    (row.dataset, row.subset, row.metric, row.model): row.value.value
    for row in rows
    if row.value.value is not None
  }
  models = sorted({row.model for row in rows})
  subsets = dict.fromkeys(row.subset for row in rows)
  found = []
  for base, dataset in pairs:
    for subset in subsets:
      for base_metric, metric in metrics:
        axes = ((base, subset, base_metric), (dataset, subset, metric))
        there = [
          m for m in models if all((*axis, m) in values for axis in axes)
        ]
        among = np.array([model not in own for model in there], bool)
        first, second = (
          ranks([values[*axis, m] for m in there], among) for axis in axes
        )
        what = (subset, base, base_metric, dataset, metric)
        found += [
          Change(m, *what, int(a), int(b), int(a - b))
          for m, a, b in zip(there, first, second, strict=True)
        ]
  return found
