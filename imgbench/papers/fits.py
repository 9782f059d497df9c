"""Linear fits of accuracy on one data set against another."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import Any

import numpy as np
import pandas as pd

from imgbench import errors
from imgbench.papers import program
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

PLAIN, PROBIT = "plain", "probit"
SCALES = (PLAIN, PROBIT)
ALL_MODELS, WITHOUT_FISHER = "all", "without_fisher_vectors"

COLUMNS = (
  "base",
  "base_metric",
  "dataset",
  "metric",
  "subset",
  "scale",
  "models",
  "n",
  "slope",
  "slope_low",
  "slope_high",
  "intercept",
  "intercept_low",
  "intercept_high",
  "r",
)

_FEWEST = 3  # models, for an interval: through two a line always fits


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
  """Least squares of y on x over models, on a scale.

  Attributes:
    scale: PLAIN, or PROBIT: both accuracies through the normal quantile.
    n: models.
    slope: of the line.
    intercept: of the line, a fraction, or a normal quantile in PROBIT.
    r: Pearson's correlation on the scale; None where y does not vary.
    draws: float64 [R, 2], slope and intercept of bootstrap resamples of the
      models; R is 0 for fewer than three models.
  """

  scale: str
  n: int
  slope: float
  intercept: float
  r: float | None
  draws: np.ndarray

  @property
  def slope_bounds(self) -> tuple[float | None, float | None]:
    """Returns the 95% bootstrap interval of the slope; None for few models."""
    return _bounds(self.draws[:, 0])

  @property
  def intercept_bounds(self) -> tuple[float | None, float | None]:
    """Returns the 95% bootstrap interval of the intercept, or None."""
    return _bounds(self.draws[:, 1])

  def predict(self, x) -> np.ndarray:
    """Returns y, fractions, at x, fractions in (0, 1) of any shape."""
    scaled = to_scale(x, self.scale)
    return from_scale(self.slope * scaled + self.intercept, self.scale)

  def band(self, x) -> tuple[np.ndarray, np.ndarray]:
    """Returns 95% bootstrap bounds of the line at x [G]: (low, high) [G].

    Raises:
      ValueError: too few models for a bootstrap.
    """
    if not len(self.draws):
      raise ValueError(f"expected {_FEWEST} models or more, got {self.n}")
    slope, intercept = self.draws.T[:, :, None]
    lines = slope * to_scale(x, self.scale) + intercept
    low, high = np.quantile(lines, [0.025, 0.975], axis=0)
    return from_scale(low, self.scale), from_scale(high, self.scale)


def to_scale(values, scale: str) -> np.ndarray:
  """Returns fractions on a scale; 0 and 1 are infinite in PROBIT."""
  from scipy import special

  values = np.asarray(values, np.float64)
  return special.ndtri(values) if _check(scale) == PROBIT else values


def from_scale(values, scale: str) -> np.ndarray:
  """Returns fractions of values on a scale; the inverse of `to_scale`."""
  from scipy import special

  values = np.asarray(values, np.float64)
  return special.ndtr(values) if _check(scale) == PROBIT else values


def _check(scale: str) -> str:
  if scale not in SCALES:
    raise errors.InputError("scale", f"one of {', '.join(SCALES)}", repr(scale))
  return scale


def fit(
  x, y, scale: str = PLAIN, num_resamples: int = 1000, seed: int = 0
) -> Fit:
  """Returns the least-squares line of y on x with a bootstrap over models.

  Args:
    x: float [M], accuracies on the base data set, fractions.
    y: float [M], of the same models on the other.
    scale: one of SCALES.
    num_resamples: draws of M models with replacement; those in which x does
      not vary have no line and are left out.
    seed: of the draws.

  Raises:
    InputError: fewer than two models, x that does not vary, values outside
      [0, 1], in PROBIT an accuracy of 0 or 1.

  Source: Recht et al. 2019, figure 1 and appendix D; the probit scale is that
    of Taori et al. 2020. Intervals: Efron and Tibshirani 1993 (pairs).
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
    given = f"shapes {list(x.shape)} and {list(y.shape)}"
    raise errors.InputError("x and y", "both [M] of two models or more", given)
  given = f"{[*x.tolist(), *y.tolist()]!s:.80}"
  if not np.all((x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)):
    raise errors.InputError("x and y", "accuracies in [0, 1]", given)
  x, y = to_scale(x, scale), to_scale(y, scale)
  if not (np.isfinite(x).all() and np.isfinite(y).all()):
    raise errors.InputError(
      "x and y", f"accuracies in (0, 1) for {scale}", given
    )
  if np.ptp(x) == 0:
    raise errors.InputError("x", "different accuracies", "all the same")
  slope, intercept = _lines(x, y)
  r = None if np.ptp(y) == 0 else float(np.corrcoef(x, y)[0, 1])
  draws = np.zeros((0, 2))
  if len(x) >= _FEWEST:
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(x), (num_resamples, len(x)))
    chosen = chosen[np.ptp(x[chosen], axis=1) > 0]
    draws = np.stack(_lines(x[chosen], y[chosen]), axis=1)
  return Fit(scale, len(x), float(slope), float(intercept), r, draws)


