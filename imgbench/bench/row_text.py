"""Numbers of rows as people read them."""

from collections.abc import Mapping
import statistics
from typing import Any

from imgbench.bench import rows
from imgbench.bench import summaries

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# What identifies the machine and software of a run, as environments have it.
_FACTS = (
  ("machine", ("host", "processor", "cores")),
  ("device", ("platform", "device_kind", "num_devices", "driver")),
  ("software", ("commit", "python", "xla_flags")),
)
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def si(value: float, unit: str = "") -> str:
  """E.g. "1.23 TFLOP/s"; three digits that count."""
  for scale, prefix in _PREFIXES:
    if abs(value) >= scale * (1 - 0.5e-3):
      return f"{value / scale:#.3g}".rstrip(".") + f" {prefix}{unit}"
  return f"{value:.3g} {unit}".rstrip()


def tick(value: float) -> str:
  """A round number on an axis: "20 k", "0.5"."""
  for scale, prefix in _PREFIXES:
    if value >= scale:
      return f"{value / scale:g} {prefix}"
  return f"{value:g}"


def rounded(value: float) -> str:
  """Three digits that count and no exponent: "0.0123", "12.3", "12,345"."""
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def seconds(value: float | None) -> str:
  """E.g. "12.3 s", "4.56 ms", "7.89 µs"; a dash for None."""
  if value is None:
    return "–"
  units = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))
  scale, unit = next((u for u in units if value >= u[0]), units[-1])
  return f"{rounded(value / scale)} {unit}"


def speed(row: rows.Row) -> str:
  """The main number of a row: "123 images/s", "1.23 TFLOP/s", "34.5 s".

  Of a row that did not succeed it is the status.
  """
  if row.images_per_s is not None:
    return f"{rounded(row.images_per_s)} images/s"
  if row.rate is not None:
    return rate(row.rate, row.rate_unit)
  if row.seconds_to_target is not None:
    return seconds(row.seconds_to_target)
  return row.status.replace("_", " ") if row.status != rows.OK else "–"


def compared(row: rows.Row, quantity: str = summaries.THROUGHPUT) -> str:
  """What ratios are of: the geometric mean over processes, not the median.

  E.g. "123 images/s"; "1.23 s" to a target; "4.56 ms" a step for latency.
  """
  found = summaries.speeds(row, quantity)
  if not found or None in found:
    return speed(row)
  mean = statistics.geometric_mean(found)
  if row.key.task == rows.TIME_TO_ACCURACY:
    return seconds(1 / mean)
  if quantity == summaries.LATENCY:
    return seconds(summaries.amount(row) / mean)
  if row.key.task == rows.MICRO:
    return rate(mean, row.rate_unit)
  return f"{rounded(mean)} images/s"


def rate(value: float, unit: str | None) -> str:
  """A microbenchmark's: "1.23 TFLOP/s", "34.5 GB/s", "56.7 µs per call"."""
  if unit == "calls/s":
    return f"{seconds(1 / value)} per call"
  return si(value, "B/s" if unit == "bytes/s" else unit or "")


def ratio(value: float) -> str:
  """A ratio near 1: "1.034"; far from it with fewer decimals."""
  return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list:
  """Lines on how the environments of two runs differ: "device: a | b"."""
  lines = []
  for title, names in _FACTS:
    for name in names:
      pair = [str(e.get(name, "unknown")) or "none" for e in (before, after)]
      if pair[0] != pair[1]:
        lines.append(f"{title}: {name}: {pair[0]} | {pair[1]}")
  versions = [e.get("versions", {}) for e in (before, after)]
  for name in _PACKAGES:
    pair = [str(v.get(name, "unknown")) for v in versions]
    if pair[0] != pair[1]:
      lines.append(f"software: {name}: {pair[0]} | {pair[1]}")
  return lines
