"""Ranks of models and how they change from one data set to another."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imgbench.papers import records


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


Axis = tuple[str, str, str]  # data set, subset, metric


class SetRanks(NamedTuple):
  """Ranks by one value.

  Attributes:
    n: public models that have it, which all ranks are among.
    of: model -> rank, one's own models beside the public ones.
  """

  n: int
  of: Mapping[str, int]


def by_set(
  rows: Iterable[records.Row],
  metrics: Collection[str],
  own: frozenset[str] = frozenset(),
) -> dict[Axis, SetRanks]:
  """Returns the ranks on every data set, for every subset and some metrics.

  What a model has on one data set does not depend on which files of the others
  are there.

  Args:
    rows: of the table; those without a value have no rank.
    metrics: to rank by.
    own: models that the ranks of the others do not heed.
  """
  values: dict[Axis, dict[str, float]] = {}
  for row in rows:
    if row.metric in metrics and row.value.value is not None:
      axis = (row.dataset, row.subset, row.metric)
      values.setdefault(axis, {})[row.model] = row.value.value
  found = {}
  for axis, by_model in values.items():
    public = np.array([model not in own for model in by_model])
    of_models = ranks(list(by_model.values()), public).tolist()
    found[axis] = SetRanks(
      int(public.sum()), dict(zip(by_model, of_models, strict=True))
    )
  return found


def changes(
  rows: Sequence[records.Row],
  pairs: Iterable[tuple[str, str]],
  metrics: Sequence[tuple[str, str]],
  own: frozenset[str] = frozenset(),
) -> list[Change]:
  """Returns the ranks, see `by_set`, of models with a value on both of a pair.

  Args:
    rows: of the table.
    pairs: (base, dataset).
    metrics: (metric on the base, metric on the data set), often equal.
    own: models that the ranks of the others do not heed.
  """
  known = by_set(rows, {m for both in metrics for m in both}, own)
  models = sorted({row.model for row in rows})
  subsets = dict.fromkeys(row.subset for row in rows)
  nothing = SetRanks(0, {})
  found = []
  for base, dataset in pairs:
    for subset in subsets:
      for base_metric, metric in metrics:
        first = known.get((base, subset, base_metric), nothing).of
        second = known.get((dataset, subset, metric), nothing).of
        what = (subset, base, base_metric, dataset, metric)
        found += [
          Change(m, *what, first[m], second[m], first[m] - second[m])
          for m in models
          if m in first and m in second
        ]
  return found
