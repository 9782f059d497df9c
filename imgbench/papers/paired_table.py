"""Paired comparisons of classifiers on the same images: paired.csv."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any
from typing import NamedTuple

import numpy as np
import pandas as pd

from imgbench import errors
from imgbench import registry
from imgbench.metrics import paired
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

# The difference is accuracy of a minus that of b. `p_exact` and `p_mid` are
# McNemar's; .._holm are adjusted for the number of rows of the table.
_WHAT = ("model_a", "model_b", "dataset", "subset", "metric")
_COUNTS = ("n", "both", "only_a", "only_b", "neither")
_NUMBERS = ("difference", "ci_low", "ci_high", "p_exact", "p_mid")
COLUMNS = (*_WHAT, *_COUNTS, *_NUMBERS, "p_exact_holm", "p_mid_holm")


class Hits(NamedTuple):
  """Hits of classifiers on the images of a data set.

  Attributes:
    dataset: its name.
    metric: that defines a hit.
    by_name: classifier -> bool [N].
    subsets: name -> bool [N], the images to compare on.
  """

  dataset: str
  metric: str
  by_name: Mapping[str, np.ndarray]
  subsets: Mapping[str, np.ndarray]


def parse_pair(text: str, known: Iterable[str]) -> tuple[str, str]:
  """Returns the two classifiers of "A,B".

  Raises:
    InputError: not two different names, an unknown one, or one with a comma.
  """
  known = list(known)
  for name in known:
    if "," in name and name in text:
      fix = "give the model another name"
      raise errors.InputError("--pair", "names without commas", repr(name), fix)
  names = tuple(part.strip() for part in text.split(","))
  if len(names) != 2 or names[0] == names[1]:
    raise errors.InputError("--pair", "two different names A,B", repr(text))
  for name in names:
    if name not in known:
      near = registry.near_names(name, known)
      raise errors.InputError("--pair", "a known classifier", repr(name), near)
  return names


def compare(
  tables: Sequence[Hits],
  pairs: Sequence[tuple[str, str]] | None = None,
  alpha: float = 0.05,
) -> list[Any]:
  """Returns rows of COLUMNS, adjusted over all of them.

  Args:
    tables: of the data sets.
    pairs: to compare; None: all, sorted by name. A table that lacks one of the
      two leaves the pair out, as it does subsets without images.
    alpha: intervals cover 1 - alpha.
  """
  parts = [
    _compare(table, subset, mask, pairs, alpha)
    for table in tables
    for subset, mask in table.subsets.items()
    if mask.any()
  ]
  found = pd.concat([pd.DataFrame(columns=list(COLUMNS[:-2])), *parts])
  adjusted = {
    f"{name}_holm": paired.holm(found[name].to_numpy(float))
    for name in ("p_exact", "p_mid")
  }
  return frame.to_rows(found.assign(**adjusted), COLUMNS)


def _compare(table: Hits, subset: str, mask, pairs, alpha) -> pd.DataFrame:
  names = sorted(table.by_name)
  if pairs is None:
    pairs = itertools.combinations(names, 2)
  place = {name: i for i, name in enumerate(names)}
  chosen = [(a, b) for a, b in pairs if a in place and b in place]
  if not chosen:
    return pd.DataFrame()
  hits = np.stack([table.by_name[name][mask] for name in names])
  n = hits.shape[1]
  # Exact: products of 0 and 1, sums far below 2**53.
  together = hits.astype(np.float64)
  together = np.rint(together @ together.T).astype(np.int64)
  a, b = np.array([[place[x], place[y]] for x, y in chosen]).T
  both = together[a, b]
  only_a, only_b = together[a, a] - both, together[b, b] - both
  counts = (both, only_a, only_b, n - both - only_a - only_b)
  columns = (
    *np.transpose(chosen),
    *(table.dataset, subset, table.metric, n),
    *counts,
    *paired.paired_difference_counts(*counts, alpha=alpha),
    *paired.mcnemar_counts(only_a, only_b),
  )
  return pd.DataFrame(dict(zip(COLUMNS, columns, strict=False)))


def cells(rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
  """Yields the cells of paired.csv; p-values keep six digits, however small."""
  for row in rows:
    yield *row[:-4], *(formats.significant(p, 6) for p in row[-4:])


def grid(rows: Sequence[Any], *columns: table.Column) -> table.Table:
  """Returns comparisons as a table, differences in percentage points.

  Args:
    rows: of `compare`.
    *columns: further ones, after the data set.
  """
  p_value = lambda p: formats.significant(p, 2)
  return table.Table(
    "Paired comparisons: difference of accuracies in percentage points with 95%"
    " intervals, McNemar's p-values, adjusted (Holm) over all rows",
    (
      table.Column("model_a", "a"),
      table.Column("model_b", "b"),
      table.Column("dataset", "data set"),
      *columns,
      table.number("n", format=formats.whole),
      table.number("only_a", "only a right", formats.whole),
      table.number("only_b", "only b right", formats.whole),
      table.number(_difference, "a - b"),
      table.number("p_exact", "p exact", p_value),
      table.number("p_mid", "p mid", p_value),
      table.number("p_exact_holm", "p exact, Holm", p_value),
    ),
    rows,
  )


def _difference(row) -> str:
  return formats.with_bounds(row.difference, row.ci_low, row.ci_high)