def _lines(x, y):
  """Returns slopes and intercepts along the last axis."""
  mean_x, mean_y = x.mean(-1, keepdims=True), y.mean(-1, keepdims=True)
  slope = np.sum((x - mean_x) * (y - mean_y), -1) / np.sum(
    (x - mean_x) ** 2, -1
  )
  return slope, mean_y[..., 0] - slope * mean_x[..., 0]


def _bounds(draws: np.ndarray) -> tuple[float | None, float | None]:
  if not len(draws):
    return None, None
  low, high = np.quantile(draws, [0.025, 0.975])
  return float(low), float(high)


def is_fisher_vector(model: str) -> bool:
  """Returns whether a model is a public Fisher-vector model, fv_4k to fv_64k.

  These are no neural networks, and far from the line of the others.
  """
  return model.startswith("fv_")


@dataclasses.dataclass(frozen=True)
class FittedLine:
  """A row of fits.csv: a fit, or the `reason` why there is none.

  x is `base_metric` on `base`, y is `metric` on `dataset`.
  """

  base: str
  base_metric: str
  dataset: str
  metric: str
  subset: str
  scale: str
  models: str
  n: int
  fit: Fit | None
  reason: str = ""

  @property
  def name(self) -> str:
    """Key of the fit in the manifest."""
    return (
      f"fit of {self.dataset}/{self.subset}/{self.metric} on"
      f" {self.base}/{self.subset}/{self.base_metric}, {self.scale},"
      f" {self.models}"
    )

  def cells(self) -> tuple[Any, ...]:
    """Returns the row in the order of COLUMNS."""
    what = [getattr(self, name) for name in COLUMNS[:8]]
    if self.fit is None:
      return *what, *[None] * 7
    f = self.fit
    return (
      *what,
      f.slope,
      *f.slope_bounds,
      f.intercept,
      *f.intercept_bounds,
      f.r,
    )


