"""A number with its name's definition, its n and its interval."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measurement:
  """A value of results.json.

  Attributes:
    n: examples that the value is computed from.
    correct: of them right, where the value is a plain proportion, else None.
    value: rates are fractions in [0, 1]; None is undefined, and the
      definition says why.
    ci_low: lower end of the interval, or None.
    ci_high: upper end of the interval, or None.
    ci_method: how the interval is made, or None.
    definition: one sentence that says what the value is.

  Raises:
    ValueError: a number that is not finite, or half an interval.
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
      if number is not None and not math.isfinite(number):
        raise ValueError(
          f"{field}: expected a finite number or None, got {number}"
        )
    interval = (self.ci_low, self.ci_high, self.ci_method)
    if len({part is None for part in interval}) != 1:
      raise ValueError(
        f"expected ci_low, ci_high and ci_method together, got {interval}"
      )

  def as_json(self) -> dict[str, Any]:
    """Returns the entry of results.json."""
    return dataclasses.asdict(self)


def from_json(entry: Mapping[str, Any]) -> Measurement:
  """Returns the measurement of an entry of results.json.

  Raises:
    ValueError: fields that are missing or unknown, or see `Measurement`.
  """
  fields = {field.name for field in dataclasses.fields(Measurement)}
  if set(entry) != fields:
    raise ValueError(
      f"expected the fields {sorted(fields)}, got {sorted(entry)}"
    )
  return Measurement(**entry)
