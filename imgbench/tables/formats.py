"""Formats of numbers and names. Rates become percent here only."""

from collections.abc import Callable
import functools
import math
import re
from typing import Any

import numpy as np

from imgbench.metrics import specs
from imgbench.tables import entries

UNDEFINED, DASH = "undefined", "–"
# Formats of axis ticks, for Matplotlib's `set_major_formatter`.
VALUE_TICKS, PERCENT_TICKS = "{x:,.10g}", "{x:,.10g}%"
COUNT_TICKS = "{x:,.0f}"
# Unit of a metric -> format of a value, and its suffix.
_NUMBERS = {
  specs.RATE: lambda value: f"{100 * value:.2f}",
  specs.POINTS: lambda value: f"{100 * value:z.1f}",
  specs.COUNT: lambda value: f"{value:,.0f}",
  specs.NUMBER: lambda value: f"{value:.4f}",
  specs.ERROR: lambda value: f"{value:#.3g}",
  specs.DECIBEL: lambda value: f"{value:.2f}",
}
_UNITS = {specs.RATE: "%", specs.POINTS: " points", specs.DECIBEL: " dB"}


def number(metric: str, value: float | None) -> str:
  """Returns a value of a metric; rates in percent, without the sign."""
  if value is None:
    return UNDEFINED
  return _NUMBERS[specs.describe(metric).unit](value)


def unit(metric: str) -> str:
  """Returns the suffix of a value of a metric: "%", " points" or ""."""
  return _UNITS.get(specs.describe(metric).unit, "")


def value(row: entries.Row) -> str:
  """Returns e.g. "93.12%", "11.7 points" or "undefined"."""
  text = number(row.metric, row.value)
  return text if row.value is None else text + unit(row.metric)


def interval(row: entries.Row, separator: str = " – ") -> str:
  """Returns e.g. "92.61 – 93.60"; "" without an interval."""
  if row.ci_low is None or row.ci_high is None:
    return ""
  return separator.join(
    number(row.metric, bound) for bound in (row.ci_low, row.ci_high)
  )


def drop(row: entries.Row) -> str:
  """Returns e.g. "11.7 points [10.9, 12.5]"; bounds may be negative."""
  bounds = interval(row, ", ")
  return f"{value(row)} [{bounds}]" if bounds else value(row)


def shifted(row: entries.Row) -> str:
  """Returns the accuracy that `row.shift` compares with the base set's.

  If the set lacks classes, the row's mean over classes is undefined; the drop
  covers the classes that occur, so base minus drop is shown.
  """
  if row.value is None and row.shift is not None:
    base, lost = row.shift.base.value, row.shift.drop.value
    if base is not None and lost is not None:
      return number(row.metric, base - lost) + unit(row.metric)
  return value(row)


def unreviewed(row: entries.Row) -> str:
  """Returns e.g. "1.17% never reviewed: 96.86 to 98.03"; "" if all are.

  The bounds are the value with all such predictions wrong, or all right.
  """
  if row.unreviewed is None or not row.unreviewed.share:
    return ""
  share = number(row.metric, row.unreviewed.share) + unit(row.metric)
  low, high = (
    number(row.metric, bound)
    for bound in (row.unreviewed.low, row.unreviewed.high)
  )
  return f"{share} never reviewed: {low} to {high}"


def counted(correct: int | None, n: int) -> str:
  """Returns e.g. "7,812 of 10,000"; "10,000" if `correct` is None."""
  return f"{n:,}" if correct is None else f"{correct:,} of {n:,}"


def share(fraction: float | None) -> str:
  """Returns e.g. "93.1%"; "undefined" for None."""
  return UNDEFINED if fraction is None else f"{100 * fraction:.1f}%"


def percent(fraction: float | None, digits: int = 2) -> str:
  """Returns e.g. "76.13"; "undefined" for None."""
  return UNDEFINED if fraction is None else f"{100 * fraction:z.{digits}f}"


def difference(value: float, digits: int = 2) -> str:
  """Returns a number with its sign: "+0.03"."""
  return f"{value:+z.{digits}f}"


def signed(fraction: float | None) -> str:
  """Returns percentage points with their sign: "+0.03"; "" for None."""
  return "" if fraction is None else difference(100 * fraction)


def _bracketed(
  value, low, high, show: Callable[[Any], str], unit: str = ""
) -> str:
  """Returns "value [low, high]"; no brackets without bounds."""
  if value is None:
    return show(value)
  text = show(value) + unit
  if low is None or high is None:
    return text
  return f"{text} [{show(low)}, {show(high)}]"


def with_bounds(
  value: float | None, low: float | None, high: float | None, unit: str = ""
) -> str:
  """Returns e.g. "76.13 [75.75, 76.50]" in percent, or the value alone."""
  return _bracketed(value, low, high, percent, unit)


def decimals(
  value: float | None, low: float | None, high: float | None, digits: int = 2
) -> str:
  """Returns e.g. "2.43 [2.00, 2.95]"; no brackets without bounds."""
  show = lambda x: UNDEFINED if x is None else f"{x:z.{digits}f}"
  return _bracketed(value, low, high, show)


