"""Drops of accuracy from one data set to another."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imgbench.metrics import drops
from imgbench.papers import records


class Drop(NamedTuple):
  """A row of drops.csv: accuracy on `base` minus accuracy on `dataset`."""

  model: str
  subset: str
  metric: str
  base: str
  dataset: str
  n_base: int
  n: int
  drop: float
  ci_low: float
  ci_high: float


COLUMNS = Drop._fields


def pairs(
  datasets: Mapping[str, records.Dataset], bases: Sequence[str]
) -> list[tuple[str, str]]:
  """Returns (base, dataset) for all sets that share no image.

  Intervals of a drop are those of independent sets, so that a set is not
  compared with a part of itself.

  Args:
    datasets: by name, in their order.
    bases: names of those to drop from; absent ones are passed over.
  """
  return [
    (base, name)
    for base in bases
    if base in datasets
    for name, dataset in datasets.items()
    if name not in bases
    and not np.isin(dataset.image_ids, datasets[base].image_ids).any()
  ]


def compute(
  rows: Sequence[records.Row],
  pairs: Iterable[tuple[str, str]],
  metrics: Sequence[str],
  alpha: float = 0.05,
) -> list[Drop]:
  """Returns the drops of all models, by model, pair, subset and metric.

  Args:
    rows: of the table.
    pairs: (base, dataset), independent sets of images.
    metrics: plain proportions; a row without a number of hits has no drop.
    alpha: intervals cover 1 - alpha; see `metrics.drops.drop`.
  """
  found = {
    (row.model, row.dataset, row.subset, row.metric): row.value
    for row in rows
    if row.metric in metrics and row.value.correct is not None
  }
  pairs = list(pairs)
  subsets = dict.fromkeys(row.subset for row in rows)
  wanted = [
    (model, subset, metric, base, dataset)
    for model in sorted({row.model for row in rows})
    for base, dataset in pairs
    for subset in subsets
    for metric in metrics
    if (model, base, subset, metric) in found
    and (model, dataset, subset, metric) in found
  ]
  first = [found[m, base, s, metric] for m, s, metric, base, _ in wanted]
  second = [found[m, other, s, metric] for m, s, metric, _, other in wanted]
  estimates = drops.drop(
    [a.correct for a in first],
    [a.n for a in first],
    [b.correct for b in second],
    [b.n for b in second],
    alpha,
  )
  return [
    Drop(*what, a.n, b.n, *map(float, numbers))
    for what, a, b, numbers in zip(
      wanted, first, second, zip(*estimates, strict=True), strict=True
    )
  ]
