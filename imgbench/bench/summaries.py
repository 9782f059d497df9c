"""Computes the numbers of a row from the measurements of its processes."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import statistics

import numpy as np

from imgbench import errors
from imgbench.bench import medians
from imgbench.bench import rows

THROUGHPUT, LATENCY = "throughput", "latency"
QUANTITIES = (THROUGHPUT, LATENCY)


@dataclasses.dataclass(frozen=True)
class Facts:
  """Facts of a point besides its times; None if unknown.

  Attributes:
    params: number of trained parameters.
    flops_per_image: analytic; forward, or forward and backward for training.
    bytes_accessed: of a step on one device, as the compiler counts them.
    peak_flops: name of a peak -> FLOP/s of one device ("datasheet",
      "measured").
    bandwidth: measured bytes per second of one device's memory.
    attention: implementation of the model's attention.
    work: of one call of a microbenchmark: FLOPs, bytes or 1.
    rate_unit: "FLOP/s", "bytes/s" or "calls/s"; the unit of a quantity.
  """

  params: int | None = None
  flops_per_image: float | None = None
  bytes_accessed: float | None = None
  peak_flops: Mapping[str, float] = dataclasses.field(default_factory=dict)
  bandwidth: float | None = None
  attention: str | None = None
  work: float | None = None
  rate_unit: str | None = None


def build_row(
  key: rows.Key,
  processes: Sequence[rows.Process],
  facts: Facts = Facts(),
  **about,
) -> rows.Row:
  """Returns the checked row of a measured point.

  Args:
    key: which point.
    processes: one per fresh process; with fewer than `medians.MIN_PROCESSES`
      bounds are None.
    facts: of the point.
    **about: further fields of the row: message, batch_asked, num_processes,
      environment.

  Raises:
    InputError: the row contradicts itself.
  """
  numbers = {c.name: _reduce(c, processes) for c in rows.MEASURED if c.over}
  if key.task == rows.TIME_TO_ACCURACY:
    numbers |= _summarize_runs(processes)
  elif key.task in rows.QUANTITIES:
    numbers |= _summarize_quantity(processes, facts)
  else:
    numbers |= _summarize_times(processes) | _summarize_speeds(
      key, processes, facts
    )
  made = rows.Row(
    key=key,
    processes=len(processes),
    raw=tuple(processes),
    params=facts.params,
    attention=facts.attention,
    **numbers,
    **about,
  )
  rows.check(made)
  return made


def list_speeds(
  row: rows.Row, quantity: str = THROUGHPUT
) -> list[float | None]:
  """Returns the speed of each process, which comparisons use; more is better.

  Images per second, or the rate of a microbenchmark, from the median round
  (throughput) or the median step (latency) of the process; 1 / seconds for time
  to accuracy. None if a process did not measure the quantity. For quantities it
  is the value of each round, or 1 / value if less is better; None for values
  that have no logarithm.
  """
  if row.key.task in rows.QUANTITIES:
    power = 1 if row.rate_unit in rows.MORE_IS_BETTER else -1
    return [p.value**power if p.value > 0 else None for p in row.raw]
  if row.key.task == rows.TIME_TO_ACCURACY:
    seconds = [process.seconds_to_target for process in row.raw]
  elif quantity == THROUGHPUT:
    seconds = [_median(process.throughput_s) for process in row.raw]
  else:
    milliseconds = [_median(process.latencies_ms) for process in row.raw]
    seconds = [None if m is None else m / 1e3 for m in milliseconds]
  return [None if s is None else count_work(row) / s for s in seconds]


def count_work(row: rows.Row) -> float:
  """Returns the work of a step: images, or the work of a microbenchmark."""
  return row.key.batch if row.key.task in rows.IMAGE_TASKS else row.work or 1


def _reduce(
  column: rows.RowColumn, processes: Sequence[rows.Process]
) -> float | None:
  """Returns the row's number from those of its processes."""
  values = [getattr(process, column.name) for process in processes]
  known = [value for value in values if value is not None]
  return column.over(known) if known else None


def _summarize_quantity(
  processes: Sequence[rows.Process], facts: Facts
) -> dict:
  values = [process.value for process in processes]
  return {
    "rate": statistics.median(values),
    "rate_low": min(values),
    "rate_high": max(values),
    "rate_unit": facts.rate_unit,
    "interval_method": medians.RANGE,
  }


def _summarize_times(processes: Sequence[rows.Process]) -> dict:
  by_cache = {True: [], False: []}
  for process in processes:
    if process.compile_s is not None:
      by_cache[bool(process.compile_cached)].append(process.compile_s)
  steps = [ms for process in processes for ms in process.latencies_ms]
  latency = None
  if steps:
    values = np.quantile(steps, [0.5, 0.9, 0.99])
    names = ("median", "p90", "p99")
    latency = dict(zip(names, values.tolist(), strict=True))
  return {
    "compile_cold_s": _median(by_cache[False]),
    "compile_cached_s": _median(by_cache[True]),
    "latency_ms": latency,
  }


def _summarize_speeds(
  key: rows.Key, processes: Sequence[rows.Process], facts: Facts
) -> dict:
  seconds = [_median(process.throughput_s) for process in processes]
  if None in seconds or not seconds:
    expected = "throughput_s of each process"
    raise errors.InputError(key.text(), expected, "none")
  if key.task == rows.MICRO:
    if facts.work is None or facts.rate_unit is None:
      raise errors.InputError(key.text(), "work and rate_unit", "none")
    about = {"work": facts.work, "rate_unit": facts.rate_unit}
    return about | _add_interval("rate", [facts.work / s for s in seconds])
  found = _add_interval("images_per_s", [key.batch / s for s in seconds])
  per_device = found["images_per_s"] / key.devices
  found["images_per_s_per_device"] = per_device
  if facts.flops_per_image is not None:
    found["flops_per_image"] = facts.flops_per_image
    found["flops_share_of_peak"] = {
      name: per_device * facts.flops_per_image / peak
      for name, peak in facts.peak_flops.items()
    }
  if facts.bytes_accessed is not None:
    found["bytes_accessed"] = facts.bytes_accessed
    if facts.bandwidth:
      rate = facts.bytes_accessed * found["images_per_s"] / key.batch
      found["bandwidth_share"] = rate / facts.bandwidth
  return found


def _add_interval(name: str, values: Sequence[float]) -> dict:
  found = {name: statistics.median(values)}
  bounds = medians.interval(values)
  if bounds is not None:
    found |= {
      f"{name}_low": bounds.low,
      f"{name}_high": bounds.high,
      "interval_method": medians.ORDER_STATISTICS,
      "interval_coverage": bounds.coverage,
    }
  return found


def _summarize_runs(processes: Sequence[rows.Process]) -> dict:
  """Returns the mean over runs with its t interval; {} if a run fell short."""
  seconds = [process.seconds_to_target for process in processes]
  if not seconds or None in seconds:
    return {}
  found = {"seconds_to_target": statistics.fmean(seconds)}
  bounds = medians.mean_interval(seconds)
  # With few, very different runs the bound may be 0 or below.
  if bounds is not None and bounds.low > 0:
    found |= {
      "seconds_to_target_low": bounds.low,
      "seconds_to_target_high": bounds.high,
      "interval_method": medians.STUDENT,
      "interval_coverage": bounds.coverage,
    }
  return found


def _median(values: Sequence[float]) -> float | None:
  return statistics.median(values) if values else None
