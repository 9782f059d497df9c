"""How many times more mistakes models make on one data set than on another."""

from collections.abc import Iterable
from collections.abc import Sequence
import math
from typing import NamedTuple

from imgbench.metrics import ratios
from imgbench.papers import program
from imgbench.papers import records
from imgbench.tables import formats


class Ratio(NamedTuple):
  """A row of ratios.csv: error rate on `dataset` over that on `base`.

  `ratio` is None where there is no error on the base; the bounds are None
  where either set has none.
  """

  model: str
  subset: str
  metric: str
  base: str
  dataset: str
  n_base: int
  errors_base: int
  n: int
  errors: int
  ratio: float | None
  ci_low: float | None
  ci_high: float | None

  def text(self) -> str:
    """E.g. "2.43 [2.00, 2.95]"."""
    if self.ratio is None:
      return formats.UNDEFINED
    if self.ci_low is None or self.ci_high is None:
      return f"{self.ratio:.2f}"
    return f"{self.ratio:.2f} [{self.ci_low:.2f}, {self.ci_high:.2f}]"


COLUMNS = Ratio._fields


def compute(
  rows: Sequence[records.Row],
  pairs: Iterable[tuple[str, str]],
  metrics: Sequence[str],
) -> list[Ratio]:
  """Returns the ratios of all models, by model, pair, subset and metric.

  Args:
    rows: of the table.
    pairs: (base, dataset), independent sets of images.
    metrics: plain proportions; a row without a number of hits has no ratio.
  """
  found = {row[:4]: row.value for row in rows if row.value.correct is not None}
  subsets = dict.fromkeys(row.subset for row in rows)
  pairs = list(pairs)
  return [
    _ratio((model, subset, metric, base, dataset), *ends)
    for model in sorted({row.model for row in rows})
    for base, dataset in pairs
    for subset in subsets
    for metric in metrics
    if None
    not in (
      ends := [found.get((model, x, subset, metric)) for x in (base, dataset)]
    )
  ]


def _ratio(what, first, second) -> Ratio:
  numbers = ratios.error_ratio(first.correct, first.n, second.correct, second.n)
  counts = (first.n, first.n - first.correct)
  counts += (second.n, second.n - second.correct)
  known = (None if math.isnan(x) else float(x) for x in numbers)
  return Ratio(*what, *counts, *known)


def write(output: program.Output, found: Iterable[Ratio]) -> None:
  """Adds ratios.csv, and why ratios are not defined, to the output."""
  found = list(found)
  output.csv("ratios.csv", COLUMNS, found)
  for entry in found:
    if entry.ratio is None:
      what = "/".join(entry[:3])
      output.undefined(
        f"error ratio of {what}, {entry.dataset} over {entry.base}",
        f"no error on {entry.base}",
      )