def measured(entry: Any) -> str:
  """Returns a `metrics.measurement.Measurement` in percent; "" for None."""
  if entry is None:
    return ""
  return with_bounds(entry.value, entry.ci_low, entry.ci_high)


def number_with_bounds(
  metric: str, value: float | None, low: float | None, high: float | None
) -> str:
  """Returns a value of a metric with its interval: "76.13 [75.75, 76.50]"."""
  return _bracketed(value, low, high, functools.partial(number, metric))


def decimal(value: float | None, digits: int = 3) -> str:
  """Returns e.g. "0.654"; a dash for None."""
  return DASH if value is None else f"{value:.{digits}f}"


def short_percent(share: float) -> str:
  """Returns percent without trailing zeros: "95%", "93.75%"."""
  return f"{100 * share:.6g}%"


def exact(value: Any) -> str:
  """Returns a cell of a CSV file: floats with 8 decimals, "" for None.

  Raises:
    ValueError: a number that is not finite.
  """
  if not isinstance(value, float | np.floating):
    return "" if value is None else str(value)
  if not math.isfinite(value):
    raise ValueError(f"expected a finite number or None, got {value}")
  return f"{value:z.8f}"


def metric_title(metric: str) -> str:
  """Returns the title of a metric, e.g. "Top-1 accuracy"."""
  label = specs.describe(metric).label
  return label[0].upper() + label[1:]


def whole(number: float | None) -> str:
  """Returns e.g. "12,345"; "" for None."""
  return "" if number is None else f"{number:,.0f}"


def duration(seconds: float | None) -> str:
  """Returns e.g. "48 s", "1 min 54 s", "3 h 5 min"; "" for None."""
  if seconds is None:
    return ""
  total = round(seconds)
  if total < 60:
    return f"{total} s"
  minutes, rest = divmod(total, 60)
  if minutes < 60:
    return f"{minutes} min {rest} s"
  return f"{minutes // 60} h {minutes % 60} min"


def moment(iso: str) -> str:
  """Returns e.g. "2025-01-31 10:20 UTC" for "2025-01-31T10:20:30+00:00"."""
  found = re.fullmatch(r"(\S{10})T(\d\d:\d\d):\S*\+00:00", iso)
  return f"{found[1]} {found[2]} UTC" if found else iso


def short(name: str, limit: int = 28) -> str:
  """Returns a name on one line of at most `limit` characters."""
  name = " ".join(name.split())
  return name if len(name) <= limit else name[: limit - 1].rstrip() + "…"


def si(value: float, unit: str = "") -> str:
  """Returns three significant digits, e.g. "1.23 TFLOP/s"."""
  for scale, prefix in _PREFIXES:
    if abs(value) >= scale * (1 - 0.5e-3):
      return f"{value / scale:#.3g}".rstrip(".") + f" {prefix}{unit}"
  return f"{value:.3g} {unit}".rstrip()


def tick(value: float) -> str:
  """Returns a round number on an axis: "20 k", "0.5"."""
  for scale, prefix in _PREFIXES:
    if value >= scale:
      return f"{value / scale:g} {prefix}"
  return f"{value:g}"


def rounded(value: float) -> str:
  """Returns three significant digits: "0.0123", "12.3", "12,300"."""
  text = f"{value:#.3g}".rstrip(".")
  return f"{float(text):,.0f}" if "e+" in text else text


def significant(value: float, digits: int = 4) -> str:
  """Returns so many significant digits: "2125", "0.01234", "1.5"."""
  return f"{value:.{digits}g}"


def seconds(value: float) -> str:
  """Returns e.g. "12.3 s", "4.56 ms", "7.89 µs"."""
  units = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))
  scale, unit = next((u for u in units if value >= u[0]), units[-1])
  return f"{rounded(value / scale)} {unit}"


def ratio(value: float) -> str:
  """Returns a ratio, e.g. "1.034" or "12.3"."""
  return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def in_unit(value: float | None, unit: str | None) -> str:
  """Returns e.g. "1.23 TFLOP/s", "56.7 µs per call", "123 images/s".

  Args:
    value: a number; None gives a dash.
    unit: of the number; an unknown one is left out.
  """
  return DASH if value is None else _IN_UNITS.get(unit, rounded)(value)


_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_IN_UNITS: dict[str | None, Callable[[float], str]] = {
  "FLOP/s": functools.partial(si, unit="FLOP/s"),
  "bytes/s": functools.partial(si, unit="B/s"),
  "calls/s": lambda rate: f"{seconds(1 / rate)} per call",
  "images/s": lambda rate: f"{rounded(rate)} images/s",
  "bytes": functools.partial(si, unit="B"),
  "count": si,
  "s": seconds,
  "ms": lambda ms: seconds(ms / 1e3),
  "share": lambda share: f"{rounded(100 * share)}%",
}