def fit_lines(
  rows: pd.DataFrame,
  pairs: Sequence[tuple[str, str]],
  metrics: Sequence[tuple[str, str]],
  leave_out: frozenset[str] = frozenset(),
) -> list[FittedLine]:
  """Returns all fits: pairs x subsets x metrics x scales x choices of models.

  Fits without Fisher vectors are added if there are such models.

  Args:
    rows: of the table.
    pairs: (base, dataset).
    metrics: (metric on the base, metric on the data set), often equal.
    leave_out: your models, which must not move the line that they are compared
      with.
  """
  kept = rows[~rows.model.isin(list(leave_out))]
  wide = kept.pivot(index="model", columns=list(frame.AXIS), values="value")
  values = dict(zip(wide.columns, wide.to_numpy().T, strict=True))
  nothing = np.full(len(wide), np.nan)
  fisher = np.array([is_fisher_vector(model) for model in wide.index], bool)
  found = []
  for pair, subset, both in itertools.product(
    pairs, rows.subset.unique(), metrics
  ):
    x, y = (
      values.get((name, subset, metric), nothing)
      for name, metric in zip(pair, both, strict=True)
    )
    known = ~np.isnan(x + y)
    choices = {ALL_MODELS: known}
    if (known & fisher).any():
      choices[WITHOUT_FISHER] = known & ~fisher
    what = (pair[0], both[0], pair[1], both[1], subset)
    found += [
      _line(what, scale, models, x[chosen], y[chosen])
      for scale in SCALES
      for models, chosen in choices.items()
    ]
  return found


def _line(what: tuple[str, ...], scale: str, models: str, x, y) -> FittedLine:
  try:
    return FittedLine(*what, scale, models, len(x), fit(x, y, scale))
  except errors.InputError as error:
    return FittedLine(*what, scale, models, len(x), None, str(error))


def find_line(
  lines: Iterable[FittedLine],
  x: tuple[str, str],
  y: tuple[str, str],
  **what: str,
) -> FittedLine | None:
  """Returns the line of y on x, without Fisher vectors if there is one.

  Args:
    lines: of `fit_lines`.
    x: data set and metric of one axis.
    y: those of the other.
    **what: subset and scale, and the choice of models if it matters.
  """
  what = dict(zip(("base", "base_metric"), x, strict=True)) | what
  what |= dict(zip(("dataset", "metric"), y, strict=True))
  found = [
    line
    for line in lines
    if all(getattr(line, name) == value for name, value in what.items())
  ]
  return max(
    found, key=lambda line: line.models == WITHOUT_FISHER, default=None
  )


def name_fit(without: bool) -> str:
  """Returns the label of a line in legends."""
  return "linear fit" + (" without Fisher vectors" if without else "")


def grid(
  lines: Iterable[FittedLine], titles: Mapping[str, str], caption: str
) -> table.Table:
  """Returns the fits as a table; intercepts of PLAIN in percentage points."""
  rows = []
  for line in lines:
    y = titles.get(line.dataset, line.dataset)
    x = titles.get(line.base, line.base)
    axes = (f"{y} on {x}", line.metric)
    if line.base == line.dataset:
      axes = (y, f"{line.metric} on {line.base_metric}")
    models = line.models.replace("_", " ")
    what = (*axes, line.subset, line.scale, models, str(line.n))
    rows.append((*what, *_numbers(line)))
  header = ("line of", "metric", "subset", "scale", "models", "n")
  return table.from_cells(
    caption, (*header, "slope", "intercept", "r"), tuple(rows), num_left=5
  )


def _numbers(line: FittedLine) -> tuple[str, str, str]:
  f = line.fit
  if f is None:
    return formats.UNDEFINED, formats.UNDEFINED, formats.UNDEFINED
  slope = formats.decimals(f.slope, *f.slope_bounds, 3)
  scale, digits = (100, 1) if f.scale == PLAIN else (1, 3)
  bounds = [b if b is None else scale * b for b in f.intercept_bounds]
  intercept = formats.decimals(scale * f.intercept, *bounds, digits)
  return slope, intercept, "" if f.r is None else formats.decimal(f.r, 4)


def write(
  output: program.Output,
  lines: Sequence[FittedLine],
  name: str = "fits.csv",
  where: str = "",
) -> None:
  """Adds a file of fits, and the reasons of undefined ones, to the output.

  Args:
    output: to add to.
    lines: in the order of the file.
    name: of the file.
    where: prefix of the names of undefined fits.
  """
  output.csv(name, COLUMNS, [line.cells() for line in lines])
  for line in lines:
    if line.fit is None:
      output.undefined(where + line.name, line.reason)
