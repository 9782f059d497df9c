"""Speeds of rows as text, and how the environments of two runs differ."""

from collections.abc import Mapping
import statistics
from typing import Any

from imgbench.bench import rows
from imgbench.bench import summaries
from imgbench.tables import formats

# Keys of an environment that identify machine and software.
_FACTS = (
  ("machine", ("host", "processor", "cores")),
  ("device", ("platform", "device_kind", "num_devices", "driver")),
  ("software", ("commit", "python", "xla_flags")),
)
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def format_speed(row: rows.Row) -> str:
  """Returns the main number, e.g. "123 images/s", "1.23 TFLOP/s", "34.5 s".

  For a row that failed it returns the status.
  """
  for value, unit in (
    (row.images_per_s, "images/s"),
    (row.rate, row.rate_unit),
    (row.seconds_to_target, "s"),
  ):
    if value is not None:
      return formats.in_unit(value, unit)
  return formats.DASH if row.status == rows.OK else row.status.replace("_", " ")


def format_compared(row: rows.Row, quantity: str = summaries.THROUGHPUT) -> str:
  """Returns the geometric mean over processes, which ratios compare.

  E.g. "123 images/s"; "1.23 s" to a target; "4.56 ms" per step for latency.
  """
  found = summaries.list_speeds(row, quantity)
  if not found or None in found:
    return format_speed(row)
  mean, unit = statistics.geometric_mean(found), "images/s"
  task = row.key.task
  if task in rows.QUANTITIES:
    more = row.rate_unit in rows.MORE_IS_BETTER
    mean, unit = mean if more else 1 / mean, row.rate_unit
  elif task == rows.TIME_TO_ACCURACY:
    mean, unit = 1 / mean, "s"
  elif quantity == summaries.LATENCY:
    mean, unit = summaries.count_work(row) / mean, "s"
  elif task == rows.MICRO:
    unit = row.rate_unit
  return formats.in_unit(mean, unit)


def list_differences(
  before: Mapping[str, Any], after: Mapping[str, Any]
) -> list:
  """Returns differences of two environments as lines: "device: a | b"."""
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
