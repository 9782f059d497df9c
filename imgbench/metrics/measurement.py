"""Measurements: values with n, interval and definition."""

from collections.abc import Mapping
import dataclasses
import math
import numbers
from typing import Any
from typing import SupportsFloat
from typing import SupportsInt

import numpy as np

from imgbench import errors
from imgbench.metrics import calibration
from imgbench.metrics import intervals


@dataclasses.dataclass(frozen=True)
class Measurement:
  """A value of results.json.

  Attributes:
    n: number of examples.
    correct: number of hits if the value is a plain proportion, else None.
    value: rates are fractions in [0, 1]; None is undefined, with the reason in
      the definition.
    ci_low: lower end of the interval, or None.
    ci_high: upper end of the interval, or None.
    ci_method: method of the interval, or None.
    definition: one sentence that defines the value.

  Raises:
    InputError: a number that is not finite, or half an interval.
  """

  n: int
  correct: int | None
  value: float | None
  ci_low: float | None
  ci_high: float | None
  ci_method: str | None
  definition: str

  def __post_init__(self):
    for field in ("value", "ci_low", "ci_high"):
      number = getattr(self, field)
      if number is not None and not _is_finite(number):
        expected = "a finite number or None"
        raise errors.InputError(field, expected, repr(number))
    interval = (self.ci_low, self.ci_high, self.ci_method)
    if len({part is None for part in interval}) != 1:
      names = "ci_low, ci_high, ci_method"
      raise errors.InputError(names, "all three or none", interval)

  def as_json(self) -> dict[str, Any]:
    """Returns the entry of results.json."""
    return dataclasses.asdict(self)


def from_json(entry: Mapping[str, Any]) -> Measurement:
  """Returns the measurement of an entry of results.json.

  Raises:
    InputError: fields that are missing or unknown, or see `Measurement`.
  """
  fields = {field.name for field in dataclasses.fields(Measurement)}
  if not isinstance(entry, Mapping) or set(entry) != fields:
    given = sorted(entry) if isinstance(entry, Mapping) else repr(entry)
    raise errors.InputError("fields", f"{sorted(fields)}", given)
  return Measurement(**entry)


def _is_finite(number: Any) -> bool:
  # Checks of abstract types are slow.
  real = type(number) is float or isinstance(number, numbers.Real)
  return real and math.isfinite(number)


class Measurer:
  """Creates measurements that share alpha and a protocol.

  Args:
    alpha: intervals cover 1 - alpha.
    protocol: how predictions were made, if not by one plain forward pass;
      appended to every definition.
    bootstrap: false: proportions and class means have no intervals, to be fast.
  """

  def __init__(self, alpha: float, protocol: str = "", bootstrap: bool = True):
    self._alpha, self._bootstrap = alpha, bootstrap
    self._suffix = f"; {protocol}" if protocol else ""

  def value(
    self,
    n: SupportsInt,
    value: SupportsFloat,
    definition: str,
    *,
    correct: SupportsInt | None = None,
    interval: tuple[SupportsFloat, SupportsFloat, str] | None = None,
  ) -> Measurement:
    """Returns a value of n examples, with (low, high, method) or None."""
    low, high, method = interval or (None, None, None)
    return Measurement(
      n=int(n),
      correct=None if correct is None else int(correct),
      value=float(value),
      ci_low=None if low is None else float(low),
      ci_high=None if high is None else float(high),
      ci_method=method,
      definition=definition + self._suffix,
    )

  def undefined(self, n: int, definition: str, why: str) -> Measurement:
    """Returns an undefined measurement, with the reason."""
    text = f"{definition}; undefined: {why}{self._suffix}"
    return Measurement(int(n), None, None, None, None, None, text)

  def redefined(self, entry: Measurement, definition: str) -> Measurement:
    """Returns the numbers with another definition, unless undefined."""
    if entry.value is None:
      return entry
    return dataclasses.replace(entry, definition=definition + self._suffix)

  def proportion(self, correct: int, n: int, definition: str) -> Measurement:
    """Returns correct / n; undefined without examples."""
    if n == 0:
      return self.undefined(0, definition, "no example")
    interval = None
    if self._bootstrap:
      low, high = intervals.clopper_pearson(correct, n, self._alpha)
      interval = low, high, intervals.CLOPPER_PEARSON
    return self.value(
      n, correct / n, definition, correct=correct, interval=interval
    )

  def class_mean(
    self, hits: np.ndarray, count: np.ndarray, definition: str
  ) -> Measurement:
    """Returns the class mean of hits / count; undefined if one is empty."""
    everything = {"all": np.ones(len(count), bool)}
    return self.class_means(hits, count, everything, definition)["all"]

  def class_means(
    self,
    hits: np.ndarray,
    count: np.ndarray,
    masks: Mapping[str, np.ndarray],
    definition: str,
  ) -> dict[str, Measurement]:
    """Returns `class_mean` of several sets of classes, bool [K] masks."""
    whole = {
      name: mask
      for name, mask in masks.items()
      if mask.any() and count[mask].all()
    }
    bounds = dict.fromkeys(whole)
    if whole and self._bootstrap:
      found = intervals.class_means(
        hits, count, np.stack(list(whole.values())), self._alpha
      )
      bounds = dict(zip(whole, found, strict=True))
    rows = {}
    for name, mask in masks.items():
      n = int(count[mask].sum())
      if name in bounds:
        value = (hits[mask] / count[mask]).mean()
        rows[name] = self.value(n, value, definition, interval=bounds[name])
      else:
        absent = int((count[mask] == 0).sum())
        why = f"{absent} of {int(mask.sum())} classes have no example"
        rows[name] = self.undefined(n, definition, why)
    return rows

  def mean(
    self, values: np.ndarray, definition: str, missing: str
  ) -> Measurement:
    """Returns the mean of float [N]; undefined if not all are finite.

    Args:
      values: float [N].
      definition: of the mean.
      missing: reason if a value is not finite.
    """
    if not len(values):
      return self.undefined(0, definition, "no such example")
    if not np.isfinite(values).all():
      return self.undefined(len(values), definition, missing)
    low, high = intervals.normal(values, self._alpha)
    interval = (low, high, intervals.NORMAL) if len(values) > 1 else None
    return self.value(
      len(values), np.mean(values), definition, interval=interval
    )

  def calibration_error(
    self, bins: calibration.Reliability, definition: str
  ) -> Measurement:
    """Returns the expected calibration error; undefined without examples."""
    n = bins.count.sum()
    if not n:
      return self.undefined(0, definition, "no such example")
    interval = calibration.ece_interval(bins, self._alpha)
    return self.value(n, calibration.ece(bins), definition, interval=interval)
